"""Configuration payloads: inner addresses, DNS, subnets (RFC 7296 sections 2.19 and 3.15)."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.domain.endpoint import IpAddress
from gateway.ike import inner_address
from gateway.ike.assigned import Assigned
from gateway.ike.codec import Configuration, ConfigurationAttribute
from gateway.ike.core import Core
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import CfgAttribute, CfgType, NotifyType
from gateway.ike.v2.sa import IkeSa

MAX_SERVERS = 16
"""DNS servers, domains and subnets that we take from a reply, of each kind."""
_ADDRESSES = {4: CfgAttribute.INTERNAL_IP4_ADDRESS, 6: CfgAttribute.INTERNAL_IP6_ADDRESS}


def _wanted(request: Configuration, version: int) -> IpAddress | None:
    """The address the peer asks for; one of a wrong length or 0.0.0.0 asks for any."""
    for attribute in request.attributes:
        if attribute.type != _ADDRESSES[version]:
            continue
        value = attribute.value
        if version == 4 and len(value) == 4 and any(value):
            return IPv4Address(value)
        if version == 6 and len(value) == 17 and any(value[:16]):
            return IPv6Address(value[:16])
    return None


def answer(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, request: Configuration | None
) -> Configuration | None:
    """Lease an inner address and make the CFG_REPLY; None when the peer asked for nothing.

    Called only after the peer's AUTH was verified.

    Raises:
        Refused: INTERNAL_ADDRESS_FAILURE or FAILED_CP_REQUIRED.
    """
    asked = request is not None and request.type == CfgType.REQUEST
    if not asked or request is None:
        if connection.gives_addresses and sa.home_address is None:
            raise Refused(
                NotifyType.FAILED_CP_REQUIRED,
                f"the peer asked for no inner address, connection {connection.name} gives one"
                f" from pool {connection.pool}",
                "set the client to request a virtual address",
            )
        return None
    types = {attribute.type for attribute in request.attributes}
    attributes: list[ConfigurationAttribute] = []
    if types & set(_ADDRESSES.values()) and sa.home_address is None:
        families = {version for version, kind in _ADDRESSES.items() if kind in types}
        wanted = [one for one in (_wanted(request, 4), _wanted(request, 6)) if one is not None]
        for address in inner_address.assign(core, sa, connection, families, wanted):
            value = address.packed + (b"\x80" if address.version == 6 else b"")
            attributes.append(ConfigurationAttribute(_ADDRESSES[address.version], value))
    attributes += _servers(connection, types)
    return Configuration(CfgType.REPLY, tuple(attributes))


def _servers(connection: ConnectionPolicy, types: set[int]) -> list[ConfigurationAttribute]:
    attributes: list[ConfigurationAttribute] = []
    for server in connection.dns:
        kind = (
            CfgAttribute.INTERNAL_IP4_DNS
            if server.version == 4
            else (CfgAttribute.INTERNAL_IP6_DNS)
        )
        if kind in types:
            attributes.append(ConfigurationAttribute(kind, server.packed))
    for subnet in connection.subnets:
        if isinstance(subnet, IPv4Network):
            if CfgAttribute.INTERNAL_IP4_SUBNET in types:
                value = subnet.network_address.packed + subnet.netmask.packed
                attributes.append(ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_SUBNET, value))
        elif CfgAttribute.INTERNAL_IP6_SUBNET in types:
            value = subnet.network_address.packed + bytes([subnet.prefixlen])
            attributes.append(ConfigurationAttribute(CfgAttribute.INTERNAL_IP6_SUBNET, value))
    if CfgAttribute.INTERNAL_DNS_DOMAIN in types:
        attributes += [
            ConfigurationAttribute(CfgAttribute.INTERNAL_DNS_DOMAIN, domain.encode())
            for domain in connection.dns_domains
        ]
    return attributes


def request(again: IpAddress | None = None, *, address: bool = True) -> Configuration:
    """What we ask for as an initiator; ``again`` is the inner address that we have already.

    Without ``address`` we need none, but want to know the servers and networks.
    """
    kinds = (
        CfgAttribute.INTERNAL_IP4_DNS,
        CfgAttribute.INTERNAL_IP4_SUBNET,
        CfgAttribute.INTERNAL_DNS_DOMAIN,
    )
    attributes = [ConfigurationAttribute(kind, b"") for kind in kinds]
    if address:
        value = again.packed if again is not None and again.version == 4 else b""
        attributes.insert(0, ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_ADDRESS, value))
    return Configuration(CfgType.REQUEST, tuple(attributes))


def read_reply(reply: Configuration | None) -> Assigned:
    """Read a CFG_REPLY; None and anything else than a reply assign nothing."""
    address: IpAddress | None = None
    dns: list[IpAddress] = []
    subnets: list[IPv4Network | IPv6Network] = []
    domains: list[str] = []
    attributes = reply.attributes if reply is not None and reply.type == CfgType.REPLY else ()
    for attribute in attributes:
        kind, value = attribute.type, attribute.value
        if kind == CfgAttribute.INTERNAL_IP4_ADDRESS and len(value) == 4 and address is None:
            address = IPv4Address(value)
        elif kind == CfgAttribute.INTERNAL_IP4_DNS and len(value) == 4:
            dns.append(IPv4Address(value))
        elif kind == CfgAttribute.INTERNAL_IP4_SUBNET and len(value) == 8:
            subnet = _subnet(value)
            if subnet is not None:
                subnets.append(subnet)
        elif kind == CfgAttribute.INTERNAL_DNS_DOMAIN and 0 < len(value) <= 253:
            domains.append(value.decode("ascii", "backslashreplace"))
    return Assigned(
        address,
        tuple(dns[:MAX_SERVERS]),
        tuple(subnets[:MAX_SERVERS]),
        tuple(domains[:MAX_SERVERS]),
    )


def _subnet(value: bytes) -> IPv4Network | None:
    try:
        return IPv4Network((value[:4], str(IPv4Address(value[4:]))), strict=False)
    except ValueError:
        return None

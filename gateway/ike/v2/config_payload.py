"""Configuration payloads: inner addresses, DNS, subnets (RFC 7296 sections 2.19 and 3.15)."""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.domain.child_sa import EspSuite
from gateway.domain.endpoint import IpAddress
from gateway.domain.overhead import tunnel_mtu
from gateway.ike import inner_address
from gateway.ike.assigned import Assigned
from gateway.ike.codec import Configuration, ConfigurationAttribute
from gateway.ike.core import Core
from gateway.ike.policy import ConnectionPolicy, Feature
from gateway.ike.refusal import Refused
from gateway.ike.registry import CfgAttribute, CfgType, NotifyType
from gateway.ike.v2.sa import IkeSa

MAX_SERVERS = 16
"""DNS servers, domains and subnets that we take from a reply, of each kind."""
MAX_NAME_OCTETS = 253
MIN_MTU = 576
_ASKED = (
    CfgAttribute.INTERNAL_IP4_DNS,
    CfgAttribute.INTERNAL_IP6_DNS,
    CfgAttribute.INTERNAL_IP4_SUBNET,
    CfgAttribute.INTERNAL_IP6_SUBNET,
    CfgAttribute.INTERNAL_DNS_DOMAIN,
)
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
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    request: Configuration | None,
    suite: EspSuite | None = None,
) -> Configuration | None:
    """Lease inner addresses and make the CFG_REPLY; None when the peer asked for nothing.

    Called only after the peer's AUTH was verified. ``suite`` is that of the first child SA.

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
        if 4 in families and _is_mobile(sa, connection):
            families = {4}
        wanted = [one for one in (_wanted(request, 4), _wanted(request, 6)) if one is not None]
        for address in inner_address.assign(core, sa, connection, families, wanted):
            kind = _ADDRESSES[address.version]
            attributes.append(ConfigurationAttribute(kind, _packed(address)))
    attributes += _servers(connection, types)
    split = connection.subnets and CfgAttribute.INTERNAL_IP6_SUBNET in types
    if split and any(one.leads_nowhere for one in sa.leases):
        attributes.append(ConfigurationAttribute(CfgAttribute.INTERNAL_IP6_SUBNET, bytes(17)))
    if CfgAttribute.TUNNEL_MTU in types and suite is not None and connection.tunnel_mtu:
        outer = sa.path.remote
        fits = tunnel_mtu(suite, outer.address, udp=sa.encapsulate, tcp=outer.stands_for_tcp)
        value = min(connection.tunnel_mtu, fits).to_bytes(2, "big")
        attributes.append(ConfigurationAttribute(CfgAttribute.TUNNEL_MTU, value))
    return Configuration(CfgType.REPLY, tuple(attributes))


def _is_mobile(sa: IkeSa, connection: ConnectionPolicy) -> bool:
    """Whether the device may get a foreign agent in the tunnel: Mobile IPv4 has one address."""
    return sa.peer_knows_vpn_fa and connection.vpn_fa is not Feature.OFF


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


def request(
    sa: IkeSa, connection: ConnectionPolicy, again: Collection[IpAddress] = ()
) -> Configuration:
    """What we ask for as an initiator; ``again`` are the inner addresses that we have already.

    Where our home address is our side we need none, but want to know the servers and networks.
    """
    attributes: list[ConfigurationAttribute] = []
    if connection.asks_inner_address(sa.peer_knows_vpn_fa):
        for version in (4,) if _is_mobile(sa, connection) else (4, 6):
            had = next((one for one in again if one.version == version), None)
            value = b"" if had is None else _packed(had)
            attributes.append(ConfigurationAttribute(_ADDRESSES[version], value))
    attributes += [ConfigurationAttribute(kind) for kind in _ASKED]
    if sa.peer_knows_endpoint_update:
        # One of ours, or of another who knows the drafts.
        attributes.append(ConfigurationAttribute(CfgAttribute.TUNNEL_MTU))
    return Configuration(CfgType.REQUEST, tuple(attributes))


def _packed(address: IpAddress) -> bytes:
    return address.packed + (b"\x80" if address.version == 6 else b"")


def read_reply(reply: Configuration | None) -> Assigned:
    """Read a CFG_REPLY; None and anything else than a reply assign nothing."""
    attributes = reply.attributes if reply is not None and reply.type == CfgType.REPLY else ()
    found: dict[int, list[bytes]] = {}
    for attribute in attributes:
        values = found.setdefault(attribute.type, [])
        if attribute.value and len(values) < MAX_SERVERS:
            values.append(attribute.value)

    def every(kind: CfgAttribute) -> list[bytes]:
        return found.get(kind, [])

    first = [IPv4Address(one) for one in every(CfgAttribute.INTERNAL_IP4_ADDRESS)]
    second = [IPv6Address(one[:16]) for one in every(CfgAttribute.INTERNAL_IP6_ADDRESS)]
    servers: list[IpAddress] = [IPv4Address(one) for one in every(CfgAttribute.INTERNAL_IP4_DNS)]
    servers += [IPv6Address(one) for one in every(CfgAttribute.INTERNAL_IP6_DNS)]
    subnets = [_subnet4(one) for one in every(CfgAttribute.INTERNAL_IP4_SUBNET)]
    subnets6 = [_subnet6(one) for one in every(CfgAttribute.INTERNAL_IP6_SUBNET)]
    names = [one for one in every(CfgAttribute.INTERNAL_DNS_DOMAIN) if len(one) <= MAX_NAME_OCTETS]
    mtu = [int.from_bytes(one, "big") for one in every(CfgAttribute.TUNNEL_MTU)]
    return Assigned(
        first[0] if first else None,
        tuple(servers),
        tuple(one for one in (*subnets, *subnets6) if one is not None),
        tuple(one.decode("ascii", "backslashreplace") for one in names),
        second[0] if second else None,
        next((one for one in mtu if one >= MIN_MTU), None),
    )


def _subnet4(value: bytes) -> IPv4Network | None:
    try:
        return IPv4Network((value[:4], str(IPv4Address(value[4:]))), strict=False)
    except ValueError:
        return None


def _subnet6(value: bytes) -> IPv6Network | None:
    try:
        return IPv6Network((value[:16], value[16]), strict=False)
    except ValueError:
        return None

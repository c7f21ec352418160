"""Mode configuration: inner address, DNS, networks; pulled or pushed, both roles.

draft-ietf-ipsec-isakmp-mode-cfg-05, with the attributes of Cisco's Unity where the client knows
them. Only the gateway gives and only the device takes; each message is taken in its own step.
"""

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.domain.endpoint import IpAddress
from gateway.ike import closing, inner_address
from gateway.ike.assigned import Assigned
from gateway.ike.core import Core
from gateway.ike.policy import ConfigMode, ConnectionPolicy
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import NotifyType as Reason
from gateway.ike.v1 import exchange, setup, transaction
from gateway.ike.v1.codec import Attribute, Configuration
from gateway.ike.v1.codec.registry import CfgAttribute, CfgType
from gateway.ike.v1.sa import IkeSa, State

STEP = "mode configuration"
MAX_ITEMS = 16
"""DNS servers, domains and networks that we take from a gateway, of each kind."""
_ADDRESSES = {4: CfgAttribute.INTERNAL_IP4_ADDRESS, 6: CfgAttribute.INTERNAL_IP6_ADDRESS}
_HOST_MASK = b"\xff\xff\xff\xff"
_SPLIT_OCTETS = 14
"""Of a network in UNITY_SPLIT_INCLUDE: address, mask, protocol and two ports, all unused here."""
_ASKED_OF_ADDRESSES = (
    CfgAttribute.INTERNAL_IP4_ADDRESS,
    CfgAttribute.INTERNAL_IP4_NETMASK,
    CfgAttribute.INTERNAL_IP6_ADDRESS,
)
_ASKED = (
    CfgAttribute.INTERNAL_IP4_DNS,
    CfgAttribute.INTERNAL_IP4_SUBNET,
    CfgAttribute.INTERNAL_IP6_DNS,
    CfgAttribute.INTERNAL_IP6_SUBNET,
)
_ASKED_OF_UNITY = (
    CfgAttribute.UNITY_SPLIT_INCLUDE,
    CfgAttribute.UNITY_SPLITDNS_NAME,
    CfgAttribute.UNITY_DEF_DOMAIN,
)


# -- the gateway ----------------------------------------------------------------------------


def asked(
    core: Core, sa: IkeSa, arrival: exchange.Arrival, request: Configuration, now: float
) -> None:
    """The device asks for a configuration."""
    connection = sa.connection
    if sa.session_initiator or sa.state is not State.ESTABLISHED or connection is None:
        core.count("transactions_out_of_state")
        return
    types = {one.type for one in request.attributes}
    given: list[Attribute] = []
    refused: Refused | None = None
    if types & set(_ADDRESSES.values()):
        families = {version for version, kind in _ADDRESSES.items() if kind in types}
        try:
            addresses = inner_address.assign(core, sa, connection, families, _wanted(request))
        except Refused as no_address:
            refused = no_address
        else:
            given += _of_addresses(addresses)
    given += _of_policy(sa, connection, types)
    transaction.answer(core, sa, arrival, request, given, now)
    if refused is not None:
        core.count("configurations_refused")
        report_refusal(
            core,
            refused,
            sa.peer_name,
            sa.path.remote,
            STEP,
            connection=connection.name,
            now=now,
            sa=sa,
        )


def _wanted(request: Configuration) -> list[IpAddress]:
    """The addresses the peer asks for; one of zeros asks for any."""
    found: list[IpAddress] = []
    for one in request.attributes:
        value = one.octets
        if one.type == _ADDRESSES[4] and len(value) == 4 and any(value):
            found.append(IPv4Address(value))
        if one.type == _ADDRESSES[6] and len(value) >= 16 and any(value[:16]):
            found.append(IPv6Address(value[:16]))
    return found


def _of_addresses(addresses: Iterable[IpAddress]) -> list[Attribute]:
    found = []
    for address in addresses:
        found.append(Attribute(_ADDRESSES[address.version], address.packed))
        if address.version == 4:
            found.append(Attribute(CfgAttribute.INTERNAL_IP4_NETMASK, _HOST_MASK))
    return found


def _of_policy(
    sa: IkeSa, connection: ConnectionPolicy, types: Collection[int] | None
) -> list[Attribute]:
    """DNS servers and networks, as far as they are asked for; ``types`` is None when we push."""

    def is_asked(kind: int) -> bool:
        return types is None or kind in types

    found: list[Attribute] = []
    for server in connection.dns:
        kind = (
            CfgAttribute.INTERNAL_IP4_DNS if server.version == 4 else CfgAttribute.INTERNAL_IP6_DNS
        )
        if is_asked(kind):
            found.append(Attribute(kind, server.packed))
    networks = [one for one in connection.subnets if isinstance(one, IPv4Network)]
    if types is not None:
        found += [one for one in map(_of_network, connection.subnets) if is_asked(one.type)]
    if sa.peer.unity:
        found += [one for one in _of_unity(connection, networks) if is_asked(one.type)]
    return found


def _of_unity(connection: ConnectionPolicy, networks: list[IPv4Network]) -> list[Attribute]:
    found: list[Attribute] = []
    if networks:
        filler = bytes(_SPLIT_OCTETS - 8)
        value = b"".join(_with_mask(one) + filler for one in networks)
        found.append(Attribute(CfgAttribute.UNITY_SPLIT_INCLUDE, value))
    domains = [domain.encode() for domain in connection.dns_domains]
    if domains:
        found.append(Attribute(CfgAttribute.UNITY_DEF_DOMAIN, domains[0]))
        if networks:
            found.append(Attribute(CfgAttribute.UNITY_SPLITDNS_NAME, b",".join(domains)))
    return found


def _of_network(network: IPv4Network | IPv6Network) -> Attribute:
    if isinstance(network, IPv4Network):
        return Attribute(CfgAttribute.INTERNAL_IP4_SUBNET, _with_mask(network))
    value = network.network_address.packed + bytes([network.prefixlen])
    return Attribute(CfgAttribute.INTERNAL_IP6_SUBNET, value)


def _with_mask(network: IPv4Network) -> bytes:
    return network.network_address.packed + network.netmask.packed


def push(core: Core, sa: IkeSa, now: float) -> None:
    """Give the device its configuration without being asked."""
    connection = sa.connection
    if connection is None:
        return
    try:
        addresses = inner_address.assign(core, sa, connection, (4, 6))
    except Refused as refused:
        core.count("configurations_refused")
        report_refusal(
            core,
            refused,
            sa.peer_name,
            sa.path.remote,
            STEP,
            connection=connection.name,
            now=now,
            sa=sa,
        )
        core.version_of(sa).delete_ike_sa(core, sa, refused.reason, now)
        return
    given = _of_addresses(addresses) + _of_policy(sa, connection, None)
    Push(exchange.new_message_id(core, sa), initiator=True, now=now).start(
        core, sa, CfgType.SET, given, now
    )


class Push(transaction.Ask):
    """We set the device's configuration."""

    __slots__ = ()
    name = STEP
    in_record = "push"
    asks = CfgType.SET

    def take_answer(self, core: Core, sa: IkeSa, answer: Configuration, now: float) -> None:
        """It has it; quick mode is its turn."""

    def unanswered(self, core: Core, sa: IkeSa, now: float) -> None:
        """A device that pulls instead has its address already."""
        if not sa.children:
            report_refusal(
                core,
                Refused(
                    Reason.FAILED_CP_REQUIRED,
                    "the device does not take the configuration that we push",
                    'set config_mode of the connection to "pull"',
                ),
                sa.peer_name,
                sa.path.remote,
                STEP,
                connection=sa.connection_name,
                sa=sa,
            )
            closing.close(core, sa, f"peer does not answer ({self.name})", now)


# -- the device -----------------------------------------------------------------------------


def request(core: Core, sa: IkeSa, now: float) -> None:
    """Ask the gateway for a configuration."""
    connection = sa.connection
    types: tuple[CfgAttribute, ...] = _ASKED
    if sa.peer.unity:
        types = (*_ASKED, *_ASKED_OF_UNITY)
    # Where an address of our own serves, we want to know the servers and networks alone.
    if connection is not None and connection.asks_inner_address(sa.peer_knows_vpn_fa):
        types = (*_ASKED_OF_ADDRESSES, *types)
    Pull(exchange.new_message_id(core, sa), initiator=True, now=now).start(
        core, sa, CfgType.REQUEST, [Attribute(kind) for kind in types], now
    )


class Pull(transaction.Ask):
    """We ask for a configuration."""

    __slots__ = ()
    name = STEP
    in_record = "pull"
    asks = CfgType.REQUEST

    def take_answer(self, core: Core, sa: IkeSa, answer: Configuration, now: float) -> None:
        """Take it and go on to quick mode."""
        if sa.state is State.ESTABLISHED and sa.assigned is None:
            _take(core, sa, answer, now)


def pushed(
    core: Core, sa: IkeSa, arrival: exchange.Arrival, told: Configuration, now: float
) -> None:
    """The gateway sets our configuration: taken once, and only where we expect it."""
    connection = sa.connection
    if (
        connection is None
        or sa.state is not State.ESTABLISHED
        or not sa.session_initiator
        or not connection.request_inner_address
        or connection.v1_config_mode is not ConfigMode.PUSH
        or sa.leases
    ):
        core.count("transactions_out_of_state")
        return
    accepted = [Attribute(kind) for kind in dict.fromkeys(one.type for one in told.attributes)]
    if transaction.answer(core, sa, arrival, told, accepted, now):
        _take(core, sa, told, now)


def _take(core: Core, sa: IkeSa, given: Configuration, now: float) -> None:
    assigned = read(given)
    connection = sa.connection
    needed = connection is not None and connection.asks_inner_address(sa.peer_knows_vpn_fa)
    if needed and not assigned.leases:
        refused = Refused(
            Reason.INTERNAL_ADDRESS_FAILURE,
            "the gateway assigned no inner address",
            "see the gateway's log for its reason",
        )
        report_refusal(
            core, refused, sa.peer_name, sa.path.remote, STEP, connection=sa.connection_name, sa=sa
        )
        core.version_of(sa).delete_ike_sa(core, sa, refused.reason, now)
        return
    if needed:
        sa.leases = assigned.leases
    sa.assigned = assigned
    setup.start_quick_modes(core, sa, now)


def read(given: Configuration) -> Assigned:
    """What a reply or set assigns."""
    address: IPv4Address | None = None
    address6: IPv6Address | None = None
    dns: list[IpAddress] = []
    subnets: list[IPv4Network | IPv6Network] = []
    domains: list[str] = []
    for one in given.attributes:
        value = one.octets
        if one.type == CfgAttribute.INTERNAL_IP4_ADDRESS and len(value) == 4 and any(value):
            address = address or IPv4Address(value)
        elif one.type == CfgAttribute.INTERNAL_IP6_ADDRESS and len(value) >= 16 and any(value[:16]):
            # Some say the length of its prefix, too.
            address6 = address6 or IPv6Address(value[:16])
        elif one.type == CfgAttribute.INTERNAL_IP6_DNS and len(value) == 16:
            dns.append(IPv6Address(value))
        elif one.type == CfgAttribute.INTERNAL_IP6_SUBNET and len(value) == 17:
            subnets += _network6(value)
        elif one.type == CfgAttribute.INTERNAL_IP4_DNS and len(value) == 4:
            dns.append(IPv4Address(value))
        elif one.type == CfgAttribute.INTERNAL_IP4_SUBNET and len(value) == 8:
            subnets += _network(value)
        elif one.type == CfgAttribute.UNITY_SPLIT_INCLUDE:
            for at in range(0, len(value) - _SPLIT_OCTETS + 1, _SPLIT_OCTETS):
                subnets += _network(value[at : at + 8])
        elif one.type == CfgAttribute.UNITY_SPLITDNS_NAME:
            domains += value.decode("ascii", "backslashreplace").split(",")[:MAX_ITEMS]
        elif one.type == CfgAttribute.UNITY_DEF_DOMAIN:
            domains.append(value.decode("ascii", "backslashreplace"))
    usable = dict.fromkeys(name for name in domains if 0 < len(name) <= 253)
    return Assigned(
        address,
        tuple(dns[:MAX_ITEMS]),
        tuple(dict.fromkeys(subnets))[:MAX_ITEMS],
        tuple(usable)[:MAX_ITEMS],
        address6,
    )


def _network(value: bytes) -> list[IPv4Network | IPv6Network]:
    try:
        return [IPv4Network((value[:4], str(IPv4Address(value[4:8]))), strict=False)]
    except ValueError:
        return []


def _network6(value: bytes) -> list[IPv4Network | IPv6Network]:
    return [IPv6Network((value[:16], value[16]), strict=False)] if value[16] <= 128 else []

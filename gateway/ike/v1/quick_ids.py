"""ID payloads of quick mode as traffic selectors (RFC 2407 section 4.6.2, RFC 2409 section 5.5).

IKEv1 does not narrow: what the initiator names is what the child SA gets, or it gets none.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.domain.child_sa import ANY_IPV4, Mode, TrafficSelector
from gateway.domain.endpoint import IpAddress
from gateway.ike import child_sas, selectors, transport_mode
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.v1.codec import Identification
from gateway.ike.v1.codec.registry import IdType
from gateway.ike.v1.sa import IkeSa

ALL_PORTS = (0, 65535)
_SINGLE = {4: IdType.IPV4_ADDR, 6: IdType.IPV6_ADDR}
_SUBNET = {4: IdType.IPV4_ADDR_SUBNET, 6: IdType.IPV6_ADDR_SUBNET}
_RANGE = {4: IdType.IPV4_ADDR_RANGE, 6: IdType.IPV6_ADDR_RANGE}


def to_selector(id_payload: Identification) -> TrafficSelector:
    """What an ID payload selects.

    Raises:
        Refused: it names no addresses, or its mask or range makes no sense.
    """
    first, last = _addresses(id_payload)
    ports = (id_payload.port, id_payload.port) if id_payload.port else ALL_PORTS
    return TrafficSelector(first, last, id_payload.protocol, *ports)


def _addresses(id_payload: Identification) -> tuple[IpAddress, IpAddress]:
    kind, data = id_payload.id_type, id_payload.data
    cls: type[IPv4Address | IPv6Address]
    cls = IPv4Address if kind in (_SINGLE[4], _SUBNET[4], _RANGE[4]) else IPv6Address
    if kind in _SINGLE.values():
        return cls(data), cls(data)
    half = len(data) // 2
    if kind in _RANGE.values():
        first, last = cls(data[:half]), cls(data[half:])
        if int(first) > int(last):
            raise _odd(f"a range from {first} to {last}")
        return first, last
    if kind in _SUBNET.values():
        mask = int.from_bytes(data[half:], "big")
        bits = half * 8
        host = mask ^ ((1 << bits) - 1)
        if host & (host + 1):
            raise _odd(f"the mask {data[half:].hex()}")
        start = int.from_bytes(data[:half], "big") & mask
        return cls(start), cls(start | host)
    raise _odd(f"an identity of type {kind} where addresses are needed")


def _odd(what: str) -> Refused:
    return Refused(
        NotifyType.TS_UNACCEPTABLE,
        f"the peer's selectors have {what}",
        "use an address, a subnet or a range of addresses in the client's policy",
    )


def from_selector(selector: TrafficSelector) -> Identification:
    """The ID payload of a selector.

    Raises:
        Refused: it has a range of ports, which IKEv1 cannot say.
    """
    ports = (selector.start_port, selector.end_port)
    if ports != ALL_PORTS and ports[0] != ports[1]:
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            f"IKEv1 cannot negotiate the port range of {selector}",
            "name one port or all of them, or use IKEv2",
        )
    port = 0 if ports == ALL_PORTS else ports[0]
    start, end, version = selector.start, selector.end, selector.start.version
    networks = selector.networks()
    if start == end:
        return Identification(_SINGLE[version], start.packed, selector.protocol, port)
    if len(networks) == 1:
        mask = networks[0].netmask.packed
        return Identification(_SUBNET[version], start.packed + mask, selector.protocol, port)
    return Identification(_RANGE[version], start.packed + end.packed, selector.protocol, port)


def proposed(
    sa: IkeSa, theirs: Identification | None, ours: Identification | None
) -> tuple[TrafficSelector, TrafficSelector]:
    """(local, remote) selectors that the peer's quick mode names; without IDs the hosts alone.

    Raises:
        Refused: they are no addresses, or of two IP versions.
    """
    path = sa.path
    local = to_selector(ours) if ours else TrafficSelector.of_address(path.local.address)
    remote = to_selector(theirs) if theirs else TrafficSelector.of_address(path.remote.address)
    if local.start.version != remote.start.version:
        raise _odd("addresses of two IP versions")
    return local, remote


def allow(
    sa: IkeSa, connection: ConnectionPolicy, local: TrafficSelector, remote: TrafficSelector
) -> None:
    """Let the selectors of a peer's quick mode pass, if policy covers all of them.

    Raises:
        Refused: TS_UNACCEPTABLE, with theirs and ours.
    """
    given = sa.leases or sa.home_address is not None
    if not sa.session_initiator and not given and connection.gives_addresses:
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            f"the peer asked for no inner address, connection {connection.name} gives one from"
            f" pool {connection.pool}",
            "set the client to request a virtual address (mode configuration)",
        )
    ours, theirs = child_sas.allowed_selectors(sa, connection)
    mine = installed(sa, connection, local)
    if selectors.covers_all(ours, mine) and selectors.covers_all(theirs, [remote]):
        return
    remedy = f"IKEv1 does not narrow: let both sides name the same, here in {connection.name}"
    if not sa.session_initiator and sa.leases:
        if not selectors.covers_all(theirs, [remote]):
            own = " or ".join(map(str, sa.inner_addresses))
            remedy = f"let the client name its inner address {own} as its side"
        else:
            remedy = (
                "let the client name one of our networks, or allow more in local_ts of"
                f" {connection.name}"
            )
    raise Refused(
        NotifyType.TS_UNACCEPTABLE,
        "the traffic selectors are not those that policy allows",
        remedy,
        theirs=f"{selectors.text(remote)} === {selectors.text(local)}",
        ours=f"{selectors.describe(theirs)} === {selectors.describe(ours)}",
    )


def installed(
    sa: IkeSa, connection: ConnectionPolicy, local: TrafficSelector
) -> tuple[TrafficSelector, ...]:
    """Our side of a child SA for which ``local`` was named.

    Clients with Unity name everything and narrow it by themselves to UNITY_SPLIT_INCLUDE. What
    they name is answered as it came, as they expect; the child SA has what policy allows.
    """
    if local == ANY_IPV4 and sa.peer.unity and sa.leases and not sa.session_initiator:
        ours, _ = child_sas.allowed_selectors(sa, connection)
        allowed = tuple(one for one in ours if one.start.version == 4)
        if allowed and not selectors.covers_all(allowed, [local]):
            return allowed
    return (local,)


def pairs(
    sa: IkeSa,
    connection: ConnectionPolicy,
    subnets: tuple[IPv4Network | IPv6Network, ...] = (),
) -> list[tuple[TrafficSelector, TrafficSelector]]:
    """(local, remote) selectors of the quick modes that we begin: IKEv1 has one pair in each.

    ``subnets`` are what the gateway told us to send through the tunnel; they count where our own
    configuration names nothing.
    """
    if connection.mode is Mode.TRANSPORT:
        return [transport_mode.hosts(sa)]
    local, remote = child_sas.allowed_selectors(sa, connection)
    if subnets and not connection.remote_ts and connection.request_inner_address:
        remote = tuple(TrafficSelector.of_network(subnet) for subnet in subnets)
    found = [
        (mine, theirs)
        for mine in local
        for theirs in remote
        if mine.start.version == theirs.start.version
    ]
    return found[: child_sas.MAX_CHILDREN]

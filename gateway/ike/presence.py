"""Devices that keep their own addresses in the tunnel (draft 000, appendix A)."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.child_sa import ANY_IPV4, ANY_IPV6, TrafficSelector
from gateway.domain.endpoint import IpAddress
from gateway.domain.remote_access import Presence
from gateway.ike import access, selectors, users
from gateway.ike.child_sas import Agreed
from gateway.ike.core import Core, TimerKind
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.sa import Child, ChildState, IkeSa

STAYS_S = 2.0
"""A device that moves on within this time is not asked for its address in between."""
_IN_USE = frozenset({ChildState.INSTALLED, ChildState.REKEYING})


def settle(
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    device: Sequence[object],
    replacing: Child | None = None,
) -> None:
    """As the gateway, before selectors are narrowed: the addresses that a device keeps, its zone.

    ``device`` are the selectors that it names for its side; only single addresses can be its own.
    Where it names a range, its address is the one that its packets come from, if no NAT is in
    between. An address that it has a child SA with stays, unless that is the one that is being
    replaced: clients that moved name the address that they have now. A device that leased one
    keeps none of that IP version. Does nothing where presence is by address.

    Raises:
        Refused: TS_UNACCEPTABLE; it names no address that can be its own.
    """
    if sa.session_initiator or connection.presence is not Presence.NAPT:
        return
    offered = [one for one in device if isinstance(one, TrafficSelector)]
    kept = tuple(
        address
        for version in (4, 6)
        if (address := _own(core, sa, connection, offered, version, replacing)) is not None
    )
    if not kept and not sa.leases:
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            "the peer names no single address of its own as its side",
            "let the client name the address of its network interface as its traffic selector, or"
            f" set pool in connections.{connection.name}",
            theirs=" ".join(map(str, offered[:4])) or "nothing",
            ours=" ".join(map(str, connection.remote_ts[:4])) or "any single address",
        )
    if kept != sa.own_addresses:
        sa.own_addresses = kept
        core.touch(sa)
    if not sa.zone:
        _take_zone(core, sa)


def _own(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    connection: ConnectionPolicy,
    offered: Sequence[TrafficSelector],
    version: int,
    replacing: Child | None,
) -> IpAddress | None:
    if any(one.version == version for one in sa.inner_addresses):
        return None
    known = next((one for one in sa.own_addresses if one.version == version), None)
    if known is not None and any(
        known == selector.start
        for child in sa.children.values()
        if child is not replacing and child.state in _IN_USE
        for selector in child.remote_ts
    ):
        return known
    singles = [one.start for one in offered if one.start == one.end]
    seen = sa.path.remote.address
    if not sa.remote_natted and any(_contains(one, seen) for one in offered):
        singles.append(seen)
    if known in singles:
        return known
    for address in singles:
        if address.version == version and _usable(core, sa, connection, address):
            return address
    return known


def wanted(sa: IkeSa, connection: ConnectionPolicy, child: Child) -> tuple[TrafficSelector, ...]:
    """The device's side when we replace a child SA: it knows which address it has by now."""
    if not sa.own_addresses or sa.session_initiator:
        return child.remote_ts
    versions = {one.version for one in sa.own_addresses}
    allowed = connection.remote_ts or (ANY_IPV4, ANY_IPV6)
    return tuple(one for one in allowed if one.start.version in versions)


def take(
    core: Core, sa: IkeSa, connection: ConnectionPolicy, agreed: Agreed, replacing: Child | None
) -> Agreed:
    """As the gateway that began the exchange: what the device answered, as far as it is its own.

    Raises:
        Refused: TS_UNACCEPTABLE; it is not.
    """
    if not sa.own_addresses or sa.session_initiator:
        return agreed
    settle(core, sa, connection, agreed.remote_ts, replacing)
    own = tuple(map(TrafficSelector.of_address, sa.own_addresses))
    remote_ts = selectors.narrow(agreed.remote_ts, own)
    if not remote_ts:
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            "the peer answered with another address than its own",
            theirs=selectors.describe(agreed.remote_ts),
            ours=selectors.describe(own),
        )
    return replace(agreed, remote_ts=remote_ts)


def moved(core: Core, sa: IkeSa, now: float) -> None:
    """The device is elsewhere: most likely it has another address of its own there.

    Its child SA is replaced as soon as it stays, and it tells which.
    """
    if not sa.own_addresses or sa.session_initiator or sa.version == 1:
        return
    for child in sa.children.values():
        if child.state is ChildState.INSTALLED:
            core.timers.set((TimerKind.REKEY_CHILD, child.spi_in), now + STAYS_S)


def _contains(selector: TrafficSelector, address: IpAddress) -> bool:
    return selector.intersect(TrafficSelector.of_address(address)) is not None


def _usable(core: Core, sa: IkeSa, connection: ConnectionPolicy, address: IpAddress) -> bool:
    odd = (
        address.is_unspecified
        or address.is_multicast
        or address.is_loopback
        or address.is_link_local
        or address == sa.path.local.address
        or address in core.own_addresses
        or address.is_reserved
    )
    if odd:
        return False
    allowed = connection.remote_ts
    return not allowed or any(_contains(one, address) for one in allowed)


def _take_zone(core: Core, sa: IkeSa) -> None:
    """A new one, or that of the same device's login before, so that its connections live on."""
    for older in core.of_peer(sa):
        if (
            older is not sa
            and older.zone
            and not older.leases
            and older.own_addresses == sa.own_addresses
            and older.path.remote == sa.path.remote
            and not older.session_initiator
            and users.of_same_login(older, sa)
        ):
            access.pass_on(core, older, sa)
            return
    try:
        sa.zone = core.zones.take()
    except access.ZonesExhausted:
        core.count("zones_exhausted")
        raise Refused(
            NotifyType.NO_ADDITIONAL_SAS,
            "65535 devices are there by NAPT, more cannot be told apart",
            f"give devices of {sa.connection_name} inner addresses, from a pool",
        ) from None
    core.touch(sa)

"""Child SAs of either version: allowed selectors, and installation in the dataplane."""

from dataclasses import dataclass

from gateway.domain.child_sa import (
    ANY_IPV4,
    ANY_IPV6,
    ChildSa,
    EspKeys,
    EspSuite,
    Mode,
    TrafficSelector,
)
from gateway.ike import access, client, selectors, transport_mode
from gateway.ike.core import Core, TimerKind
from gateway.ike.outputs import InstallChildSa, Severity
from gateway.ike.policy import ConnectionPolicy, Feature
from gateway.ike.registry import DhGroup
from gateway.ike.sa import Child, IkeSa

MAX_CHILDREN = 16
"""Child SAs of one IKE SA, those being rekeyed included."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both sides agreed on for a child SA."""

    spi_in: int
    spi_out: int
    suite: EspSuite
    group: DhGroup | None
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    endpoint_update: bool = False
    vpn_fa: bool = False
    mode: Mode = Mode.TUNNEL


def reqid_after(old: Child | None, agreed: Agreed) -> int | None:
    """That of the child SA that is replaced; None, for a fresh one, if there is none.

    Or if the device has another address now: with the reqid goes the kernel's policy.
    """
    if old is None or (old.zone and old.remote_ts != agreed.remote_ts):
        return None
    return old.reqid


def allowed_selectors(
    sa: IkeSa, connection: ConnectionPolicy
) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
    """(local, remote) selectors that the policy allows on this SA."""
    if connection.mode is Mode.TRANSPORT:
        host, peer = transport_mode.hosts(sa)
        return (host,), (peer,)
    home = connection.asked_home_address(sa.peer_knows_vpn_fa) if sa.session_initiator else None
    if home is not None:
        return (TrafficSelector.of_address(home),), connection.remote_ts or (ANY_IPV4,)
    if connection.request_inner_address:
        mine: tuple[TrafficSelector, ...] = (
            tuple(map(TrafficSelector.of_address, sa.inner_addresses))
            if sa.leases
            else (ANY_IPV4, ANY_IPV6)
        )
        return mine, connection.remote_ts or (ANY_IPV4, ANY_IPV6)
    own = [*sa.inner_addresses, *sa.own_addresses]
    if sa.home_address is not None:
        own.append(sa.home_address)
    if own:
        ours = connection.local_ts
        if any(one.leads_nowhere for one in sa.leases):
            ours = (*(one for one in ours if one.start.version == 4), ANY_IPV6)
        return ours, tuple(map(TrafficSelector.of_address, own))
    if sa.session_initiator:
        mine = connection.local_ts or (TrafficSelector.of_address(sa.path.local.address),)
        return mine, connection.remote_ts or (ANY_IPV4, ANY_IPV6)
    return connection.local_ts, connection.remote_ts


def plain_follows(sa: IkeSa, connection: ConnectionPolicy) -> bool:
    """Whether a peer is followed that did not negotiate SA endpoint update.

    One behind a NAT is (RFC 7296 section 2.23), any other where policy says so.
    """
    if connection.endpoint_update is Feature.OFF:
        return False
    return connection.follow_plain_peers or sa.remote_natted


def follows(sa: IkeSa, connection: ConnectionPolicy, child: Child) -> bool:
    """Whether authenticated packets of this child SA from elsewhere move the peer."""
    if connection.endpoint_update is Feature.OFF:
        return False
    return child.endpoint_update or plain_follows(sa, connection)


def install(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    agreed: Agreed,
    keys_in: EspKeys,
    keys_out: EspKeys,
    now: float,
    *,
    reqid: int | None = None,
    outbound: bool = True,
) -> Child:
    """Hand a child SA to the dataplane and start its timers."""
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    life = connection.lifetimes
    child = Child(
        agreed.spi_in,
        agreed.spi_out,
        reqid if reqid is not None else core.take_reqid(connection.name),
        agreed.suite,
        agreed.group,
        agreed.local_ts,
        agreed.remote_ts,
        sa.encapsulate,
        now,
    )
    child.endpoint_update = agreed.endpoint_update
    child.vpn_fa = agreed.vpn_fa
    child.mode = agreed.mode
    child.zone = sa.zone
    child.outbound_active = outbound
    core.add_child(sa, child)
    core.timers.cancel((TimerKind.CHILDLESS, sa.local_spi))
    early = life.child_rekey_s * (1 - life.jitter * core.fraction())
    core.timers.set((TimerKind.REKEY_CHILD, child.spi_in), now + early)
    end = now + life.child_rekey_s + life.child_over_s
    core.timers.set((TimerKind.EXPIRE_CHILD, child.spi_in), end)
    access.grant(core, sa)
    made = described(sa, child, keys_in, keys_out)
    core.outputs.append(InstallChildSa(made, outbound, sa.session_id, sa.peer_name))
    core.count("child_sas_installed")
    summary = f"{selectors.describe(child.local_ts)} === {selectors.describe(child.remote_ts)}"
    core.emit(
        "child_sa_installed",
        f"child SA {child.spi_in:08x}/{child.spi_out:08x} of {sa.peer_name}: {summary},"
        f" {child.suite}",
        Severity.DEBUG,
        peer=sa.peer_name,
        session=sa.session_id,
        spis=sa.spis,
        connection=connection.name,
        spi_in=f"{child.spi_in:08x}",
        spi_out=f"{child.spi_out:08x}",
        reqid=child.reqid,
        suite=str(child.suite),
        endpoint_update=child.endpoint_update,
        vpn_fa=child.vpn_fa,
    )
    client.tell(core, sa)
    return child


_KERNELS = EspKeys(b"")
"""The keys of a child SA that only the kernel has."""


def described(
    sa: IkeSa, child: Child, keys_in: EspKeys = _KERNELS, keys_out: EspKeys = _KERNELS
) -> ChildSa:
    """A child SA as the dataplane is told of it. Raises ValueError without a connection."""
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    life = connection.lifetimes
    return ChildSa(
        spi_in=child.spi_in,
        spi_out=child.spi_out,
        reqid=child.reqid,
        suite=child.suite,
        keys_in=keys_in,
        keys_out=keys_out,
        local=sa.path.local,
        remote=sa.path.remote,
        udp_encapsulation=child.udp_encapsulation,
        local_ts=child.local_ts,
        remote_ts=child.remote_ts,
        mode=child.mode,
        zone=child.zone,
        replay_window=connection.replay_window,
        follow_endpoint=follows(sa, connection, child) and not sa.local_natted,
        soft_bytes=life.child_soft_bytes,
        hard_bytes=life.child_hard_bytes,
        soft_packets=life.child_soft_packets,
        hard_packets=life.child_hard_packets,
        vpn_fa=child.vpn_fa and not sa.session_initiator,
    )

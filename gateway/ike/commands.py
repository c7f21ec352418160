"""What the administrator and the dataplane ask of the engine."""

from collections.abc import Mapping, Sequence

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.pools import AddressPool
from gateway.domain.user_auth import Answer
from gateway.ike import access, client, moving, users
from gateway.ike.core import Core, TimerKind
from gateway.ike.lease import Lease
from gateway.ike.outputs import Severity
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.sa import IkeSa


def initiate_connection(core: Core, name: str, now: float) -> None:
    """Bring a connection up and keep it up. Raises KeyError for an unknown name.

    An attempt that is under way is dropped: it may hang, as when our address changed meanwhile.
    """
    attempt = client.current(core, name)
    if attempt is not None and core.clients[name].up is None:
        client.forget(core, name)
        core.version_of(attempt).end_now(core, attempt, "begun anew", now)
    bring_up(core, name, now)


def bring_up(core: Core, name: str, now: float) -> None:
    """Begin to bring a connection up, unless it is or that is under way."""
    connection = core.connections[name]
    if client.stands(core, name):
        core.wanted.setdefault(name, 0)
        return
    core.wanted[name] = 0
    core.timers.cancel((TimerKind.INITIATE, name))
    core.versions[connection.version].initiate(core, connection, now)


def traffic_waiting(core: Core, reqid: int, now: float) -> None:
    """Traffic waits at the trap policy of a connection: bring up what is missing."""
    for name, reserved in core.trap_reqids.items():
        if reserved != reqid or name not in core.connections:
            continue
        for sa in core.sas.values():
            if sa.connection_name == name and sa.established:
                if not sa.children:
                    core.version_of(sa).create_child(core, sa, reqid, now)
                return
        bring_up(core, name, now)
        return
    core.count("traffic_without_connection")


def child_expired(core: Core, spi_in: int, hard: bool, now: float) -> None:
    """A byte or packet limit: soft means rekey, hard means that the dataplane dropped it."""
    sa = core.children.get(spi_in)
    child = sa.children.get(spi_in) if sa is not None else None
    if sa is None or child is None:
        core.count("events_of_unknown_child")
        return
    if hard:
        core.version_of(sa).delete_child(core, sa, child, "its traffic limit is reached", now)
    else:
        core.version_of(sa).rekey_child(core, sa, child, now)


def child_refused(core: Core, spi_in: int, reason: str, now: float) -> None:
    """The dataplane could not install it: both sides forget it."""
    sa = core.children.get(spi_in)
    child = sa.children.get(spi_in) if sa is not None else None
    if sa is None or child is None:
        core.count("events_of_unknown_child")
        return
    core.count("child_sas_refused_by_dataplane")
    core.emit(
        "child_sa_refused",
        f"child SA {spi_in:08x} of {sa.peer_name} ({sa.connection_name}) could not be installed:"
        f" {reason}",
        Severity.WARNING,
        peer=sa.peer_name,
        session=sa.session_id,
        spis=sa.spis,
        connection=sa.connection_name,
        spi_in=f"{spi_in:08x}",
        reason=reason,
    )
    core.version_of(sa).delete_child(core, sa, child, f"not installed: {reason}", now)


def endpoint_seen(core: Core, spi_in: int, remote: Endpoint, proof: str, now: float) -> None:
    """An authentic, new ESP packet of a child SA came from another address."""
    sa = core.children.get(spi_in)
    child = sa.children.get(spi_in) if sa is not None else None
    if sa is None or child is None:
        core.count("events_of_unknown_child")
        return
    sa.last_inbound = now
    if not child.udp_encapsulation:
        # Native ESP has no ports; those of IKE are the last ones known.
        remote = Endpoint(remote.address, sa.path.remote.port)
    moving.follow(core, sa, remote, proof, now)


def user_answered(core: Core, ticket: int, answer: Answer, now: float) -> None:
    """Somebody knows about a user: go on with its handshake, if that still waits."""
    sa = core.answered(ticket)
    if sa is None:
        core.count("answers_too_late")
        return
    core.version_of(sa).user_answered(core, sa, answer, now)


def ocsp_answered(core: Core, ticket: int, response: bytes | None, now: float) -> None:
    """The OCSP responder answered, or did not in time."""
    sa = core.answered(ticket)
    if sa is None:
        core.count("answers_too_late")
        return
    core.version_of(sa).ocsp_answered(core, sa, response, now)


def local_address_changed(
    core: Core, ike_spi: bytes, local: Endpoint, now: float, *, mobike: bool
) -> None:
    """Our own address changed: say so by MOBIKE, else let the SAs' own packets say it."""
    sa = client.of_spi(core, ike_spi)
    if sa is None:
        core.count("events_of_unknown_ike_sa")
        return
    if not (mobike and sa.mobike) and move_local(core, ike_spi, local, now):
        return
    core.version_of(sa).local_address_changed(core, sa, local, now)


def move_local(core: Core, ike_spi: bytes, local: Endpoint, now: float) -> bool:
    """Our own end moved, and the SAs' own packets are to say so (draft 001, appendix C)."""
    sa = client.of_spi(core, ike_spi)
    if sa is None or not sa.established:
        core.count("events_of_unknown_ike_sa")
        return False
    if not any(child.endpoint_update for child in sa.children.values()):
        return False
    moving.move_ourselves(core, sa, local, now)
    core.version_of(sa).prove_path(core, sa, now)
    return True


def abandon(core: Core, name: str, reason: str, now: float) -> None:
    """Stop trying to bring a connection up, and end what there is of it. Nothing is reported."""
    core.wanted.pop(name, None)
    core.timers.cancel((TimerKind.INITIATE, name))
    client.forget(core, name)
    for sa in list(core.sas.values()):
        if sa.connection_name == name and sa.session_initiator and not sa.closed:
            core.version_of(sa).end_now(core, sa, reason, now)


def close_ike_sa(core: Core, spis: str, reason: str, now: float) -> bool:
    """End one IKE SA by its name; False when there is none of that name."""
    for sa in core.sas.values():
        if sa.spis == spis and not sa.closed:
            if sa.connection is not None and sa.session_initiator:
                core.wanted.pop(sa.connection.name, None)
            core.version_of(sa).delete_ike_sa(core, sa, reason, now)
            if sa.session_initiator:
                _stop_logins(core, sa.connection_name, reason, now)
            return True
    return False


def _stop_logins(core: Core, name: str, reason: str, now: float) -> None:
    """A login that was to renew what is closed now must not bring it back."""
    for sa in list(core.sas.values()):
        ended = sa.established or sa.had_session or sa.closed
        if sa.connection_name == name and sa.session_initiator and not ended and not sa.replaced:
            core.version_of(sa).delete_ike_sa(core, sa, reason, now)


def rekey(core: Core, spis: str, children: bool, now: float) -> bool:
    """Renew an IKE SA, or its child SAs, now; False when there is none established of that name."""
    for sa in core.sas.values():
        if sa.spis != spis or not sa.established:
            continue
        core.touch(sa)
        if not children:
            core.timers.cancel((TimerKind.REKEY_IKE, sa.local_spi))
            core.version_of(sa).fire(core, TimerKind.REKEY_IKE, sa, now)
        for child in list(sa.children.values()) if children else ():
            core.version_of(sa).rekey_child(core, sa, child, now)
        return True
    return False


def close_all(core: Core, reason: str, now: float) -> None:
    """End every IKE SA and stop trying."""
    for name in core.wanted:
        core.timers.cancel((TimerKind.INITIATE, name))
    core.wanted.clear()
    core.clients.clear()
    for sa in list(core.sas.values()):
        core.version_of(sa).end_now(core, sa, reason, now)


def reconfigure(
    core: Core,
    connections: Sequence[ConnectionPolicy],
    pools: Mapping[str, AddressPool] | None,
    now: float,
) -> None:
    """Use other connections; established SAs stay unless theirs is gone or another one now."""
    fresh = {connection.name: connection for connection in connections}
    core.connections = fresh
    if pools is not None:
        _use_pools(core, pools)
    core.forget_choices()
    for name in [name for name in core.wanted if name not in fresh]:
        del core.wanted[name]
        core.timers.cancel((TimerKind.INITIATE, name))
    for sa in list(core.sas.values()):
        if sa.connection is None or sa.closed:
            continue
        lost_pool = next((one.pool for one in sa.leases if _is_lost(one, core.pools)), None)
        if lost_pool is not None:
            # What the pool leases no more does not go back to it.
            sa.leases = tuple(one for one in sa.leases if not _is_lost(one, core.pools))
            if sa.granted is not None:
                access.grant(core, sa)
        connection = still_due(sa, fresh.get(sa.connection.name))
        anothers = _anothers(sa, core.pools)
        if connection is None:
            reason = f"connection {sa.connection.name} or its profile was removed or changed"
            core.version_of(sa).delete_ike_sa(core, sa, reason, now)
        elif not compatible(sa, connection):
            reason = f"connection {connection.name} was changed"
            core.version_of(sa).delete_ike_sa(core, sa, reason, now)
        elif anothers is not None:
            reason = f"the inner address {anothers} is somebody else's static one now"
            core.version_of(sa).delete_ike_sa(core, sa, reason, now)
        elif lost_pool is not None:
            core.version_of(sa).delete_ike_sa(core, sa, f"pool {lost_pool} was changed", now)
        else:
            sa.connection = connection


def ended_by(
    core: Core, connections: Sequence[ConnectionPolicy], pools: Mapping[str, AddressPool]
) -> list[IkeSa]:
    """The SAs that :func:`reconfigure` with the same arguments would end. Changes nothing."""
    fresh = {connection.name: connection for connection in connections}
    found = []
    for sa in core.sas.values():
        if sa.connection is None or sa.closed:
            continue
        connection = still_due(sa, fresh.get(sa.connection.name))
        lost = any(_is_lost(one, pools) for one in sa.leases) or _anothers(sa, pools) is not None
        if connection is None or not compatible(sa, connection) or lost:
            found.append(sa)
    return found


def _anothers(sa: IkeSa, pools: Mapping[str, AddressPool]) -> IpAddress | None:
    """An inner address that is somebody else's static one in these pools."""
    for one in sa.leases:
        pool = pools.get(one.pool) if one.pool is not None else None
        if pool is not None and pool.is_anothers(one.address, *access.lease_names(sa)):
            return one.address
    return None


def _is_lost(lease: Lease, pools: Mapping[str, AddressPool]) -> bool:
    """Whether its pool is gone, or has other addresses now."""
    if lease.pool is None:
        return False
    pool = pools.get(lease.pool)
    return pool is None or not pool.fits(lease.address)


def _use_pools(core: Core, pools: Mapping[str, AddressPool]) -> None:
    """Take over the pools; leases go on wherever the pool still has the address."""
    used = dict(pools)
    for name, pool in pools.items():
        old = core.pools.get(name)
        if old is None:
            continue
        if old.same_addresses(pool):
            old.adopt(pool)
            used[name] = old
        else:
            pool.take_over(old)
    core.pools = used


def still_due(sa: IkeSa, connection: ConnectionPolicy | None) -> ConnectionPolicy | None:
    """The connection as the SA's user is to have it now; None if that is another profile."""
    if sa.user is not None and connection is not None:
        profile = users.profile_of(connection, sa.user.groups)
        if (profile.name if profile is not None else "") != sa.profile:
            return None
        if profile is None and connection.profile_required:
            return None
    return profiled(connection, sa.profile)


def profiled(connection: ConnectionPolicy | None, name: str) -> ConnectionPolicy | None:
    """The connection as the profile of this name has it; None when either is gone."""
    if connection is None or not name:
        return connection
    for profile in connection.profiles:
        if profile.name == name:
            return connection.with_profile(profile)
    return None


def compatible(sa: IkeSa, new: ConnectionPolicy) -> bool:
    """Whether an SA that was made under its connection may live on under ``new``.

    Our own credential does not count: a renewed certificate must not end sessions.
    """
    old = sa.connection
    if old is None:
        return True
    if sa.peer_id is not None and not new.remote_id.matches(sa.peer_id):
        return False
    return (
        old.version,
        old.local_id,
        old.peer_auth,
        old.local_ts,
        old.remote_ts,
        old.pool,
        old.pool6,
        old.presence,
        old.mode,
        old.remote,
        old.force_encapsulation,
    ) == (
        new.version,
        new.local_id,
        new.peer_auth,
        new.local_ts,
        new.remote_ts,
        new.pool,
        new.pool6,
        new.presence,
        new.mode,
        new.remote,
        new.force_encapsulation,
    )

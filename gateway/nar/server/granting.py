"""Leases begin and end here, and nowhere else: tables, dataplane, records and audit stay as one."""

from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import Delivery, NarMapping, NarTuple
from gateway.nar.codec.leases import LeaseKey, NoticeMessage
from gateway.nar.codec.numbers import Notice, Reply
from gateway.nar.outputs import (
    Forget,
    FreePort,
    HoldPort,
    LeaseClosed,
    LeaseOpened,
    Remember,
    RemoveL2tp,
    RemoveMapping,
    SetL2tp,
    SetMapping,
)
from gateway.nar.server.authorization import Refused, rule_of
from gateway.nar.server.connections import Connection
from gateway.nar.server.core import Core
from gateway.nar.server.leases import Lease
from gateway.nar.server.records import lease_key, session_key, write_lease, write_session
from gateway.nar.server.sessions import MAX_MISSED, Host, Owner, Session, inside_port


def owner_of(connection: Connection) -> Owner:
    """Who is at the other end. Raises Refused before the login."""
    if connection.owner is None:
        raise Refused(Reply.NOT_ALLOWED, "asked for something before the login")
    return connection.owner


def open_session(core: Core, connection: Connection) -> Session:
    """The connection's session, a new one if it has none."""
    session = connection.session
    if session is not None:
        return session
    number = 0
    while not number or number in core.sessions.by_number:
        number = int.from_bytes(core.random(8), "big")
    session = Session(
        number,
        owner_of(connection),
        connection.address,
        rule=rule_of(connection.rule),
        groups=connection.groups,
        since_wall_s=core.wall_s,
    )
    attach(core, session, connection)
    core.sessions.add(session)
    return session


def attach(core: Core, session: Session, connection: Connection) -> None:
    """From now on the session is this connection's."""
    session.connection = connection
    session.client_port = connection.client.port
    connection.session = session
    rule = rule_of(connection.rule)
    if session.until != connection.until or session.rule is not rule:
        session.until, session.rule = connection.until, rule
        for lease in session.leases.values():
            limit(core, lease)


def limit(core: Core, lease: Lease) -> None:
    """Set the time when a lease ends, renewed or not: that of its rule, or of the login."""
    session = lease.session
    longest_s, until = session.rule.max_lease_s, session.until
    ends = [] if until is None else [until]
    if longest_s is not None:
        # A clock that was set back makes no lease longer.
        opened = min(core.now, lease.opened_wall_s - core.wall_offset)
        ends.append(opened + longest_s)
    if ends:
        core.timers.set(lease, max(core.now, min(ends)))
    else:
        core.timers.cancel(lease)


def check_room(core: Core, connection: Connection) -> None:
    """Raise Refused when the client, or the server, has as many leases as may be."""
    rule, owner = rule_of(connection.rule), owner_of(connection)
    if connection.until is not None and core.now >= connection.until:
        raise Refused(Reply.NOT_ALLOWED, "asked for one more lease: the time of its login is over")
    if owner.leases >= rule.max_leases:
        raise Refused(
            Reply.NOT_ALLOWED,
            f"asked for one more lease: it has {owner.leases}, as many as rule {rule.name} allows",
        )
    if core.leases >= core.policy.max_leases:
        raise Refused(
            Reply.GENERAL_FAILURE,
            f"asked for one more lease: the server has {core.leases}, its max_leases",
        )


def grant(
    core: Core, connection: Connection, mapping: NarMapping, *, beyond_ranges: bool = False
) -> Lease:
    """Open a lease that nothing is in the way of; ``beyond_ranges``: its port has to be held."""
    session = open_session(core, connection)
    if not session.leases:
        _use_l2tp(core, session, mapping)
        remember(core, session)
    elif _use_l2tp(core, session, mapping):
        remember(core, session)
    session.last_number += 1
    lease = Lease(session, session.last_number, mapping, core.wall_s)
    lease.held = beyond_ranges
    enter(core, lease)
    outputs, key = core.outputs, mapping.tuple
    if beyond_ranges:
        outputs.append(HoldPort(key))
    outputs.append(SetMapping(mapping))
    remember_lease(core, lease)
    owner = session.owner
    outputs.append(
        LeaseOpened(core.policy.name, owner.user, connection.client, mapping, lease.opened_wall_s)
    )
    if session.token_digest:
        core.timers.set(session, core.now + core.policy.lease_s)
    limit(core, lease)
    return lease


def enter(core: Core, lease: Lease) -> None:
    """Put a lease into all tables."""
    session, mapping = lease.session, lease.mapping
    session.leases[lease.number] = lease
    session.owner.leases += 1
    core.leases += 1
    core.space(mapping.tuple.address).add(lease)
    inside = inside_port(mapping)
    if inside is not None:
        session.owner.host.inside[inside] = lease


def _leave(core: Core, lease: Lease) -> None:
    session, mapping = lease.session, lease.mapping
    session.owner.forget(lease)
    del session.leases[lease.number]
    session.owner.leases -= 1
    core.leases -= 1
    space = core.spaces.get(mapping.tuple.address)
    if space is not None:
        space.remove(lease, core.now)
    leave_inside(session.owner.host, lease)
    core.timers.cancel(lease)


def leave_inside(host: Host, lease: Lease) -> None:
    """Its packets from inside are not known any more."""
    inside = inside_port(lease.mapping)
    if inside is not None and host.inside.get(inside) is lease:
        del host.inside[inside]


def end_lease(core: Core, lease: Lease, reason: str, *, tell: bool = True) -> None:
    """End a lease; ``tell``: the client is told now, or when it comes back."""
    session, mapping = lease.session, lease.mapping
    _leave(core, lease)
    outputs, name = core.outputs, core.policy.name
    outputs.append(RemoveMapping(mapping.tuple))
    if lease.held:
        outputs.append(FreePort(mapping.tuple))
    outputs.append(Forget(lease_key(name, session.number, lease.number)))
    client = Endpoint(mapping.client, session.client_port)
    outputs.append(LeaseClosed(name, session.owner.user, client, mapping, core.wall_s, reason))
    if tell:
        _tell_ended(core, session, mapping.tuple)
    if not session.leases:
        outputs.append(Forget(session_key(name, session.number)))
        core.timers.cancel(session)
        if session.connection is None:
            drop_session(core, session)
        else:
            core.timers.set(session.connection, core.now + core.policy.idle_s)


def _tell_ended(core: Core, session: Session, key: NarTuple) -> None:
    connection = session.connection
    if connection is None:
        if session.token_digest and len(session.missed) < MAX_MISSED:
            session.missed.append(key)
    elif connection.knows_leases:
        core.send(connection, ended_notice(key))


def ended_notice(key: NarTuple) -> bytes:
    """NOTICE that this tuple is no longer the client's."""
    return NoticeMessage(Notice.LEASE_ENDED, key.address, LeaseKey.of(key)).to_octets()


def end_session(core: Core, session: Session, reason: str, *, tell: bool = True) -> int:
    """End all its leases, and itself when it is lost; how many leases that were."""
    leases = list(session.leases.values())
    for lease in leases:
        end_lease(core, lease, reason, tell=tell)
    if session.connection is None and session.number in core.sessions.by_number:
        drop_session(core, session)
    return len(leases)


def drop_session(core: Core, session: Session) -> None:
    """Forget a session without leases."""
    core.timers.cancel(session)
    core.sessions.remove(session)
    if session.connection is not None:
        session.connection.session = None
    closed = core.l2tp.release(session.owner.client, session.number)
    if closed is not None:
        core.outputs.append(RemoveL2tp(closed))


def lose(core: Core, session: Session) -> None:
    """Its connection is gone: it has the grace period, or is over when it has no leases."""
    session.connection = None
    if session.leases:
        await_return(core, session)
    else:
        drop_session(core, session)


def leave(core: Core, connection: Connection) -> None:
    """Close a connection; its leases go on for the grace period."""
    session, connection.session = connection.session, None
    core.close(connection)
    if session is not None:
        lose(core, session)


def await_return(core: Core, session: Session) -> None:
    """A session without connection has the grace period."""
    core.timers.set(session, core.now + core.policy.grace_s)
    if not session.token_digest:
        for lease in session.leases.values():
            session.owner.lose(lease)


def take_over(core: Core, lease: Lease, connection: Connection, mapping: NarMapping) -> Lease:
    """A lease goes on for a connection of its owner, perhaps with another delivery."""
    old, new = lease.session, open_session(core, connection)
    changed = _use_l2tp(core, new, mapping)
    if old is not new:
        old.owner.forget(lease)
        first = not new.leases
        del old.leases[lease.number]
        core.outputs.append(Forget(lease_key(core.policy.name, old.number, lease.number)))
        new.last_number += 1
        lease.session, lease.number = new, new.last_number
        new.leases[lease.number] = lease
        limit(core, lease)
        if first or changed:
            remember(core, new)
        if not old.leases:
            core.outputs.append(Forget(session_key(core.policy.name, old.number)))
            drop_session(core, old)
    elif changed:
        remember(core, new)
    if mapping != lease.mapping:
        host = new.owner.host
        leave_inside(host, lease)
        lease.mapping = mapping
        inside = inside_port(mapping)
        if inside is not None:
            host.inside[inside] = lease
        core.outputs.append(SetMapping(mapping))
    remember_lease(core, lease)
    if new.token_digest:
        core.timers.set(new, core.now + core.policy.lease_s)
    return lease


def _use_l2tp(core: Core, session: Session, mapping: NarMapping) -> bool:
    """See that the session exists that delivers; whether that changed the NAR session."""
    return mapping.delivery is Delivery.L2TP and use_l2tp(core, session)


def use_l2tp(core: Core, session: Session) -> bool:
    """Give the session its client's L2TP session; whether it had none."""
    if session.l2tp is not None:
        return False
    session.l2tp, new = core.l2tp.acquire(session.owner.client, session.number)
    if new:
        core.outputs.append(SetL2tp(session.l2tp))
    return True


def remember(core: Core, session: Session) -> None:
    """Write the session down, as it is now."""
    name = core.policy.name
    key = session_key(name, session.number)
    core.outputs.append(Remember(key, write_session(name, session)))


def remember_lease(core: Core, lease: Lease) -> None:
    """Write the lease down."""
    key = lease_key(core.policy.name, lease.session.number, lease.number)
    core.outputs.append(Remember(key, write_lease(lease)))

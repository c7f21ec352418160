"""Sessions of an earlier process: read, verified, and kept for their clients to come back."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Severity
from gateway.domain.nar import Delivery
from gateway.domain.wire import WireError
from gateway.nar.outputs import Forget, HoldPort, LeaseClosed, RemoveMapping, SetL2tp, SetMapping
from gateway.nar.server.authorization import find_rule
from gateway.nar.server.core import Core
from gateway.nar.server.granting import await_return, drop_session, enter, limit
from gateway.nar.server.leases import Lease
from gateway.nar.server.moving import move
from gateway.nar.server.records import (
    LeaseRecord,
    SessionRecord,
    lease_key,
    read,
    session_key,
)
from gateway.nar.server.sessions import Session
from gateway.nar.server.verifying import inside_taken, why_not


def restore(core: Core, records: Sequence[bytes]) -> None:
    """Take over what may still be leased; the rest is forgotten, with its reason in the audit.

    Records of other servers are left alone; broken ones are counted.
    """
    sessions: dict[int, SessionRecord] = {}
    leases: list[LeaseRecord] = []
    broken = 0
    for octets in records:
        try:
            record = read(octets)
        except WireError:
            broken += 1
            continue
        if isinstance(record, LeaseRecord):
            leases.append(record)
        elif record.server == core.policy.name:
            sessions[record.number] = record
    stale = _stale(core, sessions.values())
    addresses = core.policy.addresses
    core.use(replace(core.policy, addresses=(*addresses, *stale)))
    restored = {number: _session(core, record) for number, record in sessions.items()}
    leases.sort(key=lambda one: (one.opened_wall_s, one.session, one.number))
    dropped = 0
    for one in leases:
        if one.session in sessions:
            why = _lease(core, sessions[one.session], restored[one.session], one)
            if why:
                dropped += 1
                _give_up(core, sessions[one.session], one, why)
    _finish(core, restored)
    for old in stale:
        move(core, old, addresses[0])
    if sessions or broken:
        _report(core, dropped, broken)


def _stale(core: Core, sessions: Iterable[SessionRecord]) -> list[IPv4Address]:
    """Addresses that changed while nobody ran; only where it is clear which one they are now."""
    addresses = core.policy.addresses
    if len(addresses) != 1:
        return []
    return sorted({one.address for one in sessions} - set(addresses))


def _session(core: Core, record: SessionRecord) -> Session | None:
    """The session, as long as a rule is for its client. Two with one token cannot be."""
    policy = core.policy
    rule = find_rule(policy, record.user, record.groups, record.client)
    if rule is None or not record.number or record.number in core.sessions.by_number:
        return None
    if core.sessions.knows(record.token_digest):
        return None
    owner = core.sessions.owner(record.user, record.client)
    session = Session(
        record.number,
        owner,
        record.address,
        rule=rule,
        groups=record.groups,
        since_wall_s=record.since_wall_s,
    )
    session.client_port = record.client_port
    session.token_digest = record.token_digest
    core.sessions.add(session)
    owner.host.address = owner.host.address or record.address
    if record.l2tp is not None:
        known = core.l2tp.get(record.client)
        if core.l2tp.restore(record.l2tp, record.number):
            session.l2tp = record.l2tp
            if known is None:
                core.outputs.append(SetL2tp(record.l2tp))
    return session


def _lease(core: Core, record: SessionRecord, session: Session | None, one: LeaseRecord) -> str:
    """Enter a lease; why not, when it cannot be."""
    if session is None:
        return "no rule fits its client any more"
    mapping = one.mapping(record)
    if mapping.delivery is Delivery.L2TP and session.l2tp is None:
        return "the L2TP session that delivers it is lost"
    space = core.space(session.address)
    if one.tuple.address != session.address:
        return "it is at another address than its session"
    why = why_not(
        core, space, mapping, one.tuple, owner=session.owner, rule=session.rule, ask_box=False
    ) or _full(core, session, one)
    if not why and inside_taken(session.owner, mapping):
        why = "its client uses that port for another lease"
    if why:
        return why
    # One object for each address, however many leases have it.
    key = replace(one.tuple, address=space.address)
    mapping = replace(mapping, tuple=key, client=session.owner.client)
    lease = Lease(session, one.number, mapping, one.opened_wall_s)
    lease.held = key.protocol.has_ports and not space.values(key.protocol).covers(key.value)
    enter(core, lease)
    session.last_number = max(session.last_number, one.number)
    if lease.held:
        core.outputs.append(HoldPort(key))
    core.outputs.append(SetMapping(mapping))
    limit(core, lease)
    return ""


def _full(core: Core, session: Session, one: LeaseRecord) -> str:
    if one.number in session.leases or not one.number:
        return "its session has that number twice"
    if session.owner.leases >= session.rule.max_leases:
        return f"its client has as many leases as rule {session.rule.name} allows"
    if core.leases >= core.policy.max_leases:
        return "the server has its max_leases"
    return ""


def _give_up(core: Core, record: SessionRecord, one: LeaseRecord, why: str) -> None:
    name = core.policy.name
    mapping = one.mapping(record)
    client = Endpoint(record.client, record.client_port)
    core.outputs += (
        Forget(lease_key(name, one.session, one.number)),
        LeaseClosed(name, record.user, client, mapping, core.wall_s, f"after a restart: {why}"),
    )
    if core.find(one.tuple) is None:
        # The kernel may still have it, of the process before.
        core.outputs.append(RemoveMapping(one.tuple))


def _finish(core: Core, restored: dict[int, Session | None]) -> None:
    for number, session in restored.items():
        if session is None or not session.leases:
            core.outputs.append(Forget(session_key(core.policy.name, number)))
            if session is not None:
                drop_session(core, session)
        else:
            await_return(core, session)


def _report(core: Core, dropped: int, broken: int) -> None:
    sessions = len(core.sessions)
    text = (
        f"NAR server {core.policy.name} has {core.leases} leases of {sessions} sessions from"
        f" before the restart"
    )
    if dropped or broken:
        text += f"; {dropped} could not be kept, {broken} records were unreadable"
    core.tell(
        "nar_restored",
        text,
        Severity.WARNING if dropped or broken else Severity.INFO,
        sessions=sessions,
        leases=core.leases,
        dropped=dropped,
        unreadable=broken,
    )

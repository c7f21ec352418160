"""What changes under leases: our address, or what the policy allows."""

from dataclasses import replace
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import NarTuple
from gateway.nar.codec.leases import NoticeMessage
from gateway.nar.codec.numbers import Notice
from gateway.nar.outputs import (
    FreePort,
    HoldPort,
    LeaseClosed,
    LeaseOpened,
    RemoveMapping,
    SetMapping,
)
from gateway.nar.policy import NarRule, NarServerPolicy
from gateway.nar.server.authorization import Refused, find_rule, permit_target
from gateway.nar.server.connections import Connection, State
from gateway.nar.server.core import Core
from gateway.nar.server.granting import (
    end_lease,
    end_session,
    leave,
    limit,
    remember,
    remember_lease,
)
from gateway.nar.server.leases import Lease
from gateway.nar.server.sessions import Session
from gateway.nar.server.space import AddressSpace
from gateway.nar.server.verifying import why_not


def move(core: Core, old: IPv4Address, new: IPv4Address) -> None:
    """Nb ``old`` is ``new`` now. Leases of clients that can be told go on with the same values."""
    if old == new:
        return
    kept = [one for one in core.policy.addresses if one not in (old, new)]
    at = min(core.policy.addresses.index(old) if old in core.policy.addresses else 0, len(kept))
    core.use(replace(core.policy, addresses=(*kept[:at], new, *kept[at:])))
    moved = ended = 0
    for host in core.sessions.hosts.values():
        if host.address == old:
            host.address = new
    for session in list(core.sessions):
        if session.address == old:
            before = len(session.leases)
            moved += _move_session(core, session, new)
            ended += before - len(session.leases)
    for connection in list(core.connections.by_number.values()):
        if connection.address == old and connection.state is State.NAR:
            _tell_connection(core, connection, new)
    space = core.spaces.get(old)
    if space is not None and not space.used:
        del core.spaces[old]
    core.tell(
        "nar_address_changed",
        f"the address {old} of NAR server {core.policy.name} is {new} now:"
        f" {moved} leases moved, {ended} ended",
        old=str(old),
        new=str(new),
        moved=moved,
        ended=ended,
    )


def _move_session(core: Core, session: Session, new: IPv4Address) -> int:
    """Move one session's leases, or end them; how many moved."""
    connection = session.connection
    told = bool(session.token_digest) if connection is None else connection.knows_leases
    if not told:
        reason = "the address changed, and the client does not know leases"
        if connection is not None:
            leave(core, connection)
        end_session(core, session, reason, tell=False)
        return 0
    moved = 0
    space = core.space(new)
    for lease in list(session.leases.values()):
        key = lease.mapping.tuple
        there = NarTuple(key.protocol, new, key.value, key.remote, key.remote_port)
        why = why_not(core, space, lease.mapping, there, owner=session.owner, rule=session.rule)
        if why:
            end_lease(core, lease, f"the address changed, and at {new} {why}")
        else:
            _move_lease(core, lease, space, there)
            moved += 1
    session.address = new
    if session.leases:
        session.moved = connection is None
        remember(core, session)
    return moved


def _move_lease(core: Core, lease: Lease, space: AddressSpace, there: NarTuple) -> None:
    session, before = lease.session, lease.mapping
    core.spaces[before.tuple.address].remove(lease, core.now)
    outputs, name, user = core.outputs, core.policy.name, session.owner.user
    client = Endpoint(before.client, session.client_port)
    outputs.append(RemoveMapping(before.tuple))
    reason = f"the address changed to {there.address}"
    outputs.append(LeaseClosed(name, user, client, before, core.wall_s, reason))
    if lease.held:
        outputs += (FreePort(before.tuple), HoldPort(there))
    lease.mapping = replace(before, tuple=there)
    space.add(lease)
    outputs.append(SetMapping(lease.mapping))
    outputs.append(LeaseOpened(name, user, client, lease.mapping, core.wall_s))
    remember_lease(core, lease)


def _tell_connection(core: Core, connection: Connection, new: IPv4Address) -> None:
    if not connection.knows_leases:
        leave(core, connection)
        return
    connection.address = new
    core.send(connection, NoticeMessage(Notice.ADDRESS_CHANGED, new).to_octets())


def reconfigure(core: Core, policy: NarServerPolicy) -> None:
    """Use another policy; what it does not allow ends."""
    core.use(policy)
    leases = [lease for session in core.sessions for lease in session.leases.values()]
    core.spaces = {}
    for session in list(core.sessions):
        rule = find_rule(policy, session.owner.user, session.groups, session.owner.client)
        if rule is not None:
            session.rule = rule
        elif session.connection is None and not session.leases:
            end_session(core, session, "no rule fits any more")
    for host in core.sessions.hosts.values():
        if host.address not in policy.addresses:
            host.address = None
    # Spaces are made anew, with the new ranges; what may stay is entered again.
    for lease in leases:
        _review(core, lease)
    for connection in list(core.connections.by_number.values()):
        _review_connection(core, connection)


def _review(core: Core, lease: Lease) -> None:
    session, mapping = lease.session, lease.mapping
    owner, policy = session.owner, core.policy
    rule = find_rule(policy, owner.user, session.groups, owner.client)
    why = "no rule fits any more"
    if rule is not None:
        space = core.space(mapping.tuple.address)
        why = why_not(core, space, mapping, mapping.tuple, owner=owner, rule=rule, ask_box=False)
        if not why:
            held = mapping.tuple.protocol.has_ports and not space.values(
                mapping.tuple.protocol
            ).covers(mapping.tuple.value)
            if held != lease.held:
                lease.held = held
                core.outputs.append((HoldPort if held else FreePort)(mapping.tuple))
                remember_lease(core, lease)
            space.add(lease)
            limit(core, lease)
            return
    end_lease(core, lease, f"the configuration changed: {why}")


def _review_connection(core: Core, connection: Connection) -> None:
    """A connection ends that would not come to where it is any more."""
    owner = connection.owner
    if owner is None:
        return
    policy = core.policy
    rule = find_rule(policy, owner.user, connection.groups, connection.client.address)
    connection.rule = rule
    if rule is None or not _may_go_on(core, connection, rule):
        leave(core, connection)


def _may_go_on(core: Core, connection: Connection, rule: NarRule) -> bool:
    """Whether it could still come to where it is: commands in NAR mode look at nothing of this."""
    if connection.state in (State.PROXYING, State.RELAYING):
        return rule.proxy
    if connection.state is not State.NAR:
        return True
    policy, delivery = core.policy, connection.delivery
    if connection.address not in policy.addresses:
        return False
    if delivery is not policy.impose and delivery not in rule.deliveries:
        return False
    if connection.target is not None:
        try:
            permit_target(rule, core.forbidden, connection.target, (connection.local.address,))
        except Refused:
            return False
    return True

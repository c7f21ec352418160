"""Which value a lease gets: the one wished for when it is free, else one by chance."""

from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.domain.nar import NarMapping, NarProtocol, NarTuple
from gateway.nar.codec.numbers import Reply
from gateway.nar.server.authorization import Refused
from gateway.nar.server.connections import Connection
from gateway.nar.server.core import Core
from gateway.nar.server.granting import check_room, grant, owner_of, take_over
from gateway.nar.server.leases import Lease
from gateway.nar.server.sessions import inside_port


def mapping_of(
    core: Core,
    connection: Connection,
    key: NarTuple,
    peer: IPv4Address | None,
    client_port: int = 0,
) -> NarMapping:
    """What the dataplane is told. The client's address is that of its connection."""
    return NarMapping(core.policy.name, key, connection.xa, connection.delivery, client_port, peer)


def with_value(key: NarTuple, value: int) -> NarTuple:
    """The same tuple with another value."""
    return NarTuple(key.protocol, key.address, value, key.remote, key.remote_port)


def is_mine(lease: Lease, connection: Connection) -> bool:
    """Whether asking for it again is to have it: it is this connection's, or was a lost one's.

    A lost session that has a token is taken up with it, and as a whole.
    """
    session = lease.session
    if session is connection.session:
        return True
    return (
        session.owner is connection.owner
        and session.connection is None
        and not session.token_digest
    )


def wished(core: Core, connection: Connection, mapping: NarMapping) -> Lease | str:
    """Lease exactly this tuple; why not, if it cannot be. Raises Refused when nothing can be."""
    key = mapping.tuple
    space, owner = core.space(key.address), owner_of(connection)
    present = space.find(key)
    if present is not None and is_mine(present, connection):
        why = _ambiguous(connection, mapping, present)
        return why or take_over(core, present, connection, mapping)
    check_room(core, connection)
    blocker = present or space.blocker(key, owner)
    if blocker is not None:
        return f"it is leased to {blocker.session.owner}"
    beyond_ranges = False
    if core.visiting(key):
        return "a mobile node of our foreign agent has it"
    if not key.protocol.is_tunnel:
        values = space.values(key.protocol)
        if values.rests(key.value, int(connection.xa), core.now):
            return "another client had it a moment ago"
        if not _free(core, connection, key)(key.value):
            return "the gateway, or another lease of this client, uses it"
        beyond_ranges = key.protocol.has_ports and not values.covers(key.value)
    return grant(core, connection, mapping, beyond_ranges=beyond_ranges)


def _ambiguous(connection: Connection, mapping: NarMapping, lease: Lease) -> str:
    """Whether the client uses the mapping's port for another translated lease already."""
    inside = inside_port(mapping)
    other = None if inside is None else owner_of(connection).host.inside.get(inside)
    return "" if other is None or other is lease else f"its port is in use as {other.mapping.tuple}"


def drawn(
    core: Core,
    connection: Connection,
    key: NarTuple,
    peer: IPv4Address | None,
    client_port: int = 0,
) -> Lease:
    """Lease this tuple with a value by chance. Raises Refused when there is none left.

    A client that lost its connection gets back what it had towards the same remote.
    """
    lost = owner_of(connection).find(key)
    if lost is not None:
        again = mapping_of(core, connection, lost.mapping.tuple, peer, client_port)
        if not _ambiguous(connection, again, lost):
            return take_over(core, lost, connection, again)
    check_room(core, connection)
    space = core.space(key.address)
    free = _free(core, connection, key)
    value = space.draw(key, owner_of(connection), core.random, core.now, free)
    if value is None:
        raise Refused(
            Reply.GENERAL_FAILURE,
            f"asked for {named(key.protocol)}: none is left at {key.address}",
        )
    final = with_value(key, value)
    return grant(core, connection, mapping_of(core, connection, final, peer, client_port))


def _free(core: Core, connection: Connection, key: NarTuple) -> Callable[[int], bool]:
    """Whether the box uses a value itself, or the client's packets would be ambiguous."""
    protocol, address, occupied = key.protocol, key.address, core.occupied
    if protocol is NarProtocol.ICMP:
        return lambda _: True
    if connection.delivery.end_to_end or not protocol.has_ports:
        return lambda value: not occupied(protocol, address, value)
    inside, shifted = owner_of(connection).host.inside, protocol << 16
    return lambda value: shifted | value not in inside and not occupied(protocol, address, value)


def named(protocol: NarProtocol) -> str:
    """What a lease of this protocol is of, for people."""
    if protocol.has_ports:
        return f"a {protocol.name} port"
    if protocol is NarProtocol.ICMP:
        return "an ICMP identifier"
    return f"an SPI of {protocol.name}"

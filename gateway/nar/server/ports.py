"""TCP and UDP in NAR mode: CONNECT, BIND and UDP ASSOCIATE lease ports (RFC 1928's formats)."""

from ipaddress import IPv4Address

from gateway.domain.event import Severity
from gateway.domain.nar import NarProtocol, NarTuple
from gateway.nar.codec.numbers import Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.policy import NarRule
from gateway.nar.server.authorization import (
    Refused,
    permit_anybody,
    permit_protocol,
    permit_target,
    port_wish,
    rule_of,
)
from gateway.nar.server.choosing import drawn, is_mine, mapping_of, wished, with_value
from gateway.nar.server.connections import Connection
from gateway.nar.server.core import Core
from gateway.nar.server.granting import owner_of, take_over
from gateway.nar.server.leases import Lease

UDP_REMOTE = 0x01
"""RSV of UDP ASSOCIATE, extension: DST is the remote, incoming packets have its port."""


def lease_port(
    core: Core, connection: Connection, request: SocksRequest, target: IPv4Address
) -> bytes:
    """Carry a command out whose name, if it had one, means ``target``. Raises Refused."""
    if request.command == SocksCommand.CONNECT:
        lease = _connect(core, connection, request, target)
    elif request.command == SocksCommand.BIND:
        lease = _bind(core, connection, request, target)
    else:
        lease = _udp(core, connection, request, target)
    key = lease.mapping.tuple
    return SocksReply(Reply.SUCCEEDED, key.address, key.value).to_octets()


def _connect(
    core: Core, connection: Connection, request: SocksRequest, target: IPv4Address
) -> Lease:
    rule = _rule(connection, NarProtocol.TCP, request.flags)
    remote = _remote(core, connection, rule, target)
    port = request.port
    if remote is None or not port:
        raise Refused(
            Reply.NOT_ALLOWED, f"asked for CONNECT to {target}:{port}: address and port are needed"
        )
    return drawn(
        core, connection, NarTuple(NarProtocol.TCP, connection.address, 0, remote, port), remote
    )


def _bind(core: Core, connection: Connection, request: SocksRequest, target: IPv4Address) -> Lease:
    rule = _rule(connection, NarProtocol.TCP, request.flags)
    remote = _remote(core, connection, rule, target)
    if remote is None:
        permit_anybody(rule, "a TCP port")
    key = NarTuple(NarProtocol.TCP, connection.address, 0, remote)
    return _wish_or_any(core, connection, rule, key, wish=request.port, peer=remote)


def _udp(core: Core, connection: Connection, request: SocksRequest, target: IPv4Address) -> Lease:
    known = UDP_REMOTE if connection.knows_leases else 0
    rule = _rule(connection, NarProtocol.UDP, request.flags & ~known)
    peer = _remote(core, connection, rule, target) or connection.target
    if peer is None:
        permit_anybody(rule, "a UDP port")
    if not request.flags:
        key = NarTuple(NarProtocol.UDP, connection.address, 0)
        return _wish_or_any(core, connection, rule, key, wish=request.port, peer=peer)
    if not request.port:
        raise Refused(Reply.NOT_ALLOWED, f"asked for UDP with remote {target}: its port is needed")
    key = NarTuple(NarProtocol.UDP, connection.address, 0, None, request.port)
    return drawn(core, connection, key, peer)


def _rule(connection: Connection, protocol: NarProtocol, flags: int) -> NarRule:
    rule = rule_of(connection.rule)
    if flags:
        raise Refused(
            Reply.GENERAL_FAILURE, f"asked for {protocol.name} with RSV {flags:#04x} in place of 0"
        )
    permit_protocol(rule, protocol)
    return rule


def _remote(
    core: Core, connection: Connection, rule: NarRule, target: IPv4Address
) -> IPv4Address | None:
    """The remote that is meant, None for any."""
    if not int(target):
        return None
    if target == connection.target:
        # Checked by NAR-MODE; and one object is enough for all leases.
        return connection.target
    permit_target(rule, core.forbidden, target, (connection.local.address,))
    return core.shared(target)


def _wish_or_any(
    core: Core,
    connection: Connection,
    rule: NarRule,
    key: NarTuple,
    *,
    wish: int,
    peer: IPv4Address | None,
) -> Lease:
    """The port wished for, or another one: the client is told which."""
    if not wish:
        return drawn(core, connection, key, peer)
    why = port_wish(core.policy, rule, wish, core.never_ports)
    if not why:
        wanted = mapping_of(core, connection, with_value(key, wish), peer)
        got = wished(core, connection, wanted)
        if isinstance(got, Lease):
            return got
        why = got
    if connection.delivery.end_to_end:
        lease = drawn(core, connection, key, peer)
    else:
        lease = _behind(core, connection, key, wish, peer)
    core.hint(
        "nar_port_replaced",
        f"{connection} asked for {key.protocol.name} port {wish}: {why};"
        f" it has {lease.mapping.tuple.value} instead",
        Severity.INFO,
        client=str(connection.xa),
        port=wish,
        instead=lease.mapping.tuple.value,
    )
    return lease


def _behind(
    core: Core, connection: Connection, key: NarTuple, wish: int, peer: IPv4Address | None
) -> Lease:
    """Another port outside, which is translated to the one wished for (section 2.4)."""
    present = owner_of(connection).host.inside.get(key.protocol << 16 | wish)
    if present is None:
        return drawn(core, connection, key, peer, wish)
    have = present.mapping.tuple
    if not is_mine(present, connection) or with_value(key, have.value) != have:
        raise Refused(
            Reply.GENERAL_FAILURE,
            f"asked for {key.protocol.name} port {wish}: its port {wish} is in use as {have}",
        )
    client_port = 0 if have.value == wish else wish
    wanted = mapping_of(core, connection, have, peer, client_port)
    return take_over(core, present, connection, wanted)

"""Commands: read, carried out, answered; a refusal has a reply for the client and words for us."""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Any, Final

from gateway.domain.endpoint import IpAddress
from gateway.domain.nar import NarProtocol
from gateway.domain.wire import WireError
from gateway.nar.codec.address import RequestError
from gateway.nar.codec.associate import (
    IcmpAssociate,
    IcmpReply,
    IpsecAssociate,
    IpsecReply,
    TunnelAssociate,
    TunnelReply,
)
from gateway.nar.codec.leases import (
    L2tpAssociate,
    L2tpReply,
    Release,
    ReleaseReply,
    Renew,
    RenewReply,
    Session,
    SessionReply,
)
from gateway.nar.codec.numbers import NAR_VERSION, NarCommand, Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.codec.stream import NarRequest
from gateway.nar.outputs import Resolve
from gateway.nar.server import associations, lease_commands
from gateway.nar.server.authorization import Refused, permit_protocol, permit_target, rule_of
from gateway.nar.server.connections import Connection, State
from gateway.nar.server.core import Core
from gateway.nar.server.granting import leave
from gateway.nar.server.mode import nar_mode
from gateway.nar.server.ports import lease_port
from gateway.nar.server.proxy import MAX_CANDIDATES, open_proxy, proxy_rule

_FAILED: Final[dict[int, Callable[[Reply], bytes]]] = {
    NarCommand.ICMP_ASSOCIATE: lambda reply: IcmpReply(reply).to_octets(),
    NarCommand.IPSEC_ASSOCIATE: lambda reply: IpsecReply(reply).to_octets(),
    NarCommand.TUNNEL_ASSOCIATE: lambda reply: TunnelReply(reply).to_octets(),
    NarCommand.SESSION: lambda reply: SessionReply(reply).to_octets(),
    NarCommand.RENEW: lambda reply: RenewReply(reply).to_octets(),
    NarCommand.RELEASE: lambda reply: ReleaseReply(reply).to_octets(),
    NarCommand.L2TP_ASSOCIATE: lambda reply: L2tpReply(reply).to_octets(),
}
"""Error replies have the full length, their fields are 0."""

_CARRY_OUT: Final[dict[type[NarRequest], Callable[[Core, Connection, Any], bytes]]] = {
    IcmpAssociate: associations.icmp,
    IpsecAssociate: associations.ipsec,
    TunnelAssociate: associations.tunnel,
    Session: lease_commands.session,
    Renew: lease_commands.renew,
    Release: lease_commands.release,
    L2tpAssociate: lease_commands.l2tp,
}
_OF_LEASES: Final = frozenset({Session, Renew, Release, L2tpAssociate})


def read_request(core: Core, connection: Connection) -> bool:
    """Carry the next command out; False while it is not complete.

    Raises WireError when it is none, and the connection has to end.
    """
    stream = connection.stream
    if stream is None:
        return False
    version, command = stream.version, stream.command
    in_nar_mode = connection.state is State.NAR
    try:
        request = stream.request(nar=in_nar_mode)
    except RequestError as error:
        core.send(connection, _failed(version, command, error.reply))
        if not (in_nar_mode and error.in_step):
            raise
        _note(core, connection, error.reply, f"sent a malformed command: {error}")
        return True
    except WireError:
        if version == NAR_VERSION and not in_nar_mode and command in _FAILED:
            core.send(connection, _failed(version, command, Reply.NOT_ALLOWED))
        raise
    if request is None:
        return False
    try:
        if isinstance(request, SocksRequest):
            _socks(core, connection, request)
        else:
            _nar(core, connection, request)
    except Refused as refusal:
        refuse(core, connection, version, command, refusal)
    settle(core, connection)
    return True


def refuse(
    core: Core, connection: Connection, version: int, command: int, refusal: Refused
) -> None:
    """Reply and report; outside of NAR mode a failure ends the connection (RFC 1928 section 6)."""
    core.send(connection, _failed(version, command, refusal.reply))
    _note(core, connection, refusal.reply, str(refusal))
    if connection.state is not State.NAR:
        leave(core, connection)


def settle(core: Core, connection: Connection) -> None:
    """After a command in NAR mode: without any lease the connection may idle only so long."""
    if connection.state is not State.NAR or connection.ticket:
        return
    if connection.session is not None and connection.session.leases:
        core.timers.cancel(connection)
    else:
        core.timers.set(connection, core.now + core.policy.idle_s)


def _failed(version: int, command: int, reply: Reply) -> bytes:
    if version == NAR_VERSION and command in _FAILED:
        return _FAILED[command](reply)
    return SocksReply(reply).to_octets()


def _note(core: Core, connection: Connection, reply: Reply, reason: str) -> None:
    core.counters[f"refused_{reply.name.lower()}"] += 1
    core.hint(
        "nar_refused",
        f"{connection} {reason}",
        client=str(connection.client.address),
        user="" if connection.owner is None else connection.owner.user,
        reply=reply.name.lower(),
        reason=reason,
    )


def _nar(core: Core, connection: Connection, request: NarRequest) -> None:
    kind = type(request)
    if kind in _OF_LEASES and not connection.knows_leases:
        raise Refused(
            Reply.COMMAND_NOT_SUPPORTED, "used a command of leases without the flag in NAR-MODE"
        )
    core.send(connection, _CARRY_OUT[kind](core, connection, request))


def _socks(core: Core, connection: Connection, request: SocksRequest) -> None:
    try:
        command = SocksCommand(request.command)
    except ValueError:
        raise Refused(
            Reply.COMMAND_NOT_SUPPORTED, f"sent SOCKS command {request.command}, which is unknown"
        ) from None
    if isinstance(request.address, str) and _needs_name(connection, command, request):
        number = core.ask(connection)
        connection.asked = request
        rule = rule_of(connection.rule)
        ipv6 = connection.state is State.READY and rule.proxy_ipv6
        core.outputs.append(
            Resolve(number, request.address, ipv6 and command is not SocksCommand.NAR_MODE)
        )
        return
    address = request.address
    _carry_out(core, connection, command, request, () if isinstance(address, str) else (address,))


def _needs_name(connection: Connection, command: SocksCommand, request: SocksRequest) -> bool:
    """Whether the name matters. Raises Refused for who gets nothing anyway: no look-up either."""
    rule = rule_of(connection.rule)
    if command is SocksCommand.NAR_MODE:
        return True
    if connection.state is State.NAR:
        udp = command is SocksCommand.UDP_ASSOCIATE
        permit_protocol(rule, NarProtocol.UDP if udp else NarProtocol.TCP)
        return True
    proxy_rule(connection, command, request.flags)
    return command is not SocksCommand.UDP_ASSOCIATE


def resolved(core: Core, connection: Connection, addresses: Sequence[IpAddress]) -> None:
    """Go on with the command whose name these are the addresses of."""
    request, connection.asked = connection.asked, None
    if request is None:
        return
    try:
        _carry_out(core, connection, SocksCommand(request.command), request, addresses)
    except Refused as refusal:
        refuse(core, connection, 5, request.command, refusal)
    settle(core, connection)


def _carry_out(
    core: Core,
    connection: Connection,
    command: SocksCommand,
    request: SocksRequest,
    candidates: Sequence[IpAddress],
) -> None:
    if command is not SocksCommand.NAR_MODE and connection.state is State.READY:
        open_proxy(core, connection, command, request, candidates)
        return
    target = _ipv4_target(core, connection, request, candidates)
    run = nar_mode if command is SocksCommand.NAR_MODE else lease_port
    core.send(connection, run(core, connection, request, target))


def _ipv4_target(
    core: Core, connection: Connection, request: SocksRequest, candidates: Sequence[IpAddress]
) -> IPv4Address:
    """The one target of a NAR command: of a name, the first address that is allowed."""
    if isinstance(request.address, IPv4Address):
        return request.address
    if not isinstance(request.address, str):
        raise Refused(
            Reply.ADDRESS_TYPE_NOT_SUPPORTED, f"asked for target {request.address}: NAR is IPv4"
        )
    rule, refusal = rule_of(connection.rule), None
    for one in candidates[:MAX_CANDIDATES]:
        if isinstance(one, IPv4Address):
            try:
                permit_target(rule, core.forbidden, one, (connection.local.address,))
            except Refused as why:
                refusal = refusal or why
            else:
                return one
    raise refusal or Refused(
        Reply.HOST_UNREACHABLE, f"asked for {request.address}, which has no IPv4 address"
    )

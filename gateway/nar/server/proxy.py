"""Plain SOCKS5 without NAR-MODE: what is asked of the proxy, and its answers (RFC 1928)."""

from collections.abc import Sequence
from typing import Final

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.nar import NarProtocol
from gateway.nar.codec.numbers import Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.outputs import OpenProxy, StartRelay
from gateway.nar.policy import NarRule
from gateway.nar.server.authorization import (
    Refused,
    permit_anybody,
    permit_protocol,
    permit_target,
    rule_of,
)
from gateway.nar.server.connections import Connection, Step
from gateway.nar.server.core import Core

MAX_CANDIDATES: Final = 16
"""Addresses of one name that are looked at."""


def proxy_rule(connection: Connection, command: SocksCommand, flags: int) -> NarRule:
    """The rule of a client that may use the proxy for this. Raises Refused."""
    rule = rule_of(connection.rule)
    if not rule.proxy:
        raise Refused(
            Reply.NOT_ALLOWED,
            f"asked for {_name(command)} without NAR-MODE: rule {rule.name} has no proxy",
        )
    if flags:
        raise Refused(
            Reply.GENERAL_FAILURE, f"asked for {_name(command)} with RSV {flags:#04x} in place of 0"
        )
    udp = command is SocksCommand.UDP_ASSOCIATE
    permit_protocol(rule, NarProtocol.UDP if udp else NarProtocol.TCP)
    return rule


def open_proxy(
    core: Core,
    connection: Connection,
    command: SocksCommand,
    request: SocksRequest,
    candidates: Sequence[IpAddress],
) -> None:
    """Ask the adapter to do it, with targets that were checked and no others. Raises Refused.

    BIND with no targets: anybody may connect. UDP ASSOCIATE: ``port`` is the client's own, 0 when
    it does not know yet.
    """
    rule = proxy_rule(connection, command, request.flags)
    targets: tuple[IpAddress, ...] = ()
    if command is not SocksCommand.UDP_ASSOCIATE:
        # A name is never "anybody", whatever it resolves to.
        anybody = not isinstance(request.address, str) and not int(request.address)
        if command is SocksCommand.BIND and anybody:
            permit_anybody(rule, "a TCP port")
        else:
            targets = _permitted(core, connection, rule, candidates)
        if command is SocksCommand.CONNECT and not request.port:
            raise Refused(Reply.NOT_ALLOWED, f"asked for CONNECT to {request.address} port 0")
    if not connection.advance(Step.PROXY):
        raise Refused(Reply.GENERAL_FAILURE, f"asked for {_name(command)} at the wrong time")
    connection.asked = request
    core.timers.cancel(connection)
    core.outputs.append(OpenProxy(connection.number, command, targets, request.port, rule.name))


def _permitted(
    core: Core, connection: Connection, rule: NarRule, candidates: Sequence[IpAddress]
) -> tuple[IpAddress, ...]:
    permitted: list[IpAddress] = []
    refusal: Refused | None = None
    for one in candidates[:MAX_CANDIDATES]:
        try:
            if one.version == 6 and not rule.proxy_ipv6:
                raise Refused(
                    Reply.ADDRESS_TYPE_NOT_SUPPORTED,
                    f"asked for target {one}: rule {rule.name} has no proxy_ipv6",
                )
            permit_target(rule, core.forbidden, one, (connection.local.address,))
        except Refused as why:
            refusal = refusal or why
        else:
            permitted.append(one)
    if not permitted:
        raise refusal or Refused(Reply.HOST_UNREACHABLE, "asked for a name that has no address")
    return tuple(permitted)


def opened(core: Core, connection: Connection, bound: Endpoint) -> None:
    """The proxy is there: tell the client. BIND is told twice, and relays the second time.

    After UDP ASSOCIATE there is no :class:`~gateway.nar.outputs.StartRelay`: the connection only
    holds the relay open, and what comes on it is dropped.
    """
    command = 0 if connection.asked is None else connection.asked.command
    core.send(connection, SocksReply(Reply.SUCCEEDED, bound.address, bound.port).to_octets())
    if command == SocksCommand.BIND and not connection.bound:
        connection.bound = True
        return
    early = b"" if connection.stream is None else connection.stream.rest()
    connection.stream = connection.asked = None
    connection.advance(Step.RELAY)
    if command != SocksCommand.UDP_ASSOCIATE:
        core.outputs.append(StartRelay(connection.number, early))


def _name(command: SocksCommand) -> str:
    return command.name.replace("_", " ")

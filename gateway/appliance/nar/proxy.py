"""Plain SOCKS5 for clients without NAR: CONNECT, BIND and UDP ASSOCIATE of one server.

The engine has decided that a target may be reached; here it is reached, and what only the box
knows is checked: its own addresses and the ports that it lends.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol

from gateway.appliance.nar.bind_relay import BindListener
from gateway.appliance.nar.connection import NarConnection
from gateway.appliance.nar.dialing import (
    DialError,
    dial,
    endpoint_of,
    is_own,
    reply_of,
    source_towards,
)
from gateway.appliance.nar.relay import RelayEnd
from gateway.appliance.nar.udp_relay import Resolving, UdpRelay
from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.nar.codec.numbers import Reply, SocksCommand
from gateway.nar.outputs import OpenProxy

IDLE_S: Final = 3600.0
"""A relay by which nothing went for so long is closed."""
UDP_IDLE_S: Final = 300.0
MAX_RELAYS: Final = 4096
"""Of one server."""


class ProxyEngine(Protocol):
    """What is needed of :class:`gateway.nar.service.NarEngine`."""

    def proxy_opened(self, connection: int, bound: Endpoint, now: float) -> None:
        """It is there."""

    def proxy_failed(self, connection: int, reply: Reply, why: str, now: float) -> None:
        """It is not."""

    def may_relay_to(self, rule: str, target: IpAddress, port: int) -> bool:
        """Whether a datagram may go there."""


End = RelayEnd | UdpRelay


class Proxy:
    """The relays of one server, by the number of their connection."""

    def __init__(
        self,
        engine: ProxyEngine,
        resolver: Resolving,
        *,
        clock: Callable[[], float],
        touched: Callable[[], None],
        leased: Callable[[int], bool],
        outside: Callable[[], IpAddress | None],
        own: Callable[[IpAddress], bool] = is_own,
    ) -> None:
        """``touched`` is called after the engine was; ``leased`` knows the ports that are lent.

        ``outside`` is our address where anybody may connect to.
        """
        self._engine, self._resolver = engine, resolver
        self._clock, self._touched = clock, touched
        self._leased, self._own, self._outside = leased, own, outside
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ends: dict[int, tuple[End, NarConnection]] = {}
        self.counters = dict.fromkeys(("opened", "failed", "idle"), 0)

    def __len__(self) -> int:
        return len(self._ends.keys() | self._tasks.keys())

    def open(self, order: OpenProxy, connection: NarConnection) -> None:
        """Begin; the engine is answered later."""
        connection.hold()
        number = order.connection
        task = asyncio.get_running_loop().create_task(self._open(order, connection))
        self._tasks[number] = task
        task.add_done_callback(lambda done: self._opened(number, done))

    def _opened(self, number: int, task: "asyncio.Task[None]") -> None:
        if self._tasks.get(number) is task:
            del self._tasks[number]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        self.counters["failed"] += 1
        if isinstance(error, DialError):
            reply, why = error.reply, str(error)
        elif isinstance(error, OSError):
            reply, why = reply_of(error), error.strerror or str(error)
        else:
            reply, why = Reply.GENERAL_FAILURE, f"internal fault: {type(error).__name__}: {error}"
        self._engine.proxy_failed(number, reply, why, self._clock())
        self._touched()

    async def _open(self, order: OpenProxy, connection: NarConnection) -> None:
        if len(self) > MAX_RELAYS:
            raise DialError(Reply.GENERAL_FAILURE, f"{MAX_RELAYS} relays are open already")
        if any(map(self._own, order.targets)):
            raise DialError(Reply.NOT_ALLOWED, "the target is this box")
        if order.command is SocksCommand.CONNECT:
            await self._connect(order, connection)
        elif order.command is SocksCommand.BIND:
            await self._bind(order, connection)
        else:
            await self._associate(order, connection)

    async def _connect(self, order: OpenProxy, connection: NarConnection) -> None:
        sock = await dial(order.targets, order.port)
        bound = endpoint_of(sock.getsockname())
        await self._adopt(order.connection, sock, connection)
        self._tell(order.connection, bound)

    async def _bind(self, order: OpenProxy, connection: NarConnection) -> None:
        expected = order.targets
        address = source_towards(expected[0]) if expected else self._outside()
        if address is None:
            raise DialError(Reply.NETWORK_UNREACHABLE, "there is no way to the target")
        listener = BindListener(address, expected, self._leased)
        self._tell(order.connection, listener.endpoint)
        sock, source = await listener.accept()
        await self._adopt(order.connection, sock, connection)
        self._tell(order.connection, source)

    async def _adopt(self, number: int, sock: socket.socket, connection: NarConnection) -> None:
        end = RelayEnd(self._clock)
        try:
            await asyncio.get_running_loop().create_connection(lambda: end, sock=sock)
        except BaseException:
            sock.close()
            raise
        self._ends[number] = (end, connection)

    async def _associate(self, order: OpenProxy, connection: NarConnection) -> None:
        def may_relay(target: IpAddress, port: int) -> bool:
            return self._engine.may_relay_to(order.rule, target, port)

        relay = UdpRelay(
            Endpoint(connection.client.address, order.port),
            may_relay=may_relay,
            is_own=self._own,
            leased=self._leased,
            resolver=self._resolver,
            clock=self._clock,
        )
        try:
            where = await relay.open(connection.local.address)
        except BaseException:
            relay.client_gone(False)
            raise
        self._ends[order.connection] = (relay, connection)
        self._tell(order.connection, where)
        # No octets are relayed, so there is no StartRelay: the connection's end is what counts.
        self.start(order.connection, b"")

    def _tell(self, number: int, bound: Endpoint) -> None:
        self.counters["opened"] += 1
        self._engine.proxy_opened(number, bound, self._clock())
        self._touched()

    # -- later -----------------------------------------------------------------------------

    def start(self, number: int, early: bytes) -> None:
        """The engine's reply has been sent: octets are the application's now."""
        found = self._ends.get(number)
        if found is None:
            return
        end, connection = found
        end.join(connection)
        connection.start_relay(end, early)

    def gone(self, number: int) -> None:
        """The client's connection is over."""
        task = self._tasks.pop(number, None)
        if task is not None:
            task.cancel()
        found = self._ends.pop(number, None)
        if found is not None and found[1].partner is not found[0]:
            found[0].client_gone(False)  # it was never joined

    def sweep(self, now: float) -> None:
        """Close relays that nobody uses."""
        for end, connection in list(self._ends.values()):
            limit = UDP_IDLE_S if isinstance(end, UdpRelay) else IDLE_S
            if now - end.heard_at > limit:
                self.counters["idle"] += 1
                connection.close("idle")

    def stop(self) -> None:
        """End all."""
        for number in [*self._tasks, *self._ends]:
            self.gone(number)

"""The connections of one NAR server, between sockets and its engine."""

from collections.abc import Callable
from typing import Final, Protocol

from gateway.appliance.nar.connection import Mode, NarConnection
from gateway.domain.endpoint import Endpoint
from gateway.domain.token_bucket import TokenBucket

MAX_HANDSHAKES: Final = 512
"""TLS handshakes at a time; the oldest makes room. The engine bounds how long one may take."""
COUNTERS: Final = (
    "accepted",
    "refused",
    "closed",
    "crowded_out",
    "handshakes",
    "slowed",
    "tls_failures",
)
HANDSHAKES_PER_S: Final = 200.0
HANDSHAKES_AT_ONCE: Final = 1000.0
"""Each costs up to a millisecond of the processor that IKE needs, too."""


class ConnectionEngine(Protocol):
    """What is needed of :class:`gateway.nar.service.NarEngine`."""

    def connected(self, client: Endpoint, local: Endpoint, now: float, *, tls: bool) -> int | None:
        """A connection came."""

    def received(self, connection: int, data: bytes, now: float) -> None:
        """Octets."""

    def disconnected(self, connection: int, now: float) -> None:
        """It ended."""


class Connections:
    """By number; what their sockets say goes to the engine, and the other way round."""

    def __init__(
        self,
        engine: ConnectionEngine,
        *,
        clock: Callable[[], float],
        touched: Callable[[], None],
        gone: Callable[[int], None],
    ) -> None:
        """``touched`` is called after the engine was; ``gone`` hears of numbers that ended."""
        self._engine, self._clock = engine, clock
        self._touched, self._gone = touched, gone
        self._open: dict[int, NarConnection] = {}
        self._handshaking: dict[NarConnection, None] = {}
        self._half_closed: list[NarConnection] = []
        self._pace = TokenBucket(HANDSHAKES_PER_S, HANDSHAKES_AT_ONCE)
        self.counters = dict.fromkeys(COUNTERS, 0)

    def __len__(self) -> int:
        return len(self._open)

    def get(self, number: int) -> NarConnection | None:
        """The connection of this number, while it is open."""
        return self._open.get(number)

    # -- from connections --------------------------------------------------------------------

    def begun(self, connection: NarConnection) -> bool:
        """Accepted; the engine decides whether it may stay."""
        if connection.tls and not self._pace.take(self._clock()):
            self.counters["slowed"] += 1
            return False
        client, local = connection.client, connection.local
        number = self._engine.connected(client, local, self._clock(), tls=connection.tls)
        self._touched()
        if number is None:
            self.counters["refused"] += 1
            return False
        self.counters["accepted"] += 1
        connection.number = number
        self._open[number] = connection
        if connection.tls:
            if len(self._handshaking) >= MAX_HANDSHAKES:
                self.counters["crowded_out"] += 1
                oldest = next(iter(self._handshaking))
                del self._handshaking[oldest]
                oldest.abort("others need the place")
            self._handshaking[connection] = None
        return True

    def secured(self, connection: NarConnection) -> None:
        """The TLS handshake is done."""
        self.counters["handshakes"] += 1
        self._handshaking.pop(connection, None)

    def received(self, connection: NarConnection, data: bytes) -> None:
        """Octets for the engine."""
        self._engine.received(connection.number, data, self._clock())
        self._touched()

    def half_closed(self, connection: NarConnection) -> None:
        """Answers to what came before still go out, then we close as well."""
        self._half_closed.append(connection)
        self._touched()

    def ended(self, connection: NarConnection) -> None:
        """The socket is gone."""
        if connection in self._handshaking:
            del self._handshaking[connection]
            self.counters["tls_failures"] += 1
        if self._open.get(connection.number) is not connection:
            return
        del self._open[connection.number]
        self.counters["closed"] += 1
        self._gone(connection.number)
        self._engine.disconnected(connection.number, self._clock())
        self._touched()

    # -- from the engine ---------------------------------------------------------------------

    def send(self, number: int, data: bytes) -> None:
        """Octets for a client."""
        connection = self._open.get(number)
        if connection is not None:
            connection.send(data)

    def close(self, number: int) -> None:
        """The engine is done with it."""
        connection = self._open.pop(number, None)
        if connection is not None:
            self.counters["closed"] += 1
            self._handshaking.pop(connection, None)
            self._gone(number)
            connection.close("closed by the server")

    def finish_turn(self) -> None:
        """Everything that was answered is sent: end those whose clients have no more to say."""
        ending, self._half_closed = self._half_closed, []
        for connection in ending:
            if connection.mode is not Mode.NEGOTIATING:
                continue  # a relay: it ends when both directions have
            if self._open.pop(connection.number, None) is connection:
                self.counters["closed"] += 1
                self._gone(connection.number)
                self._engine.disconnected(connection.number, self._clock())
                connection.close("closed by the client")
        if ending:
            self._touched()

    def close_all(self, why: str) -> None:
        """The server stops: what waits to be sent still goes out if it can."""
        closing, self._open = self._open, {}
        for number, connection in closing.items():
            self._gone(number)
            connection.close(why)

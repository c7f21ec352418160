"""One TCP connection with IKE and ESP, and the UDP socket on loopback that stands for its peer.

The kernel speaks ESP in UDP, not ESP in TCP. So what comes by TCP goes on as datagrams from the
relay's socket to the NAT port of our own IKE sockets, where the kernel takes the ESP and the IKE
engine the rest; what those send to the relay's socket goes out by TCP. To all of them the peer is
at an address of :data:`gateway.domain.endpoint.TCP_PEERS`, which exists on this host only.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint
from gateway.domain.wire import WireError
from gateway.ike.half_open import PerSecond
from gateway.ike.tcp_stream import (
    KEEPALIVE,
    MAX_MESSAGE_OCTETS,
    STREAM_PREFIX,
    StreamReader,
    frame,
    is_ike,
)

DATAGRAMS_PER_WAKE_UP = 64
ESP_BUFFER_OCTETS = 256 * 1024
"""What may wait for a slow reader; ESP beyond it is dropped, as a full queue would."""
IKE_BUFFER_OCTETS = 1024 * 1024
"""IKE messages wait beyond that, but a connection that does not take even them ends here."""
STRANGERS_BUFFER_OCTETS = 64 * 1024
"""Likewise, of a connection without an IKE SA: there may be many of them."""
STRANGERS_MESSAGES_PER_S = 200
"""Of a connection without an IKE SA: each costs us a datagram, whatever is in it."""
RELAY_BUFFER_OCTETS = 1024 * 1024
TCP_KEEPALIVE_IDLE_S = 20
"""Keeps the mapping of NATs open, as keepalives of RFC 3948 do for UDP."""
TCP_KEEPALIVE_TRIES = 6
TCP_GIVE_UP_MS = 120_000
UNSENT_OCTETS = 128 * 1024
"""What the kernel may hold beyond what is under way, or seconds of old packets queue up there."""
SO_RCVBUFFORCE = 33
COUNTERS = (
    "octets_in",
    "octets_out",
    "messages_in",
    "messages_out",
    "keepalives_in",
    "esp_dropped",
    "relay_dropped",
    "strangers_dropped",
)


class RelaySocket:
    """The datagram side: everybody on this host takes its address for the peer's."""

    __slots__ = ("_engine", "_engine_port", "_fixed", "endpoint", "sock")

    def __init__(
        self, address: IPv4Address, *, engine: Endpoint | None = None, engine_port: int = 4500
    ) -> None:
        """Take any port of ``address``. Raises OSError.

        Datagrams are exchanged with ``engine`` only. Without one, it is whoever of this host
        sends from ``engine_port``, an IKE socket's: our own address may change.
        """
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self.sock.setblocking(False)
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RELAY_BUFFER_OCTETS)
            except PermissionError:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RELAY_BUFFER_OCTETS)
            self.sock.bind((str(address), 0))
            self._engine: tuple[str, int] | None = None
            self._engine_port = engine_port
            self._fixed = engine is not None
            if engine is not None:
                self._engine = (str(engine.address), engine.port)
                self.sock.connect(self._engine)
            self.endpoint = Endpoint(address, self.sock.getsockname()[1])
        except BaseException:
            self.sock.close()
            raise

    def send(self, message: bytes) -> bool:
        """Hand a message to the kernel and the engine; whether that was possible."""
        if self._engine is None:
            return False
        try:
            if self._fixed:
                self.sock.send(message)
            else:
                self.sock.sendto(message, self._engine)
        except OSError:
            return False
        return True

    def read(self) -> list[bytes]:
        """What the kernel and the engine have sent, up to a bound."""
        found: list[bytes] = []
        for _ in range(DATAGRAMS_PER_WAKE_UP):
            try:
                data, sender = self.sock.recvfrom(MAX_MESSAGE_OCTETS)
            except BlockingIOError:
                break
            except OSError:  # an answer of ICMP: the IKE socket is not there (any more)
                continue
            if not self._fixed:
                if sender[1] != self._engine_port:
                    continue
                self._engine = sender
            if data:
                found.append(data)
        return found

    def close(self) -> None:
        """Close it."""
        self.sock.close()


def prepare(sock: socket.socket) -> None:
    """Options of a TCP socket that carries a tunnel: no delays, and a dead peer is noticed."""
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, TCP_KEEPALIVE_IDLE_S),
        (socket.TCP_KEEPINTVL, TCP_KEEPALIVE_IDLE_S),
        (socket.TCP_KEEPCNT, TCP_KEEPALIVE_TRIES),
        (socket.TCP_USER_TIMEOUT, TCP_GIVE_UP_MS),
        (socket.TCP_NOTSENT_LOWAT, UNSENT_OCTETS),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


class TcpConnection(asyncio.Protocol):
    """Carries messages both ways between a TCP connection and a relay socket.

    Ends by itself where the stream cannot be read, where the peer closes, and where it does not
    take what is sent; ``ended`` is called once, with the reason and whether the peer broke a rule.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        counters: dict[str, int],
        *,
        accepted: bool,
        relay: RelaySocket | Callable[["TcpConnection"], RelaySocket],
        ended: Callable[["TcpConnection", str, bool], None],
        begun: Callable[["TcpConnection"], bool] | None = None,
    ) -> None:
        """``accepted`` tells who opened it; ``counters`` has the names of ``COUNTERS``.

        ``relay`` as a function is asked with the first message that can be one: who sends none
        costs no socket. ``begun`` may refuse the new connection.
        """
        self._loop = loop
        self._counters = counters
        self._accepted = accepted
        self._relay = relay if isinstance(relay, RelaySocket) else None
        self._make_relay = None if isinstance(relay, RelaySocket) else relay
        self._ended: Callable[[TcpConnection, str, bool], None] | None = ended
        self._begun = begun
        self._reader = StreamReader(expect_prefix=accepted)
        self._transport: asyncio.Transport | None = None
        self.opened_at = loop.time()
        self.heard_at = self.opened_at
        """When the last whole message came."""
        self.waiting_since: float | None = None
        """Since when half a message waits for its rest."""
        self.trusted = not accepted
        """Whether the other side has an SA with us; strangers may send less."""
        self._allowance = PerSecond(STRANGERS_MESSAGES_PER_S)
        self.asked = False
        """Whether a message was sent."""
        self.heard = False
        """Whether a message came: the other side speaks the protocol."""
        self.remote: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = ("", 0)

    @property
    def endpoint(self) -> Endpoint | None:
        """What stands for the peer on this host; None before its first message."""
        return None if self._relay is None else self._relay.endpoint

    @property
    def open(self) -> bool:
        """Whether messages can go out."""
        return self._transport is not None

    # -- the TCP side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("no stream")
        self._transport = transport
        transport.set_write_buffer_limits(high=ESP_BUFFER_OCTETS)
        # A peer that is gone already has no address any more.
        remote, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.remote = remote[:2] if remote else ("", 0)
        self.local = local[:2] if local else ("", 0)
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            prepare(sock)
        if self._begun is not None and not self._begun(self):
            self._ended = None
            self._transport = None
            transport.abort()
            return
        if not self._accepted:
            transport.write(STREAM_PREFIX)
        if self._relay is not None:
            self._forget_stale(self._relay)
            self._watch(self._relay)

    def data_received(self, data: bytes) -> None:
        """Octets of the peer's."""
        if self._transport is None:
            return
        self._counters["octets_in"] += len(data)
        found: list[bytes] = []
        error = None
        before = self._reader.keepalives
        try:
            self._reader.feed(data, found)
        except WireError as wrong:
            error = wrong
        now = self._loop.time()
        if found:
            self.heard_at, self.heard = now, True
            self._hand_on(found)
        self._counters["keepalives_in"] += self._reader.keepalives - before
        if error is not None:
            self.end(str(error), broken=True)
        elif not self._reader.partial:
            self.waiting_since = None
        elif found or self.waiting_since is None:
            self.waiting_since = now

    def _hand_on(self, messages: list[bytes]) -> None:
        if self._relay is None and self._make_relay is not None:
            try:
                self._relay = self._make_relay(self)
            except OSError as error:
                self.end(f"no relay socket: {error.strerror}", broken=False)
                return
            self._watch(self._relay)
        relay = self._relay
        if relay is None:
            return
        self._counters["messages_in"] += len(messages)
        if not self.trusted:
            now, every = self._loop.time(), len(messages)
            messages = [one for one in messages if self._allowance.may(now)]
            self._counters["strangers_dropped"] += every - len(messages)
        lost = sum(not relay.send(message) for message in messages)
        self._counters["relay_dropped"] += lost

    def eof_received(self) -> bool:
        """The peer sends no more: then neither do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        why = "the peer closed the connection"
        if isinstance(exc, OSError) and exc.strerror:
            why = f"the connection was lost: {exc.strerror}"
        self._over(why, broken=False)

    # -- the datagram side --------------------------------------------------------------------

    def _watch(self, relay: RelaySocket) -> None:
        self._loop.add_reader(relay.sock.fileno(), self._relay_readable, relay)

    def _forget_stale(self, relay: RelaySocket) -> None:
        """While there was no connection ESP grew old; of IKE, the last request still counts."""
        last = b""
        while messages := relay.read():
            last = next(filter(is_ike, reversed(messages)), last)
        if last and self._transport is not None:
            self._send([frame(last)], self._transport)

    def _relay_readable(self, relay: RelaySocket) -> None:
        transport = self._transport
        messages = relay.read()
        if transport is None or not messages:
            return
        waiting = transport.get_write_buffer_size()
        frames: list[bytes] = []
        for message in messages:
            if message == KEEPALIVE:
                continue  # TCP has its own
            if not is_ike(message):
                self.trusted = True  # the kernel sends ESP to those who have an SA only
                if waiting > ESP_BUFFER_OCTETS:
                    self._counters["esp_dropped"] += 1
                    continue
            framed = frame(message)
            waiting += len(framed)
            frames.append(framed)
        if waiting > (IKE_BUFFER_OCTETS if self.trusted else STRANGERS_BUFFER_OCTETS):
            self.end("the peer does not take what is sent to it", broken=True)
            return
        if frames:
            self._send(frames, transport)

    def _send(self, frames: list[bytes], transport: asyncio.Transport) -> None:
        self.asked = True
        octets = b"".join(frames)
        self._counters["messages_out"] += len(frames)
        self._counters["octets_out"] += len(octets)
        transport.write(octets)

    # -- the end ------------------------------------------------------------------------------

    def end(self, why: str, *, broken: bool = False, gently: bool = False) -> None:
        """End it now; ``gently`` sends first what waits to be sent."""
        transport = self._transport
        self._over(why, broken=broken)
        if transport is not None:
            if gently:
                transport.close()
            else:
                transport.abort()

    def _over(self, why: str, *, broken: bool) -> None:
        self._transport = None
        if self._relay is not None and self._relay.sock.fileno() >= 0:
            self._loop.remove_reader(self._relay.sock.fileno())
            if self._accepted:
                self._relay.close()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self, why, broken)

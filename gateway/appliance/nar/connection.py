"""One client's control connection: octets between its socket and the engine, or a relay.

Ten thousand of these may be idle, so they own no buffer: all connections read into one.
"""

import asyncio
import enum
import socket
import ssl
import struct
from ipaddress import IPv4Address, ip_address
from typing import Final, Protocol, cast

from gateway.appliance.nar.tls import TlsStream
from gateway.domain.endpoint import Endpoint

READ_OCTETS: Final = 65_536
MAX_UNSENT_OCTETS: Final = 65_536
"""Replies that a client does not read; then it is cut off."""
MAX_HELD_OCTETS: Final = 16_384
"""What an application may send before its relay is open."""
RELAY_BUFFER_OCTETS: Final = 262_144
"""Waits on its way through a relay at most, for each direction."""
_RESET: Final = struct.pack("ii", 1, 0)
NEGOTIATION_OCTETS: Final = 1024
"""Read at a time from a client that negotiates: some hundred commands, then others get their
turn."""
_buffer = memoryview(bytearray(READ_OCTETS))
_small_buffer = _buffer[:NEGOTIATION_OCTETS]


class Mode(enum.Enum):
    """Whose the octets are."""

    NEGOTIATING = enum.auto()
    """The engine's."""
    OPENING = enum.auto()
    """The application's, once the relay is open."""
    RELAY = enum.auto()
    """The application's."""
    OVER = enum.auto()
    """Nobody's."""


class Owner(Protocol):
    """What a connection tells; see :class:`gateway.appliance.nar.connections.Connections`."""

    def begun(self, connection: "NarConnection") -> bool:
        """It is there; False refuses it."""

    def secured(self, connection: "NarConnection") -> None:
        """The TLS handshake is done."""

    def received(self, connection: "NarConnection", data: bytes) -> None:
        """Octets for the engine."""

    def half_closed(self, connection: "NarConnection") -> None:
        """The client has nothing more to say to the engine."""

    def ended(self, connection: "NarConnection") -> None:
        """The connection is gone."""


class Partner(Protocol):
    """The other end of a relay."""

    def forward(self, data: bytes) -> None:
        """Octets of the client."""

    def forward_eof(self) -> None:
        """The client will send no more."""

    def slow_down(self, wait: bool) -> None:
        """Whether the client is too slow in reading."""

    def client_gone(self, broken: bool) -> None:
        """The client's connection is over; ``broken``: by a reset."""


class NarConnection(asyncio.BufferedProtocol):
    """Between one accepted socket and the engine."""

    __slots__ = (
        "_eof",
        "_finished",
        "_held",
        "_owner",
        "_paused",
        "_tls",
        "_transport",
        "client",
        "local",
        "mode",
        "number",
        "partner",
        "why",
    )

    def __init__(self, owner: Owner, context: ssl.SSLContext | None) -> None:
        self._owner = owner
        self._tls = TlsStream(context) if context is not None else None
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._eof = self._finished = self._paused = False
        self.mode = Mode.NEGOTIATING
        self.partner: Partner | None = None
        self.number = -1
        """The engine's name for it; -1: it has none."""
        self.why = ""
        """Why we ended it."""

    @property
    def tls(self) -> bool:
        """Whether it is a TLS connection."""
        return self._tls is not None

    @property
    def eof(self) -> bool:
        """The client will send no more."""
        return self._eof

    # -- from the socket -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=MAX_UNSENT_OCTETS)
        remote = transport.get_extra_info("peername")
        if not remote:  # gone already
            self.mode = Mode.OVER
            self._transport.abort()
            return
        self.client = _endpoint(remote)
        self.local = _endpoint(transport.get_extra_info("sockname"))
        if not self._owner.begun(self):
            self.mode = Mode.OVER
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - of asyncio
        """The same for all: it is emptied before anybody else is read."""
        return _small_buffer if self.mode is Mode.NEGOTIATING else _buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Octets came."""
        data = bytes(_buffer[:nbytes])
        if self._tls is None:
            self._take(data)
            return
        over = self.mode is Mode.OVER
        was_established = self._tls.established
        try:
            plain, ended = self._tls.receive(data)
        except ssl.SSLError as error:
            self._write(self._tls.take())
            self.abort(f"TLS: {error.reason or error}")
            return
        self._write(self._tls.take())
        if self._tls.established and not was_established and not over:
            self._owner.secured(self)
        if plain:
            self._take(plain)
        if ended:
            self._take_eof()

    def _take(self, data: bytes) -> None:
        if self.mode is Mode.NEGOTIATING:
            self._owner.received(self, data)
        elif self.mode is Mode.RELAY and self.partner is not None:
            self.partner.forward(data)
        elif self.mode is Mode.OPENING:
            self._held += data
            if len(self._held) > MAX_HELD_OCTETS:
                self.slow_down(True)

    def eof_received(self) -> bool:
        """The client closed its direction; ours stays open until we are done."""
        self._take_eof()
        return True

    def _take_eof(self) -> None:
        if self._eof:
            return
        self._eof = True
        if self.mode is Mode.NEGOTIATING:
            self._owner.half_closed(self)
        elif self.mode is Mode.RELAY and self.partner is not None:
            self.partner.forward_eof()
            self._close_if_done()

    def pause_writing(self) -> None:
        """The client reads slowly, or not at all."""
        if self.mode is Mode.RELAY:
            if self.partner is not None:
                self.partner.slow_down(True)
        else:
            self.abort("it does not read")

    def resume_writing(self) -> None:
        """It caught up."""
        if self.mode is Mode.RELAY and self.partner is not None:
            self.partner.slow_down(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone, whoever ended it."""
        partner, self.partner = self.partner, None
        self.mode = Mode.OVER
        if partner is not None:
            partner.client_gone(isinstance(exc, ConnectionError))
        self._owner.ended(self)

    # -- from the engine, by its adapter -----------------------------------------------------

    def send(self, data: bytes) -> None:
        """Octets of the engine, or of the relay's other end."""
        if self._finished:
            return
        if self._tls is None:
            self._write(data)
            return
        try:
            self._write(self._tls.send(data))
        except ssl.SSLError as error:
            self.abort(f"TLS: {error.reason or error}")

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def hold(self) -> None:
        """A relay is being opened: what comes now is the application's."""
        self.mode = Mode.OPENING

    def start_relay(self, partner: Partner, early: bytes) -> None:
        """The other end is there."""
        if self._transport is None or self.mode is Mode.OVER:
            partner.client_gone(False)
            return
        self.mode, self.partner = Mode.RELAY, partner
        self._transport.set_write_buffer_limits(high=RELAY_BUFFER_OCTETS)
        self.slow_down(False)
        data, self._held = early + self._held, b""
        if data:
            partner.forward(data)
        if self._eof:
            partner.forward_eof()

    def slow_down(self, wait: bool) -> None:
        """Whether the client has to wait with sending."""
        if self._transport is None or self._transport.is_closing() or wait is self._paused:
            return
        self._paused = wait
        if wait:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def finish_writing(self) -> None:
        """The relay's other end will send no more: say so, once everything is sent."""
        if self._finished or self._transport is None or self._transport.is_closing():
            return
        if self._tls is not None:
            self._write(self._tls.finish())
        self._finished = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._eof and self._finished:
            self.close("both directions are over")

    def close(self, why: str) -> None:
        """Send what waits, then end it."""
        if self._transport is None or self._transport.is_closing():
            return
        self.why = self.why or why
        self.mode = Mode.OVER
        if self._tls is not None and not self._finished:
            self._write(self._tls.finish())
        self._finished = True
        self.slow_down(False)  # a paused transport would not see the client leave
        self._transport.close()

    def abort(self, why: str, *, reset: bool = False) -> None:
        """End it at once; with ``reset`` the client is told that something broke."""
        if self._transport is None:
            return
        self.why = self.why or why
        self.mode = Mode.OVER
        if reset:
            send_reset(self._transport)
        self._transport.abort()


def send_reset(transport: asyncio.Transport) -> None:
    """Closing this transport shall be a TCP reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            return


def _endpoint(name: tuple[object, ...]) -> Endpoint:
    address = ip_address(str(name[0]).partition("%")[0])
    mapped = None if isinstance(address, IPv4Address) else address.ipv4_mapped
    return Endpoint(mapped or address, int(str(name[1])))

"""The outside end of a plain SOCKS5 relay over TCP: octets, half-close, resets, back-pressure."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from gateway.appliance.nar.connection import RELAY_BUFFER_OCTETS, send_reset

READ_OCTETS: Final = 65_536
_buffer = memoryview(bytearray(READ_OCTETS))


class Client(Protocol):
    """The inside end: :class:`gateway.appliance.nar.connection.NarConnection`."""

    def send(self, data: bytes) -> None:
        """Octets of the outside."""

    def slow_down(self, wait: bool) -> None:
        """Whether the outside is too slow in reading."""

    def finish_writing(self) -> None:
        """The outside will send no more."""

    def close(self, why: str) -> None:
        """Send what waits, then end it."""

    def abort(self, why: str, *, reset: bool = False) -> None:
        """End it at once."""


class RelayEnd(asyncio.BufferedProtocol):
    """One connection to (or from) a target. Reads nothing before :meth:`join`."""

    __slots__ = ("_clock", "_eof", "_finished", "_paused", "_transport", "client", "heard_at")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._eof = self._finished = False
        self._paused = True
        self.client: Client | None = None
        self.heard_at = clock()
        """When octets went either way last."""

    def join(self, client: Client) -> None:
        """The client's side is ready."""
        self.client = client
        if self._transport is None or self._transport.is_closing():
            client.close("the target is gone")
            return
        self.slow_down(False)

    # -- from the socket -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=RELAY_BUFFER_OCTETS)
        self._transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - of asyncio
        """The same for all: it is emptied before anybody else is read."""
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Octets of the target."""
        self.heard_at = self._clock()
        if self.client is not None:
            self.client.send(bytes(_buffer[:nbytes]))

    def eof_received(self) -> bool:
        """The target closed its direction."""
        self._eof = True
        if self.client is not None:
            self.client.finish_writing()
        self._close_if_done()
        return True

    def pause_writing(self) -> None:
        """The target reads slowly."""
        if self.client is not None:
            self.client.slow_down(True)

    def resume_writing(self) -> None:
        """It caught up."""
        if self.client is not None:
            self.client.slow_down(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        client, self.client = self.client, None
        if client is None:
            return
        if isinstance(exc, ConnectionError):
            client.abort("the target broke the connection", reset=True)
        else:
            client.close("the target closed the connection")

    # -- from the client -------------------------------------------------------------------

    def forward(self, data: bytes) -> None:
        """Octets of the client."""
        self.heard_at = self._clock()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def forward_eof(self) -> None:
        """The client will send no more."""
        if self._finished or self._transport is None or self._transport.is_closing():
            return
        self._finished = True
        self._transport.write_eof()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._eof and self._finished and self._transport is not None:
            self._transport.close()

    def slow_down(self, wait: bool) -> None:
        """Whether the target has to wait with sending."""
        if self._transport is None or self._transport.is_closing() or wait is self._paused:
            return
        self._paused = wait
        if wait:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def client_gone(self, broken: bool) -> None:
        """The client's connection is over."""
        self.client = None
        if self._transport is None:
            return
        if broken:
            send_reset(self._transport)
            self._transport.abort()
        else:
            self._transport.close()

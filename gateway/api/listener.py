"""Accepts connections: bounded in number and time, TLS by its first octet.

Who speaks plain HTTP to the port of HTTPS is told where to go, instead of an error that nobody
understands.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final

MAX_CONNECTIONS: Final = 400
MAX_CONNECTIONS_OF_ONE: Final = 100
FIRST_OCTET_S: Final = 10.0
HANDSHAKE_S: Final = 10.0
BACKLOG: Final = 128
_TLS_HANDSHAKE: Final = 0x16
_PAUSE_S: Final = 0.2

_HINT: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n%s"
)
_WORDS: Final = b"This gateway speaks HTTPS here: put https:// in front of the address.\n"

MakeProtocol = Callable[[], asyncio.Protocol]


class Listener:
    """Serves a bound socket."""

    def __init__(
        self, sock: socket.socket, make: MakeProtocol, context: ssl.SSLContext | None
    ) -> None:
        self._sock = sock
        self._make = make
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self._of: Counter[str] = Counter()
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._sock.listen(BACKLOG)
        self._sock.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def stop(self) -> None:
        """Accept no more; connections that stand go on."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        self._sock.close()
        for task in list(self._tasks):
            task.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(self._sock)
            except OSError:  # out of descriptors, or the client has gone again
                await asyncio.sleep(_PAUSE_S)
                continue
            client = str(address[0])
            if self._of.total() >= MAX_CONNECTIONS or self._of[client] >= MAX_CONNECTIONS_OF_ONE:
                sock.close()
                continue
            self._of[client] += 1
            task = loop.create_task(self._serve(sock, client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket, client: str) -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        is_ours = True
        try:
            sock.setblocking(False)
            if self._context is not None and not await self._begins_tls(sock):
                return
            is_ours = False  # from here on the transport closes it
            await loop.connect_accepted_socket(
                lambda: _Counted(self._make(), ended),
                sock,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S if self._context is not None else None,
            )
            await ended
        except (OSError, TimeoutError, ssl.SSLError, asyncio.CancelledError):
            pass  # it went away, took too long, spoke no TLS; or we are stopping
        finally:
            if is_ours:
                sock.close()
            self._of[client] -= 1
            if not self._of[client]:
                del self._of[client]

    async def _begins_tls(self, sock: socket.socket) -> bool:
        """Whether a TLS handshake comes; whoever speaks plainly is told."""
        async with asyncio.timeout(FIRST_OCTET_S):
            await _readable(sock)
        first = sock.recv(1, socket.MSG_PEEK)
        if not first:
            return False
        if first[0] == _TLS_HANDSHAKE:
            return True
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(FIRST_OCTET_S):
                await loop.sock_recv(sock, 65_536)  # unread data would reset the connection
                await loop.sock_sendall(sock, _HINT % (len(_WORDS), _WORDS))
        return False


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock.fileno(), tell)
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())


class _Counted(asyncio.Protocol):
    """A protocol of somebody else's whose end is noticed."""

    def __init__(self, inner: asyncio.Protocol, ended: "asyncio.Future[None]") -> None:
        self._inner = inner
        self._ended = ended
        # Called for every piece: not by way of us.
        self.data_received = inner.data_received  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        self._inner.connection_lost(exc)

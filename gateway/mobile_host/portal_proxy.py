"""The way of one browser to the page of a captive portal: an HTTP proxy on loopback.

Beside the switch, which stays closed, the node itself speaks on the link, as its probe does: from
sockets that are marked and bound. It believes neither side: what a connection may cost is bounded,
and only processes of the user who asked for it are served.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from gateway.mobile_host.loopback_peer import uid_of
from gateway.mobile_host.proxy_request import (
    HEAD_OCTETS,
    ProxyRequest,
    RequestRefusedError,
    end_of_head,
    parse,
    refusal,
    reply_head,
)

LOOPBACK: Final = "127.0.0.1"
MAX_CONNECTIONS: Final = 64
BUFFER_OCTETS: Final = 32 * 1024
"""Of each direction of a connection; twice that with what asyncio reads ahead."""
HEAD_S: Final = 20.0
IDLE_S: Final = 60.0
STRANGER_PAUSE_S: Final = 0.05
"""After a connection of somebody else: to look him up costs us more than it costs him."""
MAX_ADDRESSES: Final = 3
_KEEPALIVE_S = 10
"""The switch forgets whom a probe spoke to after 30 s."""
_NOWHERE = tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")))
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Outlet:
    """How the proxy gets out: by a link, and not everywhere."""

    resolve: Callable[[str], Awaitable[list[IPv4Address] | None]]
    """Raises ValueError for what is no host name."""
    connect: Callable[[IPv4Address, int], Awaitable[socket.socket]]
    """Raises OSError, TimeoutError."""
    forbidden: Callable[[], Collection[IPv4Address]]
    """Where a login page cannot be: the gateway, home agents, our own addresses."""


class PortalProxy:
    """One listening socket while it is open."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        outlet: Outlet,
        uid: int,
        *,
        whose: Callable[[tuple[str, int], tuple[str, int]], int | None] = uid_of,
        is_own: Callable[[IPv4Address], bool] | None = None,
        idle_s: float = IDLE_S,
        head_s: float = HEAD_S,
    ) -> None:
        self._loop = loop
        self._outlet = outlet
        self._whose = whose
        self._is_own = is_own or is_own_address
        self._idle_s, self._head_s = idle_s, head_s
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self.uid = uid
        self.counters = dict.fromkeys(("connections", "strangers", "refused", "carried"), 0)

    def open(self) -> int:
        """Listen on a free port of loopback, and return it. Raises OSError."""
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        listener = socket.socket(socket.AF_INET, kind)
        try:
            listener.bind((LOOPBACK, 0))
            listener.listen(MAX_CONNECTIONS)
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        self._accepting = self._loop.create_task(self._accept())
        return int(listener.getsockname()[1])

    def close(self) -> None:
        """Listen no more, and end every connection."""
        self._accepting.cancel()
        if self._listener.fileno() >= 0:
            # The loop must forget the descriptor before another socket gets its number.
            self._loop.remove_reader(self._listener)
            self._listener.close()
        for task in self._tasks:
            # Those that have not begun have a socket to close first.
            self._loop.call_soon(task.cancel)

    async def _accept(self) -> None:
        while True:
            await self._slots.acquire()
            client = await self._next_client()
            task = self._loop.create_task(self._serve(client))
            self._tasks.add(task)
            task.add_done_callback(self._served)

    async def _next_client(self) -> socket.socket:
        """A connection of the user's."""
        while True:
            try:
                client, peer = await self._loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(STRANGER_PAUSE_S)
                continue
            self.counters["connections"] += 1
            if self._whose(peer, client.getsockname()) == self.uid:
                return client
            client.close()
            self.counters["strangers"] += 1
            await asyncio.sleep(STRANGER_PAUSE_S)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    # -- one connection --------------------------------------------------------------------

    async def _serve(self, client: socket.socket) -> None:
        try:
            reader, writer = await _stream(client)
        except BaseException as error:
            client.close()
            if isinstance(error, OSError):
                return
            raise
        try:
            await self._carry(reader, writer)
        except RequestRefusedError as error:
            self.counters["refused"] += 1
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._head_s):
                    await _write(writer, refusal(error))
        except (OSError, TimeoutError, EOFError):
            pass  # one of the two is gone, or says nothing
        finally:
            _end(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self._head_s):
            head, more = await _read_head(reader)
        request = parse(head)
        far_reader, far_writer = await _stream(await self._reach(request))
        self.counters["carried"] += 1
        near, far = (reader, writer), (far_reader, far_writer)
        try:
            async with asyncio.timeout(self._idle_s) as idle:
                alive = _Alive(self._loop, idle, self._idle_s)
                if request.tunnel:
                    await _write(writer, _ESTABLISHED)
                    await _write(far_writer, more)
                    await _all(_pump(near, far, alive), _pump(far, near, alive))
                else:
                    await _write(far_writer, request.head)
                    upload = _upload(reader, far_writer, more, request.body_octets, alive)
                    await _first(upload, _download(far_reader, writer, alive))
        finally:
            _end(far_writer)

    async def _reach(self, request: ProxyRequest) -> socket.socket:
        addresses = await self._addresses(request.host)
        failed: str = "nobody answers"
        for address in addresses[:MAX_ADDRESSES]:
            self._check(address)
            try:
                found = await self._outlet.connect(address, request.port)
            except (OSError, TimeoutError) as error:
                failed = os.strerror(error.errno) if error.errno else "nobody answers in time"
                continue
            with contextlib.suppress(OSError):
                _keep_alive(found)
            return found
        text = f"{request.host}, port {request.port}: {failed}"
        raise RequestRefusedError(HTTPStatus.BAD_GATEWAY, text)

    async def _addresses(self, host: str) -> list[IPv4Address]:
        try:
            return [IPv4Address(host)]
        except ValueError:
            pass
        try:
            found = await self._outlet.resolve(host)
        except ValueError as error:
            raise RequestRefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
        if not found:
            text = f"no name server of this network knows {host}"
            raise RequestRefusedError(HTTPStatus.BAD_GATEWAY, text)
        return found

    def _check(self, address: IPv4Address) -> None:
        """Raises RequestRefusedError for what is no place of a login page, whatever its name."""
        forbidden = address in self._outlet.forbidden() or any(address in one for one in _NOWHERE)
        if forbidden or self._is_own(address):
            text = f"{address}: this way leads to a network's login page only"
            raise RequestRefusedError(HTTPStatus.FORBIDDEN, text)


def is_own_address(address: IPv4Address) -> bool:
    """Whether the address is one of this host's: then it can be bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((str(address), 0))
        except OSError:
            return False
    return True


class _Alive:
    """Puts the end of an idle connection off."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, idle: asyncio.Timeout, idle_s: float
    ) -> None:
        self._loop, self._idle, self._idle_s = loop, idle, idle_s

    def __call__(self) -> None:
        self._idle.reschedule(self._loop.time() + self._idle_s)


async def _stream(sock: socket.socket) -> Stream:
    reader, writer = await asyncio.open_connection(sock=sock, limit=BUFFER_OCTETS)
    writer.transport.set_write_buffer_limits(high=BUFFER_OCTETS)
    return reader, writer


async def _read_head(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A head and what came behind it. Raises EOFError, RequestRefusedError."""
    octets = b""
    while (end := end_of_head(octets)) is None:
        if len(octets) >= HEAD_OCTETS:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise RequestRefusedError(status, f"a head of more than {HEAD_OCTETS} octets")
        more = await reader.read(HEAD_OCTETS - len(octets))
        if not more:
            raise EOFError
        octets += more
    return octets[:end], octets[end:]


async def _write(writer: asyncio.StreamWriter, octets: bytes) -> None:
    writer.write(octets)
    await writer.drain()


async def _pump(source: Stream, target: Stream, alive: Callable[[], None]) -> None:
    while octets := await source[0].read(BUFFER_OCTETS):
        alive()
        await _write(target[1], octets)
    if target[1].can_write_eof():
        target[1].write_eof()


async def _upload(
    reader: asyncio.StreamReader,
    server: asyncio.StreamWriter,
    octets: bytes,
    left: int,
    alive: Callable[[], None],
) -> None:
    """What the request is long, and nothing after it; returns when the client is gone."""
    while True:
        if left and octets:
            await _write(server, octets[:left])
            left -= min(left, len(octets))
        octets = await reader.read(BUFFER_OCTETS)
        if not octets:
            return
        if left:
            alive()


async def _download(
    server: asyncio.StreamReader, writer: asyncio.StreamWriter, alive: Callable[[], None]
) -> None:
    reply = None
    more = b""
    while reply is None:
        head, more = await _read_reply(server, more)
        alive()
        reply = reply_head(head)
    await _write(writer, reply + more)
    while octets := await server.read(BUFFER_OCTETS):
        alive()
        await _write(writer, octets)


async def _read_reply(server: asyncio.StreamReader, octets: bytes) -> tuple[bytes, bytes]:
    """As :func:`_read_head`, of a server; in the browser's words what is wrong with it."""
    while (end := end_of_head(octets)) is None:
        if len(octets) >= HEAD_OCTETS:
            text = "what answers does not speak HTTP, or says too much"
            raise RequestRefusedError(HTTPStatus.BAD_GATEWAY, text)
        more = await server.read(BUFFER_OCTETS)
        if not more:
            text = "the server closed the connection without an answer"
            raise RequestRefusedError(HTTPStatus.BAD_GATEWAY, text)
        octets += more
    return octets[:end], octets[end:]


async def _all(*work: Awaitable[None]) -> None:
    await _until(asyncio.FIRST_EXCEPTION, work)


async def _first(*work: Awaitable[None]) -> None:
    await _until(asyncio.FIRST_COMPLETED, work)


async def _until(when: str, work: Collection[Awaitable[None]]) -> None:
    """Wait for some of the work, end the rest of it, and raise what it raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    for task in tasks:
        task.add_done_callback(_looked_at)
    try:
        done, _ = await asyncio.wait(tasks, return_when=when)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()


def _looked_at(task: "asyncio.Future[None]") -> None:
    """Of two that fail only one can be raised; the other is no news."""
    if not task.cancelled():
        task.exception()


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_S)


def _end(writer: asyncio.StreamWriter) -> None:
    """Close; what a peer does not read is not kept for it."""
    writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

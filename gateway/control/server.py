"""The core's end of the control socket.

Nothing that a client does delays the core: lines and buffers are bounded, a connection has one
request at a time and a budget of them, whoever stalls is cut off, and answers are written only as
fast as they are read.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.control.actor import NOBODY, Actor, local
from gateway.control.peer import Access, Peer, peer_of
from gateway.control.protocol import (
    MAX_REQUEST_OCTETS,
    OPERATIONS,
    ControlError,
    ErrorCode,
    Operation,
    Request,
    answer,
    check_request,
    dump,
    envelope_of,
    parse_line,
    refusal,
    request_id,
)
from gateway.domain.log import Log, RateLimit

MAX_CONNECTIONS = 64
MAX_CONNECTIONS_PER_UID = 32
"""So that the API process cannot lock the administrator out."""
REQUESTS_PER_SECOND = 500
"""Of one connection; a faster client waits."""
MAX_QUEUED_EVENTS = 256
WRITE_TIMEOUT_S = 5.0
IDLE_TIMEOUT_S = 300.0
SEND_BUFFER_OCTETS = 256 * 1024

Handler = Callable[[Request], Awaitable[object]]
Authenticate = Callable[[str, str], Actor]
"""Who shows this credential (empty: none) from this address. May raise :class:`ControlError`, as
when that address has tried too often."""
EventLine = dict[str, object]


class SocketInUseError(Exception):
    """Another process answers on this path. Its text says so and what to do."""


@dataclass(frozen=True, slots=True)
class _Client:
    """Who connected."""

    actor: Actor
    speaks_for_others: bool


class Subscriber:
    """The bounded queue of one client of ``events``."""

    __slots__ = ("_queue", "_wake", "debug", "dropped")

    def __init__(self, *, debug: bool) -> None:
        self.debug = debug
        self.dropped = False
        self._queue: deque[bytes] = deque()
        self._wake = asyncio.Event()

    def offer(self, line: bytes) -> None:
        """Queue a line; a full queue ends the subscription."""
        if self.dropped:
            return
        if len(self._queue) >= MAX_QUEUED_EVENTS:
            self.dropped = True
            self._queue.clear()
        else:
            self._queue.append(line)
        self._wake.set()

    async def take(self) -> bytes | None:
        """What has queued up, or None when the subscription has ended."""
        await self._wake.wait()
        self._wake.clear()
        if self.dropped:
            return None
        lines = b"".join(self._queue)
        self._queue.clear()
        return lines


def _nobody_knows(credential: str, remote: str) -> Actor:
    del credential
    return replace(NOBODY, remote=remote)


class ControlServer:
    """Listens at ``path`` and hands checked requests to a handler.

    The handler raises :class:`ControlError` for what it refuses. ``group`` owns the socket file;
    ``access`` decides by the credentials of the process that connects, ``authenticate`` by what the
    REST interface was shown. ``operations`` is what it answers.
    """

    def __init__(
        self,
        path: Path,
        *,
        access: Access,
        log: Log,
        group: int | None = None,
        mode: int = 0o660,
        operations: Mapping[str, Operation] = OPERATIONS,
        authenticate: Authenticate = _nobody_knows,
    ) -> None:
        self._path = path
        self.authenticate = authenticate
        self._operations = operations
        self._handle: Handler | None = None
        self._access = access
        self._log = log
        self._group = group
        self._mode = mode
        self._limit = RateLimit()
        self._sock: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None
        self._subscribers: set[Subscriber] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_uid: dict[int, int] = {}
        self.counters = dict.fromkeys(
            ("connections", "connections_refused", "requests", "errors", "subscribers_dropped"), 0
        )

    def bind(self) -> None:
        """Take the path. Raises :class:`SocketInUseError`, or OSError when it is not usable."""
        self._sock = bind_unix(self._path, self._group, self._mode)
        found = self._path.lstat()
        self._inode = (found.st_dev, found.st_ino)

    async def start(self, handle: Handler) -> None:
        """Answer; binds first unless that was done."""
        self._handle = handle
        if self._sock is None:
            self.bind()
        self._server = await asyncio.start_unix_server(
            self._accept, sock=self._sock, limit=MAX_REQUEST_OCTETS
        )

    async def stop(self) -> None:
        """Stop listening, disconnect everybody and remove the socket if it is still ours."""
        if self._server is not None:
            self._server.close()
        elif self._sock is not None:
            self._sock.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._inode is not None:
            with contextlib.suppress(OSError):
                found = self._path.lstat()
                if (found.st_dev, found.st_ino) == self._inode:
                    self._path.unlink()

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody listens to events."""
        return bool(self._subscribers)

    def publish(self, event: EventLine, *, debug: bool = False) -> None:
        """Give an event to every subscriber; never waits."""
        if not self._subscribers:
            return
        line = dump({"event": event})
        for subscriber in self._subscribers:
            if subscriber.debug or not debug:
                subscriber.offer(line)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        peer = None
        try:
            peer, client = self._admit(writer)
            await self._serve(reader, writer, client)
        except ControlError as error:
            writer.write(refusal(None, error))
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # gone, stalled, or we are stopping: nothing is left to tell
        finally:
            if peer is not None:
                self._by_uid[peer.uid] -= 1
                if not self._by_uid[peer.uid]:
                    del self._by_uid[peer.uid]
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    def _admit(self, writer: asyncio.StreamWriter) -> tuple[Peer, _Client]:
        peer = peer_of(writer.get_extra_info("socket"))
        role = self._access.role(peer)
        if role is None:
            self.counters["connections_refused"] += 1
            now = asyncio.get_running_loop().time()
            if self._limit.admit("control_denied", now) is not None:
                self._log.warning("control_denied", text=f"control socket: {peer} is not allowed")
            raise ControlError(
                ErrorCode.DENIED,
                f"uid {peer.uid} may not control this gateway: be root, or be named in [control]",
            )
        mine = self._by_uid.get(peer.uid, 0)
        if sum(self._by_uid.values()) >= MAX_CONNECTIONS or mine >= MAX_CONNECTIONS_PER_UID:
            self.counters["connections_refused"] += 1
            raise ControlError(ErrorCode.BUSY, "too many connections to the control socket")
        self._by_uid[peer.uid] = mine + 1
        self.counters["connections"] += 1
        return peer, _Client(local(peer.uid, role), self._access.speaks_for_others(peer))

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: _Client
    ) -> None:
        writer.transport.set_write_buffer_limits(high=64 * 1024)
        clock = asyncio.get_running_loop().time
        window, used = clock(), 0
        while True:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT_S):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                self.counters["errors"] += 1
                raise ControlError(
                    ErrorCode.INVALID, f"the line is longer than {MAX_REQUEST_OCTETS} octets"
                ) from None
            used += 1
            if used > REQUESTS_PER_SECOND:
                await asyncio.sleep(max(0.0, window + 1.0 - clock()))
            if clock() - window >= 1.0:
                window, used = clock(), 1
            subscriber = await self._answer(line, writer, client)
            if subscriber is not None:
                await self._stream(subscriber, reader, writer)
                return

    async def _answer(
        self, line: bytes, writer: asyncio.StreamWriter, client: _Client
    ) -> Subscriber | None:
        """Answer one request; the subscriber when it was ``events``."""
        self.counters["requests"] += 1
        given: int | str | None = None
        subscriber = None
        try:
            parsed = parse_line(line)
            given = request_id(parsed)
            actor = self._actor(parsed, client)
            request = check_request(parsed, actor, self._operations)
            if request.operation.name == "events":
                subscriber = Subscriber(debug=request.arguments["debug"] is True)
                # From here on: nothing that happens after the answer is missed.
                self._subscribers.add(subscriber)
                reply = answer(given, {"subscribed": True})
            elif self._handle is not None:
                reply = answer(given, await self._handle(request))
            else:
                raise ControlError(ErrorCode.BUSY, "the gateway is not ready yet")
        except ControlError as error:
            self.counters["errors"] += 1
            reply = refusal(given, error)
        except Exception as error:  # noqa: BLE001 - one request's fault must not end the core
            self.counters["errors"] += 1
            self._log.error("control_failed", text=f"control: {type(error).__name__}: {error}")
            reply = refusal(given, ControlError(ErrorCode.INTERNAL, "a fault; the log has more"))
        try:
            await _write(writer, reply)
        except BaseException:
            if subscriber is not None:
                self._subscribers.discard(subscriber)
            raise
        return subscriber

    def _actor(self, parsed: object, client: _Client) -> Actor:
        """Who asks: whoever connected, or the one whose credential it shows."""
        envelope = envelope_of(parsed)
        if envelope.credential is None and envelope.remote is None:
            return client.actor
        if not client.speaks_for_others:
            field = "from" if envelope.credential is None else "as"
            text = f"{field}: only the REST interface asks for others"
            raise ControlError(ErrorCode.DENIED, text, field)
        if envelope.credential is None:
            return replace(client.actor, remote=str(envelope.remote))
        return self.authenticate(envelope.credential, envelope.remote or "local")

    async def _stream(
        self, subscriber: Subscriber, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        gone = asyncio.ensure_future(_until_closed(reader))
        taking: asyncio.Task[bytes | None] | None = None
        try:
            while not gone.done():
                taking = asyncio.ensure_future(subscriber.take())
                await asyncio.wait({gone, taking}, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    return
                lines = taking.result()
                if lines is None:
                    self.counters["subscribers_dropped"] += 1
                    message = f"more than {MAX_QUEUED_EVENTS} events waited: read faster"
                    await _write(writer, dump({"notice": "dropped", "message": message}))
                    return
                await _write(writer, lines)
        finally:
            self._subscribers.discard(subscriber)
            gone.cancel()
            if taking is not None:
                taking.cancel()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    """Return at the end of the stream; what a subscriber still says is thrown away."""
    with contextlib.suppress(OSError):
        while await reader.read(4096):
            pass


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write; raises TimeoutError when the client does not read."""
    writer.write(data)
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await writer.drain()


def bind_unix(path: Path, group: int | None, mode: int = 0o660) -> socket.socket:
    """A bound unix stream socket, in place of one that nobody answers on any more."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            except FileNotFoundError:
                pass
            else:
                raise SocketInUseError(
                    f"another gateway answers on {path}: stop it, or set another [control] socket"
                )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    mask = os.umask(0o177)  # nobody else connects before the owner is set
    try:
        sock.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(mode)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(mask)
    sock.setblocking(False)
    return sock

"""One user's session that has to live through a tour: a shell, a download, a voice call.

Both ends run in a thread of this process, on sockets made in the namespaces of `device` and
`server`: no programs have to be started, and both ends share one clock. The shell is a TCP
connection on which a line travels every 50 ms and comes back; the download is a second one; the
call is 50 datagrams per second each way, numbered, stamped by the kernel as they arrive.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import struct
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Self

from gateway.lab import netns
from gateway.lab.processes import LabError, wait_until
from gateway.lab.topology import Lab

SHELL_PORT, DOWNLOAD_PORT, VOICE_PORT = 2222, 8080, 5004
LINE_S, FRAME_S = 0.05, 0.02
LINE = struct.Struct(">Q8s")
"""Number of the line, and what makes it as long as a few key strokes in SSH."""
FRAME = struct.Struct(">Qd152x")
"""Number of the datagram and the time it was sent; as long as 20 ms of G.711 with its header."""
DOWNLOAD_OCTETS_PER_S = 200_000
CHUNK = bytes(16384)
SO_TIMESTAMPNS = 35
REST_S = 20.0
"""Patience with what was sent already."""
NANOSECONDS = struct.Struct("=qq")


@dataclass(frozen=True, slots=True)
class Window:
    """What the session went through between two moments."""

    gap_ms: float
    """Longest pause of the call, whichever direction had it."""
    lost: int
    """Datagrams of the call sent in it, both ways, that never arrived."""
    sent: int
    shell_gap_ms: float
    """Longest time in which no line came back."""
    download_octets: int


@dataclass(slots=True)
class _Way:
    """One direction of the call."""

    sent_at: list[float] = field(default_factory=list)
    arrived: set[int] = field(default_factory=set)
    arrived_at: list[float] = field(default_factory=list)
    """In the order of arrival."""


def longest_pause_ms(arrivals: list[float], begin: float, end: float) -> float:
    """The longest time between two arrivals of which some part lies in the window.

    Pauses at the window's edges count as far as they are known: back to the arrival before it,
    and up to its end.
    """
    first = bisect_left(arrivals, begin)
    inside = arrivals[first : bisect_left(arrivals, end)]
    times = [arrivals[first - 1] if first else begin, *inside, end]
    return max(later - earlier for earlier, later in itertools.pairwise(times)) * 1000


class LiveSession:
    """The three connections, from `device` to `server`; a context manager.

    `home_address` is what the connections have to come from: LabError when the device's stack
    gives them another source, for such a session cannot move.
    """

    def __init__(self, lab: Lab, server: IPv4Address, home_address: IPv4Address) -> None:
        self._lab, self._server, self._home = lab, str(server), home_address
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._open = True
        self._broken: list[str] = []
        self._up, self._down = _Way(), _Way()
        self._lines_back: list[float] = []
        self._octets: list[tuple[float, int]] = []
        self._received = self._served = 0
        self._paused = self._silent = False
        self._debt = 0.0
        self._line, self._unsent = 0, b""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        try:
            self._connect()
        except BaseException:
            self._close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._thread.join(5)
        self._close()

    # -- what became of it -----------------------------------------------------------------------

    @property
    def broken(self) -> list[str]:
        """Why a connection ended; empty while all live."""
        return list(self._broken)

    def window(self, begin: float, end: float) -> Window:
        """What happened between two moments (`time.time`)."""
        ways = (self._up, self._down)
        sent = lost = 0
        for way in ways:
            first, last = bisect_left(way.sent_at, begin), bisect_left(way.sent_at, end)
            sent += last - first
            lost += sum(number not in way.arrived for number in range(first, last))
        octets = [count for at, count in self._octets if begin <= at < end]
        return Window(
            gap_ms=max(longest_pause_ms(way.arrived_at, begin, end) for way in ways),
            lost=lost,
            sent=sent,
            shell_gap_ms=longest_pause_ms(self._lines_back, begin, end),
            download_octets=sum(octets),
        )

    def goes_on(self, timeout_s: float = 30.0) -> None:
        """Wait until each of the connections has carried something new, both ways.

        Raises LabError when one has ended or stays silent.
        """
        lines, octets = len(self._lines_back), self._received
        up, down = len(self._up.arrived_at), len(self._down.arrived_at)

        def new() -> bool:
            if self._broken:
                raise LabError(f"the session broke: {'; '.join(self._broken)}")
            return (
                len(self._lines_back) > lines + 2
                and (self._paused or self._received > octets)
                and len(self._up.arrived_at) > up + 5
                and len(self._down.arrived_at) > down + 5
            )

        wait_until(new, timeout_s, "the session to go on")

    def pause_download(self, *, paused: bool) -> None:
        """Keep the download silent, so that other large packets can be told from it.

        Waits for what is under way, which may be repeated after a move.
        """
        self._paused = paused
        if paused:
            wait_until(self._is_silent, REST_S, "the rest of the download")

    def _is_silent(self) -> bool:
        return bool(self._broken) or (self._silent and self._received >= self._served)

    # -- inside ----------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._voice_server = self._udp("server", self._server)
        self._voice_client = self._udp("device", str(self._home))
        for sock, way in ((self._voice_server, self._up), (self._voice_client, self._down)):
            self._watch(sock, lambda sock=sock, way=way: self._arrival(sock, way))  # type: ignore[misc]
        self._shell, self._shell_end = self._tcp(SHELL_PORT)
        self._watch(self._shell_end, self._echo)
        self._watch(self._shell, self._line_back)
        self._download, self._download_end = self._tcp(DOWNLOAD_PORT)
        self._watch(self._download, self._more)

    def _made(self, host: str, kind: int) -> socket.socket:
        sock = netns.socket_in(self._lab.namespace(host), socket.AF_INET, kind)
        self._sockets.append(sock)
        return sock

    def _udp(self, host: str, address: str) -> socket.socket:
        sock = self._made(host, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.bind((address, VOICE_PORT))
        return sock

    def _tcp(self, port: int) -> tuple[socket.socket, socket.socket]:
        """A connection: the device's end, and the server's."""
        listener = self._made("server", socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._server, port))
        listener.listen(1)
        listener.settimeout(20)
        client = self._made("device", socket.SOCK_STREAM)
        client.settimeout(20)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            client.connect((self._server, port))
            end, peer = listener.accept()
        except OSError as error:
            raise LabError(f"the session's connection to port {port} fails: {error}") from None
        self._sockets.append(end)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if peer[0] != str(self._home):
            raise LabError(f"the session comes from {peer[0]}, not from {self._home}")
        return client, end

    def _watch(self, sock: socket.socket, act: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, act)

    def _run(self) -> None:
        begun = last = time.monotonic()
        self._download_end.setblocking(False)
        while self._open:
            for key, _ in self._selector.select(0.005):
                self._guarded(key.data, key.fileobj)
            now = time.monotonic()
            elapsed_s = now - begun
            while len(self._up.sent_at) < elapsed_s / FRAME_S:
                self._frame(self._voice_client, (self._server, VOICE_PORT), self._up)
                self._frame(self._voice_server, (str(self._home), VOICE_PORT), self._down)
            if self._line < elapsed_s / LINE_S:
                self._guarded(self._send_line, self._shell)
            self._debt = min(self._debt + (now - last) * DOWNLOAD_OCTETS_PER_S, len(CHUNK))
            last = now
            if not self._paused and self._debt >= 1000:
                self._guarded(self._serve, self._download_end)
            self._silent = self._paused

    def _guarded(self, act: Callable[[], None], watched: object) -> None:
        """Run a step; an error of a connection is its end."""
        try:
            act()
        except BlockingIOError:
            return
        except OSError as error:
            if isinstance(watched, socket.socket) and watched.type == socket.SOCK_STREAM:
                self._ended(watched, str(error))

    def _ended(self, sock: socket.socket, why: str) -> None:
        name = "shell" if sock in (self._shell, self._shell_end) else "download"
        if not any(said.startswith(name) for said in self._broken):
            self._broken.append(f"{name}: {why}")
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def _frame(self, sock: socket.socket, to: tuple[str, int], way: _Way) -> None:
        now = time.time()
        way.sent_at.append(now)
        with contextlib.suppress(OSError):  # no route in the moment of a move: lost, and counted
            sock.sendto(FRAME.pack(len(way.sent_at) - 1, now), to)

    def _arrival(self, sock: socket.socket, way: _Way) -> None:
        data, ancillary, _, _ = sock.recvmsg(2048, 64)
        now = time.time()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                whole, nanos = NANOSECONDS.unpack(value[: NANOSECONDS.size])
                now = whole + nanos / 1e9
        if len(data) == FRAME.size:
            way.arrived.add(FRAME.unpack(data)[0])
            way.arrived_at.append(max(now, way.arrived_at[-1] if way.arrived_at else now))

    def _send_line(self) -> None:
        self._unsent += LINE.pack(self._line, b"lines...")
        self._line += 1
        self._unsent = self._unsent[self._shell.send(self._unsent) :]

    def _echo(self) -> None:
        data = self._shell_end.recv(65536)
        if not data:
            self._ended(self._shell_end, "the device closed it")
            return
        self._shell_end.sendall(data)

    def _line_back(self) -> None:
        if not self._shell.recv(65536):
            self._ended(self._shell, "the server closed it")
            return
        self._lines_back.append(time.time())

    def _serve(self) -> None:
        sent = self._download_end.send(CHUNK[: int(self._debt)])
        self._debt -= sent
        self._served += sent

    def _more(self) -> None:
        data = self._download.recv(1 << 17)
        if not data:
            self._ended(self._download, "the server closed it")
            return
        self._received += len(data)
        self._octets.append((time.time(), len(data)))

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._selector.close()

"""Between the core and the process of names: lines of JSON, and sockets beside them.

Both ends are bounded and never block the event loop.
"""

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

MAX_SOCKETS: Final = 32
"""Two for each of eight addresses, and as many that came meanwhile."""
_CHUNK: Final = 65_536

Heard = Callable[[dict[str, object], list[int]], None]
"""A message, and the descriptors that came with it: the callee's from now on."""


class Channel:
    """One end. A message that is too long, or none, ends it."""

    def __init__(
        self,
        sock: socket.socket,
        heard: Heard,
        ended: Callable[[], None],
        *,
        max_line_octets: int,
        max_waiting_octets: int,
    ) -> None:
        """``sock`` is one of a pair of streams; it becomes the channel's."""
        sock.setblocking(False)
        self._sock = sock
        self._heard = heard
        self._ended = ended
        self._max_line = max_line_octets
        self._max_waiting = max_waiting_octets
        self._loop = asyncio.get_running_loop()
        self._incoming = bytearray()
        self._descriptors: list[int] = []
        self._outgoing: deque[tuple[bytes, list[int]]] = deque()
        self._waiting = 0
        self._open = True
        self._loop.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        """End it; nobody is called any more."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._close_descriptors()
        for _, descriptors in self._outgoing:
            _close_all(descriptors)
        self._outgoing.clear()

    def send(self, message: dict[str, object], sockets: Sequence[int] = ()) -> bool:
        """Send a message, with copies of these descriptors; whether there is room for it."""
        if sockets:
            message = {**message, "sockets": len(sockets)}
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if not self._open or self._waiting + len(line) > self._max_waiting:
            return False
        self._outgoing.append((line, [os.dup(one) for one in sockets]))
        self._waiting += len(line)
        if len(self._outgoing) == 1:
            self._writable()
        return True

    def _writable(self) -> None:
        try:
            while self._outgoing:
                line, descriptors = self._outgoing[0]
                if descriptors:
                    sent = socket.send_fds(self._sock, [line], descriptors)
                else:
                    sent = self._sock.send(line)
                _close_all(descriptors)
                self._waiting -= sent
                if sent < len(line):
                    self._outgoing[0] = (line[sent:], [])
                else:
                    self._outgoing.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._sock.fileno(), self._writable)
        except OSError:
            self._end()
        else:
            self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, _CHUNK, MAX_SOCKETS)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        if not data or len(self._descriptors) > MAX_SOCKETS:
            self._end()
            return
        self._incoming += data
        while self._open and (end := self._incoming.find(b"\n")) >= 0:
            line = bytes(self._incoming[:end])
            del self._incoming[: end + 1]
            self._message(line)
        if len(self._incoming) > self._max_line:
            self._end()

    def _message(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if len(line) > self._max_line or not isinstance(message, dict):
            self._end()
            return
        # The kernel gives descriptors with the octets in front of theirs.
        count = message.get("sockets", 0)
        count = count if isinstance(count, int) and 0 <= count <= MAX_SOCKETS else 0
        descriptors, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        self._heard(message, descriptors)

    def _end(self) -> None:
        if self._open:
            self.close()
            self._ended()

    def _close_descriptors(self) -> None:
        _close_all(self._descriptors)
        self._descriptors = []


def _close_all(descriptors: list[int]) -> None:
    for one in descriptors:
        os.close(one)
    descriptors.clear()

"""The core's connections to one process of the forwarder.

Whoever connects is asked for its user id by the kernel, and nothing that it says ends the process
but :class:`End`. Large commits are carried out a little at a time, packets in between.
"""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gateway.dataplane.portable import messages
from gateway.dataplane.portable.codec import FRAME, MAX_OCTETS, decoded, framed
from gateway.dataplane.portable.legacy import LEAVE
from gateway.dataplane.portable.messages import HELLO, MAGIC, Answer, Request, Welcome, Wrong
from gateway.dataplane.portable.worker.poller import Poller
from gateway.domain.wire import WireError

MAX_CONNECTIONS: Final = 16
SLICE_S: Final = 0.001
"""A commit lets packets pass after so long."""
EVENTS_AT_ONCE: Final = 256
_MAX_UNSENT: Final = 1 << 20
"""Who does not read answers gets no more of them."""
_READ_OCTETS: Final = 256 << 10
_CREDENTIALS = struct.Struct("=iII")

Answers = Callable[[Request], Iterator[Answer | None]]
"""Works on a request; None after each part of the work, an answer at its end, or several."""


class Connection:
    """One of them. Its methods are for the poller."""

    def __init__(self, sock: socket.socket, control: "Control") -> None:
        self.sock = sock
        self._control = control
        self._read = bytearray()
        self._unsent = bytearray()
        self._greeted = False
        self._stranger = False
        """Of another version: it may only ask for what this one leaves."""
        self.work: Iterator[Answer | None] | None = None
        self.watches = False
        self.bound = False
        """Whether the forwarder ends with this connection."""
        self.open = True

    def readable(self) -> None:
        """Take what is there; an end, or octets that are not ours, close the connection."""
        try:
            octets = self.sock.recv(_READ_OCTETS)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        self._read += octets
        if not octets or len(self._read) > MAX_OCTETS + _READ_OCTETS:
            self._control.drop(self)
            return
        self.proceed()

    def proceed(self) -> None:
        """Begin with the next request, if it is whole and the one before is done."""
        if not self._greeted and not self._greet():
            return
        if self._stranger:
            self._leave()
            return
        while (
            self.open
            and self.work is None
            and len(self._unsent) < _MAX_UNSENT
            and len(self._read) >= FRAME.size
        ):
            size = FRAME.unpack_from(self._read)[0]
            if size > MAX_OCTETS:
                self.say(Wrong(f"message of {size} octets"))
                self._control.drop(self)
                return
            if len(self._read) < FRAME.size + size:
                return
            octets = bytes(self._read[FRAME.size : FRAME.size + size])
            del self._read[: FRAME.size + size]
            try:
                request = decoded(Request, octets)
            except WireError as error:
                self.say(Wrong(str(error)))
                continue
            self._begin(request)

    def _greet(self) -> bool:
        if len(self._read) < len(HELLO):
            return False
        theirs = bytes(self._read[: len(HELLO)])
        del self._read[: len(HELLO)]
        self._greeted = True
        self.say_octets(HELLO)
        self._stranger = theirs != HELLO
        if self._stranger and not theirs.startswith(MAGIC):
            self._control.drop(self)
            return False
        if not self._stranger:
            self.say(self._control.welcome)
        return True

    def _leave(self) -> None:
        if len(self._read) < len(LEAVE):
            return
        said = bytes(self._read)
        self._read.clear()
        if said != LEAVE:
            self._control.drop(self)
            return
        octets = self._control.leave()
        self.say_octets(FRAME.pack(len(octets)) + octets)

    def _begin(self, request: Request) -> None:
        if isinstance(request, messages.Watch):
            self._control.watch(self)
        elif isinstance(request, messages.Bound):
            self.bound = True
            self.say(messages.Done())
        elif isinstance(request, messages.End):
            self.say(messages.Done())
            self._control.ending = True
        else:
            self.work = self._control.answers(request)

    def advance(self) -> None:
        """Do the next part of the work."""
        if self.work is None:
            return
        answer = next(self.work)
        if answer is not None:
            if not (isinstance(answer, messages.Held) and answer.more):
                self.work = None
            self.say(answer)
            self.proceed()

    def say(self, answer: Answer) -> None:
        """Send an answer, now or when there is room."""
        self.say_octets(framed(Answer, answer))

    def say_octets(self, octets: bytes) -> None:
        """Send octets, now or when there is room."""
        waiting = bool(self._unsent)
        self._unsent += octets
        if not waiting:
            self.writable()

    def writable(self) -> None:
        """Send what waits."""
        if not self.open:
            return
        try:
            sent = self.sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._control.drop(self)
            return
        del self._unsent[:sent]
        self._control.poller.when_writable(self.sock.fileno(), self._room if self._unsent else None)

    def _room(self) -> None:
        self.writable()
        if self.open:
            self.proceed()

    @property
    def idle(self) -> bool:
        """Whether everything was sent."""
        return not self._unsent


class Control:
    """Listens for cores."""

    def __init__(
        self,
        listener: socket.socket,
        poller: Poller,
        welcome: Welcome,
        answers: Answers,
        leave: Callable[[], bytes],
    ) -> None:
        """``leave`` gives what this process leaves to another version, and ends its work."""
        self.poller = poller
        self.welcome = welcome
        self.answers = answers
        self.leave = leave
        self.ending = False
        self._listener = listener
        self._connections: list[Connection] = []
        poller.add(listener.fileno(), self._accept)

    @property
    def deserted(self) -> bool:
        """Whether no core is there."""
        return not self._connections

    @property
    def busy(self) -> bool:
        """Whether there is work to be done between packets."""
        return any(one.work is not None for one in self._connections)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(credentials)
        if user != os.geteuid() or len(self._connections) >= MAX_CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        made = Connection(sock, self)
        self._connections.append(made)
        self.poller.add(sock.fileno(), made.readable)

    def watch(self, connection: Connection) -> None:
        """Events go to this connection; the core that was there before has been replaced."""
        for other in list(self._connections):
            if other.watches:
                self.drop(other)
        connection.watches = True

    def proceed(self) -> None:
        """Do some of the work that there is."""
        until = time.monotonic() + SLICE_S
        for connection in list(self._connections):
            while connection.work is not None and time.monotonic() < until:
                if not self.poller.guarded(connection.advance):
                    connection.work = None
                    connection.say(Wrong("a fault of ours; its log says more"))
                    connection.proceed()

    def tell(self, take: Callable[[int], messages.Events | None]) -> None:
        """Send events, a bounded number of them, where they are watched for."""
        for connection in self._connections:
            if connection.watches and connection.idle:
                events = take(EVENTS_AT_ONCE)
                if events is not None:
                    connection.say(events)

    def drop(self, connection: Connection) -> None:
        """Close a connection."""
        if connection.open:
            connection.open = False
            connection.work = None
            self._connections.remove(connection)
            self.poller.remove(connection.sock.fileno())
            connection.sock.close()
            self.ending = self.ending or connection.bound

    def close(self) -> None:
        """Close all connections, after what was said last."""
        for connection in list(self._connections):
            self.drop(connection)
        self.poller.remove(self._listener.fileno())
        self._listener.close()


def listening(folder: Path, worker: int) -> socket.socket:
    """The socket of one process in the forwarder's folder. Raises OSError."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By the descriptor: the path may be longer than the address of a Unix socket.
        path = Path(f"/proc/self/fd/{descriptor}") / messages.socket_name(worker)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        made = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            made.bind(str(path))
            path.chmod(0o600)
            made.listen(MAX_CONNECTIONS)
        except OSError:
            made.close()
            raise
        return made
    finally:
        os.close(descriptor)

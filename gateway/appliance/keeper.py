"""Keeps the API process alive, from a small process of its own without privileges.

The API runs as another user. Starting it again later would need CAP_SETUID in the core for good;
instead the core forks this keeper before it has read anything secret, and the keeper becomes that
user once. It has nothing that the API has not: both may be lost without the core noticing.

::

    core --(socket pair)-- keeper --(pipe as stdin)-- python -m gateway.api

The end of the socket pair ends the keeper, the end of the pipe ends the API.
"""

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from gateway.domain.privileges import (
    die_with_parent,
    drop_capabilities,
    no_new_privileges,
    permitted,
)

if TYPE_CHECKING:  # the keeper stays small: it has no use for asyncio
    import asyncio

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
HEALTHY_AFTER_S = 60.0
"""An API that lived this long starts anew without a long pause."""
TERMINATE_S = 3.0
"""How long the API has to end before it is killed."""
MAX_LINE_OCTETS = 64 * 1024

Reports = Callable[[dict[str, object]], None]


class ApiCommand(NamedTuple):
    """How the API is started, and as whom; ``uid`` None keeps the user."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()


class Keeper:
    """The core's end. Made by :func:`fork_keeper`."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self._sock = sock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._report: Reports = lambda _report: None
        self._buffer = b""

    def start(
        self, command: ApiCommand, loop: "asyncio.AbstractEventLoop", report: Reports
    ) -> None:
        """Have the API started; ``report`` hears ``started``, ``ended`` and ``keeper_ended``."""
        self._sock.sendall(json.dumps(command._asdict()).encode() + b"\n")
        self._sock.setblocking(False)
        self._loop, self._report = loop, report
        loop.add_reader(self._sock.fileno(), self._readable)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                data = self._sock.recv(4096)
            except ConnectionError:
                data = b""
            if not data:
                self._detach()
                self._report({"what": "keeper_ended"})
                return
            *lines, self._buffer = (self._buffer + data)[-MAX_LINE_OCTETS:].split(b"\n")
            for line in lines:
                # The keeper is no more trusted than the API.
                with contextlib.suppress(ValueError):
                    report = json.loads(line)
                    if isinstance(report, dict):
                        self._report(report)

    def _detach(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop = None

    def stop(self, timeout_s: float = TERMINATE_S + 1.0) -> None:
        """End the keeper and the API, waiting at most this long."""
        self._detach()
        self._sock.close()
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(ChildProcessError):
            descriptor = os.pidfd_open(self.pid)
            try:
                left_ms = int(max(0.0, deadline - time.monotonic()) * 1000)
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                if not poll.poll(left_ms):
                    with contextlib.suppress(OSError):  # another user's by now
                        os.kill(self.pid, signal.SIGKILL)
            finally:
                os.close(descriptor)
            os.waitpid(self.pid, os.WNOHANG)


def fork_keeper() -> Keeper:
    """Fork the keeper; it waits for its command. Call it early, without threads or secrets."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return Keeper(pid, ours)
    status = 1
    try:
        ours.close()
        _keep(theirs)
        status = 0
    finally:
        os._exit(status)


def _keep(sock: socket.socket) -> None:
    # A terminal's Ctrl-C and the manager's signals are for the core; it closes the socket.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    line = sock.makefile("rb").readline(MAX_LINE_OCTETS)
    if not line.endswith(b"\n"):
        return
    given = json.loads(line)
    command = ApiCommand(**{**given, "argv": tuple(given["argv"])})
    _become(command)
    pause_s = FIRST_PAUSE_S
    while True:
        started = time.monotonic()
        pid, lifeline = _start(command)
        _say(sock, {"what": "started", "pid": pid})
        status = _watch(sock, pid)
        os.close(lifeline)
        if status is None:
            _end(pid)
            return
        if time.monotonic() - started >= HEALTHY_AFTER_S:
            pause_s = FIRST_PAUSE_S
        code = os.waitstatus_to_exitcode(status)
        _say(sock, {"what": "ended", "pid": pid, "status": code, "again_in_s": pause_s})
        if select.select([sock], [], [], pause_s)[0]:
            return
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _become(command: ApiCommand) -> None:
    if command.uid is not None and command.gid is not None:
        os.setgroups(command.groups)
        os.setresgid(command.gid, command.gid, command.gid)
        os.setresuid(command.uid, command.uid, command.uid)
    if permitted():
        drop_capabilities(frozenset())
    no_new_privileges()


def _start(command: ApiCommand) -> tuple[int, int]:
    """Start the API; returns its pid and our end of its lifeline."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _execute(command, reading)
    os.close(reading)
    return pid, writing


def _execute(command: ApiCommand, lifeline: int) -> NoReturn:
    try:
        die_with_parent()
        os.dup2(lifeline, 0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # whatever our caller left open
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.execve(command.argv[0], command.argv, command.environment)  # noqa: S606
    finally:
        os._exit(127)


def _watch(sock: socket.socket, pid: int) -> int | None:
    """Wait for the API's end and return its status, or None when the core wants us to end."""
    descriptor = os.pidfd_open(pid)
    try:
        ready = select.select([sock.fileno(), descriptor], [], [])[0]
    finally:
        os.close(descriptor)
    if sock.fileno() in ready:
        return None
    return os.waitpid(pid, 0)[1]


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    descriptor = os.pidfd_open(pid)
    try:
        if not select.select([descriptor], [], [], TERMINATE_S)[0]:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(descriptor)
    os.waitpid(pid, 0)


def _say(sock: socket.socket, report: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(json.dumps(report).encode() + b"\n")

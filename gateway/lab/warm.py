"""Quick starts of `gateway` in the lab: a process that has imported everything forks each one.

Importing is nearly all of a start in the test kernel (2.5 s), and the lab starts hundreds. What
runs in the fork is the command's own main function with its own arguments; its process id,
session, namespace, environment and output are those that a fresh process would have. Whatever
measures a start, or the memory of a process, must not use this.
"""

from __future__ import annotations

import array
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from gateway.lab import netns
from gateway.lab.processes import LabError

MAX_MESSAGE_OCTETS = 64 * 1024
READY_S = 30.0
_ARGUMENT = "warm"


class Forked:
    """A forked process, as far as the lab uses :class:`subprocess.Popen`."""

    def __init__(self, server: WarmStart, pid: int) -> None:
        self._server = server
        self.pid = pid

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._server.status(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("gateway", timeout or 0.0)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class WarmStart:
    """The process that forks. One for a test run is enough: see :func:`warm_start`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: dict[int, int] = {}
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway.lab.warm", _ARGUMENT, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._ours.settimeout(READY_S)
        self._receive()

    def alive(self) -> bool:
        """Whether it can still fork."""
        return self._process.poll() is None

    def start(
        self, argv: Sequence[str], namespace: str, log: int, env: Mapping[str, str]
    ) -> Forked:
        """Run `gateway ARGV...` in a network namespace, its output to the descriptor `log`."""
        request = {"argv": list(argv), "namespace": namespace, "env": dict(env)}
        descriptor = array.array("i", [log])
        with self._lock:
            self._ours.sendmsg(
                [json.dumps(request).encode()],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)],
            )
            while True:
                answer = self._receive()
                if "pid" in answer:
                    return Forked(self, answer["pid"])
                self._note(answer)

    def status(self, pid: int) -> int | None:
        """The exit status of a process that was forked, None while it runs."""
        with self._lock:
            while select.select([self._ours], [], [], 0)[0]:
                self._note(self._receive())
            return self._ended.get(pid)

    def _note(self, answer: Mapping[str, int]) -> None:
        self._ended[answer["ended"]] = answer["status"]

    def _receive(self) -> dict[str, int]:
        try:
            message = self._ours.recv(MAX_MESSAGE_OCTETS)
        except TimeoutError:
            message = b""
        if not message:
            raise LabError("the process that forks gateways has ended")
        answer: dict[str, int] = json.loads(message)
        return answer


_started: list[WarmStart] = []
_starting = threading.Lock()


def warm_start() -> WarmStart:
    """The one of this process; it ends with it."""
    with _starting:
        if not _started or not _started[0].alive():
            _started[:] = [WarmStart()]
        return _started[0]


# -- the other side --------------------------------------------------------------------------------


IMPORTED = (
    "gateway.cli.run",
    "gateway.appliance.start",
    "gateway.appliance.mobility",
    "gateway.appliance.mobility_service",
    "gateway.dataplane.kernel.mobility.dataplane",
    "gateway.appliance.nar.composition",
    "gateway.appliance.nar.parts",
    "gateway.dataplane.kernel.nar.dataplane",
    "gateway.nar.server.engine",
    "gateway.cli.mn_run",
    "gateway.mobile_host.start",
    "gateway.mobile_host.host",
    "gateway.dataplane.kernel.node.node",
)
"""What `gateway run` loads in every role, and `gateway mn run`."""


def _import_everything() -> None:
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # as the appliance does itself
    for name in IMPORTED:
        importlib.import_module(name)


def _become(request: Mapping[str, Any], log: int) -> NoReturn:
    """In the fork: be what a fresh process would be, and run the command."""
    status = 1
    try:
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.setsid()
        netns.enter(request["namespace"])
        for stream in (1, 2):
            os.dup2(log, stream)
        os.closerange(3, 64)
        os.environ.update(request["env"])
        sys.argv = ["gateway", *request["argv"]]
        from gateway.cli.app import main  # noqa: PLC0415 - with everything else, before

        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - a fresh interpreter would print it and end
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _fork(sock: socket.socket) -> bool:
    """Read one request and carry it out; False when the other side has gone."""
    try:
        message, ancillary, _, _ = sock.recvmsg(MAX_MESSAGE_OCTETS, socket.CMSG_SPACE(4))
    except ConnectionError:  # it went with words of ours unread
        return False
    if not message:
        return False
    log = array.array("i", ancillary[0][2][:4])[0]
    pid = os.fork()
    if not pid:
        sock.close()
        _become(json.loads(message), log)
    os.close(log)
    sock.send(json.dumps({"pid": pid}).encode())
    return True


def _reap(sock: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        sock.send(json.dumps({"ended": pid, "status": code}).encode())


def _serve(sock: socket.socket) -> None:
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    os.set_blocking(readable, False)
    signal.set_wakeup_fd(writable)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _import_everything()
    sock.send(b'{"ready": 1}')
    while True:
        ready, _, _ = select.select([sock.fileno(), readable], [], [])
        if readable in ready:
            os.read(readable, 4096)
            _reap(sock)
        if sock.fileno() in ready and not _fork(sock):
            return


if __name__ == "__main__" and sys.argv[1:2] == [_ARGUMENT]:
    _serve(socket.socket(fileno=int(sys.argv[2])))

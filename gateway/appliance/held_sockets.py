"""The IKE sockets outlive the process: the service manager has them meanwhile, or a holder does.

With them packets of ESP in UDP go on being taken by the kernel, and IKE messages wait in the
sockets' buffers for the next process.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gateway.appliance import socket_holder
from gateway.appliance.systemd import ServiceManager

FILE_NAME: Final = "held.sock"
NAME: Final = "gateway-ike"
"""Of the descriptors in the service manager's store."""
TIMEOUT_S: Final = 2.0
_FIRST: Final = 3
"""The first descriptor that a service manager passes."""


class HeldSockets:
    """Takes what the last process left, and leaves ours to the next. Never raises OSError."""

    def __init__(
        self,
        folder: Path,
        manager: ServiceManager,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._path = folder / FILE_NAME
        self._manager = manager
        self._environment = environment
        self._connection: socket.socket | None = None
        self._stored = False
        """The service manager has some."""

    def take(self) -> list[socket.socket]:
        """The sockets of the last process; those that are of no use are the caller's to close."""
        if self._manager.listens:
            return self._from_manager()
        if not self._connect():
            return []
        return self._ask()

    def _from_manager(self) -> list[socket.socket]:
        given = self._environment
        count, pid = given.get("LISTEN_FDS", ""), given.get("LISTEN_PID", "")
        if not count.isdigit() or pid != str(os.getpid()):
            return []
        names = given.get("LISTEN_FDNAMES", "").split(":")
        found = []
        for place in range(min(int(count), socket_holder.MAX_SOCKETS)):
            if place < len(names) and names[place] == NAME:
                self._stored = True
                with contextlib.suppress(OSError):
                    os.set_inheritable(_FIRST + place, False)
                    found.append(socket.socket(fileno=_FIRST + place))
        return found

    def _connect(self) -> bool:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        made.settimeout(TIMEOUT_S)
        try:
            made.connect(str(self._path))
        except OSError:
            made.close()
            return False
        self._connection = made
        return True

    def _ask(self) -> list[socket.socket]:
        connection = self._connection
        if connection is None:
            return []
        try:
            connection.send(b"take")
            _, descriptors, _, _ = socket.recv_fds(connection, 16, socket_holder.MAX_SOCKETS)
        except OSError:
            self._disconnect()
            return []
        found = []
        for one in descriptors:
            os.set_inheritable(one, False)
            with contextlib.suppress(OSError):
                found.append(socket.socket(fileno=one))
        return found

    def keep(self, sockets: Sequence[socket.socket]) -> bool:
        """Leave these to the next process, however this one ends; whether somebody has them."""
        descriptors = [one.fileno() for one in sockets][: socket_holder.MAX_SOCKETS]
        if self._manager.listens:
            self._stored = True
            self._manager.forget_sockets(NAME)
            return self._manager.keep_sockets(NAME, descriptors)
        try:
            if self._connection is None:
                self._start()
            if self._connection is None:
                return False
            socket.send_fds(self._connection, [b"keep"], descriptors)
        except (OSError, subprocess.SubprocessError):
            self._disconnect()
            return False
        return True

    def _start(self) -> None:
        """Start a holder, which belongs to nobody and connects to nothing."""
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(4)
            subprocess.run(
                [sys.executable, "-I", "-S", str(Path(socket_holder.__file__))],
                stdin=listener.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                check=True,
                timeout=10 * TIMEOUT_S,
            )
        self._connect()

    def end(self) -> None:
        """Nobody needs them any more."""
        if self._stored:
            self._manager.forget_sockets(NAME)
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.send(b"end")
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        self._disconnect()

    def close(self) -> None:
        """Leave them where they are."""
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

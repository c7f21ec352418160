"""What the service manager is told (sd_notify(3)), in the few lines that it takes."""

import os
import socket
import time
from array import array
from collections.abc import Mapping, Sequence


class ServiceManager:
    """Talks to ``NOTIFY_SOCKET``; without one, says nothing to nobody."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_us = environment.get("WATCHDOG_USEC", "")
        pid = environment.get("WATCHDOG_PID", "")
        if pid and pid != str(os.getpid()):
            self._watchdog_us = ""

    @property
    def watchdog_interval_s(self) -> float | None:
        """How often :meth:`alive` is wanted: half of the time that the manager waits."""
        if not self._address or not self._watchdog_us.isdigit():
            return None
        return int(self._watchdog_us) / 2e6 or None

    @property
    def listens(self) -> bool:
        """Whether there is one."""
        return bool(self._address)

    def keep_sockets(self, name: str, descriptors: Sequence[int]) -> bool:
        """Have copies kept for the next start, when they come with the environment."""
        return self._tell("FDSTORE=1", f"FDNAME={name}", descriptors=descriptors)

    def forget_sockets(self, name: str) -> None:
        """Have those of this name closed."""
        self._tell("FDSTOREREMOVE=1", f"FDNAME={name}")

    def _tell(self, *lines: str, descriptors: Sequence[int] = ()) -> bool:
        if not self._address:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                rights = array("i", descriptors)
                control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
                sock.sendmsg(["\n".join(lines).encode()], control, 0, address)
        except OSError:
            return False  # a manager that does not listen is no reason to stop serving
        return True

    def ready(self, status: str) -> None:
        """Started, or done with reloading."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Reading the configuration again."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self, status: str) -> None:
        """On the way out."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """The event loop turns."""
        self._tell("WATCHDOG=1")

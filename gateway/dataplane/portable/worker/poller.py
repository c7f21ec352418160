"""Which sockets have something, and who takes it. Everybody gets a turn before anybody the next."""

import select
import sys
import traceback
from collections.abc import Callable
from typing import Final

Handler = Callable[[], None]

MAX_TOLD: Final = 10
"""Faults of ours that are told with all that is known; a peer may be able to repeat them."""


class Poller:
    """An epoll with a function for each descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Handler] = {}
        self._writers: dict[int, Handler] = {}
        self.faults = 0
        """Handlers that failed. That costs a batch of packets, or one request."""

    def add(self, fd: int, reader: Handler) -> None:
        """Call ``reader`` while there is something to read, or the other end is gone."""
        self._readers[fd] = reader
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Look no more; before the descriptor is closed."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
        self._writers.pop(fd, None)

    def when_writable(self, fd: int, writer: Handler | None) -> None:
        """Call ``writer`` as well while there is room to write; None ends that."""
        if writer is None:
            self._writers.pop(fd, None)
        else:
            self._writers[fd] = writer
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if writer else 0))

    def turn(self, timeout_s: float) -> bool:
        """Wait, at most so long, and call whom it concerns, once each; whether anybody was."""
        ready = self._epoll.poll(timeout_s)
        for fd, mask in ready:
            if mask & select.EPOLLOUT and (writer := self._writers.get(fd)) is not None:
                self.guarded(writer)
            # The call before may have taken it away.
            if mask & ~select.EPOLLOUT and (reader := self._readers.get(fd)) is not None:
                self.guarded(reader)
        return bool(ready)

    def guarded(self, handler: Handler) -> bool:
        """Call it; whether it went well. A fault of ours must not stop all the other packets."""
        try:
            handler()
        except Exception:  # noqa: BLE001 - the one place that keeps everybody's packets flowing
            self.faults += 1
            if self.faults <= MAX_TOLD:
                traceback.print_exc(file=sys.stderr)
            return False
        return True

    def close(self) -> None:
        """Close the epoll; what it looked at stays open."""
        self._epoll.close()

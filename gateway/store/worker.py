"""One thread that does what waits, in order: the event loop never waits for a disk."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from gateway.store.errors import BusyError, UnavailableError

MAX_WAITING: Final = 1000
"""Pieces of work that may wait; more are refused at once."""

T = TypeVar("T")


class Worker:
    """Give it work from any thread."""

    def __init__(self, name: str) -> None:
        self._waiting: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], *, bounded: bool = True) -> "Future[T]":
        """Do it soon. Raises :class:`BusyError`, and :class:`UnavailableError` after the end."""
        future: Future[T] = Future()
        with self._changed:
            if self._ending:
                raise UnavailableError("the database is closed")
            if bounded and len(self._waiting) >= MAX_WAITING:
                raise BusyError(
                    f"{MAX_WAITING} requests wait for the database already; try again later"
                )
            self._waiting.append((work, future))  # type: ignore[arg-type]
            self._changed.notify()
        return future

    def __len__(self) -> int:
        return len(self._waiting)

    def close(self, timeout_s: float) -> bool:
        """Do what waits, then end; whether that took less than ``timeout_s``."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._ending:
                        return
                    self._changed.wait()
                work, future = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is whoever waits that gets it
                future.set_exception(error)
            else:
                future.set_result(result)
            # What was done may hold much; it must not stay until there is something else to do.
            del work, future

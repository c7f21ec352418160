"""Names of targets, looked up in a few threads with a deadline.

The C library's resolver knows what the administrator configured (resolv.conf, nsswitch), but may
take half a minute for a name whose servers are silent. Its threads are daemons, so that such a
lookup never delays the end of the process, and what waits for them is bounded.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from queue import SimpleQueue
from typing import Final

from gateway.domain.endpoint import IpAddress

THREADS: Final = 4
MAX_WAITING: Final = 256
"""Names that are looked up or wait for it."""
DEADLINE_S: Final = 8.0
MAX_ADDRESSES: Final = 16
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")

Answered = Callable[[Sequence[IpAddress]], None]
LookUp = Callable[[str, bool], Sequence[IpAddress]]


def look_up(name: str, ipv6: bool) -> list[IpAddress]:
    """Ask the C library, which waits; raises OSError or UnicodeError."""
    family = socket.AF_UNSPEC if ipv6 else socket.AF_INET
    found = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    unique = dict.fromkeys(str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found)
    return [ip_address(one) for one in unique][:MAX_ADDRESSES]


class NameResolver:
    """Looks names up. Every question is answered exactly once, within the deadline."""

    def __init__(
        self, *, look_up: LookUp = look_up, threads: int = THREADS, deadline_s: float = DEADLINE_S
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._look_up = look_up
        self._threads_wanted = threads
        self._deadline_s = deadline_s
        self._threads: list[threading.Thread] = []
        self._questions: SimpleQueue[tuple[str, bool] | None] = SimpleQueue()
        self._waiting: dict[tuple[str, bool], list[Answered]] = {}
        self._busy: set[tuple[str, bool]] = set()
        """In the queue or in a thread, also when their deadline is over."""
        self.counters = dict.fromkeys(("lookups", "not_found", "timeouts", "refused"), 0)

    def ask(self, name: str, ipv6: bool, answered: Answered) -> None:
        """``answered`` gets the addresses, never within this call; none: not found, or too late."""
        key = (name.rstrip(".").lower(), ipv6)
        if not _NAME.fullmatch(key[0]):
            self.counters["refused"] += 1
            self._loop.call_soon(answered, ())
            return
        if (others := self._waiting.get(key)) is not None:
            others.append(answered)
            return
        if key not in self._busy:
            if len(self._busy) >= MAX_WAITING:
                self.counters["refused"] += 1
                self._loop.call_soon(answered, ())
                return
            self._busy.add(key)
            self._questions.put(key)
            self._grow()
        self.counters["lookups"] += 1
        self._waiting[key] = [answered]
        self._loop.call_later(self._deadline_s, self._late, key, self._waiting[key])

    def _grow(self) -> None:
        if len(self._threads) < min(self._threads_wanted, len(self._busy)):
            thread = threading.Thread(target=self._work, name="resolver", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (key := self._questions.get()) is not None:
            try:
                found = self._look_up(*key)
            except (OSError, UnicodeError, ValueError):
                found = ()
            try:
                self._loop.call_soon_threadsafe(self._found, key, found)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _found(self, key: tuple[str, bool], found: Sequence[IpAddress]) -> None:
        self._busy.discard(key)
        if not found:
            self.counters["not_found"] += 1
        for answered in self._waiting.pop(key, ()):
            answered(found)

    def _late(self, key: tuple[str, bool], waiting: list[Answered]) -> None:
        if self._waiting.get(key) is not waiting:
            return  # answered in time
        del self._waiting[key]
        self.counters["timeouts"] += 1
        for answered in waiting:
            answered(())

    def stop(self) -> None:
        """Answer nothing more."""
        self._waiting.clear()
        for _ in self._threads:
            self._questions.put(None)

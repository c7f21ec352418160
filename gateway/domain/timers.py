"""Timers without a clock: engines schedule by key, adapters ask when to come back."""

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """At most one deadline per key, in seconds of the caller's own clock.

    Setting, cancelling and popping cost O(log n); stale heap entries are dropped lazily and
    swept when they outnumber the live ones, so memory stays proportional to live timers.
    """

    __slots__ = ("_deadline", "_heap", "_serial")

    def __init__(self) -> None:
        self._deadline: dict[K, tuple[float, int, K]] = {}
        """The entry of the heap that counts, of each key."""
        self._heap: list[tuple[float, int, K]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._deadline)

    def __contains__(self, key: K) -> bool:
        return key in self._deadline

    def set(self, key: K, at: float) -> None:
        """Schedule ``key`` at ``at``, replacing an earlier deadline of the same key."""
        self._serial += 1
        entry = self._deadline[key] = (at, self._serial, key)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._deadline):
            self._heap = list(self._deadline.values())
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Forget ``key``; unknown keys are fine."""
        self._deadline.pop(key, None)

    def deadline(self, key: K) -> float | None:
        """When ``key`` is due, or None."""
        found = self._deadline.get(key)
        return None if found is None else found[0]

    def _drop_stale(self) -> None:
        heap = self._heap
        while heap and self._deadline.get(heap[0][2]) is not heap[0]:
            heapq.heappop(heap)

    def next_at(self) -> float | None:
        """The earliest deadline, or None."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[K]:
        """Remove and yield every key whose deadline is not after ``now``, earliest first.

        A key that is set again to a time not after ``now`` while iterating is yielded again
        only on the next call, so a zero interval cannot loop for ever.
        """
        last = self._serial
        late: list[tuple[K, float]] = []
        while True:
            self._drop_stale()
            if not self._heap or self._heap[0][0] > now:
                break
            at, serial, key = heapq.heappop(self._heap)
            del self._deadline[key]
            if serial > last:
                late.append((key, at))
                continue
            yield key
        for key, at in late:
            self.set(key, at)

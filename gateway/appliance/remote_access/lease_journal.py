"""Who had which inner address when, on its way to the store: in batches, nobody waits for it.

What the store does not take is tried again; beyond a bound the oldest is lost, and counted.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.domain.event import Event, Severity

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.store.database import Store
    from gateway.store.lease_history import LeaseRow

WRITE_S: Final = 0.5
RETRY_S: Final = 10.0
BATCH: Final = 1000
MAX_WAITING: Final = 50_000
MAX_LEFT: Final = 65_536
"""Leases of an earlier process that are looked at."""

T = TypeVar("T")
Work = Callable[["Connection"], T]
Found = tuple[dict[tuple[str, str], float], "list[LeaseRow]"]
"""Since when leases are held, by session and address; and those that ended, the oldest first."""


class LeaseJournal:
    """:meth:`begin` after a start, :meth:`note` what happens, :meth:`stop` writes the rest."""

    def __init__(self, store: "Store | None", emit: Callable[[Event], None]) -> None:
        self._store = store
        self._emit = emit
        self._waiting: deque[LeaseRow] = deque()
        self._released: deque[tuple[str, str]] = deque(maxlen=MAX_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._failing = False
        self.counters = dict.fromkeys(("written", "failures", "lost"), 0)

    @property
    def possible(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    def note(self, row: "LeaseRow") -> None:
        """A lease begins, or ends."""
        if self._store is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.counters["lost"] += 1
        self._waiting.append(row)
        self._wake.set()

    def released(self, pool: str, address: str) -> None:
        """An address is kept for nobody any more."""
        if self._store is not None:
            self._released.append((pool, address))
            self._wake.set()

    async def begin(
        self, held: Collection[tuple[str, str]], now: float, since: float
    ) -> "Found | None":
        """End what did not outlast a restart, and begin to write; what there was, or None.

        ``held``: session and address of what is leased. ``since``: ended leases since then count.
        """

        def work(connection: "Connection") -> "Found":
            from gateway.store.lease_history import LeaseHistoryRepository  # noqa: PLC0415

            repository = LeaseHistoryRepository(connection)
            repository.settle(held, now)
            return repository.open_since(), list(repository.left_since(since, MAX_LEFT))

        found = await self._run(work)
        self._task = asyncio.get_running_loop().create_task(self._write_on())
        return found

    async def ask(self, work: Work[T]) -> T:
        """Everything up to now included. Raises :class:`gateway.store.errors.StoreError`."""
        if self._store is None:
            from gateway.store.errors import UnavailableError  # noqa: PLC0415

            raise UnavailableError("this gateway runs without a store")
        await self._write()
        return await self._store.run(work)

    async def stop(self) -> None:
        """Write what waits, once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._write()

    async def _write_on(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._write():
                self._wake.set()
            await asyncio.sleep(RETRY_S if self._failing else WRITE_S)

    async def _write(self) -> bool:
        """All that waits; False when the store did not take it."""
        async with self._turn:
            while self._waiting or self._released:
                rows = tuple(islice(self._waiting, BATCH))
                # After their leases' ends, which are before them in every batch.
                released = () if len(rows) < len(self._waiting) else tuple(self._released)
                lost_before = self.counters["lost"]
                if await self._run(lambda c, r=rows, s=released: _write(c, r, s)) is None:  # type: ignore[misc]
                    return False
                for _ in range(len(rows) - (self.counters["lost"] - lost_before)):
                    self._waiting.popleft()
                for _ in released:
                    self._released.popleft()
                self.counters["written"] += len(rows)
        return True

    async def _run(self, work: Work[T]) -> T | None:
        if self._store is None:
            return None
        try:
            result = await self._store.run(work, durable=False)
        except Exception as error:  # noqa: BLE001 - whatever the database raises; tried again
            self.counters["failures"] += 1
            if not self._failing:
                self._failing = True
                why = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
                text = f"who has which inner address cannot be written, it is tried again: {why}"
                self._emit(Event("lease_history_unwritten", text, Severity.WARNING))
            return None
        self._failing = False
        return result


def _write(
    connection: "Connection", rows: "tuple[LeaseRow, ...]", released: tuple[tuple[str, str], ...]
) -> bool:
    from gateway.store.lease_history import LeaseHistoryRepository  # noqa: PLC0415

    repository = LeaseHistoryRepository(connection)
    repository.write(rows)
    for pool, address in released:
        repository.release(pool, address)
    return True

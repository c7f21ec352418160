"""Takes what devices used and what happened to them, and writes it to the store in batches.

Nothing here waits for the store. What it does not take is tried again; beyond a bound the oldest
is lost, and counted.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from gateway.appliance.observation.rings import Counts
from gateway.domain.event import Event, Severity

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.store.history import HistoryEntry
    from gateway.store.usage import Usage

FLUSH_S: Final = 1.0
USAGE_AGE_S: Final = 30.0
"""How long the use of a device is summed up before it is written."""
BATCH: Final = 500
"""Rows of a kind in one transaction: none holds the store up for long."""
MAX_ENTRIES: Final = 10_000
TRIM_S: Final = 3600.0
RETRY_S: Final = 10.0
DAY_S: Final = 86_400


class StoreSide(Protocol):
    """What is needed of the store."""

    def run(self, work: "Callable[[Connection], object]") -> Awaitable[object]:
        """Do it in one transaction, in the store's thread."""


class Chronicle:
    """Usage and history on their way to the store."""

    def __init__(
        self,
        store: Callable[[], StoreSide],
        emit: Callable[[Event], None],
        *,
        wall_clock: Callable[[], float],
        clock: Callable[[], float],
        history_s: float,
    ) -> None:
        """``store`` may raise; ``history_s`` is how long history and usage are kept."""
        self._store = store
        self._emit = emit
        self._wall_clock = wall_clock
        self._clock = clock
        self.history_s = history_s
        self._usage: OrderedDict[tuple[str, int], list[float]] = OrderedDict()
        """By identity and day: counts, seconds, handovers, and since when it waits."""
        self._entries: deque[HistoryEntry] = deque()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._trim_at = clock() + 60.0
        self.counters = {"written": 0, "failures": 0, "lost": 0}

    # -- in ----------------------------------------------------------------------------------

    def used(self, identity: str, counts: Counts, connected_s: float, handovers: int = 0) -> None:
        """Add to today's use of a device."""
        key = (identity[:253], int(self._wall_clock() // DAY_S))
        known = self._usage.get(key)
        if known is None:
            if len(self._usage) >= 2 * MAX_ENTRIES:
                self._usage.popitem(last=False)
                self.counters["lost"] += 1
            known = self._usage[key] = [0, 0, 0, 0, 0.0, 0, self._clock()]
        for place, more in enumerate((*counts, connected_s, handovers)):
            known[place] += more

    def happened(
        self, identity: str, session: str, what: str, text: str, fields: dict[str, object]
    ) -> None:
        """Note what happened to a device."""
        from gateway.store.history import HistoryEntry  # noqa: PLC0415 - the store is loaded by now

        if len(self._entries) >= MAX_ENTRIES:
            self._entries.popleft()
            self.counters["lost"] += 1
        entry = HistoryEntry(
            self._wall_clock(), identity[:253], session[:63], what, text[:4000], fields
        )
        self._entries.append(entry)

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return len(self._entries) + len(self._usage)

    # -- out ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Write from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write what there is, once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self.waiting and await self._write(everything=True):
            pass

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            if not await self._write():
                await asyncio.sleep(RETRY_S)
            await self._trim()

    async def _write(self, *, everything: bool = False) -> bool:
        """Write a batch; False when the store did not take it."""
        entries = [self._entries.popleft() for _ in range(min(BATCH, len(self._entries)))]
        usage = self._due_usage(everything=everything)
        if not entries and not usage:
            return True
        rows = [_row(key, sums) for key, sums in usage]
        if await self._run_in_store(lambda connection: _add(connection, entries, rows)):
            self.counters["written"] += len(entries) + len(rows)
            return True
        self._entries.extendleft(reversed(entries))
        for key, sums in usage:
            self._put_back(key, sums)
        return False

    def _due_usage(self, *, everything: bool) -> list[tuple[tuple[str, int], list[float]]]:
        due: list[tuple[tuple[str, int], list[float]]] = []
        now = self._clock()
        while self._usage and len(due) < BATCH:
            key = next(iter(self._usage))
            if not everything and now - self._usage[key][6] < USAGE_AGE_S:
                break
            due.append((key, self._usage.pop(key)))
        return due

    def _put_back(self, key: tuple[str, int], sums: list[float]) -> None:
        newer = self._usage.pop(key, None)
        if newer is not None:
            sums = [one + other for one, other in zip(sums[:6], newer[:6], strict=True)] + sums[6:]
        self._usage[key] = sums
        self._usage.move_to_end(key, last=False)

    async def _trim(self) -> None:
        """Remove what is too old, some at a time."""
        if self._clock() < self._trim_at:
            return
        self._trim_at = self._clock() + TRIM_S
        before = self._wall_clock() - self.history_s

        def work(connection: "Connection") -> None:
            from gateway.store.history import HistoryRepository  # noqa: PLC0415
            from gateway.store.usage import UsageRepository  # noqa: PLC0415

            if HistoryRepository(connection).trim(before):
                self._trim_at = 0.0
            UsageRepository(connection).delete_before(int(before // DAY_S))

        await self._run_in_store(work)

    async def _run_in_store(self, work: "Callable[[Connection], None]") -> bool:
        try:
            await self._store().run(work)
        except Exception as error:  # noqa: BLE001 - whatever the database raises; tried again
            self.counters["failures"] += 1
            if not self._failing:
                self._failing = True
                why = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
                text = f"what devices did cannot be written to the store, it is tried again: {why}"
                self._emit(Event("history_unwritten", text, Severity.WARNING, {"error": why}))
            return False
        if self._failing:
            self._failing = False
            self._emit(Event("history_written", "what devices did is written to the store again"))
        return True


def _row(key: tuple[str, int], sums: Sequence[float]) -> "Usage":
    from gateway.store.usage import Usage  # noqa: PLC0415

    return Usage(
        key[0],
        key[1],
        int(sums[0]),
        int(sums[1]),
        int(sums[2]),
        int(sums[3]),
        round(sums[4], 3),
        int(sums[5]),
    )


def _add(
    connection: "Connection", entries: "Sequence[HistoryEntry]", rows: "Sequence[Usage]"
) -> None:
    from gateway.store.history import HistoryRepository  # noqa: PLC0415
    from gateway.store.usage import UsageRepository  # noqa: PLC0415

    HistoryRepository(connection).append(entries)
    UsageRepository(connection).add(rows)

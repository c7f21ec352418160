"""What NAR servers write down: sessions for the next process, and who held what when.

Sessions go to the session records at once, the audit to the database in batches: a slow disk delays
no lease. A full or broken disk is reported once, and the servers go on; what was not written is
tried again, within a bound.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection

from gateway.appliance.earlier_files import (
    EarlierFile,
    UnreadableError,
    nar_leases,
    take_nar_sessions,
)
from gateway.appliance.session_takeover import TakenOver
from gateway.domain.event import Event, Severity
from gateway.domain.nar import NarTuple
from gateway.nar.outputs import LeaseClosed, LeaseOpened
from gateway.store.errors import StoreError
from gateway.store.nar_leases import (
    TRIM_ROWS,
    AuditQuery,
    AuditRow,
    Bounds,
    LeaseChange,
    NarLeaseRepository,
)

WRITE_INTERVAL_S: Final = 0.2
RETRY_S: Final = 5.0
TRIM_INTERVAL_S: Final = 60.0
MAX_WAITING: Final = 100_000
"""Records of the audit that wait for a broken disk; the oldest are lost beyond."""
BATCH: Final = 5000
_PREFIX: Final = "nar:"

AuditRecord = LeaseOpened | LeaseClosed
T = TypeVar("T")


class NarStore:
    """:meth:`open` gives what an earlier process left, :meth:`start` begins to write."""

    def __init__(
        self,
        taken: TakenOver,
        folder: Path,
        emit: Callable[[Event], None],
        bounds: Bounds,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``folder`` may have a file of an earlier version."""
        self._taken = taken
        self._database = taken.database
        self._folder = folder
        self._emit = emit
        self.bounds = bounds
        self._wall_clock = wall_clock
        self._earlier: EarlierFile | None = None
        self._audit: deque[LeaseChange] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._turn = asyncio.Lock()
        self._broken = False
        self._trimmed_at = float("-inf")
        self._settle: Callable[[Connection], object] | None = None
        """What is to be done before anything else is written."""
        self.counters = dict.fromkeys(("written", "failures", "restored", "lost", "trimmed"), 0)

    def open(self) -> dict[str, list[bytes]]:
        """The sessions of every server."""
        self._earlier = take_nar_sessions(self._folder, self._taken, self._emit)
        found = {
            kind.removeprefix(_PREFIX): list(self._taken.of(kind).values())
            for kind in self._taken.kinds(_PREFIX)
        }
        self.counters["restored"] = sum(map(len, found.values()))
        return {server: records for server, records in found.items() if records}

    def start(
        self, held: Iterable[NarTuple], servers: Sequence[str], waiting: Sequence[str] = ()
    ) -> None:
        """Write from now on; sessions of other servers than these are forgotten.

        ``held`` is what is leased after the restart, before anybody else asks for anything. Those
        of ``servers`` that are ``waiting`` for an address take their leases up later.
        """
        for kind in self._taken.kinds(_PREFIX):
            if kind.removeprefix(_PREFIX) not in servers:
                for key in self._taken.of(kind):
                    self._taken.records.forget(kind, key)
        still, now, waiting = tuple(held), self._wall_clock(), tuple(waiting)
        self._settle = lambda c: NarLeaseRepository(c).settle(still, now, waiting)
        self._wake.set()
        self._writer = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write what waits, then no more."""
        self._ending.set()
        self._wake.set()
        if self._writer is not None:
            await self._writer
            self._writer = None
        await self._write()

    def keep(self, server: str, key: str, record: bytes) -> None:
        """Remember a session; of several records of one key the last one counts."""
        self._taken.records.keep(f"{_PREFIX}{server}", key, record)

    def forget(self, server: str, key: str) -> None:
        """Remove it."""
        self._taken.records.forget(f"{_PREFIX}{server}", key)

    def note(self, record: AuditRecord) -> None:
        """Write a lease's begin or end down soon."""
        if len(self._audit) >= MAX_WAITING:
            self._audit.popleft()
            self.counters["lost"] += 1
        reason = record.reason if isinstance(record, LeaseClosed) else ""
        begins = isinstance(record, LeaseOpened)
        self._audit.append(
            LeaseChange(begins, record.server, record.user, record.mapping, record.wall_s, reason)
        )
        self._wake.set()

    async def find(self, query: AuditQuery) -> list[AuditRow]:
        """The newest leases that fit, everything up to now included. Raises OSError."""
        return await self._read(lambda c: NarLeaseRepository(c).find(query))

    async def count(self, query: AuditQuery) -> int:
        """How many leases fit. Raises OSError."""
        return await self._read(lambda c: NarLeaseRepository(c).count(query))

    async def _read(self, question: Callable[[Connection], T]) -> T:
        await self._write()
        if self._database is None:
            raise OSError("there is no store: the audit is not written down")
        try:
            return await self._database.run(question)
        except StoreError as error:
            raise OSError(f"the audit cannot be read: {error}") from error

    # -- the database ----------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRIM_INTERVAL_S):
                    await self._wake.wait()
            await self._write()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._broken else WRITE_INTERVAL_S):
                    await self._ending.wait()
            await self._trim()

    async def _write(self) -> None:
        async with self._turn:
            self._wake.clear()
            if self._database is None:
                self._audit.clear()
                return
            if not await self._take_earlier() or not await self._settled():
                return
            while self._audit:
                if not await self._write_batch():
                    return

    async def _take_earlier(self) -> bool:
        """The audit of an earlier version, before anything else; whether nothing is left of it."""
        earlier = self._earlier
        if earlier is None or self._database is None:
            return True

        def work(connection: Connection) -> None:
            repository = NarLeaseRepository(connection)
            for rows in nar_leases(earlier):
                repository.copy(rows)

        try:
            await self._database.run(work)
        except StoreError as error:
            self._failed(error)
            return False
        except UnreadableError as error:
            earlier.unreadable(error, "who held what before is not known any more")
        else:
            earlier.done()
        self._earlier = None
        return True

    async def _settled(self) -> bool:
        if self._settle is not None and self._database is not None:
            try:
                await self._database.run(self._settle)
            except StoreError as error:
                self._failed(error)
                return False
            self._settle = None
        return True

    async def _write_batch(self) -> bool:
        """Whether it worked."""
        if self._database is None:
            return False
        some = tuple(islice(self._audit, BATCH))
        lost_before = self.counters["lost"]
        try:
            await self._database.run(lambda c: NarLeaseRepository(c).write(some), durable=False)
        except StoreError as error:
            self._failed(error)
            return False
        # What was pushed out meanwhile is not there any more.
        for _ in range(len(some) - (self.counters["lost"] - lost_before)):
            self._audit.popleft()
        self._broken = False
        self.counters["written"] += len(some)
        return True

    def _failed(self, error: StoreError) -> None:
        self.counters["failures"] += 1
        self._wake.set()
        if not self._broken:
            self._broken = True
            text = (
                f"the NAR servers' audit cannot be written ({error}): the servers go on, and it is"
                " tried again; free space or mend the disk"
            )
            self._emit(Event("nar_unwritten", text, Severity.WARNING))

    async def _trim(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._trimmed_at < TRIM_INTERVAL_S or self._broken or self._database is None:
            return
        bounds, now_s = self.bounds, self._wall_clock()
        try:
            gone = await self._database.run(
                lambda c: NarLeaseRepository(c).trim(bounds, now_s), durable=False
            )
        except StoreError as error:
            self._failed(error)
            return
        self.counters["trimmed"] += gone
        if gone < TRIM_ROWS:
            self._trimmed_at = now
        else:
            self._wake.set()

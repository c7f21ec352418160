"""Writes sessions and the audit in batches, in a thread: a slow disk delays no lease.

A full or broken disk is reported once, and the servers go on; what could not be written is tried
again, within a bound.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from gateway.appliance.nar.ledger import (
    FILE_NAME,
    TRIM_ROWS,
    AuditQuery,
    AuditRecord,
    AuditRow,
    Bounds,
    Ledger,
    SessionChanges,
)
from gateway.domain.event import Event, Severity
from gateway.domain.nar import NarTuple

WRITE_INTERVAL_S: Final = 0.2
RETRY_S: Final = 5.0
TRIM_INTERVAL_S: Final = 60.0
MAX_WAITING: Final = 100_000
"""Records of the audit that wait for a broken disk; the oldest are lost beyond."""
BATCH: Final = 10_000
_FAILURES = (sqlite3.Error, OSError)

T = TypeVar("T")


class NarStore:
    """:meth:`open` reads what an earlier process left, :meth:`start` begins to write."""

    def __init__(
        self,
        folder: Path,
        emit: Callable[[Event], None],
        bounds: Bounds,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = folder / FILE_NAME
        self._emit = emit
        self.bounds = bounds
        self._wall_clock = wall_clock
        self._ledger: Ledger | None = None
        self._sessions: SessionChanges = {}
        self._writing: SessionChanges = {}
        """What a thread is writing now."""
        self._on_disk: set[int] = set()
        """Hashes of the keys that are in the file: what was never written needs no removal, so a
        broken disk does not make :attr:`_sessions` grow with every lease that came and went."""
        self._audit: deque[AuditRecord] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._broken = False
        self._trimmed_at = float("-inf")
        self.counters = dict.fromkeys(("written", "failures", "restored", "lost", "trimmed"), 0)

    def open(self) -> dict[str, list[bytes]]:
        """The sessions of every server. A file that cannot be read is set aside, never deleted."""
        try:
            ledger = self._opened()
            found = ledger.sessions()
            self._on_disk = set(map(hash, ledger.session_keys()))
        except _FAILURES as error:
            self._set_aside(error)
            found = {}
            self._on_disk = set()
        self.counters["restored"] = sum(map(len, found.values()))
        return found

    def start(
        self, held: Iterable[NarTuple], servers: Sequence[str], waiting: Sequence[str] = ()
    ) -> None:
        """Write from now on; sessions of other servers than these are forgotten.

        ``held`` is what is leased after the restart, before anybody else asks for anything. Those
        of ``servers`` that are ``waiting`` for an address take their leases up later.

        Waits for the disk, as :meth:`open` does.
        """
        try:
            self._opened().settle(held, servers, self._wall_clock(), waiting)
        except _FAILURES as error:
            self._failed(error)
        self._writer = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write what waits, then no more."""
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
            self._writer = None
        await self._write()
        self._close()

    def keep(self, server: str, key: str, record: bytes) -> None:
        """Write soon; of several records of one key the last one counts."""
        self._sessions[server, key] = record
        self._wake.set()

    def forget(self, server: str, key: str) -> None:
        """Remove soon."""
        name = (server, key)
        if hash(name) in self._on_disk or name in self._writing:
            self._sessions[name] = None
            self._wake.set()
        else:
            self._sessions.pop(name, None)

    def note(self, record: AuditRecord) -> None:
        """Write a lease's begin or end down soon."""
        if len(self._audit) >= MAX_WAITING:
            self._audit.popleft()
            self.counters["lost"] += 1
        self._audit.append(record)
        self._wake.set()

    async def find(self, query: AuditQuery) -> list[AuditRow]:
        """The newest leases that fit, everything up to now included. Raises OSError."""
        return await self._read(lambda ledger: ledger.find(query))

    async def count(self, query: AuditQuery) -> int:
        """How many leases fit. Raises OSError."""
        return await self._read(lambda ledger: ledger.count(query))

    async def _read(self, question: Callable[[Ledger], T]) -> T:
        await self._write()
        async with self._turn:
            done, cancelled = await _in_thread(lambda: question(self._opened()))
        if cancelled:
            raise asyncio.CancelledError
        error = done.exception()
        if isinstance(error, sqlite3.Error):
            raise OSError(f"the audit in {self._file} cannot be read: {error}") from error
        return done.result()

    # -- the file --------------------------------------------------------------------------

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger(self._file)
        return self._ledger

    def _close(self) -> None:
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            with contextlib.suppress(*_FAILURES):
                ledger.close()

    def _set_aside(self, error: Exception) -> None:
        self._close()
        aside = self._file.with_suffix(".unreadable")
        with contextlib.suppress(OSError):
            self._file.replace(aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._file.with_name(self._file.name + suffix).unlink()
        text = (
            f"the NAR sessions of the last run cannot be read ({error}): clients have to ask for"
            f" their leases again; the file is kept as {aside}"
        )
        self._emit(Event("nar_sessions_unreadable", text, Severity.WARNING, {"file": str(aside)}))

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRIM_INTERVAL_S):
                    await self._wake.wait()
            await self._write()
            await asyncio.sleep(RETRY_S if self._broken else WRITE_INTERVAL_S)
            await self._trim()

    async def _write(self) -> None:
        async with self._turn:
            self._wake.clear()
            while self._sessions or self._audit:
                if not await self._write_batch():
                    return

    async def _write_batch(self) -> bool:
        """Whether it worked."""
        sessions, self._sessions = self._sessions, {}
        self._writing = sessions
        audit = list(islice(self._audit, BATCH))
        lost_before = self.counters["lost"]
        done, cancelled = await _in_thread(lambda: self._opened().write(sessions, audit))
        self._writing = {}
        error = done.exception()
        if error is not None:
            # What is to be removed and never was there is nothing any more.
            self._sessions = {
                name: record
                for name, record in {**sessions, **self._sessions}.items()
                if record is not None or hash(name) in self._on_disk
            }
            self._failed(error)
            if cancelled:
                raise asyncio.CancelledError
            return False
        for name, record in sessions.items():
            (self._on_disk.discard if record is None else self._on_disk.add)(hash(name))
        # What was pushed out meanwhile is not there any more.
        for _ in range(len(audit) - (self.counters["lost"] - lost_before)):
            self._audit.popleft()
        self._broken = False
        self.counters["written"] += len(sessions) + len(audit)
        if cancelled:
            raise asyncio.CancelledError
        return True

    def _failed(self, error: BaseException) -> None:
        self.counters["failures"] += 1
        self._close()
        self._wake.set()
        if not self._broken:
            self._broken = True
            text = (
                f"NAR sessions and audit cannot be written to {self._file} ({error}): the servers"
                " go on, but a restart would forget what changed since; free space or mend the disk"
            )
            self._emit(Event("nar_unwritten", text, Severity.WARNING, {"file": str(self._file)}))

    async def _trim(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._trimmed_at < TRIM_INTERVAL_S or self._broken:
            return
        async with self._turn:
            bounds, now_s = self.bounds, self._wall_clock()
            done, cancelled = await _in_thread(lambda: self._opened().trim(bounds, now_s))
        if cancelled:
            raise asyncio.CancelledError
        if (error := done.exception()) is not None:
            self._failed(error)
            return
        gone = done.result()
        self.counters["trimmed"] += gone
        if gone < TRIM_ROWS:
            self._trimmed_at = now
        else:
            self._wake.set()


async def _in_thread(work: Callable[[], T]) -> tuple["asyncio.Future[T]", bool]:
    """Do it in a thread, to its end; and whether we were cancelled meanwhile.

    A thread cannot be called off, and two at a time must not use the file.
    """
    done = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled = False
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError:
            cancelled = True
    return done, cancelled

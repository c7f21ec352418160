"""What a restart takes over: session records, in a journal at once and in the database soon.

A record is sealed once, for both. The journal (:mod:`gateway.store.journal`) has every change
since the last batch that the database took; so table, then journal over it, is how things were
when the process died, however it died.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, bindparam, delete

from gateway.domain.event import Event, Severity
from gateway.store import journal, restoring
from gateway.store.database import Store
from gateway.store.errors import StoreError
from gateway.store.journal import Journal, Name
from gateway.store.restoring import Restored, context_of, read_boot_id
from gateway.store.schema import SESSIONS
from gateway.store.upsert import insert_into

WRITE_INTERVAL_S: Final = 0.5
RETRY_S: Final = 5.0
MAX_RECORD: Final = 65_536
BATCH: Final = 2000
"""Rows of one transaction, so that nobody waits long for the store's thread."""
ROTATE_OCTETS: Final = 1 << 20
"""A journal of this size is left for a new one; once the database has what it holds, it goes."""
COMPACT_OCTETS: Final = 16 << 20
"""So much in old journals (the database takes nothing) is written anew, one frame a record."""


class SessionStore:
    """A :class:`gateway.domain.session_records.SessionRecords`.

    :meth:`open`, then :meth:`start` in the event loop, then :meth:`stop`. :meth:`keep` and
    :meth:`forget` work from :meth:`open` on.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        emit: Callable[[Event], None],
        *,
        boot_id: str | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._folder = folder
        self._emit = emit
        self._boot_id = boot_id or read_boot_id()
        self._wall_clock = wall_clock
        self._waiting: dict[Name, bytes | None] = {}
        """What the database does not have yet, sealed; None: to be removed."""
        self._writing: dict[Name, bytes | None] = {}
        self._in_table: set[int] = set()
        """Hashes of the names that the table has: a session that came and went while the database
        takes nothing leaves no trace."""
        self._journal: Journal | None = None
        self._old: dict[int, int] = {}
        """Sizes of journals that were left, by number; rising."""
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._said: set[str] = set()
        self.counters = dict.fromkeys(
            ("kept", "forgotten", "written", "restored", "failures", "refused", "compacted"), 0
        )

    @property
    def database(self) -> Store:
        """Where the table is."""
        return self._store

    # -- the start -------------------------------------------------------------------------

    def open(self) -> Restored:
        """What earlier processes left.

        Waits for the disk. Raises nothing: what cannot be read is reported and left out.
        """
        found = restoring.read(self._store, self._folder, self._boot_id, self._say)
        self._in_table = found.in_table
        self._waiting.update(found.changes)
        self._old = found.journals
        records, unsealed = found.opened(self._store.sealer)
        for name in unsealed:
            self._waiting[name] = None
        self._rotate()
        self.counters["restored"] = sum(map(len, records.values()))
        there = frozenset(one for one in found.stale if one[1] in records.get(one[0], {}))
        return Restored(records, there, found.damaged)

    def take_in(self, found: Restored, records: Mapping[Name, bytes]) -> Restored:
        """``found`` with records of elsewhere, which are on disk when this returns.

        Those that are there already stay. Between :meth:`open` and :meth:`start`; waits for the
        disk. Raises :class:`StoreError`.
        """
        merged = {kind: dict(of_kind) for kind, of_kind in found.records.items()}
        sealed: dict[Name, bytes | None] = {}
        for (kind, key), record in records.items():
            if key not in merged.get(kind, {}) and len(record) <= MAX_RECORD:
                merged.setdefault(kind, {})[key] = record
                sealed[kind, key] = self._store.sealer.seal(context_of(kind, key), record)
        self._store.do(partial(self._apply, changes=sealed))
        self._in_table.update(map(hash, sealed))
        return Restored(merged, found.stale, found.damaged)

    # -- while it runs ---------------------------------------------------------------------

    def start(self) -> None:
        """Write to the database from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        if self._waiting:
            self._wake.set()

    async def stop(self) -> None:
        """Write what waits, then no more. What the database does not take stays in the journal."""
        task, self._task = self._task, None
        self._ending.set()
        self._wake.set()
        if task is not None:
            await task
        await self._write()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def keep(self, kind: str, key: str, record: bytes) -> None:
        """Remember ``record`` in place of what was there."""
        if len(record) > MAX_RECORD:
            self._refused(kind, f"{len(record)} octets; a record has at most {MAX_RECORD}")
            return
        self.counters["kept"] += 1
        self._change((kind, key), self._store.sealer.seal(context_of(kind, key), record))

    def forget(self, kind: str, key: str) -> None:
        """Remove it."""
        self.counters["forgotten"] += 1
        self._change((kind, key), None)

    def _change(self, name: Name, sealed: bytes | None) -> None:
        try:
            frame = journal.encode(name, sealed)
        except ValueError as error:
            self._refused(name[0], str(error))
            return
        if sealed is None and hash(name) not in self._in_table and name not in self._writing:
            self._waiting.pop(name, None)
        else:
            self._waiting[name] = sealed
        if self._journal is not None:
            try:
                self._journal.append(frame)
            except OSError as error:
                self._journal_failed(error)
        self._wake.set()

    def _refused(self, kind: str, why: str) -> None:
        self.counters["refused"] += 1
        self._say(
            f"session_refused_{kind}",
            f"a session of kind {kind[:40]} will not survive a restart: {why}",
            name="session_not_kept",
        )

    async def _run(self) -> None:
        while not self._ending.is_set():
            await self._wake.wait()
            good = await self._write()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_INTERVAL_S if good else RETRY_S):
                    await self._ending.wait()

    async def _write(self) -> bool:
        """Give the database what waits; whether it took all."""
        self._wake.clear()
        if self._journal is None or self._journal.size > ROTATE_OCTETS:
            self._rotate()
        old = list(self._old)
        changes, self._waiting = self._waiting, {}
        self._writing = changes
        try:
            for part in _parts(changes):
                await self._store.run(partial(self._apply, changes=part), durable=False)
                for name, record in part.items():
                    (self._in_table.discard if record is None else self._in_table.add)(hash(name))
        except asyncio.CancelledError:
            # The thread may write it all the same.
            self._in_table.update(map(hash, changes))
            self._put_back(changes)
            raise
        except StoreError as error:
            self._put_back(changes)
            self._unwritten(error)
            await self._compact()
            return False
        finally:
            self._writing = {}
        self._said.discard("sessions_unwritten")
        self.counters["written"] += len(changes)
        self._remove(old)
        return True

    def _put_back(self, changes: dict[Name, bytes | None]) -> None:
        self._waiting = {
            name: record
            for name, record in {**changes, **self._waiting}.items()
            if record is not None or hash(name) in self._in_table
        }
        self._wake.set()

    def _apply(self, connection: Connection, changes: dict[Name, bytes | None]) -> None:
        gone = [
            {"b_kind": kind, "b_key": key}
            for (kind, key), record in changes.items()
            if record is None
        ]
        now = self._wall_clock()
        kept = [
            {"kind": kind, "key": key, "record": record, "boot": self._boot_id, "changed_at": now}
            for (kind, key), record in changes.items()
            if record is not None
        ]
        if gone:
            connection.execute(_FORGET, gone)
        if kept:
            insert = insert_into(SESSIONS, connection)
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[SESSIONS.c.kind, SESSIONS.c.key],
                    set_={name: insert.excluded[name] for name in ("record", "boot", "changed_at")},
                ),
                kept,
            )

    # -- journals --------------------------------------------------------------------------

    def _rotate(self) -> None:
        """Append to a new file from now on, numbers of which leave one free between."""
        last = max(self._old, default=0)
        if self._journal is not None:
            last = self._journal.number
            self._old[last] = self._journal.size
            self._journal.close()
            self._journal = None
        try:
            self._journal = Journal(self._folder, last + 2, self._boot_id)
        except OSError as error:
            self._journal_failed(error)
        else:
            self._said.discard("sessions_unjournaled")

    def _remove(self, old: list[int]) -> None:
        """The oldest first: what is left is always the end of the story."""
        for number in old:
            try:
                (self._folder / f"sessions.{number}.journal").unlink(missing_ok=True)
            except OSError as error:
                self._journal_failed(error)
                return
            self._old.pop(number, None)

    async def _compact(self) -> None:
        """The database takes nothing: write the old journals anew, one frame a record."""
        if sum(self._old.values()) < COMPACT_OCTETS:
            return
        self._rotate()
        old = list(self._old)
        number = max(old) + 1
        changes = dict(self._waiting)
        try:
            size = await asyncio.to_thread(
                journal.write_whole, self._folder, number, self._boot_id, changes
            )
        except OSError as error:
            self._journal_failed(error)
            return
        self.counters["compacted"] += 1
        self._remove(old)
        self._old[number] = size

    # -- what goes wrong -------------------------------------------------------------------

    def _unwritten(self, error: StoreError) -> None:
        self.counters["failures"] += 1
        self._say(
            "sessions_unwritten",
            f"sessions cannot be written to the database ({error}): they go on, and a restart of"
            " the gateway takes them over from its journal, but a reboot would forget what changed"
            " since",
        )

    def _journal_failed(self, error: OSError) -> None:
        self.counters["failures"] += 1
        if self._journal is not None:
            # What follows a change that is missing must not count as the last word.
            with contextlib.suppress(OSError):
                self._old[self._journal.number] = self._journal.size
                self._journal.close()
            self._journal = None
        self._say(
            "sessions_unjournaled",
            f"the journal of sessions in {self._folder} cannot be written ({error}): if the gateway"
            f" dies, up to {WRITE_INTERVAL_S} s of changes are missing in what the next one takes"
            " over; free space there",
        )

    def _say(self, once: str, text: str, *, name: str = "") -> None:
        if once not in self._said:
            self._said.add(once)
            self._emit(Event(name or once, text, Severity.WARNING))


_FORGET = delete(SESSIONS).where(
    SESSIONS.c.kind == bindparam("b_kind"), SESSIONS.c.key == bindparam("b_key")
)


def _parts(changes: dict[Name, bytes | None]) -> Iterator[dict[Name, bytes | None]]:
    rest = iter(changes.items())
    while part := dict(islice(rest, BATCH)):
        yield part

"""Where the home agents' bindings outlive the process: one small SQLite file.

Records are opaque here. They are written together, in a thread, so that a slow disk never delays
a registration; a full or broken disk is reported, and the agents go on.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.domain.event import Event, Severity

FILE_NAME: Final = "bindings.sqlite"
WRITE_INTERVAL_S: Final = 0.5
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS binding (agent TEXT, key TEXT, record BLOB NOT NULL,"
    " PRIMARY KEY (agent, key)) WITHOUT ROWID"
)
_KEEP = "INSERT INTO binding VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record"
_FORGET = "DELETE FROM binding WHERE agent = ? AND key = ?"


class BindingStore:
    """Records by agent and key. :meth:`open` reads what an earlier process left."""

    def __init__(self, folder: Path, emit: Callable[[Event], None]) -> None:
        self._file = folder / FILE_NAME
        self._emit = emit
        self._waiting: dict[tuple[str, str], bytes | None] = {}
        self._writer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._broken = False
        self.counters = dict.fromkeys(("written", "failures", "restored"), 0)

    def open(self) -> dict[str, list[bytes]]:
        """The records of every agent. A file that cannot be read is set aside, never deleted."""
        try:
            found = self._read()
        except (sqlite3.Error, OSError) as error:
            self._set_aside(error)
            found = {}
        self.counters["restored"] = sum(map(len, found.values()))
        return found

    def start(self) -> None:
        """Write from now on."""
        self._writer = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write what waits, then no more."""
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
            self._writer = None
        await self._write()

    def keep(self, agent: str, key: str, record: bytes) -> None:
        """Write soon; of several records of one key the last one counts."""
        self._waiting[agent, key] = record
        self._wake.set()

    def forget(self, agent: str, key: str) -> None:
        """Remove soon."""
        self._waiting[agent, key] = None
        self._wake.set()

    # -- the file --------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file.touch(mode=0o600)
        connection = sqlite3.connect(self._file, timeout=5.0, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_SCHEMA)
        return connection

    def _read(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        with contextlib.closing(self._connect()) as connection:
            for agent, record in connection.execute("SELECT agent, record FROM binding"):
                found.setdefault(str(agent), []).append(bytes(record))
        return found

    def _set_aside(self, error: Exception) -> None:
        aside = self._file.with_suffix(".unreadable")
        with contextlib.suppress(OSError):
            self._file.replace(aside)
        text = (
            f"the bindings of the last run cannot be read ({error}): mobile nodes stay unreachable"
            f" until they register again; the file is kept as {aside}"
        )
        self._emit(Event("bindings_unreadable", text, Severity.WARNING, {"file": str(aside)}))

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._write()
            await asyncio.sleep(WRITE_INTERVAL_S)

    async def _write(self) -> None:
        self._wake.clear()
        changes, self._waiting = self._waiting, {}
        if not changes:
            return
        try:
            await asyncio.to_thread(self._apply, changes)
        except (sqlite3.Error, OSError) as error:
            self._failed(changes, error)
        except asyncio.CancelledError:
            self._put_back(changes)
            raise
        else:
            self._broken = False
            self.counters["written"] += len(changes)

    def _apply(self, changes: dict[tuple[str, str], bytes | None]) -> None:
        gone = [key for key, record in changes.items() if record is None]
        kept = [(*key, record) for key, record in changes.items() if record is not None]
        with contextlib.closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_FORGET, gone)
            connection.executemany(_KEEP, kept)
            connection.execute("COMMIT")

    def _put_back(self, changes: dict[tuple[str, str], bytes | None]) -> None:
        self._waiting = {**changes, **self._waiting}

    def _failed(self, changes: dict[tuple[str, str], bytes | None], error: Exception) -> None:
        self.counters["failures"] += 1
        self._put_back(changes)
        self._wake.set()
        if not self._broken:
            self._broken = True
            text = (
                f"bindings cannot be written to {self._file} ({error}): the agents go on, but a"
                " restart would forget what changed since; free space or mend the disk"
            )
            self._emit(Event("bindings_unwritten", text, Severity.WARNING))

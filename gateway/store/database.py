"""The store: one database, used by one thread.

``Store.run`` takes a function of a SQLAlchemy ``Connection`` and does it in a transaction: all of
it or nothing. Repositories (:mod:`gateway.store.objects` ...) are made of that connection::

    stored = await store.run(lambda c: ObjectRepository(c, store.sealer).get("pools", "office"))
"""

import asyncio
import enum
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from gateway.domain.event import Event, Severity
from gateway.store import last_good, opening
from gateway.store.engines import is_damage, translated
from gateway.store.errors import SchemaError, StoreError, UnavailableError, WrongKeyError
from gateway.store.sealing import Sealer
from gateway.store.worker import Worker

REOPEN_INTERVAL_S: Final = 10.0
"""How often a database that cannot be used is tried again, when somebody wants it."""
COPY_INTERVAL_S: Final = 30.0
"""How often the last good copy of a PostgreSQL database is renewed at most."""
CLOSE_TIMEOUT_S: Final = 30.0
_CONFIGURED: Final = frozenset(table.name for table in last_good.CONFIGURED)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the durable state is; section ``[store]``."""

    state_dir: Path
    url: str | None = field(default=None, repr=False)
    """None: SQLite in :attr:`state_dir`. May hold a password: it is never shown."""
    key_file: Path | None = None
    """None: ``store.key`` in :attr:`state_dir`."""
    runtime_dir: Path | None = None
    """Where a copy is read from when the database itself cannot be written."""


class StoreState(enum.Enum):
    """What the store can do now."""

    GOOD = "good"
    FAILING = "failing"
    """The last change could not be written; each further one is tried."""
    READ_ONLY = "read-only"
    """The database could not be opened: what was stored is read from a copy, changes are refused
    until it can."""
    EMPTY = "empty"
    """Nothing can be read: the gateway knows only its file, changes are refused."""
    CLOSED = "closed"


class Store:
    """:meth:`open`, then :meth:`run`, then :meth:`close`."""

    def __init__(
        self,
        settings: StoreSettings,
        emit: Callable[[Event], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``emit`` may be called from the store's thread.

        Raises :class:`SchemaError` about the URL.
        """
        self._places = opening.places(
            settings.url, settings.state_dir, settings.key_file, settings.runtime_dir
        )
        self._emit = emit
        self._clock = clock
        self._worker = Worker("store")
        self._engine: Engine | None = None
        self._sealer: Sealer | None = None
        self._tried_at = float("-inf")
        self._copied_at = float("-inf")
        self._configured_changed = False
        self.state = StoreState.CLOSED
        self.reason: str | None = None
        """Why it is not good, for administrators."""
        self.counters = dict.fromkeys(("transactions", "failures", "recovered"), 0)

    def open(self) -> None:
        """Open or make the database. Waits for the disk: call it before the event loop runs.

        A disk that is full or broken, or a server that is away, is an event and a
        :attr:`state`. Raises :class:`WrongKeyError` and :class:`SchemaError`: going on would
        harm what is stored.
        """
        try:
            self._worker.submit(self._open).result()
        except StoreError:
            self._worker.close(CLOSE_TIMEOUT_S)
            raise

    @property
    def sealer(self) -> Sealer:
        """Seals with the key of this database.

        Raises :class:`UnavailableError` before :meth:`open`.
        """
        if self._sealer is None:
            raise UnavailableError("the database is not open")
        return self._sealer

    @property
    def name(self) -> str:
        """The database's file or URL, without a password."""
        return self._places.shown

    @property
    def sqlite_file(self) -> Path | None:
        """None: the database is on a PostgreSQL server."""
        return self._places.sqlite_file

    @property
    def state_dir(self) -> Path:
        """Where backups are."""
        return self._places.state_dir

    async def run(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Do ``work`` in one transaction, in the store's thread.

        Once it returns, what was written survives a power cut (with ``durable``; without, it
        survives ``kill -9``).

        Raises :class:`StoreError` and whatever ``work`` raises; then nothing was changed. When the
        caller is cancelled, the transaction may happen all the same.
        """
        return await asyncio.wrap_future(self.submit(work, durable=durable))

    def submit(self, work: Callable[[Connection], T], *, durable: bool = True) -> "Future[T]":
        """As :meth:`run`, for other threads. Raises :class:`BusyError` at once."""
        return self._worker.submit(lambda: self._transaction(work, durable=durable))

    def do(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """As :meth:`run`; waits. Only where there is no event loop yet."""
        return self.submit(work, durable=durable).result()

    async def call(self, work: Callable[[], T]) -> T:
        """Do something else that waits for the disk in the store's thread."""
        return await asyncio.wrap_future(self._worker.submit(work))

    async def refresh_copy(self) -> None:
        """Renew the last good copy of a PostgreSQL database, when something changed."""
        await self.call(lambda: self._copy_configured(at_once=True))

    def close(self) -> None:
        """Do what waits, then close the database. Afterwards nothing can be done any more."""
        if self.state is StoreState.CLOSED:
            self._worker.close(CLOSE_TIMEOUT_S)
            return
        with suppress(StoreError):
            self._worker.submit(self._close, bounded=False)
        if not self._worker.close(CLOSE_TIMEOUT_S):
            self._say(
                "store_not_closed",
                f"the database {self.name} did not close within {CLOSE_TIMEOUT_S:.0f} s",
            )
        self.state = StoreState.CLOSED

    # -- in the thread ---------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._open_itself()
        except UnavailableError as error:
            self._open_copy(str(error))

    def _open_itself(self) -> None:
        self._tried_at = self._clock()
        try:
            engine, sealer = opening.open_database(self._places, self._emit)
        except (SQLAlchemyError, OSError) as error:
            raise translated(error) from error
        if self._places.sqlite_file is None:
            event.listen(engine, "after_cursor_execute", self._note_change)
            self._configured_changed = True
        if self._engine is not None:
            self._engine.dispose()
        self._engine, self._sealer = engine, sealer
        self.state, self.reason = StoreState.GOOD, None

    def _open_copy(self, why: str) -> None:
        self.reason = f"the database {self.name} cannot be used: {why}"
        try:
            self._engine, self._sealer = opening.open_copy(self._places)
        except UnavailableError as error:
            self._sealer = self._sealer or opening.sealer_without_database(self._places)
            self.state = StoreState.EMPTY
            instead = (
                f"what was stored cannot be read either ({error}): the gateway runs with the"
                " objects of its file only"
            )
        else:
            self.state = StoreState.READ_ONLY
            instead = "what was stored is in force, from a copy"
        self._say(
            "store_unusable",
            f"{self.reason}; {instead}. Changes, logins of the dashboard and the audit do not"
            " work until it can be used; free space or mend it: the gateway tries again by itself",
        )

    def _transaction(self, work: Callable[[Connection], T], *, durable: bool) -> T:
        self._reopen_when_due()
        if self._engine is None:
            raise UnavailableError(self.reason or "the database is closed")
        wrote = False
        try:
            with self._engine.connect() as connection:
                before = _set_durability(connection, durable=durable)
                with connection.begin():
                    if not durable and self._places.sqlite_file is None:
                        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                    result = work(connection)
                # Reading proves nothing about a disk, and everything about a server.
                wrote = before != _changes(connection) or self._places.sqlite_file is None
        except BaseException as error:
            ours = translated(error)
            if isinstance(ours, UnavailableError) and ours is not error:
                self._failed(error, ours)
            if ours is error:
                raise
            if self.state is StoreState.READ_ONLY and self.reason is not None:
                ours = UnavailableError(self.reason)
            raise ours from error
        self.counters["transactions"] += 1
        if wrote and self.state is StoreState.FAILING:
            self._recovered()
        self._copy_configured()
        return result

    def _reopen_when_due(self) -> None:
        if self.state not in {StoreState.READ_ONLY, StoreState.EMPTY}:
            return
        if self._clock() - self._tried_at < REOPEN_INTERVAL_S:
            return
        try:
            self._open_itself()
        except (UnavailableError, WrongKeyError, SchemaError) as error:
            self.reason = f"the database {self.name} cannot be used: {error}"
        else:
            self._recovered(reopened=True)

    def _failed(self, error: BaseException, ours: UnavailableError) -> None:
        self.counters["failures"] += 1
        if self._engine is not None and self._places.sqlite_file is not None:
            # The next one begins with a fresh connection: the file may be another one by then.
            self._engine.dispose()
        if self.state is not StoreState.GOOD:
            return
        self.state = StoreState.FAILING
        self.reason = f"the database {self.name} cannot be written: {ours}"
        advice = (
            "restart the gateway: it sets the damaged file aside and takes the newest backup"
            if is_damage(error)
            else "free space or mend it; the gateway tries again with every change"
        )
        self._say(
            "store_failing",
            f"{self.reason}. Nothing that was stored before is lost, and devices stay connected;"
            f" changes are refused; {advice}",
        )

    def _recovered(self, *, reopened: bool = False) -> None:
        self.counters["recovered"] += 1
        self.state, self.reason = StoreState.GOOD, None
        self._emit(
            Event(
                "store_recovered",
                f"the database {self.name} can be written again",
                fields={"reopened": reopened},
            )
        )

    def _note_change(self, *arguments: object) -> None:
        context = arguments[4]
        compiled = getattr(context, "compiled", None)
        if compiled is None or getattr(context, "isinsert", False) is None:
            return
        if not (compiled.isinsert or compiled.isupdate or compiled.isdelete):
            return
        if getattr(compiled.statement.table, "name", "") in _CONFIGURED:
            self._configured_changed = True

    def _copy_configured(self, *, at_once: bool = False) -> None:
        if not self._configured_changed or self._engine is None:
            return
        if self.state is not StoreState.GOOD:
            return
        if not at_once and self._clock() - self._copied_at < COPY_INTERVAL_S:
            return
        self._copied_at = self._clock()
        try:
            with self._engine.connect() as connection:
                last_good.write(connection, self._places.state_dir)
        except (SQLAlchemyError, OSError) as error:
            self._say(
                "store_copy_failed",
                "the copy of what is configured, for times without the database, cannot be written"
                f" to {self._places.state_dir} ({translated(error)})",
            )
        else:
            self._configured_changed = False

    def _close(self) -> None:
        self._copy_configured(at_once=True)
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None
        self.reason = "the database is closed"

    def _say(self, name: str, text: str) -> None:
        self._emit(Event(name, text, Severity.WARNING, {"database": self.name}))


def _changes(connection: Connection) -> int:
    """How many rows were ever changed over this connection, as far as it knows."""
    raw = connection.connection.driver_connection
    return int(getattr(raw, "total_changes", 0))


def _set_durability(connection: Connection, *, durable: bool) -> int:
    """Of SQLite it is set before the transaction; the count of changes before it."""
    raw = connection.connection.driver_connection
    if raw is not None and connection.dialect.name == "sqlite":
        raw.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    return _changes(connection)

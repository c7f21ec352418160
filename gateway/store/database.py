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
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from gateway.domain.event import Event
from gateway.store.errors import UnavailableError
from gateway.store.sealing import Sealer
from gateway.store.worker import Worker

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the durable state is; section ``[store]``."""

    state_dir: Path
    url: str | None = None
    """None: SQLite in :attr:`state_dir`. May hold a password: it is never shown."""
    key_file: Path | None = None
    """None: ``store.key`` in :attr:`state_dir`."""
    runtime_dir: Path | None = None
    """Where a copy is read from when the database itself cannot be written."""


class StoreState(enum.Enum):
    """What the store can do now."""

    GOOD = "good"
    READ_ONLY = "read-only"
    """The database cannot be written: what was stored is read from a copy, changes are refused."""
    EMPTY = "empty"
    """The database cannot even be read: the gateway knows only its file, changes are refused."""


class Store:
    """:meth:`open`, then :meth:`run`, then :meth:`close`."""

    def __init__(
        self,
        settings: StoreSettings,
        emit: Callable[[Event], None],
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._emit = emit
        self._wall_clock = wall_clock
        self._worker = Worker("store")
        self._sealer: Sealer | None = None
        self.state = StoreState.EMPTY
        self.reason: str | None = None

    def open(self) -> None:
        """Open or make the database. Waits for the disk: call it before the event loop runs.

        A disk that is full or broken, or a server that is away, is an event and a
        :attr:`state`. Raises :class:`WrongKeyError` and :class:`SchemaError`: going on would
        harm what is stored.
        """
        raise NotImplementedError

    @property
    def sealer(self) -> Sealer:
        """Seals with the key of this database."""
        if self._sealer is None:
            raise UnavailableError("the database is not open")
        return self._sealer

    async def run(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Do ``work`` in one transaction, in the store's thread. Once it returns, what was
        written survives a power cut (with ``durable``; without, it survives ``kill -9``).

        Raises :class:`StoreError` and whatever ``work`` raises; then nothing was changed. When
        the caller is cancelled, the transaction may happen all the same.
        """
        return await asyncio.wrap_future(self.submit(work, durable=durable))

    def submit(self, work: Callable[[Connection], T], *, durable: bool = True) -> "Future[T]":
        """As :meth:`run`, for threads and for the start."""
        raise NotImplementedError

    def do(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """As :meth:`run`; waits. Only where there is no event loop yet."""
        return self.submit(work, durable=durable).result()

    def close(self) -> None:
        """Do what waits, then close the database."""

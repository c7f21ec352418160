"""What has to be done now and then: old rows go, a backup is made every day."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Final

from gateway.domain.event import Event, Severity
from gateway.store.audit import AuditRepository
from gateway.store.backup import copy_sqlite
from gateway.store.database import Store, StoreState
from gateway.store.errors import StoreError
from gateway.store.history import TRIM_ROWS, HistoryRepository
from gateway.store.idempotency import IdempotencyRepository
from gateway.store.lease_history import LeaseHistoryRepository
from gateway.store.links import LinkRepository
from gateway.store.opening import BACKUPS, backups_in
from gateway.store.usage import UsageRepository
from gateway.store.web_sessions import WebSessionRepository

INTERVAL_S: Final = 600.0
FIRST_S: Final = 60.0
"""The start has other things to do."""
DAY_S: Final = 86_400.0
KEPT_BACKUPS: Final = 7
IDEMPOTENCY_S: Final = DAY_S
LINKS_S: Final = 30 * DAY_S
"""Who took a link, and when, can be looked up for so long."""
USAGE_DAYS: Final = 400
"""So that a month can be compared with the same one of last year."""


class Upkeep:
    """:meth:`start` in the event loop, :meth:`stop` before the store closes."""

    def __init__(
        self,
        store: Store,
        emit: Callable[[Event], None],
        *,
        retention: Callable[[], tuple[float, float]],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``retention`` gives the days that history and audit stay, as they are now."""
        self._store = store
        self._emit = emit
        self._retention = retention
        self._wall_clock = wall_clock
        self._task: asyncio.Task[None] | None = None
        self._backup_failed = False

    def start(self) -> None:
        """From now on."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """No more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        await asyncio.sleep(FIRST_S)
        while True:
            # The store has said what is wrong with it already.
            with contextlib.suppress(StoreError):
                await self.trim()
                await self._store.refresh_copy()
            await self.back_up_daily()
            await asyncio.sleep(INTERVAL_S)

    async def trim(self) -> None:
        """Remove what is older than it may get. Raises :class:`StoreError`."""
        now = self._wall_clock()
        history_days, audit_days = self._retention()
        run = self._store.run
        await run(lambda c: AuditRepository(c).trim(math.ceil(audit_days), now), durable=False)
        await run(lambda c: WebSessionRepository(c).delete_expired(now), durable=False)
        await run(lambda c: LinkRepository(c, self._store.sealer).empty_expired(now))
        await run(
            lambda c: LinkRepository(c, self._store.sealer).delete_before(now - LINKS_S),
            durable=False,
        )
        await run(
            lambda c: IdempotencyRepository(c, self._store.sealer).delete_before(
                now - IDEMPOTENCY_S
            ),
            durable=False,
        )
        await run(
            lambda c: UsageRepository(c).delete_before(int(now // DAY_S) - USAGE_DAYS),
            durable=False,
        )
        oldest = now - history_days * DAY_S
        while await run(lambda c: HistoryRepository(c).trim(oldest), durable=False) == TRIM_ROWS:
            pass
        leases = LeaseHistoryRepository
        while await run(lambda c: leases(c).trim(oldest), durable=False) == TRIM_ROWS:
            pass

    async def back_up_daily(self) -> None:
        """Copy a SQLite database that has no backup of today; keep the newest ones."""
        source = self._store.sqlite_file
        if source is None or self._store.state is not StoreState.GOOD:
            return
        folder = self._store.state_dir / BACKUPS
        day = time.strftime("%Y-%m-%d", time.gmtime(self._wall_clock()))
        target = folder / f"daily-{day}.sqlite"
        if target.exists():
            return
        try:
            # In a thread of its own: the store's goes on meanwhile.
            await asyncio.to_thread(copy_sqlite, source, target)
        except StoreError as error:
            if not self._backup_failed:
                self._backup_failed = True
                self._emit(Event("backup_failed", f"{error}; free space there", Severity.WARNING))
            return
        self._backup_failed = False
        ours = [one for one in backups_in(self._store.state_dir) if one.name.startswith("daily-")]
        for old in ours[KEPT_BACKUPS:]:
            with contextlib.suppress(OSError):
                old.unlink()

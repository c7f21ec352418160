"""Old rows go, a backup is made every day, the last seven stay."""

import asyncio
import hashlib
import time
from pathlib import Path

import pytest

from gateway.domain.event import Event
from gateway.store import upkeep as module
from gateway.store.audit import AuditEntry, AuditFilter, AuditRepository
from gateway.store.database import Store
from gateway.store.errors import UnavailableError
from gateway.store.history import HistoryEntry, HistoryRepository
from gateway.store.idempotency import IdempotencyRepository, KeptAnswer
from gateway.store.links import Link, LinkRepository
from gateway.store.opening import backups_in, newest_sound
from gateway.store.upkeep import Upkeep
from gateway.store.usage import Usage, UsageRepository
from gateway.store.web_sessions import WebSession, WebSessionRepository

DAY_S = 86_400.0


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def test_what_is_too_old_goes_and_nothing_else(store: Store, events: list[Event]) -> None:
    now = time.time()
    ages = (0.0, 5.0, 20.0, 40.0, 500.0)

    def fill(connection: object) -> None:
        for number, days in enumerate(ages):
            at = now - days * DAY_S - 60
            AuditRepository(connection).append(AuditEntry(at, "a", "x", "y", "z", "done"))
            HistoryRepository(connection).append([HistoryEntry(at, "d", "s", "moved", "text")])
            UsageRepository(connection).add([Usage("d", int(at // DAY_S), 1)])
            IdempotencyRepository(connection, store.sealer).keep(
                "a", str(number), KeptAnswer(digest(1), b"x", at)
            )
            LinkRepository(connection, store.sealer).create(
                Link(digest(number), "d", "f", "t", at, "a", at + 3600, content=b"x")
            )
            WebSessionRepository(connection).create(
                WebSession(digest(number), "anna", at, at + DAY_S, "x")
            )

    store.do(fill)
    upkeep = Upkeep(store, events.append, retention=lambda: (10.0, 29.5), wall_clock=lambda: now)
    asyncio.run(upkeep.trim())
    assert store.do(lambda c: AuditRepository(c).count(AuditFilter())) == 3
    assert len(store.do(lambda c: HistoryRepository(c).find())) == 2
    assert len(store.do(lambda c: UsageRepository(c).of("d", 0, 10**6))) == 4
    kept = [
        store.do(lambda c, n=n: IdempotencyRepository(c, store.sealer).find("a", str(n)))
        for n in range(5)
    ]
    assert [one is not None for one in kept] == [True, False, False, False, False]
    links = store.do(lambda c: LinkRepository(c, store.sealer).all())
    assert len(links) == 3
    can_be_taken = [
        store.do(lambda c, n=n: LinkRepository(c, store.sealer).look(digest(n), 0.0))
        for n in range(5)
    ]
    assert [one is not None for one in can_be_taken] == [True, False, False, False, False]
    assert len(store.do(lambda c: WebSessionRepository(c).all())) == 1
    assert events == []


def test_a_backup_is_made_once_a_day_and_seven_stay(
    store: Store, events: list[Event], tmp_path: Path
) -> None:
    now = [1_700_000_000.0]
    upkeep = Upkeep(store, events.append, retention=lambda: (10.0, 30.0), wall_clock=lambda: now[0])
    folder = tmp_path / "state" / "backups"
    for _ in range(10):
        asyncio.run(upkeep.back_up_daily())
        asyncio.run(upkeep.back_up_daily())
        now[0] += DAY_S
    if store.sqlite_file is None:
        assert not folder.exists()
        return
    names = sorted(one.name for one in folder.iterdir())
    assert len(names) == module.KEPT_BACKUPS
    assert names[-1] == "daily-2023-11-23.sqlite"
    assert newest_sound(backups_in(tmp_path / "state")) is not None
    assert events == []


def test_a_backup_that_fails_is_told_once_and_tried_again(
    store: Store, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.sqlite_file is None:
        return

    def full(*_arguments: object) -> int:
        raise UnavailableError("no backup to x: disk full")

    upkeep = Upkeep(store, events.append, retention=lambda: (10.0, 30.0))
    with monkeypatch.context() as patch:
        patch.setattr(module, "copy_sqlite", full)
        for _ in range(3):
            asyncio.run(upkeep.back_up_daily())
    assert [one.name for one in events] == ["backup_failed"]
    asyncio.run(upkeep.back_up_daily())
    assert len(backups_in(store.state_dir)) == 1


def test_it_goes_on_by_itself_until_it_is_stopped(
    store: Store, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.0)
    monkeypatch.setattr(module, "INTERVAL_S", 0.001)

    async def main() -> None:
        upkeep = Upkeep(store, events.append, retention=lambda: (10.0, 30.0))
        before = store.counters["transactions"]
        upkeep.start()
        async with asyncio.timeout(60):
            while store.counters["transactions"] < before + 20:  # noqa: ASYNC110 - bounded
                await asyncio.sleep(0.001)
        await upkeep.stop()

    asyncio.run(main())
    assert events == []

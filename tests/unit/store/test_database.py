"""The database when all is well, when its disk is full, broken or away, and when it is damaged."""

import asyncio
import os
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import OpenStore, Server
from sqlalchemy import Connection, text

from gateway.domain.event import Event
from gateway.store import database as module
from gateway.store.backup import copy_sqlite
from gateway.store.database import Store, StoreSettings, StoreState
from gateway.store.engines import parse_url
from gateway.store.errors import (
    BusyError,
    SchemaError,
    StoreError,
    UnavailableError,
    WrongKeyError,
)
from gateway.store.objects import ObjectRepository
from gateway.store.worker import MAX_WAITING, Worker


def put(store: Store, name: str, **document: object) -> None:
    store.do(lambda c: ObjectRepository(c, store.sealer).create("pools", name, dict(document)))


def names(store: Store) -> list[str]:
    return [one.name for one in store.do(lambda c: ObjectRepository(c, store.sealer).all())]


def said(events: list[Event]) -> list[str]:
    return [one.name for one in events]


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# -- all is well -----------------------------------------------------------------------------


def test_what_was_stored_is_there_after_a_restart(
    open_store: OpenStore, events: list[Event]
) -> None:
    store = open_store()
    assert store.state is StoreState.GOOD
    put(store, "a")
    store.close()
    again = open_store()
    assert names(again) == ["a"]
    assert said(events) == []


def test_work_is_done_in_one_thread_in_order(store: Store) -> None:
    async def main() -> list[tuple[int, int]]:
        return await asyncio.gather(
            *(store.run(lambda _, n=n: (n, threading.get_ident())) for n in range(50))
        )

    done = asyncio.run(main())
    assert [number for number, _ in done] == list(range(50))
    assert len({thread for _, thread in done} | {threading.get_ident()}) == 2


def test_what_waits_is_bounded() -> None:
    worker = Worker("test")
    go = threading.Event()
    begun = threading.Event()
    first = worker.submit(lambda: begun.set() or go.wait())
    assert begun.wait(30)
    futures = [first, *(worker.submit(lambda: None) for _ in range(MAX_WAITING))]
    with pytest.raises(BusyError, match="1000 requests"):
        worker.submit(lambda: None)
    futures.append(worker.submit(lambda: None, bounded=False))
    go.set()
    assert worker.close(30)
    assert all(one.done() for one in futures)
    with pytest.raises(UnavailableError, match="closed"):
        worker.submit(lambda: None)


def test_whoever_is_cancelled_gets_nothing_and_the_rest_goes_on(store: Store) -> None:
    async def main() -> None:
        go = threading.Event()
        first = asyncio.ensure_future(store.run(lambda _: go.wait()))
        second = asyncio.ensure_future(store.run(lambda _: 2))
        third = asyncio.ensure_future(store.run(lambda _: 3))
        await asyncio.sleep(0)
        second.cancel()
        go.set()
        assert await third == 3
        assert await first is True
        assert second.cancelled()

    asyncio.run(main())


def test_after_the_end_nothing_is_done(store: Store) -> None:
    store.close()
    store.close()
    assert store.state is StoreState.CLOSED
    with pytest.raises(UnavailableError, match="closed"):
        store.do(lambda _: None)


def test_files_are_their_owners(tmp_path: Path) -> None:
    store = Store(StoreSettings(tmp_path / "new" / "state"), print)
    store.open()
    put(store, "a")
    modes = {one.name: one.stat().st_mode & 0o077 for one in (tmp_path / "new").rglob("*")}
    store.close()
    assert set(modes) == {
        "state",
        "gateway.sqlite",
        "gateway.sqlite-wal",
        "gateway.sqlite-shm",
        "store.key",
    }
    assert set(modes.values()) == {0}


def test_sqlite_syncs_what_is_durable_and_only_that(tmp_path: Path) -> None:
    store = Store(StoreSettings(tmp_path), print)
    store.open()

    def level(connection: Connection) -> int:
        return int(connection.execute(text("PRAGMA synchronous")).scalar_one())

    assert store.do(level) == 2
    assert store.do(level, durable=False) == 1
    assert store.do(level) == 2
    assert store.do(lambda c: c.execute(text("PRAGMA journal_mode")).scalar_one()) == "wal"
    store.close()


# -- URLs and keys ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://root:hunter2@host/db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////x?mode=ro",
        "postgresql+asyncpg://a:hunter2@b/c",
        "postgresql://a:hunter2@b:port/c",
    ],
)
def test_urls_that_will_not_do_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(SchemaError, match=r"store\.url") as refused:
        parse_url(url)
    assert "hunter2" not in str(refused.value)


def test_a_password_in_the_url_is_never_shown(tmp_path: Path) -> None:
    settings = StoreSettings(tmp_path, "postgresql://gateway:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in repr(settings)
    events: list[Event] = []
    store = Store(settings, events.append)
    store.open()
    assert store.state is StoreState.EMPTY
    assert "hunter2" not in f"{store.name} {store.reason} {events}"
    assert "gateway:***@127.0.0.1" in store.name
    store.close()


def test_a_key_that_is_gone_or_another_one_is_refused_and_nothing_is_changed(
    open_store: OpenStore, tmp_path: Path
) -> None:
    store = open_store()
    put(store, "a")
    store.close()
    key = tmp_path / "state" / "store.key"
    right = key.read_bytes()
    key.unlink()
    with pytest.raises(WrongKeyError, match=r"store\.key is gone.*restore it from your backup"):
        open_store()
    assert not key.exists(), "no other key is made"
    key.write_bytes(b"0" * 64)
    key.chmod(0o600)
    with pytest.raises(WrongKeyError, match="is not the key that"):
        open_store()
    key.write_bytes(right)
    assert names(open_store()) == ["a"]


def test_a_newer_database_is_refused(open_store: OpenStore) -> None:
    store = open_store()
    store.do(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    store.close()
    with pytest.raises(SchemaError, match="newer version"):
        open_store()


# -- a disk that is full or broken -----------------------------------------------------------


def fill_up(store: Store, *, full: bool) -> None:
    """SQLite itself says that the disk is full."""

    def work(connection: Connection) -> None:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one() if full else 2**30
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    store.do(work)


def test_a_full_disk_is_told_once_nothing_is_lost_and_it_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    store = Store(StoreSettings(tmp_path), events.append)
    store.open()
    put(store, "a")
    # The bound belongs to the connection, which is closed after a failure.
    monkeypatch.setattr(store._engine, "dispose", lambda: None)
    fill_up(store, full=True)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="full"):
            put(store, "b", note="x" * 20_000)
    assert names(store) == ["a"], "what is stored can be read"
    assert store.state is StoreState.FAILING, "reading proves nothing"
    assert said(events) == ["store_failing"]
    assert "free space" in events[0].text
    fill_up(store, full=False)
    put(store, "b", note="x" * 20_000)
    assert store.state is StoreState.GOOD
    assert said(events) == ["store_failing", "store_recovered"]
    store.close()


def test_a_transaction_that_fails_at_its_end_changed_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a")
    real = store._engine.dialect.do_commit

    def refuse(_connection: Any) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(store._engine.dialect, "do_commit", refuse)
    with pytest.raises(UnavailableError, match="input/output"):
        put(store, "b")
    monkeypatch.setattr(store._engine.dialect, "do_commit", real)
    assert names(store) == ["a"]


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so SQLite is told to open the database as if it could not."""
    real = sqlite3.connect

    def connect(database: Any, *given: Any, **more: Any) -> sqlite3.Connection:
        if "gateway.sqlite?mode=rw" in str(database) and "store-copy" not in str(database):
            database = str(database).replace("mode=rw", "mode=ro")
        return real(database, *given, **more)

    monkeypatch.setattr(sqlite3, "connect", connect)


def test_a_read_only_database_is_read_from_a_copy_until_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    time = Time()
    settings = StoreSettings(tmp_path / "state", runtime_dir=tmp_path / "run")
    first = Store(settings, events.append)
    first.open()
    first.do(lambda c: ObjectRepository(c, first.sealer).create("pools", "a", {}, {"x": "secret"}))
    store = Store(settings, events.append, clock=time)
    with monkeypatch.context() as patch:
        # The first one is still open: what it wrote is in the write-ahead log only.
        read_only(patch)
        (tmp_path / "state" / "gateway.sqlite").chmod(0o400)
        store.open()
        assert store.state is StoreState.READ_ONLY
        assert names(store) == ["a"]
        (one,) = store.do(
            lambda c: ObjectRepository(c, store.sealer).all("pools", with_secrets=True)
        )
        assert one.secrets == {"x": "secret"}
        with pytest.raises(UnavailableError, match="cannot be used"):
            put(store, "b")
        time.now += module.REOPEN_INTERVAL_S
        with pytest.raises(UnavailableError):
            put(store, "b")
        assert said(events) == ["store_unusable"]
        for word in ("from a copy", "Changes", "audit", "free space"):
            assert word in events[0].text
    time.now += 1
    with pytest.raises(UnavailableError):
        put(store, "b")
    time.now += module.REOPEN_INTERVAL_S
    put(store, "b")
    assert store.state is StoreState.GOOD
    assert said(events) == ["store_unusable", "store_recovered"]
    assert names(first) == ["a", "b"]
    store.close()
    first.close()


def test_a_folder_that_cannot_be_made_leaves_the_gateway_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    events: list[Event] = []
    time = Time()
    store = Store(StoreSettings(tmp_path / "state"), events.append, clock=time)
    store.open()
    assert store.state is StoreState.EMPTY
    assert said(events) == ["store_unusable"]
    assert "objects of its file only" in events[0].text
    with pytest.raises(UnavailableError):
        names(store)
    (tmp_path / "state").unlink()
    time.now += module.REOPEN_INTERVAL_S
    put(store, "a")
    assert store.state is StoreState.GOOD
    store.close()


def test_a_database_that_somebody_else_holds_is_waited_for(tmp_path: Path) -> None:
    store = Store(StoreSettings(tmp_path), print)
    store.open()
    with closing(sqlite3.connect(tmp_path / "gateway.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        future = store.submit(lambda c: ObjectRepository(c, store.sealer).create("pools", "a", {}))
        with pytest.raises(TimeoutError):
            future.result(0.05)
        other.execute("COMMIT")
        assert future.result(30).name == "a"
    store.close()


# -- a damaged file --------------------------------------------------------------------------


def damaged(file: Path, how: str) -> None:
    if how == "rubbish":
        file.write_bytes(b"this is no database" * 1000)
    elif how == "middle":
        octets = bytearray(file.read_bytes())
        octets[4096:12_288] = os.urandom(8192)
        file.write_bytes(octets)
    else:
        os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("how", ["rubbish", "middle", "cut"])
def test_a_damaged_file_is_set_aside_and_the_newest_sound_backup_is_used(
    tmp_path: Path, how: str
) -> None:
    events: list[Event] = []
    settings = StoreSettings(tmp_path)
    store = Store(settings, events.append)
    store.open()
    put(store, "old")
    file = tmp_path / "gateway.sqlite"
    copy_sqlite(file, tmp_path / "backups" / "daily-1.sqlite")
    put(store, "new")
    store.close()
    (tmp_path / "backups" / "daily-2.sqlite").write_bytes(b"this backup is broken, too")
    later = (tmp_path / "backups" / "daily-1.sqlite").stat().st_mtime + 60
    os.utime(tmp_path / "backups" / "daily-2.sqlite", (later, later))
    damaged(file, how)
    broken = file.read_bytes()
    again = Store(settings, events.append)
    again.open()
    assert again.state is StoreState.GOOD
    assert names(again) == ["old"]
    put(again, "newer")
    again.close()
    assert said(events) == ["store_damaged"]
    assert "daily-1.sqlite" in events[0].text
    (aside,) = tmp_path.glob("gateway.sqlite.unreadable-*")
    assert aside.read_bytes() == broken
    assert str(aside) in events[0].text


def test_without_a_backup_a_damaged_file_leaves_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / "gateway.sqlite").write_bytes(b"this is no database" * 1000)
    events: list[Event] = []
    store = Store(StoreSettings(tmp_path), events.append)
    store.open()
    assert store.state is StoreState.GOOD
    assert names(store) == []
    assert said(events) == ["store_damaged"]
    assert "there is no backup" in events[0].text
    store.close()


def test_damage_that_shows_later_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    store = Store(StoreSettings(tmp_path), events.append)
    store.open()

    def work(_connection: Connection) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(UnavailableError, match="malformed"):
        store.do(work)
    assert said(events) == ["store_failing"]
    assert "newest backup" in events[0].text
    store.close()


# -- a PostgreSQL server that goes away ------------------------------------------------------


def test_a_server_that_goes_away_and_comes_back(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    time = Time()
    settings = StoreSettings(tmp_path / "state", postgresql.url, runtime_dir=tmp_path / "run")
    store = Store(settings, events.append, clock=time)
    store.open()
    store.do(lambda c: ObjectRepository(c, store.sealer).create("pools", "a", {}, {"x": "y"}))
    try:
        postgresql.stop(signal.SIGINT)
        with pytest.raises(UnavailableError):
            put(store, "b")
        assert said(events) == ["store_failing"]
        second = Store(settings, events.append, clock=time)
        second.open()
        assert second.state is StoreState.READ_ONLY, "without the server, from the copy"
        (one,) = second.do(
            lambda c: ObjectRepository(c, second.sealer).all("pools", with_secrets=True)
        )
        assert (one.name, one.secrets) == ("a", {"x": "y"})
        with pytest.raises(UnavailableError, match="cannot be used"):
            put(second, "b")
        assert said(events) == ["store_failing", "store_unusable"]
    finally:
        postgresql.start()
    put(store, "b")
    assert store.state is StoreState.GOOD
    time.now += module.REOPEN_INTERVAL_S
    assert names(second) == ["a", "b"]
    assert second.state is StoreState.GOOD
    assert said(events)[2:] == ["store_recovered"] * 2
    store.close()
    second.close()
    postgresql.empty()


def test_the_copy_of_what_is_configured_follows_its_changes(
    postgresql: Server, tmp_path: Path
) -> None:
    time = Time()
    settings = StoreSettings(tmp_path, postgresql.url)
    store = Store(settings, print, clock=time)
    store.open()
    copy = tmp_path / "last-good.sqlite"

    def copied() -> list[str]:
        with closing(sqlite3.connect(copy)) as connection:
            return [row[0] for row in connection.execute("SELECT name FROM object ORDER BY name")]

    put(store, "a")
    assert copied() == ["a"]
    put(store, "b")
    assert copied() == ["a"], "not with every change"
    asyncio.run(store.refresh_copy())
    assert copied() == ["a", "b"]
    time.now += module.COPY_INTERVAL_S
    put(store, "c")
    assert copied() == ["a", "b", "c"]
    put(store, "d")
    store.close()
    assert copied() == ["a", "b", "c", "d"]
    assert copy.stat().st_mode & 0o077 == 0
    postgresql.empty()


def test_errors_of_the_caller_are_no_fault_of_the_disk(store: Store, events: list[Event]) -> None:
    with pytest.raises(StoreError) as refused:
        store.do(lambda c: c.execute(text("SELECT nonsense FROM nowhere")))
    assert "nowhere" in str(refused.value) or "nonsense" in str(refused.value)
    with pytest.raises(ZeroDivisionError):
        store.do(lambda _: 1 / 0)
    assert store.do(lambda _: 1) == 1

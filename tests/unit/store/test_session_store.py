"""Sessions outlive the process, however it ends, and the database, however it is."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.domain.event import Event
from gateway.store import journal, restoring
from gateway.store import sessions as module
from gateway.store.database import Store, StoreSettings
from gateway.store.errors import UnavailableError
from gateway.store.schema import SESSIONS
from gateway.store.sessions import MAX_RECORD, SessionStore, read_boot_id

BOOT = "boot-1"
OpenStore = Callable[[], Store]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_INTERVAL_S", 0.001)
    monkeypatch.setattr(module, "RETRY_S", 0.001)


def run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the test's time is bounded
        await asyncio.sleep(0.001)


class Process:
    """One after another in the same place."""

    def __init__(self, store: Store, folder: Path, boot: str = BOOT) -> None:
        self.events: list[Event] = []
        self.sessions = SessionStore(store, folder / "run", self.events.append, boot_id=boot)
        self.found = self.sessions.open()
        self.keep, self.forget = self.sessions.keep, self.sessions.forget

    @property
    def records(self) -> dict[str, dict[str, bytes]]:
        return {kind: dict(of) for kind, of in self.found.records.items()}


class Disk:
    """Refuses work of the database while :attr:`full`."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full, self.failures = True, 0
        real = store.run

        async def work(task: Any, *, durable: bool = True) -> Any:
            if self.full:
                self.failures += 1
                raise UnavailableError("database or disk is full")
            return await real(task, durable=durable)

        monkeypatch.setattr(store, "run", work)


def rows(store: Store) -> int:
    return store.do(lambda c: c.scalar(select(func.count()).select_from(SESSIONS))) or 0


def test_sessions_come_back_after_an_orderly_end(open_store: OpenStore, tmp_path: Path) -> None:
    async def main() -> None:
        first = Process(open_store(), tmp_path)
        assert first.records == {}
        assert first.found.same_boot
        first.sessions.start()
        first.keep("ike", "a", b"1")
        first.keep("ike", "b", b"2")
        first.keep("binding:inner", "a", b"3")
        first.keep("ike", "a", b"4")
        first.forget("ike", "b")
        first.forget("ike", "never")
        await first.sessions.stop()

        second = Process(open_store(), tmp_path)
        assert second.records == {"ike": {"a": b"4"}, "binding:inner": {"a": b"3"}}
        assert second.found.of("ike", this_boot=True) == {"a": b"4"}
        assert second.found.of("nar") == {}
        assert "4" not in repr(second.found)

    run(main())


def test_sessions_come_back_after_kill_9_even_when_nothing_was_written(
    open_store: OpenStore, tmp_path: Path
) -> None:
    first = Process(open_store(), tmp_path)
    first.keep("ike", "a", b"1")
    first.keep("ike", "b", b"2")
    first.forget("ike", "a")
    second = Process(open_store(), tmp_path)
    assert second.records == {"ike": {"b": b"2"}}
    second.keep("ike", "c", b"3")
    third = Process(open_store(), tmp_path)
    assert third.records == {"ike": {"b": b"2", "c": b"3"}}


def test_the_journal_goes_over_the_table(open_store: OpenStore, tmp_path: Path) -> None:
    async def main() -> None:
        store = open_store()
        first = Process(store, tmp_path)
        first.sessions.start()
        first.keep("ike", "a", b"old")
        first.keep("ike", "gone", b"x")
        await until(lambda: first.sessions.counters["written"] >= 2)
        await first.sessions.stop()
        second = Process(store, tmp_path)
        second.keep("ike", "a", b"new")
        second.forget("ike", "gone")
        third = Process(open_store(), tmp_path)
        assert third.records == {"ike": {"a": b"new"}}
        third.sessions.start()
        await third.sessions.stop()
        assert rows(store) == 1
        files = journal.found_in(tmp_path / "run")
        assert len(files) == 1, "what the database has needs no journal"
        for _, file in files:
            file.unlink()
        assert Process(open_store(), tmp_path).records == {"ike": {"a": b"new"}}

    run(main())


def test_records_are_sealed_in_both_places(open_store: OpenStore, tmp_path: Path) -> None:
    async def main() -> None:
        store = open_store()
        first = Process(store, tmp_path)
        first.keep("ike", "a", b"SK_d is secret")
        ((_, file),) = journal.found_in(tmp_path / "run")
        assert b"SK_d" not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0
        first.sessions.start()
        await first.sessions.stop()
        raw = store.do(lambda c: c.scalars(select(SESSIONS.c.record)).one())
        assert b"SK_d" not in bytes(raw)

    run(main())


def test_records_of_an_earlier_boot_are_told_apart(open_store: OpenStore, tmp_path: Path) -> None:
    async def main() -> None:
        first = Process(open_store(), tmp_path)
        first.sessions.start()
        first.keep("ike", "old", b"1")
        first.keep("binding:x", "old", b"2")
        await first.sessions.stop()
        for _, file in journal.found_in(tmp_path / "run"):
            file.unlink()
        second = Process(open_store(), tmp_path, "boot-2")
        assert not second.found.same_boot
        assert second.found.stale == {("ike", "old"), ("binding:x", "old")}
        assert second.found.of("ike", this_boot=True) == {}
        assert second.found.of("binding:x") == {"old": b"2"}
        second.sessions.start()
        second.keep("ike", "new", b"3")
        await second.sessions.stop()
        third = Process(open_store(), tmp_path, "boot-2")
        assert third.found.of("ike", this_boot=True) == {"new": b"3"}
        assert ("ike", "old") in third.found.stale

    run(main())


def test_a_journal_of_an_earlier_boot_is_stale(open_store: OpenStore, tmp_path: Path) -> None:
    Process(open_store(), tmp_path).keep("ike", "a", b"1")
    second = Process(open_store(), tmp_path, "boot-2")
    assert second.found.of("ike") == {"a": b"1"}
    assert second.found.of("ike", this_boot=True) == {}


def test_a_database_that_takes_nothing_is_told_once_and_nothing_is_lost(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        store = open_store()
        first = Process(store, tmp_path)
        disk = Disk(store, monkeypatch)
        first.sessions.start()
        first.keep("ike", "a", b"1")
        await until(lambda: disk.failures > 3)
        assert [one.name for one in first.events] == ["sessions_unwritten"]
        assert Process(open_store(), tmp_path).records == {"ike": {"a": b"1"}}
        disk.full = False
        await until(lambda: first.sessions.counters["written"])
        disk.full = True
        first.keep("ike", "a", b"2")
        await until(lambda: len(first.events) == 2)
        disk.full = False
        await first.sessions.stop()
        assert rows(store) == 1

    run(main())


def test_sessions_that_come_and_go_meanwhile_leave_nothing(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        store = open_store()
        first = Process(store, tmp_path)
        first.sessions.start()
        first.keep("ike", "old", b"x")
        await until(lambda: first.sessions.counters["written"])
        disk = Disk(store, monkeypatch)
        for number in range(500):
            first.keep("ike", str(number), b"x")
            if number % 50 == 0:
                failures = disk.failures
                await until(lambda before=failures: disk.failures > before)
            first.forget("ike", str(number))
        first.forget("ike", "old")
        failures = disk.failures
        await until(lambda: disk.failures > failures + 1)
        waiting = {**first.sessions._writing, **first.sessions._waiting}
        assert waiting == {("ike", "old"): None}
        disk.full = False
        await first.sessions.stop()
        assert rows(store) == 0
        assert Process(open_store(), tmp_path).records == {}

    run(main())


def test_the_journal_stays_small_while_the_database_works(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATE_OCTETS", 2000)

    async def main() -> None:
        first = Process(open_store(), tmp_path)
        first.sessions.start()
        for number in range(200):
            first.keep("ike", str(number % 3), b"x" * 100)
            written = first.sessions.counters["written"]
            await until(lambda before=written: first.sessions.counters["written"] > before)
        files = journal.found_in(tmp_path / "run")
        assert sum(file.stat().st_size for _, file in files) < 6000
        await first.sessions.stop()
        assert set(Process(open_store(), tmp_path).records["ike"]) == {"0", "1", "2"}

    run(main())


def test_the_journal_is_bounded_while_the_database_takes_nothing(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATE_OCTETS", 2000)
    monkeypatch.setattr(module, "COMPACT_OCTETS", 10_000)

    async def main() -> None:
        store = open_store()
        first = Process(store, tmp_path)
        disk = Disk(store, monkeypatch)
        first.sessions.start()
        for number in range(600):
            first.keep("ike", str(number % 5), number.to_bytes(100, "big"))
            failures = disk.failures
            await until(lambda before=failures: disk.failures > before)
            if number == 300:
                first.forget("ike", "4")
        assert first.sessions.counters["compacted"] > 2
        files = journal.found_in(tmp_path / "run")
        assert sum(file.stat().st_size for _, file in files) < 25_000
        # As after kill -9.
        again = Process(open_store(), tmp_path)
        last = {str(n % 5): n.to_bytes(100, "big") for n in range(600)}
        assert again.records == {"ike": last}
        disk.full = False
        await first.sessions.stop()

    run(main())


def test_a_journal_that_cannot_be_written_is_told_once_and_the_database_goes_on(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    async def main() -> None:
        store = open_store()
        first = Process(store, tmp_path)
        first.sessions.start()
        with monkeypatch.context() as patch:
            patch.setattr(journal.os, "write", no_space)
            for number in range(5):
                first.keep("ike", str(number), b"x")
            assert [one.name for one in first.events] == ["sessions_unjournaled"]
            await until(lambda: rows(store) == 5)
        first.keep("ike", "5", b"x")
        await until(lambda: rows(store) == 6)
        first.keep("ike", "6", b"x")
        assert first.sessions._journal is not None, "it is tried again"
        assert set(Process(open_store(), tmp_path).records["ike"]) == set("0123456")
        assert len(first.events) == 1
        await first.sessions.stop()

    run(main())


def test_a_folder_that_cannot_be_used_costs_only_the_journal(
    open_store: OpenStore, tmp_path: Path
) -> None:
    (tmp_path / "run").touch()

    async def main() -> None:
        store = open_store()
        first = Process(store, tmp_path)
        assert [one.name for one in first.events] == [
            "sessions_unreadable",
            "sessions_unjournaled",
        ]
        first.sessions.start()
        first.keep("ike", "a", b"x")
        await first.sessions.stop()
        assert rows(store) == 1

    run(main())


def test_a_damaged_journal_is_kept_and_told(open_store: OpenStore, tmp_path: Path) -> None:
    first = Process(open_store(), tmp_path)
    first.keep("ike", "a", b"1")
    first.keep("ike", "b", b"2")
    first.keep("ike", "c", b"3")
    ((_, file),) = journal.found_in(tmp_path / "run")
    octets = bytearray(file.read_bytes())
    octets[len(octets) // 2] ^= 1
    file.write_bytes(octets)
    second = Process(open_store(), tmp_path)
    assert second.records == {"ike": {"a": b"1", "c": b"3"}}
    assert second.found.damaged
    (event,) = second.events
    assert event.name == "sessions_damaged"
    assert Path(str(file.with_suffix(".damaged"))).read_bytes() == octets


def test_a_torn_end_is_no_damage(open_store: OpenStore, tmp_path: Path) -> None:
    first = Process(open_store(), tmp_path)
    first.keep("ike", "a", b"1")
    first.keep("ike", "b", b"2")
    ((_, file),) = journal.found_in(tmp_path / "run")
    os.truncate(file, file.stat().st_size - 3)
    second = Process(open_store(), tmp_path)
    assert second.records == {"ike": {"a": b"1"}}
    assert not second.found.damaged
    assert second.events == []


def test_a_record_moved_to_another_name_is_left_out(open_store: OpenStore, tmp_path: Path) -> None:
    first = Process(open_store(), tmp_path)
    first.keep("ike", "a", b"1")
    ((number, file),) = journal.found_in(tmp_path / "run")
    changes = journal.read(file).changes
    sealed = changes["ike", "a"]
    journal.write_whole(
        tmp_path / "run", number, BOOT, {("ike", "a"): sealed, ("ike", "b"): sealed}
    )
    second = Process(open_store(), tmp_path)
    assert second.records == {"ike": {"a": b"1"}}
    assert [one.name for one in second.events] == ["sessions_unsealed"]


@pytest.mark.parametrize(
    ("kind", "key", "record"),
    [("k" * 200, "a", b""), ("ike", "a" * 300, b""), ("ike", "a", bytes(MAX_RECORD + 1))],
)
def test_what_is_too_long_is_refused_and_told(
    store: Store, tmp_path: Path, kind: str, key: str, record: bytes
) -> None:
    process = Process(store, tmp_path)
    process.keep(kind, key, record)
    process.keep(kind, key, record)
    assert [one.name for one in process.events] == ["session_not_kept"]
    assert process.sessions.counters["refused"] == 2


def test_the_largest_record_comes_back(open_store: OpenStore, tmp_path: Path) -> None:
    Process(open_store(), tmp_path).keep("ike", "a", bytes(MAX_RECORD))
    assert Process(open_store(), tmp_path).records == {"ike": {"a": bytes(MAX_RECORD)}}


def test_ten_thousand_sessions_come_back(open_store: OpenStore, tmp_path: Path) -> None:
    async def main() -> None:
        store = open_store()
        first = Process(store, tmp_path)
        first.sessions.start()
        for number in range(10_000):
            first.keep("ike", str(number), b"x" * 500)
        transactions = store.counters["transactions"]
        await first.sessions.stop()
        assert store.counters["transactions"] - transactions < 20
        assert len(Process(open_store(), tmp_path).found.of("ike", this_boot=True)) == 10_000

    run(main())


def test_without_a_database_the_journal_alone_does(tmp_path: Path) -> None:
    (tmp_path / "state").touch()  # no folder can be made there
    events: list[Event] = []
    settings = StoreSettings(tmp_path / "state", runtime_dir=tmp_path / "run")
    store = Store(settings, events.append)
    store.open()
    process = Process(store, tmp_path)
    process.keep("ike", "a", b"1")
    # The key died with the store: another process cannot open what this one sealed.
    again = SessionStore(store, tmp_path / "run", events.append, boot_id=BOOT)
    assert again.open().of("ike") == {"a": b"1"}
    store.close()


def test_the_boot_has_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_boot_id() == read_boot_id()
    assert len(read_boot_id()) == 36
    monkeypatch.setattr(restoring, "BOOT_ID", tmp_path / "nothing")
    assert read_boot_id() != read_boot_id()
    assert len(read_boot_id()) == 36

"""Bindings on disk: they come back, together, and no disk fault ends anything."""

import asyncio
import stat
from pathlib import Path

import pytest

from gateway.appliance.binding_store import FILE_NAME, BindingStore
from gateway.domain.event import Event


def test_records_come_back_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = BindingStore(tmp_path / "state", lambda _: None)
        assert store.open() == {}
        store.start()
        store.keep("inner", "a", b"1")
        store.keep("inner", "b", b"2")
        store.keep("outer", "a", b"3")
        store.keep("inner", "a", b"4")
        store.forget("inner", "b")
        store.forget("inner", "never")
        await store.stop()
        again = BindingStore(tmp_path / "state", lambda _: None)
        assert again.open() == {"inner": [b"4"], "outer": [b"3"]}
        assert again.counters["restored"] == 2

    asyncio.run(scenario())
    file = tmp_path / "state" / FILE_NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_kept_while_it_runs_is_on_disk_soon(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = BindingStore(tmp_path, lambda _: None)
        store.open()
        store.start()
        store.keep("inner", "a", b"1")
        async with asyncio.timeout(20):
            while not store.counters["written"]:  # noqa: ASYNC110 - bounded
                await asyncio.sleep(0.005)
        # As after kill -9: nobody has stopped the first one.
        assert BindingStore(tmp_path, lambda _: None).open() == {"inner": [b"1"]}
        await store.stop()

    asyncio.run(scenario())


def test_an_unreadable_file_is_set_aside_and_said(tmp_path: Path) -> None:
    events: list[Event] = []
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 100)
    store = BindingStore(tmp_path, events.append)
    assert store.open() == {}
    assert [one.name for one in events] == ["bindings_unreadable"]
    kept = tmp_path / "bindings.unreadable"
    assert kept.read_bytes().startswith(b"this is no database")
    assert str(kept) in events[0].text


def test_a_disk_fault_is_said_once_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []

    async def scenario() -> None:
        monkeypatch.setattr("gateway.appliance.binding_store.WRITE_INTERVAL_S", 0.001)
        store = BindingStore(tmp_path, events.append)
        store.open()
        store.start()
        file = store._file
        store._file = Path("/proc/no-such-folder/bindings.sqlite")
        store.keep("inner", "a", b"1")
        async with asyncio.timeout(20):
            while store.counters["failures"] < 3:  # noqa: ASYNC110 - bounded
                await asyncio.sleep(0.001)
        store._file = file
        await store.stop()
        assert BindingStore(tmp_path, events.append).open() == {"inner": [b"1"]}

    asyncio.run(scenario())
    assert [one.name for one in events] == ["bindings_unwritten"]

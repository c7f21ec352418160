"""What versions before the store left is taken in once, and kept."""

import asyncio
import sqlite3
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from kept_state import KeptState
from nar_fakes import mapping, tcp

from gateway.appliance.earlier_files import take_bindings
from gateway.appliance.nar.audit import Audit
from gateway.appliance.nar.store import NarStore
from gateway.domain.event import Event
from gateway.store.errors import UnavailableError
from gateway.store.nar_leases import AuditQuery, Bounds

_NAR = """
CREATE TABLE session (server TEXT, key TEXT, record BLOB NOT NULL, PRIMARY KEY (server, key));
CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, server TEXT NOT NULL,
  user TEXT NOT NULL, client INTEGER NOT NULL, client_port INTEGER NOT NULL,
  protocol INTEGER NOT NULL, address INTEGER NOT NULL, value INTEGER NOT NULL,
  remote INTEGER NOT NULL, remote_port INTEGER NOT NULL, peer INTEGER NOT NULL,
  delivery TEXT NOT NULL,  opened_s REAL NOT NULL, closed_s REAL, reason TEXT NOT NULL DEFAULT '');
INSERT INTO session VALUES ('soho', 'a', x'01ff');
"""


def old_bindings(folder: Path, *rows: tuple[str, str, bytes]) -> Path:
    file = folder / "bindings.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE binding (agent TEXT, key TEXT, record BLOB)")
        connection.executemany("INSERT INTO binding VALUES (?, ?, ?)", rows)
    return file


def test_bindings_of_an_earlier_version_are_taken_in_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = old_bindings(tmp_path, ("inner", "a", b"1"), ("inner", "b", b"2"), ("x", "a", b"3"))
        state = KeptState(tmp_path)
        take_bindings(tmp_path, state.taken, print)
        assert state.records("binding:inner") == {"a": b"1", "b": b"2"}
        assert not file.exists()
        assert (tmp_path / "bindings.sqlite.imported").exists()
        state.start()
        state.taken.records.forget("binding:inner", "b")
        await state.stop()
        again = KeptState(tmp_path)
        take_bindings(tmp_path, again.taken, print)
        assert again.records("binding:inner") == {"a": b"1"}
        assert again.records("binding:x") == {"a": b"3"}
        await again.stop()

    asyncio.run(scenario())


def test_what_the_store_has_counts_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        before = KeptState(tmp_path)
        before.taken.records.keep("binding:inner", "a", b"new")
        await before.stop()
        old_bindings(tmp_path, ("inner", "a", b"old"), ("inner", "b", b"2"))
        state = KeptState(tmp_path)
        take_bindings(tmp_path, state.taken, print)
        assert state.records("binding:inner") == {"a": b"new", "b": b"2"}
        await state.stop()

    asyncio.run(scenario())


def test_an_unreadable_file_is_set_aside_and_said(tmp_path: Path) -> None:
    events: list[Event] = []
    (tmp_path / "bindings.sqlite").write_bytes(b"this is no database" * 100)

    async def scenario() -> None:
        state = KeptState(tmp_path)
        take_bindings(tmp_path, state.taken, events.append)
        await state.stop()

    asyncio.run(scenario())
    assert [one.name for one in events] == ["earlier_file_unreadable"]
    kept = tmp_path / "bindings.sqlite.unreadable"
    assert kept.read_bytes().startswith(b"this is no database")
    assert str(kept) in events[0].text


def test_a_store_that_takes_nothing_now_gets_it_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    file = old_bindings(tmp_path, ("inner", "a", b"1"))

    def full(*_arguments: object, **_more: object) -> None:
        raise UnavailableError("disk full")

    async def scenario() -> None:
        state = KeptState(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(state.store, "do", full)
            take_bindings(tmp_path, state.taken, events.append)
        assert file.exists()
        await state.stop()
        again = KeptState(tmp_path)
        take_bindings(tmp_path, again.taken, events.append)
        assert again.records("binding:inner") == {"a": b"1"}
        await again.stop()

    asyncio.run(scenario())
    assert [one.name for one in events] == ["earlier_file_not_imported"]


def old_nar(folder: Path) -> Path:
    file = folder / "nar.sqlite"
    address = int(mapping(20010).tuple.address)
    client = int(mapping(20010).client)
    lease = (
        "INSERT INTO lease (server, user, client, client_port, protocol, address, value, remote,"
        " remote_port, peer, delivery, opened_s, closed_s, reason)"
        " VALUES ('soho', 'anna', ?, 0, 6, ?, ?, -1, -1, -1, ?, ?, ?, ?)"
    )
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(_NAR)
        for port, opened, closed in ((20001, 1.0, 2.0), (20010, 3.0, None), (20011, 4.0, None)):
            delivery = mapping(port).delivery.value
            reason = "released" if closed else ""
            connection.execute(lease, (client, address, port, delivery, opened, closed, reason))
        connection.execute(lease, (client, address, 7, "by pigeon", 5.0, None, ""))
    return file


def test_nar_sessions_and_the_audit_of_an_earlier_version_are_taken_in(tmp_path: Path) -> None:
    old_nar(tmp_path)

    async def scenario() -> None:
        state = KeptState(tmp_path)
        state.start()
        store = NarStore(state.taken, tmp_path, print, Bounds(100, 1e9), wall_clock=lambda: 2000.0)
        assert store.open() == {"soho": [b"\x01\xff"]}
        store.start([tcp(20010)], ["soho"])
        rows = await Audit(store).find()
        values = [(row.mapping.tuple.value, row.opened_s, row.closed_s) for row in rows]
        assert values == [(20011, 4.0, 2000.0), (20010, 3.0, None), (20001, 1.0, 2.0)]
        assert rows[1].mapping == mapping(20010)
        assert rows[1].client == str(IPv4Address(rows[1].client))
        assert not (tmp_path / "nar.sqlite").exists()
        assert (tmp_path / "nar.sqlite.imported").exists()
        await store.stop()
        await state.stop()
        again = KeptState(tmp_path)
        second = NarStore(again.taken, tmp_path, print, Bounds(100, 1e9))
        assert second.open() == {"soho": [b"\x01\xff"]}
        assert await second.count(AuditQuery()) == 3
        await again.stop()

    asyncio.run(scenario())

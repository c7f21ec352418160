"""Sessions and the audit on a real disk: batches, bounds, and disks that are full or broken."""

import asyncio
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from kept_state import KeptState
from nar_fakes import CLIENT, NB, mapping, tcp, until

from gateway.appliance.nar import store as store_module
from gateway.appliance.nar.audit import Audit
from gateway.appliance.nar.store import NarStore
from gateway.appliance.session_takeover import TakenOver
from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.nar.outputs import LeaseClosed, LeaseOpened
from gateway.store.errors import UnavailableError
from gateway.store.nar_leases import AuditQuery, Bounds, NarLeaseRepository

OTHER = IPv4Address("10.0.0.8")
BOUNDS = Bounds(1000, 3600.0)
SERVERS = ["soho", "firewall"]


def opened(port: int, at: float, client: IPv4Address = CLIENT, user: str = "anna") -> LeaseOpened:
    return LeaseOpened("soho", user, Endpoint(client, 9), mapping(port, client), at)


def closed(port: int, at: float, client: IPv4Address = CLIENT, user: str = "anna") -> LeaseClosed:
    return LeaseClosed("soho", user, Endpoint(client, 9), mapping(port, client), at, "released")


def run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


class Bench:
    """A NAR store on a database of its own; use it as a context, or :meth:`open` it."""

    def __init__(self, folder: Path, bounds: Bounds = BOUNDS, wall: float = 2000.0) -> None:
        self.events = []
        self.wall = wall
        self.state = KeptState(folder, self.events.append)
        self.store = NarStore(
            self.state.taken, folder, self.events.append, bounds, wall_clock=lambda: self.wall
        )
        self.audit = Audit(self.store)

    async def __aenter__(self) -> Any:
        self.state.start()
        self.sessions = self.store.open()
        self.store.start((), SERVERS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.stop()
        await self.state.stop()


class Disk:
    """Refuses work of the database like a disk without space while :attr:`full`."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.failures = 0
        real = bench.state.store.run

        async def run(work: Any, *, durable: bool = True) -> Any:
            if self.full:
                self.failures += 1
                raise UnavailableError("database or disk is full")
            return await real(work, durable=durable)

        monkeypatch.setattr(bench.state.store, "run", run)


def test_sessions_outlive_the_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            assert bench.sessions == {}
            bench.store.keep("soho", "a", b"old")
            bench.store.keep("soho", "a", b"new")
            bench.store.keep("soho", "b", b"gone")
            bench.store.keep("firewall", "a", b"\0\xff")
            bench.store.forget("soho", "b")
        async with Bench(tmp_path) as bench:
            assert bench.sessions == {"soho": [b"new"], "firewall": [b"\0\xff"]}
            bench.store.forget("soho", "a")
        async with Bench(tmp_path) as bench:
            assert bench.sessions == {"firewall": [b"\0\xff"]}

    run(main())


def test_sessions_of_servers_that_are_gone_go_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.store.keep("soho", "a", b"x")
            bench.store.keep("former", "a", b"x")
        async with Bench(tmp_path) as bench:
            assert set(bench.sessions) == {"soho", "former"}
        async with Bench(tmp_path) as bench:
            assert set(bench.sessions) == {"soho"}

    run(main())


def test_who_held_the_port_at_that_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            note = bench.store.note
            note(opened(20010, 100.0))
            note(closed(20010, 200.0))
            note(opened(20010, 200.0, OTHER, "zoe"))
            note(opened(20011, 210.0))

            async def held(at_s: float | None, **more: Any) -> list[str]:
                rows = await bench.audit.find(
                    protocol=NarProtocol.TCP, address=NB, value=20010, at_s=at_s, **more
                )
                return [row.user for row in rows]

            assert await held(150.0) == ["anna"]
            assert await held(200.0) == ["zoe"]
            assert await held(99.0) == []
            assert await held(None) == ["zoe", "anna"]
            assert await held(None, user="anna") == ["anna"]
            assert await held(None, client=OTHER) == ["zoe"]
            assert await held(None, server="firewall") == []
            assert await bench.audit.count(client=CLIENT) == 2
            first, last = await bench.audit.find(value=20010)
            assert (last.closed_s, last.reason) == (200.0, "released")
            assert (first.closed_s, first.client) == (None, "10.0.0.8")
            assert last.mapping == mapping(20010)

    run(main())


def test_every_kind_of_lease_comes_back_as_it_was(tmp_path: Path) -> None:
    ours = [
        NarMapping(
            "soho",
            NarTuple(NarProtocol.TCP, NB, 20000, IPv4Address("198.51.100.1"), 443),
            CLIENT,
            Delivery.TRANSLATED,
            8080,
            IPv4Address("198.51.100.1"),
        ),
        NarMapping("soho", NarTuple(NarProtocol.ESP, NB, 0xFFFF_FFFF), CLIENT, Delivery.GRE),
        NarMapping(
            "soho",
            NarTuple(NarProtocol.IP_IP, NB, 0x0A00_0001, IPv4Address("198.51.100.2")),
            CLIENT,
            Delivery.IP_IP,
        ),
        NarMapping(
            "soho", NarTuple(NarProtocol.UDP, NB, 500, None, 4500), CLIENT, Delivery.L2TP, 0, OTHER
        ),
    ]

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            for one in ours:
                bench.store.note(LeaseOpened("soho", "", Endpoint(CLIENT, 9), one, 1.0))
            rows = await bench.audit.find()
            assert [row.mapping for row in reversed(rows)] == ours

    run(main())


def test_pages_newest_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            for port in range(20_000, 20_025):
                bench.store.note(opened(port, float(port)))
            seen, before = [], None
            while rows := await bench.audit.find(before=before, limit=10):
                seen += [row.mapping.tuple.value for row in rows]
                before = rows[-1].id
            assert seen == list(range(20_024, 19_999, -1))

    run(main())


def test_a_lease_that_is_taken_up_again_is_one_row(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.store.note(opened(20010, 100.0))
            bench.store.note(opened(20011, 100.0))
        bench = Bench(tmp_path)
        bench.store.open()
        bench.store.note(opened(20010, 1990.0))
        bench.store.start([tcp(20010)], SERVERS)
        rows = await bench.audit.find()
        await bench.__aexit__()
        assert [(row.mapping.tuple.value, row.opened_s) for row in rows] == [
            (20011, 100.0),
            (20010, 100.0),
        ]

    run(main())


def test_leases_that_ended_while_nobody_looked_are_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.store.note(opened(20010, 100.0))
            bench.store.note(opened(20011, 100.0))
        bench = Bench(tmp_path)
        bench.store.open()
        bench.store.start([tcp(20010)], SERVERS)

        rows = await bench.audit.find()
        ends = {row.mapping.tuple.value: row.closed_s for row in rows}
        assert ends == {20010: None, 20011: 2000.0}
        await bench.__aexit__()

    run(main())


def test_leases_of_a_server_that_waits_for_its_address_stay_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.store.note(opened(20010, 100.0))
        bench = Bench(tmp_path)
        bench.store.open()
        bench.store.start((), SERVERS, ["soho"])
        (row,) = await bench.audit.find()
        assert row.closed_s is None
        bench.store.note(closed(20010, 2100.0))
        (row,) = await bench.audit.find()
        assert (row.closed_s, row.reason) == (2100.0, "released")
        await bench.__aexit__()

    run(main())


def test_the_oldest_rows_go_but_not_those_still_held(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path, Bounds(10_000, 1e9)) as bench:
            note = bench.store.note
            note(opened(19_999, 1.0))
            for port in range(20_000, 20_050):
                note(opened(port, float(port)))
                note(closed(port, float(port) + 1))
            assert await bench.audit.count() == 51

            async def trim(bounds: Bounds, now_s: float) -> int:
                return await bench.state.store.run(
                    lambda c: NarLeaseRepository(c).trim(bounds, now_s)
                )

            assert await trim(Bounds(10, 1e9), 0.0) == 40
            rows = await bench.audit.find()
            values = [row.mapping.tuple.value for row in rows]
            assert values == [*range(20_049, 20_039, -1), 19_999]
            assert await trim(Bounds(1000, 100.0), 20_146.5) == 6
            assert await bench.audit.count() == 5

    run(main())


def test_trimming_happens_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "TRIM_INTERVAL_S", 0.0)
    monkeypatch.setattr(store_module, "WRITE_INTERVAL_S", 0.0)

    async def main() -> None:
        async with Bench(tmp_path, Bounds(5, 1e9)) as bench:
            for port in range(20_000, 20_020):
                bench.store.note(opened(port, 1.0))
                bench.store.note(closed(port, 2.0))
            await until(lambda: bench.store.counters["trimmed"] == 15)
            assert await bench.audit.count() == 5

    run(main())


def test_ten_thousand_leases_take_few_transactions(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            assert await bench.audit.count() == 0
            before = bench.state.store.counters["transactions"]
            for number in range(10_000):
                bench.store.note(opened(number, 1.0))
                bench.store.note(closed(number, 2.0))
            assert await bench.audit.count() == 10_000
            assert bench.state.store.counters["transactions"] - before <= 6

    run(main())


def test_a_full_disk_is_reported_once_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RETRY_S", 0.0)
    monkeypatch.setattr(store_module, "WRITE_INTERVAL_S", 0.0)

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            disk = Disk(bench, monkeypatch)
            disk.full = True
            bench.store.note(opened(20010, 100.0))
            await until(lambda: disk.failures > 3)
            assert [event.name for event in bench.events] == ["nar_unwritten"]
            assert "free space" in bench.events[0].text
            with pytest.raises(OSError, match="full"):
                await bench.audit.find()
            disk.full = False
            await until(lambda: bench.store.counters["written"] == 1)
            assert await bench.audit.count() == 1
            disk.full = True
            bench.store.note(closed(20010, 101.0))
            await until(lambda: len(bench.events) == 2)
            disk.full = False
            (row,) = await bench.audit.find()
            assert row.closed_s == 101.0

    run(main())


def test_what_waits_for_a_broken_disk_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_WAITING", 10)

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            disk = Disk(bench, monkeypatch)
            disk.full = True
            for port in range(25):
                bench.store.note(opened(port, 1.0))
            assert bench.store.counters["lost"] == 15
            disk.full = False
            rows = await bench.audit.find(limit=100)
            assert [row.mapping.tuple.value for row in rows] == list(range(24, 14, -1))

    run(main())


def test_without_a_store_the_servers_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        store = NarStore(TakenOver(None, print), tmp_path, print, BOUNDS)
        assert store.open() == {}
        store.start((), SERVERS)
        store.keep("soho", "a", b"x")
        store.note(opened(20010, 1.0))
        with pytest.raises(OSError, match="no store"):
            await store.find(AuditQuery())
        await store.stop()
        assert not store._audit

    run(main())

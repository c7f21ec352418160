"""What devices did reaches the store in batches; a store that takes nothing costs nobody time."""

import asyncio
from typing import Any

import pytest
from observation_fakes import Clock

from gateway.appliance.observation import chronicle as module
from gateway.appliance.observation.chronicle import BATCH, USAGE_AGE_S, Chronicle
from gateway.appliance.observation.rings import (
    COARSE_S,
    FINE_S,
    MAX_DEVICES,
    Ring,
    Rings,
)
from gateway.domain.event import Event


class Rows:
    """A store that keeps what it is told, or refuses."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.usage: list[Any] = []
        self.broken = False
        self.largest = 0

    async def run(self, work: Any) -> Any:
        if self.broken:
            raise OSError("no space left on device")
        return work(self)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    found = Rows()

    def add(connection: Rows, entries: Any, usage: Any) -> None:
        connection.entries += entries
        connection.usage += usage
        connection.largest = max(connection.largest, len(entries), len(usage))

    monkeypatch.setattr(module, "_add", add)
    return found


def made(rows: Rows, clock: Clock, told: list[Event]) -> Chronicle:
    return Chronicle(
        lambda: rows, told.append, wall_clock=clock.wall, clock=clock, history_s=86_400.0
    )


def test_use_is_summed_and_written_after_a_while(rows: Rows) -> None:
    clock, told = Clock(), []

    async def play() -> None:
        chronicle = made(rows, clock, told)
        for _ in range(10):
            chronicle.used("ann", (1, 2, 3, 4), 0.5, 1)
        assert await chronicle._write()
        assert rows.usage == []
        clock.now += USAGE_AGE_S
        assert await chronicle._write()
        (use,) = rows.usage
        assert (use.bytes_in, use.packets_out, use.connected_s, use.handovers) == (10, 40, 5.0, 10)
        chronicle.used("ann", (1, 0, 0, 0), 0.0)
        await chronicle.stop()
        assert len(rows.usage) == 2

    asyncio.run(play())


def test_a_broken_store_is_told_of_once_and_nothing_is_lost_meanwhile(rows: Rows) -> None:
    clock, told = Clock(), []

    async def play() -> None:
        chronicle = made(rows, clock, told)
        rows.broken = True
        for number in range(3):
            chronicle.happened("ann", "s", "moved", f"m{number}", {})
            chronicle.used("ann", (5, 0, 0, 0), 1.0)
            clock.now += USAGE_AGE_S
            assert not await chronicle._write()
        assert [one.name for one in told] == ["history_unwritten"]
        assert "no space left" in told[0].text
        rows.broken = False
        assert await chronicle._write()
        assert [one.text for one in rows.entries] == ["m0", "m1", "m2"]
        assert sum(one.bytes_in for one in rows.usage) == 15
        assert [one.name for one in told] == ["history_unwritten", "history_written"]

    asyncio.run(play())


def test_what_waits_is_bounded(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 20)
    clock = Clock()

    async def play() -> None:
        chronicle = made(rows, clock, [])
        for number in range(100):
            chronicle.happened(f"d{number}", "s", "moved", "", {})
            chronicle.used(f"d{number}", (1, 0, 0, 0), 0.0)
        assert chronicle.waiting == 60
        assert chronicle.counters["lost"] == 140

    asyncio.run(play())


def test_transactions_are_short(rows: Rows) -> None:
    clock = Clock()

    async def play() -> None:
        chronicle = made(rows, clock, [])
        for number in range(2 * BATCH + 10):
            chronicle.happened("ann", "s", "moved", str(number), {})
        await chronicle.stop()
        assert len(rows.entries) == 2 * BATCH + 10
        assert rows.largest == BATCH
        assert [int(one.text) for one in rows.entries] == list(range(2 * BATCH + 10))

    asyncio.run(play())


def test_rings_keep_the_newest_intervals_and_show_the_empty_ones() -> None:
    ring = Ring(10, 6)
    for second in (0, 3, 9, 10, 35):
        ring.add(1000.0 + second, (1, 2, 3, 4))
    assert ring.since(1040.0) == [
        (1000, (3, 6, 9, 12)),
        (1010, (1, 2, 3, 4)),
        (1020, (0, 0, 0, 0)),
        (1030, (1, 2, 3, 4)),
        (1040, (0, 0, 0, 0)),
    ]
    for second in range(40, 400, 10):
        ring.add(1000.0 + second, (1, 1, 1, 1))
    assert [at for at, _ in ring.since(1390.0)] == [1340, 1350, 1360, 1370, 1380, 1390]
    assert ring.since(99_999.0) == []
    ring.add(500.0, (7, 0, 2**40, 0))  # the clock was set back
    assert ring.since(1390.0)[-1][1][0] == 8


def test_traffic_of_so_many_devices_is_remembered() -> None:
    rings = Rings()
    for number in range(MAX_DEVICES + 10):
        rings.add(number, 1000.0, (1, 1, 1, 1))
    assert len(rings) == MAX_DEVICES
    assert rings.of(0, fine=True) is None
    fine, coarse = rings.of(50, fine=True), rings.of(50, fine=False)
    assert fine is not None
    assert coarse is not None
    assert (fine.interval_s, coarse.interval_s) == (FINE_S, COARSE_S)

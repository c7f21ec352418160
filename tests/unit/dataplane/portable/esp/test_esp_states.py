"""One engine takes the place of another, with other processes beside it, and nobody notices."""

import esp_bed as bed
import pytest
from esp_bed import both_ends, connected, engine, opened, sealed

from gateway.dataplane.interface import SaExpired
from gateway.dataplane.portable.esp.engine import EspEngine
from gateway.domain.child_sa import EspSuite

SPI = 0x1000


def successors(old: list[EspEngine], workers: int) -> list[EspEngine]:
    """Every one is given all states of all old ones."""
    found = [engine(worker, workers, seed=50 + worker) for worker in range(workers)]
    states = [state for one in old for state in one.states()]
    for one in found:
        one.advance(old[0].now)
        for state in states:
            assert one.restore(state) is None
    return found


def by_spi(engines: list[EspEngine], outer: bytes) -> EspEngine:
    return engines[int.from_bytes(outer[20:24], "big") % len(engines)]


def by_destination(engines: list[EspEngine], packet: bytes) -> EspEngine:
    return engines[int.from_bytes(packet[16:20], "big") % len(engines)]


@pytest.mark.parametrize("suite", bed.SUITES, ids=str)
@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (3, 1), (2, 3)])
def test_traffic_goes_on(suite: EspSuite, before: int, after: int) -> None:
    sa, device_sa = both_ends(suite, local_ts=(bed.network(bed.NET),))
    device = engine(seed=9)
    assert device.install(device_sa, outbound=True) is None
    ours = [engine(worker, before, seed=worker) for worker in range(before)]
    for one in ours:
        assert one.install(sa, outbound=True, output_mark=5) is None
    packet = bed.to_device()
    old = sealed(by_destination(ours, packet), *[packet] * 5)
    received = sealed(device, *[bed.to_gateway()] * 8)
    half = [outer for number, outer in enumerate(received) if number not in (3, 5)]
    assert len(opened(by_spi(ours, half[0]), *half)) == 6
    for one in ours:
        one.advance(150)
    news = successors(ours, after)
    sender = by_destination(news, packet)
    sender.leaving(bed.LINK, [(packet, 3)] * 5)
    assert [mark for _, mark in sender.sends] == [5] * 5
    new = [outer for outer, _ in sender.sends]
    assert [int.from_bytes(outer[24:28], "big") for outer in old + new] == list(range(1, 11))
    if suite.encryption.is_aead:
        assert len({outer[28:36] for outer in old + new}) == 10, "IVs go on"
    assert len(opened(device, *old, *new)) == 10
    receiver = by_spi(news, received[0])
    assert opened(receiver, *half) == [], "what was received before is"
    assert len(opened(receiver, received[5], received[3], received[5])) == 2
    told = receiver.usage(SPI)
    assert told is not None
    assert (told.packets_in, told.last_in_age_s) == (8, 0.0)
    assert sum(held.outbound for one in news for held in one.held()) == after


def test_age_limits_and_moves_go_along() -> None:
    gateway, device = connected(*both_ends(soft_packets=2, hard_packets=4, follow=True))
    opened(gateway, *sealed(device, bed.to_gateway()))
    sealed(gateway, *[bed.to_device()] * 3)
    gateway.move(SPI, bed.endpoint(bed.GATEWAY), bed.endpoint("203.0.113.9"),
                 udp_encapsulation=False)  # fmt: skip
    gateway.advance(130)
    [new] = successors([gateway], 1)
    new.advance(140)
    told = new.usage(SPI)
    assert told is not None
    assert (told.packets_in, told.packets_out, told.last_in_age_s) == (1, 3, 40.0)
    assert new.before_move(SPI) == (1, 1_700_000_000.0)
    [held] = new.held()
    assert held.sa.remote == bed.endpoint("203.0.113.9")
    assert held.soft_limit_reached
    assert len(sealed(new, *[bed.to_device()] * 3)) == 1
    assert new.events == [SaExpired(SPI, hard=True)]


def test_superseded_ones_stay_so_and_waiting_ones_wait() -> None:
    gateway = engine()
    for spi, sends in ((0x1000, True), (0x2000, True), (0x3000, False)):
        assert gateway.install(both_ends(spi=spi)[0], outbound=sends) is None
    sealed(gateway, bed.to_device())
    [new] = successors([gateway], 1)
    assert [held.outbound for held in new.held()] == [False, True, False]
    assert sealed(new, bed.to_device())[0][20:24] == (0x2001).to_bytes(4, "big")
    new.activate(0x1000)
    assert sealed(new, bed.to_device())[0][20:24] == (0x2001).to_bytes(4, "big")
    new.activate(0x3000)
    assert sealed(new, bed.to_device())[0][20:24] == (0x3001).to_bytes(4, "big")


def test_a_state_that_is_restored_twice_is_there_once() -> None:
    gateway, _ = connected(*both_ends())
    [state] = gateway.states()
    [new] = successors([gateway], 1)
    sealed(new, bed.to_device())
    assert new.restore(state) is None
    [outer] = sealed(new, bed.to_device())
    assert outer[24:28] == (2).to_bytes(4, "big")
    assert len(new.states()) == 1


def test_keys_are_shown_in_no_text() -> None:
    gateway, _ = connected(*both_ends())
    [state] = gateway.states()
    assert state.sa.keys_out.encryption
    assert repr(state.sa.keys_out.encryption) not in repr(state)

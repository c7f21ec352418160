"""Packets from other outer addresses: what proves a move, what does not, and what it may cost."""

import esp_bed as bed
import pytest
from esp_bed import both_ends, connected, engine, from_address, opened, sealed

from gateway.dataplane.interface import EndpointRejected, EndpointSeen
from gateway.dataplane.packet import esp_budget
from gateway.dataplane.portable.esp.engine import EspEngine
from gateway.dataplane.portable.esp.held_back import MAX_PACKETS, WAIT_S
from gateway.domain.endpoint import Endpoint

AWAY, THIRD = "203.0.113.9", "203.0.113.66"
SPI = 0x1000


def pair(*, udp: bool = False, follow: bool = True) -> tuple[EspEngine, EspEngine]:
    """Gateway and device, with a first packet received from where the device is."""
    gateway, device = connected(*both_ends(udp=udp, follow=follow))
    assert len(opened(gateway, *sealed(device, bed.to_gateway()))) == 1
    assert gateway.events == []
    return gateway, device


def outers(device: EspEngine, count: int) -> list[bytes]:
    return sealed(device, *[bed.to_gateway()] * count)


def moved(gateway: EspEngine, address: str, *, udp: bool = False, port: int = 4500) -> list[bytes]:
    """The SA moves there; what waited for it."""
    local, remote = bed.endpoint(bed.GATEWAY), bed.endpoint(address, port)
    gateway.move(SPI, local, remote, udp_encapsulation=udp)
    assert opened(gateway) == [], "its other half may be in another process"
    gateway.release(SPI)
    return opened(gateway)


def test_esp_from_elsewhere_proves_a_move_and_waits_for_it() -> None:
    """Or its answer would go to where the device is no more."""
    gateway, device = pair()
    packets = outers(device, 5)
    assert opened(gateway, *(from_address(outer, AWAY) for outer in packets[:2])) == []
    assert gateway.events == [EndpointSeen(SPI, bed.endpoint(AWAY), "esp icv, sequence 2")]
    assert gateway.counters == {"slow_path_proven": 1}
    assert len(opened(gateway, packets[2])) == 1, "from where it was: nothing to wait for"
    assert opened(gateway, from_address(packets[3], AWAY)) == []
    assert len(moved(gateway, AWAY)) == 3
    assert len(opened(gateway, from_address(packets[4], AWAY))) == 1
    assert gateway.due is None


def test_who_is_not_moved_waits_no_longer_than_a_bound() -> None:
    gateway, device = pair()
    assert gateway.due is None
    packets = [from_address(outer, AWAY) for outer in outers(device, MAX_PACKETS + 6)]
    assert opened(gateway, *packets[:3]) == []
    assert gateway.due == 100.0 + WAIT_S
    gateway.advance(100.0 + WAIT_S / 2)
    assert opened(gateway) == []
    gateway.advance(100.0 + WAIT_S)
    assert len(opened(gateway)) == 3
    assert len(opened(gateway, packets[3])) == 1
    assert gateway.due is None


def test_no_more_than_so_many_wait() -> None:
    gateway, device = pair()
    packets = [from_address(outer, AWAY) for outer in outers(device, MAX_PACKETS + 6)]
    assert len(opened(gateway, *packets)) == 6
    gateway.remove(SPI)
    assert len(opened(gateway)) == MAX_PACKETS


def test_the_same_news_are_told_again_after_a_second_until_it_has_moved() -> None:
    gateway, device = pair()
    for seconds in (0.0, 0.5, 0.9, 1.0, 1.5):
        gateway.advance(100 + seconds)
        opened(gateway, *(from_address(outer, AWAY) for outer in outers(device, 2)))
    assert [event.proof for event in gateway.events if isinstance(event, EndpointSeen)] == [
        "esp icv, sequence 2",
        "esp icv, sequence 8",
    ]
    gateway.events.clear()
    gateway.move(SPI, bed.endpoint(bed.GATEWAY), bed.endpoint(AWAY), udp_encapsulation=False)
    gateway.advance(110)
    opened(gateway, *(from_address(outer, AWAY) for outer in outers(device, 2)))
    assert gateway.events == []
    assert sealed(gateway, bed.to_device())[0][16:20] == bed.endpoint(AWAY).address.packed


def test_a_udp_mapping() -> None:
    gateway, device = pair(udp=True, follow=False)
    packets = [from_address(outer, AWAY, 1024) for outer in outers(device, 3)]
    assert opened(gateway, *packets) == []
    assert gateway.events == [EndpointSeen(SPI, bed.endpoint(AWAY, 1024), "esp-in-udp mapping")]
    opened(gateway, from_address(outers(device, 1)[0], AWAY, 1025))
    assert gateway.events[1:] == [EndpointSeen(SPI, bed.endpoint(AWAY, 1025), "esp-in-udp mapping")]


def test_a_late_packet_is_delivered_but_moves_nothing() -> None:
    for udp, reason in ((False, "sequence 2 is not above 4"), (True, "the packet was late")):
        gateway, device = pair(udp=udp)
        early, *rest = outers(device, 3)
        opened(gateway, *rest)
        assert len(opened(gateway, from_address(early, AWAY))) == 1
        assert gateway.events == [EndpointRejected(SPI, bed.endpoint(AWAY), reason)]
        counted = "late_mappings" if udp else "slow_path_late"
        assert gateway.counters == {counted: 1}


def test_a_replay_from_elsewhere_is_refused_without_cryptography() -> None:
    gateway, device = pair()
    [outer] = outers(device, 1)
    opened(gateway, outer)
    assert opened(gateway, from_address(outer, AWAY)) == []
    reason = "sequence 2 is not above 2"
    assert gateway.events == [EndpointRejected(SPI, bed.endpoint(AWAY), reason)]
    assert gateway.counters == {"replayed": 1, "slow_path_late": 1}


def test_a_forgery_from_elsewhere() -> None:
    gateway, device = pair()
    [outer] = outers(device, 1)
    broken = from_address(outer[:-1] + bytes((outer[-1] ^ 1,)), AWAY)
    assert opened(gateway, broken) == []
    assert gateway.events == [EndpointRejected(SPI, bed.endpoint(AWAY), "integrity check failed")]
    assert gateway.counters == {"forged": 1, "slow_path_forged": 1}
    assert len(opened(gateway, outer)) == 1, "the number was not used up"


def test_an_sa_that_does_not_follow_takes_packets_from_anywhere_and_says_nothing() -> None:
    gateway, device = pair(follow=False)
    assert len(opened(gateway, *(from_address(one, AWAY) for one in outers(device, 500)))) == 500
    assert gateway.events == []
    assert gateway.counters == {}


def test_the_other_encapsulation_is_not_this_sas() -> None:
    gateway, device = pair()
    device.move(SPI + 1, bed.endpoint(bed.DEVICE), bed.endpoint(bed.GATEWAY),
                udp_encapsulation=True)  # fmt: skip
    assert opened(gateway, *outers(device, 1)) == []
    assert gateway.counters == {"wrong_encapsulation": 1}


def test_another_local_address_is_not_this_sas() -> None:
    gateway, device = pair()
    [outer] = outers(device, 1)
    other = outer[:16] + bed.endpoint(AWAY).address.packed + outer[20:]
    assert opened(gateway, other) == []
    assert gateway.counters == {"unknown_spi": 1}


def test_over_ipv6() -> None:
    here, there = bed.endpoint(bed.GATEWAY6), bed.endpoint(bed.DEVICE6)
    gateway, device = connected(*both_ends(local=here, remote=there, udp=True))
    [outer] = outers(device, 1)
    opened(gateway, from_address(outer, "2001:db8:99::1", 99))
    seen = Endpoint(bed.endpoint("2001:db8:99::1").address, 99)
    assert gateway.events == [EndpointSeen(SPI, seen, "esp-in-udp mapping")]


# -- floods --------------------------------------------------------------------------------------


def garbage(outer: bytes, count: int, address: str) -> list[bytes]:
    """With numbers above any that was seen, so that only the ICV tells."""
    return [
        from_address(outer[:24] + (1000 + n).to_bytes(4, "big") + outer[28:], address)
        for n in range(count)
    ]


def test_a_flood_from_one_source_costs_a_bounded_number_of_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway, device = pair()
    [outer, *rest] = outers(device, 21)
    for tick in range(20):
        gateway.advance(100 + tick / 100)
        opened(gateway, *garbage(outer, 1000, THIRD))
        assert len(opened(gateway, rest[tick])) == 1, "those of the peer go on"
    checked = gateway.counters["forged"]
    allowed = esp_budget.SUSPECT_BURST + 0.2 * esp_budget.SUSPECT_CHECKS_PER_S
    assert checked <= 1 + allowed
    assert gateway.counters["unchecked"] == 20_000 - checked
    assert len(gateway.events) <= 2 * esp_budget.REJECTIONS_PER_S
    gateway.events.clear()
    again = outers(device, 1)
    opened(gateway, from_address(again[0], AWAY))
    assert len(moved(gateway, AWAY)) == 1, "a new source is heard"
    assert isinstance(gateway.events[-1], EndpointSeen)


def test_a_flood_from_many_sources_is_bounded_and_never_touches_the_peers_own() -> None:
    gateway, device = pair()
    outer, *rest = outers(device, 11)
    for tick in range(10):
        for host in range(250):
            opened(gateway, *garbage(outer, 1, f"203.0.113.{host}"))
        assert len(opened(gateway, rest[tick])) == 1
    assert gateway.counters["forged"] <= esp_budget.CHECKS_BURST + esp_budget.SUSPECT_BURST
    half = gateway._inbound[SPI.to_bytes(4, "big")]
    assert len(half.budget.suspects) <= esp_budget.MAX_SUSPECTS


def test_garbage_from_the_peers_own_address_does_not_shut_it_out() -> None:
    gateway, device = pair()
    outer, *rest = outers(device, 101)
    for packet in rest:
        opened(gateway, *garbage(outer, 20, bed.DEVICE))
        assert len(opened(gateway, packet)) == 1


# -- moves ---------------------------------------------------------------------------------------


def test_a_move_keeps_numbers_counters_and_what_was_received() -> None:
    gateway, device = pair()
    replayed = outers(device, 3)
    opened(gateway, *replayed)
    gateway.advance(130)
    assert gateway.before_move(SPI) is None
    gateway.move(SPI, bed.endpoint(bed.GATEWAY), bed.endpoint(AWAY, 99), udp_encapsulation=True)
    assert gateway.before_move(SPI) == (4, 1_700_000_000.0 - 30)
    device.move(SPI + 1, bed.endpoint(bed.DEVICE), bed.endpoint(bed.GATEWAY),
                udp_encapsulation=True)  # fmt: skip
    [held] = gateway.held()
    assert (held.sa.remote, held.sa.udp_encapsulation) == (bed.endpoint(AWAY, 99), True)
    in_udp = [packet[:9] + b"\x11" + packet[10:20] + bytes(4)
              + (len(packet) - 12).to_bytes(2, "big") + bytes(2) + packet[20:]
              for packet in replayed]  # fmt: skip
    in_udp = [packet[:2] + len(packet).to_bytes(2, "big") + packet[4:] for packet in in_udp]
    assert opened(gateway, *in_udp) == []
    assert gateway.counters["replayed"] == 3
    assert len(opened(gateway, *(from_address(one, AWAY, 99) for one in outers(device, 3)))) == 3
    told = gateway.usage(SPI)
    assert told is not None
    assert told.packets_in == 7


def test_a_move_to_the_same_place_is_none() -> None:
    gateway, _ = pair()
    gateway.move(SPI, bed.endpoint(bed.GATEWAY), bed.endpoint(bed.DEVICE), udp_encapsulation=False)
    assert gateway.before_move(SPI) is None


def test_a_move_that_mixes_ip_versions_is_refused() -> None:
    gateway, device = pair()
    refused = gateway.move(
        SPI, bed.endpoint(bed.GATEWAY), bed.endpoint(bed.DEVICE6), udp_encapsulation=False
    )
    assert refused is not None
    assert len(opened(gateway, *outers(device, 1))) == 1


def test_to_ipv6_and_back() -> None:
    gateway, device = pair()
    ways = [(bed.GATEWAY6, bed.DEVICE6, True), (bed.GATEWAY, bed.DEVICE, False)]
    for ours, theirs, udp in ways:
        here, there = bed.endpoint(ours), bed.endpoint(theirs)
        assert gateway.move(SPI, here, there, udp_encapsulation=udp) is None
        assert device.move(SPI + 1, there, here, udp_encapsulation=udp) is None
        assert len(opened(gateway, *outers(device, 2))) == 2
        assert len(opened(device, *sealed(gateway, bed.to_device()))) == 1


def test_a_clock_that_jumps_hurts_nobody() -> None:
    gateway, device = pair()
    for now in (1e9, 50.0, 1e12, 0.0):
        gateway.advance(now)
        device.advance(now)
        opened(gateway, *outers(device, 1))
        opened(gateway, from_address(outers(device, 1)[0], AWAY))
        told = gateway.usage(SPI)
        assert told is not None
        assert told.last_in_age_s == 0
        gateway.advance(now - 10)
        assert gateway.due is None
        told = gateway.usage(SPI)
        assert told is not None
        assert told.last_in_age_s == 0


def test_an_unknown_sa_is_nothing() -> None:
    gateway = engine()
    gateway.move(5, bed.endpoint(AWAY), bed.endpoint(THIRD), udp_encapsulation=True)
    gateway.remove(5)
    gateway.activate(5)
    gateway.untrap(5)
    assert gateway.usage(5) is None
    assert gateway.before_move(5) is None

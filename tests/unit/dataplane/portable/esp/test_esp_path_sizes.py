"""Packets that do not fit the way to the peer: who sent them is told, as a router tells."""

from ipaddress import ip_address

import esp_bed as bed
import pytest
from esp_bed import HOST, HOST6, LINK, both_ends

from gateway.dataplane.packet import icmp
from gateway.dataplane.portable.esp.engine import EspEngine
from gateway.dataplane.portable.esp.path_sizes import (
    BELIEVED_S,
    ERRORS_PER_S,
    ERRORS_TO_ONE_PER_S,
    SEARCHES_PER_S,
)
from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import IpAddress

OURS, OURS6 = ip_address("10.1.0.254"), ip_address("fd00:1::254")
GCM_IN_1500 = 1446
"""1500 - 20 - 8 - 8 - 16 in blocks of 4, less two."""


class FakePaths:
    def __init__(self, mtu: int) -> None:
        self.octets = mtu
        self.asked: list[tuple[IpAddress, int]] = []

    def mtu(self, local: IpAddress, remote: IpAddress, mark: int) -> int:
        assert local.version == remote.version
        self.asked.append((remote, mark))
        return self.octets

    def source(self, destination: IpAddress) -> bytes | None:
        return (OURS if destination.version == 4 else OURS6).packed


def gateway(paths: FakePaths, **how: object) -> EspEngine:
    made = EspEngine(LINK, 0, 1, bytes, now=100.0, wall_clock=lambda: 0.0, paths=paths)
    assert made.install(both_ends(**how)[0], outbound=True, output_mark=9) is None  # type: ignore[arg-type]
    return made


def of(octets: int, **how: object) -> bytes:
    return bed.to_device(payload=bytes(octets - 28), **how)


def of6(octets: int) -> bytes:
    return bed.udp6("fd00:1::1", HOST6, payload=bytes(octets - 48))


def sends(made: EspEngine, packet: bytes) -> list[tuple[bytes, int]]:
    made.leaving(LINK, [(packet, 3)])
    found = list(made.sends)
    made.sends.clear()
    return found


def test_what_fits_is_sent_and_one_more_is_answered() -> None:
    made = gateway(FakePaths(1500))
    [(outer, mark)] = sends(made, of(GCM_IN_1500))
    assert (len(outer), mark) == (1500, 9)
    [(told, mark)] = sends(made, of(GCM_IN_1500 + 1))
    assert mark == 0
    assert (told[12:16], told[16:20]) == (OURS.packed, ip_address("10.1.0.1").packed)
    error = icmp.parse_error(told)
    assert (error.type, error.code, error.mtu) == (3, 4, GCM_IN_1500)
    assert error.quote == of(GCM_IN_1500 + 1)[: len(error.quote)]
    assert made.counters == {"too_long": 1}


@pytest.mark.parametrize(("udp", "outer", "less"), [(True, 4, 8), (False, 6, 20), (True, 6, 28)])
def test_every_way_of_wrapping(udp: bool, outer: int, less: int) -> None:
    addresses = (bed.GATEWAY, bed.DEVICE) if outer == 4 else (bed.GATEWAY6, bed.DEVICE6)
    local, remote = map(bed.endpoint, addresses)
    made = gateway(FakePaths(1500), udp=udp, local=local, remote=remote)
    limit = (1500 - 52 - less) // 4 * 4 - 2
    [(packet, _)] = sends(made, of(limit))
    assert 1500 - 4 < len(packet) <= 1500
    [(told, _)] = sends(made, of(limit + 1))
    assert icmp.parse_error(told).mtu == limit


def test_what_may_be_cut_up_is_cut_up_outside() -> None:
    made = gateway(FakePaths(1000))
    [(outer, _)] = sends(made, of(1400, dont_fragment=False))
    assert len(outer) > 1400
    assert outer[6] & 0x40 == 0


def test_ipv6_is_told_the_truth_down_to_what_every_link_carries() -> None:
    made = gateway(FakePaths(1400))
    [(told, _)] = sends(made, of6(1400))
    assert told[8:40] == OURS6.packed + ip_address("fd00:1::1").packed
    assert (told[6], told[40], told[41]) == (58, 2, 0)
    assert int.from_bytes(told[44:48], "big") == (1400 - 52) // 4 * 4 - 2
    size = (len(told) - 40).to_bytes(4, "big")
    assert internet_checksum(told[8:40] + size + (58).to_bytes(4, "big") + told[40:]) == 0
    assert told[48:] == of6(1400)[: 1280 - 48]
    narrow = gateway(FakePaths(600))
    [(told, _)] = sends(narrow, of6(1281))
    assert int.from_bytes(told[44:48], "big") == 1280
    [(outer, _)] = sends(narrow, of6(1280))
    assert outer[6] & 0x40 == 0
    assert len(outer) > 1280


def test_no_errors_about_errors() -> None:
    made = gateway(FakePaths(600))
    about = icmp.error(OURS.packed, bed.udp4(HOST, "10.1.0.1"), 3, 1)
    assert about is not None
    error = about[:16] + ip_address(HOST).packed + about[20:] + bytes(600)
    error = error[:2] + len(error).to_bytes(2, "big") + error[4:]
    assert sends(made, error) == []
    packet = of6(1400)
    assert sends(made, packet[:6] + b"\x3a" + packet[7:40] + b"\1" + packet[41:]) == []
    assert made.counters == {"too_long": 2}


def test_errors_are_bounded() -> None:
    made = gateway(FakePaths(1500))
    hosts = [f"10.1.0.{number}" for number in range(1, 61)]
    told = sum(len(sends(made, from_host(host))) for host in hosts for _ in range(10))
    assert told == ERRORS_PER_S


def test_one_host_that_does_not_listen_leaves_errors_for_others() -> None:
    made = gateway(FakePaths(1500))
    told = sum(len(sends(made, from_host("10.1.0.1"))) for _ in range(1000))
    assert told == ERRORS_TO_ONE_PER_S
    assert len(sends(made, from_host("10.1.0.2"))) == 1
    made.advance(made.now + 1.0)
    assert len(sends(made, from_host("10.1.0.1"))) == 1


def from_host(address: str) -> bytes:
    return bed.udp4(address, HOST, payload=bytes(1472))


def test_the_kernel_is_asked_now_and_then_and_after_a_move() -> None:
    paths = FakePaths(1500)
    made = gateway(paths)
    for _ in range(5):
        sends(made, of(1000))
        sends(made, of(1447))
    remote = bed.endpoint(bed.DEVICE).address
    assert paths.asked == [(remote, 9)]
    paths.octets = 1300
    made.advance(100.0 + BELIEVED_S)
    [(told, _)] = sends(made, of(1400))
    assert icmp.parse_error(told).mtu == 1246
    away = bed.endpoint("203.0.113.9")
    made.move(0x1000, bed.endpoint(bed.GATEWAY), away, udp_encapsulation=False)
    paths.octets = 1500
    assert len(sends(made, of(1400))[0][0]) > 1400
    assert paths.asked[-1] == (away.address, 9)


def test_small_packets_ask_nothing_and_an_unknown_path_has_no_limit() -> None:
    paths = FakePaths(0)
    made = gateway(paths)
    sends(made, of(100))
    assert paths.asked == []
    assert len(sends(made, of(9000))[0][0]) > 9000


def test_the_wire_says_that_a_packet_did_not_fit() -> None:
    paths = FakePaths(1500)
    made = gateway(paths)
    remote = bed.endpoint(bed.DEVICE).address.packed
    assert len(sends(made, of(1400))[0][0]) > 1400
    assert not made.narrowed(remote), "no news: it has to be cut up"
    paths.octets = 1300
    assert not made.narrowed(bed.endpoint("203.0.113.9").address.packed)
    assert made.narrowed(remote)
    assert not made.narrowed(remote)
    [(told, _)] = sends(made, of(1400))
    assert icmp.parse_error(told).mtu == 1246
    before = len(paths.asked)
    for _ in range(1000):
        made.narrowed(remote)
    assert len(paths.asked) - before < SEARCHES_PER_S

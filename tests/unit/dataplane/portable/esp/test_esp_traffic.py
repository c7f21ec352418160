"""Two engines talk: suites, modes, outer addresses, headers, key changes, lossy wires."""

import random
from itertools import pairwise

import esp_bed as bed
import pytest
from esp_bed import HOST, HOST6, LINK, both_ends, connected, engine, opened, sealed

from gateway.dataplane.packet import marks
from gateway.dataplane.packet.esp import EspCipher
from gateway.dataplane.portable.esp.engine import EspEngine
from gateway.dataplane.portable.packets import Engine
from gateway.domain.checksum import internet_checksum
from gateway.domain.child_sa import ChildSa, EspSuite, Mode

OUTERS = [(bed.GATEWAY, bed.DEVICE), (bed.GATEWAY6, bed.DEVICE6)]


def test_it_is_an_engine() -> None:
    made: Engine = engine()
    assert made.sends == []


@pytest.mark.parametrize("suite", bed.SUITES, ids=str)
@pytest.mark.parametrize("udp", [False, True], ids=["esp", "udp"])
@pytest.mark.parametrize("outer", OUTERS, ids=["v4", "v6"])
def test_packets_of_every_size_arrive_as_they_were(
    suite: EspSuite, udp: bool, outer: tuple[str, str]
) -> None:
    local, remote = map(bed.endpoint, outer)
    gateway, device = connected(*both_ends(suite, udp=udp, local=local, remote=remote))
    down = [bed.to_device(payload=bytes(size)) for size in (*range(40), 1372, 3000)]
    down += [bed.udp6("fd00:1::1", HOST6, payload=bytes(size)) for size in range(20)]
    assert opened(device, *sealed(gateway, *down)) == down
    up = [bed.to_gateway(payload=bytes(size)) for size in range(40)]
    assert opened(gateway, *sealed(device, *up)) == up
    assert not gateway.counters
    assert not device.counters


@pytest.mark.parametrize("suite", bed.SUITES, ids=str)
def test_what_is_sent_opens_with_the_plain_cipher(suite: EspSuite) -> None:
    gateway_sa, device_sa = both_ends(suite)
    gateway, _ = connected(gateway_sa, device_sa)
    packets = [bed.to_device(payload=bytes(size)) for size in range(9)]
    for number, (inner, outer) in enumerate(
        zip(packets, sealed(gateway, *packets), strict=True), start=1
    ):
        told = EspCipher(suite, gateway_sa.keys_out).open(outer[20:], number)
        assert (told.octets, told.next_header) == (inner, 4)


def test_ivs_and_sequence_numbers_never_repeat_moved_or_installed_again() -> None:
    gateway_sa, device_sa = both_ends()
    gateway, _ = connected(gateway_sa, device_sa)
    outers = sealed(gateway, *[bed.to_device()] * 50)
    gateway.move(0x1000, bed.endpoint(bed.GATEWAY), bed.endpoint("203.0.113.9"),
                 udp_encapsulation=True)  # fmt: skip
    outers += [packet[8:] for packet in sealed(gateway, *[bed.to_device()] * 50)]
    numbers = [int.from_bytes(packet[24:28], "big") for packet in outers]
    assert all(after == before + 1 for before, after in pairwise(numbers))
    assert len({packet[28:36] for packet in outers}) == 100
    gateway.remove(0x1000)
    assert gateway.install(gateway_sa, outbound=True) is None
    again = {packet[28:36] for packet in sealed(gateway, *[bed.to_device()] * 50)}
    assert not again & {packet[28:36] for packet in outers}


# -- outer headers -------------------------------------------------------------------------------


@pytest.mark.parametrize("dont_fragment", [False, True])
def test_the_outer_ipv4_header_is_the_kernels(dont_fragment: bool) -> None:
    gateway, _ = connected(*both_ends())
    for tos, outside in ((0, 0), (0xB8, 0xB8), (0x01, 0x01), (0x02, 0x02), (0x2B, 0x2A)):
        inner = bed.to_device(tos=tos, dont_fragment=dont_fragment)
        [outer] = sealed(gateway, inner)
        assert outer[0] == 0x45
        assert outer[1] == outside
        assert int.from_bytes(outer[2:4], "big") == len(outer)
        assert outer[4:6] == b"\0\0"
        assert outer[6:8] == (b"\x40\0" if dont_fragment else b"\0\0")
        assert (outer[8], outer[9]) == (64, 50)
        assert outer[10:12] == b"\0\0"


def test_an_inner_ipv6_packet_may_be_fragmented_outside_only_when_it_is_small() -> None:
    gateway, _ = connected(*both_ends())
    for size, flags in ((1232, 0), (1233, 0x40)):
        [outer] = sealed(gateway, bed.udp6("fd00:1::1", HOST6, payload=bytes(size), tos=0x2B))
        assert (outer[1], outer[6]) == (0x2A, flags)


@pytest.mark.parametrize("inner", [bed.to_device(tos=0xBB), bed.udp6("fd00:1::1", HOST6, tos=0xBB)])
def test_the_outer_ipv6_header(inner: bytes) -> None:
    local, remote = bed.endpoint(bed.GATEWAY6), bed.endpoint(bed.DEVICE6)
    gateway, _ = connected(*both_ends(local=local, remote=remote))
    [outer] = sealed(gateway, inner)
    assert int.from_bytes(outer[:4], "big") == 0x60000000 | 0xBA << 20
    assert int.from_bytes(outer[4:6], "big") == len(outer) - 40
    assert (outer[6], outer[7]) == (50, 64)
    assert outer[8:40] == local.address.packed + remote.address.packed


def test_the_flow_label_is_the_inner_ones() -> None:
    local, remote = bed.endpoint(bed.GATEWAY6), bed.endpoint(bed.DEVICE6)
    gateway, _ = connected(*both_ends(local=local, remote=remote))
    [outer] = sealed(gateway, bed.udp6("fd00:1::1", HOST6, flow=0x54321))
    assert int.from_bytes(outer[:4], "big") == 0x60054321


def test_udp_checksums_zero_over_ipv4_and_right_over_ipv6() -> None:
    here, there = bed.endpoint(bed.GATEWAY, 4500), bed.endpoint(bed.DEVICE, 31337)
    gateway, _ = connected(*both_ends(udp=True, local=here, remote=there))
    [outer] = sealed(gateway, bed.to_device())
    assert outer[9] == 17
    assert (
        outer[20:28] == bytes.fromhex("11947a69") + (len(outer) - 20).to_bytes(2, "big") + b"\0\0"
    )
    here, there = bed.endpoint(bed.GATEWAY6, 4500), bed.endpoint(bed.DEVICE6, 31337)
    gateway, _ = connected(*both_ends(udp=True, local=here, remote=there))
    [outer] = sealed(gateway, bed.to_device())
    size = (len(outer) - 40).to_bytes(4, "big")
    assert internet_checksum(outer[8:40] + size + (17).to_bytes(4, "big") + outer[40:]) == 0


@pytest.mark.parametrize("outer_tos", [0, 1, 2, 3])
@pytest.mark.parametrize("inner_tos", [0, 1, 2, 3])
@pytest.mark.parametrize("version", [4, 6])
def test_congestion_on_the_way_is_told_inside(outer_tos: int, inner_tos: int, version: int) -> None:
    gateway, device = connected(*both_ends())
    inner = bed.to_device(tos=0xB8 | inner_tos)
    if version == 6:
        inner = bed.udp6("fd00:1::1", HOST6, tos=0xB8 | inner_tos)
    [outer] = sealed(gateway, inner)
    [packet] = opened(device, outer[:1] + bytes((outer_tos,)) + outer[2:])
    told = packet[1] if version == 4 else (packet[0] & 15) << 4 | packet[1] >> 4
    marked = outer_tos == 3 and inner_tos
    assert told == (0xBB if marked else 0xB8 | inner_tos)
    if version == 4:
        assert internet_checksum(packet[:20]) == 0


# -- fwmarks -------------------------------------------------------------------------------------


def test_marks_without_a_zone_are_those_of_the_packet_inside_and_outside() -> None:
    gateway, device = connected(*both_ends())
    gateway.leaving(LINK, [(bed.to_device(), 0x99)])
    [(outer, mark)] = gateway.sends
    assert mark == 0x99
    device.arrived([(outer, 0x77)])
    assert [(link, mark) for link, _, mark in device.delivers] == [(LINK, 0x77)]


def test_the_output_mark_and_zones() -> None:
    sa, device_sa = both_ends(zone=9)
    gateway, device = engine(), engine()
    assert gateway.install(sa, outbound=True) is None
    gateway.leaving(LINK, [(bed.to_device(), marks.TO_DEVICE | 9)])
    assert [mark for _, mark in gateway.sends] == [0]
    assert device.install(device_sa, outbound=True, output_mark=5) is None
    device.leaving(LINK, [(bed.to_gateway(), 0x99)])
    [(outer, mark)] = device.sends
    assert mark == 5
    gateway.arrived([(outer, 0x77)])
    assert [mark for _, _, mark in gateway.delivers] == [marks.FROM_DEVICE | 9]


# -- what may not be in a packet -----------------------------------------------------------------


def forged(sa: ChildSa, number: int, plain: bytes, next_header: int, *, raw: bytes = b"") -> bytes:
    """From a peer that has the keys and seals what it likes; ``raw`` with its own padding."""
    from gateway.dataplane.packet.esp_keyed import keyed

    header = sa.spi_in.to_bytes(4, "big") + number.to_bytes(4, "big")
    if not raw:
        padding = -(len(plain) + 2) % 16
        raw = plain + bytes(range(1, padding + 1)) + bytes((padding, next_header))
    iv = number.to_bytes(8 if sa.suite.encryption.is_aead else 16, "big")
    esp = header + keyed(sa.suite, sa.keys_in).seal(header, number, iv, raw)
    ends = sa.remote.address.packed + sa.local.address.packed
    total = (20 + len(esp)).to_bytes(2, "big")
    return b"\x45\0" + total + bytes(5) + b"\x32\0\0" + ends + esp


def the_gateway(suite: EspSuite = bed.GCM) -> tuple[EspEngine, ChildSa]:
    sa, _ = both_ends(suite)
    made = engine()
    assert made.install(sa, outbound=True) is None
    return made, sa


@pytest.mark.parametrize("suite", bed.SUITES, ids=str)
def test_wrong_padding_is_refused(suite: EspSuite) -> None:
    gateway, sa = the_gateway(suite)
    good = bed.to_gateway(payload=bytes(10))  # 38 octets
    for number, tail in enumerate(
        (b"\2\1\2\4", b"\1\2\3\0\4\4", b"\xff\4", bytes(8) + b"\x08\4", bytes(14) + b"\xff\4"),
        start=1,
    ):
        padding = bytes(-(len(good) + len(tail)) % 16)
        opened_ = opened(gateway, forged(sa, number, b"", 4, raw=good + padding + tail))
        assert opened_ == []
    assert gateway.counters == {"wrong_padding": 5}


def test_dummies_are_dropped_silently_but_show_that_the_peer_lives() -> None:
    gateway, sa = the_gateway()
    assert opened(gateway, forged(sa, 1, bytes(100), 59)) == []
    assert gateway.counters == {}
    told = gateway.usage(sa.spi_in)
    assert told is not None
    assert (told.packets_in, told.last_in_age_s) == (1, 0.0)


@pytest.mark.parametrize(
    ("inner", "next_header", "why"),
    [
        (b"", 4, "malformed_inner"),
        (b"\x45" * 19, 4, "malformed_inner"),
        (bed.to_gateway(), 41, "malformed_inner"),
        (bed.to_gateway(), 17, "malformed_inner"),
        (bed.udp6(HOST6, "fd00:1::1"), 4, "malformed_inner"),
        (b"\x44" + bed.to_gateway()[1:], 4, "malformed_inner"),
        (bed.to_gateway()[:-1], 4, "malformed_inner"),
        (bed.udp6(HOST6, "fd00:1::1")[:-1], 41, "malformed_inner"),
        (bed.udp4("10.9.0.6", "10.1.0.1"), 4, "selectors"),
        (bed.udp4(HOST, "10.2.0.1"), 4, "selectors"),
        (bed.udp6("fd00:9::6", "fd00:1::1"), 41, "selectors"),
        (bed.udp6(HOST6, "fd00:2::1"), 41, "selectors"),
    ],
)
def test_what_the_peer_may_not_send(inner: bytes, next_header: int, why: str) -> None:
    gateway, sa = the_gateway()
    assert opened(gateway, forged(sa, 1, inner, next_header)) == []
    assert gateway.counters == {why: 1}
    assert opened(gateway, forged(sa, 2, bed.to_gateway(), 4)) == [bed.to_gateway()]


def test_traffic_flow_padding_behind_the_inner_packet_goes_along() -> None:
    """RFC 4303 section 2.7: its own length says where the packet ends; the stack cuts it off."""
    gateway, sa = the_gateway()
    [packet] = opened(gateway, forged(sa, 1, bed.to_gateway() + bytes(50), 4))
    assert packet.startswith(bed.to_gateway())


# -- wires ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [32, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize("suite", [bed.GCM, bed.CBC[0]], ids=str)
def test_a_wire_that_loses_repeats_and_reorders(suite: EspSuite, window: int) -> None:
    """What comes out is what a model with a list of all numbers lets out."""
    choose = random.Random(window)
    gateway, device = connected(*both_ends(suite, window=window))
    inner = [bed.to_device(payload=number.to_bytes(4, "big")) for number in range(1500)]
    outers = sealed(gateway, *inner)
    wire = [number for number in range(1500) for _ in range(choose.choice((0, 1, 1, 1, 2)))]
    wire.sort(key=lambda number: number + choose.choice((0, 0, 0, 10, window - 5, 2 * window)))
    seen, highest, expected = set(), -1, []
    for number in wire:
        if number not in seen and number > highest - window:
            seen.add(number)
            highest = max(highest, number)
            expected.append(inner[number])
    assert opened(device, *(outers[number] for number in wire)) == expected
    assert device.counters["replayed"] + device.counters.get("forged", 0) == len(wire) - len(
        expected
    )


@pytest.mark.parametrize("suite", [bed.GCM, bed.CHACHA, bed.CBC[1]], ids=str)
def test_extended_sequence_numbers_across_the_boundary(suite: EspSuite) -> None:
    gateway, device = connected(*both_ends(suite))
    sender = gateway._reqids[7].sender
    assert sender is not None
    half = device._inbound[(0x1001).to_bytes(4, "big")]
    sender.sequence = (1 << 32) - 6
    half.window.accept((1 << 32) - 6)
    inner = [bed.to_device(payload=bytes((number,))) for number in range(12)]
    outers = sealed(gateway, *inner)
    assert [int.from_bytes(packet[24:28], "big") for packet in outers[4:8]] == [
        0xFFFFFFFF, 0, 1, 2,
    ]  # fmt: skip
    order = [0, 7, 3, 11, 1, 2, 4, 5, 6, 8, 9, 10]
    assert opened(device, *(outers[at] for at in order)) == [inner[at] for at in order]
    assert opened(device, *outers) == []
    assert half.window.highest == (1 << 32) + 6


# -- key changes ---------------------------------------------------------------------------------


def test_keys_change_under_traffic_without_a_packet_lost() -> None:
    old, new = both_ends(spi=0x1000), both_ends(bed.CHACHA, spi=0x2000)
    gateway, device = connected(*old)
    delivered: list[bytes] = []
    sent: list[bytes] = []
    under_way: list[bytes] = []

    def tick(number: int) -> None:
        """Packets take three ticks."""
        packet = bed.to_device(payload=number.to_bytes(4, "big"))
        sent.append(packet)
        under_way.extend(sealed(gateway, packet))
        if len(under_way) > 3:
            delivered.extend(opened(device, under_way.pop(0)))

    for number in range(40):
        if number == 10:
            assert device.install(new[1], outbound=False) is None
        if number == 12:
            assert gateway.install(new[0], outbound=False) is None
        if number == 15:
            gateway.activate(0x2000)
            assert not any(held.outbound for held in gateway.held() if held.sa.spi_in == 0x1000)
        if number == 17:
            device.activate(0x2001)
            [outer] = sealed(device, bed.to_gateway())
            assert outer[20:24] == (0x2000).to_bytes(4, "big")
        if number == 25:
            gateway.remove(0x1000)
            device.remove(0x1001)
        tick(number)
    assert delivered == sent[: len(delivered)]
    assert not device.counters
    assert sealed(gateway, bed.to_device())[0][20:24] == (0x2001).to_bytes(4, "big")


def test_one_that_was_superseded_does_not_send_again() -> None:
    gateway = engine()
    for spi in (0x1000, 0x2000):
        assert gateway.install(both_ends(spi=spi)[0], outbound=True) is None
    gateway.activate(0x1000)
    assert sealed(gateway, bed.to_device())[0][20:24] == (0x2001).to_bytes(4, "big")
    gateway.remove(0x2000)
    assert sealed(gateway, bed.to_device()) == []
    assert gateway.counters == {"no_sa": 1}


# -- transport mode ------------------------------------------------------------------------------


def transport(udp: bool, outer: tuple[str, str]) -> tuple[ChildSa, ChildSa]:
    here, there = map(bed.network, outer)
    local, remote = map(bed.endpoint, outer)
    return both_ends(
        local=local,
        remote=remote,
        udp=udp,
        mode=Mode.TRANSPORT,
        local_ts=(here,),
        remote_ts=(there,),
    )


@pytest.mark.parametrize("udp", [False, True], ids=["esp", "udp"])
def test_transport_mode_keeps_the_header(udp: bool) -> None:
    gateway, device = connected(*transport(udp, OUTERS[0]))
    inner = bed.udp4(*OUTERS[0], tos=0xB8)
    [outer] = sealed(gateway, inner)
    assert outer[:2] == inner[:2]
    assert outer[4:9] == inner[4:9]
    assert outer[9] == (17 if udp else 50)
    assert int.from_bytes(outer[2:4], "big") == len(outer)
    assert opened(device, outer) == [inner]


@pytest.mark.parametrize("udp", [False, True], ids=["esp", "udp"])
def test_transport_mode_over_ipv6(udp: bool) -> None:
    gateway, device = connected(*transport(udp, OUTERS[1]))
    inner = bed.udp6(*OUTERS[1])
    [outer] = sealed(gateway, inner)
    assert outer[6] == (17 if udp else 50)
    assert opened(device, outer) == [inner]


def test_transport_mode_through_a_nat_comes_out_with_a_right_checksum() -> None:
    """The device counted its checksum with its private address."""
    _, device_sa = transport(True, (bed.GATEWAY, "192.168.1.5"))
    gateway_sa, _ = transport(True, OUTERS[0])
    gateway, device = connected(gateway_sa, device_sa)
    [outer] = sealed(device, bed.udp4("192.168.1.5", bed.GATEWAY))
    assert opened(gateway, bed.from_address(outer, bed.DEVICE)) == [
        bed.udp4(bed.DEVICE, bed.GATEWAY)
    ]


def test_transport_mode_protects_no_fragments() -> None:
    gateway, _ = connected(*transport(False, OUTERS[0]))
    packet = bed.udp4(*OUTERS[0])
    assert sealed(gateway, packet[:6] + b"\x20\0" + packet[8:]) == []
    assert gateway.counters == {"unsealable": 1}


def test_a_packet_that_would_be_too_long_is_counted() -> None:
    gateway, _ = connected(*both_ends())
    assert sealed(gateway, bed.to_device(payload=bytes(65500))) == []
    assert gateway.counters == {"unsealable": 1}


def test_packets_of_other_links_are_left_alone() -> None:
    gateway, _ = connected(*both_ends())
    gateway.leaving("mip0", [(bed.to_device(), 0)])
    assert gateway.sends == []

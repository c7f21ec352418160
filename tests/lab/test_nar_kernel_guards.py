"""What is nobody's, what is somebody else's, and what does not fit."""

# planes: kernel portable

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from dataplane_bed import entered, inside, run
from mobility_kernel_bed import Packet, ip
from nar_kernel_bed import (
    CLIENTS,
    CN,
    NA,
    NB,
    NB2,
    OUTSIDE,
    SERVER,
    SETTINGS,
    SOHO,
    XA,
    XA2,
    YB,
    YB2,
    NarKernelBed,
    echo,
    esp,
    forwarded,
    lease,
    nar_kernel_bed,
    tcp,
    udp,
    wrap,
)

from gateway.domain.checksum import internet_checksum
from gateway.domain.nar import Delivery, NarProtocol

pytestmark = pytest.mark.kernel

P = NarProtocol
NAPT = replace(SOHO, masquerade=(IPv4Network("10.0.0.0/24"),))
SYN, RST = 0x02, 0x04


@pytest.fixture(scope="module")
def module_bed() -> Iterator[NarKernelBed]:
    with nar_kernel_bed() as bed:
        bed.start()
        yield bed


@pytest.fixture
def bed(module_bed: NarKernelBed) -> Iterator[NarKernelBed]:
    module_bed.clear()
    module_bed.forget()
    yield module_bed
    if module_bed.running.settings != SETTINGS:
        with entered(SERVER):
            module_bed.running.reconfigure(SETTINGS)


def marker(bed: NarKernelBed, capture: str) -> None:
    """A packet that arrives at that end after all that went before."""
    if capture == "y":
        bed.set(lease(P.UDP, 29_999, Delivery.TRANSLATED))
        bed.send(CLIENTS, udp(XA, 29_999, YB, 99, b"last"))
        bed.arrives(bed.y, forwarded(udp(NB, 29_999, YB, 99, b"last")))
    else:
        bed.set(lease(P.UDP, 29_999, Delivery.TRANSLATED))
        bed.send(OUTSIDE, udp(YB, 99, NB, 29_999, b"last"))
        bed.arrives(bed.x, forwarded(udp(YB, 99, XA, 29_999, b"last")))


SPOOFED = {
    "another source": tcp(CN, 20_001, YB, 80),
    "another lent address": tcp(NB2, 20_001, YB, 80),
    "another port": tcp(NB, 20_002, YB, 80),
    "another remote": tcp(NB, 20_001, YB2, 80),
    "another remote port": tcp(NB, 20_001, YB, 81),
    "another protocol": udp(NB, 20_001, YB, 80),
    "an error about nothing": ip(NB, YB, 1, b"\x03\x03\xfc\xfc\0\0\0\0" + tcp(CN, 1, NB, 2)[:28]),
    "another client's": tcp(NB, 20_003, YB, 80),
    "esp": esp(NB, YB, 7),
    "protocol 99": ip(NB, YB, 99, b"x" * 40),
}


@pytest.mark.parametrize("delivery", [Delivery.IP_IP, Delivery.GRE])
def test_h75_spoofed_inside_sources(bed: NarKernelBed, delivery: Delivery) -> None:
    bed.set(
        lease(P.TCP, 20_001, delivery, remote=YB, remote_port=80),
        lease(P.TCP, 20_003, delivery, remote=YB, remote_port=80, client=XA2),
    )
    before = bed.counters()
    for packet in SPOOFED.values():
        bed.send(CLIENTS, wrap(XA, NA, packet, delivery))
    bed.send(CLIENTS, wrap(XA, NA, tcp(NB, 20_001, YB, 80, b"mine"), delivery))
    bed.arrives(bed.y, forwarded(tcp(NB, 20_001, YB, 80, b"mine")))
    seen = [
        packet for packet in bed.y.packets() if packet.protocol != 6 or b"octets" in packet.octets
    ]
    assert seen == []
    # The error goes to user space, which drops it too.
    assert bed.counted("spoofed", before, len(SPOOFED) - 1) >= len(SPOOFED) - 1


def test_tunnels_from_strangers_are_the_boxs_own(bed: NarKernelBed) -> None:
    bed.set(lease(P.TCP, 20_001, remote=YB, remote_port=80))
    before = bed.counters()
    inner = tcp(NB, 20_001, YB, 80)
    bed.send(CLIENTS, wrap(XA2, NA, inner))  # no client
    bed.send(OUTSIDE, wrap(XA, NA, inner))  # a client's address on the wrong side
    bed.send(CLIENTS, wrap(XA, NB, inner))  # not the end of the tunnel
    bed.send(CLIENTS, wrap(XA, NA, inner, Delivery.GRE))  # not the delivery agreed upon
    bed.send(CLIENTS, ip(XA, "240.0.0.2", 4, inner))  # the receiving device itself
    marker(bed, "y")
    assert [packet for packet in bed.y.packets() if packet.protocol == 6] == []
    assert bed.counted("from_client", before) == 0
    assert bed.counted("tunnel_forged", before, 1) == 1


def test_translated_sources_elsewhere_and_without_a_lease(bed: NarKernelBed) -> None:
    bed.set(lease(P.TCP, 20_001, Delivery.TRANSLATED, remote=YB, remote_port=80))
    unleased = [
        tcp(XA2, 20_001, YB, 80),
        tcp(XA, 20_002, YB, 80),
        tcp(XA, 20_001, YB2, 80),
        tcp(XA, 20_001, YB, 81),
        esp(XA, YB, 5),
    ]
    for packet in unleased:
        bed.send(CLIENTS, packet)
        # The ordinary path: routed as it is.
        bed.arrives(bed.y, forwarded(packet))


def test_misses_go_to_the_box(bed: NarKernelBed) -> None:
    bed.set(lease(P.TCP, 20_001, remote=YB, remote_port=80))
    for packet in (
        tcp(YB, 80, NB, 20_002, flags=SYN),
        tcp(YB2, 80, NB, 20_001, flags=SYN),
        tcp(YB, 81, NB, 20_001, flags=SYN),
    ):
        bed.send(OUTSIDE, packet)
        _, port = struct.unpack_from("!HH", packet, 20)
        bed.wait(
            bed.y,
            lambda found, packet=packet: (
                found.source == NB
                and found.protocol == 6
                and found.octets[33] & RST == RST
                and found.octets[20:22] == packet[22:24]
            ),
            f"a reset from port {port}",
        )
        bed.forget()
    bed.send(OUTSIDE, echo(YB, NB, 0xC001))
    bed.wait(bed.y, lambda found: found.protocol == 1 and found.octets[20] == 0, "an echo reply")


def test_from_the_inside_lent_addresses_are_the_boxs_own(bed: NarKernelBed) -> None:
    bed.set(lease(P.TCP, 20_001))
    bed.send(CLIENTS, tcp(XA2, 80, NB, 20_001, flags=SYN))
    bed.wait(bed.x, lambda found: found.source == NB and found.octets[33] & RST == RST, "a reset")


def test_clients_reach_neither_the_inside_nor_the_box(bed: NarKernelBed) -> None:
    bed.set(lease(P.TCP, 20_001))
    before = bed.counters()
    for to in (XA2, NA, NB):
        bed.send(CLIENTS, wrap(XA, NA, tcp(NB, 20_001, to, 22, flags=SYN)))
    marker(bed, "x")
    assert [found for found in bed.x.packets() if found.protocol == 6 and found.source == NB] == []
    assert bed.counted("wrong_way", before, 1) == 1
    assert bed.counted("client_to_box", before, 2) == 2


def test_h76_nobody_sends_to_forbidden_networks(bed: NarKernelBed) -> None:
    bed.set(lease(P.UDP, 20_001), lease(P.UDP, 20_002, Delivery.TRANSLATED))
    with entered(SERVER):
        closed = replace(SOHO, forbidden=(IPv4Network("192.0.2.8/31"),))
        bed.running.reconfigure(replace(SETTINGS, servers=(closed,)))
    before = bed.counters()
    for to in (YB, "169.254.169.254"):
        bed.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, to, 9)))
        bed.send(CLIENTS, udp(XA, 20_002, to, 9))
    bed.send(CLIENTS, udp(XA, 20_002, YB2, 9))
    bed.arrives(bed.y, forwarded(udp(NB, 20_002, YB2, 9)))
    assert [found for found in bed.y.packets() if found.protocol == 17] == []
    # Without a default route nobody gets as far as that with the metadata address.
    assert bed.counted("forbidden", before, 2) == 2


def test_one_client_reaches_another_by_the_lent_address(bed: NarKernelBed) -> None:
    bed.set(lease(P.UDP, 20_001), lease(P.UDP, 20_002, Delivery.GRE, client=XA2))
    packet = udp(NB, 20_001, NB, 20_002)
    bed.send(CLIENTS, wrap(XA, NA, packet))
    bed.tunnelled(forwarded(packet), Delivery.GRE, XA2)


def test_the_connection_tracker_sees_no_lease(bed: NarKernelBed) -> None:
    bed.set(
        lease(P.UDP, 20_001),
        lease(P.UDP, 20_002, Delivery.TRANSLATED),
        lease(P.UDP, 20_003, Delivery.TRANSLATED, client_port=500),
    )
    path = Path("/proc/sys/net/netfilter/nf_conntrack_count")
    with entered(SERVER):
        run("nft", "add table ip flusher; delete table ip flusher")
        before = int(path.read_text("ascii"))
    for port in (20_001, 20_002, 20_003):
        bed.send(OUTSIDE, udp(YB, 9, NB, port))
    bed.tunnelled(forwarded(udp(YB, 9, NB, 20_001)))
    bed.arrives(bed.x, forwarded(udp(YB, 9, XA, 500)))
    bed.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, YB, 9)))
    bed.send(CLIENTS, udp(XA, 500, YB, 9))
    bed.arrives(bed.y, forwarded(udp(NB, 20_003, YB, 9)))
    with entered(SERVER):
        assert int(path.read_text("ascii")) <= before


@pytest.mark.parametrize("checksum", [True, False])
def test_server_mappings_translate_ports(bed: NarKernelBed, checksum: bool) -> None:
    bed.set(
        lease(P.TCP, 20_080, Delivery.TRANSLATED, client_port=80),
        lease(P.UDP, 20_053, Delivery.TRANSLATED, client_port=53),
    )
    bed.send(OUTSIDE, tcp(YB, 5, NB, 20_080))
    bed.arrives(bed.x, forwarded(tcp(YB, 5, XA, 80)))
    bed.send(CLIENTS, tcp(XA, 80, YB, 5))
    bed.arrives(bed.y, forwarded(tcp(NB, 20_080, YB, 5)))
    bed.send(OUTSIDE, udp(YB, 5, NB, 20_053, checksum=checksum))
    bed.arrives(bed.x, forwarded(udp(YB, 5, XA, 53, checksum=checksum)))
    bed.send(CLIENTS, udp(XA, 53, YB, 5, checksum=checksum))
    bed.arrives(bed.y, forwarded(udp(NB, 20_053, YB, 5, checksum=checksum)))


# -- ordinary NAPT beside it ---------------------------------------------------------------------


def test_h74_napt_keeps_away_from_leased_ports(bed: NarKernelBed) -> None:
    with entered(SERVER):
        bed.running.reconfigure(replace(SETTINGS, servers=(NAPT,)))
    for number in range(5):
        bed.send(CLIENTS, udp(XA2, 20_001 + number, YB, 9))
        found = bed.wait(bed.y, lambda one: one.protocol == 17, "a datagram")
        (port,) = struct.unpack_from("!H", found.octets, 20)
        assert found.source == NB
        assert port >= 30_000
        bed.forget()
        bed.send(CLIENTS, echo(XA2, YB, 0xC001 + number))
        found = bed.wait(bed.y, lambda one: one.protocol == 1, "an echo")
        (number_seen,) = struct.unpack_from("!H", found.octets, 24)
        assert found.source == NB
        assert number_seen < 0xC000
        bed.forget()


def test_h74_another_nat_cannot_use_a_leased_tuple(bed: NarKernelBed) -> None:
    bed.set(lease(P.UDP, 20_001), lease(P.TCP, 20_001, remote=YB, remote_port=80))
    with entered(SERVER):
        run("nft", "add table ip foreign; add chain ip foreign c { type nat hook postrouting "
            "priority srcnat; }; add rule ip foreign c oifname b0 ip saddr 10.0.0.0/24 "
            "meta l4proto { tcp, udp } snat to 192.0.2.1:20001")  # fmt: skip
    before = bed.counters()
    try:
        bed.send(CLIENTS, udp(XA2, 7, YB, 9))
        bed.send(CLIENTS, tcp(XA2, 7, YB, 80, flags=SYN))
        bed.send(CLIENTS, tcp(XA2, 7, YB, 81, flags=SYN))
        bed.arrives(bed.y, forwarded(tcp(NB, 20_001, YB, 81, flags=SYN)))
    finally:
        inside(SERVER, "nft", "delete table ip foreign")
    assert bed.counted("stolen", before, 2) == 2
    assert [found for found in bed.y.packets() if found.protocol == 17] == []


# -- sizes ---------------------------------------------------------------------------------------


def df(packet: bytes) -> bytes:
    """With "don't fragment" set."""
    head = bytearray(packet[:20])
    head[6] |= 0x40
    head[10:12] = b"\0\0"
    head[10:12] = struct.pack("!H", internet_checksum(bytes(head)))
    return bytes(head) + packet[20:]


def fragmentation_needed(found: Packet) -> bool:
    return found.protocol == 1 and found.octets[20:22] == b"\x03\x04"


@pytest.mark.parametrize(("delivery", "mtu"), [(Delivery.IP_IP, 1480), (Delivery.GRE, 1476)])
def test_the_outside_hears_of_smaller_tunnels(
    bed: NarKernelBed, delivery: Delivery, mtu: int
) -> None:
    bed.set(lease(P.UDP, 20_001, delivery))
    small = udp(YB, 9, NB, 20_001)
    bed.send(OUTSIDE, small)
    assert not bed.tunnelled(forwarded(small), delivery).dont_fragment
    fits = df(udp(YB, 9, NB, 20_001, b"x" * (mtu - 28)))
    bed.send(OUTSIDE, fits)
    assert bed.tunnelled(forwarded(fits), delivery).dont_fragment
    long = df(udp(YB, 9, NB, 20_001, b"x" * (mtu - 27)))
    bed.send(OUTSIDE, long)
    error = bed.wait(bed.y, fragmentation_needed, "fragmentation needed")
    assert error.source == NB
    assert error.transport_is_right
    assert struct.unpack_from("!H", error.octets, 26)[0] == mtu
    # What Y sent, not what stood for it on the way.
    assert error.octets[28:38] + error.octets[40:56] == long[:10] + long[12:28]
    assert internet_checksum(error.octets[28:48]) == 0


def test_a_client_hears_of_a_smaller_outside(bed: NarKernelBed) -> None:
    bed.set(lease(P.UDP, 20_001))
    inside(SERVER, "ip", "link", "set", "b0", "mtu", 1300)
    try:
        long = df(udp(NB, 20_001, YB, 9, b"x" * 1400))
        bed.send(CLIENTS, wrap(XA, NA, long))

        def error_inside(found: Packet) -> bool:
            return found.protocol == 4 and fragmentation_needed(Packet(found.inner))

        outer = bed.wait(bed.x, error_inside, "fragmentation needed, in the tunnel")
    finally:
        inside(SERVER, "ip", "link", "set", "b0", "mtu", 1500)
    error = Packet(outer.inner)
    assert (outer.source, outer.destination, error.destination) == (NA, XA, NB)
    assert error.transport_is_right
    assert error.octets[28:32] == long[:4]


@pytest.mark.parametrize("delivery", [Delivery.IP_IP, Delivery.GRE])
def test_segments_fit_the_tunnel(bed: NarKernelBed, delivery: Delivery) -> None:
    bed.set(lease(P.TCP, 20_001, delivery))
    mss = struct.pack("!BBH", 2, 4, 1460)
    size = 1440 if delivery is Delivery.IP_IP else 1436
    bed.send(OUTSIDE, tcp(YB, 80, NB, 20_001, b"", SYN, mss))
    bed.tunnelled(
        forwarded(tcp(YB, 80, NB, 20_001, b"", SYN, struct.pack("!BBH", 2, 4, size))), delivery
    )
    bed.send(CLIENTS, wrap(XA, NA, tcp(NB, 20_001, YB, 80, b"", SYN, mss), delivery))
    bed.arrives(
        bed.y, forwarded(tcp(NB, 20_001, YB, 80, b"", SYN, struct.pack("!BBH", 2, 4, 1436)))
    )


def fragments(packet: bytes, at: int) -> list[bytes]:
    """Two of them; ``at`` counts octets of payload."""
    source, to = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    return [
        ip(source, to, packet[9], packet[20 : 20 + at], fragment=0x2000),
        ip(source, to, packet[9], packet[20 + at :], fragment=at // 8),
    ]


def pieces(bed: NarKernelBed, name: str, wanted: Callable[[Packet], bool]) -> bytes:
    """The payload of two fragments of one packet that arrive at that end, in either order."""
    capture = bed.x if name == "x" else bed.y
    found: dict[int, bytes] = {}
    while len(found) < 2:
        packet = bed.wait(capture, wanted, f"a fragment at {name}")
        capture.frames.remove(next(one for one in capture.frames if one[:40] == packet.octets[:40]))
        inner = Packet(packet.inner) if packet.protocol == 4 else packet
        offset = (struct.unpack_from("!H", inner.octets, 6)[0] & 0x1FFF) * 8
        found[offset] = inner.inner
    assert inner.header_is_right
    return b"".join(found[offset] for offset in sorted(found))


def test_fragments_are_put_together_before_they_are_looked_up(bed: NarKernelBed) -> None:
    bed.set(lease(P.UDP, 20_001), lease(P.UDP, 20_002, Delivery.TRANSLATED))
    data = bytes(range(256)) * 7
    for one in reversed(fragments(udp(YB, 9, NB, 20_001, data), 800)):
        bed.send(OUTSIDE, one)
    assert pieces(bed, "x", lambda one: one.protocol == 4) == udp(YB, 9, NB, 20_001, data)[20:]
    for one in fragments(udp(XA, 20_002, YB, 9, data), 800):
        bed.send(CLIENTS, one)
    assert pieces(bed, "y", lambda one: one.source == NB) == udp(NB, 20_002, YB, 9, data)[20:]


def test_fragments_in_a_tunnel_and_fragmented_tunnels(bed: NarKernelBed) -> None:
    bed.set(lease(P.UDP, 20_001))
    data = bytes(range(256)) * 5
    whole = udp(NB, 20_001, YB, 9, data)
    for one in reversed(fragments(whole, 800)):
        bed.send(CLIENTS, wrap(XA, NA, one))
    assert pieces(bed, "y", lambda one: one.source == NB) == whole[20:]
    for one in fragments(wrap(XA, NA, whole), 800):
        bed.send(CLIENTS, one)
    bed.arrives(bed.y, forwarded(whole))

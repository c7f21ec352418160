"""The same traffic with ``offload`` on and off: every wire carries the same octets.

Where a kernel chooses the IP identification of an outer header or of its own ICMP error, that
and the header's checksum are not compared.
"""

import json
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from dataplane_bed import run
from mobility_kernel_bed import (
    AGENT,
    CARE_OF,
    HOME,
    HOST,
    HOST_ADDRESS,
    NAT_PORT,
    NODE,
    MobilityBed,
    binding,
    mobility_bed,
)
from mobility_wires import LIMIT, Wires, by_tunnel, packet, tcp, traffic, udp

from gateway.dataplane.packet import icmp
from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import Encapsulation, MobilityBinding, Tunnel, Visitor

pytestmark = pytest.mark.kernel

TUNNELS = [
    pytest.param(kind, port, id=kind.value + ("-udp" if port else ""))
    for kind in Encapsulation
    for port in (0, NAT_PORT)
]
FAR_AGENT = CARE_OF
"""For a foreign agent's tests the box abroad is the home agent."""
GUEST = HOST_ADDRESS


@pytest.fixture
def bed() -> Iterator[MobilityBed]:
    with mobility_bed() as bed:
        yield bed


def comparable(octets: bytes, *, outer: bool) -> bytes:
    """Without what the kernel chooses."""
    chosen = outer and octets[9] != 55 and not (octets[9] == 17 and octets[29:30] == b"\x37")
    if chosen or (octets[9] == 1 and octets[20] == 3):
        return octets[:4] + bytes(2) + octets[6:10] + bytes(2) + octets[12:]
    return octets


def both_ways(
    bed: MobilityBed, one: MobilityBinding, kind: Encapsulation, port: int
) -> list[bytes]:
    """What each wire carries for one binding."""
    wires = Wires(bed)
    seen: list[bytes] = []
    try:
        for inner in traffic(HOME, HOST_ADDRESS):
            for got in wires.send(NODE, by_tunnel(inner, CARE_OF, kind, port), wires.at_home):
                assert got[20:] == inner[20:]
                seen.append(comparable(got, outer=False))
        for inner in traffic(HOST_ADDRESS, HOME):
            for got in wires.send(HOST, inner, wires.abroad):
                assert inner[20:] in got
                assert internet_checksum(got[:20]) == 0
                seen.append(comparable(got, outer=True))
        for flags, wire, count in ((0, wires.abroad, 2), (0x4000, wires.at_home, 1)):
            long = packet(bytes(LIMIT + 100 - 20), HOST_ADDRESS, HOME, flags=flags)
            seen += [
                comparable(got, outer=not flags) for got in wires.send(HOST, long, wire, count)
            ]
        # What may not come in is followed by what may.
        marker = by_tunnel(udp(HOME, HOST_ADDRESS, 1), CARE_OF, kind, port)
        for forged in (
            by_tunnel(udp(IPv4Address("10.9.0.6"), HOST_ADDRESS, 2), CARE_OF, kind, port),
            by_tunnel(packet(b"x", HOME, HOST_ADDRESS, ttl=0), CARE_OF, kind, port),
            by_tunnel(
                by_tunnel(udp(HOME, HOST_ADDRESS, 3), CARE_OF, kind, port), CARE_OF, kind, port
            ),
        ):
            wires.sockets[NODE].sendto(forged, (str(AGENT), 0))
            seen += [
                comparable(got, outer=False) for got in wires.send(NODE, marker, wires.at_home)
            ]
    finally:
        wires.close()
    return seen


def compared(bed: MobilityBed, one: MobilityBinding, kind: Encapsulation, port: int) -> None:
    seen = {}
    for offload in (True, False):
        bed.start(offload=offload)
        bed.commit(one)
        seen[offload] = both_ways(bed, one, kind, port)
        counted = bed.counters()
        if not offload:
            assert counted["slow_path_decapsulated"] >= 10
            assert (
                counted.get("slow_path_encapsulated", 0)
                + counted.get("slow_path_switched_to_node", 0)
                >= 10
            )
        bed.stop()
    assert len(seen[True]) == len(seen[False])
    for fast, slow in zip(seen[True], seen[False], strict=True):
        assert fast.hex() == slow.hex()


@pytest.mark.parametrize(("kind", "port"), TUNNELS)
def test_a_home_agents_wires(bed: MobilityBed, kind: Encapsulation, port: int) -> None:
    compared(bed, binding(tunnels=(Tunnel(AGENT, CARE_OF, kind, port),)), kind, port)


def as_switched(inner: bytes) -> bytes:
    """As the mobile node sends it, with addresses and checksums of its own making."""
    if inner[9] == 17:
        return udp(CARE_OF, AGENT, len(inner) - 28, checksum=inner[26:28] != b"\0\0")
    if inner[9] == 6:
        return tcp(CARE_OF, AGENT, len(inner) - 40)
    flags = inner[6] << 8 & 0x4000
    return packet(inner[20:], CARE_OF, AGENT, protocol=inner[9], tos=inner[1], flags=flags)


def test_zero_overhead_wires(bed: MobilityBed) -> None:
    seen = {}
    for offload in (True, False):
        bed.start(offload=offload)
        bed.commit(binding(zero_overhead=HOST_ADDRESS))
        wires = Wires(bed)
        found: list[bytes] = []
        try:
            for inner in traffic(HOME, HOST_ADDRESS):
                if inner[6] & 0x3F or inner[7]:
                    continue
                made = as_switched(inner)
                (got,) = wires.send(NODE, made, wires.at_home)
                assert got[20:] == inner[20:]
                assert got[12:20] == inner[12:20]
                found.append(got)
            for inner in traffic(HOST_ADDRESS, HOME):
                (got,) = wires.send(HOST, inner, wires.abroad)
                whole = not (inner[6] & 0x3F or inner[7])
                assert (got[9] == inner[9]) == whole
                assert len(got) == len(inner) + (0 if whole else 20)
                found.append(comparable(got, outer=not whole))
            # A router abroad complains about a switched packet: the peer hears of its own.
            asked = udp(HOST_ADDRESS, HOME, 1000)
            (switched,) = wires.send(HOST, asked, wires.abroad)
            told = icmp.error(CARE_OF.packed, switched, 3, 13)
            assert told is not None
            (heard,) = wires.send(NODE, told, wires.at_home)
            quote = icmp.parse_error(heard).quote
            assert quote[20:] == asked[20 : len(quote)]
            assert quote[12:20] == asked[12:20]
            found.append(heard)
        finally:
            wires.close()
        seen[offload] = found
        bed.stop()
    for fast, slow in zip(seen[True], seen[False], strict=True):
        assert fast.hex() == slow.hex()


@pytest.mark.parametrize(("kind", "port"), [one for one in TUNNELS if not one.values[1]])
def test_a_foreign_agents_wires(bed: MobilityBed, kind: Encapsulation, port: int) -> None:
    """The host is a visitor, its home agent abroad."""
    seen = {}
    for offload in (True, False):
        bed.start(
            offload=offload,
            home_agents=(),
            home_networks=(),
            care_of_addresses=(AGENT,),
            visited_interfaces=("h1",),
        )
        (link,) = json.loads(run("ip", "-n", HOST, "-j", "link", "show", "c0"))
        mac = bytes.fromhex(link["address"].replace(":", ""))
        visitor = Visitor(GUEST, FAR_AGENT, Tunnel(AGENT, FAR_AGENT, kind, port), "h1", mac,
                          max_packet_octets=LIMIT)  # fmt: skip
        bed.commit(visitors=(visitor,))
        wires = Wires(bed)
        found: list[bytes] = []
        peer = IPv4Address("203.0.113.7")
        try:
            for inner in traffic(peer, GUEST):
                (got,) = wires.send(NODE, by_tunnel(inner, FAR_AGENT, kind, port), wires.at_home)
                assert got[20:] == inner[20:]
                found.append(got)
            for inner in traffic(GUEST, peer):
                (got,) = wires.send(HOST, inner, wires.abroad)
                assert inner[20:] in got
                found.append(comparable(got, outer=True))
        finally:
            wires.close()
        seen[offload] = found
        bed.stop()
    for fast, slow in zip(seen[True], seen[False], strict=True):
        assert fast.hex() == slow.hex()


def syn(source: IPv4Address, destination: IPv4Address, segment: int) -> bytes:
    bare = struct.pack("!HHIIBBHHHBBH", 4000, 80, 1, 0, 0x60, 2, 1000, 0, 0, 2, 4, segment)
    pseudo = source.packed + destination.packed + struct.pack("!HH", 6, len(bare))
    bare = bare[:16] + internet_checksum(pseudo + bare).to_bytes(2, "big") + bare[18:]
    return packet(bare, source, destination, protocol=6)


def test_segment_sizes(bed: MobilityBed) -> None:
    """Clamped to what fits the tunnel, in both directions and on both paths."""
    seen = {}
    for offload in (True, False):
        bed.start(offload=offload)
        bed.commit(binding(max_packet_octets=LIMIT))
        wires = Wires(bed)
        try:
            (there,) = wires.send(HOST, syn(HOST_ADDRESS, HOME, 1460), wires.abroad)
            made = by_tunnel(syn(HOME, HOST_ADDRESS, 1460), CARE_OF, Encapsulation.IP_IP, 0)
            (back,) = wires.send(NODE, made, wires.at_home)
        finally:
            wires.close()
        for inner in (there[20:], back):
            assert int.from_bytes(inner[42:44], "big") <= LIMIT - 40
            pseudo = inner[12:20] + struct.pack("!HH", 6, len(inner) - 20)
            assert internet_checksum(pseudo + inner[20:]) == 0
        seen[offload] = (comparable(there, outer=True), back)
        bed.stop()
    assert seen[True] == seen[False]

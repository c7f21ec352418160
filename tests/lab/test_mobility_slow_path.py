"""The same traffic with ``offload`` on and off: every wire carries the same octets.

Where a kernel chooses the IP identification of an outer header or of its own ICMP error, that
and the header's checksum are not compared.
"""

import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from dataplane_bed import entered, run
from mobility_kernel_bed import (
    AGENT,
    AT_OFFICE,
    CARE_OF,
    GATEWAY,
    HOME,
    HOST,
    HOST_ADDRESS,
    NAT_PORT,
    NODE,
    PHYSICAL,
    ROUTER,
    Capture,
    MobilityBed,
    binding,
    mobility_bed,
)

from gateway.dataplane.packet import icmp
from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.packet.tunnel_ends import tunnel_end
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
LIMIT = 1300


@pytest.fixture
def bed() -> Iterator[MobilityBed]:
    with mobility_bed() as bed:
        yield bed


def packet(
    payload: bytes,
    source: IPv4Address,
    destination: IPv4Address,
    *,
    protocol: int = 253,
    flags: int = 0,
    tos: int = 0,
    ttl: int = 61,
) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), 0x4711, flags, ttl, protocol, 0,
        source.packed, destination.packed,
    )  # fmt: skip
    return with_checksum(head) + payload


def udp(
    source: IPv4Address, destination: IPv4Address, size: int, *, checksum: bool = True
) -> bytes:
    bare = struct.pack("!HHHH", 4000, 4001, 8 + size, 0) + bytes(n & 255 for n in range(size))
    if checksum:
        pseudo = source.packed + destination.packed + struct.pack("!HH", 17, 8 + size)
        bare = bare[:6] + internet_checksum(pseudo + bare).to_bytes(2, "big") + bare[8:]
    return packet(bare, source, destination, protocol=17)


def tcp(source: IPv4Address, destination: IPv4Address, size: int) -> bytes:
    bare = struct.pack("!HHIIBBHHH", 4000, 80, 1, 2, 0x50, 0x18, 1000, 0, 0) + bytes(size)
    pseudo = source.packed + destination.packed + struct.pack("!HH", 6, len(bare))
    bare = bare[:16] + internet_checksum(pseudo + bare).to_bytes(2, "big") + bare[18:]
    return packet(bare, source, destination, protocol=6)


def traffic(source: IPv4Address, destination: IPv4Address) -> list[bytes]:
    """Packets that must get through, one each."""
    return [
        udp(source, destination, 10),
        udp(source, destination, 1000, checksum=False),
        tcp(source, destination, 700),
        packet(bytes(60), source, destination, protocol=50, tos=0xB8),
        packet(bytes(8), source, destination, tos=0x02),
        packet(bytes(8), source, destination, tos=0x03),
        packet(bytes(64), source, destination, flags=0x2000),
        packet(bytes(64), source, destination, flags=0x0008),
        packet(bytes(LIMIT - 20), source, destination, flags=0x4000),
        packet(b"", source, destination),
    ]


def by_tunnel(inner: bytes, source: IPv4Address, kind: Encapsulation, port: int) -> bytes:
    """From a box abroad, its UDP port being that of a NAT."""
    made = tunnel_end(Tunnel(source, AGENT, kind, 434 if port else 0)).wrap(inner, 77)
    if port:
        made = made[:20] + struct.pack("!HH", port, 434) + made[24:]
    return made


_SILENCE = """
add table ip silence
table ip silence { chain in { type filter hook prerouting priority raw; policy drop; }; }
"""
"""Of the stacks at both ends: they only get to see what the test looks at."""


class Wires:
    """Sends packets one by one, and sees what comes of each."""

    def __init__(self, bed: MobilityBed) -> None:
        self.bed = bed
        self.abroad = bed.capture(ROUTER, "r1")
        self.at_home = bed.capture(HOST, "c0")
        self.sockets: dict[str, socket.socket] = {}
        for name in (NODE, HOST):
            with entered(name):
                run("nft", "-f", "-", stdin=_SILENCE)
                self.sockets[name] = socket.socket(
                    socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW
                )
                self.sockets[name].setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    def close(self) -> None:
        for one in self.sockets.values():
            one.close()

    def send(self, name: str, octets: bytes, wire: Capture, count: int = 1) -> list[bytes]:
        """``count`` packets that the gateway puts on ``wire`` for it."""
        wire.read()
        wire.frames.clear()
        self.sockets[name].sendto(octets, (socket.inet_ntoa(octets[16:20]), 0))
        end = time.monotonic() + 5.0
        while len(found := self._of_gateway(wire)) < count:
            assert time.monotonic() < end, (
                f"{count} packets wanted, {[one.hex() for one in found]} seen for {octets.hex()}; "
                f"{self.bed.counters()}"
            )
            with entered(GATEWAY):
                assert self.bed.mobility is not None
                self.bed.mobility.read_events()
            time.sleep(0.001)
        assert len(found) == count
        return found

    def _of_gateway(self, wire: Capture) -> list[bytes]:
        """Without what the hosts on the wire send."""
        abroad = wire is self.abroad
        return [
            one.octets
            for one in wire.packets()
            if (one.source not in (CARE_OF, IPv4Address("198.51.100.1")) if abroad
                else one.source != HOST_ADDRESS and one.protocol != 2)
        ]  # fmt: skip


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


def test_simultaneous_bindings_and_errors_of_the_path(bed: MobilityBed) -> None:
    """Copies; and a router's error about a tunnel packet reaches who sent what was inside."""
    other = IPv4Address("192.0.2.11")
    for offload in (True, False):
        bed.start(offload=offload)
        bed.commit(binding(tunnels=(Tunnel(AGENT, CARE_OF), Tunnel(AGENT, other))))
        wires = Wires(bed)
        try:
            asked = udp(HOST_ADDRESS, HOME, 100)
            copies = wires.send(HOST, asked, wires.abroad, 2)
            assert {IPv4Address(one[16:20]) for one in copies} == {CARE_OF, other}
            assert all(asked[20:] in one for one in copies)
            told = icmp.error(CARE_OF.packed, copies[0], 3, 1)
            assert told is not None
            if not offload or "tunnel_error" in bed.counters():
                (heard,) = wires.send(NODE, told, wires.at_home)
                error = icmp.parse_error(heard)
                assert (error.type, error.code) == (3, 1)
                assert error.quote[12:20] == asked[12:20]
        finally:
            wires.close()
        bed.stop()


def test_broadcasts_of_the_home_link(bed: MobilityBed) -> None:
    for offload in (True, False):
        bed.start(offload=offload)
        bed.commit(
            replace(binding(AT_OFFICE, home_network=PHYSICAL, broadcasts=True), co_located=False)
        )
        wires = Wires(bed)
        try:
            everyone = packet(b"hello", HOST_ADDRESS, IPv4Address("10.1.0.255"), ttl=1)
            (made,) = wires.send(HOST, everyone, wires.abroad)
            assert made[12:20] == AGENT.packed + CARE_OF.packed
            assert made[32:40] == AGENT.packed + AT_OFFICE.packed
            assert made[40:] == everyone
        finally:
            wires.close()
        bed.stop()


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

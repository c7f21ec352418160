"""Packets put on the wires of the mobility bed one by one, and what the gateway makes of each."""

import socket
import struct
import time
from ipaddress import IPv4Address

from dataplane_bed import entered, run
from mobility_kernel_bed import (
    AGENT,
    CARE_OF,
    GATEWAY,
    HOST,
    HOST_ADDRESS,
    NODE,
    ROUTER,
    Capture,
    MobilityBed,
)

from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.packet.tunnel_ends import tunnel_end
from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import Encapsulation, Tunnel

LIMIT = 1300


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

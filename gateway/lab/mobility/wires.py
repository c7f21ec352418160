"""What travels on which wire: the headers of captured packets, outermost first.

Compared with the figures of the documents: which addresses face which network, how many octets
a layer costs.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from gateway.lab.inject import ip_packets

ICMP, IP_IP, TCP, UDP, GRE, ESP, MINIMAL = 1, 4, 6, 17, 47, 50, 55
NAMES = {ICMP: "icmp", GRE: "gre", TCP: "tcp", ESP: "esp", MINIMAL: "minimal"}
MIP_PORT, IKE_NAT_PORT = 434, 4500
TUNNEL_DATA = 4
GRE_IP = 0x0800
DF = 0x4000


@dataclass(frozen=True, slots=True)
class Layer:
    """One IPv4 header on a wire."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    octets: int
    """Total length: this header and everything in it."""
    df: bool
    fragment: bool
    ttl: int

    def __str__(self) -> str:
        return f"{self.source} > {self.destination}"


@dataclass(frozen=True, slots=True)
class Wired:
    """A packet as it was on a wire."""

    layers: tuple[Layer, ...]
    shape: str
    """Of its headers, as in "ip/gre/ip/tcp"; what is encrypted or a fragment is not looked into."""
    packet: bytes

    @property
    def outer(self) -> Layer:
        """The header that routers look at."""
        return self.layers[0]

    @property
    def inner(self) -> Layer:
        """The innermost header in clear."""
        return self.layers[-1]

    @property
    def overhead_octets(self) -> int:
        """Of everything around the innermost header in clear."""
        return self.outer.octets - self.inner.octets


def wired(pcap: Path) -> list[Wired]:
    """Every IPv4 packet of a capture, oldest first."""
    return [read(packet) for packet in ip_packets(pcap)]


def read(packet: bytes) -> Wired:
    """The headers of an IPv4 packet."""
    layers: list[Layer] = []
    names: list[str] = []
    at: int | None = 0
    while at is not None and len(packet) - at >= 20:
        layer = _layer(packet, at)
        layers.append(layer)
        names.append("ip")
        if layer.fragment:
            names.append("fragment")
            break
        payload = at + (packet[at] & 15) * 4
        names += _names(packet, layer.protocol, payload)
        at = _inside(packet, layer.protocol, payload)
    return Wired(tuple(layers), "/".join(names), packet)


def _layer(packet: bytes, at: int) -> Layer:
    octets, flags, ttl, protocol = struct.unpack_from(">2xH2xHBB", packet, at)
    return Layer(
        IPv4Address(packet[at + 12 : at + 16]),
        IPv4Address(packet[at + 16 : at + 20]),
        protocol,
        octets,
        bool(flags & DF),
        bool(flags & ~(DF | 0x8000)),
        ttl,
    )


def _names(packet: bytes, protocol: int, at: int) -> list[str]:
    if protocol == IP_IP:
        return []
    if protocol == UDP:
        return [_udp_name(packet, at)]
    return [NAMES.get(protocol, str(protocol))]


def _inside(packet: bytes, protocol: int, at: int) -> int | None:
    """Where the next IP header starts; None when there is none in clear."""
    if protocol == IP_IP:
        return at
    if protocol == GRE:
        flags, kind = struct.unpack_from(">HH", packet, at)
        options = sum(4 for bit in (0x8000, 0x2000, 0x1000) if flags & bit)
        return at + 4 + options if kind == GRE_IP else None
    if protocol == UDP and _is_tunnel(packet, at):
        return at + 12
    return None


def _is_tunnel(packet: bytes, at: int) -> bool:
    ports = struct.unpack_from(">HH", packet, at)
    return MIP_PORT in ports and packet[at + 8 : at + 10] == bytes([TUNNEL_DATA, IP_IP])


def _udp_name(packet: bytes, at: int) -> str:
    ports = struct.unpack_from(">HH", packet, at)
    if MIP_PORT in ports:
        return "tunnel" if _is_tunnel(packet, at) else "mip"
    return "esp-in-udp" if IKE_NAT_PORT in ports and any(packet[at + 8 : at + 12]) else "udp"


def shapes(pcap: Path) -> Counter[str]:
    """How many packets of each shape a capture holds."""
    return Counter(one.shape for one in wired(pcap))


def between(pcap: Path, source: object, destination: object) -> list[Wired]:
    """Those whose innermost header in clear has these addresses."""
    wanted = f"{source} > {destination}"
    return [one for one in wired(pcap) if str(one.inner) == wanted]


def max_segment_sizes(pcap: Path) -> list[tuple[str, int]]:
    """Of each TCP SYN in clear: from whom to whom, and the segment size that it announces."""
    found = []
    for one in wired(pcap):
        if not one.shape.endswith("tcp"):
            continue
        start = len(one.packet) - one.inner.octets
        segment = one.packet[start + (one.packet[start] & 15) * 4 :]
        if segment[13] & 2 and (size := _segment_size(segment)):
            found.append((str(one.inner), size))
    return found


def _segment_size(segment: bytes) -> int:
    options = segment[20 : (segment[12] >> 4) * 4]
    while options:
        if options[0] == 2:
            return int.from_bytes(options[2:4], "big")
        options = options[1:] if options[0] == 1 else options[max(options[1], 2) :]
    return 0

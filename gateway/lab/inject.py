"""An attacker's tools: packets taken from a capture, changed, and sent from anywhere in the lab."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from gateway.lab import netns
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

PCAP_MAGIC = 0xA1B2C3D4
LINK_ETHERNET, LINK_RAW, LINK_COOKED, LINK_COOKED2 = 1, 101, 113, 276
LINK_HEADER = {LINK_ETHERNET: 14, LINK_RAW: 0, LINK_COOKED: 16, LINK_COOKED2: 20}
MAX_FRAME = 1 << 18
PROTOCOL_UDP, PROTOCOL_ESP = 17, 50


def ip_packets(pcap: Path) -> Iterator[bytes]:
    """The IPv4 packets of a capture, oldest first, without link header and padding."""
    return (packet for _, packet in timed_ip_packets(pcap))


def timed_ip_packets(pcap: Path) -> Iterator[tuple[float, bytes]]:
    """The IPv4 packets of a capture with their times in seconds of CLOCK_REALTIME."""
    data = pcap.read_bytes()
    if len(data) < 24 or struct.unpack_from("=I", data)[0] != PCAP_MAGIC:
        raise LabError(f"{pcap} is not a capture of this machine")
    skip = LINK_HEADER[struct.unpack_from("=I", data, 20)[0]]
    at = 24
    while at + 16 <= len(data):
        seconds, micros, size = struct.unpack_from("=III", data, at)
        frame = data[at + 16 : at + 16 + size]
        at += 16 + size
        packet = frame[skip:]
        if len(packet) >= 20 and packet[0] >> 4 == 4:
            yield seconds + micros / 1e6, packet[: struct.unpack_from(">H", packet, 2)[0]]


def esp_packets(pcap: Path, destination: IPv4Address) -> list[bytes]:
    """The ESP packets to an address, native or in UDP (RFC 3948), as whole IPv4 packets."""
    found = []
    for packet in ip_packets(pcap):
        if packet[16:20] != destination.packed:
            continue
        payload = packet[(packet[0] & 15) * 4 :]
        in_udp = packet[9] == PROTOCOL_UDP and 4500 in struct.unpack_from(">HH", payload)
        if packet[9] == PROTOCOL_ESP or (in_udp and len(payload) > 16 and any(payload[8:12])):
            found.append(packet)
    return found


def with_source(packet: bytes, source: IPv4Address) -> bytes:
    """The packet with another source address (and without a UDP checksum)."""
    changed = bytearray(packet)
    changed[12:16] = source.packed
    if changed[9] == PROTOCOL_UDP:
        ihl = (changed[0] & 15) * 4
        changed[ihl + 6 : ihl + 8] = bytes(2)
    return bytes(changed)


def with_sequence(packet: bytes, sequence: int) -> bytes:
    """The ESP packet with another sequence number; its check value is then wrong: a forgery."""
    changed = bytearray(packet)
    start = (changed[0] & 15) * 4 + (8 if changed[9] == PROTOCOL_UDP else 0)
    struct.pack_into(">I", changed, start + 4, sequence & 0xFFFFFFFF)
    return bytes(changed)


def esp_sequence(packet: bytes) -> int:
    """The sequence number of an ESP packet, native or in UDP."""
    start = (packet[0] & 15) * 4 + (8 if packet[9] == PROTOCOL_UDP else 0)
    return int(struct.unpack_from(">I", packet, start + 4)[0])


def send(lab: Lab, host: str, packet: bytes) -> None:
    """Send a whole IPv4 packet from a host as it is, whatever its source address."""
    raw = netns.socket_in(lab.namespace(host), socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

"""What is inside the tunnels between N and its clients, read from captured packets."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

IP_IP, UDP, GRE, ESP, AH = 4, 17, 47, 50, 51
L2TP_PORT, L2TP_OCTETS = 1701, 8 + 8 + 8 + 4 + 14
"""UDP, L2TPv3 over UDP, cookie, L2-specific sublayer, Ethernet."""
NAT_PORT = 4500


def layers(packet: bytes) -> Iterator[bytes]:
    """An IPv4 packet, then the one that is delivered in it, and so on."""
    while len(packet) >= 20 and packet[0] >> 4 == 4:
        yield packet
        if int.from_bytes(packet[6:8], "big") & 0x1FFF:
            return
        body = payload(packet)
        if packet[9] == IP_IP:
            packet = body
        elif packet[9] == GRE and body[2:4] == b"\x08\x00":
            packet = body[4 + (4 if body[0] & 0x20 else 0) :]
        elif packet[9] == UDP and ports(packet) == (L2TP_PORT, L2TP_PORT):
            packet = body[L2TP_OCTETS:]
        else:
            return


def payload(packet: bytes) -> bytes:
    """What is behind the IPv4 header."""
    return packet[(packet[0] & 15) * 4 :]


def ports(packet: bytes) -> tuple[int, int]:
    """Source and destination port."""
    source, destination = struct.unpack_from(">HH", payload(packet))
    return source, destination


def addresses(packet: bytes) -> tuple[IPv4Address, IPv4Address]:
    """Source and destination."""
    return IPv4Address(packet[12:16]), IPv4Address(packet[16:20])


def spi(packet: bytes) -> int | None:
    """The SPI of the outermost ESP or AH in a packet, through any delivery; None without."""
    for layer in layers(packet):
        if layer[9] in {ESP, AH}:
            at = 0 if layer[9] == ESP else 4
            return int(struct.unpack_from(">I", payload(layer), at)[0])
    return None


def encapsulates_in_udp(packet: bytes) -> bool:
    """Whether there is UDP of port 4500 in a packet: ESP as NATs want it (RFC 3948)."""
    return any(layer[9] == UDP and NAT_PORT in ports(layer) for layer in layers(packet))

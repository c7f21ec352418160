"""What is put before ESP: the outer IP header, UDP where NATs want it, as the kernel does it.

DSCP is copied, congestion becomes ECT(0) outside (RFC 3168 section 9.1.1), "don't fragment" is
that of the inner packet, an IPv6 packet that may not be made smaller aside.
"""

import struct
from typing import Final, Protocol

from gateway.dataplane.packet.ipv4 import TUNNEL_TTL
from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import Endpoint

ESP: Final = 50
UDP: Final = 17
LONGEST: Final = 0xFFFF
"""Octets of an IPv4 packet, and of what follows an IPv6 header."""
_SMALLEST_IPV6_MTU: Final = 1280
_DONT_FRAGMENT: Final = 0x4000
_IPV4 = struct.Struct("!BBHHHBBH8s")
_IPV4_UDP = struct.Struct("!BBHHHBBH8s4sHH")
_IPV6 = struct.Struct("!IHBB32s")
_UDP = struct.Struct("!4sHH")
_UDP_HEADER: Final = 8


class Outer(Protocol):
    """Makes the outer packets of one SA. Raises nothing; what is too long gives None."""

    def wrap(self, inner: bytes, version: int, header: bytes, sealed: bytes) -> bytes | None:
        """Put it before the ESP ``header`` and what was ``sealed`` of the ``inner`` packet."""


def outer_of(local: Endpoint, remote: Endpoint, *, udp: bool) -> Outer:
    """Both addresses are of one IP version."""
    ends = local.address.packed + remote.address.packed
    ports = local.port.to_bytes(2, "big") + remote.port.to_bytes(2, "big") if udp else b""
    return _Over4(ends, ports) if local.address.version == 4 else _Over6(ends, ports)


def traffic_class(packet: bytes, version: int) -> int:
    """DSCP and ECN of a packet."""
    return packet[1] if version == 4 else (packet[0] & 15) << 4 | packet[1] >> 4


class _Over4:
    __slots__ = ("_ends", "_ports")

    def __init__(self, ends: bytes, ports: bytes) -> None:
        self._ends, self._ports = ends, ports

    def wrap(self, inner: bytes, version: int, header: bytes, sealed: bytes) -> bytes | None:
        if version == 4:
            tos = inner[1]
            flags = _DONT_FRAGMENT if inner[6] & 0x40 else 0
        else:
            tos = traffic_class(inner, 6)
            flags = _DONT_FRAGMENT if len(inner) > _SMALLEST_IPV6_MTU else 0
        if tos & 3 == 3:
            tos ^= 1
        if not self._ports:
            total = 28 + len(sealed)
            if total > LONGEST:
                return None
            outer = _IPV4.pack(0x45, tos, total, 0, flags, TUNNEL_TTL, ESP, 0, self._ends)
            return outer + header + sealed
        total = 36 + len(sealed)
        if total > LONGEST:
            return None
        ports = self._ports
        outer = _IPV4_UDP.pack(
            0x45, tos, total, 0, flags, TUNNEL_TTL, UDP, 0, self._ends, ports, total - 20, 0
        )
        return outer + header + sealed


class _Over6:
    __slots__ = ("_ends", "_ports")

    def __init__(self, ends: bytes, ports: bytes) -> None:
        self._ends, self._ports = ends, ports

    def wrap(self, inner: bytes, version: int, header: bytes, sealed: bytes) -> bytes | None:
        tos = traffic_class(inner, version)
        if tos & 3 == 3:
            tos ^= 1
        first = 0x60000000 | tos << 20
        if version == 6:
            first |= int.from_bytes(inner[1:4], "big") & 0xFFFFF
        size = len(header) + len(sealed)
        if self._ports:
            size += _UDP_HEADER
            if size > LONGEST:
                return None
            header = with_udp6(self._ends, self._ports, header + sealed)
            return _IPV6.pack(first, size, UDP, TUNNEL_TTL, self._ends) + header
        if size > LONGEST:
            return None
        return _IPV6.pack(first, size, ESP, TUNNEL_TTL, self._ends) + header + sealed


def with_udp6(ends: bytes, ports: bytes, payload: bytes) -> bytes:
    """A UDP datagram with its checksum, which IPv6 asks for (RFC 8200 section 8.1)."""
    size = _UDP_HEADER + len(payload)
    bare = _UDP.pack(ports, size, 0)
    pseudo = ends + size.to_bytes(4, "big") + UDP.to_bytes(4, "big")
    checksum = internet_checksum(pseudo + bare + payload) or 0xFFFF
    return _UDP.pack(ports, size, checksum) + payload

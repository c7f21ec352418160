"""Packets in pieces, where no kernel cuts them up for us."""

import os
import struct
from itertools import count

from gateway.dataplane.packet import fragments
from gateway.dataplane.packet.ipv4 import DONT_FRAGMENT
from gateway.domain.wire import WireError

_FRAGMENT_HEADER = 44
_BEFORE_FRAGMENTS = frozenset((0, 43))
"""Hop-by-hop options and routing headers are repeated in each piece (RFC 8200 section 4.5)."""
_V6_FRAGMENT = struct.Struct("!BxHI")

_numbers = count(int.from_bytes(os.urandom(4), "big"))
"""Identifications of packets that have none yet."""


def pieces(packet: bytes, limit: int) -> list[bytes]:
    """The packet in pieces of at most ``limit`` octets, none when it cannot be cut up.

    For the way to a host that waits for it: DF is cleared, and IPv6 is fragmented as by its source.
    """
    try:
        return _version4(packet, limit) if packet[0] >> 4 == 4 else _version6(packet, limit)
    except (WireError, IndexError):
        return []


def _version4(packet: bytes, limit: int) -> list[bytes]:
    flags = (packet[6] << 8 | packet[7]) & ~DONT_FRAGMENT
    identification = packet[4:6]
    if identification == b"\0\0":
        identification = (next(_numbers) % 0xFFFF + 1).to_bytes(2, "big")
    allowed = packet[:4] + identification + flags.to_bytes(2, "big") + packet[8:]
    return fragments.fragment(allowed, limit)


def _version6(packet: bytes, limit: int) -> list[bytes]:
    at, kind_at = 40, 6
    while packet[kind_at] in _BEFORE_FRAGMENTS:
        kind_at = at
        at += (packet[at + 1] + 1) * 8
    kind = packet[kind_at]
    room = (limit - at - 8) & ~7
    if room < 8 or kind == _FRAGMENT_HEADER or at >= len(packet):
        return []
    head = bytearray(packet[:at])
    head[kind_at] = _FRAGMENT_HEADER
    number = next(_numbers) & 0xFFFFFFFF
    cut: list[bytes] = []
    for start in range(at, len(packet), room):
        payload = packet[start : start + room]
        head[4:6] = (at - 40 + 8 + len(payload)).to_bytes(2, "big")
        more = int(start + room < len(packet))
        cut.append(bytes(head) + _V6_FRAGMENT.pack(kind, start - at | more, number) + payload)
    return cut

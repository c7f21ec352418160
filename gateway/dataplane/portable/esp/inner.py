"""What selectors and outer headers want to know of an inner packet."""

from typing import Final

Flow = tuple[int, int, int, int, int]
"""Source and destination as numbers, protocol, source and destination port.

Both ports are -1 where the packet shows none: fragments, and protocols without.
"""

_WITH_PORTS: Final = frozenset((6, 17, 33, 132, 136))
_NO_PORT: Final = -1
_EXTENSIONS: Final = frozenset((0, 43, 60))
"""Hop-by-hop, routing and destination options: a length in 8 octets, less one."""
_FRAGMENT: Final = 44
_MAX_EXTENSIONS: Final = 8


def version_of(packet: bytes) -> int:
    """4 or 6 for a packet with a whole fixed header whose length it has; else 0."""
    size = len(packet)
    if size < 20:
        return 0
    first = packet[0]
    if first >> 4 == 4:
        return 4 if 20 <= (first & 15) * 4 <= packet[2] << 8 | packet[3] <= size else 0
    if first >> 4 == 6 and size >= 40 and 40 + (packet[4] << 8 | packet[5]) <= size:
        return 6
    return 0


def flow_of(packet: bytes, version: int) -> Flow:
    """Of a packet that :func:`version_of` has taken."""
    if version == 4:
        source = int.from_bytes(packet[12:16], "big")
        destination = int.from_bytes(packet[16:20], "big")
        protocol, at = packet[9], (packet[0] & 15) * 4
        whole = not (packet[6] << 8 | packet[7]) & 0x3FFF
    else:
        source = int.from_bytes(packet[8:24], "big")
        destination = int.from_bytes(packet[24:40], "big")
        protocol, at, whole = _upper_layer(packet)
    if not whole or protocol not in _WITH_PORTS or at + 4 > len(packet):
        return source, destination, protocol, _NO_PORT, _NO_PORT
    return (
        source,
        destination,
        protocol,
        packet[at] << 8 | packet[at + 1],
        packet[at + 2] << 8 | packet[at + 3],
    )


def _upper_layer(packet: bytes) -> tuple[int, int, bool]:
    """Protocol, where its header is, and whether the packet is no fragment."""
    protocol, at, whole = packet[6], 40, True
    for _ in range(_MAX_EXTENSIONS):
        if at + 8 > len(packet):
            break
        if protocol == _FRAGMENT:
            whole = False
            protocol, at = packet[at], at + 8
        elif protocol in _EXTENSIONS:
            protocol, at = packet[at], at + 8 + packet[at + 1] * 8
        else:
            break
    return protocol, at, whole

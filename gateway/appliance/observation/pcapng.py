"""Writes pcapng (draft-ietf-opsawg-pcapng): IP packets of several interfaces with their times."""

import struct
from typing import Final

LINKTYPE_RAW: Final = 101
"""Packets begin with their IP header."""
SNAP_OCTETS: Final = 65_535
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER: Final = 0x1A2B3C4D
_END, _COMMENT, _NAME, _RESOLUTION, _FLAGS = 0, 1, 2, 9, 2
_NANOSECONDS: Final = b"\x09"
INBOUND: Final = 1
OUTBOUND: Final = 2


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def section_header(comment: str) -> bytes:
    """Begins a file."""
    options = _option(_COMMENT, comment.encode()) + _option(_END, b"")
    return _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1) + options)


def interface_block(name: str) -> bytes:
    """Describes the next interface; the first one is number 0."""
    options = _option(_NAME, name.encode()) + _option(_RESOLUTION, _NANOSECONDS)
    body = struct.pack("<HHI", LINKTYPE_RAW, 0, SNAP_OCTETS)
    return _block(_INTERFACE, body + options + _option(_END, b""))


def packet_block(interface: int, time_ns: int, octets: bytes, length: int, direction: int) -> bytes:
    """One packet; ``length`` is its own where ``octets`` are only its beginning."""
    head = struct.pack(
        "<IIIII",
        interface,
        time_ns >> 32 & 0xFFFF_FFFF,
        time_ns & 0xFFFF_FFFF,
        len(octets),
        length,
    )
    options = _option(_FLAGS, struct.pack("<I", direction)) + _option(_END, b"")
    return _block(_PACKET, head + _padded(octets) + options)

"""Minimal encapsulation (RFC 2004): the header of the packet changes, and remembers what it was."""

from typing import Final

from gateway.dataplane.packet.ipv4 import MORE_FRAGMENTS, OFFSET_MASK, with_checksum
from gateway.domain.checksum import internet_checksum, ones_sum
from gateway.domain.wire import WireError

PROTOCOL: Final = 55
OVERHEAD_OCTETS: Final = 12
"""8 when the tunnel starts where the packet comes from."""
_SOURCE_PRESENT = 0x80
_SHORT, _LONG = 8, 12


def is_possible(inner: bytes) -> bool:
    """Whether the packet is whole: the forwarding header has no room for a fragment's place."""
    return not (inner[6] << 8 | inner[7]) & (MORE_FRAGMENTS | OFFSET_MASK)


def forwarding_header(inner: bytes, tunnel_source: bytes) -> bytes:
    """What remembers the packet's own protocol and addresses."""
    if inner[12:16] == tunnel_source:
        header = bytes((inner[9], 0, 0, 0)) + inner[16:20]
    else:
        header = bytes((inner[9], _SOURCE_PRESENT, 0, 0)) + inner[16:20] + inner[12:16]
    return header[:2] + internet_checksum(header).to_bytes(2, "big") + header[4:]


def encapsulate(inner: bytes, ends: bytes) -> bytes:
    """The packet on its way between the ``ends`` of the tunnel: source and destination address.

    Raises :class:`WireError` for a fragment, and when it gets too long.
    """
    return wrapped(inner, ends, PROTOCOL, b"", forwarding_header(inner, ends[:4]))


def wrapped(inner: bytes, ends: bytes, protocol: int, before: bytes, header: bytes) -> bytes:
    """The packet with changed addresses, ``before`` and the forwarding ``header`` inserted."""
    if not is_possible(inner):
        raise WireError("minimal encapsulation of a fragment")
    length = (inner[0] & 15) * 4
    total = len(inner) + len(before) + len(header)
    if total > 0xFFFF:
        raise WireError(f"tunnel packet of {total} octets")
    outer = b"".join(
        (
            inner[:2],
            total.to_bytes(2, "big"),
            inner[4:9],
            bytes((protocol, 0, 0)),
            ends,
            inner[20:length],
        )
    )
    return with_checksum(outer) + before + header + inner[length:]


def decapsulate(packet: bytes, start: int, end: int) -> bytes:
    """What the packet was; the forwarding header is at ``start``, the payload ends at ``end``.

    The rest of its header is the outer one's, options included. Raises :class:`WireError`.
    """
    size = 0
    if end - start >= _SHORT:
        size = _LONG if packet[start + 1] & _SOURCE_PRESENT else _SHORT
    if not size or end - start < size:
        raise WireError(f"minimal forwarding header cut short: {end - start} octets")
    if ones_sum(packet[start : start + size]) != 0xFFFF:
        raise WireError("checksum of the minimal forwarding header is wrong")
    if not is_possible(packet):
        raise WireError("minimal encapsulation in a fragment")
    length = (packet[0] & 15) * 4
    source = packet[start + 8 : start + 12] if size == _LONG else packet[12:16]
    header = b"".join(
        (
            packet[:2],
            (length + end - start - size).to_bytes(2, "big"),
            packet[4:9],
            bytes((packet[start], 0, 0)),
            source,
            packet[start + 4 : start + 8],
            packet[20:length],
        )
    )
    return with_checksum(header) + packet[start + size : end]

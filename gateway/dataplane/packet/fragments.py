"""Fragmentation of IPv4 packets (RFC 791 section 3.2), before they are encapsulated.

Fragments of tunnel packets are lost on too many paths; fragments inside of tunnels are whole
packets to the path (draft 002, section 4.2.4).
"""

from gateway.dataplane.packet.ipv4 import (
    DONT_FRAGMENT,
    MORE_FRAGMENTS,
    OFFSET_MASK,
    parse_header,
    with_checksum,
)
from gateway.domain.wire import WireError

_END_OF_OPTIONS, _NO_OPERATION = 0, 1
_COPIED = 0x80
_FLAG_EVIL = 0x8000


class FragmentationNeededError(WireError):
    """The packet is too long and says that it must not be fragmented."""


def fragment(packet: bytes, limit: int) -> list[bytes]:
    """The packet in pieces of at most ``limit`` octets each, header included.

    A packet that fits is its own only piece. A piece of a larger packet is cut up further.
    Raises :class:`FragmentationNeededError` when DF is set, :class:`WireError` for broken options
    or a limit without room for 8 octets of payload.
    """
    if len(packet) <= limit:
        return [packet]
    total = parse_header(packet).total_length
    flags = packet[6] << 8 | packet[7]
    if flags & DONT_FRAGMENT:
        raise FragmentationNeededError(f"{total} octets, {limit} fit, and DF is set")
    length = (packet[0] & 15) * 4
    later = _later_header(packet, length)
    if limit - length < 8:
        raise WireError(f"no room for fragments in {limit} octets")
    pieces: list[bytes] = []
    header, at, offset = packet[:length], length, flags & OFFSET_MASK
    while at < total:
        room = (limit - len(header)) & ~7
        last = total - at <= limit - len(header)
        payload = packet[at:total] if last else packet[at : at + room]
        more = 0 if last and not flags & MORE_FRAGMENTS else MORE_FRAGMENTS
        if last and more and len(payload) & 7:
            raise WireError("a fragment in the middle that is not a multiple of 8 octets")
        pieces.append(_piece(header, payload, flags & _FLAG_EVIL | more | offset))
        at += len(payload)
        offset += len(payload) >> 3
        if offset > OFFSET_MASK and at < total:
            raise WireError("fragments beyond the longest packet")
        header = later
    return pieces


def _piece(header: bytes, payload: bytes, flags: int) -> bytes:
    total = len(header) + len(payload)
    return (
        with_checksum(
            header[:2]
            + total.to_bytes(2, "big")
            + header[4:6]
            + flags.to_bytes(2, "big")
            + header[8:]
        )
        + payload
    )


def _later_header(packet: bytes, length: int) -> bytes:
    """The header of all pieces but the first: it has the options that are marked as copied."""
    if length == 20:
        return packet[:20]
    kept = b""
    at = 20
    while at < length:
        kind = packet[at]
        if kind == _END_OF_OPTIONS:
            break
        if kind == _NO_OPERATION:
            at += 1
            continue
        size = packet[at + 1] if at + 1 < length else 0
        if size < 2 or at + size > length:
            raise WireError(f"IPv4 option {kind} of {size} octets")
        if kind & _COPIED:
            kept += packet[at : at + size]
        at += size
    kept += bytes(-len(kept) & 3)
    return bytes((0x40 | (20 + len(kept)) // 4,)) + packet[1:20] + kept

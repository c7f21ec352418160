"""Payload chains: generic headers, each naming the type of the payload after it.

RFC 7296 section 3.2; the layout of RFC 2408 section 3.2 is the same, with the flags reserved::

     0                   1                   2                   3
    | Next Payload  |C|  RESERVED   |         Payload Length        |
"""

import struct
from collections.abc import Container

from gateway.domain.wire import WireError

MAX_PAYLOADS = 128
"""In one chain. A long IKE_AUTH (certificates, MOBIKE addresses) holds a few dozen."""

MAX_PAYLOAD_OCTETS = 65535
"""Of one payload with its generic header."""

GENERIC_HEADER_OCTETS = 4

CRITICAL = 0x80
"""The one flag of a generic header; the other bits are reserved and ignored."""

_GENERIC_HEADER = struct.Struct("!BBH")

Span = tuple[int, int, int, int]
"""A payload within its message: type, flags octet, first octet of its body, octet after it."""


def split_chain(
    first: int, data: bytes, start: int, end: int, final: Container[int] = ()
) -> tuple[list[Span], int, int]:
    """Cut ``data[start:end]`` into payloads without looking into them.

    ``first`` is the type of the first payload, 0 if there is none. A payload whose type is in
    ``final`` ends the chain: its Next Payload field speaks of what it contains (an encrypted
    payload).

    Returns the payloads, the Next Payload field of the last one, and the offset after it, which is
    short of ``end`` if octets are left over.

    Raises :class:`WireError` for a length that lies and for more than MAX_PAYLOADS payloads.
    """
    spans: list[Span] = []
    kind = first
    at = start
    while kind:
        if len(spans) == MAX_PAYLOADS:
            raise WireError(f"more than {MAX_PAYLOADS} payloads")
        left = end - at
        if left < GENERIC_HEADER_OCTETS:
            raise WireError(f"payload {kind} announced, {left} octets left")
        following, flags, length = _GENERIC_HEADER.unpack_from(data, at)
        if not GENERIC_HEADER_OCTETS <= length <= left:
            raise WireError(f"payload {kind} of length {length}, {left} octets left")
        spans.append((kind, flags, at + GENERIC_HEADER_OCTETS, at + length))
        at += length
        if kind in final:
            return spans, following, at
        kind = following
    return spans, 0, at


def generic_header(following: int, body_octets: int, *, critical: bool = False) -> bytes:
    """Write the header of a payload that has ``body_octets`` and is followed by ``following``.

    Raises :class:`ValueError` if the payload does not fit its length field.
    """
    length = GENERIC_HEADER_OCTETS + body_octets
    if length > MAX_PAYLOAD_OCTETS:
        raise ValueError(f"payload of {length} octets, at most {MAX_PAYLOAD_OCTETS} fit")
    return _GENERIC_HEADER.pack(following, CRITICAL if critical else 0, length)

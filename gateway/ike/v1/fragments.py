"""IKE fragmentation as Cisco and others do it with IKEv1: payload 132, vendor id FRAGMENTATION.

A message that is too large is cut after it was encrypted. Each fragment is a message of its own,
with the header of the whole one and this one payload: message number (2 octets), fragment number
from 1, flags (1 on the last), piece. Nothing authenticates a fragment, so what is kept of them is
bounded in every direction and dropped at the first contradiction.
"""

import struct

from gateway.domain.wire import WireError
from gateway.ike.policy import EngineSettings

FRAGMENT = 132
"""The payload type."""
LAST = 1
HEADER_OCTETS = 28
_GENERIC = struct.Struct("!BBH")
_FRAGMENT = struct.Struct("!HBB")
_OVERHEAD = HEADER_OCTETS + _GENERIC.size + _FRAGMENT.size
_IP_UDP_OCTETS = {4: 20 + 8 + 4, 6: 40 + 8 + 4}
"""Outer headers that count against the fragment size, with the non-ESP marker."""
_NEXT_PAYLOAD_AT = 16
_FLAGS_AT = 19
_LENGTH_AT = 24
MAX_FRAGMENTS = 32
MAX_HALF_OPEN_OCTETS = 32_768
"""Of a reassembled message whose sender has proven nothing yet."""
LIFETIME_S = 10.0
"""An incomplete set older than this is dropped when the next fragment comes."""


def split(message: bytes, fragment_size: int, ip_version: int, number: int) -> tuple[bytes, ...]:
    """The datagrams of a message: itself where it fits in an IP packet of ``fragment_size``."""
    room = fragment_size - _IP_UDP_OCTETS[ip_version]
    if len(message) <= room:
        return (message,)
    step = max(room - _OVERHEAD, 64)
    pieces = [message[at : at + step] for at in range(0, len(message), step)]
    if len(pieces) > MAX_FRAGMENTS:
        step = -(-len(message) // MAX_FRAGMENTS)
        pieces = [message[at : at + step] for at in range(0, len(message), step)]
    head = message[:HEADER_OCTETS]
    found = []
    for index, piece in enumerate(pieces, 1):
        flags = LAST if index == len(pieces) else 0
        payload = _GENERIC.pack(0, 0, _GENERIC.size + _FRAGMENT.size + len(piece))
        payload += _FRAGMENT.pack(number, index, flags) + piece
        fragment = bytearray(head)
        fragment[_NEXT_PAYLOAD_AT] = FRAGMENT
        fragment[_FLAGS_AT] = 0
        struct.pack_into("!I", fragment, _LENGTH_AT, HEADER_OCTETS + len(payload))
        found.append(bytes(fragment) + payload)
    return tuple(found)


class Reassembly:
    """The fragments of one message of one SA. A fragment of another message replaces them."""

    __slots__ = ("_last", "_message", "_octets", "_parts", "_started_at")

    def __init__(self, message: tuple[int, int], now: float) -> None:
        self._message = message
        self._parts: dict[int, bytes] = {}
        self._last = 0
        self._octets = 0
        self._started_at = now

    def serves(self, message: tuple[int, int], now: float) -> bool:
        """Whether a fragment of this message belongs here."""
        return self._message == message and now - self._started_at < LIFETIME_S

    def add(self, number: int, flags: int, piece: bytes, max_octets: int) -> bytes | None:
        """Keep a piece; the whole message when it was the missing one.

        Raises WireError when the set contradicts itself; the caller drops all of it.
        """
        if not 1 <= number <= MAX_FRAGMENTS or not piece:
            raise WireError(f"fragment {number}, 1 to {MAX_FRAGMENTS} are allowed")
        known = self._parts.get(number)
        if known is not None:
            if known != piece:
                raise WireError(f"fragment {number} came twice with different content")
            return None
        if flags & LAST:
            if self._last and self._last != number:
                raise WireError("two last fragments")
            self._last = number
        if self._last and (number > self._last or max(self._parts, default=0) > self._last):
            raise WireError("a fragment after the last one")
        if self._octets + len(piece) > max_octets:
            raise WireError(f"fragments of more than {max_octets} octets together")
        self._parts[number] = piece
        self._octets += len(piece)
        if not self._last or len(self._parts) < self._last:
            return None
        return b"".join(self._parts[n] for n in range(1, self._last + 1))


def parse(data: bytes) -> tuple[int, int, int, bytes]:
    """Message number, fragment number, flags and piece of a fragment message.

    ``data`` is the datagram, whose header says payload 132. Raises WireError.
    """
    if len(data) < _OVERHEAD:
        raise WireError(f"fragment of {len(data)} octets")
    _next, _reserved, length = _GENERIC.unpack_from(data, HEADER_OCTETS)
    if length != len(data) - HEADER_OCTETS:
        raise WireError(f"fragment payload says {length} octets, not what is there")
    message, number, flags = _FRAGMENT.unpack_from(data, HEADER_OCTETS + _GENERIC.size)
    return message, number, flags, data[_OVERHEAD:]


def max_octets(settings: EngineSettings, *, proven: bool) -> int:
    """How large a reassembled message may be."""
    if proven:
        return settings.max_message_octets
    return min(settings.max_message_octets, MAX_HALF_OPEN_OCTETS)

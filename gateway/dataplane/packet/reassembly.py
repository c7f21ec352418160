"""Fragments of tunnel packets made whole again (RFC 791 section 3.2), within bounds.

We never send such, but routers on the way may cut a mobile node's tunnel packets up. Pieces that
overlap are thrown away with all that belongs to them, as RFC 5722 does for IPv6.
"""

from dataclasses import dataclass, field
from typing import Final

from gateway.dataplane.packet.ipv4 import MORE_FRAGMENTS, parse_header, with_checksum
from gateway.domain.wire import WireError

MAX_PACKETS: Final = 256
"""Incomplete ones at once; the oldest gives way."""
MAX_PACKETS_PER_SOURCE: Final = 32
MAX_PIECES: Final = 64
TIMEOUT_S: Final = 10.0
_LONGEST: Final = 0xFFFF


@dataclass(slots=True, eq=False)
class _Incomplete:
    until: float
    header: bytes = b""
    """Of the first piece, once it is there."""
    end: int = -1
    """Octets of payload, once the last piece is there."""
    octets: int = 0
    pieces: dict[int, bytes] = field(default_factory=dict)
    """Payloads by offset."""


class Reassembly:
    """Pieces that wait for others."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, _Incomplete] = {}
        self._of_source: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, packet: bytes, now: float) -> bytes | None:
        """The whole packet when this piece was the last that lacked, else None.

        Raises :class:`WireError` for a piece that does not fit to the others; they are gone then.
        """
        header = parse_header(packet)
        key = packet[12:20] + packet[9:10] + packet[4:6]
        found = self._waiting.get(key)
        if found is not None and now >= found.until:
            self._forget(key)
            found = None
        if found is None:
            found = self._start(key, now)
        try:
            self._put(
                found,
                header.fragment_offset,
                packet[header.header_length : header.total_length],
                more=header.more_fragments,
            )
            if header.fragment_offset == 0:
                found.header = packet[: header.header_length]
            if len(found.header) + max(found.end, found.octets) > _LONGEST:
                raise WireError("fragments of more than the longest packet")
        except WireError:
            self._forget(key)
            raise
        if not found.header or found.octets != found.end:
            return None
        self._forget(key)
        return _whole(found)

    def _start(self, key: bytes, now: float) -> _Incomplete:
        source = key[:4]
        if self._of_source.get(source, 0) >= MAX_PACKETS_PER_SOURCE:
            self._forget(next(one for one in self._waiting if one[:4] == source))
        elif len(self._waiting) >= MAX_PACKETS:
            self._forget(next(iter(self._waiting)))
        made = self._waiting[key] = _Incomplete(now + TIMEOUT_S)
        self._of_source[source] = self._of_source.get(source, 0) + 1
        return made

    def _forget(self, key: bytes) -> None:
        del self._waiting[key]
        left = self._of_source[key[:4]] - 1
        if left:
            self._of_source[key[:4]] = left
        else:
            del self._of_source[key[:4]]

    @staticmethod
    def _put(found: _Incomplete, start: int, payload: bytes, *, more: bool) -> None:
        end = start + len(payload)
        if not payload or (more and len(payload) & 7) or end > _LONGEST:
            raise WireError(f"fragment of {len(payload)} octets at {start}")
        if found.pieces.get(start) == payload:
            return
        if len(found.pieces) >= MAX_PIECES:
            raise WireError(f"more than {MAX_PIECES} fragments")
        if any(at < end and start < at + len(one) for at, one in found.pieces.items()):
            raise WireError("fragments overlap")
        if not more:
            if found.end >= 0 or any(at > start for at in found.pieces):
                raise WireError("two last fragments")
            found.end = end
        elif 0 <= found.end < end:
            raise WireError("a fragment beyond the last one")
        found.pieces[start] = payload
        found.octets += len(payload)


def _whole(found: _Incomplete) -> bytes:
    head, payload = found.header, b"".join(found.pieces[at] for at in sorted(found.pieces))
    flags = (head[6] << 8 | head[7]) & ~(MORE_FRAGMENTS | 0x1FFF)
    total = len(head) + len(payload)
    return (
        with_checksum(
            head[:2] + total.to_bytes(2, "big") + head[4:6] + flags.to_bytes(2, "big") + head[8:]
        )
        + payload
    )

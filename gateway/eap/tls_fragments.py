"""EAP-TLS packets and their fragments (RFC 5216 sections 2.1.5 and 3)."""

import enum
import struct

from gateway.domain.wire import Reader, WireError

MAX_TLS_OCTETS = 65_536
"""Of all TLS records in one turn: what a peer may announce or send."""
FRAGMENT_OCTETS = 1024
"""Of TLS data in one packet, as strongSwan does; IKE messages then stay below usual MTUs."""

_U32 = struct.Struct("!I")


class Flags(enum.IntFlag):
    """RFC 5216 section 3.1."""

    LENGTH = 0x80
    MORE = 0x40
    START = 0x20


ACKNOWLEDGEMENT = b"\0"
"""Type data without TLS data: flags only."""
START = bytes((Flags.START,))


class Fragments:
    """The TLS data of one turn in each direction, cut and put together."""

    __slots__ = ("_announced", "_incoming", "_outgoing", "_sent")

    def __init__(self) -> None:
        self._incoming = bytearray()
        self._announced: int | None = None
        self._outgoing = b""
        self._sent = 0

    @property
    def sending(self) -> bool:
        """Whether fragments are left that the other side has to ask for."""
        return self._sent < len(self._outgoing)

    def send(self, data: bytes) -> bytes:
        """The type data of the first fragment. Raises :class:`ValueError` if there is too much."""
        if len(data) > MAX_TLS_OCTETS:
            raise ValueError(f"{len(data)} octets of TLS data cannot be sent in one turn")
        self._outgoing, self._sent = data, 0
        return self.next()

    def next(self) -> bytes:
        """The type data of the next fragment. The first tells the length, as strongSwan does."""
        at = self._sent
        piece = self._outgoing[at : at + FRAGMENT_OCTETS]
        self._sent = at + len(piece)
        flags = Flags.MORE if self.sending else Flags(0)
        if at:
            return bytes((flags,)) + piece
        return bytes((flags | Flags.LENGTH,)) + _U32.pack(len(self._outgoing)) + piece

    def receive(self, data: bytes) -> bytes | None:
        """Take type data: the whole turn's TLS data, or None if more fragments are to come.

        Raises :class:`WireError` for a start, lengths that do not fit, and too much data.
        """
        reader = Reader(data)
        flags = reader.u8()
        if flags & Flags.START:
            raise WireError("an EAP-TLS start in mid-conversation")
        if flags & Flags.LENGTH:
            self._announce(reader.u32())
        if flags & Flags.MORE and self._announced is None:
            raise WireError("a first EAP-TLS fragment without the length of all")
        if flags & Flags.MORE and not reader.remaining:
            raise WireError("an empty EAP-TLS fragment")
        bound = MAX_TLS_OCTETS if self._announced is None else self._announced
        if len(self._incoming) + reader.remaining > bound:
            raise WireError(f"more EAP-TLS data than the {bound} octets allowed")
        self._incoming += reader.rest()
        if flags & Flags.MORE:
            return None
        whole = bytes(self._incoming)
        if self._announced is not None and len(whole) != self._announced:
            raise WireError(f"{len(whole)} octets of EAP-TLS data, {self._announced} announced")
        self._incoming.clear()
        self._announced = None
        return whole

    def _announce(self, octets: int) -> None:
        if octets > MAX_TLS_OCTETS:
            raise WireError(f"{octets} octets of EAP-TLS data announced")
        # Some peers repeat the length in every fragment.
        if self._announced is not None and self._announced != octets:
            raise WireError("the announced length of EAP-TLS data changes")
        self._announced = octets

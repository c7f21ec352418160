"""EAP packets: their format (RFC 3748 section 4) and the names of the types."""

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.domain.wire import Reader, WireError

MAX_PACKET_OCTETS = 65_535
MAX_IDENTITY_OCTETS = 253
"""What fits into the User-Name of RADIUS; RFC 7542 section 2.3 names the same bound."""

_HEADER = struct.Struct("!BBH")
_EXPANDED = struct.Struct("!BBHI")
_HEADER_OCTETS = 4
_VENDOR_IETF = 0


class Code(enum.IntEnum):
    """RFC 3748 section 4."""

    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class EapType(enum.IntEnum):
    """The types this gateway tells apart (RFC 3748 section 5)."""

    IDENTITY = 1
    NOTIFICATION = 2
    NAK = 3
    GTC = 6
    TLS = 13
    MSCHAPV2 = 26
    EXPANDED = 254


@dataclass(frozen=True, slots=True)
class EapPacket:
    """One packet. Success and Failure have neither type nor data."""

    code: Code
    identifier: int
    eap_type: int = 0
    """The type octet; 254 when the type is an expanded one, told by the two fields below."""
    data: bytes = field(default=b"", repr=False)
    vendor: int = _VENDOR_IETF
    vendor_type: int = 0

    def encode(self) -> bytes:
        """The octets. Raises :class:`ValueError` if the packet cannot be so long."""
        if self.code in (Code.SUCCESS, Code.FAILURE):
            return _HEADER.pack(self.code, self.identifier, _HEADER_OCTETS)
        kind = bytes((self.eap_type,))
        if self.eap_type == EapType.EXPANDED:
            kind = _expanded(self.vendor, self.vendor_type)
        octets = _HEADER_OCTETS + len(kind) + len(self.data)
        if octets > MAX_PACKET_OCTETS:
            raise ValueError(f"an EAP packet of {octets} octets cannot be sent")
        return _HEADER.pack(self.code, self.identifier, octets) + kind + self.data

    @classmethod
    def decode(cls, packet: bytes) -> "EapPacket":
        """Read one packet.

        Raises :class:`WireError` unless its length is that of ``packet``: IKEv2 has no padding
        below EAP, so trailing octets are not what RFC 3748 lets a link layer add.
        """
        reader = Reader(packet)
        code, identifier, octets = reader.u8(), reader.u8(), reader.u16()
        if octets != len(packet):
            raise WireError(f"an EAP length of {octets} in {len(packet)} octets")
        if code in (Code.SUCCESS, Code.FAILURE):
            reader.finish()
            return cls(Code(code), identifier)
        if code not in (Code.REQUEST, Code.RESPONSE):
            raise WireError(f"EAP code {code}")
        eap_type = reader.u8()
        if eap_type != EapType.EXPANDED:
            return cls(Code(code), identifier, eap_type, reader.rest())
        vendor = reader.u8() << 16 | reader.u16()
        vendor_type = reader.u32()
        return cls(Code(code), identifier, eap_type, reader.rest(), vendor, vendor_type)


def nak(request: EapPacket, wanted: Sequence[int]) -> EapPacket:
    """Refuse the type of ``request`` and name the types wanted instead (RFC 3748 section 5.3)."""
    types = tuple(wanted) or (0,)
    if request.eap_type != EapType.EXPANDED:
        return EapPacket(Code.RESPONSE, request.identifier, EapType.NAK, bytes(types))
    return EapPacket(
        Code.RESPONSE,
        request.identifier,
        EapType.EXPANDED,
        b"".join(_expanded(_VENDOR_IETF, one) for one in types),
        _VENDOR_IETF,
        EapType.NAK,
    )


def _expanded(vendor: int, vendor_type: int) -> bytes:
    return _EXPANDED.pack(EapType.EXPANDED, vendor >> 16, vendor & 0xFFFF, vendor_type)


def type_title(packet: EapPacket) -> str:
    """The packet's type in words, for an administrator."""
    if packet.code in (Code.SUCCESS, Code.FAILURE):
        return f"EAP-{packet.code.name.title()}"
    if packet.eap_type == EapType.EXPANDED:
        return f"expanded EAP type {packet.vendor}/{packet.vendor_type}"
    return numbered_title(packet.eap_type)


def numbered_title(eap_type: int) -> str:
    """A type number in words."""
    try:
        return f"EAP-{EapType(eap_type).name}"
    except ValueError:
        return f"EAP type {eap_type}"


def user_text(octets: bytes) -> str | None:
    """A user's name as text; None if it is too long, not UTF-8, or has unprintable characters.

    Such a name is nobody's, and no log, lookup or RADIUS server ever gets it.
    """
    if len(octets) > MAX_IDENTITY_OCTETS:
        return None
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None

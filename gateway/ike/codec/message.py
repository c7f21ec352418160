"""IKE messages: header, payloads, and where the encrypted part begins.

RFC 7296 sections 3.1 and 3.14, RFC 7383 section 2.5. The header of IKEv1 has the same layout.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.wire import WireError
from gateway.ike.codec.chain import generic_header, split_chain
from gateway.ike.codec.payload import Payload
from gateway.ike.codec.payloads import ENCRYPTED, parse_spans, serialize_payloads
from gateway.ike.registry import Flag, PayloadType

HEADER_OCTETS = 28
SPI_OCTETS = 8
MAX_MESSAGE_OCTETS = 65535
"""UDP and the length field of TCP encapsulation end here."""
MAX_FRAGMENTS = 64
"""Of one message."""
MIN_ENCRYPTED_OCTETS = 21
"""Of an encrypted body: the shortest IV (8), the pad length octet and the shortest ICV (12)."""
MAJOR_VERSION = 2

_HEADER = struct.Struct("!8s8s4B2I")
_FRAGMENT = struct.Struct("!HH")
_NO_SPI = bytes(SPI_OCTETS)


class UnsupportedMajorVersion(WireError):  # noqa: N818 - named for what it is
    """The message is of another IKE version, which :func:`parse_header` can tell beforehand."""

    def __init__(self, major: int) -> None:
        super().__init__(f"IKE version {major}, {MAJOR_VERSION} expected")
        self.major = major


@dataclass(frozen=True, slots=True)
class Header:
    """The 28 octets that begin every message."""

    initiator_spi: bytes
    responder_spi: bytes
    next_payload: int
    major: int
    minor: int
    exchange: int
    flags: int
    """As received, with the bits that are reserved."""
    message_id: int
    length: int

    @property
    def is_response(self) -> bool:
        """Whether it answers a request."""
        return bool(self.flags & Flag.RESPONSE)

    @property
    def from_initiator(self) -> bool:
        """Whether the original initiator of the IKE SA sent it."""
        return bool(self.flags & Flag.INITIATOR)


@dataclass(frozen=True, slots=True)
class EncryptedPart:
    """What there is to decrypt at the end of a message."""

    first_payload: int
    """Type of the first payload inside; of fragments, only the first tells it."""
    offset: int
    """Of the initialization vector, from the start of the message to whose end all this reaches."""
    fragment: tuple[int, int] | None = None
    """Number (from 1) and total, of an Encrypted Fragment payload."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message before decryption."""

    header: Header
    payloads: tuple[Payload, ...]
    """Those in the clear. In a message with an encrypted part nobody vouches for them yet."""
    encrypted: EncryptedPart | None = None


def parse_header(data: bytes) -> Header:
    """Read the header of a whole datagram, without the non-ESP marker, of any IKE version.

    Raises :class:`WireError` if it is cut, if its length is not that of the datagram, or if it has
    no initiator SPI.
    """
    size = len(data)
    if size < HEADER_OCTETS:
        raise WireError(f"message of {size} octets, the header alone has {HEADER_OCTETS}")
    initiator, responder, first, version, exchange, flags, message_id, length = _HEADER.unpack_from(
        data
    )
    if length != size or size > MAX_MESSAGE_OCTETS:
        raise WireError(f"message says {length} octets, {size} are there")
    if initiator == _NO_SPI:
        raise WireError("initiator SPI is zero")
    return Header(
        initiator, responder, first, version >> 4, version & 15, exchange, flags, message_id, length
    )


def parse_message(data: bytes, header: Header | None = None) -> Message:
    """Read all of an IKEv2 message that is not encrypted; ``header`` if it is parsed already.

    Raises :class:`WireError` for every break of the format, with its subclasses
    :class:`UnsupportedMajorVersion` and
    :class:`~gateway.ike.codec.payloads.UnsupportedCriticalPayload` for those that are answered.
    """
    if header is None:
        header = parse_header(data)
    if header.major != MAJOR_VERSION:
        raise UnsupportedMajorVersion(header.major)
    spans, inner, end = split_chain(
        header.next_payload, data, HEADER_OCTETS, len(data), final=ENCRYPTED
    )
    if end != len(data):
        raise WireError(f"{len(data) - end} octets after the last payload")
    encrypted = None
    if spans and spans[-1][0] in ENCRYPTED:
        kind, _, start, _ = spans.pop()
        encrypted = _encrypted_part(kind, inner, data, start)
    return Message(header, parse_spans(spans, data), encrypted)


def _encrypted_part(kind: int, first_payload: int, data: bytes, start: int) -> EncryptedPart:
    fragment = None
    if kind == PayloadType.SKF:
        if len(data) - start < _FRAGMENT.size:
            raise WireError("fragment header cut")
        number, total = _FRAGMENT.unpack_from(data, start)
        if not 1 <= number <= total <= MAX_FRAGMENTS:
            raise WireError(f"fragment {number} of {total}, at most {MAX_FRAGMENTS} allowed")
        fragment = (number, total)
        start += _FRAGMENT.size
    if len(data) - start < MIN_ENCRYPTED_OCTETS:
        raise WireError(f"encrypted part of {len(data) - start} octets")
    return EncryptedPart(first_payload, start, fragment)


def serialize_header(
    initiator_spi: bytes,
    responder_spi: bytes,
    *,
    first_payload: int,
    exchange: int,
    flags: int,
    message_id: int,
    length: int,
    major: int = MAJOR_VERSION,
) -> bytes:
    """Write a header, that of IKEv1 too. Raises :class:`ValueError` if the message is too large."""
    if len(initiator_spi) != SPI_OCTETS or len(responder_spi) != SPI_OCTETS:
        raise ValueError(f"IKE SPIs have {SPI_OCTETS} octets")
    if length > MAX_MESSAGE_OCTETS:
        raise ValueError(f"message of {length} octets, at most {MAX_MESSAGE_OCTETS} fit")
    return _HEADER.pack(
        initiator_spi, responder_spi, first_payload, major << 4, exchange, flags, message_id, length
    )


def serialize_message(
    initiator_spi: bytes,
    responder_spi: bytes,
    *,
    exchange: int,
    flags: int,
    message_id: int,
    payloads: Sequence[Payload],
) -> bytes:
    """Write a message without encryption. Raises :class:`ValueError` if it is too large."""
    first, body = serialize_payloads(payloads)
    length = HEADER_OCTETS + len(body)
    head = serialize_header(
        initiator_spi,
        responder_spi,
        first_payload=first,
        exchange=exchange,
        flags=flags,
        message_id=message_id,
        length=length,
    )
    return head + body


def encrypted_prefix(
    initiator_spi: bytes,
    responder_spi: bytes,
    *,
    exchange: int,
    flags: int,
    message_id: int,
    first_payload: int,
    sealed_octets: int,
    fragment: tuple[int, int] | None = None,
) -> bytes:
    """Write all of a message that precedes the IV, with its final lengths.

    ``sealed_octets`` counts IV, ciphertext with padding, and ICV. ``first_payload`` is the type of
    the first payload inside; ``fragment`` is (number, total) to write an Encrypted Fragment, of
    which only number 1 names ``first_payload``. For AEAD the result is the associated data, else
    the ICV covers it and all that follows.

    Raises :class:`ValueError` if the message is too large.
    """
    kind, numbers = PayloadType.SK, b""
    if fragment is not None:
        kind, numbers = PayloadType.SKF, _FRAGMENT.pack(*fragment)
        if fragment[0] != 1:
            first_payload = 0
    payload = generic_header(first_payload, len(numbers) + sealed_octets) + numbers
    length = HEADER_OCTETS + len(payload) + sealed_octets
    head = serialize_header(
        initiator_spi,
        responder_spi,
        first_payload=kind,
        exchange=exchange,
        flags=flags,
        message_id=message_id,
        length=length,
    )
    return head + payload

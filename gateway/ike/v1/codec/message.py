"""IKEv1 messages: header, payload chains in the clear and decrypted (RFC 2408 section 3.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec import message as shared
from gateway.ike.codec.chain import Span, split_chain
from gateway.ike.codec.message import HEADER_OCTETS, Header, parse_header
from gateway.ike.codec.payload import Payload, UnknownPayload
from gateway.ike.codec.payloads import serialize_payloads
from gateway.ike.v1.codec.configuration import Configuration, Fragment
from gateway.ike.v1.codec.identity import (
    Certificate,
    CertificateRequest,
    Identification,
    OriginalAddress,
    OriginalAddressDraft,
)
from gateway.ike.v1.codec.notify import Delete, Notify
from gateway.ike.v1.codec.opaque import (
    FaAdvertisement,
    Hash,
    KeyExchange,
    NatDetection,
    NatDetectionDraft,
    Nonce,
    Signature,
    VendorId,
)
from gateway.ike.v1.codec.registry import Flag, PayloadType
from gateway.ike.v1.codec.sa import SecurityAssociation

MAJOR_VERSION = 1
MAX_CLEAR_PADDING = 3
"""Octets after the last payload in the clear: some peers fill up to four octets."""
MAX_ENCRYPTED_PADDING = 255
"""The same after decryption; ciphers need up to 16, some peers hide the length with more."""

PAYLOAD_CLASSES: tuple[type[Payload], ...] = (
    SecurityAssociation,
    KeyExchange,
    Identification,
    Certificate,
    CertificateRequest,
    Hash,
    Signature,
    Nonce,
    Notify,
    Delete,
    VendorId,
    Configuration,
    NatDetection,
    NatDetectionDraft,
    OriginalAddress,
    OriginalAddressDraft,
    Fragment,
    FaAdvertisement,
)
PARSERS: dict[int, Callable[[Reader], Payload]] = {cls.TYPE: cls.parse for cls in PAYLOAD_CLASSES}
"""By payload type; others are kept as they are and ignored."""

SINGLE: frozenset[int] = frozenset(
    {
        PayloadType.SA,
        PayloadType.KE,
        PayloadType.HASH,
        PayloadType.SIG,
        PayloadType.NONCE,
        PayloadType.ATTRIBUTES,
        PayloadType.FRAGMENT,
        PayloadType.FA_ADVERTISEMENT,
    }
)
"""Types that a message may hold only once. We make no two SAs in one quick mode."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message in the clear."""

    header: Header
    payloads: tuple[Payload, ...]


def is_encrypted(header: Header) -> bool:
    """Whether all that follows the header is encrypted."""
    return bool(header.flags & Flag.ENCRYPTION)


def parse_message(data: bytes, header: Header | None = None) -> Message:
    """Read all of an IKEv1 message in the clear; ``header`` if it is parsed already.

    Raises :class:`WireError` for every break of the format, for another version and for an
    encrypted message.
    """
    if header is None:
        header = parse_header(data)
    if header.major != MAJOR_VERSION:
        raise WireError(f"IKE version {header.major}, {MAJOR_VERSION} expected")
    if is_encrypted(header):
        raise WireError("encrypted message where one in the clear is expected")
    payloads, end = _parse(header.next_payload, data, HEADER_OCTETS)
    if len(data) - end > MAX_CLEAR_PADDING or any(data[end:]):
        raise WireError(f"{len(data) - end} octets after the last payload")
    return Message(header, payloads)


def parse_payloads(first: int, data: bytes) -> tuple[tuple[Payload, ...], int]:
    """Parse a decrypted body that begins with a payload of type ``first``.

    Returns the payloads and the offset after them, where the padding begins.

    Raises :class:`WireError` for every break of the format and for too much padding.
    """
    payloads, end = _parse(first, data, 0)
    if len(data) - end > MAX_ENCRYPTED_PADDING:
        raise WireError(f"{len(data) - end} octets of padding")
    return payloads, end


def _parse(first: int, data: bytes, start: int) -> tuple[tuple[Payload, ...], int]:
    spans, _, end = split_chain(first, data, start, len(data))
    return parse_spans(spans, data), end


def parse_spans(spans: Sequence[Span], data: bytes) -> tuple[Payload, ...]:
    """Parse payloads that :func:`~gateway.ike.codec.chain.split_chain` found in ``data``.

    Raises :class:`WireError`, also for a payload that is there twice and must not be.
    """
    payloads: list[Payload] = []
    seen: set[int] = set()
    for kind, _, start, end in spans:
        parse = PARSERS.get(kind)
        if parse is None:
            payloads.append(UnknownPayload(kind, critical=False, data=data[start:end]))
            continue
        if kind in SINGLE:
            if kind in seen:
                raise WireError(f"payload {kind} is there twice")
            seen.add(kind)
        payloads.append(parse(Reader(data, start, end)))
    return tuple(payloads)


def serialize_header(  # noqa: PLR0917 - in the order of the wire
    initiator_spi: bytes,
    responder_spi: bytes,
    first_payload: int,
    exchange: int,
    flags: int,
    message_id: int,
    length: int,
) -> bytes:
    """Write the header of a message of ``length`` octets, header included.

    Raises :class:`ValueError` if it is too large.
    """
    return shared.serialize_header(
        initiator_spi,
        responder_spi,
        first_payload=first_payload,
        exchange=exchange,
        flags=flags,
        message_id=message_id,
        length=length,
        major=MAJOR_VERSION,
    )


def serialize_message(
    initiator_spi: bytes,
    responder_spi: bytes,
    *,
    exchange: int,
    payloads: Sequence[Payload],
    flags: int = 0,
    message_id: int = 0,
) -> bytes:
    """Write a message in the clear. Raises :class:`ValueError` if it is too large."""
    first, body = serialize_payloads(payloads)
    length = HEADER_OCTETS + len(body)
    head = serialize_header(
        initiator_spi, responder_spi, first, exchange, flags, message_id, length
    )
    return head + body

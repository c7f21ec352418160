"""Chains of IKEv2 payloads: which class reads which type, and what a message may repeat."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.authentication import (
    Authentication,
    Certificate,
    CertificateRequest,
    Eap,
    IdInitiator,
    IdResponder,
)
from gateway.ike.codec.chain import CRITICAL, Span, split_chain
from gateway.ike.codec.configuration import Configuration
from gateway.ike.codec.keying import KeyExchange, Nonce
from gateway.ike.codec.notify import Delete, Notify, VendorId
from gateway.ike.codec.payload import Payload, UnknownPayload
from gateway.ike.codec.sa import SecurityAssociation
from gateway.ike.codec.selectors import TrafficSelectorsInitiator, TrafficSelectorsResponder
from gateway.ike.registry import PayloadType

PAYLOAD_CLASSES: tuple[type[Payload], ...] = (
    SecurityAssociation,
    KeyExchange,
    IdInitiator,
    IdResponder,
    Certificate,
    CertificateRequest,
    Authentication,
    Nonce,
    Notify,
    Delete,
    VendorId,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    Configuration,
    Eap,
)

PARSERS: dict[int, Callable[[Reader], Payload]] = {cls.TYPE: cls.parse for cls in PAYLOAD_CLASSES}
"""By payload type. The encrypted payloads are not here: they end a message, see ``message``."""

REPEATABLE: frozenset[int] = frozenset(
    {
        PayloadType.CERT,
        PayloadType.CERTREQ,
        PayloadType.NOTIFY,
        PayloadType.DELETE,
        PayloadType.VENDOR_ID,
    }
)
"""Types that a message may hold more than once; unknown types may repeat too."""

ENCRYPTED: frozenset[int] = frozenset({PayloadType.SK, PayloadType.SKF})

P = TypeVar("P", bound=Payload)


class UnsupportedCriticalPayload(WireError):  # noqa: N818 - named for what it is
    """A payload that we do not know insists on being understood (RFC 7296 section 2.5)."""

    def __init__(self, payload_type: int) -> None:
        super().__init__(f"unknown payload {payload_type} is marked critical")
        self.payload_type = payload_type


def parse_spans(spans: Iterable[Span], data: bytes) -> tuple[Payload, ...]:
    """Parse the payloads that :func:`~gateway.ike.codec.chain.split_chain` found in ``data``.

    Raises as :func:`parse_payloads` does.
    """
    payloads: list[Payload] = []
    seen: set[int] = set()
    for kind, flags, start, end in spans:
        parse = PARSERS.get(kind)
        if parse is None:
            if kind in ENCRYPTED:
                raise WireError(f"encrypted payload {kind} where none may be")
            if flags & CRITICAL:
                raise UnsupportedCriticalPayload(kind)
            payloads.append(UnknownPayload(kind, critical=False, data=data[start:end]))
            continue
        if kind in seen and kind not in REPEATABLE:
            raise WireError(f"payload {kind} is there twice")
        seen.add(kind)
        payloads.append(parse(Reader(data, start, end)))
    return tuple(payloads)


def parse_payloads(first: int, content: Reader | bytes) -> tuple[Payload, ...]:
    """Parse a whole chain that begins with a payload of type ``first`` (0: empty).

    This is for the content of an encrypted payload without its padding.

    Raises :class:`WireError` for any break of the format, for octets after the last payload, for a
    payload that is there twice and must not be, for an encrypted payload within, and
    :class:`UnsupportedCriticalPayload`.
    """
    data = content if isinstance(content, bytes) else content.rest()
    spans, _, end = split_chain(first, data, 0, len(data))
    if end != len(data):
        raise WireError(f"{len(data) - end} octets after the last payload")
    return parse_spans(spans, data)


def serialize_payloads(payloads: Sequence[Payload]) -> tuple[int, bytes]:
    """Return the type of the first payload (0 if there is none) and the whole chain.

    Raises :class:`ValueError` if a payload does not fit its length field.
    """
    following = 0
    parts: list[bytes] = []
    for payload in reversed(payloads):
        parts.append(payload.serialize(following))
        following = payload.payload_type
    parts.reverse()
    return following, b"".join(parts)


def find(payloads: Iterable[Payload], cls: type[P]) -> P | None:
    """Return the first payload of a class, or None."""
    for payload in payloads:
        if isinstance(payload, cls):
            return payload
    return None


def find_all(payloads: Iterable[Payload], cls: type[P]) -> list[P]:
    """Return all payloads of a class in their order."""
    return [payload for payload in payloads if isinstance(payload, cls)]


def find_notify(payloads: Iterable[Payload], notify_type: int) -> Notify | None:
    """Return the first Notify of a type, or None."""
    for payload in payloads:
        if isinstance(payload, Notify) and payload.type == notify_type:
            return payload
    return None

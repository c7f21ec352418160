"""IKEv1 messages and payloads as immutable values: parse hostile octets, write our own.

RFC 2407 to 2409, 3706 and 3947, the drafts of XAUTH and mode configuration. Parsers raise
:class:`~gateway.domain.wire.WireError` only.
"""

from gateway.domain.wire import WireError
from gateway.ike.codec.message import HEADER_OCTETS, Header, parse_header
from gateway.ike.codec.payload import Payload, UnknownPayload
from gateway.ike.codec.payloads import find, find_all, serialize_payloads
from gateway.ike.v1.codec.attributes import Attribute, long_number
from gateway.ike.v1.codec.configuration import Configuration, Fragment
from gateway.ike.v1.codec.identity import (
    Certificate,
    CertificateRequest,
    Identification,
    OriginalAddress,
    OriginalAddressDraft,
)
from gateway.ike.v1.codec.message import (
    Message,
    is_encrypted,
    parse_message,
    parse_payloads,
    serialize_header,
    serialize_message,
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
from gateway.ike.v1.codec.registry import ExchangeType, Flag, NotifyType, PayloadType, ProtocolId
from gateway.ike.v1.codec.sa import Proposal, SecurityAssociation, Transform, UnsupportedSituation
from gateway.ike.v1.codec.text import describe_exchange, describe_notify

__all__ = [
    "HEADER_OCTETS",
    "Attribute",
    "Certificate",
    "CertificateRequest",
    "Configuration",
    "Delete",
    "ExchangeType",
    "FaAdvertisement",
    "Flag",
    "Fragment",
    "Hash",
    "Header",
    "Identification",
    "KeyExchange",
    "Message",
    "NatDetection",
    "NatDetectionDraft",
    "Nonce",
    "Notify",
    "NotifyType",
    "OriginalAddress",
    "OriginalAddressDraft",
    "Payload",
    "PayloadType",
    "Proposal",
    "ProtocolId",
    "SecurityAssociation",
    "Signature",
    "Transform",
    "UnknownPayload",
    "UnsupportedSituation",
    "VendorId",
    "WireError",
    "describe_exchange",
    "describe_notify",
    "find",
    "find_all",
    "is_encrypted",
    "long_number",
    "parse_header",
    "parse_message",
    "parse_payloads",
    "serialize_header",
    "serialize_message",
    "serialize_payloads",
]

"""IKEv2 messages and payloads as immutable values: parse hostile octets, write our own.

RFC 7296 section 3 and RFC 7383. Parsers raise :class:`~gateway.domain.wire.WireError` only.
"""

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.wire import WireError
from gateway.ike.codec.authentication import (
    Authentication,
    Certificate,
    CertificateRequest,
    Eap,
    Identification,
    IdInitiator,
    IdResponder,
)
from gateway.ike.codec.configuration import Configuration, ConfigurationAttribute
from gateway.ike.codec.keying import KeyExchange, Nonce
from gateway.ike.codec.message import (
    EncryptedPart,
    Header,
    Message,
    UnsupportedMajorVersion,
    encrypted_prefix,
    parse_header,
    parse_message,
    serialize_message,
)
from gateway.ike.codec.notify import Delete, Notify, VendorId
from gateway.ike.codec.payload import Payload, UnknownPayload
from gateway.ike.codec.payloads import (
    UnsupportedCriticalPayload,
    find,
    find_all,
    find_notify,
    parse_payloads,
    serialize_payloads,
)
from gateway.ike.codec.sa import Proposal, SecurityAssociation, Transform
from gateway.ike.codec.selectors import (
    TrafficSelectors,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    UnknownSelector,
)
from gateway.ike.codec.text import (
    describe_exchange,
    describe_notify,
    describe_payload_type,
    describe_payloads,
)

__all__ = [
    "Authentication",
    "Certificate",
    "CertificateRequest",
    "Configuration",
    "ConfigurationAttribute",
    "Delete",
    "Eap",
    "EncryptedPart",
    "Header",
    "IdInitiator",
    "IdResponder",
    "Identification",
    "KeyExchange",
    "Message",
    "Nonce",
    "Notify",
    "Payload",
    "Proposal",
    "SecurityAssociation",
    "TrafficSelector",
    "TrafficSelectors",
    "TrafficSelectorsInitiator",
    "TrafficSelectorsResponder",
    "Transform",
    "UnknownPayload",
    "UnknownSelector",
    "UnsupportedCriticalPayload",
    "UnsupportedMajorVersion",
    "VendorId",
    "WireError",
    "describe_exchange",
    "describe_notify",
    "describe_payload_type",
    "describe_payloads",
    "encrypted_prefix",
    "find",
    "find_all",
    "find_notify",
    "parse_header",
    "parse_message",
    "parse_payloads",
    "serialize_message",
    "serialize_payloads",
]

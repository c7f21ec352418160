"""What the codec tests share: one sample of every payload, recorded messages, strategies."""

import functools
import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from hypothesis import strategies as st

from gateway.ike.codec import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    ConfigurationAttribute,
    Delete,
    Eap,
    IdInitiator,
    IdResponder,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    TrafficSelector,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    Transform,
    UnknownPayload,
    UnknownSelector,
    VendorId,
    parse_payloads,
    serialize_message,
)
from gateway.ike.codec.authentication import MAX_IDENTITY_OCTETS
from gateway.ike.codec.configuration import MAX_ATTRIBUTE_OCTETS
from gateway.ike.codec.keying import MAX_NONCE_OCTETS, MIN_NONCE_OCTETS
from gateway.ike.codec.notify import MAX_VENDOR_ID_OCTETS
from gateway.ike.codec.payloads import PARSERS
from gateway.ike.registry import ExchangeType, Flag, IdType, PayloadType

SPI_I = bytes.fromhex("0123456789abcdef")
SPI_R = bytes.fromhex("fedcba9876543210")

IKE_PROPOSALS = SecurityAssociation(
    (
        Proposal(
            1,
            1,
            b"",
            (Transform(1, 20, 256), Transform(1, 28), Transform(2, 5), Transform(4, 31)),
        ),
        Proposal(
            2,
            1,
            b"",
            (Transform(1, 12, 128), Transform(3, 12), Transform(2, 5), Transform(4, 14)),
        ),
    )
)
ESP_PROPOSAL = SecurityAssociation(
    (
        Proposal(
            1, 3, b"\xc0\xde\x00\x01", (Transform(1, 20, 128), Transform(5, 1), Transform(5, 0))
        ),
    )
)
SELECTORS = (
    TrafficSelector(IPv4Address("10.1.0.0"), IPv4Address("10.1.255.255")),
    TrafficSelector(IPv6Address("2001:db8::"), IPv6Address("2001:db8::ffff"), 17, 53, 53),
    TrafficSelector(IPv4Address("10.2.0.1"), IPv4Address("10.2.0.1"), 6, 65535, 0),
    UnknownSelector(10, 0, b"label"),
)
ATTRIBUTES = (
    ConfigurationAttribute(1, IPv4Address("10.9.0.1").packed),
    ConfigurationAttribute(8, IPv6Address("2001:db8:9::1").packed + b"\x80"),
    ConfigurationAttribute(3),
    ConfigurationAttribute(28672, b"unity banner"),
)

SAMPLES: tuple[Payload, ...] = (
    IKE_PROPOSALS,
    KeyExchange(31, bytes(range(32))),
    IdInitiator(IdType.RFC822_ADDR, b"alice@example.org"),
    IdResponder(IdType.IPV6_ADDR, IPv6Address("2001:db8::1").packed),
    Certificate(4, b"\x30\x03\x02\x01\x05"),
    CertificateRequest(4, bytes(range(40))),
    Authentication(14, bytes(range(64))),
    Nonce(bytes(range(100, 132))),
    Notify(16388, bytes(range(20))),
    Notify(16393, b"", 3, b"\x01\x02\x03\x04"),
    Delete(3, (b"\x01\x02\x03\x04", b"\x05\x06\x07\x08")),
    VendorId(b"an implementation"),
    TrafficSelectorsInitiator(SELECTORS),
    TrafficSelectorsResponder(SELECTORS[:1]),
    Configuration(1, ATTRIBUTES),
    Eap(b"\x01\x07\x00\x0a\x01hello"),
    UnknownPayload(200, critical=False, data=b"whatever"),
)


def message_of(*payloads: Payload) -> bytes:
    """An IKE_SA_INIT request in the clear; the codec does not mind which payloads it holds."""
    return serialize_message(
        SPI_I,
        bytes(8),
        exchange=ExchangeType.IKE_SA_INIT,
        flags=Flag.INITIATOR,
        message_id=0,
        payloads=payloads,
    )


def with_length(message: bytes) -> bytes:
    """Make the header agree with a message that was cut or stretched."""
    return message[:24] + len(message).to_bytes(4, "big") + message[28:]


@dataclass(frozen=True)
class Recorded:
    """One datagram between two charon daemons."""

    message: bytes
    plain: bytes | None
    """The decrypted content without padding; of a fragment, its part."""
    sa: dict[str, str] | None
    """The key material of its IKE SA."""


@functools.cache
def recorded() -> tuple[Recorded, ...]:
    """See the note in the file about how it was made."""
    document = json.loads((Path(__file__).parent / "charon.json").read_text())
    return tuple(
        Recorded(
            bytes.fromhex(entry["hex"]),
            bytes.fromhex(entry["plain"]) if "plain" in entry else None,
            document["sas"][entry["sa"]] if "sa" in entry else None,
        )
        for entry in document["messages"]
    )


@functools.cache
def recorded_contents() -> tuple[tuple[int, bytes], ...]:
    """First payload type and content of all that was encrypted, fragments put together."""
    contents: list[tuple[int, bytes]] = []
    for entry in recorded():
        if entry.plain is None:
            continue
        if entry.message[16] == PayloadType.SKF and entry.message[33] > 1:
            first, head = contents.pop()
            contents.append((first, head + entry.plain))
        else:
            contents.append((entry.message[28], entry.plain))
    return tuple(contents)


def recorded_payloads() -> list[tuple[Payload, ...]]:
    """The content of all that was encrypted, parsed."""
    return [parse_payloads(first, content) for first, content in recorded_contents()]


# Strategies: everything that the dataclasses can hold and the wire can carry.

_u8 = st.integers(0, 255)
_u16 = st.integers(0, 65535)


def _octets(least: int, most: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=least, max_size=most)


_transforms = st.builds(Transform, _u8, _u16, st.none() | _u16)
_proposals = st.sampled_from([(1, 0), (1, 8), (2, 4), (3, 4), (0, 0), (77, 16)]).flatmap(
    lambda kind: st.builds(
        Proposal,
        _u8,
        st.just(kind[0]),
        _octets(kind[1], kind[1]),
        st.lists(_transforms, max_size=6).map(tuple),
    )
)
_identity = st.one_of(
    st.tuples(st.just(1), _octets(4, 4)),
    st.tuples(st.just(5), _octets(16, 16)),
    st.tuples(
        _u8.filter(lambda kind: kind not in (1, 5)),
        _octets(0, 80) | st.just(bytes(MAX_IDENTITY_OCTETS)),
    ),
)
_notify_spi = st.sampled_from([(0, 0), (1, 0), (1, 8), (2, 4), (3, 4), (3, 0), (255, 16)])
_delete_kind = st.sampled_from([(2, 4), (3, 4), (0, 7), (255, 16)])


@st.composite
def _selectors(draw: st.DrawFn) -> TrafficSelector | UnknownSelector:
    if draw(st.integers(0, 9)) == 0:
        kind = draw(_u8.filter(lambda kind: kind not in (7, 8)))
        return UnknownSelector(kind, draw(_u8), draw(_octets(0, 40)))
    version = draw(st.sampled_from([4, 6]))
    addresses = sorted([draw(st.ip_addresses(v=version)), draw(st.ip_addresses(v=version))])
    ports = draw(st.just([65535, 0]) | st.lists(_u16, min_size=2, max_size=2).map(sorted))
    return TrafficSelector(*addresses, draw(_u8), *ports)


_selector_lists = st.lists(_selectors(), min_size=1, max_size=5).map(tuple)
_attributes = st.one_of(
    st.builds(
        ConfigurationAttribute, st.sampled_from([1, 2, 3, 4, 6]), st.just(b"") | _octets(4, 4)
    ),
    st.builds(ConfigurationAttribute, st.just(8), _octets(16, 17)),
    st.builds(ConfigurationAttribute, st.integers(26, 0x7FFF), _octets(0, 50)),
    st.builds(ConfigurationAttribute, st.just(25), st.just(b"d" * MAX_ATTRIBUTE_OCTETS)),
)


def _eap(code: int, number: int, data: bytes) -> Eap:
    return Eap(bytes((code, number)) + (len(data) + 4).to_bytes(2, "big") + data)


BY_CLASS: dict[type[Payload], st.SearchStrategy[Payload]] = {
    SecurityAssociation: st.builds(
        SecurityAssociation, st.lists(_proposals, min_size=1, max_size=4).map(tuple)
    ),
    KeyExchange: st.builds(KeyExchange, _u16, _octets(1, 300)),
    IdInitiator: _identity.flatmap(
        lambda i: st.builds(IdInitiator, *map(st.just, i), _octets(3, 3))
    ),
    IdResponder: _identity.map(lambda i: IdResponder(*i)),
    Certificate: st.builds(Certificate, _u8, _octets(1, 300)),
    CertificateRequest: st.builds(CertificateRequest, _u8, _octets(0, 100)),
    Authentication: st.builds(Authentication, _u8, _octets(1, 300)),
    Nonce: st.builds(Nonce, _octets(MIN_NONCE_OCTETS, MAX_NONCE_OCTETS)),
    Notify: _notify_spi.flatmap(
        lambda k: st.builds(Notify, _u16, _octets(0, 60), st.just(k[0]), _octets(k[1], k[1]))
    ),
    Delete: st.just(Delete(1))
    | _delete_kind.flatmap(
        lambda k: st.builds(
            Delete, st.just(k[0]), st.lists(_octets(k[1], k[1]), max_size=5).map(tuple)
        )
    ),
    VendorId: st.builds(VendorId, _octets(0, 60) | st.just(bytes(MAX_VENDOR_ID_OCTETS))),
    TrafficSelectorsInitiator: st.builds(TrafficSelectorsInitiator, _selector_lists),
    TrafficSelectorsResponder: st.builds(TrafficSelectorsResponder, _selector_lists),
    Configuration: st.builds(Configuration, _u8, st.lists(_attributes, max_size=5).map(tuple)),
    Eap: st.builds(_eap, _u8, _u8, _octets(0, 100)),
    UnknownPayload: st.builds(
        UnknownPayload,
        st.integers(1, 255).filter(
            lambda kind: kind not in PARSERS and kind not in (PayloadType.SK, PayloadType.SKF)
        ),
        st.just(False),
        _octets(0, 60),
    ),
}

_REPEATABLE = (Notify, Delete, VendorId, Certificate, CertificateRequest, UnknownPayload)


@st.composite
def payload_lists(draw: st.DrawFn) -> list[Payload]:
    """What a message may hold, in any order."""
    single = [cls for cls in BY_CLASS if cls not in _REPEATABLE]
    chosen = draw(st.lists(st.sampled_from(single), unique=True, max_size=5))
    chosen += draw(st.lists(st.sampled_from(_REPEATABLE), max_size=5))
    return [draw(BY_CLASS[cls]) for cls in draw(st.permutations(chosen))]

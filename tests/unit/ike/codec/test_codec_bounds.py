"""Every bound of the codecs: what is just allowed passes, one more is refused."""

import struct
from collections.abc import Callable

import pytest
from codec_samples import SPI_I, SPI_R, message_of

from gateway.ike.codec import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    ConfigurationAttribute,
    Delete,
    Eap,
    IdInitiator,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    Transform,
    UnknownPayload,
    UnknownSelector,
    VendorId,
    WireError,
    encrypted_prefix,
    parse_header,
    parse_message,
    parse_payloads,
    serialize_payloads,
)
from gateway.ike.codec.authentication import (
    MAX_AUTHENTICATION_OCTETS,
    MAX_AUTHORITIES_OCTETS,
    MAX_CERTIFICATE_OCTETS,
    MAX_IDENTITY_OCTETS,
    MIN_EAP_OCTETS,
)
from gateway.ike.codec.chain import MAX_PAYLOADS
from gateway.ike.codec.configuration import MAX_ATTRIBUTE_OCTETS, MAX_CONFIGURATION_ATTRIBUTES
from gateway.ike.codec.keying import MAX_KEY_EXCHANGE_OCTETS, MAX_NONCE_OCTETS, MIN_NONCE_OCTETS
from gateway.ike.codec.message import MAX_FRAGMENTS, MAX_MESSAGE_OCTETS, MIN_ENCRYPTED_OCTETS
from gateway.ike.codec.notify import MAX_SPIS, MAX_VENDOR_ID_OCTETS
from gateway.ike.codec.sa import (
    MAX_ATTRIBUTES,
    MAX_PROPOSALS,
    MAX_SPI_OCTETS,
    MAX_TRANSFORMS,
    MAX_TRANSFORMS_IN_SA,
)
from gateway.ike.codec.selectors import MAX_SELECTORS


def transforms(count: int) -> tuple[Transform, ...]:
    return tuple(Transform(1, number) for number in range(count))


def sa_of(*counts: int) -> SecurityAssociation:
    return SecurityAssociation(
        tuple(Proposal(n + 1, 1, b"", transforms(count)) for n, count in enumerate(counts))
    )


def full_sa(extra: int) -> SecurityAssociation:
    whole, rest = divmod(MAX_TRANSFORMS_IN_SA + extra, MAX_TRANSFORMS)
    return sa_of(*[MAX_TRANSFORMS] * whole, *[rest] * bool(rest))


def eap_of(size: int) -> Eap:
    return Eap((b"\x01\x01" + size.to_bytes(2, "big") + bytes(size))[:size])


ALIEN = UnknownSelector(10, 0, b"")
ASK = ConfigurationAttribute(25)

BOUNDS: dict[str, tuple[Callable[[int], Payload], int, int]] = {
    # name: builder of a size, largest (or least) size allowed, first size refused
    "MAX_PROPOSALS": (lambda n: sa_of(*[1] * n), MAX_PROPOSALS, MAX_PROPOSALS + 1),
    "MAX_TRANSFORMS": (sa_of, MAX_TRANSFORMS, MAX_TRANSFORMS + 1),
    "MAX_TRANSFORMS_IN_SA": (full_sa, 0, 1),
    "MAX_SPI_OCTETS": (
        lambda n: SecurityAssociation((Proposal(1, 9, bytes(n), transforms(1)),)),
        MAX_SPI_OCTETS,
        MAX_SPI_OCTETS + 1,
    ),
    "MAX_SPI_OCTETS in Notify": (
        lambda n: Notify(1, b"", 9, bytes(n)),
        MAX_SPI_OCTETS,
        MAX_SPI_OCTETS + 1,
    ),
    "MAX_SPI_OCTETS in Delete": (
        lambda n: Delete(9, (bytes(n),)),
        MAX_SPI_OCTETS,
        MAX_SPI_OCTETS + 1,
    ),
    "MAX_KEY_EXCHANGE_OCTETS": (
        lambda n: KeyExchange(31, bytes(n)),
        MAX_KEY_EXCHANGE_OCTETS,
        MAX_KEY_EXCHANGE_OCTETS + 1,
    ),
    "KE of nothing": (lambda n: KeyExchange(31, bytes(n)), 1, 0),
    "MIN_NONCE_OCTETS": (lambda n: Nonce(bytes(n)), MIN_NONCE_OCTETS, MIN_NONCE_OCTETS - 1),
    "MAX_NONCE_OCTETS": (lambda n: Nonce(bytes(n)), MAX_NONCE_OCTETS, MAX_NONCE_OCTETS + 1),
    "nonce of nothing": (lambda n: Nonce(bytes(n)), MIN_NONCE_OCTETS, 0),
    "MAX_IDENTITY_OCTETS": (
        lambda n: IdInitiator(11, bytes(n)),
        MAX_IDENTITY_OCTETS,
        MAX_IDENTITY_OCTETS + 1,
    ),
    "MAX_CERTIFICATE_OCTETS": (
        lambda n: Certificate(4, bytes(n)),
        MAX_CERTIFICATE_OCTETS,
        MAX_CERTIFICATE_OCTETS + 1,
    ),
    "certificate of nothing": (lambda n: Certificate(4, bytes(n)), 1, 0),
    "MAX_AUTHORITIES_OCTETS": (
        lambda n: CertificateRequest(4, bytes(n)),
        MAX_AUTHORITIES_OCTETS,
        MAX_AUTHORITIES_OCTETS + 1,
    ),
    "MAX_AUTHENTICATION_OCTETS": (
        lambda n: Authentication(2, bytes(n)),
        MAX_AUTHENTICATION_OCTETS,
        MAX_AUTHENTICATION_OCTETS + 1,
    ),
    "AUTH of nothing": (lambda n: Authentication(2, bytes(n)), 1, 0),
    "MIN_EAP_OCTETS": (eap_of, MIN_EAP_OCTETS, MIN_EAP_OCTETS - 1),
    "MAX_SPIS": (lambda n: Delete(3, (bytes(4),) * n), MAX_SPIS, MAX_SPIS + 1),
    "MAX_VENDOR_ID_OCTETS": (
        lambda n: VendorId(bytes(n)),
        MAX_VENDOR_ID_OCTETS,
        MAX_VENDOR_ID_OCTETS + 1,
    ),
    "MAX_SELECTORS": (
        lambda n: TrafficSelectorsInitiator((ALIEN,) * n),
        MAX_SELECTORS,
        MAX_SELECTORS + 1,
    ),
    "h27 no selectors": (lambda n: TrafficSelectorsInitiator((ALIEN,) * n), 1, 0),
    "h27 255 selectors": (lambda n: TrafficSelectorsInitiator((ALIEN,) * n), 1, 255),
    "MAX_CONFIGURATION_ATTRIBUTES": (
        lambda n: Configuration(1, (ASK,) * n),
        MAX_CONFIGURATION_ATTRIBUTES,
        MAX_CONFIGURATION_ATTRIBUTES + 1,
    ),
    "MAX_ATTRIBUTE_OCTETS": (
        lambda n: Configuration(1, (ConfigurationAttribute(25, bytes(n)),)),
        MAX_ATTRIBUTE_OCTETS,
        MAX_ATTRIBUTE_OCTETS + 1,
    ),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bound(name: str) -> None:
    build, allowed, refused = BOUNDS[name]
    payload = build(allowed)
    assert parse_payloads(*serialize_payloads([payload])) == (payload,)
    with pytest.raises(WireError):
        parse_payloads(*serialize_payloads([build(refused)]))


def test_max_payloads() -> None:
    most = [Notify(1)] * MAX_PAYLOADS
    assert parse_message(message_of(*most)).payloads == tuple(most)
    with pytest.raises(WireError, match=f"more than {MAX_PAYLOADS} payloads"):
        parse_message(message_of(*most, Notify(1)))


def test_h07_ten_thousand_tiny_payloads_are_refused_before_any_is_parsed() -> None:
    # A Notify without a body is malformed, and so is the length after the last payload allowed:
    # neither may be noticed.
    tiny = b"\x29\x00\x00\x04"
    chain = tiny * MAX_PAYLOADS + b"\x29\x00\x00\x00" * (10000 - MAX_PAYLOADS)
    with pytest.raises(WireError, match=f"more than {MAX_PAYLOADS} payloads"):
        parse_payloads(41, chain)
    head = struct.pack("!8s8s4B2I", SPI_I, bytes(8), 41, 0x20, 34, 8, 0, 28 + len(chain))
    with pytest.raises(WireError, match=f"more than {MAX_PAYLOADS} payloads"):
        parse_message(head + chain)


def test_max_message_octets() -> None:
    def message(size: int) -> bytes:
        head = struct.pack("!8s8s4B2I", SPI_I, bytes(8), 0, 0x20, 34, 8, 0, size)
        return head + bytes(size - len(head))

    assert parse_header(message(MAX_MESSAGE_OCTETS)).length == MAX_MESSAGE_OCTETS
    with pytest.raises(WireError):
        parse_header(message(MAX_MESSAGE_OCTETS + 1))


@pytest.mark.parametrize(
    ("number", "total", "fine"),
    [
        (1, 1, True),
        (MAX_FRAGMENTS, MAX_FRAGMENTS, True),
        (1, MAX_FRAGMENTS + 1, False),
        (0, 1, False),
        (0, 0, False),
        (1, 0, False),
        (3, 2, False),
        (65535, 65535, False),
    ],
)
def test_h21_fragment_numbers(number: int, total: int, fine: bool) -> None:
    octets = encrypted_prefix(
        SPI_I,
        SPI_R,
        exchange=35,
        flags=8,
        message_id=1,
        first_payload=35,
        sealed_octets=MIN_ENCRYPTED_OCTETS,
        fragment=(number, total),
    ) + bytes(MIN_ENCRYPTED_OCTETS)
    if fine:
        encrypted = parse_message(octets).encrypted
        assert encrypted is not None
        assert encrypted.fragment == (number, total)
    else:
        with pytest.raises(WireError, match=f"fragment {number} of {total}"):
            parse_message(octets)


@pytest.mark.parametrize("fragment", [None, (1, 2)])
def test_h22_min_encrypted_octets(fragment: tuple[int, int] | None) -> None:
    def message(size: int) -> bytes:
        prefix = encrypted_prefix(
            SPI_I,
            SPI_R,
            exchange=35,
            flags=8,
            message_id=1,
            first_payload=35,
            sealed_octets=size,
            fragment=fragment,
        )
        return prefix + bytes(size)

    assert parse_message(message(MIN_ENCRYPTED_OCTETS)).encrypted
    for size in (MIN_ENCRYPTED_OCTETS - 1, 0):
        with pytest.raises(WireError, match="encrypted part"):
            parse_message(message(size))


def transform_with(attributes: bytes) -> bytes:
    transform = struct.pack("!BxHBxH", 0, 8 + len(attributes), 1, 20) + attributes
    return struct.pack("!BxHBBBB", 0, 12 + len(transform), 1, 3, 4, 1) + bytes(4) + transform


def parsed_transform(attributes: bytes) -> Transform:
    body = transform_with(attributes)
    chain = UnknownPayload(33, critical=False, data=body).serialize()
    (sa,) = parse_payloads(33, chain)
    assert isinstance(sa, SecurityAssociation)
    return sa.proposals[0].transforms[0]


def test_max_attributes() -> None:
    alien = b"\x80\x63\x00\x01"
    assert not parsed_transform(alien * MAX_ATTRIBUTES).understood
    with pytest.raises(WireError, match=f"more than {MAX_ATTRIBUTES} attributes"):
        parsed_transform(alien * (MAX_ATTRIBUTES + 1))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", Transform(1, 20)),
        ("800e0100", Transform(1, 20, 256)),
        ("800e0000", Transform(1, 20, 0)),
        ("800effff", Transform(1, 20, 65535)),
        ("800e0080800e0100", Transform(1, 20, 128, understood=False)),
        ("80630001", Transform(1, 20, None, understood=False)),
        ("800e008080630001", Transform(1, 20, 128, understood=False)),
        ("000e00020080", Transform(1, 20, None, understood=False)),
        ("00630000", Transform(1, 20, None, understood=False)),
        ("00630003aabbcc800e0080", Transform(1, 20, 128, understood=False)),
    ],
)
def test_h17_key_length_and_other_attributes(attributes: str, expected: Transform) -> None:
    assert parsed_transform(bytes.fromhex(attributes)) == expected


@pytest.mark.parametrize(
    "attributes", ["00", "800e", "800e01", "0063ffff", "00630001", "000e00040080"]
)
def test_h08_attributes_that_lie_about_their_length(attributes: str) -> None:
    with pytest.raises(WireError):
        parsed_transform(bytes.fromhex(attributes))

"""The IKEv1 codec: round trips, bounds, mutations."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.wire import WireError
from gateway.ike.v1.codec import (
    Attribute,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    ExchangeType,
    FaAdvertisement,
    Flag,
    Fragment,
    Hash,
    Identification,
    KeyExchange,
    NatDetection,
    NatDetectionDraft,
    Nonce,
    Notify,
    NotifyType,
    OriginalAddress,
    OriginalAddressDraft,
    Payload,
    PayloadType,
    Proposal,
    ProtocolId,
    SecurityAssociation,
    Signature,
    Transform,
    UnknownPayload,
    UnsupportedSituation,
    VendorId,
    find,
    find_all,
    is_encrypted,
    long_number,
    parse_header,
    parse_message,
    parse_payloads,
    serialize_message,
    serialize_payloads,
)
from gateway.ike.v1.codec.attributes import MAX_ATTRIBUTES
from gateway.ike.v1.codec.message import MAX_CLEAR_PADDING, MAX_ENCRYPTED_PADDING, SINGLE
from gateway.ike.v1.codec.notify import MAX_SPIS
from gateway.ike.v1.codec.registry import CfgAttribute, CfgType, IdType
from gateway.ike.v1.codec.sa import MAX_PROPOSALS, MAX_TRANSFORMS_IN_SA

COOKIE_I, COOKIE_R = b"initiate", b"responds"


def octets(least: int, most: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=least, max_size=most)


u8, u16, u32 = st.integers(0, 255), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1)
attribute = st.builds(Attribute, st.integers(0, 0x7FFF), st.one_of(u16, octets(0, 40)))
attributes = st.lists(attribute, max_size=6).map(tuple)
transform = st.builds(Transform, u8, u8, attributes)
transforms = st.lists(transform, max_size=5).map(tuple)
proposal = st.one_of(
    st.builds(Proposal, u8, st.just(3), octets(4, 4), transforms),
    st.builds(Proposal, u8, st.just(1), octets(0, 16), transforms),
)
security_association = st.lists(proposal, min_size=1, max_size=4).map(
    lambda found: SecurityAssociation(tuple(found))
)
plain_attribute = st.builds(Attribute, st.sampled_from((7, 14, 16521, 16522, 28672)), octets(0, 60))
payload = st.one_of(
    security_association,
    st.builds(KeyExchange, octets(1, 256)),
    st.builds(Identification, st.sampled_from((2, 3, 9, 11)), octets(0, 60), u8, u16),
    st.builds(Identification, st.sampled_from((4, 7)), octets(8, 8), u8, u16),
    st.builds(Certificate, u8, octets(1, 100)),
    st.builds(CertificateRequest, u8, octets(0, 60)),
    st.builds(Hash, octets(16, 64)),
    st.builds(Signature, octets(1, 256)),
    st.builds(Nonce, octets(8, 256)),
    st.builds(Notify, u16, octets(0, 40), u8, octets(0, 16), u32),
    st.builds(Delete, st.just(3), st.lists(octets(4, 4), min_size=1, max_size=5).map(tuple), u32),
    st.builds(VendorId, octets(0, 40)),
    st.builds(Configuration, u8, st.lists(plain_attribute, max_size=5).map(tuple), u16),
    st.builds(NatDetection, octets(16, 64)),
    st.builds(NatDetectionDraft, octets(16, 64)),
    st.builds(OriginalAddress, st.ip_addresses()),
    st.builds(OriginalAddressDraft, st.ip_addresses()),
    st.builds(Fragment, u16, st.integers(1, 255), st.booleans(), octets(1, 60)),
    st.builds(FaAdvertisement, octets(8, 200)),
    st.builds(
        UnknownPayload, st.sampled_from((15, 33, 41, 128, 255)), st.just(False), octets(0, 9)
    ),
)


def _singles_once(found: list[Payload]) -> list[Payload]:
    kept, seen = [], set()
    for one in found:
        if one.payload_type in SINGLE and one.payload_type in seen:
            continue
        seen.add(one.payload_type)
        kept.append(one)
    return kept


chain = st.lists(payload, max_size=8).map(_singles_once)


def message(payloads: list[Payload], exchange: int = ExchangeType.AGGRESSIVE) -> bytes:
    return serialize_message(COOKIE_I, COOKIE_R, exchange=exchange, payloads=payloads)


@given(chain)
def test_messages_round_trip(payloads: list[Payload]) -> None:
    data = message(payloads)
    parsed = parse_message(data)
    assert list(parsed.payloads) == payloads
    assert message(list(parsed.payloads)) == data


@given(chain, octets(0, MAX_ENCRYPTED_PADDING))
def test_decrypted_bodies_end_before_their_padding(payloads: list[Payload], padding: bytes) -> None:
    first, body = serialize_payloads(payloads)
    parsed, end = parse_payloads(first, body + padding)
    assert list(parsed) == payloads
    assert end == len(body)


@given(st.binary(max_size=300), u8)
def test_arbitrary_octets_parse_or_raise_wire_error(data: bytes, first: int) -> None:
    try:
        payloads, end = parse_payloads(first, data)
    except WireError:
        return
    assert 0 <= end <= len(data)
    for one in payloads:
        repr(one)
        hash(one)
    assert serialize_payloads(payloads)[0] == first


SAMPLE: list[Payload] = [
    SecurityAssociation(
        (
            Proposal(
                1,
                ProtocolId.ESP,
                b"\0\0\x12\x34",
                (
                    Transform(
                        1, 12, (Attribute(6, 256), long_number(2, 3600), Attribute(32201, 1))
                    ),
                    Transform(2, 20, (Attribute(4, 61443), long_number(2, 86400 * 2))),
                ),
            ),
        )
    ),
    Nonce(b"n" * 20),
    KeyExchange(b"k" * 32),
    Identification(IdType.IPV4_ADDR_SUBNET, bytes(8)),
    Identification(IdType.IPV4_ADDR, bytes(4), 17, 500),
    Notify(NotifyType.R_U_THERE, b"\0\0\0\1", spi=COOKIE_I + COOKIE_R),
    Delete(ProtocolId.ISAKMP, (COOKIE_I + COOKIE_R,)),
    Configuration(
        CfgType.REQUEST,
        (
            Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, b""),
            Attribute(CfgAttribute.XAUTH_TYPE, 0),
            Attribute(CfgAttribute.XAUTH_USER_NAME, b"alice"),
        ),
        7,
    ),
    NatDetection(bytes(20)),
    OriginalAddress(IPv6Address("2001:db8::1")),
    OriginalAddressDraft(IPv4Address("192.0.2.1")),
    Certificate(4, b"certificate"),
    CertificateRequest(4, b"authority"),
    FaAdvertisement(bytes(16)),
]


def test_h05_cut_messages_raise_wire_error_only() -> None:
    data = message(SAMPLE)
    for size in range(len(data)):
        cut = bytearray(data[:size])
        if size >= 28:
            cut[24:28] = struct.pack("!I", size)
        with pytest.raises(WireError):
            parse_message(bytes(cut))


def test_h06_flipped_bits_raise_wire_error_only() -> None:
    data = message(SAMPLE)
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            try:
                parsed = parse_message(bytes(flipped))
            except WireError:
                continue
            repr(parsed)


def test_h07_payload_counts_are_bounded() -> None:
    with pytest.raises(WireError, match="more than"):
        parse_payloads(13, b"\x0d\0\0\x04" * 10_000)


def test_raw_octets_of_sa_are_kept() -> None:
    body = bytearray(SAMPLE[0].body())
    body[9] = 0xAB  # reserved octet of the proposal
    data = bytes((0, 0)) + struct.pack("!H", 4 + len(body)) + bytes(body)
    (parsed,), _ = parse_payloads(PayloadType.SA, data)
    assert parsed == SAMPLE[0]
    assert parsed.body() == bytes(body)


@pytest.mark.parametrize(
    ("doi", "situation"), [(0xFFFFFFFF, 1), (1, 0xFFFFFFFF), (2, 1), (1, 0), (1, 7), (1, 3)]
)
def test_h38_other_domains_and_situations_are_refused(doi: int, situation: int) -> None:
    body = struct.pack("!II", doi, situation) + SAMPLE[0].body()[8:]
    data = bytes((0, 0)) + struct.pack("!H", 4 + len(body)) + body
    with pytest.raises(UnsupportedSituation):
        parse_payloads(PayloadType.SA, data)


def test_h39_attribute_format_bit_flipped() -> None:
    """A number in the basic form read as a length runs over the end, and says so."""
    sa = SecurityAssociation((Proposal(1, 3, bytes(4), (Transform(1, 12, (Attribute(6, 256),)),)),))
    first, data = serialize_payloads([sa])
    flipped = data.replace(b"\x80\x06\x01\x00", b"\x00\x06\x01\x00")
    assert flipped != data
    with pytest.raises(WireError):
        parse_payloads(first, flipped)


@pytest.mark.parametrize("length", [0xFFFF, 5, 4097])
def test_h39_attribute_length_beyond_its_parent(length: int) -> None:
    body = struct.pack("!BxHHH", CfgType.SET, 1, 7, length) + b"abcd"
    data = bytes((0, 0)) + struct.pack("!H", 4 + len(body)) + body + bytes(200)
    with pytest.raises(WireError):
        parse_payloads(PayloadType.ATTRIBUTES, data)


def test_h08_attributes_of_length_zero_end() -> None:
    body = bytes(4) + struct.pack("!HH", 7, 0) * MAX_ATTRIBUTES
    first, data = PayloadType.ATTRIBUTES, bytes((0, 0)) + struct.pack("!H", 4 + len(body)) + body
    (parsed,), _ = parse_payloads(first, data)
    assert isinstance(parsed, Configuration)
    assert len(parsed.attributes) == MAX_ATTRIBUTES
    body += struct.pack("!HH", 7, 0)
    with pytest.raises(WireError, match="more than"):
        parse_payloads(first, bytes((0, 0)) + struct.pack("!H", 4 + len(body)) + body)


def test_h17_counts_of_proposals_and_transforms_are_bounded() -> None:
    one = Proposal(1, 3, bytes(4), (Transform(1, 12),))
    SecurityAssociation((one,) * MAX_PROPOSALS).serialize()
    for proposals in (
        (one,) * (MAX_PROPOSALS + 1),
        (Proposal(1, 3, bytes(4), (Transform(1, 12),) * 255),) * 3,
    ):
        first, data = serialize_payloads([SecurityAssociation(proposals)])
        with pytest.raises(WireError, match="more than"):
            parse_payloads(first, data)
    assert MAX_TRANSFORMS_IN_SA < 3 * 255


@pytest.mark.parametrize("spi", [b"", bytes(3), bytes(5), bytes(8), bytes(16)])
def test_h17_spi_size_wrong_for_protocol(spi: bytes) -> None:
    first, data = serialize_payloads(
        [SecurityAssociation((Proposal(1, 3, spi, (Transform(1, 12),)),))]
    )
    with pytest.raises(WireError, match="SPI"):
        parse_payloads(first, data)


@pytest.mark.parametrize("size", [0, 7, 257])
def test_h19_nonce_sizes(size: int) -> None:
    first, data = serialize_payloads([Nonce(bytes(size))])
    with pytest.raises(WireError):
        parse_payloads(first, data)


@pytest.mark.parametrize(
    ("kind", "size"), [(1, 3), (1, 5), (4, 4), (4, 9), (5, 4), (6, 31), (7, 16), (8, 8), (2, 2049)]
)
def test_h28_identities_of_wrong_sizes(kind: int, size: int) -> None:
    first, data = serialize_payloads([Identification(kind, bytes(size))])
    with pytest.raises(WireError):
        parse_payloads(first, data)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_h32_addresses_of_wrong_lengths(size: int) -> None:
    wrong = Configuration(1, (Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, bytes(size)),))
    first, data = serialize_payloads([wrong])
    with pytest.raises(WireError):
        parse_payloads(first, data)


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("!IBBH", 1, 3, 4, 0),
        struct.pack("!IBBH", 1, 3, 4, 2) + bytes(4),
        struct.pack("!IBBH", 1, 3, 4, 1) + bytes(5),
        struct.pack("!IBBH", 1, 1, 4, 1) + bytes(4),
        struct.pack("!IBBH", 1, 3, 16, 1) + bytes(16),
        struct.pack("!IBBH", 1, 255, 0, 1),
        struct.pack("!IBBH", 1, 3, 4, MAX_SPIS + 1) + bytes(4 * (MAX_SPIS + 1)),
    ],
)
def test_h24_deletes_that_do_not_add_up(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_payloads(12, bytes((0, 0)) + struct.pack("!H", 4 + len(body)) + body)


@pytest.mark.parametrize("first", [PayloadType.SA, PayloadType.HASH, PayloadType.NONCE])
def test_h11_single_payloads_come_once(first: int) -> None:
    one = {PayloadType.SA: SAMPLE[0], PayloadType.HASH: Hash(bytes(20))}.get(first, SAMPLE[1])
    _, data = serialize_payloads([one, one])
    with pytest.raises(WireError, match="twice"):
        parse_payloads(first, data)


def test_h14_payloads_of_ikev2_are_kept_as_unknown() -> None:
    first, data = serialize_payloads([UnknownPayload(33, critical=True, data=b"sa of ikev2")])
    (parsed,), _ = parse_payloads(first, data)
    assert parsed == UnknownPayload(33, critical=False, data=b"sa of ikev2")


def test_padding_inside_of_a_configuration_payload() -> None:
    """As libreswan sends it: the payload itself is filled to a multiple of four octets."""
    given = Configuration(2, (Attribute(CfgAttribute.UNITY_SPLIT_INCLUDE, bytes(14)),), 5)
    for padding in (b"\0", b"\0\0", b"\0\0\0"):
        body = given.body() + padding
        data = bytes((0, 0)) + struct.pack("!H", 4 + len(body)) + body
        assert parse_payloads(PayloadType.ATTRIBUTES, data)[0] == (given,)
    for wrong in (b"\1", b"\0\0\1"):
        body = given.body() + wrong
        data = bytes((0, 0)) + struct.pack("!H", 4 + len(body)) + body
        with pytest.raises(WireError):
            parse_payloads(PayloadType.ATTRIBUTES, data)


def test_h21_fragment_number_zero_or_empty() -> None:
    for one in (Fragment(1, 0, False, b"x"), Fragment(1, 1, False, b"")):
        first, data = serialize_payloads([one])
        with pytest.raises(WireError):
            parse_payloads(first, data)


def test_padding_in_the_clear_is_short_and_zero() -> None:
    data = message([SAMPLE[0]])

    def padded(padding: bytes) -> bytes:
        return data[:24] + struct.pack("!I", len(data) + len(padding)) + data[28:] + padding

    assert parse_message(padded(bytes(MAX_CLEAR_PADDING))).payloads == (SAMPLE[0],)
    for wrong in (bytes(MAX_CLEAR_PADDING + 1), b"\1"):
        with pytest.raises(WireError):
            parse_message(padded(wrong))
    with pytest.raises(WireError, match="padding"):
        parse_payloads(10, SAMPLE[1].serialize() + bytes(MAX_ENCRYPTED_PADDING + 1))


def test_encrypted_and_foreign_messages_are_not_parsed_as_clear() -> None:
    sealed = serialize_message(
        COOKIE_I,
        COOKIE_R,
        exchange=ExchangeType.QUICK,
        payloads=[SAMPLE[1]],
        flags=Flag.ENCRYPTION,
        message_id=9,
    )
    assert is_encrypted(parse_header(sealed))
    with pytest.raises(WireError, match="encrypted"):
        parse_message(sealed)
    second = bytearray(message([]))
    second[17] = 0x20
    with pytest.raises(WireError, match="version"):
        parse_message(bytes(second))


def test_numbers_of_both_attribute_forms() -> None:
    assert long_number(2, 3600) == Attribute(2, 3600)
    assert long_number(2, 200_000).number == 200_000
    assert Attribute(2, bytes(9)).number is None
    assert Attribute(2, b"").number is None
    with pytest.raises(ValueError, match="two octets"):
        Attribute(2, 70_000).serialize()


def test_secrets_do_not_show() -> None:
    shown = repr(Configuration(2, (Attribute(CfgAttribute.XAUTH_USER_PASSWORD, b"secret"),)))
    assert "secret" not in shown


def test_finding() -> None:
    assert find(SAMPLE, Nonce) is SAMPLE[1]
    assert len(find_all(SAMPLE, Identification)) == 2
    assert find(SAMPLE, Signature) is None

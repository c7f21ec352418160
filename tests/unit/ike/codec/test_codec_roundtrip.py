"""What we write we read again, octet by octet and value by value."""

import pytest
from codec_samples import (
    BY_CLASS,
    ESP_PROPOSAL,
    SAMPLES,
    SPI_I,
    SPI_R,
    message_of,
    payload_lists,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.wire import Reader
from gateway.ike.codec import (
    Certificate,
    Delete,
    EncryptedPart,
    IdInitiator,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    Transform,
    UnknownPayload,
    VendorId,
    describe_exchange,
    describe_notify,
    describe_payload_type,
    describe_payloads,
    encrypted_prefix,
    find,
    find_all,
    find_notify,
    parse_header,
    parse_message,
    parse_payloads,
    serialize_message,
    serialize_payloads,
)
from gateway.ike.codec.message import MAX_FRAGMENTS, MAX_MESSAGE_OCTETS
from gateway.ike.codec.payloads import PARSERS, PAYLOAD_CLASSES
from gateway.ike.registry import ExchangeType, Flag, PayloadType

quick = settings(max_examples=60, derandomize=True, deadline=None, database=None)


@pytest.mark.parametrize("cls", list(BY_CLASS), ids=lambda cls: cls.__name__)
def test_every_payload_round_trips(cls: type[Payload]) -> None:
    @quick
    @given(payload=BY_CLASS[cls])
    def check(payload: Payload) -> None:
        first, octets = serialize_payloads([payload])
        assert first == payload.payload_type
        (again,) = parse_payloads(first, octets)
        assert again == payload
        assert again.body() == payload.body()
        assert octets[4:] == payload.body()
        assert hash(again) == hash(payload)

    check()


def test_samples_and_strategies_cover_the_registry() -> None:
    assert {type(sample) for sample in SAMPLES} == {*PAYLOAD_CLASSES, UnknownPayload}
    assert set(BY_CLASS) == {*PAYLOAD_CLASSES, UnknownPayload}
    known = set(PayloadType) - {PayloadType.NONE, PayloadType.SK, PayloadType.SKF}
    assert set(PARSERS) == known
    for cls in PAYLOAD_CLASSES:
        assert PARSERS[cls.TYPE] == cls.parse


@settings(quick, max_examples=80)
@given(
    payloads=payload_lists(),
    responder=st.binary(min_size=8, max_size=8),
    exchange=st.integers(0, 255),
    flags=st.integers(0, 255),
    message_id=st.integers(0, 2**32 - 1),
)
def test_every_message_round_trips(
    payloads: list[Payload], responder: bytes, exchange: int, flags: int, message_id: int
) -> None:
    octets = serialize_message(
        SPI_I,
        responder,
        exchange=exchange,
        flags=flags,
        message_id=message_id,
        payloads=payloads,
    )
    message = parse_message(octets)
    header = message.header
    assert message.payloads == tuple(payloads)
    assert message.encrypted is None
    assert (header.initiator_spi, header.responder_spi) == (SPI_I, responder)
    assert (header.exchange, header.flags, header.message_id) == (exchange, flags, message_id)
    assert (header.major, header.minor, header.length) == (2, 0, len(octets))
    assert header.is_response == bool(flags & 0x20)
    assert header.from_initiator == bool(flags & 0x08)
    assert parse_message(octets, parse_header(octets)) == message


@quick
@given(
    sealed=st.binary(min_size=21, max_size=300),
    first=st.sampled_from([0, 33, 41, 200]),
    fragment=st.none()
    | st.integers(1, MAX_FRAGMENTS).flatmap(
        lambda total: st.tuples(st.integers(1, total), st.just(total))
    ),
)
def test_encrypted_messages_round_trip(
    sealed: bytes, first: int, fragment: tuple[int, int] | None
) -> None:
    prefix = encrypted_prefix(
        SPI_I,
        SPI_R,
        exchange=ExchangeType.IKE_AUTH,
        flags=Flag.INITIATOR,
        message_id=1,
        first_payload=first,
        sealed_octets=len(sealed),
        fragment=fragment,
    )
    message = parse_message(prefix + sealed)
    expected = 0 if fragment and fragment[0] > 1 else first
    assert message.payloads == ()
    assert message.encrypted == EncryptedPart(expected, len(prefix), fragment)
    assert len(prefix) == (32 if fragment is None else 36)


def test_payloads_in_the_clear_may_precede_the_encrypted_one() -> None:
    outer = Notify(16390, b"cookie")
    sealed = bytes(24)
    inner = parse_message(
        serialize_message(
            SPI_I,
            SPI_R,
            exchange=35,
            flags=8,
            message_id=1,
            payloads=[outer, UnknownPayload(46, critical=False, data=sealed)],
        )
    )
    assert inner.payloads == (outer,)
    assert inner.encrypted == EncryptedPart(0, 28 + 14 + 4, None)


def test_an_empty_chain_is_an_empty_message() -> None:
    assert serialize_payloads([]) == (0, b"")
    assert parse_payloads(0, b"") == ()
    assert parse_message(message_of()).payloads == ()


def test_parse_payloads_reads_from_a_reader_as_well() -> None:
    first, octets = serialize_payloads(SAMPLES)
    assert parse_payloads(first, Reader(b"xx" + octets + b"yy", 2, 2 + len(octets))) == SAMPLES


def test_identity_body_is_what_auth_covers_even_with_reserved_bits_set() -> None:
    """RFC 7296 section 2.15: RestOfInitIDPayload is taken as it came."""
    body = b"\x02\x01\x02\x03example.org"
    (identity,) = parse_payloads(PayloadType.IDI, b"\x00\x00\x00\x13" + body)
    assert isinstance(identity, IdInitiator)
    assert identity.data == b"example.org"
    assert identity.body() == body


def test_known_layouts() -> None:
    """Written out by hand from the figures of RFC 7296 sections 3.3, 3.10 and 3.11."""
    assert ESP_PROPOSAL.serialize(44) == bytes.fromhex(
        "2c00002c"  # next TSi, length 44
        "00000028 01030403 c0de0001"  # last proposal, 40, number 1, ESP, SPI of 4, 3 transforms
        "0300000c 01000014 800e0080"  # ENCR AES-GCM-16, key length 128
        "03000008 05000001"  # ESN
        "00000008 05000000"  # no ESN, last
    )
    assert Notify(16393, b"", 3, b"\xc0\xde\x00\x01").serialize() == bytes.fromhex(
        "0000000c 03044009 c0de0001"
    )
    assert Notify(14).serialize() == bytes.fromhex("00000008 0000000e")
    assert Delete(1).serialize() == bytes.fromhex("00000008 01000000")
    assert Delete(3, (b"\x00\x00\x00\x09",)).serialize() == bytes.fromhex(
        "0000000c0304000100000009"
    )


def test_unknown_payload_keeps_its_critical_flag_when_written() -> None:
    assert UnknownPayload(200, critical=True, data=b"x").serialize(33) == b"\x21\x80\x00\x05x"
    assert UnknownPayload(200, critical=False, data=b"x").serialize(0) == b"\x00\x00\x00\x05x"


def test_a_transform_that_was_not_understood_cannot_be_written() -> None:
    alien = Transform(1, 20, 256, understood=False)
    with pytest.raises(ValueError, match="1/20"):
        SecurityAssociation((Proposal(1, 3, bytes(4), (alien,)),)).serialize()


def test_what_does_not_fit_is_refused_when_writing() -> None:
    with pytest.raises(ValueError, match="at most 65535"):
        serialize_payloads([VendorId(bytes(65532))])
    with pytest.raises(ValueError, match=f"at most {MAX_MESSAGE_OCTETS}"):
        message_of(VendorId(bytes(40000)), VendorId(bytes(40000)))
    with pytest.raises(ValueError, match="8 octets"):
        serialize_message(b"short", SPI_R, exchange=34, flags=8, message_id=0, payloads=[])


def test_finding_payloads() -> None:
    payloads = (Notify(1), Certificate(4, b"a"), Notify(2, b"x"), Certificate(4, b"b"), Notify(2))
    assert find(payloads, Certificate) == Certificate(4, b"a")
    assert find(payloads, Delete) is None
    assert find_all(payloads, Certificate) == [Certificate(4, b"a"), Certificate(4, b"b")]
    assert find_notify(payloads, 2) == Notify(2, b"x")
    assert find_notify(payloads, 3) is None


def test_texts_name_what_is_known_and_number_the_rest() -> None:
    assert describe_notify(14) == "NO_PROPOSAL_CHOSEN"
    assert describe_notify(16388) == "NAT_DETECTION_SOURCE_IP"
    assert describe_notify(40960) == "notify 40960"
    assert describe_exchange(35) == "IKE_AUTH"
    assert describe_exchange(2) == "exchange 2"
    assert describe_payload_type(33) == "SA"
    assert describe_payload_type(200) == "payload 200"
    assert describe_payloads(SAMPLES) == (
        "SA KE IDI IDR CERT CERTREQ AUTH NONCE N(NAT_DETECTION_SOURCE_IP) N(REKEY_SA) DELETE "
        "VENDOR_ID TSI TSR CP EAP payload 200"
    )
    assert Notify(16383).is_error
    assert not Notify(16384).is_error


def test_no_secrets_in_representations() -> None:
    for sample in SAMPLES:
        if type(sample).__name__ in ("Authentication", "Eap"):
            assert "data" not in repr(sample)

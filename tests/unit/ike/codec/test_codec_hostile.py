"""The hostile inputs of the wire format, by their numbers: WireError says what is wrong."""

import struct
from ipaddress import ip_address

import pytest
from codec_samples import (
    SAMPLES,
    SPI_I,
    SPI_R,
    message_of,
    with_length,
)

from gateway.ike.codec import (
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
    TrafficSelector,
    TrafficSelectorsInitiator,
    Transform,
    UnknownPayload,
    UnsupportedCriticalPayload,
    UnsupportedMajorVersion,
    VendorId,
    WireError,
    parse_header,
    parse_message,
    parse_payloads,
    serialize_payloads,
)
from gateway.ike.codec.payloads import ENCRYPTED, PARSERS, PAYLOAD_CLASSES, REPEATABLE
from gateway.ike.registry import PayloadType

WHOLE = message_of(*SAMPLES)


def one(kind: int, body: bytes | str) -> Payload:
    """Parse a lone payload given by its body."""
    octets = bytes.fromhex(body) if isinstance(body, str) else body
    chain = UnknownPayload(kind, critical=False, data=octets).serialize()
    (payload,) = parse_payloads(kind, chain)
    return payload


def refused(kind: int, body: bytes | str, match: str) -> None:
    with pytest.raises(WireError, match=match):
        one(kind, body)


# Header


def test_h01_h02_datagrams_shorter_than_the_header() -> None:
    for size in range(28):
        for data in (WHOLE[:size], bytes(size), b"\xff" * size):
            with pytest.raises(WireError, match=f"of {size} octets"):
                parse_message(data)


@pytest.mark.parametrize("length", [0, 1, 27, len(WHOLE) - 1, len(WHOLE) + 1, 2**31, 2**32 - 1])
def test_h03_header_length_that_lies(length: int) -> None:
    with pytest.raises(WireError, match=f"says {length} octets"):
        parse_header(WHOLE[:24] + length.to_bytes(4, "big") + WHOLE[28:])


def test_h04_trailing_octets() -> None:
    for extra in (b"\x00", bytes(28), WHOLE):
        with pytest.raises(WireError, match="octets"):
            parse_message(WHOLE + extra)
        with pytest.raises(WireError, match="after the last payload"):
            parse_message(with_length(WHOLE + extra))
    with pytest.raises(WireError, match="1 octets after the last payload"):
        parse_payloads(0, b"\x00")


def test_h13_initiator_spi_zero() -> None:
    with pytest.raises(WireError, match="initiator SPI is zero"):
        parse_header(bytes(8) + WHOLE[8:])


def test_h14_versions() -> None:
    for version in (0x10, 0x30, 0x00, 0xF0):
        data = WHOLE[:17] + bytes((version,)) + WHOLE[18:]
        assert parse_header(data).major == version >> 4
        with pytest.raises(UnsupportedMajorVersion) as caught:
            parse_message(data)
        assert caught.value.major == version >> 4
    minor = parse_message(WHOLE[:17] + b"\x2f" + WHOLE[18:])
    assert minor.header.minor == 15
    assert minor.payloads == SAMPLES


# Chains


def test_h07_next_payload_cycle() -> None:
    """Types name no offsets, so a cycle is just a long chain; it ends where the octets end."""
    cycle = UnknownPayload(43, critical=False, data=b"").serialize(43) * 3
    with pytest.raises(WireError, match="payload 43 announced, 0 octets left"):
        parse_payloads(43, cycle)
    with pytest.raises(WireError, match="of length 0"):
        parse_payloads(43, b"\x2b\x00\x00\x00" * 3)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 9, 65535])
def test_h08_payload_length(length: int) -> None:
    with pytest.raises(WireError, match=f"length {length}"):
        parse_payloads(43, struct.pack("!BBH", 0, 0, length) + bytes(4))


def test_h09_reserved_bits_are_ignored() -> None:
    message = bytearray(message_of(*SAMPLES))
    at, kind = 28, message[16]
    while kind:
        following, _, length = struct.unpack_from("!BBH", message, at)
        # Bit 0 is the critical flag; a known payload does not mind it.
        message[at + 1] = 0xFF if kind in PARSERS else 0x7F
        kind, at = following, at + length
    message[19] |= 0xC7
    parsed = parse_message(bytes(message))
    assert parsed.payloads == SAMPLES
    assert parsed.header.flags == 0xCF

    assert one(34, "001fffff01") == KeyExchange(31, b"\x01")
    assert one(39, "0effffff01").body() == b"\x0e\0\0\0\x01"
    assert one(44, "01ffffff" + "07000010 0000ffff 0a000001 0a000002") == TrafficSelectorsInitiator(
        (TrafficSelector(ip_address("10.0.0.1"), ip_address("10.0.0.2")),)
    )
    assert one(47, "01ffffff" + "80030000") == Configuration(1, (ConfigurationAttribute(3),))
    assert one(33, "00ff0010 01010001 00ff0008 01ff0003") == one(
        33, "00000010 01010001 00000008 01000003"
    )


@pytest.mark.parametrize("kind", [1, 32, 49, 52, 54, 200, 255])
def test_h10_unknown_payloads(kind: int) -> None:
    chain = UnknownPayload(kind, critical=False, data=b"abc").serialize(43)
    assert parse_payloads(kind, chain + VendorId(b"").serialize()) == (
        UnknownPayload(kind, critical=False, data=b"abc"),
        VendorId(b""),
    )
    chain = UnknownPayload(kind, critical=True, data=b"abc").serialize()
    with pytest.raises(UnsupportedCriticalPayload) as caught:
        parse_payloads(kind, chain)
    assert caught.value.payload_type == kind
    with pytest.raises(UnsupportedCriticalPayload):
        parse_message(message_of(UnknownPayload(kind, critical=True, data=b"")))


def test_h11_payloads_that_must_be_single() -> None:
    for sample in SAMPLES:
        twice = serialize_payloads([sample, VendorId(b"between"), sample])
        kind = sample.payload_type
        if kind in REPEATABLE or kind not in PARSERS:
            assert parse_payloads(*twice) == (sample, VendorId(b"between"), sample)
        else:
            with pytest.raises(WireError, match=f"payload {kind} is there twice"):
                parse_payloads(*twice)
    assert {cls.TYPE for cls in PAYLOAD_CLASSES} - REPEATABLE == {
        33,
        34,
        35,
        36,
        39,
        40,
        44,
        45,
        47,
        48,
    }
    assert {Certificate.TYPE, CertificateRequest.TYPE, Notify.TYPE, Delete.TYPE} < REPEATABLE


def test_h14_ikev1_payloads_are_unknown() -> None:
    for kind in (*range(1, 17), 20, 21, 130, 132):
        assert one(kind, "00000001") == UnknownPayload(kind, critical=False, data=b"\0\0\0\1")


def test_encrypted_payloads_only_end_a_message() -> None:
    for kind in ENCRYPTED:
        hidden = UnknownPayload(kind, critical=False, data=b"\0\1\0\1" + bytes(30))
        with pytest.raises(WireError, match=f"encrypted payload {kind} where none may be"):
            parse_payloads(kind, hidden.serialize())
        with pytest.raises(WireError, match="after the last payload"):
            parse_message(message_of(hidden, VendorId(b"after")))


def test_h22_fragment_header_cut() -> None:
    for size in range(4):
        with pytest.raises(WireError, match="fragment header cut"):
            parse_message(message_of(UnknownPayload(53, critical=False, data=bytes(size))))


# Bodies


def test_h17_proposals() -> None:
    def sa(*proposals: Proposal) -> SecurityAssociation:
        payload = SecurityAssociation(proposals)
        assert parse_payloads(*serialize_payloads([payload])) == (payload,)
        return payload

    # Nonsense of negotiation has proper form.
    sa(Proposal(1, 1, b"", ()))
    sa(Proposal(7, 1, bytes(8), (Transform(1, 20, 0), Transform(1, 20, 65535))))
    sa(Proposal(0, 200, b"", (Transform(9, 9),)))
    refused(PayloadType.SA, "", "header cut")
    with pytest.raises(WireError, match="more than"):
        sa(*(Proposal(n & 255, 1, b"", ()) for n in range(256)))
    for protocol, sizes in ((1, (1, 4, 16)), (2, (0, 8)), (3, (0, 3, 5, 8)), (0, (17, 255))):
        for size in sizes:
            with pytest.raises(WireError, match=f"SPI of {size} octets for protocol {protocol}"):
                sa(Proposal(1, protocol, bytes(size), (Transform(1, 20),)))


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("00000007 01010000", "of length 7"),
        ("00000000 01010000", "of length 0"),
        ("00000009 01010000", "of length 9"),
        ("02000008 01010000", "header cut"),
        ("01000008 01010000", "neither last nor followed"),
        ("00000008 01010000 00", "1 octets after the last proposal"),
        ("00000008 01010001", "transform header cut"),
        ("00000010 01010000 00000008 01000003", "after the last transform"),
        ("00000010 01010001 00000000 01000003", "transform of length 0"),
        ("00000010 01010001 00000009 01000003", "transform of length 9"),
        ("00000010 01010001 03000008 01000003", "1 of 1 is marked 3"),
        ("00000018 01010002 00000008 01000003 00000008 01000003", "1 of 2 is marked 0"),
        ("00000010 01010002 03000008 01000003", "transform header cut"),
        ("0000000a 01030400 0102", "cut"),
    ],
)
def test_h08_h17_proposal_structure_that_lies(body: str, match: str) -> None:
    refused(PayloadType.SA, body, match)


@pytest.mark.parametrize("size", [0, 15, 257])
def test_h19_nonce_sizes(size: int) -> None:
    refused(PayloadType.NONCE, bytes(size), f"nonce of {size} octets")


def test_h18_key_exchange_form() -> None:
    refused(PayloadType.KE, "", "octets needed")
    refused(PayloadType.KE, "001f0000", "value of 0 octets")
    assert one(PayloadType.KE, "04010000ff") == KeyExchange(1025, b"\xff")


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("03040001", "delete|SPI|octets"),
        ("03040002 00000001", "octets needed"),
        ("03040001 00000001 00", "trailing"),
        ("03080001 0000000000000001", "of 8 octets, protocol 3"),
        ("03000001", "of 0 octets, protocol 3"),
        ("0300ffff", "65535 SPIs"),
        ("01000001", "protocol 1"),
        ("01080001 0000000000000001", "protocol 1"),
        ("00000005", "protocol 0"),
        ("ff110001" + "00" * 17, "protocol 255"),
        ("ff040000", "protocol 255"),
        ("0304", "octets needed"),
    ],
)
def test_h24_delete_form(body: str, match: str) -> None:
    refused(PayloadType.DELETE, body, match)


def test_h24_deletes_of_unknown_protocols_have_form() -> None:
    assert one(PayloadType.DELETE, "00000000") == Delete(0)
    assert one(PayloadType.DELETE, "ff020002aabbccdd") == Delete(255, (b"\xaa\xbb", b"\xcc\xdd"))
    assert one(PayloadType.DELETE, "03040000") == Delete(3)


@pytest.mark.parametrize(
    ("selector", "match"),
    [
        ("07000010 0000ffff 0a000002 0a000001", "first address is above its last"),
        ("07000010 00020001 0a000001 0a000001", "ports 2 to 1"),
        ("07000010 ffff0001 0a000001 0a000001", "ports 65535 to 1"),
        ("07000014 0000ffff 0a000001 0a000001 00000000", "type 7 has length 20, not 16"),
        ("0700000c 0000ffff 0a000001", "type 7 has length 12"),
        ("08000010 0000ffff 0a000001 0a000001", "type 8 has length 16, not 40"),
        ("07000000 0000ffff 0a000001 0a000001", "of length 0"),
        ("07000003 0000ffff 0a000001 0a000001", "of length 3"),
        ("0a00ffff 00", "of length 65535"),
        ("070000", "header cut"),
        ("07000010 0000ffff 0a000001 0a000001 00", "1 octets after"),
        ("", "header cut"),
    ],
)
def test_h27_traffic_selector_form(selector: str, match: str) -> None:
    refused(PayloadType.TSI, "01000000" + selector, match)
    refused(PayloadType.TSR, "01000000" + selector, match)


def test_h27_count_that_lies() -> None:
    selector = "07000010 0000ffff 0a000001 0a000001"
    refused(PayloadType.TSI, "00000000", "0 traffic selectors")
    refused(PayloadType.TSI, "02000000" + selector, "header cut")
    refused(PayloadType.TSI, "01000000" + selector * 2, "16 octets after")
    refused(PayloadType.TSI, "ff000000" + selector * 255, "255 traffic selectors")


def test_h28_identity_form() -> None:
    for body in ("", "02", "020000"):
        refused(PayloadType.IDI, body, "octets needed")
    for size in (0, 3, 5, 16):
        refused(PayloadType.IDI, b"\x01\0\0\0" + bytes(size), f"{size} octets instead of 4")
    for size in (0, 4, 15, 17):
        refused(PayloadType.IDR, b"\x05\0\0\0" + bytes(size), f"{size} octets instead of 16")
    refused(PayloadType.IDI, b"\x0b\0\0\0" + bytes(65000), "identity of 65000 octets")


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff\xfe", b"a\x00b", b'"a b"@example.org', b"a\r\nb", b"\x1b[2J", b"\x30\x80" * 90],
)
def test_h12_h28_identities_are_only_octets_here(text: bytes) -> None:
    for kind in (0, 2, 3, 9, 10, 11, 255):
        identity = one(PayloadType.IDI, bytes((kind, 0, 0, 0)) + text)
        assert identity == IdInitiator(kind, text)
        assert "\n" not in repr(identity)
        assert "\x1b" not in repr(identity)


@pytest.mark.parametrize(
    ("attribute", "match"),
    [
        ("00010003 0a0900", "attribute 1 of 3 octets"),
        ("00010005 0a09000102", "attribute 1 of 5 octets"),
        ("00030008 0a09000102030405", "attribute 3 of 8 octets"),
        ("00080004 0a090001", "attribute 8 of 4 octets"),
        ("0008000f" + "00" * 15, "attribute 8 of 15 octets"),
        ("000a0011" + "00" * 17, "attribute 10 of 17 octets"),
        ("000d0004 0a090001", "attribute 13 of 4 octets"),
        ("000f0010" + "00" * 16, "attribute 15 of 16 octets"),
        ("00010005 0a090001", "of length 5, 4 octets left"),
        ("7000ffff", "of length 65535"),
        ("00", "header cut"),
        ("000100", "header cut"),
    ],
)
def test_h32_configuration_form(attribute: str, match: str) -> None:
    refused(PayloadType.CP, "01000000" + attribute, match)


def test_h32_unknown_attributes_and_types_have_form() -> None:
    assert one(PayloadType.CP, "09000000 7fff0002abcd 00190000") == Configuration(
        9, (ConfigurationAttribute(0x7FFF, b"\xab\xcd"), ConfigurationAttribute(25))
    )
    assert one(PayloadType.CP, "02000000") == Configuration(2, ())


@pytest.mark.parametrize("body", ["", "010100", "01010003", "01010005", "01010000", "0101ffff01"])
def test_h31_eap_length(body: str) -> None:
    refused(PayloadType.EAP, body, "EAP packet")
    assert one(PayloadType.EAP, "03010004") == Eap(b"\x03\x01\x00\x04")


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("", "header cut"),
        ("0000", "header cut"),
        ("03050001 0102030405", "SPI of 5 octets, protocol 3"),
        ("0304400901", "SPI of 4 octets cut"),
        ("00110001" + "00" * 17, "SPI of 17 octets"),
    ],
)
def test_notify_form(body: str, match: str) -> None:
    refused(PayloadType.NOTIFY, body, match)


def test_notify_about_any_protocol_has_form() -> None:
    for protocol in (0, 1, 2, 3, 4, 255):
        assert one(PayloadType.NOTIFY, bytes((protocol, 4, 0, 11)) + b"spi!data") == Notify(
            11, b"data", protocol, b"spi!"
        )
    assert one(PayloadType.NOTIFY, b"\x01\x08\x00\x04" + SPI_R) == Notify(4, b"", 1, SPI_R)
    assert parse_message(message_of(Nonce(bytes(16)))).header.initiator_spi == SPI_I

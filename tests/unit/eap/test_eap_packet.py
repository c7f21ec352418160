"""The codec of EAP packets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.wire import WireError
from gateway.eap.packet import Code, EapPacket, EapType, nak, type_title, user_text

VECTORS = [
    (EapPacket(Code.REQUEST, 0, EapType.IDENTITY), "0100000501"),
    (EapPacket(Code.RESPONSE, 7, EapType.IDENTITY, b"alice"), "0207000a01616c696365"),
    (EapPacket(Code.SUCCESS, 9), "03090004"),
    (EapPacket(Code.FAILURE, 255), "04ff0004"),
    (EapPacket(Code.RESPONSE, 1, EapType.NAK, b"\x1a\x0d"), "02010007031a0d"),
    (
        EapPacket(Code.REQUEST, 2, EapType.EXPANDED, b"\x01", 0x00372A, 1),
        "0102000dfe00372a0000000101",
    ),
]


@pytest.mark.parametrize(("packet", "octets"), VECTORS)
def test_packets_have_the_octets_of_the_rfc(packet: EapPacket, octets: str) -> None:
    assert packet.encode().hex() == octets
    assert EapPacket.decode(bytes.fromhex(octets)) == packet


@given(
    st.sampled_from([Code.REQUEST, Code.RESPONSE]),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=64),
    st.integers(0, 0xFFFFFF),
    st.integers(0, 0xFFFFFFFF),
)
def test_what_is_encoded_is_decoded(
    code: Code, identifier: int, eap_type: int, data: bytes, vendor: int, vendor_type: int
) -> None:
    if eap_type != EapType.EXPANDED:
        vendor = vendor_type = 0
    packet = EapPacket(code, identifier, eap_type, data, vendor, vendor_type)
    assert EapPacket.decode(packet.encode()) == packet


@pytest.mark.parametrize(
    ("octets", "complaint"),
    [
        ("", "needed"),
        ("010000", "needed"),
        ("01000004", "needed"),  # a request without a type
        ("0100000601", "length"),  # h31: length beyond the payload
        ("0100ffff01", "length"),
        ("0100000401", "length"),  # trailing octets
        ("0300000500", "trailing"),  # a Success with data
        ("0000000501", "code"),
        ("0500000501", "code"),
        ("0100000bfe0000000000", "length"),
        ("0100000afe0000000000", "needed"),  # an expanded type cut short
    ],
)
def test_h31_broken_packets_are_refused(octets: str, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        EapPacket.decode(bytes.fromhex(octets))


@given(st.binary(max_size=40))
def test_h31_any_octets_raise_nothing_but_wire_error(octets: bytes) -> None:
    try:
        packet = EapPacket.decode(octets)
    except WireError:
        return
    assert packet.encode() == octets
    assert type_title(packet)


def test_a_nak_answers_in_the_form_of_the_request() -> None:
    plain = nak(EapPacket(Code.REQUEST, 5, 4), (26, 13))
    assert plain.encode().hex() == "02050007031a0d"
    assert nak(EapPacket(Code.REQUEST, 5, 4), ()).data == b"\0"
    expanded = nak(EapPacket(Code.REQUEST, 5, 254, b"", 9, 1), (26,))
    assert expanded.encode().hex() == "02050014fe00000000000003" + "fe0000000000001a"


def test_a_packet_that_cannot_be_so_long_is_not_built() -> None:
    with pytest.raises(ValueError, match="65536"):
        EapPacket(Code.REQUEST, 0, 13, bytes(65_531)).encode()


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"alice", "alice"),
        ("Jürgen@example.org".encode(), "Jürgen@example.org"),
        (b"", ""),
        (b"ali\0ce", None),
        (b"alice\nroot", None),
        (b"\xff\xfe", None),
        ("alice\N{RIGHT-TO-LEFT OVERRIDE}".encode(), None),
        (b"a" * 253, "a" * 253),
        (b"a" * 254, None),
    ],
)
def test_user_names_are_readable_text_or_nobody(octets: bytes, text: str | None) -> None:
    assert user_text(octets) == text


def test_secrets_are_not_shown() -> None:
    assert "hunter2" not in repr(EapPacket(Code.RESPONSE, 0, EapType.GTC, b"hunter2"))

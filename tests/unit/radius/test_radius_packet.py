"""The codec: published packets, bounds, forgeries."""

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from radius_server import SECRET, answer, attribute, mppe_keys

from gateway.domain.wire import WireError
from gateway.radius.attributes import AttributeType as A
from gateway.radius.mppe import msk, open_key
from gateway.radius.packet import (
    access_request,
    accounting_request,
    check_answer,
    encode,
    hide_password,
    parse,
    vendor_values,
)

# RFC 2865 section 7.1
REQUEST = bytes.fromhex(
    "010000380f403f9473978057bd83d5cb98f4227a01066e656d6f02120dbe708d93d413ce3196e43f782a0aee"
    "0406c0a80110050600000003"
)
ACCEPT = bytes.fromhex(
    "0200002686fe220e7624ba2a1005f6bf9b55e0b20606000000010f06000000000e06c0a80103"
)


def test_rfc_2865_7_1_request() -> None:
    packet = parse(REQUEST)
    assert packet.code == 1
    assert packet.only(A.USER_NAME) == b"nemo"
    assert packet.only(A.NAS_IP_ADDRESS) == bytes((192, 168, 1, 16))
    assert packet.number(A.NAS_PORT) == 3
    hidden = hide_password(b"arctangent", packet.authenticator, SECRET)
    assert packet.only(A.USER_PASSWORD) == hidden
    assert encode(packet.attributes) == REQUEST[20:]


def test_rfc_2865_7_1_answer_has_the_right_authenticator_but_no_message_authenticator() -> None:
    packet = parse(ACCEPT)
    with pytest.raises(WireError, match="no Message-Authenticator"):
        check_answer(ACCEPT, packet, REQUEST[4:20], SECRET)
    with pytest.raises(WireError, match="Response Authenticator"):
        check_answer(ACCEPT, packet, REQUEST[4:20], b"other")


def test_long_passwords_are_chained() -> None:
    hidden = hide_password(b"a" * 40, bytes(16), SECRET)
    first = hashlib.md5(SECRET + bytes(16)).digest()
    assert bytes(a ^ b for a, b in zip(hidden[:16], first, strict=True)) == b"a" * 16
    third = hashlib.md5(SECRET + hidden[16:32]).digest()
    plain = bytes(a ^ b for a, b in zip(hidden[32:], third, strict=True))
    assert plain == b"a" * 8 + bytes(8)
    assert len(hide_password(b"", bytes(16), SECRET)) == 16
    with pytest.raises(ValueError, match="129 octets"):
        hide_password(bytes(129), bytes(16), SECRET)


def test_requests_begin_with_their_message_authenticator() -> None:
    made = access_request(7, b"r" * 16, ((A.USER_NAME, b"anna"),), SECRET)
    assert made[20:22] == bytes((80, 18))
    blank = made[:22] + bytes(16) + made[38:]
    assert made[22:38] == hmac.new(SECRET, blank, "md5").digest()


def test_accounting_requests_prove_themselves() -> None:
    made = accounting_request(9, ((A.ACCT_STATUS_TYPE, bytes((0, 0, 0, 1))),), SECRET)
    digest = hashlib.md5(made[:4] + bytes(16) + made[20:] + SECRET).digest()
    assert made[4:20] == digest


def test_values_that_do_not_fit() -> None:
    for value in b"", bytes(254):
        with pytest.raises(ValueError, match="attribute 1 with"):
            encode(((1, value),))
    with pytest.raises(ValueError, match="4096 are allowed"):
        access_request(0, bytes(16), ((1, bytes(253)),) * 16, SECRET)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        REQUEST[:19],
        REQUEST[:-1],
        REQUEST[:2] + b"\0\x13" + REQUEST[4:],
        REQUEST[:2] + b"\0\0" + REQUEST[4:],
        REQUEST[:2] + b"\xff\xff" + REQUEST[4:],
        REQUEST[:2] + b"\x10\x01" + REQUEST[4:] + bytes(5000),
        b"\1\0\0\x16" + bytes(16) + b"\1\0",
        b"\1\0\0\x16" + bytes(16) + b"\1\1",
        b"\1\0\0\x16" + bytes(16) + b"\1\3",
        b"\1\0\0\x15" + bytes(16) + b"\1",
    ],
)
def test_broken_lengths(packet: Any) -> None:
    with pytest.raises(WireError):
        parse(packet)


def test_padding_is_ignored_and_not_proven() -> None:
    made = answer(REQUEST, 2, attribute(25, b"c")) + b"padding"
    packet = parse(made)
    check_answer(made, packet, REQUEST[4:20], SECRET)
    assert packet.only(A.CLASS) == b"c"


def test_message_authenticator_anywhere_but_once() -> None:
    body = attribute(25, b"c") + attribute(80, bytes(16)) + attribute(24, b"s")
    head = bytes((2, 0)) + (20 + len(body)).to_bytes(2)
    proof = hmac.new(SECRET, head + REQUEST[4:20] + body, "md5").digest()
    body = body.replace(bytes(16), proof)
    made = head + hashlib.md5(head + REQUEST[4:20] + body + SECRET).digest() + body
    check_answer(made, parse(made), REQUEST[4:20], SECRET)
    twice = answer(REQUEST, 2, attribute(80, bytes(16)))
    with pytest.raises(WireError, match="2 attributes of type 80"):
        check_answer(twice, parse(twice), REQUEST[4:20], SECRET)
    short = answer(REQUEST, 2, attribute(80, bytes(15)), proof=False)
    with pytest.raises(WireError, match="another length"):
        check_answer(short, parse(short), REQUEST[4:20], SECRET)


def test_right_response_authenticator_wrong_message_authenticator() -> None:
    body = attribute(80, b"x" * 16)
    made = answer(REQUEST, 2, body, proof=False)
    with pytest.raises(WireError, match="wrong Message-Authenticator"):
        check_answer(made, parse(made), REQUEST[4:20], SECRET)


@given(st.binary(max_size=300))
def test_any_octets_parse_or_are_refused(data: Any) -> None:
    try:
        packet = parse(data)
    except WireError:
        return
    length = int.from_bytes(data[2:4])
    refill = b"".join(bytes((k, len(v) + 2)) + v for k, v in packet.attributes)
    assert refill == data[20:length]


@given(
    st.lists(st.tuples(st.integers(0, 255), st.binary(min_size=1, max_size=253)), max_size=12),
    st.integers(0, 255),
)
def test_any_attributes_come_back(attributes: Any, identifier: Any) -> None:
    made = access_request(identifier, bytes(16), tuple(attributes), SECRET)
    packet = parse(made)
    assert packet.identifier == identifier
    assert packet.attributes[1:] == tuple(attributes)


@given(st.data())
def test_no_changed_octet_of_an_answer_counts(data: Any) -> None:
    made = answer(REQUEST, 2, attribute(25, b"class") + attribute(6, bytes((0, 0, 0, 2))))
    at = data.draw(st.integers(0, len(made) - 1))
    changed = bytearray(made)
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        check_answer(bytes(changed), parse(bytes(changed)), REQUEST[4:20], SECRET)


# -- Microsoft's keys ------------------------------------------------------------------------


def test_mppe_key_roundtrip_with_a_server_of_its_own() -> None:
    body = mppe_keys(REQUEST, b"r" * 32, b"s" * 32)
    packet = parse(answer(REQUEST, 2, body))
    assert msk(packet, REQUEST[4:20], SECRET) == b"r" * 32 + b"s" * 32


def test_short_keys_are_filled_with_zeros() -> None:
    packet = parse(answer(REQUEST, 2, mppe_keys(REQUEST, b"r" * 16, b"s" * 16)))
    assert msk(packet, REQUEST[4:20], SECRET) == b"r" * 16 + b"s" * 16 + bytes(32)


def test_no_keys_are_no_msk() -> None:
    assert msk(parse(ACCEPT), bytes(16), SECRET) == b""


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (mppe_keys(REQUEST, b"r" * 32, b"s" * 32)[: 26 + 32], "only one"),
        (mppe_keys(REQUEST, b"r" * 32, b"s" * 32) * 2, "twice"),
        (mppe_keys(REQUEST, b"r" * 8, b"s" * 8), "16 octets together"),
        (mppe_keys(REQUEST, b"r" * 48, b"s" * 48), "96 octets together"),
        (attribute(26, b"\0\0\1\x37\x10\0"), "breaks its length"),
        (attribute(26, b"\0\0\1\x37\x10\x09"), "breaks its length"),
        (attribute(26, b"\0\0\1\x37\x10"), "breaks its length"),
        (attribute(26, b"\0\0\1"), "without its vendor"),
    ],
)
def test_keys_that_are_refused(body: Any, wrong: Any) -> None:
    if wrong == "only one":
        body = body[: body[1]]
    packet = parse(answer(REQUEST, 2, body))
    with pytest.raises(WireError, match=wrong):
        msk(packet, REQUEST[4:20], SECRET)


@pytest.mark.parametrize("value", [b"", b"\x80", b"\x80\1", b"\x80\1" + bytes(15), bytes(18)])
def test_key_values_of_a_wrong_shape(value: Any) -> None:
    with pytest.raises(WireError):
        open_key(value, bytes(16), SECRET)


@given(st.binary(max_size=80), st.binary(min_size=16, max_size=16))
def test_any_key_value_opens_or_is_refused(value: Any, proof: Any) -> None:
    try:
        key = open_key(value, proof, SECRET)
    except WireError:
        return
    assert 0 < len(key) <= len(value) - 3


def test_other_vendors_are_left_alone() -> None:
    packet = parse(answer(REQUEST, 2, attribute(26, b"\0\0\0\x09\xff\xff")))
    assert vendor_values(packet, 9, 1) == []
    assert vendor_values(packet, 311, 16) == []


def test_a_key_that_another_implementation_hid() -> None:
    """From the tests of libradius of OpenBSD's author."""
    proof = bytes.fromhex("678ae6ed696e1bd10ae2fea105d46a56")
    hidden = bytes.fromhex("8036f4abbe2117fb3e4a7874dce91c5b04498ec7720f168688562dbc88e21cab6271")
    key = open_key(hidden, proof, b"hogehogefugafuga")
    assert key.hex() == "fc6ea418373d8e90c136fae3735e37d1"

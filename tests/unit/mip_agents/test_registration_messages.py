"""Messages of UDP port 434: octets built by hand from the RFCs, round trips, and rubbish."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.wire import WireError
from gateway.mip_agents.codec.codes import ReplyCode, describe
from gateway.mip_agents.codec.extensions import (
    Authentication,
    AuthenticationKind,
    Challenge,
    EncapsulatingDelivery,
    Nai,
    RevocationSupport,
    UdpTunnelReply,
    UdpTunnelRequest,
    UnknownExtension,
    VendorExtension,
    ZeroOverheadConfirmation,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.registration import (
    RegistrationReply,
    RegistrationRequest,
    RequestFlag,
)
from gateway.mip_agents.codec.revocation import Revocation, RevocationAcknowledgment
from gateway.mip_agents.codec.tunnel_data import TunnelData

HOME = IPv4Address("10.0.0.9")
AGENT = IPv4Address("192.0.2.1")
CARE_OF = IPv4Address("198.51.100.7")
SIXTEEN = bytes(range(16))

REQUEST_OCTETS = bytes.fromhex(
    "01 22 0708 0a000009 c0000201 c6336407 e0000001 00000002"
    "83 03 614062"  # NAI a@b
    "90 06 00 00 c0 04 0000"  # UDP tunnel request, forced, registered by way of a foreign agent
    "ff 06 01 00 0a000001"  # zero overhead with 10.0.0.1
    "20 14 00000100 000102030405060708090a0b0c0d0e0f"
)
REQUEST = RegistrationRequest(
    RequestFlag.CO_LOCATED | RequestFlag.REVERSE,
    1800,
    HOME,
    AGENT,
    CARE_OF,
    0xE0000001_00000002,
    (
        Nai("a@b"),
        UdpTunnelRequest(forced=True, from_foreign_agent=True),
        ZeroOverheadRequest(IPv4Address("10.0.0.1")),
        Authentication(AuthenticationKind.MOBILE_HOME, 256, SIXTEEN),
    ),
)
REPLY_OCTETS = bytes.fromhex(
    "03 00 0708 0a000009 c0000201 e0000001 00000002"
    "2c 06 00 00 8000 006e"  # UDP tunnel reply, forced, every 110 seconds
    "7f 06 01 00 0a000001"
    "22 14 00000101 000102030405060708090a0b0c0d0e0f"
)
REPLY = RegistrationReply(
    0,
    1800,
    HOME,
    AGENT,
    0xE0000001_00000002,
    (
        UdpTunnelReply(0, forced=True, keepalive_s=110),
        ZeroOverheadConfirmation(IPv4Address("10.0.0.1")),
        Authentication(AuthenticationKind.FOREIGN_HOME, 257, SIXTEEN),
    ),
)
REVOCATION_OCTETS = bytes.fromhex(
    "07 00 c000 0a000009 c0000201 c6336407 1234567822 14 00000101 000102030405060708090a0b0c0d0e0f"
)
REVOCATION = Revocation(
    HOME,
    AGENT,
    CARE_OF,
    0x12345678,
    from_home_agent=True,
    inform=True,
    extensions=(Authentication(AuthenticationKind.FOREIGN_HOME, 257, SIXTEEN),),
)
ACKNOWLEDGMENT_OCTETS = bytes.fromhex("0f 00 8000 0a000009 12345678")
ACKNOWLEDGMENT = RevocationAcknowledgment(HOME, 0x12345678, inform=True)
ALL = (
    (REQUEST, REQUEST_OCTETS),
    (REPLY, REPLY_OCTETS),
    (REVOCATION, REVOCATION_OCTETS),
    (ACKNOWLEDGMENT, ACKNOWLEDGMENT_OCTETS),
)
PLAIN = replace(REQUEST, extensions=())
FIXED = len(PLAIN.serialize())

addresses = st.integers(0, 0xFFFFFFFF).map(IPv4Address)
u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFF_FFFFFFFF)
nais = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=60).map(Nai)
READ_ELSEWHERE = {130, 131, 132, 134, 137, 144, 255}
extensions = st.one_of(
    nais,
    st.builds(
        Authentication,
        st.sampled_from([kind for kind in AuthenticationKind if kind != 36]),
        u32,
        st.binary(max_size=64),
    ),
    st.builds(
        Authentication, st.just(AuthenticationKind.GENERALIZED), u32, st.binary(max_size=400), u8
    ),
    st.builds(UdpTunnelRequest, st.booleans(), st.booleans(), u8),
    st.builds(UdpTunnelReply, u8, st.booleans(), u16),
    st.builds(ZeroOverheadRequest, addresses),
    st.builds(ZeroOverheadConfirmation, addresses),
    st.just(EncapsulatingDelivery()),
    st.builds(Challenge, st.binary(min_size=1, max_size=255)),
    st.builds(RevocationSupport, u32, st.booleans()),
    st.builds(VendorExtension, st.just(True), u32, u16, st.binary(max_size=300)),
    st.builds(VendorExtension, st.just(False), u32, u16, st.binary(max_size=247)),
    st.builds(
        UnknownExtension,
        st.integers(128, 254).filter(lambda kind: kind not in READ_ELSEWHERE),
        st.binary(max_size=255),
    ),
)
lists = st.lists(extensions, max_size=4).map(tuple)
requests = st.builds(
    RegistrationRequest,
    u8.map(RequestFlag),
    u16,
    addresses,
    addresses,
    addresses,
    u64,
    lists,
)
replies = st.builds(RegistrationReply, u8, u16, addresses, addresses, u64, lists)
revocations = st.builds(
    Revocation, addresses, addresses, addresses, u32, st.booleans(), st.booleans(), lists
)
acknowledgments = st.builds(RevocationAcknowledgment, addresses, u32, st.booleans(), lists)

Message = RegistrationRequest | RegistrationReply | Revocation | RevocationAcknowledgment
Parser = Callable[[bytes], object]
PARSERS: tuple[Parser, ...] = (
    RegistrationRequest.parse,
    RegistrationReply.parse,
    Revocation.parse,
    RevocationAcknowledgment.parse,
    TunnelData.parse,
)


def with_extensions(octets: bytes) -> RegistrationRequest:
    return RegistrationRequest.parse(PLAIN.serialize() + octets)


@pytest.mark.parametrize(("message", "octets"), ALL)
def test_octets_by_hand(message: Message, octets: bytes) -> None:
    assert message.serialize() == octets
    assert type(message).parse(octets) == message


@given(st.one_of(requests, replies, revocations, acknowledgments))
def test_round_trip(message: Message) -> None:
    octets = message.serialize()
    read = type(message).parse(octets)
    assert read == message
    assert read.octets is octets
    assert read.serialize() == octets
    at = len(octets) - sum(len(one.serialize()) for one in message.extensions)
    for one in read.extensions:
        assert one.offset == at
        at += len(one.serialize())


@given(st.binary(max_size=120))
def test_rubbish_is_a_wire_error(octets: bytes) -> None:
    for parse in PARSERS:
        with contextlib.suppress(WireError):
            parse(octets)


@given(st.binary(max_size=600))
def test_h53_rubbish_behind_a_sound_request_is_a_wire_error_at_most(octets: bytes) -> None:
    with contextlib.suppress(WireError):
        read = with_extensions(octets)
        for one in read.extensions:
            assert FIXED <= one.offset < FIXED + len(octets)


@pytest.mark.parametrize(("message", "octets"), ALL)
def test_h53_cut_anywhere(message: Message, octets: bytes) -> None:
    whole = type(message).parse(octets)
    ends = {one.offset for one in whole.extensions}
    for size in range(len(octets)):
        if size in ends:
            # What is left is a sound message with fewer extensions.
            shorter = type(message).parse(octets[:size])
            assert shorter.extensions == whole.extensions[: len(shorter.extensions)]
        else:
            with pytest.raises(WireError):
                type(message).parse(octets[:size])


@pytest.mark.parametrize(("message", "octets"), ALL)
def test_h53_every_bit_flipped(message: Message, octets: bytes) -> None:
    for bit in range(8 * len(octets)):
        flipped = bytearray(octets)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        for parse in PARSERS:
            with contextlib.suppress(WireError):
                parse(bytes(flipped))


@pytest.mark.parametrize("size", [0, 1, 19, 23])
def test_h53_shorter_than_its_fixed_part(size: int) -> None:
    with pytest.raises(WireError):
        RegistrationRequest.parse(REQUEST_OCTETS[:size])


def test_larger_than_anyone_needs() -> None:
    filler = UnknownExtension(200, bytes(253)).serialize()
    fits = PLAIN.serialize() + 7 * filler + UnknownExtension(200, bytes(237)).serialize()
    assert len(fits) == 2048
    RegistrationRequest.parse(fits)
    with pytest.raises(WireError, match="registration request of 2049 octets"):
        RegistrationRequest.parse(fits + bytes(1))


def test_the_first_of_a_type() -> None:
    read = RegistrationRequest.parse(REQUEST_OCTETS + Nai("late@b").serialize())
    assert read.first(Nai) == Nai("a@b")
    assert read.first(UdpTunnelReply) is None


def test_h54_what_stands_behind_an_authenticator_is_not_covered_by_it() -> None:
    octets = REQUEST_OCTETS + Challenge(b"late").serialize()
    read = RegistrationRequest.parse(octets)
    (proof,) = read.authentications(AuthenticationKind.MOBILE_HOME)
    assert read.first(Challenge) == Challenge(b"late")
    assert read.first(Challenge, before=proof) is None
    assert read.first(Nai, before=proof) == Nai("a@b")
    assert octets[: proof.covered_octets].endswith(b"\x00\x00\x01\x00")


def test_h54_a_second_authenticator_is_seen() -> None:
    octets = REQUEST_OCTETS + REQUEST.extensions[-1].serialize()
    read = RegistrationRequest.parse(octets)
    assert len(read.authentications(AuthenticationKind.MOBILE_HOME)) == 2
    assert read.authentications(AuthenticationKind.FOREIGN_HOME) == ()


@pytest.mark.parametrize("size", range(1, 9))
def test_h54_octets_behind_the_last_authenticator_are_read_or_refused(size: int) -> None:
    for filler in (1, 32, 0x83, 0xFF):
        with contextlib.suppress(WireError):
            read = RegistrationRequest.parse(REQUEST_OCTETS + bytes([filler]) * size)
            assert len(read.extensions) > len(REQUEST.extensions)


def test_h60_reserved_bits_are_kept_as_they_came() -> None:
    read = RegistrationRequest.parse(b"\x01\xff" + REQUEST_OCTETS[2:])
    assert RequestFlag.RESERVED in read.flags
    assert RequestFlag.RESERVED_LAST in read.flags
    assert RequestFlag.MINIMAL in read.flags
    assert RequestFlag.GRE in read.flags


def test_reserved_fields_of_revocations_are_ignored() -> None:
    octets = bytearray(REVOCATION_OCTETS)
    octets[1:4] = b"\xff\xff\xff"
    assert Revocation.parse(bytes(octets)) == REVOCATION
    octets = bytearray(ACKNOWLEDGMENT_OCTETS)
    octets[1:4] = b"\xff\xff\xff"
    assert RevocationAcknowledgment.parse(bytes(octets)) == ACKNOWLEDGMENT


def test_tunnel_data() -> None:
    data = TunnelData(4, b"\x45rest")
    assert data.serialize() == b"\x04\x04\x00\x00\x45rest"
    assert TunnelData.parse(data.serialize()) == data
    assert TunnelData.parse(b"\x04\x37\xab\xcdx") == TunnelData(55, b"x")


@pytest.mark.parametrize(
    "octets", [b"", b"\x04", b"\x04\x04\x00\x00", b"\x04\x29\x00\x00x", b"\x01\x04\x00\x00x"]
)
def test_h63_tunnel_data_that_is_none(octets: bytes) -> None:
    with pytest.raises(WireError):
        TunnelData.parse(octets)


def test_messages_are_not_taken_for_each_other() -> None:
    for message, octets in ALL:
        for parse in PARSERS:
            if parse != type(message).parse:
                with pytest.raises(WireError):
                    parse(octets)


def test_h61_every_code_can_be_described() -> None:
    for code in range(256):
        assert 5 < len(describe(code)) < 100
    assert describe(133).startswith("the identification is old")
    assert describe(126) == "denied by the foreign agent with the unknown code 126"
    assert describe(200) == "denied by the foreign agent with the unknown code 200"
    assert describe(255) == "denied by the home agent with the unknown code 255"
    assert describe(9) == "unknown code 9"
    for one in ReplyCode:
        assert one.text == describe(one)
        assert one.text[0].islower()
        assert not one.text.endswith(".")

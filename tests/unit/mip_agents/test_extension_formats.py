"""Extensions of registration messages: each one's format, and what becomes of the others."""

import contextlib
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.wire import WireError
from gateway.mip_agents.codec.extensions import (
    Authentication,
    AuthenticationKind,
    Challenge,
    EncapsulatingDelivery,
    Extension,
    Nai,
    RevocationSupport,
    UdpTunnelReply,
    UdpTunnelRequest,
    UnknownExtension,
    UnknownExtensionError,
    VendorExtension,
)
from gateway.mip_agents.codec.registration import RegistrationRequest, RequestFlag

SIXTEEN = bytes(range(16))
PLAIN = RegistrationRequest(
    RequestFlag.CO_LOCATED,
    1800,
    IPv4Address("10.0.0.9"),
    IPv4Address("192.0.2.1"),
    IPv4Address("198.51.100.7"),
    1 << 40,
)
FIXED = len(PLAIN.serialize())
u8 = st.integers(0, 0xFF)


def with_extensions(octets: bytes) -> RegistrationRequest:
    return RegistrationRequest.parse(PLAIN.serialize() + octets)


def only(octets: bytes) -> Extension:
    (one,) = with_extensions(octets).extensions
    return one


@given(st.lists(st.tuples(u8, st.binary(max_size=12)), max_size=40))
def test_h53_any_types_with_sound_lengths(items: list[tuple[int, bytes]]) -> None:
    octets = b"".join(bytes([kind, len(data)]) + data for kind, data in items)
    with contextlib.suppress(WireError):
        with_extensions(octets)


def test_h53_number_of_extensions_is_bounded() -> None:
    one = EncapsulatingDelivery()
    assert len(with_extensions(one.serialize() * 32).extensions) == 32
    with pytest.raises(WireError, match="more than 32 extensions"):
        with_extensions(one.serialize() * 33)


@pytest.mark.parametrize("kind", range(256))
def test_h53_zero_length_extensions_never_loop(kind: int) -> None:
    with contextlib.suppress(WireError):
        with_extensions(bytes([kind, 0]) * 900)
    with contextlib.suppress(WireError):
        with_extensions(bytes([kind, 0, 0, 0]) * 500)


def test_padding_between_extensions() -> None:
    padded = with_extensions(b"\x00\x00" + Nai("a@b").serialize() + b"\x00")
    assert padded.extensions == (Nai("a@b"),)
    assert padded.extensions[0].offset == FIXED + 2


@pytest.mark.parametrize(
    "octets",
    [
        b"\x20",
        b"\x20\x14",
        b"\x20\x03abc",
        b"\x20\x00",
        b"\x24\x01\x00",
        b"\x24\x01\x01\x00\x00\x00\x01\x00" + bytes(200),
        b"\x24\x01\x00\x03abc",
        b"\x83\x00",
        b"\x83\x02\xff\xff",
        b"\x83\x03a\nb",
        b"\x83\x03a b",
        b"\x83\x03a\x00b",
        b"\x83\xffshort",
        b"\x84\x00",
        b"\x82\x01\x00",
        b"\x89\x05" + bytes(5),
        b"\x90\x00",
        b"\x90\x05" + bytes(5),
        b"\x90\x07" + bytes(7),
        b"\x2c\x05" + bytes(5),
        b"\x2c\x00",
        b"\x7f\x05\x01\x00\x0a\x00\x00",
        b"\x86\x07" + bytes(7),
        b"\x26\x00\x00\x05" + bytes(5),
        b"\x26\x00\xff\xff" + bytes(100),
    ],
)
def test_h53_extensions_that_break_their_format(octets: bytes) -> None:
    with pytest.raises(WireError):
        with_extensions(octets)


def test_h53_unknown_types() -> None:
    assert only(b"\xc8\x02ab") == UnknownExtension(200, b"ab")
    assert only(b"\xc8\x00") == UnknownExtension(200, b"")
    for kind in {*range(1, 128)} - {32, 33, 34, 36, 38, 44, 127}:
        with pytest.raises(UnknownExtensionError, match=f"extension {kind} may not be") as caught:
            with_extensions(bytes([kind, 2, 1, 2]))
        assert caught.value.kind == kind


def test_h53_unknown_types_may_be_tolerated_by_name() -> None:
    octets = PLAIN.serialize() + b"\x63\x01x"
    read = RegistrationRequest.parse(octets, frozenset({99}))
    assert read.extensions == (UnknownExtension(99, b"x"),)
    with pytest.raises(UnknownExtensionError):
        RegistrationRequest.parse(octets + b"\x62\x01x", frozenset({99}))


def test_what_may_be_skipped_is_skipped_when_it_is_of_another_kind() -> None:
    assert only(b"\x90\x06\x01\x00\x00\x04\x00\x00") == UnknownExtension(
        144, b"\x01\x00\x00\x04\x00\x00"
    )
    # RFC 3519 section 3.1.3: a last reserved field that is not 0 wants the extension skipped.
    assert isinstance(only(b"\x90\x06\x00\x00\x80\x04\x00\x01"), UnknownExtension)
    assert only(b"\x90\x06\x00\xff\xff\x04\x00\x00") == UdpTunnelRequest(True, True, 4)
    assert isinstance(only(b"\xff\x06\x02\x00\x0a\x00\x00\x01"), UnknownExtension)
    assert isinstance(only(b"\xff\x00"), UnknownExtension)


@pytest.mark.parametrize("octets", [b"\x2c\x06\x01" + bytes(5), b"\x7f\x06\x02" + bytes(5)])
def test_what_may_not_be_skipped_discards_the_message(octets: bytes) -> None:
    with pytest.raises(UnknownExtensionError):
        with_extensions(octets)


def test_a_revocation_support_extension_may_grow() -> None:
    assert only(b"\x89\x08\x80\x00\x00\x00\x00\x07\xff\xff") == RevocationSupport(7, inform=True)


def test_generalized_authentication_is_in_the_long_format() -> None:
    one = Authentication(AuthenticationKind.GENERALIZED, 300, SIXTEEN, subtype=1)
    assert one.serialize() == bytes.fromhex("24 01 0014 0000012c") + SIXTEEN
    assert only(one.serialize()) == one


def test_vendor_extensions() -> None:
    critical = VendorExtension(True, 9, 2, b"xyz")
    normal = VendorExtension(False, 9, 2, b"xyz")
    assert critical.serialize() == bytes.fromhex("26 00 0009 00000009 0002") + b"xyz"
    assert normal.serialize() == bytes.fromhex("86 0b 0000 00000009 0002") + b"xyz"
    assert with_extensions(critical.serialize() + normal.serialize()).extensions == (
        critical,
        normal,
    )


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="255 are allowed"):
        Challenge(bytes(256)).serialize()


def test_an_accepted_tunnel() -> None:
    assert UdpTunnelReply(0).accepted
    assert UdpTunnelReply(63).accepted
    assert not UdpTunnelReply(64).accepted

"""Every message of SOCKS5 and NAR: there and back, cut, lengthened, wrong."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nar_messages import EVERYTHING, LOGIN, PARSERS, REQUESTS

from gateway.domain.nar import L2tpSession, NarProtocol, NarTuple
from gateway.domain.wire import WireError
from gateway.nar.codec.address import RequestError, name_from
from gateway.nar.codec.associate import IcmpAssociate, IpsecAssociate, TunnelAssociate, TunnelReply
from gateway.nar.codec.datagram import RelayDatagram
from gateway.nar.codec.leases import L2tpReply, LeaseKey, NoticeMessage, Release, Session
from gateway.nar.codec.negotiation import (
    MAX_OFFER_OCTETS,
    MAX_PASSWORD_OCTETS,
    MethodChoice,
    MethodOffer,
    PasswordRequest,
    choose,
)
from gateway.nar.codec.numbers import Method, Notice, Reply, SocksCommand
from gateway.nar.codec.request import MAX_REQUEST_OCTETS, SocksReply, SocksRequest

A = IPv4Address("192.0.2.7")

# RFC 1928 and draft 004 by hand: the octets as the formats there give them.
GOLDEN = [
    (MethodOffer(b"\x00\x02"), "05 02 00 02"),
    (MethodChoice(0xFF), "05 ff"),
    (PasswordRequest("ann", b"pw"), "01 03 616e6e 02 7077"),
    (SocksRequest(SocksCommand.CONNECT, A, 443), "05 01 00 01 c0000207 01bb"),
    (SocksRequest(SocksCommand.BIND, "a.example", 0), "05 02 00 03 09 612e6578616d706c65 0000"),
    (SocksRequest(SocksCommand.NAR_MODE, A, 0, 0x82), "05 80 82 01 c0000207 0000"),
    (SocksReply(Reply.NOT_ALLOWED), "05 02 00 01 00000000 0000"),
    (IcmpAssociate(0xC001), "01 81 c001"),
    (IpsecAssociate(50, 0x4000_0001), "01 82 32 40000001"),
    (TunnelAssociate(A, 47), "01 83 01 c0000207 2f"),
    (Session(), "01 90 00000000000000000000000000000000"),
    (Release(), "01 92 000000000000000000000000"),
    (
        Release(LeaseKey(NarProtocol.TCP, 20_000, A, 80)),
        "01 92 06 00 0050 c0000207 00004e20",
    ),
    (
        NoticeMessage(Notice.LEASE_ENDED, A, LeaseKey(NarProtocol.ESP, 0x4000_0001)),
        "01 94 02 00 c0000207 32 00 0000 00000000 40000001",
    ),
    (RelayDatagram(A, 53, b"\xab"), "0000 00 01 c0000207 0035 ab"),
]


@pytest.mark.parametrize(("message", "octets"), GOLDEN)
def test_octets_of_the_documents(message: object, octets: str) -> None:
    wire = bytes.fromhex(octets)
    assert message.to_octets() == wire  # type: ignore[attr-defined]
    assert PARSERS[type(message)](wire) == message


@pytest.mark.parametrize("kind", EVERYTHING)
@given(data=st.data())
@settings(max_examples=60)
def test_there_and_back(kind: type, data: st.DataObject) -> None:
    message = data.draw(EVERYTHING[kind])
    assert PARSERS[kind](message.to_octets()) == message  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", EVERYTHING)
@given(data=st.data())
@settings(max_examples=40)
def test_h72_cut_and_lengthened(kind: type, data: st.DataObject) -> None:
    octets = data.draw(EVERYTHING[kind]).to_octets()  # type: ignore[attr-defined]
    cut = data.draw(st.integers(0, len(octets) - 1))
    if kind is not RelayDatagram:
        with pytest.raises(WireError):
            PARSERS[kind](octets[:cut])
        with pytest.raises(WireError):
            PARSERS[kind](octets + data.draw(st.binary(min_size=1, max_size=4)))
        return
    try:
        RelayDatagram.parse(octets[:cut])
    except WireError:
        return
    assert cut >= 8, "a header is never shorter, only the data may be"


@pytest.mark.parametrize("kind", EVERYTHING)
@given(octets=st.binary(max_size=300))
@settings(max_examples=60)
def test_h69_h70_h71_h72_anything_is_parsed_or_refused(kind: type, octets: bytes) -> None:
    try:
        message = PARSERS[kind](octets)
    except WireError:
        return
    assert PARSERS[kind](message.to_octets()) == message  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", EVERYTHING)
@given(data=st.data())
@settings(max_examples=60)
def test_h71_h72_flipped_bits(kind: type, data: st.DataObject) -> None:
    octets = bytearray(data.draw(EVERYTHING[kind]).to_octets())  # type: ignore[attr-defined]
    at = data.draw(st.integers(0, len(octets) * 8 - 1))
    octets[at // 8] ^= 1 << at % 8
    try:
        message = PARSERS[kind](bytes(octets))
    except WireError:
        return
    repr(message), hash(message)


@pytest.mark.parametrize("kind", [*LOGIN, *REQUESTS])
@given(data=st.data())
@settings(max_examples=40)
def test_what_is_needed_never_exceeds_what_comes(kind: type, data: st.DataObject) -> None:
    if not hasattr(kind, "octets_needed"):
        return
    octets = data.draw(EVERYTHING[kind]).to_octets()  # type: ignore[attr-defined]
    for size in range(len(octets)):
        assert size < kind.octets_needed(octets[:size]) <= len(octets)
    assert kind.octets_needed(octets) == len(octets)


def test_longest_messages() -> None:
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(SocksRequest(1, name, 1).to_octets()) == MAX_REQUEST_OCTETS - 2
    assert len(MethodOffer(bytes(255)).to_octets()) == MAX_OFFER_OCTETS
    assert len(PasswordRequest("u" * 255, b"p" * 255).to_octets()) == MAX_PASSWORD_OCTETS


@pytest.mark.parametrize("version", [0, 1, 4, 6, 0x16, 0x47, 255])
def test_h69_version_is_not_5(version: int) -> None:
    with pytest.raises(WireError, match="5 is spoken here"):
        MethodOffer.octets_needed(bytes((version,)))
    with pytest.raises(WireError, match="5 is spoken here"):
        MethodOffer.parse(bytes((version, 1, 0)))


def test_h69_no_methods() -> None:
    with pytest.raises(WireError, match="no method"):
        MethodOffer.octets_needed(b"\x05\x00")
    with pytest.raises(WireError, match="no method"):
        MethodOffer.parse(b"\x05\x00")


def test_h69_all_methods_or_no_acceptable_one() -> None:
    everything = MethodOffer(bytes(range(255)))
    assert choose(everything, (Method.PASSWORD, Method.NONE)).method == Method.PASSWORD
    assert choose(MethodOffer(b"\x01\xfe"), (Method.NONE,)).method == Method.UNACCEPTABLE
    assert choose(everything, ()).method == Method.UNACCEPTABLE


@pytest.mark.parametrize("octets", [b"\x01\x00", b"\x01\x00\x01p", b"\x01\x01u\x00"])
def test_h70_empty_user_or_password(octets: bytes) -> None:
    with pytest.raises(WireError, match="empty"):
        PasswordRequest.octets_needed(octets)
    with pytest.raises(WireError):
        PasswordRequest.parse(octets)


@pytest.mark.parametrize("version", [0, 2, 5])
def test_h70_wrong_version_of_the_login(version: int) -> None:
    with pytest.raises(WireError, match="1 is spoken here"):
        PasswordRequest.octets_needed(bytes((version, 1)))


@pytest.mark.parametrize("name", [b"a\nb", b"a\0b", b"\xff\xfe", b"\x1b[31m"])
def test_h70_names_that_forge_log_lines(name: bytes) -> None:
    with pytest.raises(WireError, match="user name"):
        PasswordRequest.parse(bytes((1, len(name))) + name + b"\x01p")


def test_h70_password_is_not_shown() -> None:
    assert "secret" not in repr(PasswordRequest("ann", b"secret"))
    assert "7777" not in repr(Session(b"7" * 16))


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"a..b",
        b".a",
        b"a\0",
        b"a\n",
        b"a b",
        b"a/b",
        b"::1",
        b"b\xc3\xbccher.example",
        b"-a",
        b"a-",
        b"a" * 64,
        b"a." * 127,
        b"a%00b",
        b"user@host",
        b"a" * 252 + b"!",
    ],
)
def test_h71_names_that_are_none(name: bytes) -> None:
    with pytest.raises(WireError) as refused:
        name_from(name)
    assert "\n" not in str(refused.value)
    if name:
        with pytest.raises(RequestError) as request:
            SocksRequest.parse(bytes((5, 1, 0, 3, len(name))) + name + b"\0\1")
        assert request.value.reply is Reply.GENERAL_FAILURE
        assert request.value.in_step


@pytest.mark.parametrize("name", ["localhost", "a.example.", "xn--bcher-kva.example", "_x._tcp.a"])
def test_names_that_are_some(name: str) -> None:
    assert name_from(name.encode()) == name


@pytest.mark.parametrize("kind", [0, 2, 5, 255])
def test_h71_unknown_address_type(kind: int) -> None:
    with pytest.raises(RequestError) as refused:
        SocksRequest.octets_needed(bytes((5, 1, 0, kind)))
    assert refused.value.reply is Reply.ADDRESS_TYPE_NOT_SUPPORTED
    assert not refused.value.in_step
    with pytest.raises(RequestError):
        SocksRequest.parse(bytes((5, 1, 0, kind)) + bytes(30))


def test_h71_empty_name() -> None:
    with pytest.raises(RequestError) as refused:
        SocksRequest.octets_needed(b"\x05\x01\x00\x03\x00")
    assert refused.value.reply is Reply.GENERAL_FAILURE


@pytest.mark.parametrize("inner", [b"\x03\x01a", b"\x04" + bytes(16)])
def test_h71_tunnels_are_ipv4(inner: bytes) -> None:
    octets = b"\x01\x83" + inner + b"\x04"
    assert TunnelAssociate.octets_needed(octets) == len(octets)
    with pytest.raises(RequestError) as refused:
        TunnelAssociate.parse(octets)
    assert refused.value.reply is Reply.ADDRESS_TYPE_NOT_SUPPORTED
    assert refused.value.in_step
    with pytest.raises(WireError):
        TunnelReply.parse(b"\x01\x00" + inner + b"\x04")


def test_h72_unknown_replies_are_failures() -> None:
    reply = SocksReply.parse(bytes.fromhex("05 7f 00 01 00000000 0000"))
    assert reply.reply is Reply.GENERAL_FAILURE


@pytest.mark.parametrize(
    "tuple_octets",
    [
        "02 00 0000 00000000 00000001",
        "06 01 0000 00000000 00000001",
        "00 01 0000 00000000 00000000",
        "00 00 0000 00000000 00000001",
        "06 00 0000 00000000 00010000",
        "01 00 0000 c0000207 00010000",
        "32 00 0001 00000000 40000001",
    ],
)
def test_h72_tuples_that_are_none(tuple_octets: str) -> None:
    with pytest.raises(WireError):
        Release.parse(b"\x01\x92" + bytes.fromhex(tuple_octets))


def test_h72_l2tp_identifiers_of_zero() -> None:
    with pytest.raises(WireError, match="identifier 0"):
        L2tpReply.parse(b"\x01\x00" + bytes(32))
    assert L2tpReply.parse(b"\x01\x01" + bytes(32)).reply is Reply.GENERAL_FAILURE


def test_l2tp_is_seen_from_both_ends() -> None:
    session = L2tpSession(A, 1, 2, 3, 4, b"receives", b"mustsend")
    reply = L2tpReply.of(session)
    assert (reply.tunnel_id, reply.session_id, reply.cookie) == (2, 4, b"mustsend")
    assert reply.session(A) == session
    assert "receives" not in repr(reply)


def test_keys_and_tuples() -> None:
    full = NarTuple(NarProtocol.TCP, A, 20_000, IPv4Address("198.51.100.1"), 80)
    assert LeaseKey.of(full).at(A) == full
    assert Release.parse(Release(LeaseKey.of(full)).to_octets()).key == LeaseKey.of(full)


@pytest.mark.parametrize(
    "message",
    [
        MethodOffer(b""),
        MethodOffer(bytes(256)),
        PasswordRequest("", b"p"),
        PasswordRequest("u", b""),
        PasswordRequest("u" * 256, b"p"),
        SocksRequest(1, "bad name", 1),
        SocksRequest(1, A, 65_536),
        SocksRequest(256, A, 1),
        IcmpAssociate(65_536),
        IpsecAssociate(50, 1 << 32),
        Session(b"short"),
        RelayDatagram(A, -1, b""),
    ],
)
def test_what_does_not_fit_is_not_sent(message: object) -> None:
    with pytest.raises(WireError):
        message.to_octets()  # type: ignore[attr-defined]

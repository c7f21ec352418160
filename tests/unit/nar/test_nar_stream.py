"""Messages out of a stream, in whatever pieces it comes."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nar_messages import COMMAND_OF, NOTICES, REPLIES, REQUESTS

from gateway.domain.wire import WireError
from gateway.nar.codec.address import RequestError
from gateway.nar.codec.associate import IcmpAssociate, IcmpReply
from gateway.nar.codec.leases import NoticeMessage, Renew
from gateway.nar.codec.negotiation import MethodChoice, MethodOffer, PasswordRequest
from gateway.nar.codec.numbers import NarCommand, Notice, Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.codec.stream import (
    MAX_WAITING_AFTER_LOGIN,
    MAX_WAITING_BEFORE_LOGIN,
    ClientStream,
    ServerStream,
)

requests = st.lists(st.one_of(list(REQUESTS.values())), min_size=1, max_size=6)
server_messages = st.lists(st.one_of([*REPLIES.values(), *NOTICES.values()]), max_size=6)


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(octets) + 1) for cut in cuts} | {0, len(octets)})
    return [octets[a:b] for a, b in itertools.pairwise(at)]


@given(said=requests, cuts=st.lists(st.integers(0, 4000), max_size=8))
@settings(max_examples=80)
def test_h72_requests_in_any_pieces(said: list[object], cuts: list[int]) -> None:
    octets = b"".join(request.to_octets() for request in said)  # type: ignore[attr-defined]
    stream, heard = ClientStream(), []
    stream.limit = MAX_WAITING_AFTER_LOGIN
    for piece in pieces(octets, cuts):
        stream.feed(piece)
        while (request := stream.request(nar=True)) is not None:
            heard.append(request)
    assert heard == said
    assert len(stream) == 0


@given(said=requests)
@settings(max_examples=30)
def test_h72_one_octet_at_a_time(said: list[object]) -> None:
    stream, heard = ClientStream(), []
    for octet in b"".join(request.to_octets() for request in said):  # type: ignore[attr-defined]
        stream.feed(bytes((octet,)))
        request = stream.request(nar=True)
        if request is not None:
            heard.append(request)
    assert heard == said


@given(said=server_messages, cuts=st.lists(st.integers(0, 4000), max_size=8))
@settings(max_examples=80)
def test_h72_replies_and_notices_in_any_pieces(said: list[object], cuts: list[int]) -> None:
    octets = b"".join(message.to_octets() for message in said)  # type: ignore[attr-defined]
    expected = [COMMAND_OF[type(m)] for m in said if not isinstance(m, NoticeMessage)]
    stream, heard = ServerStream(), []
    for piece in pieces(octets, cuts):
        stream.feed(piece)
        while (message := stream.message(expected[0] if expected else None)) is not None:
            heard.append(message)
            if not isinstance(message, NoticeMessage):
                del expected[0]
    assert heard == said


def test_the_whole_dialogue_at_once() -> None:
    stream = ClientStream()
    stream.feed(MethodOffer(b"\x02").to_octets() + PasswordRequest("u", b"p").to_octets())
    stream.feed(SocksRequest(SocksCommand.NAR_MODE, "y.example", 0, 1).to_octets() + b"\x01\x91")
    assert stream.method_offer() == MethodOffer(b"\x02")
    assert stream.password() == PasswordRequest("u", b"p")
    assert stream.request(nar=False) == SocksRequest(SocksCommand.NAR_MODE, "y.example", 0, 1)
    assert stream.request(nar=True) == Renew()
    assert stream.request(nar=True) is None


def test_rest_is_the_applications() -> None:
    stream = ClientStream()
    stream.feed(SocksRequest(1, "y.example", 80).to_octets() + b"GET /")
    assert stream.request(nar=False) is not None
    assert stream.rest() == b"GET /"
    assert len(stream) == 0


def test_h72_a_nar_command_before_nar_mode() -> None:
    stream = ClientStream()
    stream.feed(IcmpAssociate(1).to_octets())
    with pytest.raises(WireError, match="not spoken here"):
        stream.request(nar=False)


@pytest.mark.parametrize("octets", [b"\x00", b"\x04\x01", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"])
def test_h69_other_protocols_are_noticed_at_the_first_octet(octets: bytes) -> None:
    stream = ClientStream()
    stream.feed(octets)
    with pytest.raises(WireError):
        stream.method_offer()
    with pytest.raises(WireError):
        stream.request(nar=True)


@pytest.mark.parametrize("command", [0, 1, 0x80, 0x84, 0x94, 0xFF])
def test_h72_unknown_nar_command(command: int) -> None:
    stream = ClientStream()
    stream.feed(bytes((1, command)))
    with pytest.raises(WireError, match="unknown NAR command") as refused:
        stream.request(nar=True)
    assert not isinstance(refused.value, RequestError), "its length is not known: no reply"


def test_h72_after_a_bad_name_the_stream_is_in_step() -> None:
    stream = ClientStream()
    stream.feed(b"\x05\x01\x00\x03\x03a\nb\x00\x50" + IcmpAssociate(7).to_octets())
    with pytest.raises(RequestError) as refused:
        stream.request(nar=True)
    assert refused.value.in_step
    assert stream.request(nar=True) == IcmpAssociate(7)


def test_h72_what_waits_is_bounded() -> None:
    stream = ClientStream()
    stream.feed(bytes((5, 255)) + bytes(MAX_WAITING_BEFORE_LOGIN - 2))
    with pytest.raises(WireError, match="ahead of replies"):
        stream.feed(b"\0")
    assert len(stream) == MAX_WAITING_BEFORE_LOGIN


def test_replies_to_nothing() -> None:
    stream = ServerStream()
    stream.feed(IcmpReply(Reply.SUCCEEDED, 1).to_octets())
    with pytest.raises(WireError, match="reply to nothing"):
        stream.message(None)


def test_replies_of_the_wrong_kind() -> None:
    for expected, octets in (
        (NarCommand.RENEW, SocksReply(Reply.SUCCEEDED).to_octets()),
        (SocksCommand.BIND, IcmpReply(Reply.SUCCEEDED, 1).to_octets()),
    ):
        stream = ServerStream()
        stream.feed(octets)
        with pytest.raises(WireError):
            stream.message(expected)


def test_a_notice_comes_between() -> None:
    stream = ServerStream()
    notice = NoticeMessage(Notice.STOPPING)
    stream.feed(notice.to_octets() + SocksReply(Reply.SUCCEEDED).to_octets())
    assert stream.message(SocksCommand.CONNECT) == notice
    assert stream.message(SocksCommand.CONNECT) == SocksReply(Reply.SUCCEEDED)


def test_h69_server_of_another_protocol() -> None:
    stream = ServerStream()
    stream.feed(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(WireError):
        stream.method_choice()
    assert MethodChoice.parse(b"\x05\x02") == MethodChoice(2)

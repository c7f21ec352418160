"""Framing of IKE and ESP in TCP (RFC 9329), with hostile input 35."""

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.wire import WireError
from gateway.ike import tcp_stream
from gateway.ike.tcp_stream import (
    KEEPALIVE,
    MAX_MESSAGE_OCTETS,
    STREAM_PREFIX,
    StreamReader,
    frame,
    is_ike,
)


def ike(body: bytes = b"", *, version: int = 0x20, said: int | None = None) -> bytes:
    size = 28 + len(body) if said is None else said
    header = bytes(range(1, 17)) + bytes((0, version, 37, 8)) + bytes(4) + struct.pack("!I", size)
    return bytes(4) + header + body


def esp(body: bytes = bytes(40), spi: int = 0x1234_5678) -> bytes:
    return struct.pack("!II", spi, 1) + body


def read(reader: Any, *chunks: bytes) -> list[bytes]:
    found: list[bytes] = []
    for chunk in chunks:
        reader.feed(chunk, found)
    return found


def accepted() -> StreamReader:
    return StreamReader(expect_prefix=True)


messages = st.lists(
    st.one_of(
        st.binary(max_size=300).map(ike),
        st.binary(min_size=8, max_size=300).map(esp),
        st.just(KEEPALIVE),
    ),
    max_size=12,
)


@given(messages, st.data(), st.booleans())
def test_any_chunking_gives_the_same_messages(sent: Any, data: Any, prefix: Any) -> None:
    stream = (STREAM_PREFIX if prefix else b"") + b"".join(map(frame, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    reader = StreamReader(expect_prefix=prefix)
    assert read(reader, *chunks) == [one for one in sent if one != KEEPALIVE]
    assert reader.keepalives == sent.count(KEEPALIVE)
    assert not reader.partial
    assert reader.begun


@given(st.binary(max_size=400), st.data())
def test_any_octets_give_the_same_end_however_they_are_cut(octets: Any, data: Any) -> None:
    octets = data.draw(st.sampled_from([b"", STREAM_PREFIX, STREAM_PREFIX + frame(ike())])) + octets
    cut = data.draw(st.integers(0, len(octets)))

    def outcome(*chunks: bytes) -> Any:
        reader, found = accepted(), []
        try:
            for chunk in chunks:
                reader.feed(chunk, found)
        except WireError as error:
            return found, str(error)
        return found, reader.partial

    assert outcome(octets) == outcome(octets[:cut], octets[cut:])


def test_what_a_frame_holds_is_what_port_4500_would_carry() -> None:
    assert frame(esp(b"x" * 8)) == b"\0\x12" + esp(b"x" * 8)
    assert is_ike(ike())
    assert not is_ike(esp())
    assert read(accepted(), b"IKETCP\0\x22" + ike()) == [ike()]


def test_what_does_not_fit_a_frame_is_not_framed() -> None:
    assert len(frame(bytes(0xFFFD))) == 0xFFFF
    for wrong in (b"", bytes(0xFFFE)):
        with pytest.raises(ValueError, match="do not fit a frame"):
            frame(wrong)


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"IKETCq", b"i", frame(ike())]
)
def test_h35_prefix_missing(octets: bytes) -> None:
    reader = accepted()
    with pytest.raises(WireError, match="IKETCP"):
        read(reader, octets)
    with pytest.raises(WireError, match="has ended"):
        read(reader, STREAM_PREFIX)
    assert not reader.partial


@pytest.mark.parametrize("length", [0, 1, 2])
def test_h35_length_0_and_1(length: int) -> None:
    reader, found = accepted(), []
    with pytest.raises(WireError, match=f"length {length} holds nothing"):
        reader.feed(STREAM_PREFIX + frame(ike()) + struct.pack("!H", length) + esp(), found)
    assert found == [ike()]


def test_h35_64_kb_length_then_silence() -> None:
    reader = accepted()
    assert read(reader, STREAM_PREFIX + struct.pack("!H", MAX_MESSAGE_OCTETS + 2) + bytes(9)) == []
    assert reader.partial
    with pytest.raises(WireError, match="too long"):
        read(accepted(), STREAM_PREFIX + b"\xff\xff")


def test_h35_byte_at_a_time() -> None:
    stream = STREAM_PREFIX + frame(ike(b"abc")) + frame(KEEPALIVE) + frame(esp())
    assert read(accepted(), *(bytes((octet,)) for octet in stream)) == [ike(b"abc"), esp()]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\0", "neither IKE nor ESP"),
        (bytes(3), "neither IKE nor ESP"),
        (b"\xfe", "neither IKE nor ESP"),
        (KEEPALIVE * 2, "neither IKE nor ESP"),
        (bytes(4), "0 octets are no IKE message"),
        (ike()[:-1], "27 octets are no IKE message"),
        (ike(said=29), "29 octets in a frame for 28"),
        (ike(b"x", said=28), "28 octets in a frame for 29"),
        (ike(said=0xFFFF_FFFF), "4294967295 octets"),
        (ike(version=0x10), "IKEv1 does not travel in TCP"),
        (ike(version=0), "IKEv0 does not travel in TCP"),
        (esp(b"1234567"), "15 octets are neither"),
        (esp(spi=255), "SPI 255 is reserved"),
    ],
)
def test_h35_garbage_in_frames(message: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        read(accepted(), STREAM_PREFIX + frame(message))


def test_a_reader_keeps_less_than_one_frame() -> None:
    reader = accepted()
    read(reader, STREAM_PREFIX)
    for _ in range(100):
        read(reader, frame(esp(bytes(60_000)))[:-1], b"\0")
    assert not reader.partial
    assert tcp_stream.MAX_MESSAGE_OCTETS <= 65_507

"""Packets cut up for the way out of a link or to the wire."""

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.packet import ipv4
from gateway.dataplane.portable.wire.pieces import pieces

ENDS = bytes(range(32))


def version6(payload: bytes, kind: int = 17, between: bytes = b"") -> bytes:
    first = 0 if between else kind
    length = (len(between) + len(payload)).to_bytes(2, "big")
    return b"\x60\0\0\0" + length + bytes((first, 64)) + ENDS + between + payload


def together6(cut: list[bytes], headers: int = 40) -> bytes:
    payload = b""
    for piece in cut:
        offset = int.from_bytes(piece[headers + 2 : headers + 4], "big")
        assert offset & ~7 == len(payload)
        assert bool(offset & 1) == (piece is not cut[-1])
        assert int.from_bytes(piece[4:6], "big") == len(piece) - 40
        payload += piece[headers + 8 :]
    return payload


@given(st.binary(max_size=6000), st.integers(28, 1500))
def test_version4_comes_together_again_and_may_be_fragmented(payload: bytes, limit: int) -> None:
    packet = ipv4.build(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), 17, payload)
    cut = pieces(packet, limit)
    assert max(map(len, cut)) <= limit
    assert len({piece[4:6] for piece in cut}) == 1
    got = b""
    for piece in cut:
        header = ipv4.parse_header(piece)
        assert header.fragment_offset == len(got)
        assert header.more_fragments == (piece is not cut[-1])
        assert not piece[6] & 0x40
        got += piece[20:]
    assert got == payload


@given(st.binary(min_size=1, max_size=6000), st.integers(56, 1500))
def test_version6_comes_together_again(payload: bytes, limit: int) -> None:
    cut = pieces(version6(payload), limit)
    assert max(map(len, cut)) <= limit
    assert {(piece[6], piece[40]) for piece in cut} == {(44, 17)}
    assert len({piece[44:48] for piece in cut}) == 1
    assert together6(cut) == payload


def test_version6_headers_for_routers_are_in_every_piece() -> None:
    between = bytes((17, 0)) + bytes(6)
    cut = pieces(version6(bytes(3000), between=between), 1280)
    assert len(cut) == 3
    for piece in cut:
        assert piece[6] == 0
        assert piece[40:48] == bytes((44, 0)) + bytes(6)
        assert piece[48] == 17
    assert together6(cut, 48) == bytes(3000)


def test_fragments_of_version6_are_not_cut_up() -> None:
    assert pieces(version6(bytes(3000), 44), 1280) == []


@given(st.binary(max_size=200), st.integers(0, 100))
def test_nonsense_gives_nothing_or_pieces_and_raises_nothing(octets: bytes, limit: int) -> None:
    for first in (b"\x45", b"\x4f", b"\x60", b""):
        assert isinstance(pieces(first + octets, limit), list)

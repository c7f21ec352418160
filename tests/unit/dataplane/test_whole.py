"""Packets that the kernel keeps unfinished: checksums left out, TCP put together."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.packet.whole import LONGEST_ALONE, SEGMENT_OCTETS, whole
from gateway.domain.checksum import internet_checksum, ones_sum

ENDS = bytes((10, 0, 0, 1, 10, 0, 0, 2))


def ip(protocol: int, body: bytes, flags: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0xFFFF, flags, 64, protocol, 0)
    return with_checksum(head + ENDS) + body


def pseudo(protocol: int, size: int) -> bytes:
    return ENDS + struct.pack("!HH", protocol, size)


def tcp(data: bytes, *, flags: int = 0x98, sequence: int = 0xFFFFFF00) -> bytes:
    """With the checksum of the pseudo header only."""
    options = bytes.fromhex("0101080a0000000100000002")
    size = 32 + len(data)
    partial = ones_sum(pseudo(6, size))
    head = struct.pack("!HHIIBBHHH", 80, 1024, sequence, 5, 0x80, flags, 100, partial, 0)
    return ip(6, head + options + data)


def is_right(packet: bytes) -> bool:
    body = packet[20:]
    return (
        internet_checksum(packet[:20]) == 0
        and internet_checksum(pseudo(packet[9], len(body)) + body) == 0
        and packet[2] << 8 | packet[3] == len(packet)
    )


@given(st.binary(max_size=1000))
def test_a_checksum_is_completed(data: bytes) -> None:
    [made] = whole(tcp(data))
    assert is_right(made)
    assert whole(made) == [made]
    partial = ones_sum(pseudo(17, 8 + len(data)))
    [made] = whole(ip(17, struct.pack("!HHHH", 5, 6, 8 + len(data), partial) + data))
    assert is_right(made)
    assert made[26:28] != b"\0\0"


def test_what_has_its_own_checksum_stays() -> None:
    wrong = tcp(b"abc")[:-1] + b"d"
    wrong = wrong[:36] + b"\x12\x34" + wrong[38:]
    assert whole(wrong) == [wrong]
    none = ip(17, struct.pack("!HHHH", 5, 6, 8, 0))
    assert whole(none) == [none]
    piece = ip(17, bytes(40), flags=0x2000)
    assert whole(piece) == [piece]


@given(st.integers(LONGEST_ALONE, 60_000), st.integers(0, 0xFFFFFFFF))
def test_segments_are_the_stream(size: int, sequence: int) -> None:
    data = bytes(number & 0xFF for number in range(size))
    made = whole(tcp(data, sequence=sequence, flags=0x99))
    assert all(is_right(one) for one in made)
    assert b"".join(one[52:] for one in made) == data
    at = sequence
    for one in made:
        assert int.from_bytes(one[24:28], "big") == at
        at = at + len(one) - 52 & 0xFFFFFFFF
        assert len(one) - 52 <= SEGMENT_OCTETS
    assert [one[33] for one in made] == [0x90, *[0x10] * (len(made) - 2), 0x19]
    assert len({one[4:6] for one in made}) == len(made)


@given(st.binary(max_size=60), st.sampled_from([6, 17, 1]))
def test_any_body(body: bytes, protocol: int) -> None:
    assert whole(ip(protocol, body))


def test_a_long_one_with_a_broken_header() -> None:
    packet = tcp(bytes(3000))
    packet = packet[:32] + b"\x10" + packet[33:]
    assert len(whole(packet)) == 1

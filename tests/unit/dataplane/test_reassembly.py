"""Fragments made whole: any order, bounded memory, nothing gained by hostile pieces."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mobility_bed import COA, HA, packet, right

from gateway.dataplane.packet.fragments import fragment
from gateway.dataplane.packet.reassembly import (
    MAX_PACKETS,
    MAX_PACKETS_PER_SOURCE,
    TIMEOUT_S,
    Reassembly,
)
from gateway.domain.wire import WireError


def whole(size: int = 300, identification: int = 7, source: IPv4Address = COA) -> bytes:
    payload = bytes(number & 255 for number in range(size))
    return packet(payload, protocol=4, source=source, destination=HA, identification=identification)


def piece(
    offset: int, size: int, *, more: bool = True, source: IPv4Address = COA, number: int = 7
) -> bytes:
    flags = offset // 8 | (0x2000 if more else 0)
    return packet(
        bytes(size), protocol=4, source=source, destination=HA, flags=flags, identification=number
    )


@given(st.integers(100, 3000), st.integers(80, 600), st.randoms(use_true_random=False))
def test_any_order_with_repetitions(size: int, limit: int, random) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    original = whole(size)
    pieces = fragment(original, limit)
    if len(pieces) > 60 or len(pieces) == 1:
        return
    random.shuffle(pieces)
    made = Reassembly()
    for one in pieces[:-1]:
        assert made.add(one, 0.0) is None
        assert made.add(one, 0.0) is None
    got = made.add(pieces[-1], 0.0)
    assert got == original
    assert right(got)
    assert len(made) == 0


def test_h21_overlapping_pieces_end_it() -> None:
    for one in (piece(8, 16), piece(0, 16), piece(0, 8)):
        made = Reassembly()
        assert made.add(piece(0, 16) if one[7] else piece(0, 24), 0.0) is None
        with pytest.raises(WireError):
            made.add(one, 0.0)
        assert len(made) == 0


def test_h21_two_ends() -> None:
    for first, second in (
        (piece(8, 8, more=False), piece(16, 8, more=False)),
        (piece(8, 8, more=False), piece(16, 8)),
        (piece(16, 8), piece(8, 8, more=False)),
    ):
        made = Reassembly()
        assert made.add(first, 0.0) is None
        with pytest.raises(WireError):
            made.add(second, 0.0)


def test_h21_pieces_that_cannot_be() -> None:
    for one in (piece(0, 0), piece(0, 9), piece(0xFFF8, 64, more=False)):
        with pytest.raises(WireError):
            Reassembly().add(one, 0.0)
    made = Reassembly()
    made.add(piece(0xFFE0, 16, more=False), 0.0)
    with pytest.raises(WireError):
        made.add(piece(0, 8), 0.0)


def test_h21_never_completed_sets_are_bounded() -> None:
    made = Reassembly()
    for number in range(1000):
        made.add(piece(0, 8, number=number), 0.0)
        assert len(made) <= MAX_PACKETS_PER_SOURCE
    for number in range(1000):
        made.add(piece(0, 8, source=IPv4Address(int(COA) + number)), 0.0)
    assert len(made) == MAX_PACKETS
    assert len(made._of_source) <= MAX_PACKETS


def test_h21_too_many_pieces() -> None:
    made = Reassembly()
    for number in range(64):
        assert made.add(piece(number * 8, 8), 0.0) is None
    with pytest.raises(WireError, match="more than"):
        made.add(piece(64 * 8, 8), 0.0)


def test_pieces_do_not_wait_forever() -> None:
    made = Reassembly()
    first, second = fragment(whole(100), 100)
    assert made.add(first, 0.0) is None
    assert made.add(second, TIMEOUT_S) is None
    assert made.add(first, TIMEOUT_S) == whole(100)

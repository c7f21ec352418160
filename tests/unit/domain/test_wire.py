"""The bounded reader never reads past its end, whatever it is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.wire import Reader, WireError


def test_reads_fields_in_network_order() -> None:
    reader = Reader(bytes(range(1, 20)))
    assert reader.u8() == 0x01
    assert reader.u16() == 0x0203
    assert reader.u32() == 0x04050607
    assert reader.u64() == 0x08090A0B0C0D0E0F
    assert reader.rest() == bytes((0x10, 0x11, 0x12, 0x13))
    reader.finish()


def test_trailing_octets_are_refused() -> None:
    reader = Reader(b"ab")
    reader.u8()
    with pytest.raises(WireError, match="1 octets of trailing garbage"):
        reader.finish()


def test_sub_reader_is_confined_to_its_octets() -> None:
    reader = Reader(b"\x01\x02\x03\x04")
    inner = reader.sub(2)
    assert inner.take(2) == b"\x01\x02"
    with pytest.raises(WireError):
        inner.u8()
    assert reader.u16() == 0x0304


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(WireError):
        Reader(b"abc").take(-1)


@given(st.binary(max_size=64), st.lists(st.integers(-3, 70), max_size=20))
def test_takes_return_exactly_the_octets_or_raise(data: bytes, sizes: list[int]) -> None:
    reader = Reader(data)
    read = b""
    for size in sizes:
        before = reader.remaining
        try:
            read += reader.take(size)
        except WireError:
            assert size < 0 or size > before
            assert reader.remaining == before
    assert data.startswith(read)
    assert reader.remaining == len(data) - len(read)

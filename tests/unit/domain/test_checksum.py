"""The internet checksum, against the published example and word by word addition."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.checksum import difference, internet_checksum, ones_sum, updated


def added_up(octets: bytes) -> int:
    octets += bytes(len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071() -> None:
    assert ones_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


def test_a_real_header() -> None:
    header = bytes.fromhex("45000073000040004011 b861 c0a80001c0a800c7")
    assert internet_checksum(header) == 0
    assert internet_checksum(header[:10] + bytes(2) + header[12:]) == 0xB861


def test_the_example_of_rfc_1624() -> None:
    assert updated(0xDD2F, difference(bytes.fromhex("5555"), bytes.fromhex("3285"))) == 0x0000


@given(st.binary(max_size=80))
def test_the_sum_is_that_of_the_words(octets: bytes) -> None:
    assert ones_sum(octets) == added_up(octets)


@given(st.binary(min_size=12, max_size=60), st.binary(min_size=8, max_size=8))
def test_an_update_is_as_good_as_a_new_sum(octets: bytes, new: bytes) -> None:
    octets = b"\x45" + octets
    changed = octets[:2] + new + octets[10:]
    assert updated(internet_checksum(octets), difference(octets[2:10], new)) == internet_checksum(
        changed
    )

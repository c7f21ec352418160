"""The internet checksum (RFC 1071) and its incremental update (RFC 1624)."""

from typing import Final

_ONES: Final = 0xFFFF


def ones_sum(octets: bytes) -> int:
    """The ones' complement sum of 16-bit words in 0..0xFFFF; an odd octet counts as the high one.

    0 only for octets that are all zero. A number is congruent to the sum of its 16-bit digits
    modulo 0xFFFF, which Python computes much faster than the sum.
    """
    number = int.from_bytes(octets, "big")
    if len(octets) & 1:
        number <<= 8
    return number % _ONES or (_ONES if number else 0)


def internet_checksum(octets: bytes) -> int:
    """What a header carries; 0 over a message that carries a right one."""
    return ones_sum(octets) ^ _ONES


def difference(old: bytes, new: bytes) -> int:
    """What replacing ``old`` by ``new`` adds to a ones' complement sum, in 0..0xFFFF.

    Both start at an even place of what is summed and have the same, even length. Compute it once
    where the same addresses are replaced in every packet.
    """
    total = (ones_sum(old) ^ _ONES) + ones_sum(new)
    return (total & _ONES) + (total >> 16)


def updated(checksum: int, change: int) -> int:
    """The checksum after a :func:`difference` (RFC 1624 equation 3)."""
    total = (checksum ^ _ONES) + change
    return ((total & _ONES) + (total >> 16)) ^ _ONES

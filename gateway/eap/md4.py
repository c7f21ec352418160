"""MD4 (RFC 1320).

Written here because nothing we depend on offers it any more (OpenSSL moved it to its legacy
provider, ``cryptography`` never had it), and MSCHAPv2 cannot do without: the NT hash of a password
is MD4 by definition. It is not used for anything else. Nothing is branched on, and no table is
indexed by, the data.
"""

import struct

_BLOCK_OCTETS = 64
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_WORDS = struct.Struct("<16I")
_STATE = struct.Struct("<4I")
_LENGTH = struct.Struct("<Q")
_MASK = 0xFFFFFFFF

# Per round: the order of the words, the four shifts in turn, the constant (RFC 1320 section 3.4).
_FIRST = (tuple(range(16)), (3, 7, 11, 19))
_SECOND = ((0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), (3, 5, 9, 13))
_THIRD = ((0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15), (3, 9, 11, 15))
_SQRT_2 = 0x5A827999
_SQRT_3 = 0x6ED9EBA1


def _steps(plan: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[tuple[int, int, int], ...]:
    words, shifts = plan
    return tuple((word, shifts[at % 4], 32 - shifts[at % 4]) for at, word in enumerate(words))


_STEPS_1, _STEPS_2, _STEPS_3 = _steps(_FIRST), _steps(_SECOND), _steps(_THIRD)


def md4(message: bytes) -> bytes:
    """The 16 octets of the digest."""
    padding = b"\x80" + bytes((55 - len(message)) % _BLOCK_OCTETS)
    padded = message + padding + _LENGTH.pack(len(message) * 8 & 0xFFFFFFFFFFFFFFFF)
    state = _START
    for at in range(0, len(padded), _BLOCK_OCTETS):
        state = _compress(state, _WORDS.unpack_from(padded, at))
    return _STATE.pack(*state)


def _compress(
    state: tuple[int, int, int, int], words: tuple[int, ...]
) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for word, left, right in _STEPS_1:
        mixed = a + (b & c | ~b & d) + words[word] & _MASK
        a, d, c, b = d, c, b, (mixed << left | mixed >> right) & _MASK
    for word, left, right in _STEPS_2:
        mixed = a + (b & c | b & d | c & d) + words[word] + _SQRT_2 & _MASK
        a, d, c, b = d, c, b, (mixed << left | mixed >> right) & _MASK
    for word, left, right in _STEPS_3:
        mixed = a + (b ^ c ^ d) + words[word] + _SQRT_3 & _MASK
        a, d, c, b = d, c, b, (mixed << left | mixed >> right) & _MASK
    return (
        state[0] + a & _MASK,
        state[1] + b & _MASK,
        state[2] + c & _MASK,
        state[3] + d & _MASK,
    )

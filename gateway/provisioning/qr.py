"""QR codes, and texts short enough for one."""

import io
import re
import zlib

LEAD = "GWMN1:"
"""In front of a profile in a QR code: base45 (RFC 9285) of its zlib stream."""
MAX_LETTERS = 2520
"""A code of version 30: larger ones are hard to read from a screen."""
MAX_PROFILE_OCTETS = 64 * 1024
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}


def svg(text: str) -> str:
    """The code as an SVG element, black on white with its quiet zone."""
    import segno  # noqa: PLC0415 - only here, and the core shall stay small

    out = io.BytesIO()
    code = segno.make(text, error="l", micro=False)
    code.save(out, kind="svg", xmldecl=False, svgns=True, scale=4, dark="#000", light="#fff")
    return out.getvalue().decode()


def pack(profile: bytes) -> str | None:
    """A profile as text for a code; None when it does not fit."""
    text = LEAD + _base45(zlib.compress(profile, 9))
    return text if len(text) <= MAX_LETTERS else None


def unpack(text: str) -> bytes:
    """The profile of such a text. Raises ValueError, which says what is wrong."""
    text = text.strip("\r\n")
    if not text.startswith(LEAD) or len(text) > 2 * MAX_LETTERS:
        raise ValueError(f"is no code of a profile, which begins with {LEAD}")
    packed = _from_base45(text.removeprefix(LEAD))
    machine = zlib.decompressobj()
    try:
        profile = machine.decompress(packed, MAX_PROFILE_OCTETS + 1)
    except zlib.error:
        raise ValueError("is damaged; scan it again") from None
    if len(profile) > MAX_PROFILE_OCTETS or not machine.eof:
        raise ValueError("is damaged; scan it again")
    return profile


def _base45(octets: bytes) -> str:
    out = []
    for first in range(0, len(octets), 2):
        pair = octets[first : first + 2]
        number, letters = int.from_bytes(pair, "big"), len(pair) + 1
        for _ in range(letters):
            number, value = divmod(number, 45)
            out.append(_ALPHABET[value])
    return "".join(out)


def _from_base45(text: str) -> bytes:
    if re.fullmatch(r"[0-9A-Z $%*+\-./:]*", text) is None or len(text) % 3 == 1:
        raise ValueError("is damaged; scan it again")
    out = bytearray()
    for first in range(0, len(text), 3):
        letters = text[first : first + 3]
        number = sum(_VALUES[one] * 45**place for place, one in enumerate(letters))
        octets = len(letters) - 1
        if number >= 256**octets:
            raise ValueError("is damaged; scan it again")
        out += number.to_bytes(octets, "big")
    return bytes(out)

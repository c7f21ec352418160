"""One DNS question for an IPv4 address (RFC 1035), for names asked on a link and not of the user's.

The resolver of the system would ask wherever it likes; the probe of a captive portal has to ask on
the link that it probes.
"""

import struct
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.wire import Reader, WireError

MAX_OCTETS: Final = 1232
MAX_NAME_OCTETS: Final = 253
MAX_RECORDS: Final = 64
_HEADER = struct.Struct("!HHHHHH")
_RECURSION_DESIRED, _RESPONSE, _TRUNCATED = 0x0100, 0x8000, 0x0200
_RESULT_MASK, _NAME_ERROR = 0xF, 3
_TYPE_A, _CLASS_IN = 1, 1
_POINTER = 0xC0


def question(name: str, number: int) -> bytes:
    """The message that asks for the A records of ``name``. Raises ValueError for no host name."""
    try:
        octets = name.rstrip(".").encode("idna" if not name.isascii() else "ascii")
    except UnicodeError:
        raise ValueError(f"{name!r} is no host name") from None
    labels = octets.split(b".")
    if len(octets) > MAX_NAME_OCTETS or not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name!r} is no host name")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    head = _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0)
    return head + encoded + struct.pack("!HH", _TYPE_A, _CLASS_IN)


def addresses(answer: bytes, asked: bytes) -> list[IPv4Address]:
    """What the answer to the message ``asked`` says; empty when there is no such name.

    Raises :class:`WireError` when it is no answer to it, or broken.
    """
    if len(answer) > MAX_OCTETS:
        raise WireError(f"a DNS answer of {len(answer)} octets")
    reader = Reader(answer)
    number, flags, questions, answers, _, _ = _HEADER.unpack(reader.take(_HEADER.size))
    if number != int.from_bytes(asked[:2]) or not flags & _RESPONSE or questions != 1:
        raise WireError("no answer to the question")
    if reader.take(len(asked) - _HEADER.size).lower() != asked[_HEADER.size :].lower():
        raise WireError("an answer to another question")
    if flags & _RESULT_MASK not in {0, _NAME_ERROR} or flags & _TRUNCATED:
        raise WireError(f"the server says {flags & _RESULT_MASK}")
    if answers > MAX_RECORDS:
        raise WireError(f"{answers} records")
    found = []
    for _ in range(answers):
        _skip_name(reader)
        kind, of_class, _, size = struct.unpack("!HHIH", reader.take(10))
        data = reader.take(size)
        if (kind, of_class) == (_TYPE_A, _CLASS_IN):
            if size != 4:
                raise WireError(f"an A record of {size} octets")
            found.append(IPv4Address(data))
    return found


def _skip_name(reader: Reader) -> None:
    """Past a name; a pointer ends it and is not followed."""
    taken = 0
    while length := reader.u8():
        if length & _POINTER == _POINTER:
            reader.u8()
            return
        if length & _POINTER:
            raise WireError("a label of an unknown kind")
        reader.take(length)
        taken += length + 1
        if taken > MAX_NAME_OCTETS:
            raise WireError("a name that is too long")

"""Data attributes of transforms and configuration (RFC 2408 section 3.3).

::

    |A|       Attribute Type        |  AF=0: Length, AF=1: Value    |
    |                 AF=0: Value of that length                    |
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.domain.wire import WireError

MAX_ATTRIBUTES = 128
"""In one transform or configuration payload."""
MAX_ATTRIBUTE_OCTETS = 4096
"""Of one value."""
MAX_NUMBER_OCTETS = 8
"""Of a value that is read as a number."""

_BASIC = 0x8000
_ATTRIBUTE = struct.Struct("!HH")
HEADER_OCTETS = _ATTRIBUTE.size


@dataclass(frozen=True, slots=True)
class Attribute:
    """A type and its value: an integer in the basic form (TV), octets in the long one (TLV)."""

    type: int
    value: int | bytes = field(default=b"", repr=False)

    @property
    def number(self) -> int | None:
        """The value as a number, whatever the form; None for none and for more than 8 octets."""
        if isinstance(self.value, int):
            return self.value
        if 1 <= len(self.value) <= MAX_NUMBER_OCTETS:
            return int.from_bytes(self.value, "big")
        return None

    @property
    def octets(self) -> bytes:
        """The value as octets, whatever the form."""
        return self.value.to_bytes(2, "big") if isinstance(self.value, int) else self.value

    def serialize(self) -> bytes:
        """Write it. Raises :class:`ValueError` if a number does not fit into two octets."""
        if isinstance(self.value, int):
            if not 0 <= self.value <= 0xFFFF:
                raise ValueError(f"attribute {self.type} cannot hold {self.value} in two octets")
            return _ATTRIBUTE.pack(_BASIC | self.type, self.value)
        return _ATTRIBUTE.pack(self.type, len(self.value)) + self.value


def parse_attributes(data: bytes, at: int, end: int) -> tuple[Attribute, ...]:
    """Read all of ``data[at:end]``. Raises :class:`WireError` for a length that lies."""
    found: list[Attribute] = []
    while at < end:
        if len(found) == MAX_ATTRIBUTES:
            raise WireError(f"more than {MAX_ATTRIBUTES} attributes")
        if end - at < _ATTRIBUTE.size:
            raise WireError(f"attribute header cut: {end - at} octets left")
        kind, value = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if kind & _BASIC:
            found.append(Attribute(kind & ~_BASIC, value))
            continue
        if value > min(end - at, MAX_ATTRIBUTE_OCTETS):
            raise WireError(f"attribute {kind} of {value} octets, {end - at} left")
        found.append(Attribute(kind, data[at : at + value]))
        at += value
    return tuple(found)


def attribute_octets(data: bytes, at: int) -> int:
    """What the header at ``at`` says that its attribute takes, header included; at least 4."""
    kind, value = _ATTRIBUTE.unpack_from(data, at)
    return _ATTRIBUTE.size if kind & _BASIC else _ATTRIBUTE.size + int(value)


def serialize_attributes(attributes: Iterable[Attribute]) -> bytes:
    """Write attributes one after the other."""
    return b"".join(attribute.serialize() for attribute in attributes)


def long_number(kind: int, value: int) -> Attribute:
    """A number that may need four octets: basic where it fits, as peers expect it."""
    return Attribute(kind, value if value <= 0xFFFF else value.to_bytes(4, "big"))

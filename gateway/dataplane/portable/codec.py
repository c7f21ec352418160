"""Frozen dataclasses as octets, for the socket between the core and its forwarder.

What a message is made of is read from its annotations once, so that there is nothing to declare
twice. Both ends are of one version (:func:`fingerprint` tells); octets that are not ours raise
:class:`WireError` and nothing else, and no count in them makes the reader allocate more than they
are long.
"""

import dataclasses
import enum
import hashlib
import struct
import types
import typing
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from gateway.domain.wire import Reader, WireError

FRAME: Final = struct.Struct("!I")
"""Before each message: its octets."""
MAX_OCTETS: Final = 16 << 20
"""Of one message."""

_INT_OCTETS = 255
"""Replay windows are numbers as well."""
_DOUBLE = struct.Struct("!d")

Encode = Callable[[Any, bytearray], None]
Decode = Callable[[Reader], Any]

_made: dict[Any, tuple[Encode, Decode]] = {}


def encoded(kind: Any, value: object) -> bytes:  # noqa: ANN401 a type, or a union of types
    """``value``, which is a ``kind``, as octets."""
    out = bytearray()
    _both(kind)[0](value, out)
    return bytes(out)


def decoded(kind: Any, octets: bytes) -> Any:  # noqa: ANN401 an object of that kind
    """Reverse of :func:`encoded`. Raises :class:`WireError`."""
    reader = Reader(octets)
    try:
        value = _both(kind)[1](reader)
    except (ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"no {kind}: {type(error).__name__}") from None
    reader.finish()
    return value


def framed(kind: Any, value: object) -> bytes:  # noqa: ANN401 a type, or a union of types
    """A message with its length before it. Raises :class:`WireError` when it is too long."""
    octets = encoded(kind, value)
    if len(octets) > MAX_OCTETS:
        raise WireError(f"message of {len(octets)} octets, {MAX_OCTETS} allowed")
    return FRAME.pack(len(octets)) + octets


def fingerprint(*kinds: Any) -> bytes:  # noqa: ANN401 types
    """Eight octets that differ when any message of these kinds looks different."""
    seen: set[Any] = set()
    text = ";".join(_described(kind, seen) for kind in kinds)
    return hashlib.sha256(text.encode()).digest()[:8]


def _described(kind: Any, seen: set[Any]) -> str:  # noqa: ANN401 a type
    members = typing.get_args(kind)
    if members:
        inner = ",".join(_described(one, seen) for one in members if one is not Ellipsis)
        return f"{typing.get_origin(kind)}[{inner}]"
    if not isinstance(kind, type) or kind in seen:
        return str(kind)
    seen.add(kind)
    if issubclass(kind, enum.Enum):
        return f"{kind.__qualname__}({','.join(one.name for one in kind)})"
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = ",".join(
            f"{field.name}:{_described(hints[field.name], seen)}"
            for field in dataclasses.fields(kind)
        )
        return f"{kind.__qualname__}({fields})"
    return kind.__qualname__


def _both(kind: Any) -> tuple[Encode, Decode]:  # noqa: ANN401 a type
    made = _made.get(kind)
    if made is None:
        made = _made[kind] = _make(kind)
    return made


def _make(kind: Any) -> tuple[Encode, Decode]:  # noqa: ANN401 a type
    plain = _PLAIN.get(kind)
    if plain is not None:
        return plain
    origin = typing.get_origin(kind)
    members = typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return _union(members)
    if origin is frozenset:
        return _sequence(members[0], frozenset)
    if origin is tuple:
        if len(members) == 2 and members[1] is Ellipsis:
            return _sequence(members[0])
        return _record(tuple, [_both(one) for one in members], lambda value: value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _enum(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        parts = [_both(hints[name]) for name in names]
        return _record(
            lambda values: kind(*values),
            parts,
            lambda value: [getattr(value, name) for name in names],
        )
    raise TypeError(f"{kind} has no form as octets")


def _record(
    build: Callable[[list[Any]], Any],
    parts: list[tuple[Encode, Decode]],
    values: Callable[[Any], Any],
) -> tuple[Encode, Decode]:
    encoders = [encode for encode, _ in parts]
    decoders = [decode for _, decode in parts]

    def encode(value: Any, out: bytearray) -> None:  # noqa: ANN401
        for write, one in zip(encoders, values(value), strict=True):
            write(one, out)

    def decode(reader: Reader) -> Any:  # noqa: ANN401
        return build([read(reader) for read in decoders])

    return encode, decode


def _sequence(
    kind: Any,  # noqa: ANN401 a type
    build: Callable[[list[Any]], Any] = tuple,
) -> tuple[Encode, Decode]:
    write, read = _both(kind)

    def encode(value: Any, out: bytearray) -> None:  # noqa: ANN401
        out += len(value).to_bytes(4, "big")
        for one in value:
            # So that a count of elements without octets cannot be believed either.
            out.append(1)
            write(one, out)

    def decode(reader: Reader) -> Any:  # noqa: ANN401
        count = reader.u32()
        if count > reader.remaining:
            raise WireError(f"{count} elements in {reader.remaining} octets")
        found = []
        for _ in range(count):
            reader.u8()
            found.append(read(reader))
        return build(found)

    return encode, decode


def _union(members: tuple[Any, ...]) -> tuple[Encode, Decode]:
    # Unions are equal whatever their order, and only one of those that are equal is made.
    ordered = sorted(members, key=repr)
    both = [_both(one) for one in ordered]
    tags = {typing.get_origin(one) or one: tag for tag, one in enumerate(ordered)}

    def encode(value: Any, out: bytearray) -> None:  # noqa: ANN401
        tag = tags[type(value)]
        out.append(tag)
        both[tag][0](value, out)

    def decode(reader: Reader) -> Any:  # noqa: ANN401
        tag = reader.u8()
        if tag >= len(both):
            raise WireError(f"kind {tag} of {len(both)}")
        return both[tag][1](reader)

    return encode, decode


def _enum(kind: type[enum.Enum]) -> tuple[Encode, Decode]:
    members = list(kind)
    places = {one: place for place, one in enumerate(members)}

    def encode(value: Any, out: bytearray) -> None:  # noqa: ANN401
        out.append(places[value])

    def decode(reader: Reader) -> Any:  # noqa: ANN401
        place = reader.u8()
        if place >= len(members):
            raise WireError(f"{kind.__name__} number {place}")
        return members[place]

    return encode, decode


def _write_int(value: int, out: bytearray) -> None:
    size = value.bit_length() // 8 + 1
    if size > _INT_OCTETS:
        raise WireError(f"a number of {size} octets")
    out.append(size)
    out += value.to_bytes(size, "big", signed=True)


def _read_int(reader: Reader) -> int:
    size = reader.u8()
    if size > _INT_OCTETS:
        raise WireError(f"a number of {size} octets")
    return int.from_bytes(reader.take(size), "big", signed=True)


def _write_bytes(value: bytes, out: bytearray) -> None:
    out += len(value).to_bytes(4, "big")
    out += value


def _read_bytes(reader: Reader) -> bytes:
    return reader.take(reader.u32())


def _read_bool(reader: Reader) -> bool:
    value = reader.u8()
    if value > 1:
        raise WireError(f"{value} is neither yes nor no")
    return bool(value)


_PLAIN: Final[dict[Any, tuple[Encode, Decode]]] = {
    int: (_write_int, _read_int),
    bool: (lambda value, out: out.append(value), _read_bool),
    float: (
        lambda value, out: out.extend(_DOUBLE.pack(value)),
        lambda reader: _DOUBLE.unpack(reader.take(8))[0],
    ),
    bytes: (_write_bytes, _read_bytes),
    str: (
        lambda value, out: _write_bytes(value.encode(), out),
        lambda reader: _read_bytes(reader).decode(),
    ),
    type(None): (lambda _value, _out: None, lambda _reader: None),
    IPv4Address: (
        lambda value, out: out.extend(value.packed),
        lambda reader: reader.ipv4(),
    ),
    IPv6Address: (
        lambda value, out: out.extend(value.packed),
        lambda reader: reader.ipv6(),
    ),
}

"""Frozen dataclasses as JSON by field names, for what another version of ours has to read.

What that version does not know is left out, and fields that it has besides get their defaults.
"""

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from gateway.domain.wire import WireError

Kind = TypeVar("Kind")

_Plain = None | bool | int | float | str | list[Any] | dict[str, Any]


def to_json(values: Sequence[object]) -> bytes:
    """The values, one after the other."""
    return json.dumps([_plain(one) for one in values]).encode()


def from_json(kind: type[Kind], octets: bytes) -> list[Kind]:
    """Reverse of :func:`to_json`, leaving out what cannot be a ``kind`` here.

    Raises:
        WireError: this is no list in JSON.
    """
    try:
        values = json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise WireError(f"no JSON: {type(error).__name__}") from None
    if not isinstance(values, list):
        raise WireError("no list in JSON")
    found: list[Kind] = []
    for value in values:
        try:
            found.append(_typed(kind, value))
        except (TypeError, ValueError, LookupError, OverflowError, RecursionError):
            continue
    return found


def _plain(value: object) -> _Plain:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    if isinstance(value, tuple | frozenset | list):
        return [_plain(one) for one in value]
    if dataclasses.is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    raise TypeError(f"{type(value)} has no plain form")


def _typed(kind: Any, value: Any) -> Any:  # noqa: ANN401 - a type, and one of its values
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return _one_of(members, value)
    if origin in {tuple, frozenset}:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        if origin is frozenset or members[1:] == (Ellipsis,):
            return origin(_typed(members[0], one) for one in value)
        return tuple(_typed(one, part) for one, part in zip(members, value, strict=True))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _filled(kind, value)
    if kind is bytes:
        return bytes.fromhex(value)
    if kind in {IPv4Address, IPv6Address}:
        return kind(value) if isinstance(value, str) else _typed(str, value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind[value]
    if kind is float and type(value) is int:
        return float(value)
    # Exactly: True is no number here.
    if type(value) is not kind:
        raise TypeError(f"{type(value)} instead of {kind}")
    return value


def _one_of(members: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401
    if value is None and type(None) in members:
        return None
    for member in members:
        try:
            return _typed(member, value)
        except (TypeError, ValueError, LookupError):
            continue
    raise TypeError(f"{value!r} is none of {members}")


def _filled(kind: type[Any], value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, dict):
        raise TypeError(f"{kind.__name__} expected")
    hints = typing.get_type_hints(kind)
    return kind(
        **{
            field.name: _typed(hints[field.name], value[field.name])
            for field in dataclasses.fields(kind)
            if field.name in value
        }
    )

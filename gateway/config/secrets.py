"""Secrets of documents: taken out, put back, and shown as ``{"secret": true}``.

A secret is named by where it stands, as ``/servers/first/secret`` (RFC 6901).
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

from gateway.config.kinds import Path

Document = dict[str, object]
MASK: Mapping[str, object] = {"secret": True}
"""Stands for a secret that is there, and in a change for one that stays."""
_Spot = tuple[dict[object, object] | list[object], object, str]
"""What holds a secret, under which key, and its name."""


class SecretError(ValueError):
    """A mask where nothing is there to keep; ``field`` is dotted."""

    def __init__(self, field: str) -> None:
        super().__init__("no secret is stored here that could stay; give it")
        self.field = field


def is_mask(value: object) -> bool:
    """Whether a value says that there is a secret."""
    return isinstance(value, dict) and value == MASK


def split(document: Mapping[str, object], paths: Sequence[Path]) -> tuple[Document, Document]:
    """The document with masks, and the secrets by name."""
    shown = deepcopy(dict(document))
    secrets: Document = {}
    for holder, key, name in _spots(shown, paths):
        value = holder[key]  # type: ignore[call-overload]
        if value is not None and not is_mask(value):
            secrets[name] = value
            holder[key] = dict(MASK)  # type: ignore[call-overload]
    return shown, secrets


def join(document: Mapping[str, object], secrets: Mapping[str, object]) -> Document:
    """The document with the secrets in place of the masks."""
    whole = deepcopy(dict(document))
    for name, value in secrets.items():
        *above, last = [_unescaped(part) for part in name.split("/")[1:]]
        holder: object = whole
        for part in above:
            holder = _inside(holder, part)
        if isinstance(holder, dict):
            holder[last] = value
    return whole


def keep(
    new: Mapping[str, object],
    old: Mapping[str, object],
    secrets: Mapping[str, object],
    paths: Sequence[Path],
) -> Document:
    """``new`` with what ``old`` had in place of its masks. Raises :class:`SecretError`.

    Items of lists are the same when they have the same ``spi``.
    """
    whole = deepcopy(dict(new))
    known = dict(_comparable(old, secrets, paths))
    for holder, key, name in list(_spots(whole, paths)):
        if is_mask(holder[key]):  # type: ignore[call-overload]
            found = known.get(_of_spi(whole, name))
            if found is None:
                raise SecretError(name[1:].replace("/", "."))
            holder[key] = found  # type: ignore[call-overload]
    return whole


def merge_patch(old: object, patch: object) -> object:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def without_nulls(value: object) -> object:
    """TOML has no null: a key that is null is not there."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    return value


def _spots(document: Document, paths: Sequence[Path]) -> Iterator[_Spot]:
    for path in paths:
        yield from _below(document, path, "")


def _below(value: object, path: Path, name: str) -> Iterator[_Spot]:
    first, rest = path[0], path[1:]
    keys: list[object] = []
    if isinstance(value, dict):
        keys = list(value) if first == "*" else [first] if first in value else []
    elif isinstance(value, list) and first == "*":
        keys = list(range(len(value)))
    for key in keys:
        under = f"{name}/{_escaped(str(key))}"
        if rest:
            yield from _below(value[key], rest, under)  # type: ignore[index]
        else:
            yield value, key, under  # type: ignore[misc]


def _comparable(
    old: Mapping[str, object], secrets: Mapping[str, object], paths: Sequence[Path]
) -> Iterator[tuple[str, object]]:
    for _, _, name in _spots(dict(old), paths):
        if name in secrets:
            yield _of_spi(old, name), secrets[name]


def _of_spi(document: Mapping[str, object], name: str) -> str:
    """The name of a secret with SPIs in place of numbers of list items."""
    holder: object = document
    parts: list[str] = []
    for part in [_unescaped(part) for part in name.split("/")[1:]]:
        if isinstance(holder, list):
            item = _inside(holder, part)
            spi = item.get("spi") if isinstance(item, dict) else None
            parts.append(f"spi={spi}" if spi is not None else part)
        else:
            parts.append(part)
        holder = _inside(holder, part)
    return "/".join(parts)


def _inside(holder: object, part: str) -> object:
    if isinstance(holder, dict):
        return holder.get(part)
    if isinstance(holder, list) and part.isdigit() and int(part) < len(holder):
        return holder[int(part)]
    return None


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")

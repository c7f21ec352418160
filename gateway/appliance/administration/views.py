"""How objects and changes are shown."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gateway.config.difference import Change
from gateway.config.kinds import KINDS, Stored, secret_paths
from gateway.config.problem import Problem, shown
from gateway.config.secrets import MASK, split
from gateway.control.object_operations import ObjectChange, StoredObject

if TYPE_CHECKING:
    from gateway.store.objects import StoredObject as Kept

MAX_CUT = 1000


def of_store(kept: "Kept", broken: Sequence[Problem] = ()) -> StoredObject:
    """An object of the store, its secrets masked."""
    reasons = [str(one) for one in broken]
    if kept.damaged is not None:
        reasons.append(kept.damaged)
    return {
        "kind": kept.kind,
        "name": kept.name,
        "version": kept.version,
        "source": "store",
        "broken": reasons,
        "document": kept.document,
        "created_at": kept.created_at,
        "changed_at": kept.changed_at,
    }


def of_file(kind: str, name: str, table: Mapping[str, object]) -> StoredObject:
    """A table of the file, its secrets masked."""
    shown, _ = split(table, secret_paths(KINDS[kind].model))
    return {
        "kind": kind,
        "name": name,
        "version": 0,
        "source": "file",
        "broken": [],
        "document": shown,
        "created_at": None,
        "changed_at": None,
    }


def masked(stored: Stored) -> dict[str, object]:
    """A document without its secrets."""
    return split(stored.document, secret_paths(KINDS[stored.kind].model))[0]


def of_change(change: Change) -> ObjectChange:
    """One difference."""
    return {
        "kind": change.kind,
        "key": change.key,
        "effect": change.effect,
        "old": change.old,
        "new": change.new,
        "needs_restart": change.needs_restart,
    }


def of_light(
    kind: str,
    name: str,
    old: Mapping[str, object] | None,
    new: Mapping[str, object] | None,
    effect: str,
) -> list[ObjectChange]:
    """The differences of a light object."""
    key = f"{kind}.{name}"
    if old is None or new is None:
        word = "added" if old is None else "removed"
        return [_change(word, key, effect)]
    found = []
    for field in dict.fromkeys((*old, *new)):
        before, after = old.get(field), new.get(field)
        if before != after:
            found.append(_change("changed", f"{key}.{field}", effect, _text(before), _text(after)))
    return found


def _change(
    kind: str, key: str, effect: str, old: str | None = None, new: str | None = None
) -> ObjectChange:
    return {
        "kind": kind,
        "key": key,
        "effect": effect,
        "old": old,
        "new": new,
        "needs_restart": False,
    }


def _text(value: object) -> str:
    if value is None:
        return "unset"
    return "(hidden)" if value == MASK else shown(value)

"""Lists of configured objects, from memory."""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gateway.appliance.administration.known import KnownObjects
from gateway.appliance.administration.side import Surroundings
from gateway.appliance.administration.source import Source
from gateway.appliance.administration.views import of_file, of_store
from gateway.config.mobility_nodes import all_nodes
from gateway.config.problem import ConfigError
from gateway.control.object_operations import StoredObject
from gateway.control.protocol import ControlError, ErrorCode, Page, Request

if TYPE_CHECKING:
    from gateway.store.objects import StoredObject as Kept

Position = tuple[float | str, str]
"""Value of the sorted field, and name."""


class Listing:
    """What is configured, of the store and of the file."""

    def __init__(self, known: KnownObjects, source: Source, surroundings: Surroundings) -> None:
        self._known = known
        self._source = source
        self._around = surroundings

    def one(self, kind: str, name: str) -> StoredObject:
        """Raises :class:`ControlError` when there is none."""
        table = self._of_file(kind).get(name)
        if table is not None:
            return of_file(kind, name, table)
        kept = self._known.get(kind, name)
        if kept is None:
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no {kind}/{name}", "name")
        return self._view(kept)

    def page(self, request: Request) -> Page:
        """A part of the list; see the operation ``objects``."""
        kind, sort = str(request.text("kind")), str(request.text("sort"))
        wanted, source = (request.text("q") or "").casefold(), request.text("source")
        backward, column = sort.startswith("-"), sort.removeprefix("-")
        found = sorted(
            self._positions(kind, column, wanted, source), key=lambda one: one[0], reverse=backward
        )
        total, cursor = len(found), request.text("cursor")
        if cursor is not None:
            end = _position(cursor, column)
            found = [one for one in found if (one[0] < end if backward else one[0] > end)]
        limit = request.number("limit")
        following = _cursor(found[limit - 1][0]) if len(found) > limit else None
        items = [
            of_file(kind, name, what) if isinstance(what, Mapping) else self._view(what)
            for (_, name), what in found[:limit]
        ]
        result: Page = {"items": list(map(dict, items)), "next": following, "total": total}
        return result

    def _positions(
        self, kind: str, column: str, wanted: str, source: str | None
    ) -> "Iterator[tuple[Position, Kept | Mapping[str, object]]]":
        of_the_file = self._of_file(kind)
        if source != "store":
            for name, table in of_the_file.items():
                if not wanted or wanted in name.casefold() or _mentions(kind, table, wanted):
                    yield (name if column == "name" else 0.0, name), table
        if source != "file":
            for name, kept in self._known.of(kind).items():
                if name in of_the_file:
                    continue
                if not wanted or wanted in name.casefold() or _has(kept.document, wanted):
                    value: float | str = name if column == "name" else getattr(kept, column)
                    yield (value, name), kept

    def _view(self, kept: "Kept") -> StoredObject:
        return of_store(kept, self._around.config().broken.get((kept.kind, kept.name), ()))

    def _of_file(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        if kind == "users":
            base = self._around.backends.file_users
            users = base.entries.values() if base is not None else ()
            return {
                one.name: {"groups": list(one.groups), "enabled": one.enabled, "password": "-"}
                for one in users
            }
        found = self._source.in_file(kind)
        if kind == "mobile_nodes":
            return {**found, **self._nodes_file()}
        return found

    def _nodes_file(self) -> Mapping[str, Mapping[str, object]]:
        config = self._around.config()
        if config.mobility.mobile_nodes_file is None:
            return {}
        try:
            nodes = all_nodes(config)
        except ConfigError:
            return {}
        return {
            name: node.model_dump(mode="json", exclude_unset=True)
            for name, node in nodes.items()
            if name not in config.mobile_nodes
        }


def _mentions(kind: str, table: Mapping[str, object], wanted: str) -> bool:
    return _has(of_file(kind, "", table)["document"], wanted)


def _has(value: object, wanted: str) -> bool:
    """Whether a value of a document contains this text, in any case."""
    if isinstance(value, Mapping):
        return any(_has(one, wanted) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_has(one, wanted) for one in value)
    return not isinstance(value, bool) and wanted in str(value).casefold()


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _position(cursor: str, column: str) -> Position:
    try:
        value, name = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, binascii.Error, TypeError):
        value, name = None, None
    right = str if column == "name" else int | float
    if not isinstance(value, right) or not isinstance(name, str):
        why = "cursor: give the `next` of the page before, with the same `sort`"
        raise ControlError(ErrorCode.INVALID, why, "cursor")
    return value, name

"""Configured objects: documents by kind and name, their secrets sealed apart."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Row, Text, and_, cast, delete, func, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from gateway.store.errors import ExistsError, NotThereError, SealError, VersionError
from gateway.store.schema import OBJECTS
from gateway.store.sealing import Sealer

Document = dict[str, object]
Position = tuple[str | float, str, str]
"""Where a page ended: value of the sorted column, kind, name."""

SORTS: Final = ("name", "created_at", "changed_at", "version")
"""What lists can be sorted by; a minus before it turns the order round."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One configured object."""

    kind: str
    name: str
    version: int
    """1 at first; one more with each change."""
    document: Document
    """As its section of gateway.toml, without secrets."""
    created_at: float
    changed_at: float
    secrets: Document = field(default_factory=dict, repr=False)
    """Secrets by whatever name the caller gave them; empty unless they were asked for."""
    damaged: str | None = None
    """Why its secrets cannot be opened."""


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """A part of a list."""

    items: tuple[StoredObject, ...]
    next: Position | None
    """Give it as ``after`` to get the next part; None: this was the last."""
    total: int
    """How many fit, in all parts."""


class ObjectRepository:
    """Objects within the transaction of ``connection``."""

    def __init__(
        self,
        connection: Connection,
        sealer: Sealer,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._sealer = sealer
        self._wall_clock = wall_clock

    def get(self, kind: str, name: str, *, with_secrets: bool = False) -> StoredObject:
        """Raises :class:`NotThereError`."""
        row = self._connection.execute(select(OBJECTS).where(*_same(kind, name))).one_or_none()
        if row is None:
            raise NotThereError(f"{kind}/{name}: there is none")
        return self._object(row, with_secrets)

    def all(
        self, kind: str | None = None, *, with_secrets: bool = False
    ) -> tuple[StoredObject, ...]:
        """Every object (of a kind), by kind and name."""
        wanted = select(OBJECTS).order_by(OBJECTS.c.kind, OBJECTS.c.name)
        if kind is not None:
            wanted = wanted.where(OBJECTS.c.kind == kind)
        return tuple(self._object(row, with_secrets) for row in self._connection.execute(wanted))

    def list(
        self,
        kind: str | None = None,
        *,
        q: str | None = None,
        where: Mapping[str, object] | None = None,
        sort: str = "name",
        limit: int = 100,
        after: Position | None = None,
    ) -> ObjectPage:
        """A part of those that fit.

        ``q`` is part of the name or of a value, in any case; ``where`` demands values of top-level
        fields of the document. Raises ValueError when ``sort`` is none of :data:`SORTS`.
        """
        wanted = _filters(kind, q, where)
        total = self._connection.scalar(select(func.count()).select_from(OBJECTS).where(*wanted))
        column_name = sort.removeprefix("-")
        if column_name not in SORTS:
            raise ValueError(f"sort = {sort!r}: {', '.join(SORTS)} are allowed, - before it")
        columns = (OBJECTS.c[column_name], OBJECTS.c.kind, OBJECTS.c.name)
        backward = sort.startswith("-")
        rows = self._connection.execute(
            select(OBJECTS)
            .where(*wanted, *_beyond(columns, after, backward=backward))
            .order_by(*(column.desc() if backward else column for column in columns))
            .limit(limit + 1)
        ).all()
        more = len(rows) > limit
        items = tuple(self._object(row, with_secrets=False) for row in rows[:limit])
        end = None
        if more and items:
            last = rows[limit - 1]
            end = (getattr(last, column_name), str(last.kind), str(last.name))
        return ObjectPage(items, end, int(total or 0))

    def create(
        self, kind: str, name: str, document: Document, secrets: Document | None = None
    ) -> StoredObject:
        """Raises :class:`ExistsError`."""
        taken = select(OBJECTS.c.version).where(*_same(kind, name))
        if self._connection.execute(taken).first() is not None:
            raise ExistsError(f"{kind}/{name}: is there already")
        now = self._wall_clock()
        self._connection.execute(
            insert(OBJECTS).values(
                kind=kind,
                name=name,
                version=1,
                document=document,
                secrets=self._sealed(kind, name, secrets or {}),
                created_at=now,
                changed_at=now,
            )
        )
        return StoredObject(kind, name, 1, document, now, now, secrets or {})

    def replace(
        self,
        kind: str,
        name: str,
        document: Document,
        secrets: Document | None = None,
        *,
        version: int | None = None,
    ) -> StoredObject:
        """Put ``document`` and ``secrets`` in place of what was there (None: secrets stay).

        ``version`` is the one that was read; None overwrites whatever is there. Raises
        :class:`NotThereError`, :class:`VersionError`.
        """
        before = self._check(kind, name, version)
        values: dict[str, object] = {
            "document": document,
            "version": before.version + 1,
            "changed_at": self._wall_clock(),
        }
        if secrets is not None:
            values["secrets"] = self._sealed(kind, name, secrets)
        self._connection.execute(update(OBJECTS).where(*_same(kind, name)).values(values))
        return self.get(kind, name, with_secrets=True)

    def delete(self, kind: str, name: str, *, version: int | None = None) -> StoredObject:
        """Remove it; what it was. Raises :class:`NotThereError`, :class:`VersionError`."""
        before = self._check(kind, name, version)
        self._connection.execute(delete(OBJECTS).where(*_same(kind, name)))
        return before

    def _check(self, kind: str, name: str, version: int | None) -> StoredObject:
        locked = select(OBJECTS).where(*_same(kind, name)).with_for_update()
        row = self._connection.execute(locked).one_or_none()
        if row is None:
            raise NotThereError(f"{kind}/{name}: there is none")
        there = self._object(row, with_secrets=False)
        if version is not None and version != there.version:
            raise VersionError(
                f"{kind}/{name}: version {version} was changed meanwhile, {there.version} is there",
                there.version,
            )
        return there

    def _sealed(self, kind: str, name: str, secrets: Document) -> bytes | None:
        if not secrets:
            return None
        plain = json.dumps(secrets, separators=(",", ":")).encode()
        return self._sealer.seal(_context(kind, name), plain)

    def _object(self, row: Row[tuple[object, ...]], with_secrets: bool) -> StoredObject:
        secrets: Document = {}
        damaged = None
        if with_secrets and row.secrets is not None:
            try:
                secrets = json.loads(
                    self._sealer.open(_context(row.kind, row.name), bytes(row.secrets))
                )
            except SealError as error:
                damaged = str(error)
        return StoredObject(
            row.kind,
            row.name,
            row.version,
            row.document,
            row.created_at,
            row.changed_at,
            secrets,
            damaged,
        )


def _context(kind: str, name: str) -> str:
    return f"object/{kind}/{name}"


def _same(kind: str, name: str) -> tuple[ColumnElement[bool], ...]:
    return (OBJECTS.c.kind == kind, OBJECTS.c.name == name)


def _filters(
    kind: str | None, q: str | None, where: Mapping[str, object] | None
) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if kind is not None:
        wanted.append(OBJECTS.c.kind == kind)
    if q:
        wanted.append(
            or_(
                OBJECTS.c.name.icontains(q, autoescape=True),
                cast(OBJECTS.c.document, Text).icontains(q, autoescape=True),
            )
        )
    for name, value in (where or {}).items():
        one = OBJECTS.c.document[name]
        if isinstance(value, bool):
            wanted.append(one.as_boolean() == value)
        elif isinstance(value, int):
            wanted.append(one.as_integer() == value)
        else:
            wanted.append(one.as_string() == str(value))
    return wanted


def _beyond(
    columns: tuple[ColumnElement[object], ...], after: Position | None, *, backward: bool
) -> list[ColumnElement[bool]]:
    if after is None:
        return []
    first, kind, name = columns
    value, last_kind, last_name = after

    def past(column: ColumnElement[object], end: object) -> ColumnElement[bool]:
        return column < end if backward else column > end

    return [
        or_(
            past(first, value),
            and_(first == value, past(kind, last_kind)),
            and_(first == value, kind == last_kind, past(name, last_name)),
        )
    ]

"""Who did what to what. Rows are only added; a trigger of the database demands it, too."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.sql import ColumnElement

from gateway.store.schema import AUDIT
from gateway.store.settings import AUDIT_DAYS, SettingRepository

Document = dict[str, object]
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody did. No secrets."""

    at: float
    """Seconds since the epoch."""
    actor: str
    remote: str
    action: str
    """Name of the operation."""
    target: str
    outcome: str
    """done, refused or failed."""
    before: Document | None = None
    after: Document | None = None
    detail: str | None = None
    id: int = 0
    """Rising; given by the database."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; what is None does not matter."""

    actor: str | None = None
    """Part of it, in any case."""
    action: str | None = None
    target: str | None = None
    """Part of it, in any case."""
    outcome: str | None = None
    since: float | None = None
    """At this time or later."""
    until: float | None = None
    """Before this time."""


class AuditRepository:
    """The audit within the transaction of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, entry: AuditEntry) -> int:
        """Add it; its id."""
        values = {column.name: getattr(entry, column.name) for column in AUDIT.c}
        del values["id"]
        return int(
            self._connection.execute(
                insert(AUDIT).values(values).returning(AUDIT.c.id)
            ).scalar_one()
        )

    def find(
        self, wanted: AuditFilter, *, limit: int = 100, before: int | None = None
    ) -> tuple[AuditEntry, ...]:
        """The newest entries that fit, newest first, with ids below ``before``."""
        query = select(AUDIT).where(*_where(wanted)).order_by(AUDIT.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AUDIT.c.id < before)
        return tuple(AuditEntry(**row._asdict()) for row in self._connection.execute(query))

    def count(self, wanted: AuditFilter) -> int:
        """How many fit."""
        query = select(func.count()).select_from(AUDIT).where(*_where(wanted))
        return int(self._connection.scalar(query) or 0)

    def trim(self, days: int, now: float) -> int:
        """Remove entries older than ``days``; how many. Nothing else removes any."""
        SettingRepository(self._connection).put(AUDIT_DAYS, days)
        gone = delete(AUDIT).where(AUDIT.c.at < now - days * DAY_S)
        return self._connection.execute(gone).rowcount


def _where(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if wanted.actor is not None:
        where.append(AUDIT.c.actor.icontains(wanted.actor, autoescape=True))
    if wanted.action is not None:
        where.append(AUDIT.c.action == wanted.action)
    if wanted.target is not None:
        where.append(AUDIT.c.target.icontains(wanted.target, autoescape=True))
    if wanted.outcome is not None:
        where.append(AUDIT.c.outcome == wanted.outcome)
    if wanted.since is not None:
        where.append(AUDIT.c.at >= wanted.since)
    if wanted.until is not None:
        where.append(AUDIT.c.at < wanted.until)
    return where

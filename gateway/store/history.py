"""What happened to devices: connected, moved, failed. Bounded by age and by rows."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from gateway.store.schema import HISTORY

MAX_ROWS: Final = 1_000_000
TRIM_ROWS: Final = 20_000
"""Rows that go at a time, so that nobody waits long for the database."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened."""

    at: float
    device: str
    """Its identity."""
    session: str
    """Correlation id."""
    what: str
    text: str
    fields: dict[str, object] = field(default_factory=dict)
    id: int = 0
    """Rising; given by the database."""


class HistoryRepository:
    """History within the transaction of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, entries: Iterable[HistoryEntry]) -> None:
        """Add them, thousands at a time."""
        names = [column.name for column in HISTORY.c if column.name != "id"]
        rows = [{name: getattr(one, name) for name in names} for one in entries]
        if rows:
            self._connection.execute(insert(HISTORY), rows)

    def find(
        self,
        device: str | None = None,
        *,
        what: str | None = None,
        session: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> tuple[HistoryEntry, ...]:
        """The newest entries that fit, newest first, with ids below ``before``."""
        query = select(HISTORY).order_by(HISTORY.c.id.desc()).limit(limit)
        if device is not None:
            query = query.where(HISTORY.c.device == device)
        if what is not None:
            query = query.where(HISTORY.c.what == what)
        if session is not None:
            query = query.where(HISTORY.c.session == session)
        if since is not None:
            query = query.where(HISTORY.c.at >= since)
        if until is not None:
            query = query.where(HISTORY.c.at < until)
        if before is not None:
            query = query.where(HISTORY.c.id < before)
        return tuple(HistoryEntry(**row._asdict()) for row in self._connection.execute(query))

    def trim(self, older_than: float, *, rows: int = MAX_ROWS) -> int:
        """Remove some of what is older, or more than ``rows``.

        Call again while it returns :data:`TRIM_ROWS`.
        """
        newest = self._connection.scalar(select(func.max(HISTORY.c.id))) or 0
        beyond = select(HISTORY.c.id).where(
            (HISTORY.c.at < older_than) | (HISTORY.c.id <= newest - rows)
        )
        gone = delete(HISTORY).where(HISTORY.c.id.in_(beyond.limit(TRIM_ROWS)))
        return self._connection.execute(gone).rowcount

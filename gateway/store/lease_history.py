"""Which session had which inner address when. Bounded by age and by rows."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Update,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from gateway.store.schema import LEASE_HISTORY

MAX_ROWS: Final = 1_000_000
TRIM_ROWS: Final = 20_000
"""Rows that go at a time, so that nobody waits long for the database."""
ENDED: Final = "ended"
LOST: Final = "lost"
"""Its session did not outlast a restart."""
RELEASED: Final = "released"
"""It ended, and an administrator gave the address free."""
_COLUMNS: Final = LEASE_HISTORY.c
_KEY: Final = ("session", "address")


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """One lease, past or present."""

    pool: str
    """Empty: another server gave it."""
    address: str
    identity: str
    """Who logged in, as the pool knows them."""
    user: str
    session: str
    connection: str
    opened_at: float
    """Seconds since the epoch, as all times here."""
    closed_at: float | None = None
    reason: str = ""
    """Why it ended."""
    id: int = 0
    """Rising; given by the database."""


class LeaseHistoryRepository:
    """The history of leases within the transaction of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, rows: Iterable[LeaseRow]) -> None:
        """In their order: one with ``closed_at`` ends the lease of its session and address.

        One that begins and is there already is not written twice.
        """
        for ends, some in groupby(rows, lambda one: one.closed_at is not None):
            if ends:
                self._connection.execute(_close(), [_closed(one) for one in some])
            else:
                self._connection.execute(_open(), [_opened(one) for one in some])

    def settle(self, held: Collection[tuple[str, str]], now: float) -> int:
        """After a restart: leases but these (session, address) ended before. How many did."""
        opened = select(_COLUMNS.id, _COLUMNS.session, _COLUMNS.address).where(
            _COLUMNS.closed_at.is_(None)
        )
        lost = [
            {"b_id": row.id}
            for row in self._connection.execute(opened)
            if (row.session, row.address) not in held
        ]
        if lost:
            end = update(LEASE_HISTORY).where(_COLUMNS.id == bindparam("b_id"))
            self._connection.execute(end.values(closed_at=now, reason=LOST), lost)
        return len(lost)

    def open_since(self) -> dict[tuple[str, str], float]:
        """Since when leases are held, by session and address."""
        opened = select(_COLUMNS.session, _COLUMNS.address, _COLUMNS.opened_at).where(
            _COLUMNS.closed_at.is_(None)
        )
        return {
            (row.session, row.address): row.opened_at for row in self._connection.execute(opened)
        }

    def release(self, pool: str, address: str) -> None:
        """The address is kept for its last device no longer; see :meth:`left_since`."""
        last = (
            select(func.max(_COLUMNS.id))
            .where(_COLUMNS.address == address, _COLUMNS.pool == pool)
            .scalar_subquery()
        )
        self._connection.execute(
            update(LEASE_HISTORY)
            .where(_COLUMNS.id == last, _COLUMNS.closed_at.is_not(None))
            .values(reason=RELEASED)
        )

    def left_since(self, since: float, limit: int) -> Iterator[LeaseRow]:
        """The last lease of each address that ended after ``since``: the newest, oldest first.

        Without those that were released.
        """
        last = select(func.max(_COLUMNS.id)).group_by(_COLUMNS.address).scalar_subquery()
        wanted = (
            select(LEASE_HISTORY)
            .where(_COLUMNS.closed_at > since, _COLUMNS.id.in_(last), _COLUMNS.reason != RELEASED)
            .order_by(_COLUMNS.closed_at.desc())
            .limit(limit)
        )
        for row in reversed(self._connection.execute(wanted).all()):
            yield LeaseRow(**row._asdict())

    def find(
        self,
        *,
        pool: str | None = None,
        address: str | None = None,
        q: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> tuple[LeaseRow, ...]:
        """The newest that fit, newest first, with ids below ``before``.

        ``q`` is a part of the identity, the user, the session or the address, in any case.
        """
        query = select(LEASE_HISTORY).order_by(_COLUMNS.id.desc()).limit(limit)
        query = query.where(*_where(pool, address, q))
        if before is not None:
            query = query.where(_COLUMNS.id < before)
        return tuple(LeaseRow(**row._asdict()) for row in self._connection.execute(query))

    def count(
        self, *, pool: str | None = None, address: str | None = None, q: str | None = None
    ) -> int:
        """How many fit; see :meth:`find`."""
        wanted = select(func.count()).select_from(LEASE_HISTORY).where(*_where(pool, address, q))
        return int(self._connection.scalar(wanted) or 0)

    def trim(self, older_than: float, *, rows: int = MAX_ROWS) -> int:
        """Remove some of what ended earlier, or of more than ``rows``. Open leases stay.

        Call again while it returns :data:`TRIM_ROWS`.
        """
        newest = self._connection.scalar(select(func.max(_COLUMNS.id))) or 0
        beyond = or_(_COLUMNS.id <= newest - rows, _COLUMNS.closed_at < older_than)
        some = select(_COLUMNS.id).where(_COLUMNS.closed_at.is_not(None), beyond)
        gone = delete(LEASE_HISTORY).where(_COLUMNS.id.in_(some.limit(TRIM_ROWS)))
        return self._connection.execute(gone).rowcount


def _where(pool: str | None, address: str | None, q: str | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if pool is not None:
        found.append(_COLUMNS.pool == pool)
    if address is not None:
        found.append(_COLUMNS.address == address)
    if q:
        columns = (_COLUMNS.identity, _COLUMNS.user, _COLUMNS.session, _COLUMNS.address)
        found.append(or_(*(one.icontains(q, autoescape=True) for one in columns)))
    return found


@cache
def _open() -> Insert:
    names = [column.name for column in LEASE_HISTORY.c if column.name not in {"id", "closed_at"}]
    there = exists().where(
        _COLUMNS.closed_at.is_(None), *(_COLUMNS[name] == _given(name) for name in _KEY)
    )
    return insert(LEASE_HISTORY).from_select(names, select(*map(_given, names)).where(~there))


@cache
def _close() -> Update:
    at = bindparam("at", type_=_COLUMNS.closed_at.type)
    return (
        update(LEASE_HISTORY)
        .where(_COLUMNS.closed_at.is_(None), *(_COLUMNS[name] == _given(name) for name in _KEY))
        .values(
            closed_at=case((_COLUMNS.opened_at > at, _COLUMNS.opened_at), else_=at),
            reason=bindparam("why"),
        )
    )


def _given(name: str) -> ColumnElement[object]:
    return bindparam(f"b_{name}", type_=_COLUMNS[name].type)


def _opened(row: LeaseRow) -> dict[str, object]:
    return {
        "b_pool": row.pool[:63],
        "b_address": row.address,
        "b_identity": row.identity[:256],
        "b_user": row.user[:253],
        "b_session": row.session[:63],
        "b_connection": row.connection[:63],
        "b_opened_at": row.opened_at,
        "b_reason": "",
    }


def _closed(row: LeaseRow) -> dict[str, object]:
    return {
        "b_session": row.session[:63],
        "b_address": row.address,
        "at": row.closed_at,
        "why": row.reason[:63],
    }

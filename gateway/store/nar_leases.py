"""Who held which part of an address when: the NAR servers' audit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from itertools import groupby
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Row,
    Update,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.store.schema import NAR_AUDIT

TRIM_ROWS: Final = 20_000
"""Rows that go at a time, so that nobody waits long for the database."""
LOST: Final = "not taken up after a restart"
_ANY_PORT: Final = -1
_REASON_CHARACTERS: Final = 253
_SAME: Final = ("protocol", "value", "address", "remote", "remote_port", "client")
_COLUMNS: Final = NAR_AUDIT.c


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """A lease that begins or ends."""

    begins: bool
    server: str
    user: str
    """Empty: needed no login."""
    mapping: NarMapping
    at: float
    """Seconds since 1970."""
    reason: str = ""
    """Why it ends."""


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which leases; what is None does not matter. Newest first, in pages."""

    address: IPv4Address | None = None
    """Nb."""
    protocol: NarProtocol | None = None
    value: int | None = None
    """Port, identifier, SPI or inner destination."""
    at_s: float | None = None
    """Who held it at this moment, in seconds since 1970."""
    user: str | None = None
    client: IPv4Address | None = None
    server: str | None = None
    before: int | None = None
    """Rows older than the one with this :attr:`AuditRow.id`."""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One lease, past or present."""

    id: int
    """Rising."""
    server: str
    user: str
    """Empty: needed no login."""
    client: str
    """Xa."""
    mapping: NarMapping
    opened_s: float
    """Seconds since 1970."""
    closed_s: float | None
    """None: it is still held."""
    reason: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much the audit keeps."""

    rows: int
    age_s: float


class NarLeaseRepository:
    """Leases within the transaction of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, changes: Iterable[LeaseChange]) -> None:
        """In their order. One that begins and is there already is not written twice."""
        for begins, some in groupby(changes, lambda one: one.begins):
            if begins:
                rows = [{f"b_{name}": v for name, v in _opened(one).items()} for one in some]
                self._connection.execute(_open(), rows)
            else:
                self._connection.execute(_close(), [_closed(one) for one in some])

    def copy(self, rows: Sequence[AuditRow]) -> None:
        """Take in rows of elsewhere, oldest first; they get ids of their own."""
        values = []
        for row in rows:
            change = LeaseChange(True, row.server, row.user, row.mapping, row.opened_s)
            end = {"closed_at": row.closed_s, "reason": row.reason[:_REASON_CHARACTERS]}
            values.append({**_opened(change), **end})
        if values:
            self._connection.execute(insert(NAR_AUDIT), values)

    def settle(self, held: Iterable[NarTuple], now_s: float, waiting: Sequence[str] = ()) -> int:
        """After a restart: leases that nobody holds any more ended somewhere before now.

        Servers that are ``waiting`` say later what became of theirs. Gives how many ended.
        """
        known = {_key(one) for one in held}
        rows = self._connection.execute(
            select(
                _COLUMNS.id,
                _COLUMNS.server,
                _COLUMNS.protocol,
                _COLUMNS.value,
                _COLUMNS.address,
                _COLUMNS.remote,
                _COLUMNS.remote_port,
            ).where(_COLUMNS.closed_at.is_(None))
        )
        lost = [
            {"b_id": row.id} for row in rows if row.server not in waiting and row[2:] not in known
        ]
        if lost:
            end = update(NAR_AUDIT).where(_COLUMNS.id == bindparam("b_id"))
            self._connection.execute(end.values(closed_at=now_s, reason=LOST), lost)
        return len(lost)

    def trim(self, bounds: Bounds, now_s: float) -> int:
        """Remove some of what is beyond the bounds; call again while it returns TRIM_ROWS.

        Leases that are still held stay.
        """
        newest = self._connection.scalar(select(func.max(_COLUMNS.id))) or 0
        beyond = or_(_COLUMNS.id <= newest - bounds.rows, _COLUMNS.closed_at < now_s - bounds.age_s)
        some = select(_COLUMNS.id).where(_COLUMNS.closed_at.is_not(None), beyond)
        gone = delete(NAR_AUDIT).where(_COLUMNS.id.in_(some.limit(TRIM_ROWS)))
        return self._connection.execute(gone).rowcount

    def find(self, query: AuditQuery) -> list[AuditRow]:
        """The newest rows that fit, at most ``limit``."""
        wanted = select(NAR_AUDIT).where(*_where(query))
        newest_first = wanted.order_by(_COLUMNS.id.desc()).limit(query.limit)
        return [_row(row) for row in self._connection.execute(newest_first)]

    def count(self, query: AuditQuery) -> int:
        """How many rows fit."""
        wanted = select(func.count()).select_from(NAR_AUDIT).where(*_where(query))
        return int(self._connection.scalar(wanted) or 0)


@cache
def _open() -> Insert:
    names = [column.name for column in NAR_AUDIT.c if column.name not in {"id", "closed_at"}]
    there = exists().where(
        _COLUMNS.closed_at.is_(None),
        *(_COLUMNS[name] == _given(name) for name in (*_SAME, "user", "server")),
    )
    return insert(NAR_AUDIT).from_select(names, select(*map(_given, names)).where(~there))


@cache
def _close() -> Update:
    at = bindparam("at", type_=_COLUMNS.closed_at.type)
    return (
        update(NAR_AUDIT)
        .where(_COLUMNS.closed_at.is_(None), *(_COLUMNS[n] == _given(n) for n in _SAME))
        .values(
            closed_at=case((_COLUMNS.opened_at > at, _COLUMNS.opened_at), else_=at),
            reason=bindparam("why"),
        )
    )


def _given(name: str) -> ColumnElement[object]:
    return bindparam(f"b_{name}", type_=_COLUMNS[name].type)


def _where(query: AuditQuery) -> list[ColumnElement[bool]]:
    at = query.at_s
    wanted: list[tuple[object, Callable[[], ColumnElement[bool]]]] = [
        (query.server, lambda: _COLUMNS.server == query.server),
        (query.user, lambda: _COLUMNS.user == query.user),
        (query.client, lambda: _COLUMNS.client == str(query.client)),
        (query.protocol, lambda: _COLUMNS.protocol == int(query.protocol or 0)),
        (query.address, lambda: _COLUMNS.address == str(query.address)),
        (query.value, lambda: _COLUMNS.value == query.value),
        (at, lambda: _COLUMNS.opened_at <= at),
        (at, lambda: or_(_COLUMNS.closed_at.is_(None), _COLUMNS.closed_at > literal(at))),
        (query.before, lambda: _COLUMNS.id < query.before),
    ]
    return [condition() for value, condition in wanted if value is not None]


def _key(one: NarTuple) -> tuple[int, int, str, str, int]:
    """Protocol, value, address, remote and its port as they are in the table."""
    remote = "" if one.remote is None else str(one.remote)
    port = _ANY_PORT if one.remote_port is None else one.remote_port
    return int(one.protocol), one.value, str(one.address), remote, port


def _same(mapping: NarMapping) -> dict[str, object]:
    return dict(zip(_SAME, (*_key(mapping.tuple), str(mapping.client)), strict=True))


def _opened(change: LeaseChange) -> dict[str, object]:
    mapping = change.mapping
    return {
        **_same(mapping),
        "server": change.server,
        "user": change.user[:253],
        "client_port": mapping.client_port,
        "peer": "" if mapping.peer is None else str(mapping.peer),
        "delivery": mapping.delivery.value,
        "opened_at": change.at,
        "reason": "",
    }


def _closed(change: LeaseChange) -> dict[str, object]:
    values = {f"b_{name}": value for name, value in _same(change.mapping).items()}
    return {**values, "at": change.at, "why": change.reason[:_REASON_CHARACTERS]}


def _row(row: "Row[tuple[object, ...]]") -> AuditRow:
    key = NarTuple(
        NarProtocol(row.protocol),
        IPv4Address(row.address),
        row.value,
        _address(row.remote),
        None if row.remote_port == _ANY_PORT else row.remote_port,
    )
    mapping = NarMapping(
        row.server,
        key,
        IPv4Address(row.client),
        Delivery(row.delivery),
        row.client_port,
        _address(row.peer),
    )
    return AuditRow(
        row.id,
        row.server,
        row.user,
        row.client,
        mapping,
        row.opened_at,
        row.closed_at,
        row.reason,
    )


def _address(text: str) -> IPv4Address | None:
    return IPv4Address(text) if text else None

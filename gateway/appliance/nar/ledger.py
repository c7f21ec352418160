"""The SQLite file of the NAR servers: sessions for the next process, and who held what when.

Everything here waits for the disk: call it in a thread, one call at a time.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import groupby
from pathlib import Path
from typing import Final

from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.nar.outputs import LeaseClosed, LeaseOpened

FILE_NAME: Final = "nar.sqlite"
TRIM_ROWS: Final = 20_000
"""Rows that go at a time, so that nobody waits long for the file."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (server TEXT, key TEXT, record BLOB NOT NULL,
  PRIMARY KEY (server, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY AUTOINCREMENT, server TEXT NOT NULL,
  user TEXT NOT NULL, client INTEGER NOT NULL, client_port INTEGER NOT NULL,
  protocol INTEGER NOT NULL, address INTEGER NOT NULL, value INTEGER NOT NULL,
  remote INTEGER NOT NULL, remote_port INTEGER NOT NULL, peer INTEGER NOT NULL,
  delivery TEXT NOT NULL,  opened_s REAL NOT NULL, closed_s REAL, reason TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS lease_by_value ON lease (protocol, value, address);
CREATE INDEX IF NOT EXISTS lease_by_client ON lease (client);
CREATE INDEX IF NOT EXISTS lease_by_user ON lease (user);
CREATE INDEX IF NOT EXISTS lease_by_end ON lease (closed_s);
CREATE INDEX IF NOT EXISTS lease_open ON lease (protocol, value, address) WHERE closed_s IS NULL;
"""
_KEEP = "INSERT INTO session VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record"
_FORGET = "DELETE FROM session WHERE server = ? AND key = ?"
_SAME = "protocol = ? AND value = ? AND address = ? AND remote = ? AND remote_port = ?"
_OPEN = """
INSERT INTO lease (server, user, client, client_port, protocol, value, address, remote,
  remote_port, peer, delivery, opened_s)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 WHERE NOT EXISTS (
  SELECT 1 FROM lease WHERE closed_s IS NULL AND protocol = ?5 AND value = ?6 AND address = ?7
  AND remote = ?8 AND remote_port = ?9 AND client = ?3 AND user = ?2 AND server = ?1)
"""
_CLOSE = f"""
UPDATE lease SET closed_s = max(?, opened_s), reason = ?
WHERE closed_s IS NULL AND {_SAME} AND client = ?
"""  # noqa: S608 - column names only
_COLUMNS = (
    "id, server, user, client, client_port, protocol, address, value, remote, remote_port,"
    " peer, delivery, opened_s, closed_s, reason"
)

AuditRecord = LeaseOpened | LeaseClosed
SessionChanges = dict[tuple[str, str], bytes | None]


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


class Ledger:
    """The open file. Raises sqlite3.Error and OSError from everything."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        self._db = sqlite3.connect(file, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    def _together(self, work: Callable[[], object]) -> None:
        """All of it or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            work()
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    # -- sessions --------------------------------------------------------------------------

    def sessions(self) -> dict[str, list[bytes]]:
        """What an earlier process left, by server."""
        found: dict[str, list[bytes]] = {}
        for server, record in self._db.execute("SELECT server, record FROM session"):
            found.setdefault(str(server), []).append(bytes(record))
        return found

    def session_keys(self) -> Iterator[tuple[str, str]]:
        """Server and key of each record that is there."""
        rows = self._db.execute("SELECT server, key FROM session")
        return ((str(server), str(key)) for server, key in rows)

    # -- audit -----------------------------------------------------------------------------

    def write(self, sessions: SessionChanges, audit: Sequence[AuditRecord]) -> None:
        """Both, in one transaction; the audit in its order."""

        def work() -> None:
            gone = [key for key, record in sessions.items() if record is None]
            kept = [(*key, record) for key, record in sessions.items() if record is not None]
            self._db.executemany(_FORGET, gone)
            self._db.executemany(_KEEP, kept)
            for kind, records in groupby(audit, type):
                if kind is LeaseOpened:
                    self._db.executemany(_OPEN, map(_opened, records))
                else:
                    self._db.executemany(_CLOSE, map(_closed, records))

        self._together(work)

    def settle(
        self,
        held: Iterable[NarTuple],
        servers: Sequence[str],
        now_s: float,
        waiting: Sequence[str] = (),
    ) -> int:
        """After a restart: leases that nobody holds any more ended somewhere before now.

        Sessions of servers that there are no more go. Servers that are ``waiting`` say later what
        became of theirs.
        """
        known = {_key(one) for one in held}
        rows = self._db.execute(
            "SELECT id, server, protocol, value, address, remote, remote_port FROM lease"
            " WHERE closed_s IS NULL"
        )
        lost = [
            (now_s, row[0]) for row in rows if row[1] not in waiting and tuple(row[2:]) not in known
        ]
        end = "UPDATE lease SET closed_s = ?, reason = 'not taken up after a restart' WHERE id = ?"
        known_servers = ", ".join("?" * len(servers))
        forget = f"DELETE FROM session WHERE server NOT IN ({known_servers})"  # noqa: S608

        def work() -> None:
            self._db.executemany(end, lost)
            self._db.execute(forget, servers)

        self._together(work)
        return len(lost)

    def trim(self, bounds: Bounds, now_s: float) -> int:
        """Remove some of what is beyond the bounds; call again while it returns TRIM_ROWS.

        Leases that are still held stay.
        """
        newest = self._db.execute("SELECT max(id) FROM lease").fetchone()[0] or 0
        limits = (newest - bounds.rows, now_s - bounds.age_s, TRIM_ROWS)
        select = (
            "SELECT id FROM lease WHERE closed_s IS NOT NULL AND (id <= ? OR closed_s < ?) LIMIT ?"
        )
        gone = self._db.execute(f"DELETE FROM lease WHERE id IN ({select})", limits)  # noqa: S608
        return gone.rowcount

    def find(self, query: AuditQuery) -> list[AuditRow]:
        """The newest rows that fit, at most ``limit``."""
        where, values = _where(query)
        select = f"SELECT {_COLUMNS} FROM lease WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
        return [_row(row) for row in self._db.execute(select, [*values, query.limit])]

    def count(self, query: AuditQuery) -> int:
        """How many rows fit."""
        where, values = _where(query)
        select = f"SELECT count(*) FROM lease WHERE {where}"  # noqa: S608
        return int(self._db.execute(select, values).fetchone()[0])


def _where(query: AuditQuery) -> tuple[str, list[object]]:
    wanted: list[tuple[str, object]] = [
        ("server = ?", query.server),
        ("user = ?", query.user),
        ("client = ?", None if query.client is None else int(query.client)),
        ("protocol = ?", None if query.protocol is None else int(query.protocol)),
        ("address = ?", None if query.address is None else int(query.address)),
        ("value = ?", query.value),
        ("opened_s <= ?", query.at_s),
        ("coalesce(closed_s, 9e99) > ?", query.at_s),
        ("id < ?", query.before),
    ]
    given = [(text, value) for text, value in wanted if value is not None]
    return " AND ".join(text for text, _ in given) or "1", [value for _, value in given]


def _key(one: NarTuple) -> tuple[int, int, int, int, int]:
    """In the order of :data:`_SAME`; -1 stands for any."""
    remote = -1 if one.remote is None else int(one.remote)
    port = -1 if one.remote_port is None else one.remote_port
    return int(one.protocol), one.value, int(one.address), remote, port


def _opened(record: AuditRecord) -> tuple[object, ...]:
    mapping = record.mapping
    return (
        record.server,
        record.user,
        int(mapping.client),
        mapping.client_port,
        *_key(mapping.tuple),
        -1 if mapping.peer is None else int(mapping.peer),
        mapping.delivery.value,
        record.wall_s,
    )


def _closed(record: AuditRecord) -> tuple[object, ...]:
    mapping = record.mapping
    reason = record.reason if isinstance(record, LeaseClosed) else ""
    return (record.wall_s, reason, *_key(mapping.tuple), int(mapping.client))


def _row(row: Sequence[object]) -> AuditRow:
    number, server, user, client, client_port, protocol, address, value, remote, port = row[:10]
    peer, delivery, opened_s, closed_s, reason = row[10:]
    key = NarTuple(
        NarProtocol(_int(protocol)),
        IPv4Address(_int(address)),
        _int(value),
        _address(remote),
        None if port == -1 else _int(port),
    )
    host = IPv4Address(_int(client))
    mapping = NarMapping(
        str(server), key, host, Delivery(delivery), _int(client_port), _address(peer)
    )
    return AuditRow(
        _int(number),
        str(server),
        str(user),
        str(host),
        mapping,
        float(str(opened_s)),
        None if closed_s is None else float(str(closed_s)),
        str(reason),
    )


def _address(value: object) -> IPv4Address | None:
    return None if value == -1 else IPv4Address(_int(value))


def _int(value: object) -> int:
    return int(str(value))

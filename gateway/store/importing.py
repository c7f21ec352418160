"""Reads what :mod:`gateway.store.export` wrote: all of it or nothing, and nothing on trust."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from gateway.store.errors import ImportRefusedError, SealError
from gateway.store.export import CONFIGURATION, OWN_SETTINGS, RECORDS, Row
from gateway.store.import_file import (
    TABLES,
    head_of,
    lines_of,
    open_secret,
    row_of,
    seal_secret,
    sealer_of,
)
from gateway.store.objects import Document
from gateway.store.schema import (
    ADMINISTRATORS,
    CERTIFICATES,
    OBJECTS,
    SETTINGS,
    TOKENS,
    WEB_SESSIONS,
)
from gateway.store.sealing import Sealer

MAX_OBJECTS: Final = 200_000
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Import:
    """A file that was read through once and found whole."""

    file: Path
    made_at: float
    program: str
    has_secrets: bool
    rows: Mapping[str, int]
    """By table."""
    objects: Mapping[tuple[str, str], tuple[Document, Document | None]] = field(repr=False)
    """Documents and secrets by kind and name, to be judged by whoever knows what they mean; None:
    the file has none, so those that are there stay."""
    sealer: Sealer | None = field(repr=False)
    """Opens the secrets of the file."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an import did, or would do."""

    created: tuple[tuple[str, str], ...]
    """Kind and name of objects that were not there."""
    changed: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]
    rows: Mapping[str, int]
    """Rows written, by table."""
    left_out: Mapping[str, str]
    """Why what the file has of a table was not written."""


class _Undo(Exception):  # noqa: N818 - it is no error
    """Ends a transaction that was to be tried only."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


def read(file: Path, own: Sealer, passphrase: str | None = None) -> Import:
    """Look through ``file``. ``own`` opens backups, ``passphrase`` what was sealed under one.

    Raises :class:`ImportRefusedError`, :class:`WrongKeyError`, :class:`UnavailableError`.
    """
    lines = lines_of(file)
    _, head = next(lines, (0, None))
    if head is None:
        raise ImportRefusedError("", "the file is empty")
    made_at, program = head_of(head)
    sealer = sealer_of(head, own, passphrase)
    counts: Counter[str] = Counter()
    objects: dict[tuple[str, str], tuple[Document, Document | None]] = {}
    for number, line in lines:
        table, row = row_of(number, line)
        counts[table.name] += 1
        open_secret(number, table, row, sealer)
        if table is OBJECTS:
            _take_object(number, row, objects, has_secrets=sealer is not None)
    return Import(file, made_at, program, sealer is not None, dict(counts), objects, sealer)


def _take_object(
    number: int,
    row: Row,
    objects: dict[tuple[str, str], tuple[Document, Document | None]],
    *,
    has_secrets: bool,
) -> None:
    name = (str(row["kind"]), str(row["name"]))
    where = f"line {number}: object {name[0]}/{name[1]}"
    if name in objects:
        raise ImportRefusedError(where, "is there twice")
    if len(objects) >= MAX_OBJECTS:
        raise ImportRefusedError(where, f"at most {MAX_OBJECTS} objects are taken")
    document, secrets = row["document"], row["secrets"]
    if not isinstance(document, dict):
        raise ImportRefusedError(f"{where}: document", "must be an object")
    opened: object = {}
    if isinstance(secrets, bytes):
        try:
            opened = json.loads(secrets)
        except (ValueError, RecursionError):
            opened = None
        if not isinstance(opened, dict):
            raise ImportRefusedError(f"{where}: secrets", "must be an object")
    objects[name] = (document, opened if has_secrets and isinstance(opened, dict) else None)


def apply(
    connection: Connection, wanted: Import, own: Sealer, *, now: float, dry_run: bool = False
) -> Outcome:
    """Put ``wanted`` in place of what is configured, within the transaction of ``connection``.

    What the file has no secrets of keeps those that are there; logins and tokens without secrets
    stay as they are. What was revoked stays revoked. What happened (usage, audit, history, NAR
    leases) is taken only where nothing is there yet. With ``dry_run`` nothing is changed. Raises
    :class:`ImportRefusedError`.
    """
    if not dry_run:
        return _apply(connection, wanted, own, now)
    try:
        with connection.begin_nested():
            raise _Undo(_apply(connection, wanted, own, now))
    except _Undo as undone:
        return undone.outcome


def _apply(connection: Connection, wanted: Import, own: Sealer, now: float) -> Outcome:
    before = _objects_before(connection)
    left_out: dict[str, str] = {}
    sealed = connection.execute(select(CERTIFICATES.c.serial, CERTIFICATES.c.key))
    keys = {row.serial: row.key for row in sealed}
    revoked, people = _revoked(connection), _people(connection)
    for table in TABLES.values():
        if table.name not in wanted.rows and table not in CONFIGURATION:
            continue
        if table in RECORDS:
            if connection.scalar(
                select(func.count()).select_from(table.select().limit(1).subquery())
            ):
                left_out[table.name] = "there are some already, which stay as they are"
        elif table is SETTINGS:
            connection.execute(delete(SETTINGS).where(SETTINGS.c.name.not_in(OWN_SETTINGS)))
        elif wanted.has_secrets or table not in {TOKENS, ADMINISTRATORS}:
            connection.execute(delete(table))
        else:
            left_out[table.name] = "the file has no secrets; they stay as they are"

    def ready(table: Table, row: Row) -> Row:
        if table is OBJECTS:
            return _object_row(row, before, own, wanted, now)
        if table is CERTIFICATES and row["key"] is None and not wanted.has_secrets:
            row["key"] = keys.get(str(row["serial"]))
        else:
            seal_secret(table, row, own)
        return row

    written = _write(connection, wanted, left_out, ready)
    _revoke_again(connection, revoked)
    for who in {who for who, _ in people.items() ^ _people(connection).items()}:
        # Whoever logged in with another password, or in another role, logs in again.
        connection.execute(delete(WEB_SESSIONS).where(WEB_SESSIONS.c.administrator == who))
    created, changed = [], []
    for name, (document, secrets) in wanted.objects.items():
        there = before.get(name)
        if there is None:
            created.append(name)
        elif there.document != document or (
            secrets is not None and _secrets(name, there, own) != secrets
        ):
            changed.append(name)
    removed = tuple(sorted(before.keys() - wanted.objects.keys()))
    return Outcome(tuple(created), tuple(changed), removed, written, left_out)


def _revoked(connection: Connection) -> list[Row]:
    """Certificates that nobody may use any more."""
    found = select(CERTIFICATES).where(CERTIFICATES.c.revoked_at.is_not(None))
    return [row._asdict() for row in connection.execute(found)]


def _revoke_again(connection: Connection, revoked: list[Row]) -> None:
    """An older file does not know of it, and its CA would let them in again."""
    there = set(connection.scalars(select(CERTIFICATES.c.serial)))
    for row in revoked:
        if row["serial"] not in there:
            connection.execute(insert(CERTIFICATES).values(row))
            continue
        connection.execute(
            update(CERTIFICATES)
            .where(CERTIFICATES.c.serial == row["serial"], CERTIFICATES.c.revoked_at.is_(None))
            .values(revoked_at=row["revoked_at"], reason=row["reason"])
        )


def _people(connection: Connection) -> dict[str, tuple[str, str]]:
    """Passwords and roles of the administrators."""
    columns = (ADMINISTRATORS.c.name, ADMINISTRATORS.c.password, ADMINISTRATORS.c.role)
    return {row.name: (row.password, row.role) for row in connection.execute(select(*columns))}


@dataclass(frozen=True, slots=True)
class _Before:
    document: object
    secrets: bytes | None
    version: int
    created_at: float


def _objects_before(connection: Connection) -> dict[tuple[str, str], _Before]:
    return {
        (row.kind, row.name): _Before(row.document, row.secrets, row.version, row.created_at)
        for row in connection.execute(select(OBJECTS))
    }


def _secrets(name: tuple[str, str], there: _Before, own: Sealer) -> object:
    if there.secrets is None:
        return {}
    try:
        return json.loads(own.open(f"object/{name[0]}/{name[1]}", bytes(there.secrets)))
    except SealError:
        return None


def _object_row(
    row: Row,
    before: Mapping[tuple[str, str], _Before],
    own: Sealer,
    wanted: Import,
    now: float,
) -> Row:
    """Versions go on rising, so that nobody's ETag of before fits what is there now."""
    there = before.get((str(row["kind"]), str(row["name"])))
    if wanted.has_secrets:
        seal_secret(OBJECTS, row, own)
    else:
        row["secrets"] = None if there is None else there.secrets
    if there is not None:
        row["version"] = max(there.version + 1, int(str(row["version"])))
        row["created_at"] = there.created_at
    row["changed_at"] = now
    return row


def _write(
    connection: Connection,
    wanted: Import,
    left_out: Mapping[str, str],
    ready: Callable[[Table, Row], Row],
) -> dict[str, int]:
    written: Counter[str] = Counter()
    waiting: list[Row] = []
    of: Table | None = None
    lines = lines_of(wanted.file)
    next(lines)
    for number, line in lines:
        table, row = row_of(number, line)
        if table.name in left_out or (table is SETTINGS and row["name"] in OWN_SETTINGS):
            continue
        open_secret(number, table, row, wanted.sealer)
        if of is not None and (table is not of or len(waiting) >= _BATCH):
            connection.execute(insert(of), waiting)
            waiting = []
        of = table
        waiting.append(_to_database(table, ready(table, row)))
        written[table.name] += 1
    if of is not None and waiting:
        connection.execute(insert(of), waiting)
    return dict(written)


def _to_database(table: Table, row: Row) -> Row:
    # Ids of the audit and of history are the database's own: it counts on from its own last one.
    return {k: v for k, v in row.items() if not (k == "id" and table in RECORDS)}

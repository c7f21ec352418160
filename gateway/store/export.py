"""Everything that is stored as one file: one JSON object a line, so that any size can be read.

::

    {"format": "gateway-export", "version": 1, "made_at": 1790000000.0, "program": "1.0", "schema":
     "0001", "secrets": {"how": "passphrase", "salt": "...", "check": "..."}}
    {"table": "object", "row": {"kind": "pools", "name": "office", ...}}
    {"end": true, "rows": 1, "sha256": "..."}

Octets are hexadecimal. Secrets are sealed under a passphrase (scrypt), or left out (``none``), or
as they are in the database, for its own key file (``key``). ``sha256`` is that of all lines before
the last one: a file that was cut short or changed by accident is noticed.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, LargeBinary, Table, select

from gateway.store.errors import UnavailableError
from gateway.store.migrations import HEAD
from gateway.store.schema import (
    ADMINISTRATORS,
    AUDIT,
    CERTIFICATES,
    HISTORY,
    LEASE_HISTORY,
    NAR_AUDIT,
    OBJECTS,
    SETTINGS,
    TOKENS,
    USAGE,
)
from gateway.store.sealing import Sealer, passphrase_sealer, sync_folder
from gateway.store.settings import BOOT, IMPORTED, KEY_CHECK

FORMAT: Final = "gateway-export"
VERSION: Final = 1
CONFIGURATION: Final = (OBJECTS, TOKENS, ADMINISTRATORS, CERTIFICATES, SETTINGS)
"""What an administrator stored."""
RECORDS: Final = (USAGE, AUDIT, HISTORY, NAR_AUDIT, LEASE_HISTORY)
"""What happened."""
CHECK: Final = "export-check"
"""Context of something sealed, to know the passphrase by."""
OWN_SETTINGS: Final = frozenset({KEY_CHECK, BOOT, IMPORTED})
"""They belong to one database and are of no use in another."""
SALT_OCTETS: Final = 16
_ROWS: Final = 500

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written."""

    file: Path
    rows: int
    octets: int
    sha256: str
    """Of the whole file, hexadecimal."""


class Secrets:
    """What becomes of secrets on their way out."""

    how = "none"

    def header(self) -> dict[str, str]:
        """What the reader needs to know."""
        return {"how": self.how}

    def sealed(self, context: str, sealed: bytes) -> bytes | None:
        """What is sealed in the database; None leaves it out."""
        del context, sealed
        return None

    def plain(self, context: str, plain: bytes) -> bytes | None:
        """What is a hash in the database, and still better not seen."""
        del context, plain
        return None


class AsTheyAre(Secrets):
    """For the same key file: a backup."""

    how = "key"

    def __init__(self, own: Sealer) -> None:
        self._own = own

    def header(self) -> dict[str, str]:
        """With something to know the key by."""
        return {"how": self.how, "check": self._own.seal(CHECK, FORMAT.encode()).hex()}

    def sealed(self, context: str, sealed: bytes) -> bytes | None:
        """Unchanged."""
        del context
        return sealed

    def plain(self, context: str, plain: bytes) -> bytes | None:
        """Sealed with our own key."""
        return self._own.seal(context, plain)


class UnderPassphrase(Secrets):
    """For another gateway."""

    how = "passphrase"

    def __init__(self, own: Sealer, passphrase: str, salt: bytes | None = None) -> None:
        self._own = own
        self._salt = salt or os.urandom(SALT_OCTETS)
        self._other = passphrase_sealer(passphrase, self._salt)

    def header(self) -> dict[str, str]:
        """With something to know the passphrase by."""
        check = self._other.seal(CHECK, FORMAT.encode())
        return {"how": self.how, "salt": self._salt.hex(), "check": check.hex()}

    def sealed(self, context: str, sealed: bytes) -> bytes | None:
        """Sealed anew. Raises :class:`SealError`."""
        return self._other.seal(context, self._own.open(context, sealed))

    def plain(self, context: str, plain: bytes) -> bytes | None:
        """Sealed."""
        return self._other.seal(context, plain)


def context_of(table: Table, row: Row) -> tuple[str, str] | None:
    """The column that holds a secret, and the context that it is sealed with."""
    if table is OBJECTS:
        return "secrets", f"object/{row['kind']}/{row['name']}"
    if table is CERTIFICATES:
        return "key", f"certificate/{row['serial']}"
    if table is ADMINISTRATORS:
        return "password", f"administrator/{row['name']}"
    if table is TOKENS:
        return "hash", f"token/{row['id']}"
    return None


def export(
    connection: Connection,
    file: Path,
    secrets: Secrets,
    *,
    records: bool,
    program: str,
    wall_clock: Callable[[], float] = time.time,
) -> Exported:
    """Write what is stored to ``file``, whole or not at all; ``records`` takes what happened, too.

    Raises :class:`UnavailableError` about the file and :class:`SealError`.
    """
    head = {
        "format": FORMAT,
        "version": VERSION,
        "made_at": wall_clock(),
        "program": program,
        "schema": HEAD,
        "secrets": secrets.header(),
    }
    new = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            digest = hashlib.sha256()
            rows = -1
            for one in _lines(connection, head, secrets, records=records):
                line = _encoded(one)
                digest.update(line)
                opened.write(line)
                rows += 1
            last = _encoded({"end": True, "rows": rows, "sha256": digest.hexdigest()})
            digest.update(last)
            opened.write(last)
            octets = opened.tell()
            opened.flush()
            os.fsync(opened.fileno())
        new.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        raise UnavailableError(f"no export to {file}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
    return Exported(file, rows, octets, digest.hexdigest())


def _encoded(one: Row) -> bytes:
    return json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _lines(connection: Connection, head: Row, secrets: Secrets, *, records: bool) -> Iterator[Row]:
    yield head
    for table in (*CONFIGURATION, *(RECORDS if records else ())):
        ordered = select(table).order_by(*table.primary_key.columns)
        found = connection.execution_options(yield_per=_ROWS).execute(ordered)
        for row in found.mappings():
            one = _row(table, dict(row), secrets)
            if one is not None:
                yield {"table": table.name, "row": one}


def _row(table: Table, values: dict[str, object], secrets: Secrets) -> Row | None:
    """As JSON; None: it is nothing without its secret."""
    if table is SETTINGS and values["name"] in OWN_SETTINGS:
        return None
    secret = context_of(table, values)
    if secret is not None:
        column, context = secret
        value = values[column]
        out = None
        if isinstance(value, str):
            out = secrets.plain(context, value.encode())
        elif isinstance(value, bytes):
            how = secrets.plain if table is TOKENS else secrets.sealed
            out = how(context, value)
        if out is None and not table.c[column].nullable:
            return None
        values[column] = None if out is None else out.hex()
    for one in table.c:
        value = values[one.name]
        if isinstance(one.type, LargeBinary) and isinstance(value, bytes):
            values[one.name] = value.hex()
    return values

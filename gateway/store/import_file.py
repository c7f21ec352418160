"""The lines of an exported file, checked: what they are, that all are there, and every value."""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Float, Integer, LargeBinary, String, Table

from gateway.store.errors import ImportRefusedError, SealError, UnavailableError, WrongKeyError
from gateway.store.export import CHECK, CONFIGURATION, FORMAT, RECORDS, VERSION, Row, context_of
from gateway.store.schema import ADMINISTRATORS, TOKENS
from gateway.store.sealing import Sealer, passphrase_sealer

MAX_LINE_OCTETS: Final = 256 * 1024
MAX_ROWS: Final = 5_000_000
TABLES: Final = {table.name: table for table in (*CONFIGURATION, *RECORDS)}
ROLES: Final = frozenset({"admin", "operator", "read-only"})
_RANGES: Final = {Integer: 2**31, BigInteger: 2**63}


def lines_of(file: Path) -> Iterator[tuple[int, Row]]:
    """Every line but the last, with its number. The last one has to be right about them."""
    digest = hashlib.sha256()
    number = 0
    end: Row | None = None
    try:
        with file.open("rb") as opened:
            while line := opened.readline(MAX_LINE_OCTETS + 1):
                number += 1
                if end is not None:
                    raise ImportRefusedError(f"line {number}", "comes after the end")
                parsed = _parsed(number, line)
                if parsed.get("end") is True:
                    end = parsed
                    continue
                if number > MAX_ROWS:
                    raise ImportRefusedError(f"line {number}", f"at most {MAX_ROWS} are taken")
                digest.update(line)
                yield number, parsed
    except OSError as error:
        raise UnavailableError(f"{file} cannot be read: {error}") from error
    if number == 0:
        return
    if end is None:
        raise ImportRefusedError("", "the file was cut short: its last line is missing")
    if end.get("sha256") != digest.hexdigest() or end.get("rows") != number - 2:
        raise ImportRefusedError("", "the file was changed or damaged since it was written")


def _parsed(number: int, line: bytes) -> Row:
    where = f"line {number}"
    if len(line) > MAX_LINE_OCTETS:
        raise ImportRefusedError(where, f"is longer than {MAX_LINE_OCTETS} octets")
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        raise ImportRefusedError(where, "is no JSON: this is no export of a gateway") from None
    if not isinstance(parsed, dict):
        raise ImportRefusedError(where, "must be an object: this is no export of a gateway")
    return parsed


def head_of(head: Row) -> tuple[float, str]:
    """When it was made, and by which version. Raises :class:`ImportRefusedError`."""
    if head.get("format") != FORMAT:
        raise ImportRefusedError("line 1: format", f"must be {FORMAT}: this is no export")
    version = head.get("version")
    if isinstance(version, bool) or version != VERSION:
        raise ImportRefusedError(
            "line 1: version",
            f"is {json.dumps(version)[:20]}, and this program reads {VERSION}: import it with the"
            " version that exported it, or a newer one",
        )
    made_at, program = head.get("made_at"), head.get("program")
    if isinstance(made_at, bool) or not isinstance(made_at, int | float):
        raise ImportRefusedError("line 1: made_at", "must be a time in seconds")
    if not isinstance(program, str) or len(program) > 64:
        raise ImportRefusedError("line 1: program", "must be a short text")
    return float(made_at), program


def sealer_of(head: Row, own: Sealer, passphrase: str | None) -> Sealer | None:
    """Opens the file's secrets; None: it has none. Raises :class:`WrongKeyError` as well."""
    secrets = head.get("secrets")
    how = secrets.get("how") if isinstance(secrets, dict) else None
    if not isinstance(secrets, dict) or how not in {"none", "key", "passphrase"}:
        raise ImportRefusedError("line 1: secrets.how", "must be none, key or passphrase")
    if how == "none":
        return None
    if how == "key":
        sealer, wrong = own, "this backup was made with another key file than this gateway's"
    else:
        if passphrase is None:
            raise ImportRefusedError("passphrase", "is missing: the file is sealed under one")
        salt = _hex(secrets.get("salt"))
        if salt is None or len(salt) != 16:
            raise ImportRefusedError("line 1: secrets.salt", "must be 16 octets in hexadecimal")
        sealer, wrong = passphrase_sealer(passphrase, salt), "passphrase: is wrong"
    try:
        sealer.open(CHECK, _hex(secrets.get("check")) or b"")
    except SealError:
        raise WrongKeyError(wrong) from None
    return sealer


def _hex(value: object) -> bytes | None:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else None
    except ValueError:
        return None


# -- rows ----------------------------------------------------------------------------------


def row_of(number: int, line: Row) -> tuple[Table, Row]:
    """One row, every value of the type and length of its column."""
    table = TABLES.get(str(line.get("table")))
    given = line.get("row")
    if table is None or not isinstance(given, dict):
        raise ImportRefusedError(f"line {number}", "must have the name of a table and a row")
    names = {column.name for column in table.c}
    if given.keys() != names:
        wrong = sorted(names.symmetric_difference(map(str, given)))[:3]
        raise ImportRefusedError(f"line {number}: {table.name}", f"has wrong columns: {wrong}")
    row = {column.name: _value(number, column, given[column.name]) for column in table.c}
    return table, row


def _value(number: int, column: "Column[object]", value: object) -> object:
    where = f"line {number}: {column.table.name}.{column.name}"
    secret = column.name in {"password", "hash"} and column.table in (ADMINISTRATORS, TOKENS)
    if value is None:
        if column.nullable or isinstance(column.type, JSON):
            return None
        raise ImportRefusedError(where, "is missing")
    kind = column.type
    if isinstance(kind, LargeBinary) or secret:
        octets = _hex(value)
        if octets is None:
            raise ImportRefusedError(where, "must be hexadecimal")
        return octets
    if isinstance(kind, JSON):
        return value
    if isinstance(kind, String):
        if not isinstance(value, str) or "\0" in value:
            raise ImportRefusedError(where, "must be a text")
        if kind.length is not None and len(value) > kind.length:
            raise ImportRefusedError(where, f"has {len(value)} characters; {kind.length} fit")
        if column.name == "role" and value not in ROLES:
            raise ImportRefusedError(where, f"must be one of {', '.join(sorted(ROLES))}")
        return value
    if isinstance(kind, Integer):
        bound = _RANGES[BigInteger if isinstance(kind, BigInteger) else Integer]
        if isinstance(value, bool) or not isinstance(value, int) or not -bound <= value < bound:
            raise ImportRefusedError(where, "must be an integer that fits")
        return value
    if isinstance(kind, Float):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ImportRefusedError(where, "must be a number")
        return float(value)
    raise ImportRefusedError(where, "is of no known kind")


def open_secret(number: int, table: Table, row: Row, sealer: Sealer | None) -> None:
    """Its secret in plain octets; in place."""
    secret = context_of(table, row)
    if secret is None:
        return
    column, context = secret
    sealed = row[column]
    if not isinstance(sealed, bytes):
        return
    where = f"line {number}: {table.name}.{column}"
    if sealer is None:
        raise ImportRefusedError(where, "is there though the file says that it has no secrets")
    try:
        row[column] = sealer.open(context, sealed)
    except SealError:
        raise ImportRefusedError(where, "does not open: it was changed") from None
    if table is TOKENS and len(sealer.open(context, sealed)) != 32:
        raise ImportRefusedError(where, "must have 32 octets")


def seal_secret(table: Table, row: Row, own: Sealer) -> None:
    """From plain octets to what its column takes; in place."""
    secret = context_of(table, row)
    if secret is None:
        return
    column, context = secret
    plain = row[column]
    if not isinstance(plain, bytes):
        return
    if table is ADMINISTRATORS:
        row[column] = plain.decode("utf-8", "replace")
    elif table is not TOKENS:
        row[column] = own.seal(context, plain)

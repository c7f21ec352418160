"""A backup of a SQLite database while it is used."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from gateway.store.errors import UnavailableError
from gateway.store.sealing import sync_folder

PAGES: Final = 2000
"""Copied at a time; others may write between."""


def copy_sqlite(source: Path, target: Path) -> int:
    """Copy to ``target``, whole or not at all; its size in octets. Blocks; any thread may do it.

    The key file is not part of it: keep that elsewhere. Raises :class:`UnavailableError`.
    """
    new = target.with_name(f".{target.name}.new")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        try:
            with (
                contextlib.closing(_connect(source)) as reader,
                contextlib.closing(_connect(new)) as writer,
            ):
                reader.backup(writer, pages=PAGES)
                writer.execute("PRAGMA journal_mode = DELETE")
                if writer.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                    raise sqlite3.DatabaseError("the copy is damaged")
            new.replace(target)
        finally:
            for suffix in ("", "-wal", "-shm", "-journal"):
                new.with_name(new.name + suffix).unlink(missing_ok=True)
        sync_folder(target.parent)
        return target.stat().st_size
    except (sqlite3.Error, OSError) as error:
        raise UnavailableError(f"no backup to {target}: {error}") from error


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=10.0)

"""Copies of what is configured, for when the database itself cannot be written or reached.

Of SQLite the files themselves are copied to the runtime directory. Of PostgreSQL a small SQLite
file in the state directory has the configured tables, renewed after changes.
"""

import shutil
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, insert, select

from gateway.store import migrations
from gateway.store.engines import sqlite_engine
from gateway.store.schema import ADMINISTRATORS, CERTIFICATES, OBJECTS, SETTINGS, TOKENS
from gateway.store.sealing import sync_folder

FILE_NAME: Final = "last-good.sqlite"
CONFIGURED: Final = (OBJECTS, TOKENS, ADMINISTRATORS, CERTIFICATES, SETTINGS)
"""What an administrator stored, as opposed to what happened."""
_ROWS: Final = 500


def write(connection: Connection, folder: Path) -> Path:
    """Copy the configured tables of ``connection``'s database.

    Raises OSError and SQLAlchemy's errors; the copy before stays then.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / FILE_NAME
    new = folder / f".{FILE_NAME}.new"
    remove(new)
    new.touch(mode=0o600)
    engine = sqlite_engine(new)
    try:
        with engine.begin() as copy:
            migrations.create(copy)
            for table in CONFIGURED:
                rows = connection.execute(select(table))
                while part := rows.fetchmany(_ROWS):
                    copy.execute(insert(table), [row._asdict() for row in part])
    finally:
        engine.dispose()
    # Closing has put everything into the file itself.
    new.replace(file)
    sync_folder(folder)
    return file


def copy_files(file: Path, folder: Path) -> Path:
    """Copy a SQLite file with its write-ahead log. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = folder / file.name
    remove(copy)
    copy.touch(mode=0o600)
    shutil.copyfile(file, copy)
    log = file.with_name(file.name + "-wal")
    if log.exists():
        shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
    return copy


def remove(file: Path) -> None:
    """A SQLite file and what belongs to it. Raises OSError."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)

"""How the database is opened when all is well, and what is left when it is not."""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from gateway.domain.event import Event, Severity
from gateway.store import last_good, migrations
from gateway.store.engines import (
    is_damage,
    parse_url,
    postgresql_engine,
    sqlite_engine,
    translated,
)
from gateway.store.errors import SealError, StoreError, UnavailableError, WrongKeyError
from gateway.store.sealing import KEY_OCTETS, Sealer, make_key, read_key, sync_folder
from gateway.store.settings import KEY_CHECK, SettingRepository

FILE_NAME: Final = "gateway.sqlite"
BACKUPS: Final = "backups"
CHECKED_OCTETS: Final = 32 << 20
"""SQLite files up to this size are checked whole when they are opened."""
_KNOWN_PLAIN: Final = b"gateway"

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is."""

    url: URL
    state_dir: Path
    key_file: Path
    runtime_dir: Path

    @property
    def sqlite_file(self) -> Path | None:
        """None: the database is on a PostgreSQL server."""
        if self.url.get_backend_name() != "sqlite" or self.url.database is None:
            return None
        return Path(self.url.database)

    @property
    def shown(self) -> str:
        """The database's name, without a password."""
        file = self.sqlite_file
        return str(file) if file else self.url.render_as_string(hide_password=True)


def places(url: str | None, state_dir: Path, key_file: Path | None, runtime: Path | None) -> Places:
    """With defaults filled in. Raises :class:`SchemaError`."""
    parsed = parse_url(url or f"sqlite:///{state_dir / FILE_NAME}")
    return Places(parsed, state_dir, key_file or state_dir / "store.key", runtime or state_dir)


def open_database(where: Places, emit: Emit) -> tuple[Engine, Sealer]:
    """The database, migrated, and what seals its secrets.

    Raises :class:`UnavailableError`, :class:`WrongKeyError`, :class:`SchemaError`.
    """
    file = where.sqlite_file
    if file is None:
        return _opened(postgresql_engine(where.url), where)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = not file.exists()
        file.touch(mode=0o600)
        if made:
            sync_folder(file.parent)
        check(file)
        return _opened(sqlite_engine(file), where)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        if not is_damage(error):
            raise translated(error) from error
        replace_damaged(file, where, error, emit)
        return _opened(sqlite_engine(file), where)


def _opened(engine: Engine, where: Places) -> tuple[Engine, Sealer]:
    try:
        with engine.begin() as connection:
            before = migrations.current(connection)
        if before not in {None, migrations.HEAD} and before in migrations.known():
            _keep_before_upgrade(where, str(before))
        with engine.begin() as connection:
            migrations.migrate(connection)
        with engine.begin() as connection:
            # Opening and reading work on a disk that takes nothing.
            connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
        return engine, _sealer(engine, where, may_write=True)
    except BaseException as error:
        engine.dispose()
        if isinstance(error, SQLAlchemyError) and is_damage(error):
            raise
        raise translated(error) from error


def open_copy(where: Places) -> tuple[Engine, Sealer]:
    """What can be read of the database when it cannot be written; nothing can be changed in it.

    Raises :class:`UnavailableError`, :class:`WrongKeyError`, :class:`SchemaError`.
    """
    file = where.sqlite_file or where.state_dir / last_good.FILE_NAME
    engine = None
    try:
        copy = last_good.copy_files(file, where.runtime_dir / "store-copy")
        writable = sqlite_engine(copy)
        try:
            with writable.begin() as connection:
                if migrations.migrate(connection) is None:
                    raise UnavailableError(f"nothing is stored in {file}")
        finally:
            writable.dispose()
        engine = sqlite_engine(copy, query_only=True)
        return engine, _sealer(engine, where, may_write=False)
    except BaseException as error:
        if engine is not None:
            engine.dispose()
        raise translated(error) from error


def _sealer(engine: Engine, where: Places, *, may_write: bool) -> Sealer:
    """With the key of this database. Raises :class:`WrongKeyError`."""
    key = read_key(where.key_file)
    with engine.begin() as connection:
        known = SettingRepository(connection).get(KEY_CHECK)
    if known is not None:
        if key is None:
            raise WrongKeyError(
                f"store.key_file: {where.key_file} is gone, and the secrets in {where.shown} were"
                " sealed with it: restore it from your backup. To start over without what is"
                " stored, move the database away"
            )
        sealer = Sealer(key)
        try:
            sealer.open(KEY_CHECK, bytes.fromhex(str(known)))
        except (SealError, ValueError):
            raise WrongKeyError(
                f"store.key_file: {where.key_file} is not the key that the secrets in"
                f" {where.shown} were sealed with: restore the right one from your backup"
            ) from None
        return sealer
    if not may_write:
        return Sealer(key or os.urandom(KEY_OCTETS))
    with engine.begin() as connection:
        return _first_sealer(connection, Sealer(key or make_key(where.key_file)), where)


def _first_sealer(connection: Connection, sealer: Sealer, where: Places) -> Sealer:
    settings = SettingRepository(connection)
    known = settings.get(KEY_CHECK)
    if known is None:
        settings.put(KEY_CHECK, sealer.seal(KEY_CHECK, _KNOWN_PLAIN).hex())
        return sealer
    # Another process was first; on one machine it made the same key file.
    try:
        sealer.open(KEY_CHECK, bytes.fromhex(str(known)))
    except (SealError, ValueError):
        raise WrongKeyError(
            f"store.key_file: {where.key_file} is not the key of the gateway that made"
            f" {where.shown}: copy that one's key file"
        ) from None
    return sealer


def sealer_without_database(where: Places) -> Sealer:
    """With the key file when it can be read, else with a key that dies with this process."""
    try:
        key = read_key(where.key_file)
    except StoreError:
        key = None
    return Sealer(key or os.urandom(KEY_OCTETS))


# -- SQLite files that are damaged ---------------------------------------------------------


def check(file: Path) -> None:
    """Raises sqlite3.DatabaseError when it is no database or damaged (:func:`is_damage`)."""
    with contextlib.closing(
        sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=5.0)
    ) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if file.stat().st_size <= CHECKED_OCTETS:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise sqlite3.DatabaseError(f"malformed: {str(said)[:200]}")


def replace_damaged(file: Path, where: Places, error: BaseException, emit: Emit) -> None:
    """Set ``file`` aside, never delete it.

    Put the newest backup that is sound in its place, or nothing. Raises OSError.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    aside = file.with_name(f"{file.name}.unreadable-{stamp}")
    number = 0
    while aside.exists():
        number += 1
        aside = file.with_name(f"{file.name}.unreadable-{stamp}-{number}")
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + suffix).replace(aside.with_name(aside.name + suffix))
    file.replace(aside)
    backup = newest_sound(backups_in(where.state_dir))
    if backup is None:
        file.touch(mode=0o600)
        instead = "there is no backup: the gateway starts with nothing but its file"
    else:
        new = file.with_name(f".{file.name}.new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        shutil.copyfile(backup, new)
        new.replace(file)
        instead = f"the backup {backup} is used: what was stored after it is missing"
    sync_folder(file.parent)
    emit(
        Event(
            "store_damaged",
            f"the database {file} is damaged ({translated(error)}): {instead}; the damaged file is"
            f" kept as {aside}",
            Severity.WARNING,
            {"file": str(aside), "backup": str(backup) if backup else None},
        )
    )


def backups_in(state_dir: Path) -> list[Path]:
    """Backups that were made by themselves, newest first."""
    try:
        found = [one for one in (state_dir / BACKUPS).iterdir() if one.suffix == ".sqlite"]
        return sorted(found, key=lambda one: one.stat().st_mtime, reverse=True)
    except OSError:
        return []


def newest_sound(files: Iterable[Path]) -> Path | None:
    """The first that is a whole database of ours."""
    for file in files:
        try:
            with contextlib.closing(
                sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            ) as connection:
                connection.execute("SELECT version_num FROM alembic_version").fetchone()
                if connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                    return file
        except (sqlite3.Error, OSError):
            continue
    return None


def _keep_before_upgrade(where: Places, revision: str) -> None:
    """A backup before the tables change, so that the older version can be had again."""
    file = where.sqlite_file
    if file is None:
        return
    from gateway.store.backup import copy_sqlite  # noqa: PLC0415

    try:
        copy_sqlite(file, where.state_dir / BACKUPS / f"before-upgrade-from-{revision}.sqlite")
    except StoreError as error:
        raise UnavailableError(
            f"no backup could be made before the upgrade of the database ({error}); nothing was"
            " changed: free space, then start again"
        ) from error

"""Connections to either database, and its errors in our words."""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import StaticPool

from gateway.store.errors import SchemaError, StoreError, UnavailableError

if TYPE_CHECKING:
    from sqlalchemy import Connection

BUSY_TIMEOUT_S: Final = 5.0
"""How long another process (a backup, a second gateway that starts) may hold the file."""
CONNECT_TIMEOUT_S: Final = 5
STATEMENT_TIMEOUT_S: Final = 30
_DAMAGE: Final = ("malformed", "not a database", "disk image", "unsupported file format")
_PRAGMAS: Final = (
    f"busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}",
    "synchronous = FULL",
    "temp_store = MEMORY",
    "cache_size = -2000",
    "journal_size_limit = 16777216",
    "trusted_schema = OFF",
)


def parse_url(text: str) -> URL:
    """A database URL. Raises :class:`SchemaError`, which never repeats a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SchemaError("store.url: is no database URL, as postgresql://user@host/name") from None
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:" or url.query:
            raise SchemaError(
                "store.url: name a file, as sqlite:////var/lib/gateway/gateway.sqlite"
            )
        return url.set(drivername="sqlite+pysqlite")
    if url.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    raise SchemaError(
        f"store.url: {url.drivername} is not supported; sqlite:///FILE and"
        " postgresql://USER@HOST/NAME are"
    )


def sqlite_engine(file: Path, *, query_only: bool = False) -> Engine:
    """An engine with one connection. The file must be there."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            # Our own BEGIN (below), so that DDL is part of the transaction, too.
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise sqlite3.OperationalError(f"no write-ahead log here, only {mode}")
            if query_only:
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite+pysqlite://", creator=connect, poolclass=StaticPool, hide_parameters=True
    )
    begin = "BEGIN" if query_only else "BEGIN IMMEDIATE"
    event.listen(engine, "begin", lambda connection: _begin(connection, begin))
    return engine


def _begin(connection: "Connection", text: str) -> None:
    connection.exec_driver_sql(text)


def postgresql_engine(url: URL) -> Engine:
    """An engine with one connection, which is made anew when the server was away."""
    from sqlalchemy.pool import QueuePool  # noqa: PLC0415

    timeouts: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,
        "application_name": "gateway",
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout=10s"
        " -c idle_in_transaction_session_timeout=60s -c timezone=UTC",
    }
    given = {name: value for name, value in timeouts.items() if name not in url.query}
    return create_engine(
        url,
        connect_args=given,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
    )


def is_damage(error: BaseException) -> bool:
    """Whether the file is no database (any more), as opposed to a disk that is full or away."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(origin, sqlite3.DatabaseError):
        return False
    return any(word in str(origin) for word in _DAMAGE)


def translated(error: BaseException) -> BaseException:
    """The error as the store's; others than the database's and the disk's as they are."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, IntegrityError):
        return StoreError(f"the database refuses it: {_first_line(error.orig)}")
    if isinstance(error, DBAPIError):
        origin = error.orig
        if isinstance(origin, sqlite3.DatabaseError) or error.connection_invalidated:
            return UnavailableError(_first_line(origin))
        if type(origin).__name__ in {"DataError", "ProgrammingError", "NotSupportedError"}:
            return StoreError(f"the database refuses it: {_first_line(origin)}")
        return UnavailableError(_first_line(origin))
    if isinstance(error, PoolTimeoutError | sqlite3.Error | OSError):
        return UnavailableError(_first_line(error))
    if isinstance(error, SQLAlchemyError):
        return StoreError(f"the program uses the database wrongly: {_first_line(error)}")
    return error


def _first_line(error: BaseException | None) -> str:
    """Without SQL, and without the values that PostgreSQL adds in further lines."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]

"""How databases of older versions become those of this one.

Alembic is imported only when there is something to do. :data:`HEAD` is the newest revision; a
test demands that it is, and that the revisions make what :mod:`gateway.store.schema` describes.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from gateway.store.errors import SchemaError
from gateway.store.schema import METADATA
from gateway.store.triggers import AUDIT_V1

HEAD: Final = "0002"
_FOLDER: Final = Path(__file__).parent
_LOCK: Final = 0x6761746577617901
_REVISION_TABLE: Final = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
    " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


def current(connection: Connection) -> str | None:
    """The revision of this database; None: it is empty. Raises :class:`SchemaError`."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        if tables:
            names = ", ".join(sorted(tables)[:3])
            raise SchemaError(
                f"store.url: this database belongs to something else (it has the tables {names});"
                " give the gateway one of its own"
            )
        return None
    found: list[str] = list(connection.scalars(text("SELECT version_num FROM alembic_version")))
    return found[0] if found else None


def migrate(connection: Connection) -> str | None:
    """Make it the newest revision, within the transaction of ``connection``.

    Gives the revision that it was. Of several processes that start at once one does it, the
    others wait. Raises :class:`SchemaError` when the database is of a newer version.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    before = current(connection)
    if before == HEAD:
        return before
    if before is None:
        create(connection)
        return None
    if before not in known():
        raise SchemaError(
            f"the database was written by a newer version of this program (schema {before}; this"
            f" one knows {HEAD} and older): install that version again, or restore a backup that"
            " was made before the upgrade"
        )
    from alembic import command  # noqa: PLC0415 - 20 MB, only when needed
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before


def create(connection: Connection) -> None:
    """The newest revision out of nothing, without Alembic: the same, and 20 MB less."""
    METADATA.create_all(connection)
    for statement in AUDIT_V1[connection.dialect.name]:
        connection.exec_driver_sql(statement)
    connection.execute(text(_REVISION_TABLE))
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def known() -> frozenset[str]:
    """Revisions of this and of older versions."""
    return frozenset(one.name.split("_")[0] for one in (_FOLDER / "versions").glob("[0-9]*_*.py"))

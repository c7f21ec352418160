"""INSERT that knows what to do when the row is there, in the words of either database."""

from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection, Table

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert


def insert_into(table: Table, connection: Connection) -> "Insert":
    """Both dialects have ``on_conflict_do_update`` and ``excluded``.

    Only the one in use is imported: each costs memory.
    """
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return cast("Insert", postgresql.insert(table))
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415

    return sqlite.insert(table)

"""Revisions make what the schema describes, on both databases, once, whoever starts at once."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from gateway.store import migrations
from gateway.store.engines import parse_url, postgresql_engine, sqlite_engine
from gateway.store.errors import SchemaError
from gateway.store.schema import AUDIT, METADATA


@pytest.fixture
def make_engine(url: str | None, tmp_path: Path) -> Any:
    engines: list[Engine] = []

    def made() -> Engine:
        if url is None:
            file = tmp_path / "test.sqlite"
            file.touch()
            engines.append(sqlite_engine(file))
        else:
            engines.append(postgresql_engine(parse_url(url)))
        return engines[-1]

    yield made
    for one in engines:
        one.dispose()


@pytest.fixture
def engine(make_engine: Any) -> Engine:
    return make_engine()


def by_alembic(connection: Connection) -> None:
    """Every revision, as for a database of an older version."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations._FOLDER))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def differences(connection: Connection) -> list[Any]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    options = {"compare_type": True, "compare_server_default": True}
    return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)


def shape(connection: Connection) -> dict[str, Any]:
    """Everything that the database says about its tables and triggers."""
    found = inspect(connection)
    tables: dict[str, Any] = {}
    for name in found.get_table_names():
        columns = [
            (one["name"], repr(one["type"]), one["nullable"]) for one in found.get_columns(name)
        ]
        indexes = sorted(
            (one["name"], tuple(one["column_names"]), one["unique"])
            for one in found.get_indexes(name)
        )
        key = found.get_pk_constraint(name)["constrained_columns"]
        tables[name] = (columns, indexes, key, found.get_unique_constraints(name))
    if connection.dialect.name == "sqlite":
        triggers = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    else:
        triggers = (
            "SELECT t.tgname, pg_get_triggerdef(t.oid), p.prosrc FROM pg_trigger t"
            " JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal ORDER BY 1"
        )
    return {**tables, "triggers": [tuple(row) for row in connection.execute(text(triggers))]}


def test_revisions_make_what_the_schema_describes(engine: Engine) -> None:
    with engine.begin() as connection:
        by_alembic(connection)
    with engine.begin() as connection:
        assert differences(connection) == []
        assert migrations.current(connection) == migrations.HEAD


def test_a_new_database_is_the_same_as_one_that_went_through_all_revisions(
    engine: Engine, make_engine: Any
) -> None:
    with engine.begin() as connection:
        by_alembic(connection)
        first = shape(connection)
        METADATA.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP FUNCTION audit_guard()"))
    with engine.begin() as connection:
        assert migrations.migrate(connection) is None
        second = shape(connection)
    assert len(first["triggers"]) == 2
    assert first == second


def test_the_head_is_the_newest_revision() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrations._FOLDER))
    assert script.get_heads() == [migrations.HEAD]
    assert migrations.known() == {one.revision for one in script.walk_revisions()}


def test_alembic_is_not_loaded_when_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from gateway.store.database import Store, StoreSettings;"
        "store = Store(StoreSettings(Path(sys.argv[1])), print);"
        "store.open(); store.close();"
        "print([m for m in ('alembic', 'psycopg', 'mako', 'sqlalchemy.orm') if m in sys.modules])"
    )
    for _ in ("new", "there"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"


def test_a_database_of_a_newer_version_is_refused_and_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        migrations.migrate(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer version"), engine.begin() as connection:
        migrations.migrate(connection)
    with engine.begin() as connection:
        assert migrations.current(connection) == "9999"


def test_a_database_of_something_else_is_refused_and_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE invoice (number INTEGER)"))
    with pytest.raises(SchemaError, match="invoice"), engine.begin() as connection:
        migrations.migrate(connection)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == ["invoice"]


def test_several_that_start_at_once_make_the_tables_once(make_engine: Any) -> None:
    engines = [make_engine() for _ in range(4)]
    results: list[Any] = []

    def start(engine: Engine) -> None:
        try:
            with engine.begin() as connection:
                results.append(migrations.migrate(connection))
        except Exception as error:  # noqa: BLE001 - shown below
            results.append(error)

    threads = [threading.Thread(target=start, args=(one,)) for one in engines]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(results, key=str) == [*[migrations.HEAD] * 3, None]


def test_an_upgrade_that_fails_changes_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE half (done INTEGER)"))
        raise RuntimeError("power is gone")

    monkeypatch.setattr(migrations, "create", broken)
    with pytest.raises(RuntimeError), engine.begin() as connection:
        migrations.migrate(connection)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == []


# -- the audit is append-only, whoever asks --------------------------------------------------


def row(at: float) -> dict[str, object]:
    return {
        "at": at,
        "actor": "a",
        "remote": "local",
        "action": "x",
        "target": "t",
        "outcome": "done",
    }


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "TRUNCATE audit"]
)
def test_the_database_itself_refuses_to_change_the_audit(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        migrations.migrate(connection)
        connection.execute(AUDIT.insert(), [row(1000.0)])
    if statement.startswith("TRUNCATE") and engine.dialect.name == "sqlite":
        return
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))
    with engine.begin() as connection:
        assert connection.execute(AUDIT.select()).one().actor == "a"

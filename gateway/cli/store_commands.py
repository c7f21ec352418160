"""The commands ``export``, ``import`` and ``backup``."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import JsonOption, OptionalConfig, SocketOption, finish

FileArgument = Annotated[Path, typer.Argument(metavar="FILE")]
StdinOption = Annotated[
    bool, typer.Option("--passphrase-stdin", help="Read the passphrase from standard input.")
]


def add_to(app: typer.Typer) -> None:
    """Make them commands of ``app``."""
    app.command("export")(_export)
    app.command("import")(_import)
    app.command("backup")(_backup)


def _export(  # noqa: PLR0917 - one option each
    file: FileArgument,
    without_secrets: Annotated[
        bool, typer.Option("--without-secrets", help="No passwords, keys, logins and tokens.")
    ] = False,
    records: Annotated[
        bool, typer.Option("--records", help="Also usage, history, the audit and NAR leases.")
    ] = False,
    passphrase_stdin: StdinOption = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Write everything that is stored to one file, secrets sealed under a passphrase."""

    def command() -> int:
        from gateway.cli import store
        from gateway.cli.control import socket_of

        return store.export(
            socket_of(socket, config),
            file,
            with_secrets=not without_secrets,
            from_stdin=passphrase_stdin,
            records=records,
        )

    finish(command)


def _import(  # noqa: PLR0917 - one option each
    file: FileArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would change.")
    ] = False,
    passphrase_stdin: StdinOption = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Put an exported file in place of everything that is stored: all of it or nothing."""

    def command() -> int:
        from gateway.cli import store
        from gateway.cli.control import socket_of

        return store.import_file(
            socket_of(socket, config),
            file,
            from_stdin=passphrase_stdin,
            dry_run=dry_run,
            as_json=as_json,
        )

    finish(command)


def _backup(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="By default, the time.")
    ] = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Copy the database to a file on the gateway, while it runs."""

    def command() -> int:
        from gateway.cli import store
        from gateway.cli.control import socket_of

        return store.backup(socket_of(socket, config), name)

    finish(command)

"""``gateway get``, ``create``, ``set``, ``delete`` and ``setup``: options and help texts."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli.options import JsonOption, OptionalConfig, SocketOption, finish
from gateway.cli.run import DEFAULT_CONFIG
from gateway.control.object_operations import OBJECT_KINDS

if TYPE_CHECKING:
    from gateway.control.client import ControlClient

CHANGE_TIMEOUT_S = 60.0
"""The whole configuration is judged before anything is written."""

KindArgument = Annotated[str, typer.Argument(metavar="KIND", help=", ".join(OBJECT_KINDS))]
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
SettingsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE...",
        help="As in gateway.toml. Lists with commas; - asks for a secret, @FILE reads it.",
    ),
]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="FILE", help="A table in TOML or JSON; - reads stdin."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be.")]


def _asking(
    socket: Path | None, config: Path | None, kind: str, ask: "Callable[[ControlClient], int]"
) -> NoReturn:
    def command() -> int:
        from gateway.cli import exits
        from gateway.cli.control import socket_of
        from gateway.cli.failure import complain
        from gateway.cli.passwords import PasswordNotGivenError
        from gateway.control.client import ControlClient

        if kind and kind not in OBJECT_KINDS:
            complain(f"{kind}: no such kind; choose one of: {', '.join(OBJECT_KINDS)}")
            return exits.USAGE
        with ControlClient(socket_of(socket, config), timeout_s=CHANGE_TIMEOUT_S) as client:
            try:
                return ask(client)
            except PasswordNotGivenError as error:
                complain(error)
                return exits.USAGE

    finish(command)


def get(  # noqa: PLR0917 - one option each
    kind: Annotated[str, typer.Argument(metavar="[KIND]", help=", ".join(OBJECT_KINDS))] = "",
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    search: Annotated[
        str | None, typer.Option("--search", "-q", metavar="TEXT", help="Only what mentions it.")
    ] = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is configured: the kinds, the objects of a kind, or one object."""

    def ask(client: "ControlClient") -> int:
        from gateway.cli import objects

        if not kind:
            return objects.list_kinds(client, as_json=as_json)
        if name is None:
            return objects.list_objects(client, kind, search, as_json=as_json)
        return objects.show_object(client, kind, name, as_json=as_json)

    _asking(socket, config, kind, ask)


def create(  # noqa: PLR0917 - one option each
    kind: KindArgument,
    name: NameArgument,
    settings: SettingsArgument = None,
    file: FileOption = None,
    dry_run: DryRunOption = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Store a new object; it is in force at once."""

    def ask(client: "ControlClient") -> int:
        from gateway.cli import objects

        document = objects.document_of(kind, settings or (), file)
        return objects.change(
            client, "object-create", kind, name, document=document, dry_run=dry_run
        )

    _asking(socket, config, kind, ask)


def change(  # noqa: PLR0917 - one option each
    kind: KindArgument,
    name: NameArgument,
    settings: SettingsArgument = None,
    file: FileOption = None,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="KEY", help="Back to its default; may be repeated."),
    ] = None,
    dry_run: DryRunOption = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Change some settings of a stored object; the others stay."""

    def ask(client: "ControlClient") -> int:
        from gateway.cli import objects

        nulls = [f"{key}=null" for key in unset or ()]
        document = objects.document_of(kind, [*(settings or ()), *nulls], file)
        return objects.change(
            client, "object-merge", kind, name, document=document, dry_run=dry_run
        )

    _asking(socket, config, kind, ask)


def delete(  # noqa: PLR0917 - one option each
    kind: KindArgument,
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Even when that ends sessions.")] = False,
    dry_run: DryRunOption = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Remove a stored object."""

    def ask(client: "ControlClient") -> int:
        from gateway.cli import objects

        return objects.delete(client, kind, name, yes=yes, dry_run=dry_run)

    _asking(socket, config, kind, ask)


def setup(  # noqa: PLR0917 - one option each
    config: Annotated[
        Path, typer.Option("--config", "-c", envvar="GATEWAY_CONFIG", metavar="FILE")
    ] = DEFAULT_CONFIG,
    name: Annotated[
        str | None, typer.Option("--name", help="What devices know the gateway by.")
    ] = None,
    outside: Annotated[
        str | None, typer.Option("--outside", metavar="INTERFACE", help="Towards the internet.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Host name or address that devices connect to.")
    ] = None,
    inside: Annotated[
        str | None, typer.Option("--inside", metavar="INTERFACE", help="Towards your network.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="NETWORK", help="Inner addresses of devices.")
    ] = None,
    subnets: Annotated[
        str | None, typer.Option("--subnets", help="What devices may reach, with commas.")
    ] = None,
    dns: Annotated[
        str | None, typer.Option("--dns", help="Name servers for devices, with commas.")
    ] = None,
    dashboard: Annotated[
        str | None,
        typer.Option("--dashboard", metavar="ADDRESS", help="Where the dashboard listens."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing; what is not given is proposed.")
    ] = False,
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Start the service afterwards.")
    ] = True,
) -> None:
    """Set a new gateway up: five questions, and the address of its dashboard."""

    def command() -> int:
        from gateway.cli.setup import Wishes, set_up

        wishes = Wishes(name, outside, address, inside, pool, subnets, dns, dashboard)
        return set_up(config, wishes, yes=yes, start=start)

    finish(command)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(setup)
    app.command()(get)
    app.command()(create)
    app.command("set")(change)
    app.command()(delete)

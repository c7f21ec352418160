"""``gateway admin``: options and help texts; the work is done elsewhere."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli.options import JsonOption, OptionalConfig, SocketOption, finish

if TYPE_CHECKING:
    from gateway.control.client import ControlClient

admin = typer.Typer(
    help="Who may use the REST interface and the dashboard, and what they did.",
    no_args_is_help=True,
)
token = typer.Typer(help="Bearer tokens, for programs.", no_args_is_help=True)
user = typer.Typer(help="Administrators: who logs in to the dashboard.", no_args_is_help=True)
admin.add_typer(token, name="token")
admin.add_typer(user, name="user")

RoleOption = Annotated[
    str, typer.Option("--role", metavar="ROLE", help="admin, operator or read-only.")
]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]


def _asking(
    socket: Path | None, config: Path | None, ask: "Callable[[ControlClient], int]"
) -> NoReturn:
    def command() -> int:
        from gateway.cli import exits
        from gateway.cli.control import socket_of
        from gateway.cli.failure import complain
        from gateway.cli.passwords import PasswordNotGivenError
        from gateway.control.client import ControlClient

        with ControlClient(socket_of(socket, config), timeout_s=30) as client:
            try:
                return ask(client)
            except PasswordNotGivenError as error:
                complain(error)
                return exits.USAGE

    finish(command)


@token.command("create")
def token_create(  # noqa: PLR0917 - one option each
    name: NameArgument,
    role: RoleOption = "read-only",
    days: Annotated[
        int | None, typer.Option("--days", min=1, help="Until it expires; else it does not.")
    ] = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it: it is shown this one time."""
    from gateway.cli import admin as work

    _asking(socket, config, lambda c: work.create_token(c, name, role, days, as_json=as_json))


@token.command("list")
def token_list(
    socket: SocketOption = None, config: OptionalConfig = None, as_json: JsonOption = False
) -> None:
    """Tokens, when they expire, and when they were used last."""
    from gateway.cli import admin as work

    _asking(socket, config, lambda c: work.list_tokens(c, as_json=as_json))


@token.command("delete")
def token_delete(
    which: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `list` shows them.")],
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Remove a token; requests with it are refused from now on."""
    from gateway.cli import admin as work

    _asking(socket, config, lambda c: work.delete_token(c, which))


@user.command("create")
def user_create(
    name: NameArgument,
    role: RoleOption = "admin",
    password_stdin: StdinOption = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Let somebody log in to the dashboard."""
    from gateway.cli import admin as work

    _asking(socket, config, lambda c: work.create_user(c, name, role, from_stdin=password_stdin))


@user.command("list")
def user_list(
    socket: SocketOption = None, config: OptionalConfig = None, as_json: JsonOption = False
) -> None:
    """Administrators and when they logged in last."""
    from gateway.cli import admin as work

    _asking(socket, config, lambda c: work.list_users(c, as_json=as_json))


@user.command("password")
def user_password(
    name: NameArgument,
    password_stdin: StdinOption = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Set a new password; sessions of theirs end."""
    from gateway.cli import admin as work

    _asking(socket, config, lambda c: work.new_password(c, name, from_stdin=password_stdin))


@user.command("role")
def user_role(
    name: NameArgument,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="admin, operator or read-only.")],
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Give another role; sessions of theirs end."""
    from gateway.cli import admin as work

    _asking(socket, config, lambda c: work.new_role(c, name, role))


@user.command("delete")
def user_delete(
    name: NameArgument, socket: SocketOption = None, config: OptionalConfig = None
) -> None:
    """Let somebody log in no more."""
    from gateway.cli import admin as work

    _asking(socket, config, lambda c: work.delete_user(c, name))


@admin.command("code")
def code(
    socket: SocketOption = None, config: OptionalConfig = None, as_json: JsonOption = False
) -> None:
    """Print the one-time address at which the first administrator is made in a browser."""
    from gateway.cli import admin as work

    _asking(socket, config, lambda c: work.make_code(c, as_json=as_json))


@admin.command("audit")
def audit(  # noqa: PLR0917 - one option each
    who: Annotated[str | None, typer.Option("--who", help="Part of a name.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Such as object-create.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="Part of a name.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME")] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Entries to show.")] = 50,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Who changed what, the newest first."""
    from gateway.cli import admin as work

    filters = {"who": who, "action": action, "target": target, "since": since, "until": until}
    _asking(socket, config, lambda c: work.show_audit(c, filters, most, as_json=as_json))

"""``gateway users``: the local users of ``[users]`` in the configuration."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli import exits
from gateway.cli.failure import complain, guarded
from gateway.cli.passwords import PasswordNotGivenError, given_password
from gateway.cli.run import DEFAULT_CONFIG

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.users.document import UserEntry
    from gateway.users.editing import UserFile

RELOAD = "Tell the running gateway: gateway reload"

users = typer.Typer(
    help="Local users: who may log in with name and password, and to which groups they belong.",
    no_args_is_help=True,
)

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="GATEWAY_CONFIG", metavar="FILE", help="Configuration."),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As the device sends it.")]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
Mschapv2Option = Annotated[
    bool | None,
    typer.Option(
        "--mschapv2/--no-mschapv2",
        help="Keep what EAP-MSCHAPv2 needs too; by default, if a connection asks for it.",
        show_default=False,
    ),
]


def _with_file(path: Path, action: Callable[["Config", "UserFile"], int]) -> NoReturn:
    """Load the configuration, open its user file, and leave with the action's exit status."""

    def command() -> int:
        from gateway.config import ConfigError, Problem, load, to_users
        from gateway.users.document import UserFileError
        from gateway.users.editing import UserFile

        config = load(path, with_files=False)
        settings = to_users.user_base(config)
        if settings is None:
            why = 'is not set, so there are no local users; give file = "users.toml"'
            raise ConfigError([Problem(path, "users.file", why)])
        try:
            return action(config, UserFile(settings))
        except UserFileError as error:
            complain(error)
            refused = isinstance(error.__context__, PermissionError)
            return exits.NO_PERMISSION if refused else exits.FAILED
        except PasswordNotGivenError as error:
            complain(error)
            return exits.USAGE

    sys.exit(guarded(command))


def _password(name: str, *, from_stdin: bool) -> str:
    """From standard input, or asked for twice without echo; never from the command line."""
    return given_password(f"Password of {name}", from_stdin=from_stdin, twice=True)


def _wants_mschapv2(config: "Config", given: bool | None) -> bool:
    if given is not None:
        return given
    return any(
        "eap-mschapv2" in section.user_auth and section.user_backend == "local"
        for section in config.connections.values()
    )


def _nt_hash(password: str, *, wanted: bool) -> bytes | None:
    if not wanted:
        return None
    from gateway.eap.mschapv2_crypto import nt_password_hash
    from gateway.users.document import UserFileError
    from gateway.users.passwords import PasswordRefusedError, canonical_password

    try:
        return nt_password_hash(canonical_password(password))
    except PasswordRefusedError as error:
        raise UserFileError(str(error)) from None


def _stored(entry: "UserEntry", config: "Config") -> str:
    """One line: what is in the files now, and what whoever steals them has."""
    if entry.nt_hash is None:
        return (
            "Stored: an scrypt hash of the password, for EAP-GTC and XAUTH; not for EAP-MSCHAPv2."
        )
    return (
        "Stored: an scrypt hash of the password, and for EAP-MSCHAPv2 its NT hash, encrypted "
        f"under {config.user_key_file}; whoever has both files can log in as {entry.name}."
    )


def _done(what: str, *more: str) -> int:
    for line in (what, *more, RELOAD):
        print(line)
    return exits.OK


def _checked(file: "UserFile", name: str, *, known: bool) -> None:
    """Refuse before a password is asked for in vain. The edit itself checks again."""
    from gateway.users.document import UserFileError
    from gateway.users.names import NameRefusedError, canonical_name

    try:
        canonical = canonical_name(name)
    except NameRefusedError as error:
        raise UserFileError(str(error)) from None
    if (canonical in {user.name for user in file.list()}) == known:
        return
    if known:
        raise UserFileError(f"there is no user {canonical}; see: gateway users list")
    raise UserFileError(f"there is a user {canonical} already; use: gateway users passwd")


@users.command()
def add(
    name: NameArgument,
    group: Annotated[
        list[str] | None, typer.Option("--group", "-g", metavar="GROUP", help="May be repeated.")
    ] = None,
    password_stdin: StdinOption = False,
    mschapv2: Mschapv2Option = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Add a user; the password is asked for."""

    def action(loaded: "Config", file: "UserFile") -> int:
        _checked(file, name, known=False)
        password = _password(name, from_stdin=password_stdin)
        nt_hash = _nt_hash(password, wanted=_wants_mschapv2(loaded, mschapv2))
        entry = file.add_user(name, password, groups=group or (), nt_hash=nt_hash)
        return _done(f"Added {entry.name}.", _stored(entry, loaded))

    _with_file(config, action)


@users.command()
def passwd(
    name: NameArgument,
    password_stdin: StdinOption = False,
    mschapv2: Mschapv2Option = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Set a user's password; it is asked for."""

    def action(loaded: "Config", file: "UserFile") -> int:
        _checked(file, name, known=True)
        password = _password(name, from_stdin=password_stdin)
        nt_hash = _nt_hash(password, wanted=_wants_mschapv2(loaded, mschapv2))
        entry = file.set_password(name, password, nt_hash=nt_hash)
        return _done(f"Changed the password of {entry.name}.", _stored(entry, loaded))

    _with_file(config, action)


@users.command()
def groups(
    name: NameArgument,
    group: Annotated[
        list[str] | None, typer.Argument(metavar="[GROUP]...", help="None: of no group.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Replace a user's groups, which choose its profile."""

    def action(_: "Config", file: "UserFile") -> int:
        entry = file.set_groups(name, group or ())
        return _done(f"Groups of {entry.name}: {', '.join(entry.groups) or 'none'}.")

    _with_file(config, action)


@users.command()
def enable(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let a user log in again."""

    def action(_: "Config", file: "UserFile") -> int:
        return _done(f"Enabled {file.set_enabled(name, enabled=True).name}.")

    _with_file(config, action)


@users.command()
def disable(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let a user log in no more; the password is kept."""

    def action(_: "Config", file: "UserFile") -> int:
        return _done(f"Disabled {file.set_enabled(name, enabled=False).name}.")

    _with_file(config, action)


@users.command()
def remove(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Remove a user and the password."""

    def action(_: "Config", file: "UserFile") -> int:
        file.remove_user(name)
        return _done(f"Removed {name}.")

    _with_file(config, action)


def _methods(entry: "UserEntry") -> list[str]:
    found = ["eap-gtc", "xauth"] if entry.password is not None else []
    return ["eap-mschapv2", *found] if entry.nt_hash is not None else found


@users.command("list")
def list_users(
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the users."""

    def action(_: "Config", file: "UserFile") -> int:
        from gateway.cli.output import console, printable, table

        found = file.list()
        if as_json:
            rows = [
                {
                    "name": entry.name,
                    "groups": list(entry.groups),
                    "enabled": entry.enabled,
                    "password_for": _methods(entry),
                }
                for entry in found
            ]
            print(json.dumps({"users": rows}, indent=2))
        elif not found:
            console().print("No user.")
        else:
            cells = [
                (
                    printable(entry.name),
                    printable(entry.groups),
                    printable(entry.enabled),
                    ", ".join(_methods(entry)) or "nothing: there is none",
                )
                for entry in found
            ]
            headings = ("name", "groups", "may log in", "password is good for")
            console().print(table(headings, cells))
        return exits.OK

    _with_file(config, action)

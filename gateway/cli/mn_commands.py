"""``gateway mn``: the commands of the mobile node; the work is done elsewhere."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.mn_run import DEFAULT_PROFILE, PROFILE_VARIABLE
from gateway.cli.options import JsonOption, finish

mn = typer.Typer(
    help="This host as a mobile node: inside or outside, its sessions go on.",
    no_args_is_help=True,
)
profile_group = typer.Typer(help="The profile, one file.", no_args_is_help=True)
mn.add_typer(profile_group, name="profile")

ProfileOption = Annotated[
    Path,
    typer.Option("--profile", "-p", envvar=PROFILE_VARIABLE, metavar="FILE", help="Profile."),
]
OptionalProfile = Annotated[
    Path | None,
    typer.Option("--profile", "-p", envvar=PROFILE_VARIABLE, metavar="FILE", help="Profile."),
]
NodeSocket = Annotated[
    Path | None,
    typer.Option("--socket", "-s", envvar="GATEWAY_MN_SOCKET", metavar="PATH", help="Its socket."),
]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


@mn.command()
def run(profile: ProfileOption = DEFAULT_PROFILE) -> None:
    """Be a mobile node, in the foreground. SIGTERM stops."""
    from gateway.cli.mn_run import run as start

    sys.exit(start(profile))


@mn.command()
def status(
    socket: NodeSocket = None, profile: OptionalProfile = None, as_json: JsonOption = False
) -> None:
    """Say where this host is, which access mode is in use, why, and since when."""

    def command() -> int:
        from gateway.cli import mn as node

        return node.status(node.socket_of(socket, profile), as_json=as_json)

    finish(command)


@mn.command()
def watch(
    socket: NodeSocket = None, profile: OptionalProfile = None, as_json: JsonOption = False
) -> None:
    """Show the status live; without a terminal, a line for each change."""

    def command() -> int:
        from gateway.cli import mn as node

        return node.watch(node.socket_of(socket, profile), as_json=as_json)

    finish(command)


@mn.command()
def unlock(
    password_stdin: StdinOption = False,
    socket: NodeSocket = None,
    profile: OptionalProfile = None,
) -> None:
    """Open the profile's sealed secrets; the password is asked for."""

    def command() -> int:
        from gateway.cli import exits
        from gateway.cli import mn as node
        from gateway.cli.failure import complain
        from gateway.cli.passwords import PasswordNotGivenError, given_password

        path = node.socket_of(socket, profile)
        if not node.needs_unlocking(path):
            print("not locked")
            return exits.OK
        try:
            password = given_password("Password", from_stdin=password_stdin, twice=False)
        except PasswordNotGivenError as error:
            complain(error)
            return exits.USAGE
        return node.unlock(path, password)

    finish(command)


@mn.command()
def lock(socket: NodeSocket = None, profile: OptionalProfile = None) -> None:
    """Forget the secrets and log out; nothing of the user's leaves until it is unlocked."""

    def command() -> int:
        from gateway.cli import mn as node

        return node.lock(node.socket_of(socket, profile))

    finish(command)


@mn.command()
def reconnect(socket: NodeSocket = None, profile: OptionalProfile = None) -> None:
    """Take nothing as proven any more: begin anew on every link."""

    def command() -> int:
        from gateway.cli import mn as node

        return node.reconnect(node.socket_of(socket, profile))

    finish(command)


@mn.command()
def portal(
    browser: Annotated[
        str | None,
        typer.Option("--browser", metavar="COMMAND", help="Instead of the one that is found."),
    ] = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="Close the way that another one opened.")
    ] = False,
    socket: NodeSocket = None,
    profile: OptionalProfile = None,
) -> None:
    """Log in at a captive portal's page: open a way for one browser, wait until it is open."""

    def command() -> int:
        from gateway.cli import mn as node
        from gateway.cli import mn_portal

        path = node.socket_of(socket, profile)
        return mn_portal.stop(path) if stop else mn_portal.portal(path, browser)

    finish(command)


@mn.command()
def check(profile: OptionalProfile = None, as_json: JsonOption = False) -> None:
    """Say what this host and the profile can do, what is missing, and the remedy."""

    def command() -> int:
        from gateway.cli.mn_check import check as run_check

        path = profile or (DEFAULT_PROFILE if DEFAULT_PROFILE.exists() else None)
        return run_check(path, as_json=as_json)

    finish(command)


@mn.command("import")
def import_profile(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="From the gateway; - is standard input.")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="The profile that is there.")] = False,
    password_stdin: StdinOption = False,
    profile: ProfileOption = DEFAULT_PROFILE,
) -> None:
    """Set this host up with the one file, or the text of the QR code, that a gateway made."""

    def command() -> int:
        from gateway.cli import exits
        from gateway.cli.failure import complain
        from gateway.cli.mn_import import ImportRefusedError, import_file
        from gateway.cli.passwords import PasswordNotGivenError, given_password

        def ask(user: str) -> str:
            return given_password(f"Password of {user}", from_stdin=password_stdin, twice=False)

        try:
            return import_file(file, profile, ask, replace=replace)
        except PasswordNotGivenError as error:
            complain(error)
            return exits.USAGE
        except ImportRefusedError as error:
            complain(error)
            return exits.FAILED

    finish(command)


@mn.command()
def release(
    socket: NodeSocket = None,
    profile: OptionalProfile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even though a node seems to be running.")
    ] = False,
) -> None:
    """Remove the kill switch that a node left: this host's plain network works again."""

    def command() -> int:
        from gateway.cli import mn as node
        from gateway.cli.mn_release import release as run_release

        path = profile or (DEFAULT_PROFILE if DEFAULT_PROFILE.exists() else None)
        state = node.state_dir_of(path)
        return run_release(node.socket_of(socket, path), state, force=force)

    finish(command)


@profile_group.command("example")
def profile_example() -> None:
    """Print the annotated example."""

    def command() -> int:
        from gateway.cli.mn_profile import example

        return example()

    finish(command)


@profile_group.command("seal")
def profile_seal(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The profile.")],
    password_stdin: StdinOption = False,
) -> None:
    """Encrypt the profile's secrets under a password, which is asked for twice."""

    def command() -> int:
        from gateway.cli import exits
        from gateway.cli.failure import complain
        from gateway.cli.mn_profile import seal
        from gateway.cli.passwords import PasswordNotGivenError, given_password
        from gateway.config.profile_sealing import WrongPasswordError

        try:
            password = given_password("New password", from_stdin=password_stdin, twice=True)
            return seal(file, password)
        except PasswordNotGivenError as error:
            complain(error)
            return exits.USAGE
        except WrongPasswordError:
            complain("the secrets that are sealed already have another password; give that one")
            return exits.FAILED
        except ValueError as error:
            complain(error)
            return exits.FAILED

    finish(command)


@profile_group.command("show")
def profile_show(profile: ProfileOption = DEFAULT_PROFILE, as_json: JsonOption = False) -> None:
    """Print every setting in force, defaults included; secrets are hidden."""

    def command() -> int:
        from gateway.cli.mn_profile import show

        return show(profile, as_json=as_json)

    finish(command)

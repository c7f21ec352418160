"""The commands, their options and help texts. The work is done elsewhere, imported when needed."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import exits
from gateway.cli.options import ConfigOption, JsonOption, OptionalConfig, SocketOption, finish
from gateway.cli.run import DEFAULT_CONFIG

_STATUSES = "\n\n".join(f"{number}: {meaning}" for number, meaning in exits.MEANING.items())

app = typer.Typer(
    help="Remote-access gateway: IPsec whose sessions follow the device.",
    epilog=f"Exit statuses:\n\n{_STATUSES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ike = typer.Typer(help="IKE SAs of the running gateway.", no_args_is_help=True)
child = typer.Typer(help="Child SAs of the running gateway.", no_args_is_help=True)
config_group = typer.Typer(help="The configuration file.", no_args_is_help=True)
app.add_typer(ike, name="ike")
app.add_typer(child, name="child")
app.add_typer(config_group, name="config")

ConnectionOption = Annotated[
    str | None, typer.Option("--connection", metavar="NAME", help="Only this connection's.")
]


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Start the gateway in the foreground. SIGHUP reloads, SIGTERM hands over, SIGINT stops."""
    from gateway.cli.run import run as start

    sys.exit(start(config))


@app.command("host")
def host_command(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show.")] = False,
) -> None:
    """Load the kernel's modules and set its sysctls, now and at every boot. Asks first."""

    def command() -> int:
        from gateway.cli.host import prepare

        return prepare(yes=yes, dry_run=dry_run)

    finish(command)


@app.command()
def check(
    config: OptionalConfig = None,
    diff: Annotated[
        Path | None,
        typer.Option("--diff", metavar="RUNNING", help="Show what a reload from RUNNING would do."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what this kernel and the configuration can do, what is missing, and the remedy."""

    def command() -> int:
        from gateway.cli.check import check as run_check
        from gateway.cli.check import check_difference

        if diff is not None:
            return check_difference(config or DEFAULT_CONFIG, diff, as_json=as_json)
        path = config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
        return run_check(path, as_json=as_json)

    finish(command)


@app.command()
def status(
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat every second.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every counter and SA.")] = False,
) -> None:
    """Show what is up, what is wrong, and what to do next."""

    def command() -> int:
        from gateway.cli import control
        from gateway.cli.status import status as show

        path = control.socket_of(socket, config)
        return show(path, as_json=as_json, watch=watch, everything=everything)

    finish(command)


@ike.command("list")
def ike_list(
    connection: ConnectionOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """List the IKE SAs."""

    def command() -> int:
        from gateway.cli import control

        path = control.socket_of(socket, config)
        return control.list_ike_sas(path, connection, as_json=as_json)

    finish(command)


@ike.command("explain")
def ike_explain(  # noqa: PLR0917 - one option each
    who: Annotated[
        str | None,
        typer.Argument(metavar="PEER|USER|ADDRESS", help="Whose logins; without it, everybody's."),
    ] = None,
    connection: ConnectionOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Not only the newest ten.")] = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Say why logins failed: theirs against ours, and what to do next."""

    def command() -> int:
        from gateway.cli import control
        from gateway.cli.explain import explain

        path = control.socket_of(socket, config)
        return explain(path, who, connection, everything=everything, as_json=as_json)

    finish(command)


@ike.command("rekey")
def ike_rekey(
    ike_sa: Annotated[str, typer.Argument(metavar="ID", help="As listed by: gateway ike list")],
    children: Annotated[
        bool, typer.Option("--children", help="Renew its child SAs instead of itself.")
    ] = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Renew the keys of an IKE SA, or of its child SAs, now."""

    def command() -> int:
        from gateway.cli import control

        return control.rekey(control.socket_of(socket, config), ike_sa, children=children)

    finish(command)


@ike.command("close")
def ike_close(
    ike_sa: Annotated[str, typer.Argument(metavar="ID", help="As listed by: gateway ike list")],
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Close an IKE SA and its child SAs; the peer is told."""

    def command() -> int:
        from gateway.cli import control

        return control.close_ike_sa(control.socket_of(socket, config), ike_sa)

    finish(command)


@ike.command("open")
def ike_open(
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="It needs a remote.")],
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Open a connection to its remote address."""

    def command() -> int:
        from gateway.cli import control

        return control.initiate(control.socket_of(socket, config), connection)

    finish(command)


@child.command("list")
def child_list(
    connection: ConnectionOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """List the child SAs with their traffic."""

    def command() -> int:
        from gateway.cli import control

        path = control.socket_of(socket, config)
        return control.list_child_sas(path, connection, as_json=as_json)

    finish(command)


@app.command()
def reload(socket: SocketOption = None, config: OptionalConfig = None) -> None:
    """Have the running gateway read its configuration again and apply the difference."""

    def command() -> int:
        from gateway.cli import control

        return control.reload(control.socket_of(socket, config))

    finish(command)


@app.command("stop")
def stop_command(
    unless_restarting: Annotated[
        bool,
        typer.Option(
            "--unless-restarting",
            help="Do nothing while the service manager restarts the gateway: sessions go on.",
        ),
    ] = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Have the running gateway say goodbye to its peers, clean up and end."""

    def command() -> int:
        from gateway.cli import control, stop

        return stop.stop(control.socket_of(socket, config), unless_restarting=unless_restarting)

    finish(command)


@app.command()
def events(
    socket: SocketOption = None,
    config: OptionalConfig = None,
    debug: Annotated[bool, typer.Option("--debug", help="Also those of debugging.")] = False,
) -> None:
    """Print what happens in the running gateway, as JSON lines, until interrupted."""

    def command() -> int:
        from gateway.cli import control

        return control.follow_events(control.socket_of(socket, config), debug=debug)

    finish(command)


@app.command()
def demo(
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Write what was measured.")
    ] = None,
) -> None:
    """Watch a strongSwan client keep its download while it moves; needs root."""

    def command() -> int:
        from gateway.cli.lab import demo as run_demo

        return run_demo(record)

    finish(command)


@config_group.command("example")
def config_example() -> None:
    """Print the annotated example."""

    def command() -> int:
        from gateway.cli.config import example

        return example()

    finish(command)


@config_group.command("show")
def config_show(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Print every setting in force, defaults included; secrets are hidden."""

    def command() -> int:
        from gateway.cli.config import show

        return show(config, as_json=as_json)

    finish(command)


@app.command()
def version() -> None:
    """Print the version."""
    from gateway import __version__

    print(f"gateway {__version__}")


def _add_groups() -> None:
    from gateway.cli import (
        mobility_commands,
        object_commands,
        observation_commands,
        remote_access_commands,
        store_commands,
    )
    from gateway.cli.admin_commands import admin
    from gateway.cli.lab import lab
    from gateway.cli.mn_commands import mn
    from gateway.cli.nar import nar
    from gateway.cli.provisioning_commands import authority, device
    from gateway.cli.users import users

    object_commands.add_to(app)
    mobility_commands.add_to(app)
    store_commands.add_to(app)
    observation_commands.add_to(app)
    remote_access_commands.add_to(app)
    app.add_typer(mn, name="mn")
    app.add_typer(nar, name="nar")
    app.add_typer(lab, name="lab")
    app.add_typer(users, name="users")
    app.add_typer(admin, name="admin")
    app.add_typer(device, name="device")
    app.add_typer(authority, name="ca")


_add_groups()

"""Commands about leases, rules, port forwards, names and MTU; the work is done elsewhere."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import JsonOption, OptionalConfig, SocketOption, finish

leases = typer.Typer(help="Inner addresses: who has them, who had them.", no_args_is_help=False)
rules = typer.Typer(help="Rules: what they carry, and who may reach what.", no_args_is_help=False)
names = typer.Typer(help="Names inside, and the gateway's own in public.", no_args_is_help=False)

DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="As gateway top lists it.")]
TextOption = Annotated[
    str | None,
    typer.Option("--search", "-q", metavar="TEXT", help="Part of a name, identity or address."),
]
PoolOption = Annotated[
    str | None, typer.Option("--pool", metavar="NAME", help="Only this pool's addresses.")
]


def _path(socket: Path | None, config: Path | None) -> Path:
    from gateway.cli import control

    return control.socket_of(socket, config)


@leases.callback(invoke_without_command=True)
def leases_list(  # noqa: PLR0917 - one option each
    context: typer.Context,
    pool: PoolOption = None,
    search: TextOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """List inner addresses that are held, and why. Or one of the commands below."""
    if context.invoked_subcommand is not None:
        return

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.leases(_path(socket, config), pool, search, as_json=as_json)

    finish(command)


@leases.command("history")
def leases_history(  # noqa: PLR0917 - one option each
    pool: PoolOption = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Only this one.")
    ] = None,
    search: TextOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Not only the newest 100.")] = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Say who had which inner address when, the newest first."""

    def command() -> int:
        from gateway.cli import remote_access

        wanted = {"pool": pool, "address": address, "q": search}
        path = _path(socket, config)
        return remote_access.lease_history(path, wanted, everything=everything, as_json=as_json)

    finish(command)


@leases.command("release")
def leases_release(
    pool: Annotated[str, typer.Argument(metavar="POOL")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="As gateway leases lists it.")],
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Give an address that is kept for an absent device free."""

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.release(_path(socket, config), pool, address)

    finish(command)


@leases.command("routes")
def leases_routes(
    socket: SocketOption = None, config: OptionalConfig = None, as_json: JsonOption = False
) -> None:
    """Say how full each pool is, how the inside learns where it is, and what to enter there."""

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.reachability(_path(socket, config), as_json=as_json)

    finish(command)


@rules.callback(invoke_without_command=True)
def rules_list(
    context: typer.Context,
    search: TextOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """List the rules and how much each let through or refused. Or one of the commands below."""
    if context.invoked_subcommand is not None:
        return

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.rules(_path(socket, config), search, as_json=as_json)

    finish(command)


@rules.command("of")
def rules_of(
    device: DeviceArgument,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Say which rules apply to a device now, and why."""

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.rules_of(_path(socket, config), device, as_json=as_json)

    finish(command)


@rules.command("test")
def rules_test(  # noqa: PLR0917 - one option each
    device: DeviceArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The other side.")],
    protocol: Annotated[
        str, typer.Argument(metavar="PROTOCOL", help="tcp, udp, icmp ... or a number.")
    ] = "tcp",
    port: Annotated[
        int,
        typer.Argument(metavar="PORT", min=0, max=65_535, help="Of the side that is connected to."),
    ] = 0,
    direction: Annotated[
        str,
        typer.Option(
            "--direction",
            metavar="DIRECTION",
            help="to-inside, from-inside, between-devices or to-gateway.",
        ),
    ] = "to-inside",
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a device may reach something, or be reached, and which rule says so."""

    def command() -> int:
        from gateway.cli import remote_access

        flow = remote_access.Flow(direction, address, protocol, port)
        return remote_access.rule_test(_path(socket, config), device, flow, as_json=as_json)

    finish(command)


@names.callback(invoke_without_command=True)
def names_show(
    context: typer.Context,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Show the forwarder and the names that devices have. Or the command below."""
    if context.invoked_subcommand is not None:
        return

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.names(_path(socket, config), as_json=as_json)

    finish(command)


@names.command("verify")
def names_verify(
    socket: SocketOption = None, config: OptionalConfig = None, as_json: JsonOption = False
) -> None:
    """Print the records that lead devices here (KX, SRV, A), and whether public DNS has them."""

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.names_verify(_path(socket, config), as_json=as_json)

    finish(command)


def redirects(
    socket: SocketOption = None, config: OptionalConfig = None, as_json: JsonOption = False
) -> None:
    """List the port forwards, and where each one leads now."""

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.redirects(_path(socket, config), as_json=as_json)

    finish(command)


def napt(
    search: TextOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """List sessions without inner addresses, and what they appear as."""

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.napt(_path(socket, config), search, as_json=as_json)

    finish(command)


def mtu(
    device: DeviceArgument,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Say how large a device's packets may be, with the arithmetic."""

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.mtu(_path(socket, config), device, as_json=as_json)

    finish(command)


def path_test(
    device: DeviceArgument,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Send probes of growing size through a device's tunnel and tell which ones arrive."""

    def command() -> int:
        from gateway.cli import remote_access

        return remote_access.path_test(_path(socket, config), device, as_json=as_json)

    finish(command)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(leases, name="leases")
    app.add_typer(rules, name="rules")
    app.add_typer(names, name="names")
    app.command()(redirects)
    app.command()(napt)
    app.command()(mtu)
    app.command("path-test")(path_test)

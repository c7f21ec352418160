"""Commands about mobile nodes, their options and help texts; the work is done elsewhere."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

from typing import Annotated

import typer

from gateway.cli.options import JsonOption, OptionalConfig, SocketOption, finish

binding = typer.Typer(help="Bindings of the running home agents.", no_args_is_help=True)

HomeAgentOption = Annotated[
    str | None, typer.Option("--home-agent", metavar="NAME", help="Only this home agent's.")
]


def bindings(
    node: Annotated[
        str | None, typer.Argument(metavar="NODE", help="Part of a name or NAI; else all.")
    ] = None,
    home_agent: HomeAgentOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """List where mobile nodes are."""

    def command() -> int:
        from gateway.cli import control, mobility

        path = control.socket_of(socket, config)
        return mobility.list_bindings(path, node, home_agent, as_json=as_json)

    finish(command)


def visitors(
    foreign_agent: Annotated[
        str | None,
        typer.Option("--foreign-agent", metavar="NAME", help="Only this foreign agent's."),
    ] = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """List mobile nodes that are registered by way of a foreign agent."""

    def command() -> int:
        from gateway.cli import control, mobility

        path = control.socket_of(socket, config)
        return mobility.list_visitors(path, foreign_agent, as_json=as_json)

    finish(command)


def home_networks(
    socket: SocketOption = None, config: OptionalConfig = None, as_json: JsonOption = False
) -> None:
    """List the home networks and how many of their nodes are away."""

    def command() -> int:
        from gateway.cli import control, mobility

        return mobility.list_home_networks(control.socket_of(socket, config), as_json=as_json)

    finish(command)


@binding.command("revoke")
def binding_revoke(
    home_address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Home address, as listed by: gateway bindings")
    ],
    home_agent: HomeAgentOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """End a binding; the foreign agent, or the mobile node, is told."""

    def command() -> int:
        from gateway.cli import control, mobility

        path = control.socket_of(socket, config)
        return mobility.revoke_binding(path, home_address, home_agent)

    finish(command)


def explain(  # noqa: PLR0917 - one option each
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="CODE|NODE|ADDRESS",
            help="A code of a registration's reply; or whose denials; without it, everybody's.",
        ),
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Only this agent's denials.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Not only the newest ten.")] = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a code means, or why registrations were denied, and what to do next."""

    def command() -> int:
        from gateway.cli import control
        from gateway.cli import explain_registrations as found

        if what is not None and what.isdecimal() and int(what) <= found.LAST_CODE:
            return found.explain_code(int(what), as_json=as_json)
        path = control.socket_of(socket, config)
        return found.explain_registrations(
            path, what, agent, everything=everything, as_json=as_json
        )

    finish(command)


def add_to(app: typer.Typer) -> None:
    """Give the program these commands."""
    app.command()(bindings)
    app.command()(visitors)
    app.command("home-networks")(home_networks)
    app.add_typer(binding, name="binding")
    app.command()(explain)

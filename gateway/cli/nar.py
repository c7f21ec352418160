"""``gateway nar``: its commands, options and help texts; the work is done elsewhere."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

from typing import Annotated

import typer

from gateway.cli.nar_client import register
from gateway.cli.options import JsonOption, OptionalConfig, SocketOption, finish

nar = typer.Typer(
    help="Negotiated address reuse: parts of one address for many hosts.", no_args_is_help=True
)

_SERVER_SIDE = "The gateway: who has what"

ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="NAME", help="Only this NAR server's.")
]
ClientOption = Annotated[
    str | None, typer.Option("--client", metavar="ADDRESS", help="Only this client's.")
]
UserOption = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Only this user's.")]
ProtocolOption = Annotated[
    str | None,
    typer.Option(
        "--protocol", metavar="PROTOCOL", help="Only tcp, udp, icmp, esp, ah, ip-ip or gre."
    ),
]
AddressOption = Annotated[
    str | None, typer.Option("--address", metavar="ADDRESS", help="Only of this outer address.")
]
ValueOption = Annotated[
    str | None,
    typer.Option(
        "--value", metavar="VALUE", help="Only this port, identifier, SPI (0x) or inner address."
    ),
]


@nar.command("clients", rich_help_panel=_SERVER_SIDE)
def clients(  # noqa: PLR0917 - one option each
    client: ClientOption = None,
    user: UserOption = None,
    server: ServerOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """List who has parts of this gateway's addresses."""

    def command() -> int:
        from gateway.cli import control, nar_views

        filters = {"server": server, "client": client, "user": user}
        path = control.socket_of(socket, config)
        return nar_views.list_clients(path, filters, as_json=as_json)

    finish(command)


@nar.command("mappings", rich_help_panel=_SERVER_SIDE)
def mappings(  # noqa: PLR0917 - one option each
    client: ClientOption = None,
    user: UserOption = None,
    protocol: ProtocolOption = None,
    address: AddressOption = None,
    value: ValueOption = None,
    server: ServerOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """List what this gateway has leased to them."""

    def command() -> int:
        from gateway.cli import control, nar_views

        filters = {
            "server": server,
            "client": client,
            "user": user,
            "protocol": protocol,
            "address": address,
            "value": value,
        }
        path = control.socket_of(socket, config)
        return nar_views.list_mappings(path, filters, as_json=as_json)

    finish(command)


@nar.command("audit", rich_help_panel=_SERVER_SIDE)
def audit(  # noqa: PLR0917 - one option each
    address: AddressOption = None,
    protocol: ProtocolOption = None,
    value: ValueOption = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="What was held then: 2026-01-31T12:00:00Z."),
    ] = None,
    user: UserOption = None,
    client: ClientOption = None,
    server: ServerOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Not only the newest 50.")] = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Say who held which port, SPI or identifier when."""

    def command() -> int:
        from gateway.cli import control, nar_views

        filters = {
            "server": server,
            "address": address,
            "protocol": protocol,
            "value": value,
            "at": at,
            "user": user,
            "client": client,
        }
        path = control.socket_of(socket, config)
        return nar_views.show_audit(path, filters, everything=everything, as_json=as_json)

    finish(command)


@nar.command("end", rich_help_panel=_SERVER_SIDE)
def end(
    what: Annotated[
        str,
        typer.Argument(
            metavar="LEASE|CLIENT",
            help="A lease as listed by: gateway nar mappings; or a client's address.",
        ),
    ],
    server: ServerOption = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """End one lease, or everything that a client has."""

    def command() -> int:
        from gateway.cli import control, nar_views

        return nar_views.end(control.socket_of(socket, config), what, server)

    finish(command)


register(nar)

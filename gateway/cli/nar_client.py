"""``gateway nar lease``, ``run``, ``list`` and ``release``: the client's options and help texts."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import JsonOption, finish

_PANEL = "This host as a client"
_HOW = "With the server"
_WHAT = "What is leased"

ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="GATEWAY_NAR_SERVER",
        metavar="HOST[:PORT]",
        help="The NAR server; port 1080, or with TLS 1081, unless named.",
        rich_help_panel=_HOW,
    ),
]
UserOption = Annotated[
    str | None,
    typer.Option(
        "--user",
        envvar="GATEWAY_NAR_USER",
        metavar="NAME",
        help="Log in; the password comes from --password-file, $GATEWAY_NAR_PASSWORD or a prompt.",
        rich_help_panel=_HOW,
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="Its first line is the password; - is standard input.",
        rich_help_panel=_HOW,
    ),
]
TlsOption = Annotated[
    bool | None,
    typer.Option(
        "--tls/--no-tls",
        help="Speak TLS; its name is verified. --no-tls sends a password in the clear.",
        show_default=False,
        rich_help_panel=_HOW,
    ),
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        help="Trust these authorities (PEM) instead of the system's; implies --tls.",
        rich_help_panel=_HOW,
    ),
]
GreOption = Annotated[
    bool, typer.Option("--gre", help="Tunnel by GRE instead of IP-in-IP.", rich_help_panel=_HOW)
]
L2tpOption = Annotated[
    bool, typer.Option("--l2tp", help="Tunnel by L2TPv3 in UDP.", rich_help_panel=_HOW)
]
DataplaneOption = Annotated[
    str,
    typer.Option(
        "--dataplane",
        metavar="auto|kernel|portable",
        help="Who has the tunnel: the kernel, a process of ours, or the kernel where it can.",
        rich_help_panel=_HOW,
    ),
]
TranslatedOption = Annotated[
    bool,
    typer.Option(
        "--translated",
        help="No tunnel: the server exchanges addresses. Not for AH or ESP in transport mode.",
        rich_help_panel=_HOW,
    ),
]
PeerOption = Annotated[
    str | None,
    typer.Option(
        "--peer", metavar="ADDRESS", help="The host outside that it is for.", rich_help_panel=_WHAT
    ),
]
CountOption = Annotated[
    int | None,
    typer.Option(
        "--count", min=1, max=256, help="So many ports or SPIs in a row.", rich_help_panel=_WHAT
    ),
]
PortOption = Annotated[
    int,
    typer.Option(
        "--port", min=0, max=65535, help="The (first) port, a wish.", rich_help_panel=_WHAT
    ),
]
RemotePortOption = Annotated[
    int | None,
    typer.Option(
        "--remote-port",
        min=1,
        max=65535,
        help="TCP: for one connection to this port of the peer. UDP: answers come from it.",
        rich_help_panel=_WHAT,
    ),
]
SpiOption = Annotated[
    str,
    typer.Option("--spi", metavar="SPI", help="The (first) SPI, a wish.", rich_help_panel=_WHAT),
]
IdentifierOption = Annotated[
    int,
    typer.Option(
        "--id", min=0, max=65535, help="ICMP: the identifier, a wish.", rich_help_panel=_WHAT
    ),
]
InnerOption = Annotated[
    str | None,
    typer.Option(
        "--inner",
        metavar="ADDRESS",
        help="Tunnels: our address inside, the home address with Mobile IP.",
        rich_help_panel=_WHAT,
    ),
]
KindArgument = Annotated[
    str,
    typer.Argument(
        metavar="KIND",
        help="ike (a UDP port and SPIs for ESP), esp, ah, udp, tcp, icmp, ipip or gre.",
    ),
]
BackgroundOption = Annotated[
    bool,
    typer.Option("--background", help="Return when it is leased; `gateway nar release` ends it."),
]


def register(app: typer.Typer) -> None:
    """Add the client's commands to ``gateway nar``."""
    app.command("lease", rich_help_panel=_PANEL)(lease)
    app.command(
        "run",
        rich_help_panel=_PANEL,
        context_settings={"allow_interspersed_args": False},
    )(run)
    app.command("list", rich_help_panel=_PANEL)(list_sessions)
    app.command("release", rich_help_panel=_PANEL)(release)


def lease(  # noqa: PLR0917 - one option each
    kind: KindArgument,
    server: ServerOption,
    peer: PeerOption = None,
    count: CountOption = None,
    port: PortOption = 0,
    remote_port: RemotePortOption = None,
    spi: SpiOption = "0",
    identifier: IdentifierOption = 0,
    inner: InnerOption = None,
    user: UserOption = None,
    password_file: PasswordFile = None,
    tls: TlsOption = None,
    ca: CaOption = None,
    translated: TranslatedOption = False,
    gre: GreOption = False,
    l2tp: L2tpOption = False,
    dataplane: DataplaneOption = "auto",
    background: BackgroundOption = False,
    as_json: JsonOption = False,
) -> None:
    """Lease a part of a NAR server's address for this host, until interrupted.

    Says what was leased and what to tell strongSwan and others, holds it, and gives it back at
    the end. Needs root, unless it is --translated.
    """

    def command() -> int:
        from gateway.cli import nar_client_lease as leasing
        from gateway.cli.nar_client_options import Access

        access = Access(
            server,
            user,
            password_file,
            tls,
            ca,
            translated=translated,
            gre=gre,
            l2tp=l2tp,
            dataplane=dataplane,
        )
        wish = leasing.Wish(kind, peer, count, port, remote_port, spi, identifier, inner)
        return leasing.lease(access, wish, background=background, as_json=as_json)

    finish(command)


def run(  # noqa: PLR0917 - one option each
    server: ServerOption,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run.")],
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="ADDRESS",
            help="Whom it talks to; several are possible. Needed where the server's rules lend no "
            "ports that are open to anybody, and for ping.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    ports: Annotated[
        int,
        typer.Option("--ports", min=1, max=256, help="So many ports.", rich_help_panel=_WHAT),
    ] = 32,
    port: PortOption = 0,
    udp: Annotated[
        bool, typer.Option("--udp", help="The same ports for UDP, too.", rich_help_panel=_WHAT)
    ] = False,
    dns: Annotated[
        str,
        typer.Option(
            "--dns",
            metavar="host|keep|ADDRESS",
            help="Names: ask this host's name servers, leave /etc/resolv.conf as it is, or ask "
            "this one from the leased address.",
        ),
    ] = "host",
    run_as: Annotated[
        str | None, typer.Option("--as", metavar="USER", help="Run it as this user of the host.")
    ] = None,
    user: UserOption = None,
    password_file: PasswordFile = None,
    tls: TlsOption = None,
    ca: CaOption = None,
    gre: GreOption = False,
    l2tp: L2tpOption = False,
    dataplane: DataplaneOption = "auto",
) -> None:
    """Run a command whose only address is the NAR server's: `gateway nar run ... -- ssh host`.

    It sees $NAR_ADDRESS, $NAR_PORTS (FIRST-LAST) and with --peer $NAR_ICMP_ID (ping -e). Its exit
    status is passed on; 125: it could not be started. Needs root.
    """

    def work() -> int:
        from gateway.cli import nar_client_run
        from gateway.cli.nar_client_options import Access

        access = Access(
            server, user, password_file, tls, ca, gre=gre, l2tp=l2tp, dataplane=dataplane
        )
        wish = nar_client_run.Wish(
            tuple(command), tuple(peer or ()), ports, port, udp=udp, dns=dns, run_as=run_as
        )
        return nar_client_run.run(access, wish)

    finish(work)


def list_sessions(as_json: JsonOption = False) -> None:
    """List what this host has leased."""

    def command() -> int:
        from gateway.cli.nar_client_sessions import list_sessions as listed

        return listed(as_json=as_json)

    finish(command)


def release(
    session: Annotated[
        int | None, typer.Argument(metavar="[SESSION]", help="As `gateway nar list` numbers it.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All sessions, and what killed ones left.")
    ] = False,
) -> None:
    """Give leases back and take away what they needed on this host."""

    def command() -> int:
        from gateway.cli import exits
        from gateway.cli.failure import complain
        from gateway.cli.nar_client_sessions import release as end

        if (session is None) == (not every):
            complain("name one session, or --all; `gateway nar list` shows them")
            return exits.USAGE
        return end(session)

    finish(command)

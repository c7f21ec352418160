"""Options of the commands that look: top, log, support, capture. The work is done elsewhere."""
# ruff: noqa: PLC0415 - each command imports what it needs, so that the others stay quick

import re
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import JsonOption, OptionalConfig, SocketOption, finish

_SPAN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span_s(text: str) -> int:
    """Seconds of ``15m``, ``2h``, ``7d``; raises typer.BadParameter."""
    found = _SPAN.fullmatch(text)
    if found is None or not int(found[1]):
        raise typer.BadParameter(f"{text}: give a number with s, m, h or d, such as 15m or 7d")
    return int(found[1]) * _UNITS[found[2]]


def top(
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Show devices and their traffic, live. Keys: q quits, s sorts, f filters."""

    def command() -> int:
        from gateway.cli import control
        from gateway.cli.top import top as show

        return show(control.socket_of(socket, config), once=once)

    finish(command)


def log(  # noqa: PLR0917 - one option each
    session: Annotated[
        str | None,
        typer.Option("--session", metavar="ID", help="`session` of a line of the log."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="As gateway top lists it.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="SPAN", help="For instance 15m, 2h, 7d.")
    ] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="Only the past.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Also events of debugging.")] = False,
    socket: SocketOption = None,
    config: OptionalConfig = None,
    as_json: JsonOption = False,
) -> None:
    """Print what happened to a device or in a session, then what happens, until interrupted."""
    since_s = None if since is None else span_s(since)

    def command() -> int:
        from gateway.cli import control
        from gateway.cli.follow import follow

        path = control.socket_of(socket, config)
        live = not no_follow
        return follow(path, session, device, since_s, live=live, debug=debug, as_json=as_json)

    finish(command)


def support(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A new file; - is standard output."),
    ] = None,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Collect what a bug report needs into a tar.gz file, without secrets."""

    def command() -> int:
        from gateway.cli import control
        from gateway.cli.support import support as fetch

        return fetch(control.socket_of(socket, config), output)

    finish(command)


def capture(  # noqa: PLR0917 - one option each
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="As gateway top lists it.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A new file; - is standard output."),
    ] = None,
    seconds: Annotated[int, typer.Option("--seconds", min=1, max=300)] = 60,
    megabytes: Annotated[int, typer.Option("--megabytes", min=1, max=64)] = 16,
    socket: SocketOption = None,
    config: OptionalConfig = None,
) -> None:
    """Record the packets of one device, outside and inside its tunnels, as a pcapng file."""

    def command() -> int:
        from gateway.cli import control
        from gateway.cli.support import capture as record

        path = control.socket_of(socket, config)
        return record(path, device, output, seconds=seconds, megabytes=megabytes)

    finish(command)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (top, log, support, capture):
        app.command()(command)

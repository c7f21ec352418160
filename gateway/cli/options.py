"""Options that several commands have, and how a command ends."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway.cli.failure import guarded

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="GATEWAY_CONFIG", metavar="FILE", help="Configuration."),
]
OptionalConfig = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="GATEWAY_CONFIG", metavar="FILE", help="Configuration."),
]
SocketOption = Annotated[
    Path | None,
    typer.Option("--socket", "-s", envvar="GATEWAY_SOCKET", metavar="PATH", help="Control socket."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def finish(command: Callable[[], int]) -> NoReturn:
    """Run a command and leave with its exit status."""
    sys.exit(guarded(command))

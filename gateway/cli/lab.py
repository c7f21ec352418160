"""``gateway lab`` and ``gateway demo``: the topology in network namespaces."""
# ruff: noqa: PLC0415 - the lab's modules are imported by the commands that use them

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import exits
from gateway.cli.failure import complain, guarded

if TYPE_CHECKING:
    from gateway.lab.topology import Lab

lab = typer.Typer(
    help="A network to try things in: device, access networks, NAT, gateway, server; needs root.",
    no_args_is_help=True,
)


def _prefix(text: str) -> str:
    """A prefix that no namespace of somebody else can have by accident."""
    if not re.fullmatch(r"gw[a-z0-9]{0,8}-", text):
        raise typer.BadParameter('use "gw", up to 8 letters and digits, and "-", such as gwlab-')
    return text


PrefixOption = Annotated[
    str,
    typer.Option(
        "--prefix", metavar="PREFIX", callback=_prefix, help="Begins the namespaces' names."
    ),
]
DEFAULT_PREFIX = "gwlab-"


def _with_lab(prefix: str, action: Callable[["Lab"], int | None]) -> None:
    from gateway.lab.processes import LabError
    from gateway.lab.topology import Lab

    def command() -> int:
        try:
            return action(Lab(prefix)) or exits.OK
        except LabError as error:
            complain(error)
            return exits.NO_PERMISSION if "needs root" in str(error) else exits.FAILED

    sys.exit(guarded(command))


@lab.command()
def up(
    prefix: PrefixOption = DEFAULT_PREFIX,
    fresh: Annotated[bool, typer.Option("--fresh", help="Clear an old one first.")] = False,
    access: Annotated[
        str, typer.Option("--access", metavar="NETWORK", help="Where the device is.")
    ] = "access1",
) -> None:
    """Build the network."""
    _with_lab(prefix, lambda lab: lab.up(fresh=fresh, access=access))


@lab.command()
def status(
    prefix: PrefixOption = DEFAULT_PREFIX,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show hosts, addresses and processes; exit status 1 when it is not up."""

    def action(lab: "Lab") -> int:
        state = lab.status()
        if as_json:
            print(json.dumps(state, indent=2))
        else:
            _print_state(state)
        return exits.OK if state["up"] else exits.FAILED

    _with_lab(prefix, action)


def _print_state(state: dict[str, object]) -> None:
    from gateway.cli.output import console, printable, table

    if not state["up"]:
        print("The lab is not up; build it with: gateway lab up")
        return
    hosts = state["hosts"]
    rows = [
        (host, interface, printable(addresses))
        for host, interfaces in (hosts.items() if isinstance(hosts, dict) else ())
        for interface, addresses in interfaces.items()
    ]
    out = console()
    out.print(table(("host", "interface", "addresses"), rows))
    for name in ("access", "nat", "processes"):
        value = state.get(name)
        shown = [f"{k} {v}" for k, v in value.items()] if isinstance(value, dict) else value
        out.print(f"{name}: {printable(shown)}")


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec(  # noqa: A001 - the command's name
    host: Annotated[str, typer.Argument(metavar="HOST", help="As listed by: gateway lab status")],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...")],
    prefix: PrefixOption = DEFAULT_PREFIX,
) -> None:
    """Run a command on a host; its exit status is passed on."""
    argv = command[1:] if command[0] == "--" else command
    if not argv:
        raise typer.BadParameter("name a command", param_hint="COMMAND")
    _with_lab(prefix, lambda lab: lab.exec(host, argv))


@lab.command()
def move(
    access: Annotated[str, typer.Argument(metavar="NETWORK", help="access1, access2 or nat")],
    prefix: PrefixOption = DEFAULT_PREFIX,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Enter the new network before leaving the old.")
    ] = False,
) -> None:
    """Move the device to another access network."""
    _with_lab(prefix, lambda lab: lab.move(access, make_before_break=overlap))


@lab.command()
def down(prefix: PrefixOption = DEFAULT_PREFIX) -> None:
    """Take the network away, with every process in it."""
    _with_lab(prefix, lambda lab: lab.down())


@lab.command()
def matrix(
    only: Annotated[
        str,
        typer.Option("--only", metavar="PATTERN", help="Cells whose name contains it; * and ?."),
    ] = "*",
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write the table there.")
    ] = None,
    names: Annotated[bool, typer.Option("--list", help="Print the cells' names only.")] = False,
) -> None:
    """Try every method with strongSwan and libreswan in both roles."""
    from gateway.lab.matrix.command import run_matrix
    from gateway.lab.matrix.rows import cells
    from gateway.lab.processes import LabError

    def command() -> int:
        if not cells(only):
            raise typer.BadParameter("no cell has such a name, see --list", param_hint="--only")
        if names:
            print("\n".join(cell.name for cell in cells(only)))
            return exits.OK
        try:
            return exits.OK if run_matrix(only, write, _at_once) else exits.FAILED
        except LabError as error:
            complain(error)
            return exits.NO_PERMISSION if "needs root" in str(error) else exits.FAILED

    sys.exit(guarded(command))


@lab.command()
def tour(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    leg: Annotated[
        list[str] | None,
        typer.Option("--leg", metavar="MODE", help="Only the rounds by vf, vc, cvf, cvc, mc."),
    ] = None,
) -> None:
    """Move a device with a live session through every place and every access mode.

    The exit status is 0 when the session lived.
    """
    from gateway.lab.tour import LEGS
    from gateway.lab.tour_table import show_tour

    legs = [one for one in LEGS if leg is None or one.own in leg]
    if unknown := sorted(set(leg or ()) - {one.own for one in LEGS}):
        allowed = ", ".join(one.own for one in LEGS)
        raise typer.BadParameter(f"{unknown[0]!r} given, allowed are {allowed}", param_hint="--leg")

    _by_root(lambda: show_tour(legs, as_json=as_json).lived)


@lab.command()
def overhead(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure what every access mode costs on the wire, beside the figures of draft 001.

    The exit status is 0 when every figure is right.
    """
    from gateway.lab.overhead_table import show_overhead

    _by_root(lambda: show_overhead(as_json=as_json))


@lab.command()
def nar(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Two hosts behind one address, each with IPsec to the same gateway outside, without UDP.

    The exit status is 0 when both tunnels work.
    """
    from gateway.lab.nar.story import show

    _by_root(lambda: show(as_json=as_json).holds)


def _by_root(holds: Callable[[], bool]) -> None:
    from gateway.lab.processes import LabError

    def command() -> int:
        try:
            return exits.OK if holds() else exits.FAILED
        except LabError as error:
            complain(error)
            return exits.NO_PERMISSION if "needs root" in str(error) else exits.FAILED

    sys.exit(guarded(command))


def _at_once(line: str) -> None:
    print(line, flush=True)


def demo(record: Path | None) -> int:
    """Run the demonstration; returns its exit status."""
    from gateway.lab.demo import run
    from gateway.lab.processes import LabError

    try:
        return run(record)
    except LabError as error:
        complain(error)
        return exits.NO_PERMISSION if "needs root" in str(error) else exits.FAILED

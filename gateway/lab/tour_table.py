"""What `gateway lab tour` shows: a line for each step as it ends, the table, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from gateway.lab.tour import LEGS, Leg, Place, StepResult, TourResult, tour

LAYERS = ("x-MIP", "IKE", "i-MIP")
HEADINGS = ("mode", "octets", "gap ms", "lost", "of", "shell ms", *LAYERS)


def show_tour(legs: Sequence[Leg] = LEGS, *, as_json: bool = False) -> TourResult:
    """Make the tour and show it; progress goes to stderr when the result is JSON."""
    console = Console(stderr=as_json, soft_wrap=True, width=max(100, Console().width))
    total = sum(len(leg.steps()) for leg in legs)
    done: list[StepResult] = []
    with console.status("building the network and starting five gateways") as status:

        def began(leg: Leg, place: Place) -> None:
            status.update(f"[{len(done) + 1}/{total}] {leg.name}: {place.name}")

        def ended(step: StepResult) -> None:
            done.append(step)
            console.print(f"\\[{len(done)}/{total}] {line(step)}", highlight=False)

        result = tour(legs, began, ended)
    if as_json:
        print(json.dumps(as_dict(result), indent=2))
        return result
    console.print(table(result.steps))
    for text in (*result.broken, result.failure):
        if text:
            console.print(text, markup=False, highlight=False, style="red")
    told = "The session lived." if result.lived else "The session did not live."
    console.print(told, style="bold green" if result.lived else "bold red")
    return result


def line(step: StepResult) -> str:
    """A step in one line."""
    return (
        f"{step.place}: {step.mode}, {step.overhead_octets} octets, gap {step.gap_ms:.0f} ms,"
        f" {step.lost} of {step.sent} lost"
    )


def table(steps: Sequence[StepResult]) -> Table:
    """The steps of all legs."""
    shown = Table(
        title="One session: a shell, a download, and a call of 50 packets/s each way",
        caption="octets: overhead on the device's wire; gap and losses: of the call; x-MIP, IKE,"
        " i-MIP: the device's messages of each layer",
    )
    shown.add_column("place", no_wrap=True)
    for heading in HEADINGS:
        shown.add_column(heading, justify="right")
    leg = ""
    for step in steps:
        if step.leg != leg:
            leg = step.leg
            shown.add_section()
            shown.add_row(f"[bold]{leg}[/bold]")
        shown.add_row(
            step.place,
            step.mode,
            str(step.overhead_octets),
            f"{step.gap_ms:.0f}",
            str(step.lost),
            str(step.sent),
            f"{step.shell_gap_ms:.0f}",
            *(str(step.messages.get(layer, 0)) for layer in LAYERS),
        )
    return shown


def as_dict(result: TourResult) -> dict[str, object]:
    """What --json prints."""
    return {
        "lived": result.lived,
        "failure": result.failure,
        "broken": result.broken,
        "steps": [asdict(step) for step in result.steps],
    }

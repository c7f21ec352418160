"""`gateway demo`: the story, told step by step with what was measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.lab.kernel import PORTABLE_PROBES, missing_features
from gateway.lab.processes import LabError
from gateway.lab.story import INNER_OCTETS, Attack, Move, Story
from gateway.lab.topology import Lab

DRAWING = """\
  device --+-- access1 --+
           +-- access2 --+-- internet --- gateway --- intranet server
           +-- NAT ------+      |        192.0.2.1      10.1.0.10
                             attacker
"""


class Teller:
    """Prints a step's title when it begins, and what came of it when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = 0

    def step(self, title: str) -> None:
        """Open a chapter."""
        self._step += 1
        self._console.print(f"\n[bold][{self._step}/6][/bold] {title}", highlight=False)

    @contextmanager
    def doing(self, what: str) -> Iterator[Callable[[str], None]]:
        """Something that takes a while; call what it yields with the outcome."""
        outcome: list[str] = []
        began = time.monotonic()
        with self._console.status(what):
            yield outcome.append
        said = f": {outcome[0]}" if outcome else ""
        took = time.monotonic() - began
        self._console.print(
            f"  [green]ok[/green] {what}{said} [dim]({took:.1f} s)[/dim]", highlight=False
        )


def run(record: Path | None = None) -> int:
    """Tell the story; with `record`, also write its figures there as JSON.

    Returns 0 when every step held and 1 otherwise. Raises LabError where the lab cannot be built.
    """
    if missing := missing_features(PORTABLE_PROBES):
        lacks = ", ".join(missing)
        raise LabError(f"the demo needs root and a kernel with: {lacks}; try make demo KERNEL=test")
    console = Console(soft_wrap=True, width=max(100, Console().width))
    console.print("A strongSwan device, this gateway, and the networks between them:\n")
    console.print(DRAWING, highlight=False, markup=False)
    teller = Teller(console)
    with Lab("gwdemo-") as lab:
        story = Story(lab)
        try:
            moves, attack, malformed = _tell(teller, story)
        except LabError as error:
            console.print(f"  [red]failed[/red] {error}", highlight=False)
            console.print(f"\nThe gateway's log:\n{story.gateway.output()}", markup=False)
            return 1
        finally:
            story.device.stop()
            story.gateway.stop()
    console.print(_table(moves))
    holds = not attack.moved and not malformed and all(m.ike_messages == 0 for m in moves[1:])
    console.print(
        f"The download went on through every move. The attacker's {attack.forged} forged and"
        f" {attack.replayed} replayed packet moved {'it!' if attack.moved else 'nothing'}."
        f" tshark found {malformed or 'no'} malformed packet in the captures.",
        highlight=False,
    )
    if record is not None:
        figures = {"moves": [asdict(m) for m in moves], "attack": asdict(attack)}
        record.write_text(json.dumps({**figures, "malformed": malformed}, indent=2) + "\n")
    console.print("[bold green]The demo holds.[/]" if holds else "[bold red]The demo fails.[/]")
    return 0 if holds else 1


def _tell(teller: Teller, story: Story) -> tuple[list[Move], Attack, int]:
    teller.step("The gateway starts, a device connects with a certificate (IKEv2)")
    with teller.doing("gateway check") as said:
        said(story.check())
    with teller.doing(f"gateway run, {story.device.name}") as said:
        said(f"the gateway was ready after {story.start():.1f} s")
    with teller.doing("the gateway's dataplane") as said:
        said(story.dataplane())
    with teller.doing("the intranet's server is not reachable without a tunnel"):
        story.closed_without_tunnel()
    with teller.doing("the device connects and loads the intranet's page") as said:
        said(story.connect(mobike=True))

    moves = []
    teller.step("The device changes its access network and says so (MOBIKE)")
    moves.append(_move(teller, story, "MOBIKE, another access network", story.change_access))
    _reconnect(teller, story, "nat")
    teller.step("The NAT in front of the device changes its mapping; nobody says anything")
    moves.append(_move(teller, story, "UDP encapsulation, NAT remaps", story.change_mapping))
    _reconnect(teller, story, "access1", native_esp=True)
    teller.step("Native ESP: the device's packets come from a new address; nobody says anything")
    moves.append(_move(teller, story, "native ESP, new address", story.change_address))

    teller.step("An attacker sends a forged and a replayed packet from a third address")
    with teller.doing("both are counted, nothing moves, the page loads") as said:
        attack = story.attack()
        said(f"forged {attack.forged}, replayed {attack.replayed}")
    teller.step("What it took")
    with teller.doing("tshark reads every capture"):
        malformed = story.malformed()
    return moves, attack, malformed


def _reconnect(teller: Teller, story: Story, access: str, *, native_esp: bool = False) -> None:
    with teller.doing(f"the device goes to {access}"):
        story.disconnect()
        story.lab.move(access)
    if native_esp and story.needs_another_device():
        with teller.doing("strongSwan's user-space IPsec has ESP in UDP only") as said:
            story.change_device()
            said(f"the device has {story.device.name} from now on")
    with teller.doing(f"the device reconnects from {access} with MOBIKE off") as said:
        said(story.connect(mobike=False))


def _move(teller: Teller, story: Story, name: str, act: Callable[[], None]) -> Move:
    with teller.doing("a download and a stream each way run on meanwhile") as said:
        move = story.move(name, act)
        said(f"{move.old} -> {move.new}, proved by {move.proof}")
    return move


def _table(moves: list[Move]) -> Table:
    table = Table(title=f"Stream of 250 packets/s of {INNER_OCTETS} octets towards the device")
    table.add_column("move", no_wrap=True)
    for heading in ("gap ms", "lost", "of", "IKE messages", "overhead octets"):
        table.add_column(heading, justify="right")
    for move in moves:
        table.add_row(
            move.name,
            f"{move.gap_ms:.1f}",
            str(move.lost),
            str(move.sent),
            str(move.ike_messages),
            str(move.overhead_octets),
        )
    return table

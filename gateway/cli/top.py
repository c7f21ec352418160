"""`gateway top`: devices and their traffic, live."""

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from gateway.cli import exits
from gateway.cli.output import console, duration, octets, printable
from gateway.cli.status import fitting, samples
from gateway.control.client import ControlClient, as_page
from gateway.control.observation_operations import WHERES
from gateway.control.protocol import MAX_PAGE

INTERVAL_S = 1.0
SORTS = ("-traffic", "-last_seen", "name", "where", "-handovers", "connection")
FILTERS = (None, *WHERES)
LINES_ABOVE = 7
"""Of the screen, that are no devices."""


@dataclass(slots=True)
class Choice:
    """How the list is sorted and filtered; keys change it."""

    sort: str = SORTS[0]
    where: str | None = None

    def key(self, pressed: str) -> bool:
        """Take a key; False ends the program."""
        if pressed == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        elif pressed == "f":
            self.where = FILTERS[(FILTERS.index(self.where) + 1) % len(FILTERS)]
        return pressed not in {"q", "Q", "\x03", "\x04"}


class Rates:
    """Octets a second of the whole gateway, from its counters."""

    def __init__(self) -> None:
        self._at_s = 0.0
        self._sums = {"in": 0.0, "out": 0.0}

    def update(
        self, metrics: Mapping[tuple[str, tuple[str, ...]], float], now_s: float
    ) -> dict[str, float]:
        """Since the last call; zeros at the first."""
        sums = {"in": 0.0, "out": 0.0}
        for (name, labels), count in metrics.items():
            if name == "gateway_traffic_bytes_total" and len(labels) == 2:
                sums[labels[1]] = sums.get(labels[1], 0.0) + count
        passed_s = now_s - self._at_s
        first = self._at_s == 0.0
        rates = {
            way: 0.0 if first or passed_s <= 0 else max(0.0, sums[way] - self._sums[way]) / passed_s
            for way in sums
        }
        self._at_s, self._sums = now_s, sums
        return rates


def _forwarded(dataplane: object) -> str:
    """What the forwarder of a portable dataplane dropped, and how often it was started again."""
    facts = dataplane if isinstance(dataplane, Mapping) else {}
    counters, forwarder = facts.get("counters"), facts.get("forwarder")
    if not isinstance(forwarder, Mapping) or not isinstance(counters, Mapping):
        return ""
    dropped = sum(
        count
        for name, count in counters.items()
        if str(name).startswith("forwarder_") and isinstance(count, int)
    )
    restarts = forwarder.get("restarts", 0)
    return f"; forwarder: {dropped} packets dropped, restarted {restarts} times"


def picture(
    client: ControlClient,
    choice: Choice,
    rates: Rates,
    *,
    lines: int,
    width: int,
    keys: bool,
) -> RenderableType:
    """Ask, and show ``lines`` devices in ``width`` characters."""
    limit = max(1, min(MAX_PAGE, lines))
    found = as_page(client.call("devices", sort=choice.sort, where=choice.where, limit=limit))
    metrics = samples(str(client.call("metrics").get("text", "")))
    status = client.call("status")
    flow = rates.update(metrics, time.monotonic())

    def value(name: str) -> float:
        return sum(count for (one, _), count in metrics.items() if one == name)

    head = Text(f"{printable(status.get('name'))}", style="bold")
    head.append(
        f"  up {duration(status.get('uptime_s'))}, {value('gateway_sessions'):.0f} sessions,"
        f" {value('gateway_child_sas'):.0f} child SAs, {value('gateway_bindings'):.0f} bindings,"
        f" {value('gateway_visitors'):.0f} visitors, {value('gateway_nar_leases'):.0f} NAR leases"
    )
    load = Text(
        f"in {octets(flow['in'])}/s, out {octets(flow['out'])}/s;"
        f" {value('gateway_login_failures_total'):.0f} failed logins,"
        f" {value('gateway_moves_total'):.0f} moves;"
        f" memory {octets(value('gateway_resident_memory_bytes'))}"
    )
    load.append(_forwarded(status.get("dataplane")))
    shown = f"{len(found['items'])} of {found['total']} devices by {choice.sort.lstrip('-')}"
    if choice.where is not None:
        shown += f", only {choice.where}"
    if keys:
        shown += "    q: quit  s: sort  f: filter"
    return Group(head, load, Text(shown, style="dim"), Text(), _table(found["items"], width))


def _table(items: Sequence[Mapping[str, object]], width: int) -> RenderableType:
    if not items:
        return Text("No device.")
    headings = (
        "device",
        "user",
        "where",
        "mode",
        "outer address",
        "inner",
        "in/s",
        "out/s",
        "in",
        "out",
        "moves",
        "last gap",
    )
    rows = [
        (
            printable(one.get("name")),
            printable(one.get("user") or one.get("identity")),
            printable(one.get("where")),
            printable(one.get("mode")),
            printable(one.get("outer")),
            printable(one.get("inner_addresses")),
            octets(one.get("rate_in")),
            octets(one.get("rate_out")),
            octets(one.get("bytes_in")),
            octets(one.get("bytes_out")),
            printable(one.get("handovers")),
            _gap(one.get("last_move")),
        )
        for one in items
    ]
    dispensable = ("user", "inner", "last gap", "moves", "in/s", "out/s", "mode", "where")
    return fitting(headings, rows, width, dispensable)


def _gap(move: object) -> str:
    gap = move.get("gap_ms") if isinstance(move, Mapping) else None
    return f"{gap:.0f} ms" if isinstance(gap, int | float) else "-"


def top(socket: Path, *, once: bool) -> int:
    """Show it until q is pressed; once, and plain, where nobody can press it."""
    choice, rates = Choice(), Rates()
    out = console()
    live = sys.stdin.isatty() and out.is_terminal and not once
    with ControlClient(socket) as client:
        if not live:
            out.print(picture(client, choice, rates, lines=MAX_PAGE, width=out.width, keys=False))
            return exits.OK
        with _single_keys(), Live(console=out, screen=True, auto_refresh=False) as screen:
            going = True
            while going:
                lines = out.size.height - LINES_ABOVE
                shown = picture(client, choice, rates, lines=lines, width=out.width, keys=True)
                screen.update(shown, refresh=True)
                going = _keys(choice)
    return exits.OK


def _keys(choice: Choice) -> bool:
    """Wait for the next turn, or a key."""
    ready, _, _ = select.select([sys.stdin], [], [], INTERVAL_S)
    if not ready:
        return True
    pressed = os.read(sys.stdin.fileno(), 16).decode("utf-8", "replace")
    return bool(pressed) and all(choice.key(one) for one in pressed)


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    """Keys come one by one, and are not shown."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

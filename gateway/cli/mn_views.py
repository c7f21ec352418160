"""What ``gateway mn status`` and ``watch`` show."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from gateway.cli.output import duration, printable, table

Status = Mapping[str, object]

PLACES = {
    "home": "at home",
    "inside": "inside",
    "outside": "outside",
    "unknown": "at an unknown place",
    "nowhere": "without a network",
}
_MODES = {
    "held": "held: nothing of yours leaves",
    "home": "home: no tunnel",
    "c": "c: i-MIP",
    "f": "f: i-MIP by a foreign agent",
    "vc": "vc: VPN, i-MIP",
    "vf": "vf: VPN, i-MIP by the gateway's foreign agent",
    "cvc": "cvc: x-MIP, VPN, i-MIP",
    "cvf": "cvf: x-MIP, VPN, i-MIP by the gateway's foreign agent",
    "fvc": "fvc: x-MIP by a foreign agent, VPN, i-MIP",
    "fvf": "fvf: x-MIP and i-MIP by foreign agents, VPN between them",
    "mc": "mc: VPN with MOBIKE, i-MIP",
    "v": "v: VPN alone",
}
_STYLES = {"home": "green", "inside": "green", "outside": "cyan"}


def rows_of(status: Status, key: str) -> list[Mapping[str, object]]:
    """A list of objects in a status."""
    found = status.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def headline(status: Status) -> str:
    """One line: where, how, since when."""
    place, mode = printable(status.get("place")), printable(status.get("mode"))
    if status.get("locked") is True:
        return f"{printable(status.get('name'))}: locked; run: gateway mn unlock"
    where = PLACES.get(place, place)
    how = _MODES.get(mode, mode)
    since = duration(status.get("for_s"))
    return f"{printable(status.get('name'))}: {where} for {since}, mode {how}"


def why(status: Status) -> str:
    """The engine's sentence."""
    return printable(status.get("why"))


def status_view(status: Status) -> RenderableType:
    """Everything of one status."""
    style = _STYLES.get(str(status.get("place")), "yellow")
    parts: list[RenderableType] = [Text(headline(status), f"bold {style}"), Text(why(status))]
    home, overhead = status.get("home_address"), status.get("overhead_octets")
    if home:
        parts.append(Text(f"Home address {printable(home)}, overhead {printable(overhead)} octets"))
    parts += [Text(), _layers(status), Text(), _interfaces(status)]
    messages = status.get("messages")
    if isinstance(messages, dict) and messages:
        sent = ", ".join(f"{printable(n)} {printable(c)}" for n, c in sorted(messages.items()))
        parts += [Text(), Text(f"Signalling sent: {sent}")]
    events = event_lines(status)
    if events:
        parts += [Text(), *(Text(line) for line in events)]
    return Group(*parts)


def event_lines(status: Status) -> list[str]:
    """The newest events, oldest first."""
    found = status.get("last_events")
    return [printable(one) for one in found] if isinstance(found, list) else []


def _ends(seconds: object) -> str:
    return "-" if seconds is None else duration(seconds)


def _layers(status: Status) -> RenderableType:
    rows = [
        (
            printable(layer.get("name")),
            printable(layer.get("state")),
            printable(layer.get("local") or None),
            printable(layer.get("remote") or None),
            printable(layer.get("address") or None),
            printable(layer.get("overhead_octets")),
            duration(layer.get("for_s")),
            _ends(layer.get("expires_in_s")),
            printable(layer.get("detail") or None),
        )
        for layer in rows_of(status, "layers")
    ]
    if not rows:
        return Text("No layer.")
    headings = ("layer", "state", "from", "to", "gives", "octets", "for", "ends in", "detail")
    return table(headings, rows)


def _interfaces(status: Status) -> RenderableType:
    rows = [
        (
            f"{'*' if link.get('in_use') is True else ' '} {printable(link.get('interface'))}",
            printable(link.get("verdict")),
            printable(link.get("address") or None),
            printable(link.get("router") or None),
            printable(link.get("proof") or None),
        )
        for link in rows_of(status, "interfaces")
    ]
    if not rows:
        return Text("No interface; see network.interfaces in the profile.")
    return table(("  interface", "verdict", "address", "router", "proof"), rows)


def new_events(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """What came behind ``before``: both are the newest few of one growing list."""
    for kept in range(min(len(before), len(now)), 0, -1):
        if list(before[-kept:]) == list(now[:kept]):
            return list(now[kept:])
    return list(now)

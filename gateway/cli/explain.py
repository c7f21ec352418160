"""`gateway ike explain`: why logins failed, theirs against ours, and what to do next."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from gateway.cli import exits
from gateway.cli.output import console, duration, printable
from gateway.control.client import ControlClient

SHOWN = 10
"""Records for people; --json and --all show every one."""
_WORD = re.compile(r"[^\s,\[\]-]+")
_DIFFERS = "bold yellow"


def explain(
    socket: Path, who: str | None, connection: str | None, *, everything: bool, as_json: bool
) -> int:
    """Print why logins failed: of ``who`` (a name, a user, an address), or of everybody."""
    with ControlClient(socket) as client:
        pages = client.pages("ike-failures", who=who, connection=connection)
        items = list(pages)
    if as_json:
        print(json.dumps(items, indent=2))
        return exits.OK
    out = console()
    if not items:
        whose = f" of {printable(who)}" if who else ""
        out.print(f"No failed login{whose} since the gateway started.")
        return exits.OK
    print_newest(out, items, _record, everything=everything, command="gateway ike explain --all")
    return exits.OK


def print_newest(
    out: Console,
    items: Sequence[dict[str, object]],
    record: Callable[[dict[str, object]], RenderableType],
    *,
    everything: bool,
    command: str,
) -> None:
    """Print the newest records, or all; ``command`` shows the others."""
    shown = items if everything else items[:SHOWN]
    out.print(Group(*(record(one) for one in shown)))
    if len(shown) < len(items):
        out.print(f"{len(items) - len(shown)} older ones: {command}")


def _record(item: dict[str, object]) -> RenderableType:
    head = Text()
    head.append(printable(item.get("peer")), style="bold")
    head.append(f" from {printable(item.get('remote'))}")
    if item.get("connection"):
        head.append(f", connection {printable(item['connection'])}")
    lines = [head, line("when", Text(when(item)))]
    lines.append(line("step", Text(printable(item.get("step")))))
    theirs, ours = item.get("theirs"), item.get("ours")
    reason = printable(item.get("reason"))
    if isinstance(theirs, str) and isinstance(ours, str):
        # The two lines below say it better than a long one.
        reason = reason.replace(f"; theirs: [{theirs}]; ours: [{ours}]", "")
    lines.append(line("what", Text(reason)))
    if isinstance(theirs, str) or isinstance(ours, str):
        left, right = printable(theirs), printable(ours)
        lines.append(line("theirs", _marked(left, right)))
        lines.append(line("ours", _marked(right, left)))
    if item.get("remedy"):
        lines.append(line("do", Text(printable(item["remedy"]), style="bold")))
    return Group(*lines, Text())


def line(name: str, text: Text) -> Text:
    """A line of a record below its head."""
    return Text(f"  {name:<7} ") + text


def when(item: dict[str, object]) -> str:
    """When a record's failure happened, and how often."""
    last, first = _time(item.get("last_at")), _time(item.get("first_at"))
    if last is None:
        return "-"
    age = duration((datetime.now(UTC) - last).total_seconds())
    count = item.get("count")
    text = f"{age} ago ({last:%Y-%m-%d %H:%M:%S} UTC)"
    if isinstance(count, int) and count > 1 and first is not None:
        text += f", {count} times since {first:%Y-%m-%d %H:%M:%S}"
    return text


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None


def _marked(text: str, other: str) -> Text:
    """The text, with the words that the other side does not have standing out."""
    theirs = set(_WORD.findall(other))
    result = Text()
    at = 0
    for word in _WORD.finditer(text):
        result.append(text[at : word.start()])
        common = word[0] in theirs
        result.append(word[0], style="" if common else _DIFFERS)
        at = word.end()
    result.append(text[at:])
    return result

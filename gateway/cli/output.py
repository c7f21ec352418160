"""Tables and numbers for people."""

import os
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 260


def console() -> Console:
    """Standard output; wide when it is not a terminal, so that lines stay whole for grep."""
    plain = Console(highlight=False, markup=False)
    if plain.is_terminal or "COLUMNS" in os.environ:
        return plain
    return Console(highlight=False, markup=False, width=_PIPE_WIDTH)


def printable(value: object) -> str:
    """A value from the gateway with control characters escaped; None is a dash."""
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return " ".join(map(printable, value)) or "-"
    text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def octets(count: object) -> str:
    """``1.5 MiB``."""
    if not isinstance(count, int | float):
        return "-"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def duration(seconds: object) -> str:
    """``2d 3h``, ``4m 5s``: the two largest units."""
    if not isinstance(seconds, int | float):
        return "-"
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A borderless table of plain text."""
    result = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for heading in headings:
        result.add_column(heading, overflow="fold")
    for row in rows:
        result.add_row(*map(Text, row))
    return result

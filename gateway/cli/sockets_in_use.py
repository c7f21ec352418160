"""Which process holds a port, from ``/proc``."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

_TCP_LISTEN = "0A"


def _inodes(table: str, port: int, *, listening_only: bool) -> Iterator[str]:
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 10 or not columns[1].endswith(f":{port:04X}"):
            continue
        if not listening_only or columns[3] == _TCP_LISTEN:
            yield columns[9]


def inodes_of_port(
    protocol: Literal["udp", "tcp"], port: int, proc: Path = Path("/proc")
) -> set[str]:
    """Inodes of the sockets bound to a local port of this network namespace."""
    found: set[str] = set()
    for table in (protocol, f"{protocol}6"):
        with contextlib.suppress(OSError):
            text = (proc / "self" / "net" / table).read_text()
            found.update(_inodes(text, port, listening_only=protocol == "tcp"))
    return found


def ports_in_use(
    protocol: Literal["udp", "tcp"], proc: Path = Path("/proc")
) -> dict[int, set[str]]:
    """Local ports of all sockets of this network namespace, with the sockets' inodes."""
    found: dict[int, set[str]] = {}
    for table in (protocol, f"{protocol}6"):
        with contextlib.suppress(OSError):
            for line in (proc / "self" / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if len(columns) >= 10:
                    port = int(columns[1].rpartition(":")[2], 16)
                    found.setdefault(port, set()).add(columns[9])
    return found


def _open_files(process: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to somebody else
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(link.readlink())


def holder(inodes: set[str], proc: Path = Path("/proc")) -> str | None:
    """``name (pid N)`` of a process that has one of the sockets open, None if not to be seen."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in proc.iterdir():
        if process.name.isdecimal() and wanted.intersection(_open_files(process)):
            with contextlib.suppress(OSError):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None

"""Whose process is at the other end of a TCP connection over loopback, by /proc/net/tcp."""

import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

TABLE: Final = Path("/proc/net/tcp")
_ESTABLISHED: Final = "01"
_LOCAL, _REMOTE, _STATE, _UID = 1, 2, 3, 7
"""Columns of the table."""


def uid_of(peer: tuple[str, int], own: tuple[str, int], table: Path = TABLE) -> int | None:
    """The user who opened the socket ``peer``, connected to our ``own``; None when not to be seen.

    Only of a connection that is established: a socket that its owner has closed belongs to root.
    """
    local, remote = _written(peer), _written(own)
    try:
        with table.open(encoding="ascii") as lines:
            for line in lines:
                if local not in line or remote not in line:
                    continue
                words = line.split()
                if words[_LOCAL] == local and words[_REMOTE] == remote:
                    return int(words[_UID]) if words[_STATE] == _ESTABLISHED else None
    except (OSError, ValueError, IndexError):
        return None
    return None


def _written(end: tuple[str, int]) -> str:
    """As the kernel writes it: the address as the host's CPU reads those four octets."""
    return f"{int.from_bytes(IPv4Address(end[0]).packed, sys.byteorder):08X}:{end[1]:04X}"

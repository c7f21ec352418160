"""Packets that a router of the lab hands to a process of ours, on any kernel.

Rules log a packet whole and drop it; what shall go on is sent again, which the rules of the
forward hook do not see.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

from gateway.dataplane.portable.logged_queue import LoggedQueue

AT_A_TIME = 64
LENGTH = 10_000


class Taken:
    """The packets that rules log to a group in the network namespace of this process."""

    def __init__(self, group: int) -> None:
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._queue = LoggedQueue(group, LENGTH, self)

    def fileno(self) -> int:
        """For selectors."""
        return self._queue.fileno()

    def packets(self) -> Iterator[bytes]:
        """Those that have come, as whole IPv4 packets."""
        yield from (octets for *_, octets in self._queue.receive(AT_A_TIME))

    def send(self, packet: bytes) -> None:
        """Let a packet go on, changed or not."""
        self._raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def give_back(self, _hook: int, _device: int, octets: bytes, _mark: int) -> None:
        """As the queue would, if it were asked to."""
        self.send(octets)


def rules(table: str, group: int, matches: Sequence[str]) -> str:
    """An nft script: forwarded packets that match any of these go to the group."""
    lines = "\n".join(f"{match} log group {group} drop" for match in matches)
    return f"""{clear(table)}
        table ip {table} {{
            chain forward {{
                type filter hook forward priority filter
                {lines}
            }}
        }}
    """


def clear(table: str) -> str:
    """An nft script that takes the rules away."""
    return f"table ip {table}\ndelete table ip {table}\n"

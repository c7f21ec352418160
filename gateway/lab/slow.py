"""A slow and lossy line where the kernel has no netem: `python -m gateway.lab.slow`.

Forwarded packets are taken from the kernel and sent on when their time has come. It does for
round trip times and losses; queues and rates it does not model.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import select
import sys
import time

from gateway.lab.taken import Taken


class Line:
    """Packets under way, by the time at which they arrive."""

    def __init__(self, delay_s: float, jitter_s: float, loss: float, chance: random.Random) -> None:
        self._delay_s, self._jitter_s, self._loss = delay_s, jitter_s, loss
        self._chance = chance
        self._under_way: list[tuple[float, int, bytes]] = []
        self._numbers = itertools.count()

    def enters(self, packet: bytes, now: float) -> None:
        """A packet is sent, and may be lost."""
        if self._chance.random() < self._loss:
            return
        at = now + self._delay_s + self._jitter_s * self._chance.uniform(-1, 1)
        heapq.heappush(self._under_way, (at, next(self._numbers), packet))

    def leaves(self, now: float) -> list[bytes]:
        """Those that have arrived."""
        arrived = []
        while self._under_way and self._under_way[0][0] <= now:
            arrived.append(heapq.heappop(self._under_way)[2])
        return arrived

    def wait_s(self, now: float) -> float | None:
        """Until the next one arrives; None when nothing is under way."""
        return max(0.0, self._under_way[0][0] - now) if self._under_way else None


def main() -> None:
    """Entry point of the process on a router."""
    parser = argparse.ArgumentParser()
    parser.add_argument("group", type=int, help="that rules log the packets to")
    for name in ("delay_ms", "jitter_ms", "loss_percent"):
        parser.add_argument(name, type=float)
    given = parser.parse_args()
    line = Line(
        given.delay_ms / 1000,
        given.jitter_ms / 1000,
        given.loss_percent / 100,
        random.Random(),
    )
    taken = Taken(given.group)
    sys.stdout.write('{"ready": 1}\n')
    sys.stdout.flush()
    while True:
        select.select([taken], [], [], line.wait_s(time.monotonic()))
        now = time.monotonic()
        for packet in taken.packets():
            line.enters(packet, now)
        for packet in line.leaves(now):
            taken.send(packet)


if __name__ == "__main__":
    main()

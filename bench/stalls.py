"""Notices when the machine stands still: ``python -m bench.stalls FILE`` (written on SIGHUP).

A process before all others that only sleeps wakes late when the whole machine was not running,
as a virtual machine or a test kernel whose host has other things to do. That says nothing about
the gateway, and what was measured at such a moment says nothing either.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import wait_until
from gateway.lab.topology import Lab

TICK_S = 0.005
NOTEWORTHY_S = 0.003
READY_S = 30.0


class Stalls:
    """The watch on one lab's kernel."""

    def __init__(self, lab: Lab) -> None:
        self._file = lab.folder / "stalls.json"
        argv = [sys.executable, "-m", "bench.stalls", str(self._file)]
        self._process = lab.spawn("internet", argv, "stalls", {"PYTHONPATH": CHECKOUT})
        wait_until(lambda: "ready" in self._process.output(), READY_S, "the watch")

    def end(self) -> list[tuple[float, float]]:
        """End it; returns begin and length of each stall in seconds of CLOCK_REALTIME."""
        self._process.signal(signal.SIGHUP)
        wait_until(self._file.exists, READY_S, "the watch's record")
        self._process.stop()
        return [(begin, length) for begin, length in json.loads(self._file.read_text())]


def longest(stalls: list[tuple[float, float]], begin: float, end: float) -> float:
    """Seconds of the longest stall that touches this span."""
    touching = (length for at, length in stalls if at <= end and at + length >= begin)
    return max(touching, default=0.0)


def main(file: str) -> None:
    """Entry point of the process."""
    found: list[tuple[float, float]] = []

    def write(_number: int, _frame: object) -> None:
        written = Path(file).with_suffix(".new")
        written.write_text(json.dumps(found))
        written.replace(file)

    signal.signal(signal.SIGHUP, write)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    print("ready", flush=True)
    while True:
        before = time.time()
        time.sleep(TICK_S)
        late_s = time.time() - before - TICK_S
        if late_s > NOTEWORTHY_S:
            found.append((before, late_s))


if __name__ == "__main__":
    main(sys.argv[1])

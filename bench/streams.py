"""The two-way stream through a lab's tunnel, and what a move did to it."""

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from bench.bed import INNER
from gateway.lab import plan
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import Process, wait_until
from gateway.lab.topology import Lab

PORT = 9000
READY_S = 30.0


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of the stream; times in seconds."""

    sent: list[float]
    received: list[tuple[int, float]]

    def gap_ms(self, begin: float, end: float) -> float:
        """The longest time without an arrival that touches this span."""
        times = sorted(at for _, at in self.received)
        gaps = [
            later - earlier
            for earlier, later in pairwise(times)
            if later >= begin and earlier <= end
        ]
        return max(gaps, default=0.0) * 1000

    def delay(self, begin: float, end: float) -> float:
        """The greatest delay in s of what was sent in this span; 0 when none of it arrived."""
        sent = self.sent
        delays = [at - sent[number] for number, at in self.received if begin <= sent[number] <= end]
        return max(delays, default=0.0)

    def lost(self) -> list[float]:
        """When those were sent that never arrived."""
        arrived = {number for number, _ in self.received}
        return [at for number, at in enumerate(self.sent) if number not in arrived]


class Streams:
    """1,000 datagrams per second each way between device and server."""

    def __init__(self, lab: Lab, name: str = "stream", *, device: str = INNER) -> None:
        self._lab = lab
        ends = {"device": device, "server": str(plan.SERVER)}
        self._files: dict[str, Path] = {}
        self._processes: list[Process] = []
        for host, other in (("device", "server"), ("server", "device")):
            self._files[host] = lab.folder / f"{name}-{host}.json"
            argv = [sys.executable, "-m", "bench.stream", f"{ends[host]}:{PORT}"]
            argv += [f"{ends[other]}:{PORT}", str(self._files[host])]
            process = lab.spawn(host, argv, f"{name}-{host}", {"PYTHONPATH": CHECKOUT})
            self._processes.append(process)
        for process in self._processes:
            wait_until(partial(_says_ready, process), READY_S, process.name)

    def resume(self) -> None:
        """Send."""
        for process in self._processes:
            process.signal(signal.SIGUSR1)

    def pause(self) -> None:
        """Stop sending; arrivals still count."""
        for process in self._processes:
            process.signal(signal.SIGUSR2)

    def so_far(self) -> tuple[Direction, Direction]:
        """Device to server, and server to device, since the beginning."""
        for file in self._files.values():
            file.unlink(missing_ok=True)
        for process in self._processes:
            process.signal(signal.SIGHUP)
        files = self._files.values()
        wait_until(lambda: all(file.exists() for file in files), READY_S, "the streams' records")
        device, server = (json.loads(self._files[h].read_text()) for h in ("device", "server"))
        return _direction(device, server), _direction(server, device)

    def end(self) -> None:
        """End it."""
        for process in self._processes:
            process.stop()


def _says_ready(process: Process) -> bool:
    return "ready" in process.output()


def _direction(
    sender: dict[str, Sequence[float]], receiver: dict[str, Sequence[Sequence[float]]]
) -> Direction:
    received = [(int(number), float(at)) for number, at in receiver["received"]]
    return Direction(list(sender["sent"]), received)

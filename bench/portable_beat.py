"""A steady stream of 10 Mbit/s through a tunnel: how long its datagrams take, how many arrive."""

import json
import statistics
import time
from dataclasses import dataclass

from bench.bed import INNER
from bench.datagrams import BEAT_RATE
from bench.portable_ends import Ends, prefer
from bench.portable_turns import PORT, READY_S, program
from gateway.lab import plan
from gateway.lab.processes import wait_until

BEAT_S = 2.0
ARRIVING_S = 0.2


@dataclass(frozen=True, slots=True)
class Beat:
    """What became of the datagrams."""

    sent: int
    delays_us: list[float]
    """Of those that arrived."""

    @classmethod
    def none(cls) -> "Beat":
        """Before the first one."""
        return cls(0, [])

    def __add__(self, other: "Beat") -> "Beat":
        return Beat(self.sent + other.sent, self.delays_us + other.delays_us)

    @property
    def median_ms(self) -> float:
        """Of the delays."""
        return statistics.median(self.delays_us) / 1000

    @property
    def late_ms(self) -> float:
        """99 of 100 take less."""
        return statistics.quantiles(self.delays_us, n=100)[-1] / 1000

    @property
    def arrived(self) -> float:
        """Share of those that were sent."""
        return len(self.delays_us) / self.sent

    def __str__(self) -> str:
        return (
            f"{self.median_ms:.3f} ms, 99 % within {self.late_ms:.3f} ms,"
            f" {self.sent - len(self.delays_us)} of {self.sent} lost"
        )


def beating(lab: Ends, seconds: float) -> Beat:
    """From the device to the server."""
    to = f"{plan.SERVER}:{PORT + 1}"
    listener = program(lab, "gw", "delays", to)
    wait_until(lambda: "listening" in listener.output(), READY_S, "the listener")
    sender = program(lab, "device", "beat", f"{INNER}:{PORT + 1}", to, str(seconds))
    prefer(lab)
    sender.wait(seconds + READY_S)
    time.sleep(ARRIVING_S)
    listener.stop()
    return Beat(int(seconds * BEAT_RATE), json.loads(listener.output().splitlines()[-1]))

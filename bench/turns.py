"""Two TCP transfers over separate wires that take turns of a fraction of a second.

On a shared machine the processor time that a kernel gets changes from one second to the next by
more than what is looked for; turns of a fraction of a second see the same machine.
"""

import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Bar, Pairs, Result, alternate, error, quartiles
from gateway.lab.processes import LabError, Process, wait_until

PAIRS = 50
MOST_PAIRS = 300
ERROR = 0.012
TURN_S = 0.3
RAMP_S = 0.05
"""At the start of each turn, not counted: TCP gets going again."""
QUIET_S = 0.01
"""A sender that was stopped has nothing left on its way when this long nothing arrives."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """An iperf3 transfer whose sender only runs in its turns."""

    client: Process
    sender: Process
    counter: tuple[Process, str]
    """A process where the octets are counted, and the interface that they come in by."""

    def settle(self) -> None:
        """Wait until it flows, then stop its sender."""

        def flows() -> bool:
            if not self.client.running():
                raise LabError(f"iperf3 ended: {self.client.output()}")
            return self.octets() > 2_000_000 and "bits/sec" in self.client.output()

        wait_until(flows, 30, "iperf3's first megabytes")
        self.pause()

    def octets(self) -> int:
        """What came in at the counting interface so far, headers of tunnels included."""
        process, interface = self.counter
        lines = Path(f"/proc/{process.pid}/net/dev").read_text().splitlines()
        named = [line.partition(":")[2] for line in lines if line.strip().startswith(interface)]
        return int(named[0].split()[0]) if named else 0  # not yet in its namespace

    def pause(self) -> None:
        """Stop the sender, and wait until nothing of it is on its way."""
        self.sender.signal(signal.SIGSTOP)
        before = -1
        while before != (before := self.octets()):
            time.sleep(QUIET_S)

    def resume(self) -> None:
        """Let the sender go on."""
        self.sender.signal(signal.SIGCONT)

    def turn(self) -> float:
        """Run for a turn; returns Mbit/s on the wire."""
        self.resume()
        time.sleep(RAMP_S)
        first, began = self.octets(), time.monotonic()
        time.sleep(TURN_S)
        last, ended = self.octets(), time.monotonic()
        self.pause()
        if last == first:
            raise LabError(f"nothing arrived in a turn: {self.client.output()[-500:]}")
        return (last - first) * 8 / (ended - began) / 1e6

    def end(self) -> None:
        """End the transfer; the server stays for the next one."""
        self.resume()
        self.client.stop()


@dataclass(frozen=True, slots=True)
class Contest:
    """What is compared, and with what."""

    name: str
    unit: str
    bar: Bar | None
    theirs: str
    """Key of the baseline's figure."""
    pairs: int = PAIRS
    most_pairs: int = MOST_PAIRS
    """They are added until the median is as sure as :data:`ERROR`, or so many are there."""


def compare(
    contest: Contest, ours: Transfer, theirs: Transfer, say: Callable[[str], None]
) -> Result:
    """Ratio of the rates, pair by pair."""
    for transfer in (ours, theirs):
        transfer.turn()
    pairs = Pairs([], [])
    while not pairs.ours or (len(pairs.ours) < contest.most_pairs and error(pairs.ratios) > ERROR):
        more = alternate(ours.turn, theirs.turn, contest.pairs, lambda _text: None)
        pairs = Pairs(pairs.ours + more.ours, pairs.theirs + more.theirs)
        say(f"{contest.name}: {len(pairs.ours)} pairs: {quartiles(pairs.ratios)}")
    totals = sum(pairs.ours) / sum(pairs.theirs)
    return Result(
        contest.name,
        pairs.ratio,
        contest.unit,
        contest.bar,
        {
            "ours_mbit_s": statistics.median(pairs.ours),
            contest.theirs: statistics.median(pairs.theirs),
            "ratio_of_totals": totals,
        },
        f"Mbit/s, {pairs.scatter}; ratios {quartiles(pairs.ratios)}, of totals {totals:.3f}",
    )


def random_key(octets: int) -> str:
    """For `ip xfrm`."""
    return f"0x{os.urandom(octets).hex()}"

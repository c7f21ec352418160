"""Streams through several tunnels that take turns, each in two hosts of its own."""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.bed import INNER
from bench.datagrams import NUMBER
from bench.portable_ends import Ends, Tunnel, prefer, processor_s
from bench.turns import Transfer
from gateway.lab import plan
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import Process, wait_until

SEGMENT = 1340
"""Octets of a TCP segment: no tunnel has to cut a packet up."""
PORT = 5300
READY_S = 20.0


@dataclass(frozen=True, slots=True)
class Stream(Transfer):
    """A TCP stream, counted by what iperf3's server has read."""

    def octets(self) -> int:
        """Octets that the receiving program has read so far."""
        process, _ = self.counter
        return int(Path(f"/proc/{process.pid}/io").read_text().split()[1])


@dataclass(frozen=True, slots=True)
class Datagrams(Transfer):
    """Small datagrams, a window of them on the way; what it counts are datagrams."""

    def settle(self) -> None:
        """Wait until they flow, then stop their sender."""
        wait_until(lambda: self.octets() > 0, READY_S, "the first small datagrams")
        self.pause()

    def octets(self) -> int:
        """Datagrams that the receiving program has read so far."""
        (count,) = NUMBER.unpack(Path(self.counter[1]).read_bytes())
        return int(count)

    def turn(self) -> float:
        """Run for a turn; returns datagrams per second."""
        return Transfer.turn(self) / 8 * 1e6


@contextlib.contextmanager
def streaming(lab: Ends) -> Iterator[Stream]:
    """A TCP stream from the device to the server, stopped until its first turn."""
    server = lab.spawn("gw", ["iperf3", "-s", "-B", str(plan.SERVER), "--forceflush"], "server")
    wait_until(lambda: "listening" in server.output(), READY_S, "iperf3's server")
    argv = ["iperf3", "-c", str(plan.SERVER), "-B", INNER, "-M", str(SEGMENT), "-t", "0"]
    client = lab.spawn("device", [*argv, "--forceflush"], "client")
    stream = Stream(client, client, (server, ""))
    prefer(lab)
    stream.settle()
    yield stream
    stream.end()
    server.stop()


@contextlib.contextmanager
def datagrams(lab: Ends, number: int = 0, address: str = INNER) -> Iterator[Datagrams]:
    """Small datagrams from the device to the server, stopped until their first turn.

    Several at once have a number and an inner address each.
    """
    counter = lab.folder / f"datagrams-{number}"
    counter.write_bytes(bytes(NUMBER.size))
    to = f"{plan.SERVER}:{PORT + 10 + number}"
    sink = program(lab, "gw", "sink", to, str(counter))
    source = program(lab, "device", "source", f"{address}:{PORT}", to)
    running = Datagrams(source, source, (sink, str(counter)))
    prefer(lab)
    running.settle()
    yield running
    running.end()
    sink.stop()


def program(lab: Ends, host: str, role: str, *rest: str) -> Process:
    """A role of :mod:`bench.datagrams` on a host."""
    argv = [sys.executable, "-m", "bench.datagrams", role, *rest]
    return lab.spawn(host, argv, f"{role}-{time.monotonic_ns()}", {"PYTHONPATH": CHECKOUT})


@dataclass(slots=True)
class Taken:
    """What one subject did in its turns."""

    rates: list[float] = field(default_factory=list)
    counted: int = 0
    processor_s: float = 0.0
    """Of its forwarders, both ends."""

    @property
    def rate(self) -> float:
        """Median of the turns."""
        return statistics.median(self.rates)

    @property
    def processor_per(self) -> float:
        """Seconds of processor time for each octet, or datagram."""
        return self.processor_s / self.counted


def take_turns(
    transfers: Mapping[str, Transfer],
    tunnels: Mapping[str, Tunnel],
    rounds: int,
    say: Callable[[str], None],
) -> dict[str, Taken]:
    """Each in each round, the order turned around from one round to the next."""
    taken = {name: Taken() for name in transfers}
    for transfer in transfers.values():
        transfer.turn()
    for number in range(rounds):
        names = list(transfers)[:: 1 if number % 2 else -1]
        for name in names:
            forwarders, one = tunnels[name].forwarders(), taken[name]
            before, first = processor_s(forwarders), transfers[name].octets()
            one.rates.append(transfers[name].turn())
            one.processor_s += processor_s(forwarders) - before
            one.counted += transfers[name].octets() - first
    for name, one in taken.items():
        say(f"{name}: {one.rate:.6g} ({min(one.rates):.6g} to {max(one.rates):.6g})")
    return taken


def ratios(ours: Taken, theirs: Taken) -> Sequence[float]:
    """Round by round."""
    return [mine / other for mine, other in zip(ours.rates, theirs.rates, strict=True)]

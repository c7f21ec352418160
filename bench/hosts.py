"""Hosts on wires in namespaces of their own, and a TCP stream through them."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.measure import Result
from bench.turns import Contest, Transfer, compare
from gateway.lab import netns
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import LabError, Process, ProcessTable, wait_until

SEGMENT = 1340
CARRIES_S = 20.0


class Hosts:
    """Network namespaces with wires between them, and their processes."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}-{os.getpid()}-"
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._processes = ProcessTable(self._folder)
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.end_all()
        for name in netns.existing(self._prefix):
            with contextlib.suppress(LabError):
                netns.command(["ip", "netns", "delete", name])
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """Where its processes may leave something; it goes with them."""
        return self._folder

    def name(self, host: str) -> str:
        """The namespace of a host."""
        return self._prefix + host

    def make(self, *hosts: str) -> None:
        """Namespaces that route."""
        for host in hosts:
            netns.command(["ip", "netns", "add", self.name(host)])
            self.ip(host, "link set lo up")
            self.run(host, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def wire(self, left: str, left_address: str, right: str, right_address: str) -> None:
        """A wire; each end is called as the other host."""
        self.ip(left, f"link add {right} type veth peer name {left} netns {self.name(right)}")
        for host, interface, address in (
            (left, right, left_address),
            (right, left, right_address),
        ):
            self.ip(host, f"address add {address} dev {interface}", f"link set {interface} up")

    def ip(self, host: str, *lines: str) -> None:
        """`ip` commands on a host."""
        netns.command(["ip", "-n", self.name(host), "-batch", "-"], stdin="\n".join(lines) + "\n")

    def run(self, host: str, *argv: str, stdin: str = "") -> str:
        """A command on a host."""
        return netns.command(netns.inside(self.name(host), argv), stdin)

    def spawn(self, host: str, *argv: str) -> Process:
        """A process on a host."""
        self._number += 1
        return self._processes.spawn(
            f"{self._number}",
            netns.inside(self.name(host), argv),
            env={"PYTHONPATH": CHECKOUT},
        )

    def dataplane(self, host: str, module: str, **facts: object) -> None:
        """Our dataplanes with what a module of this package is told."""
        process = self.spawn(host, sys.executable, "-m", f"bench.{module}", json.dumps(facts))

        def ready() -> bool:
            if not process.running():
                raise LabError(f"the dataplane ended: {process.output()}")
            return "ready" in process.output()

        wait_until(ready, CARRIES_S, "the dataplane")


@dataclass(frozen=True, slots=True)
class Subject:
    """Where the two ends of the stream are."""

    hosts: Hosts
    device: str
    """Address that the mobile node's end is bound to."""
    device_wire: str
    to: str
    """Address that it speaks to."""
    server: str
    """Address that it reaches there."""
    far_wire: tuple[str, str] = ("cn", "ha")
    """Host and interface where an upload is counted: both subjects' packets look alike there.

    Behind a tunnel they do not: what was merged after decryption has fewer headers to count.
    """

    def carries(self) -> None:
        """Wait until a packet comes back."""

        def answered() -> bool:
            argv = ("ping", "-n", "-c", "1", "-W", "1", "-I", self.device, self.to)
            with contextlib.suppress(LabError):
                return "1 received" in self.hosts.run("device", *argv)
            return False

        wait_until(answered, CARRIES_S, "the first packet")


def contest_of(
    contest: Contest, subjects: Sequence[Subject], download: bool, say: Callable[[str], None]
) -> Result:
    """The stream of the first subject against that of the second."""
    with transferring(subjects[0], download) as ours, transferring(subjects[1], download) as theirs:
        return compare(contest, ours, theirs, say)


@contextlib.contextmanager
def transferring(subject: Subject, download: bool) -> Iterator[Transfer]:
    """A stream from or to the device, stopped until its first turn."""
    hosts = subject.hosts
    server = hosts.spawn("cn", "iperf3", "-s", "-B", subject.server, "--forceflush")
    wait_until(lambda: "listening" in server.output(), CARRIES_S, "iperf3's server")
    argv = ["iperf3", "-c", subject.to, "-B", subject.device, "-M", str(SEGMENT), "-t", "0"]
    client = hosts.spawn("device", *argv, "--forceflush", *(["-R"] if download else []))
    if download:
        transfer = Transfer(client, server, (client, subject.device_wire))
    else:
        host, interface = subject.far_wire
        transfer = Transfer(client, client, (hosts.spawn(host, "sleep", "infinity"), interface))
    transfer.settle()
    yield transfer
    transfer.end()
    server.stop()

"""A network namespace with a home agent's process and its fleet in it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from bench.mip_nodes import HOME_AGENT
from gateway.lab import netns
from gateway.lab.mobility.load import Fleet, care_of_route

PLACES = 8
"""Care-of addresses of each node that the namespace knows."""


class Bed:
    """The namespace while it is there."""

    def __init__(self, name: str, server: "subprocess.Popen[str]", count: int) -> None:
        self.name = name
        self._server = server
        self._count = count
        self.ask("ready")
        self.processor_us = 0.0
        """Of the server for each registration of the last load."""

    def ask(self, expected: str = "") -> str:
        """The server's next line."""
        if not expected and self._server.stdin is not None:
            self._server.stdin.write("\n")
            self._server.stdin.flush()
        line = self._server.stdout.readline().strip() if self._server.stdout is not None else ""
        if not line or (expected and line != expected):
            raise RuntimeError(f"the server said {line!r}")
        return line

    def load(self, *, window: int | None, rounds: int, moves: bool) -> list[dict[str, Any]]:
        """Register the fleet `rounds` times; every node has to be bound at the end."""
        argv = [sys.executable, "-m", "gateway.lab.mobility.load", str(HOME_AGENT)]
        argv += ["--count", str(self._count), "--rounds", str(rounds)]
        argv += ["--window", str(window)] if window is not None else []
        argv += ["--moves"] if moves else []
        before = float(self.ask().split()[2])
        output = netns.command(netns.inside(self.name, argv))
        found = [json.loads(line) for line in output.splitlines()]
        results = [one for one in found if one.get("result") == "load"]
        answer = self.ask().split()
        bound, refused, used = int(answer[0]), int(answer[1]), float(answer[2])
        self.processor_us = (used - before) * 1e6 / (self._count * rounds)
        if any(one["accepted"] != self._count for one in results) or bound != self._count:
            raise RuntimeError(f"{bound} of {self._count} are bound: {results}")
        if refused:
            raise RuntimeError(f"the kernel refused {refused} bindings")
        return results


@contextlib.contextmanager
def bed(count: int, *, kernel: bool) -> Iterator[Bed]:
    """A fleet of `count` and its home agent; `kernel`: its bindings are installed."""
    name = f"bench-mip-{os.getpid()}-{count}"
    netns.command(["ip", "netns", "add", name])
    try:
        fleet = Fleet(HOME_AGENT, count)
        batch = ["link set lo up", f"address add {HOME_AGENT}/32 dev lo"]
        batch += care_of_route(fleet, PLACES)
        netns.command(["ip", "-n", name, "-batch", "-"], stdin="\n".join(batch) + "\n")
        argv = [sys.executable, "-m", "bench.mip_server", "--count", str(count)]
        argv += ["--kernel"] if kernel else []
        with subprocess.Popen(
            netns.inside(name, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                yield Bed(name, server, count)
            finally:
                if server.stdin is not None:
                    server.stdin.close()
                server.wait(timeout=30)
    finally:
        netns.command(["ip", "netns", "delete", name])

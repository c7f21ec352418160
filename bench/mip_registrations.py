"""Registrations of Mobile IPv4 in the home agent: its engine alone, and over UDP sockets.

Every request is authenticated, is new to the replay protection and gets an authenticated reply.
The sockets' end is a process of its own with the appliance's adapters and no kernel dataplane;
what the kernel costs is `mip_kernel`.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as FilePath

from bench.measure import Bar, Result, spread
from bench.mip_bed import bed
from bench.mip_nodes import HOME_AGENT, NODES, policy, requests
from gateway.domain.endpoint import Path
from gateway.lab.mobility.load import Fleet
from gateway.mip_agents.home_agent.engine import HomeAgent
from gateway.mip_agents.outputs import SetBinding, Transmit

ROUNDS = 5
SMALL = 1_000
ROUND_S = 60.0
"""Virtual time from one renewal to the next."""
IN_FLIGHT = 64
BATCH = 64
"""As a wake-up of the socket gives them."""
MEMORY_BAR_KB = 4.0


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Engine, growth, memory, sockets."""
    large, small = Engine(NODES), Engine(SMALL)
    new = large.register(expect_new=True)
    small.register(expect_new=True)
    say(f"engine, new bindings: {new:.0f}/s")
    renewals, per_small = [], []
    for _ in range(ROUNDS):
        renewals.append(large.register())
        # As many registrations of the small table, so that both see the same machine.
        per_small.append(statistics.median(small.register() for _ in range(NODES // SMALL)))
        say(f"engine, renewals: {renewals[-1]:.0f}/s; of {SMALL}: {per_small[-1]:.0f}/s")
    growth = [few / many for few, many in zip(per_small, renewals, strict=True)]
    del large, small
    gc.collect()
    return [
        Result(
            "mip_registrations.engine_renewals",
            statistics.median(renewals),
            "per s",
            Bar(15_000, at_least=True),
            {"new bindings per s": new, "nodes": NODES},
            spread(renewals),
        ),
        Result(
            "mip_registrations.engine_growth",
            statistics.median(growth),
            f"of {SMALL}'s",
            Bar(1.2, at_least=False),
            {"nodes": NODES},
            spread(growth),
        ),
        _memory(),
        _sockets(say),
    ]


def batches(messages: Sequence[tuple[bytes, Path]]) -> Iterator[Sequence[tuple[bytes, Path]]]:
    """In the portions that the socket hands over."""
    return (messages[start : start + BATCH] for start in range(0, len(messages), BATCH))


class Engine:
    """A home agent's engine and its mobile nodes, in virtual time."""

    def __init__(self, count: int) -> None:
        self.now = 0.0
        self.wall = 1.9e9
        self._fleet = Fleet(HOME_AGENT, count)
        self._agent = HomeAgent(
            policy(self._fleet), random=os.urandom, wall_clock=lambda: self.wall
        )

    def register(self, *, expect_new: bool = False) -> float:
        """All of them once; returns how many in a second of processor time."""
        self.now += ROUND_S
        self.wall += ROUND_S
        messages = requests(self._fleet, self.wall)
        agent = self._agent
        began = time.process_time()
        accepted = installed = 0
        for batch in batches(messages):
            for message, path in batch:
                agent.receive(message, path, self.now)
            for output in agent.take_outputs():
                if isinstance(output, Transmit):
                    accepted += output.message[1] == 0
                elif isinstance(output, SetBinding):
                    installed += 1
        took = time.process_time() - began
        if accepted != len(messages) or installed != (len(messages) if expect_new else 0):
            raise RuntimeError(f"{accepted} accepted and {installed} set of {len(messages)}")
        return len(messages) / took


# -- memory ----------------------------------------------------------------------------------------


def _memory() -> Result:
    argv = [sys.executable, "-m", "bench.mip_registrations"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    each = (figures["after"] - figures["before"]) / NODES / 1000
    return Result(
        "mip_registrations.memory",
        each,
        "kB per binding",
        Bar(MEMORY_BAR_KB, at_least=False),
        {"bindings": NODES, "process before MB": figures["before"] / 1e6},
    )


def _measure_memory() -> None:
    fleet = Fleet(HOME_AGENT, NODES)
    agent = HomeAgent(policy(fleet), random=os.urandom, wall_clock=lambda: 1.9e9)
    messages = requests(fleet, 1.9e9)
    gc.collect()
    before = _resident()
    for batch in batches(messages):
        for message, path in batch:
            agent.receive(message, path, 1.0)
        agent.take_outputs()
    gc.collect()
    if len(agent.bindings()) != NODES:
        raise RuntimeError("not every node is bound")
    gc.collect()
    print(json.dumps({"before": before, "after": _resident()}))


def _resident() -> int:
    fields = FilePath("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


# -- sockets ---------------------------------------------------------------------------------------


def _sockets(say: Callable[[str], None]) -> Result:
    with bed(NODES, kernel=False) as there:
        rates = [
            float(one["per_second"])
            for one in there.load(window=IN_FLIGHT, rounds=ROUNDS, moves=False)
        ]
    say(f"over sockets: {spread(rates)}")
    return Result(
        "mip_registrations.sockets",
        statistics.median(rates[1:]),
        "per s",
        Bar(5_000, at_least=True),
        {"nodes": NODES, "new bindings per s": rates[0]},
        spread(rates[1:]),
    )


if __name__ == "__main__":
    _measure_memory()

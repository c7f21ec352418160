"""Registrations of Mobile IPv4 applied to the kernel: moves, and the storm after an outage.

Everything is real: requests over UDP, the appliance's adapters, nftables maps and routes. The
fleet and the home agent share this machine, and in the test kernel its only processor.
"""

import statistics
from collections.abc import Callable, Sequence

from bench.measure import Bar, Result, spread
from bench.mip_bed import PLACES, bed
from bench.mip_nodes import NODES

SMALL = 1_000
IN_FLIGHT = 256
ROUNDS = 3
STORM_BAR_S = 10.0
STORM_LIFETIME = "every node at once, each retransmitting until it is answered"


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Moves of a large and a small fleet; then everybody at once."""
    few_us: list[float] = []
    many_us: list[float] = []
    large: list[float] = []
    with bed(SMALL, kernel=True) as small, bed(NODES, kernel=True) as there:
        for there_too in (small, there):
            there_too.load(window=IN_FLIGHT, rounds=2, moves=True)  # everything is new once
        for _ in range(ROUNDS):
            small.load(window=IN_FLIGHT, rounds=PLACES, moves=True)
            few_us.append(small.processor_us)
            moved = there.load(window=IN_FLIGHT, rounds=2, moves=True)
            large += [float(one["per_second"]) for one in moved]
            many_us.append(there.processor_us)
            say(
                f"{NODES} nodes that move: {large[-1]:.0f} per s, {many_us[-1]:.0f} us each;"
                f" of {SMALL}: {few_us[-1]:.0f} us"
            )
    with bed(NODES, kernel=True) as there:
        [storm] = there.load(window=None, rounds=1, moves=True)
        say(f"all at once: {storm['seconds']:.1f} s, {storm['sent']} requests sent")
    growth = [many / few for many, few in zip(many_us, few_us, strict=True)]
    return [
        Result(
            "mip_kernel.moves",
            statistics.median(large),
            "per s",
            Bar(1_500, at_least=True),
            {"nodes": NODES},
            spread(large),
        ),
        Result(
            "mip_kernel.growth",
            statistics.median(growth),
            f"of {SMALL}'s",
            Bar(1.2, at_least=False),
            {"nodes": NODES, "us of the agent's process": statistics.median(many_us)},
            f"{spread(growth)}; us of {SMALL}: {spread(few_us)}; of {NODES}: {spread(many_us)}",
        ),
        Result(
            "mip_kernel.storm",
            float(storm["seconds"]),
            "s",
            Bar(STORM_BAR_S, at_least=False),
            {"nodes": NODES, "requests sent": storm["sent"]},
            STORM_LIFETIME,
        ),
    ]

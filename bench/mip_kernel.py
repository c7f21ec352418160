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
    few_us, many_us = [], []
    with bed(SMALL, kernel=True) as there:
        for _ in range(ROUNDS):
            small = _rates(there.load(window=IN_FLIGHT, rounds=PLACES, moves=True))
            few_us.append(there.processor_us)
            say(f"{SMALL} nodes that move: {spread(small)} per s, {few_us[-1]:.0f} us each")
    with bed(NODES, kernel=True) as there:
        large = []
        for _ in range(ROUNDS):
            large += _rates(there.load(window=IN_FLIGHT, rounds=2, moves=True))
            many_us.append(there.processor_us)
            say(f"{NODES} nodes that move: {large[-1]:.0f} per s, {many_us[-1]:.0f} us each")
        [storm] = there.load(window=None, rounds=1, moves=True)
        say(f"all at once: {storm['seconds']:.1f} s, {storm['sent']} requests sent")
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
            statistics.median(many_us) / statistics.median(few_us),
            f"of {SMALL}'s",
            Bar(1.2, at_least=False),
            {"nodes": NODES, "us of the agent's process": statistics.median(many_us)},
            f"us of {SMALL}: {spread(few_us)}; of {NODES}: {spread(many_us)}",
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


def _rates(results: Sequence[dict[str, float]]) -> list[float]:
    """Registrations per second of each round but the first, which also makes everything new."""
    return [one["per_second"] for one in results[1:]]

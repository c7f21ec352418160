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
STORM_BAR_S = 10.0
STORM_LIFETIME = "every node at once, each retransmitting until it is answered"


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Moves of a large and a small fleet; then everybody at once."""
    with bed(SMALL, kernel=True) as there:
        small = _rates(there.load(window=IN_FLIGHT, rounds=PLACES, moves=True))
    say(f"{SMALL} nodes that move: {spread(small)} per s")
    with bed(NODES, kernel=True) as there:
        large = _rates(there.load(window=IN_FLIGHT, rounds=4, moves=True))
        say(f"{NODES} nodes that move: {spread(large)} per s")
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
            statistics.median(small) / statistics.median(large),
            f"of {SMALL}'s",
            Bar(1.2, at_least=False),
            {"nodes": NODES},
            f"of {SMALL}: {spread(small)}; of {NODES}: {spread(large)}",
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

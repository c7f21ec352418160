"""Which packet sizes pass a path: probes in rounds, several sizes at once, ever closer together.

A size counts as too large when somebody said so, or when all its probes of a round were lost
though another size arrived. Pure: sizes go out, what became of them comes in.
"""

from dataclasses import dataclass, field
from typing import Final

SIZES_PER_ROUND: Final = 12
MAX_ROUNDS: Final = 6
SILENT_ROUNDS: Final = 2
"""After so many rounds without any answer nothing more is sent."""


@dataclass(slots=True)
class Outcome:
    """What became of a size."""

    octets: int
    arrived: bool = False
    rtt_s: float | None = None
    said_by: str = ""
    """Who said that it is too large."""
    said_mtu: int = 0


@dataclass(slots=True)
class PathSearch:
    """Finds the largest size between ``smallest`` and ``largest`` that arrives."""

    smallest: int
    largest: int
    likely: tuple[int, ...] = ()
    """Sizes to try first: those that somebody promised."""
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    _rounds: int = 0

    @property
    def passes(self) -> int | None:
        """The largest size that arrived."""
        return max((one.octets for one in self.outcomes.values() if one.arrived), default=None)

    @property
    def fails(self) -> int:
        """The smallest size above :attr:`passes` that did not; beyond the largest if none."""
        low = self.passes or 0
        sizes = (one.octets for one in self.outcomes.values() if not one.arrived)
        return min((size for size in sizes if size > low), default=self.largest + 1)

    @property
    def silent(self) -> bool:
        """Nothing arrived so far."""
        return self._rounds > 0 and self.passes is None

    def next_round(self) -> list[int]:
        """Sizes to send now, ascending; empty when there is nothing left to learn."""
        limit = SILENT_ROUNDS if self.silent else MAX_ROUNDS
        if self._rounds >= limit or self.largest < self.smallest:
            return []
        self._rounds += 1
        if self.silent or not self.outcomes:
            sizes = {self.smallest, self.largest, *self._fitting(self.likely)}
            sizes |= set(_spread(self.smallest, self.largest, SIZES_PER_ROUND - len(sizes)))
        else:
            low = self.passes or self.smallest
            sizes = set(_spread(low, self.fails, SIZES_PER_ROUND))
        for size in sizes:
            self.outcomes.setdefault(size, Outcome(size))
        return sorted(sizes)

    def _fitting(self, sizes: tuple[int, ...]) -> list[int]:
        return [size for size in sizes[:4] if self.smallest <= size <= self.largest]

    def arrived(self, octets: int, rtt_s: float) -> None:
        """A probe of this size was answered."""
        outcome = self.outcomes.get(octets)
        if outcome is not None:
            outcome.arrived = True
            if outcome.rtt_s is None or rtt_s < outcome.rtt_s:
                outcome.rtt_s = rtt_s

    def refused(self, octets: int, said_by: str, said_mtu: int) -> None:
        """Somebody said that a probe of this size was too large."""
        outcome = self.outcomes.get(octets)
        if outcome is not None:
            outcome.said_by, outcome.said_mtu = said_by, said_mtu

    def known(self, octets: int) -> bool:
        """Whether it is clear what became of a size."""
        outcome = self.outcomes.get(octets)
        return outcome is not None and (outcome.arrived or bool(outcome.said_by))


def _spread(low: int, high: int, count: int) -> list[int]:
    """At most ``count`` whole numbers strictly between, evenly."""
    between = high - low - 1
    if between <= count:
        return list(range(low + 1, high))
    return [low + (high - low) * step // (count + 1) for step in range(1, count + 1)]

"""What a benchmark reports, and how alternating pairs become one number."""

import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """A bound that the value must keep."""

    limit: float
    at_least: bool
    """True: the value must not be below; False: it must not be above."""

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps the bar."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Result:
    """One line of ``build/bench.json``."""

    name: str
    value: float
    unit: str
    bar: Bar | None = None
    """None for a figure that stands beside another and has no bar of its own."""
    baseline: dict[str, float] = field(default_factory=dict)
    """What was measured beside it in the same run, by name with its unit."""
    scatter: str = ""
    """Minimum, median and maximum of the pairs."""

    @property
    def holds(self) -> bool:
        """Whether the bar is kept; a figure without a bar holds."""
        return self.bar is None or self.bar.holds(self.value)

    @classmethod
    def of_json(cls, record: dict[str, Any]) -> "Result":
        """From the fields of another one."""
        bar = record.pop("bar")
        return cls(bar=Bar(**bar) if bar is not None else None, **record)

    def as_json(self) -> dict[str, object]:
        """The object that goes into the file."""
        record = asdict(self)
        record["bar"] = str(self.bar) if self.bar else None
        record["holds"] = self.holds
        return record


@dataclass(frozen=True, slots=True)
class Pairs:
    """Measurements of two subjects that took turns."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """Median of the pairwise ratios ours / theirs."""
        return statistics.median(self.ratios)

    @property
    def ratios(self) -> list[float]:
        """Pair by pair."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def median_ours(self) -> float:
        """Median of ours."""
        return statistics.median(self.ours)

    @property
    def median_theirs(self) -> float:
        """Median of the baseline."""
        return statistics.median(self.theirs)

    @property
    def scatter(self) -> str:
        """How far the numbers lie apart."""
        return f"ours {spread(self.ours)}; theirs {spread(self.theirs)}"


def spread(values: list[float]) -> str:
    """``minimum / median / maximum (n)``."""
    middle = statistics.median(values)
    return f"{min(values):.4g} / {middle:.4g} / {max(values):.4g} (n={len(values)})"


def error(values: list[float]) -> float:
    """How sure the median of independent values is: its standard error, 1.25 s / sqrt(n).

    The spread s is taken from the quartiles, which a few stray values do not change.
    """
    lower, _, upper = statistics.quantiles(values, n=4)
    return 1.25 * (upper - lower) / 1.35 / math.sqrt(len(values))


def quartiles(values: list[float]) -> str:
    """``lower quartile / median / upper quartile (n)``, and how sure the median is."""
    lower, middle, upper = statistics.quantiles(values, n=4)
    return f"{lower:.4g} / {middle:.4g} / {upper:.4g} (n={len(values)}, error {error(values):.2g})"


def alternate(
    ours: Callable[[], float],
    theirs: Callable[[], float],
    pairs: int,
    progress: Callable[[str], None],
) -> Pairs:
    """Measure both ``pairs`` times, taking turns and swapping who goes first."""
    mine: list[float] = []
    other: list[float] = []
    for number in range(pairs):
        first_is_ours = number % 2 == 0
        for subject_is_ours in (first_is_ours, not first_is_ours):
            (mine if subject_is_ours else other).append(ours() if subject_is_ours else theirs())
        progress(f"pair {number + 1}/{pairs}: {mine[-1]:.4g} against {other[-1]:.4g}")
    return Pairs(mine, other)

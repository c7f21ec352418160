"""What packets of an SA from unknown sources may cost.

A flood of garbage with a known SPI is bounded per SA, and sources that have failed before share
a smaller allowance than new ones, so that a peer that has moved is heard.
"""

from dataclasses import dataclass, field
from typing import Final

from gateway.domain.token_bucket import TokenBucket

CHECKS_PER_S: Final = 200.0
CHECKS_BURST: Final = 50.0
SUSPECT_CHECKS_PER_S: Final = 20.0
SUSPECT_BURST: Final = 10.0
MAX_SUSPECTS: Final = 64
"""Sources remembered per SA as having sent a packet with a wrong ICV."""
REJECTIONS_PER_S: Final = 5.0
"""Events per SA; the counters count all."""


@dataclass(slots=True)
class CheckBudget:
    """Of one SA. Sources are addresses, or their octets with a port."""

    rejections: TokenBucket = field(
        default_factory=lambda: TokenBucket(REJECTIONS_PER_S, REJECTIONS_PER_S)
    )
    _checks: TokenBucket = field(default_factory=lambda: TokenBucket(CHECKS_PER_S, CHECKS_BURST))
    _suspect_checks: TokenBucket = field(
        default_factory=lambda: TokenBucket(SUSPECT_CHECKS_PER_S, SUSPECT_BURST)
    )
    suspects: dict[object, None] = field(default_factory=dict)

    def take(self, source: object, now: float) -> bool:
        """Whether a packet from there may be checked."""
        bucket = self._suspect_checks if source in self.suspects else self._checks
        return bucket.take(now)

    def suspect(self, source: object) -> None:
        """Remember a source of forgeries, forgetting the oldest beyond the bound."""
        self.suspects.pop(source, None)
        self.suspects[source] = None
        if len(self.suspects) > MAX_SUSPECTS:
            del self.suspects[next(iter(self.suspects))]

    def trust(self, source: object) -> None:
        """It is the peer's own now."""
        self.suspects.pop(source, None)

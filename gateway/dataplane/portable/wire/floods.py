"""Whose garbage others must not wait behind.

Packets that look like an SA's until they are checked, and those of no SA, cost a process of ours
more than their sender. Beyond a rate the SPI is set aside: its packets get a queue of their own
and a small share of the time (:mod:`.esp_sockets`). Only the SA that is flooded feels it.
"""

from collections.abc import Mapping
from typing import Final

UNKNOWN: Final = 0
"""Stands for all SPIs of no SA of ours: no SA has it (RFC 4303 section 2.1)."""
ALLOWED_PER_S: Final = 1000.0
ALLOWED_AT_ONCE: Final = 256.0
"""Refused packets of one SPI that are nothing special: a network that doubles packets, a peer
that was restarted."""
CALM_S: Final = 10.0
"""After so long without too many an SPI is like others again."""
MAX_ASIDE: Final = 64
MAX_WATCHED: Final = 1024


class Floods:
    """Counts refused packets by SPI. Times only go forward."""

    def __init__(self) -> None:
        self.aside: dict[int, float] = {}
        """SPIs, and when they had too many last."""
        self._left: dict[int, tuple[float, float]] = {}
        """How many more are nothing special, and when that was so."""

    def refused(self, packets: Mapping[int, int], now: float) -> bool:
        """Count them; whether :attr:`aside` is another set now."""
        changed = False
        for spi, count in packets.items():
            if self._take(spi, count, now):
                continue
            if spi in self.aside:
                self.aside[spi] = now
            elif len(self.aside) < MAX_ASIDE:
                self.aside[spi] = now
                changed = True
        return changed

    def settle(self, now: float) -> bool:
        """Forget what has become calm; whether :attr:`aside` is another set now."""
        calm = [spi for spi, at in self.aside.items() if now - at >= CALM_S]
        for spi in calm:
            del self.aside[spi]
        return bool(calm)

    def forget(self, spi: int) -> None:
        """The SA is gone."""
        self.aside.pop(spi, None)
        self._left.pop(spi, None)

    def _take(self, spi: int, count: int, now: float) -> bool:
        left, at = self._left.pop(spi, (ALLOWED_AT_ONCE, now))
        left = min(ALLOWED_AT_ONCE, left + (now - at) * ALLOWED_PER_S) - count
        if len(self._left) >= MAX_WATCHED:
            del self._left[next(iter(self._left))]
        self._left[spi] = max(left, 0.0), now
        return left >= 0

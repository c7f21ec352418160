"""Packets of a peer that has just shown that it is elsewhere, until its SA has moved.

Delivered at once they would be answered to where it no longer is. As the kernel dataplane does
with what proves a move; here those that prove a UDP mapping wait as well.
"""

from typing import Final

from gateway.dataplane.portable.packets import Delivery

WAIT_S: Final = 1.0
"""Whoever has not moved the SA by then will not."""
MAX_PACKETS: Final = 64
"""Of one SA; those beyond do not wait."""


class HeldBack:
    """By inbound SPI."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[float, list[Delivery]]] = {}
        """Until when; each waits as long, so the first is the first to end."""

    @property
    def due(self) -> float | None:
        """When the first of them has waited long enough."""
        first = next(iter(self._waiting.values()), None)
        return None if first is None else first[0]

    def begin(self, spi_in: int, now: float) -> None:
        """From now on packets of this SA wait, if they do not yet."""
        if spi_in not in self._waiting:
            self._waiting[spi_in] = now + WAIT_S, []

    def keep(self, spi_in: int, delivery: Delivery) -> bool:
        """Whether this one waits."""
        waiting = self._waiting.get(spi_in)
        if waiting is None or len(waiting[1]) >= MAX_PACKETS:
            return False
        waiting[1].append(delivery)
        return True

    def release(self, spi_in: int) -> list[Delivery]:
        """They wait no more."""
        waiting = self._waiting.pop(spi_in, None)
        return [] if waiting is None else waiting[1]

    def overdue(self, now: float) -> list[Delivery]:
        """Those that have waited long enough."""
        found: list[Delivery] = []
        while (first := next(iter(self._waiting.items()), None)) is not None:
            spi_in, (until, deliveries) = first
            if until - WAIT_S <= now < until:
                break
            del self._waiting[spi_in]
            found += deliveries
        return found

"""How long bindings are granted for."""

from collections.abc import Callable

from gateway.mip_agents.home_agent.bindings import NEVER
from gateway.mip_agents.policy import INFINITE_LIFETIME_S

_BATCH_OCTETS = 512
"""Random octets are fetched in batches: a call per registration would be a system call each."""


class Lifetimes:
    """Grants lifetimes, each shortened by a little of its own."""

    __slots__ = ("_at", "_octets", "_random", "longest_s", "spread")

    def __init__(self, longest_s: int, spread: float, random: Callable[[int], bytes]) -> None:
        self.longest_s = longest_s
        self.spread = spread
        self._random = random
        self._octets = b""
        self._at = 0

    def grant(self, requested_s: int) -> int:
        """What a request for ``requested_s`` gets: at least one second, 65535 for ever."""
        if self.longest_s == INFINITE_LIFETIME_S:
            return requested_s
        shortened = self.longest_s - int(self.longest_s * self.spread * self._share())
        return max(1, min(requested_s, shortened))

    def _share(self) -> float:
        at = self._at
        if at + 2 > len(self._octets):
            self._octets = self._random(_BATCH_OCTETS)
            at = 0
        self._at = at + 2
        return (self._octets[at] << 8 | self._octets[at + 1]) / 65536


def expiry(granted_s: int, now: float) -> float:
    """When a lifetime granted now is over."""
    return NEVER if granted_s == INFINITE_LIFETIME_S else now + granted_s

"""How much one half of a child SA may carry."""

from typing import Final

from gateway.dataplane.kernel.child import NO_ESN_HARD_PACKETS, NO_ESN_SOFT_PACKETS
from gateway.dataplane.portable.esp.state import Carried
from gateway.domain.child_sa import ChildSa

_NONE: Final = (1 << 64) - 1
"""Of packets as many as there are sequence numbers: none is used twice with ESN either."""


class Limits:
    """What was carried, and up to where nobody needs to look.

    As the kernel counts: inner packets without what ESP adds, and a limit is noticed by the
    packet after it.
    """

    __slots__ = (
        "_hard_octets",
        "_hard_packets",
        "_soft_octets",
        "_soft_packets",
        "hard",
        "octets",
        "octets_free",
        "packets",
        "packets_free",
        "soft",
    )

    def __init__(self, sa: ChildSa, before: Carried) -> None:
        self.octets = before.octets
        self.packets = before.packets
        self.soft = before.soft
        """The limit was reached."""
        self.hard = before.hard
        """The half is no more."""
        self._soft_octets = sa.soft_bytes or _NONE
        self._hard_octets = sa.hard_bytes or _NONE
        soft, hard = sa.soft_packets or _NONE, sa.hard_packets or _NONE
        if not sa.suite.esn:
            soft, hard = min(soft, NO_ESN_SOFT_PACKETS), min(hard, NO_ESN_HARD_PACKETS)
        self._soft_packets, self._hard_packets = soft, hard
        self._measure()

    @property
    def carried(self) -> Carried:
        """What there is to know of them."""
        return Carried(self.octets, self.packets, self.soft, self.hard)

    def _measure(self) -> None:
        if self.soft:
            self.octets_free, self.packets_free = self._hard_octets, self._hard_packets
        else:
            self.octets_free = min(self._soft_octets, self._hard_octets)
            self.packets_free = min(self._soft_packets, self._hard_packets)

    def reached(self) -> bool | None:
        """Call when the free ones are used up: whether the limit that is reached is the hard one.

        None when there is nothing new. Each is told once.
        """
        if self.octets >= self._hard_octets or self.packets >= self._hard_packets:
            if self.hard:
                return None
            self.hard = True
            return True
        if self.soft:
            return None
        self.soft = True
        self._measure()
        return False

"""What goes into the Identification field, the mobile node's half (RFC 5944 section 5.7)."""

from collections.abc import Callable

from gateway.mip_agents.policy import ReplayProtection, SecurityAssociation
from gateway.mip_agents.replay import LOW_HALF, ntp

_BITS_64 = 0xFFFF_FFFF_FFFF_FFFF
_HALF = 1 << 63
_HALF_SECOND = 1 << 31
_CLOSE = 3 << 31
"""A second and a half."""
_RANDOM_BITS = 0xFFFF
"""The lowest bits of a timestamp, 15 microseconds: random, so that no two starts repeat one."""


class Identifications:
    """Makes identifications, each once, and learns from authentic replies.

    With timestamps they are times of the wall clock, corrected by what the home agent said its
    own is; with nonces the upper half is what the home agent gave out last.
    """

    __slots__ = ("_association", "_correction", "_last", "_nonce", "_random", "_wall_clock")

    def __init__(
        self,
        association: SecurityAssociation,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
    ) -> None:
        self._random = random
        self._wall_clock = wall_clock
        self._association = association
        self._correction = 0
        self._last: int | None = None
        self._nonce = self._draw()

    def use(self, association: SecurityAssociation) -> None:
        """Go on with another association; the clock's correction stays."""
        if association.spi != self._association.spi:
            self._nonce = self._draw()
        self._association = association

    def next(self) -> int:
        """64 bits that were never used before, and later than all others."""
        if self._association.replay is ReplayProtection.NONCES:
            return self._nonce << 32 | self._draw()
        stamp = (ntp(self._wall_clock()) + self._correction) & _BITS_64 & ~_RANDOM_BITS
        stamp |= int.from_bytes(self._random(2))
        if self._last is not None and _signed(stamp - self._last) <= 0:
            stamp = (self._last + 1) & _BITS_64
        self._last = stamp
        return stamp

    def learn(self, replied: int) -> None:
        """Take the nonce of an authentic reply."""
        self._nonce = replied >> 32

    def resynchronise(self, replied: int, *, again: bool) -> None:
        """Take nonce or time of an authentic denial with code 133 (section 5.7.1).

        The reply tells whole seconds; half a second more is the better guess. A clock that is
        right within that stays as it is: the request was overtaken, maybe by one of ours over
        another link, and the next one is newer. ``again``: that was tried.
        """
        self.learn(replied)
        told = replied & ~LOW_HALF
        ours = ntp(self._wall_clock())
        if not again and abs(_signed(told + _HALF_SECOND - ours - self._correction)) < _CLOSE:
            return
        self._correction = _signed(told + _HALF_SECOND - ours)
        # What was sent with a clock ahead was not accepted: it must not keep us in the future.
        self._last = told

    @property
    def clock_error_s(self) -> float:
        """How far the home agent's clock is ahead of ours, as far as it told."""
        return self._correction / 2**32

    def matches(self, asked: int, replied: int, *, accepted: bool) -> bool:
        """Whether a reply's field belongs to a request's.

        An accepted timestamp comes back whole, so more than the lower half is compared there.
        """
        whole = accepted and self._association.replay is ReplayProtection.TIMESTAMPS
        return (asked ^ replied) & (_BITS_64 if whole else LOW_HALF) == 0

    def seconds_off(self, asked: int, replied: int) -> float:
        """How far a denied timestamp was from the home agent's clock; meaningless for nonces."""
        return abs(_signed((replied & ~LOW_HALF) - (asked & ~LOW_HALF))) / 2**32

    def _draw(self) -> int:
        return int.from_bytes(self._random(4))


def _signed(difference: int) -> int:
    return ((difference + _HALF) & _BITS_64) - _HALF

"""Replay protection of registrations: the Identification field (RFC 5944 section 5.7).

One small object for each mobile node and SPI. ``check`` looks, ``accept`` remembers; ask only
after the authenticator was found right, and remember only what was fresh.
"""

import enum
from collections.abc import Callable
from typing import Protocol

from gateway.mip_agents.policy import ReplayProtection, SecurityAssociation

_NTP_EPOCH_S = 2_208_988_800
"""From the start of 1900 to that of 1970."""
_BITS_64 = 0xFFFF_FFFF_FFFF_FFFF
_SIGN = 1 << 63
LOW_HALF = 0xFFFF_FFFF
"""These bits of a reply repeat the request's, whatever the protection."""


class Freshness(enum.Enum):
    """What an Identification field is worth."""

    FRESH = "fresh"
    REPLAYED = "equal to or older than the last one"
    BEHIND = "behind our clock"
    AHEAD = "ahead of our clock"
    WRONG_NONCE = "not the nonce we gave out"


class Identification(Protocol):
    """What is remembered of one mobile node's requests under one SPI."""

    __slots__ = ()

    @property
    def state(self) -> int:
        """What has to outlive a restart; 64 bits."""

    def check(self, identification: int, wall_clock_s: float, window_s: float) -> Freshness:
        """Judge the field of an authentic request; changes nothing."""

    def accept(self, identification: int, random: Callable[[int], bytes]) -> None:
        """Remember a fresh one: it will not be fresh again."""

    def reply(self, identification: int, freshness: Freshness, wall_clock_s: float) -> int:
        """The field of the reply, after ``accept`` if the request was fresh."""


class TimestampIdentification:
    """Timestamps in NTP's format (RFC 5944 section 5.7.1)."""

    __slots__ = ("_last",)

    def __init__(self, state: int = 0) -> None:
        self._last = state

    @property
    def state(self) -> int:
        """The last timestamp accepted, 0 if none was."""
        return self._last

    def check(self, identification: int, wall_clock_s: float, window_s: float) -> Freshness:
        """Fresh is what is newer than the last one and within the window around our clock.

        All differences are taken modulo 64 bits, so the era that ends in 2036 does not matter.
        """
        ahead = _signed(identification - ntp(wall_clock_s))
        window = int(window_s * 2**32)
        if ahead > window:
            return Freshness.AHEAD
        if ahead < -window:
            return Freshness.BEHIND
        if self._last and _signed(identification - self._last) <= 0:
            return Freshness.REPLAYED
        return Freshness.FRESH

    def accept(self, identification: int, random: Callable[[int], bytes]) -> None:  # noqa: ARG002
        """Remember a fresh one: it will not be fresh again."""
        # 0 is "none so far"; the moment in 2036 that is 0 counts as its next fraction.
        self._last = identification or 1

    def reply(self, identification: int, freshness: Freshness, wall_clock_s: float) -> int:
        """A copy; or, in its upper half, the time that the mobile node should set its clock to.

        That is our clock's, unless the last timestamp accepted is ahead of it: the mobile node
        would set its clock to what is refused again.
        """
        if freshness is Freshness.FRESH:
            return identification
        now = ntp(wall_clock_s)
        if freshness is Freshness.REPLAYED and _signed(self._last - now) >= 0:
            now = self._last + (1 << 32)
        return now & _BITS_64 & ~LOW_HALF | identification & LOW_HALF


class NonceIdentification:
    """Nonces: the upper half repeats what our last reply gave out (RFC 5944 section 5.7.2).

    A nonce is given out again until it is used, so that a replayed request leaves the one that
    the mobile node holds as it is.
    """

    __slots__ = ("_expected",)

    def __init__(self, random: Callable[[int], bytes], state: int | None = None) -> None:
        self._expected = _nonce(random) if state is None else state

    @property
    def state(self) -> int:
        """The nonce that the next request has to carry."""
        return self._expected

    def check(
        self,
        identification: int,
        wall_clock_s: float,  # noqa: ARG002
        window_s: float,  # noqa: ARG002
    ) -> Freshness:
        """Fresh is what carries the nonce that was given out last."""
        if identification >> 32 == self._expected:
            return Freshness.FRESH
        return Freshness.WRONG_NONCE

    def accept(self, identification: int, random: Callable[[int], bytes]) -> None:
        """Draw the next nonce."""
        nonce = _nonce(random)
        # Never the same twice in a row, or the request could be played again.
        self._expected = nonce if nonce != identification >> 32 else nonce ^ 1

    def reply(
        self,
        identification: int,
        freshness: Freshness,  # noqa: ARG002
        wall_clock_s: float,  # noqa: ARG002
    ) -> int:
        """The nonce for the next request, and the request's lower half."""
        return self._expected << 32 | identification & LOW_HALF


def identification_for(
    association: SecurityAssociation, random: Callable[[int], bytes], state: int | None = None
) -> Identification:
    """What an association's replay protection needs; ``state`` is from before a restart."""
    if association.replay is ReplayProtection.NONCES:
        return NonceIdentification(random, state)
    return TimestampIdentification(state or 0)


def ntp(wall_clock_s: float) -> int:
    """A time since 1970 as 64 bits of NTP: seconds since 1900, or 2036, and a fraction."""
    return int((wall_clock_s + _NTP_EPOCH_S) * 2**32) & _BITS_64


def _signed(difference: int) -> int:
    """A difference modulo 2**64 as a number between -2**63 and 2**63 - 1."""
    return ((difference + _SIGN) & _BITS_64) - _SIGN


def _nonce(random: Callable[[int], bytes]) -> int:
    return int.from_bytes(random(4))

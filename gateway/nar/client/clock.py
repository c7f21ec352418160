"""The client's times: answers, renewal, and how long leases live without a connection."""

from typing import Final

from gateway.nar.client.phases import Phase

ANSWER_S: Final = 20.0
"""A server that owes an answer for this long is given up."""
UNKNOWN_GRACE_S: Final = 30.0
"""How long leases are believed in after the connection ended, of a server that does not say."""
SHORTEST_LEASE_S: Final = 4
"""Renewal is not more frequent than a lease of this length needs."""
LONGEST_LEASE_S: Final = 86_400


class Clock:
    """All the deadlines of one client."""

    __slots__ = ("_answer_by", "_fresh", "_gone_at", "_grace_s", "_renew_at", "now")

    def __init__(self) -> None:
        self.now = 0.0
        """Of the last call that told."""
        self._answer_by: float | None = None
        self._fresh = False
        self._renew_at: float | None = None
        self._grace_s = UNKNOWN_GRACE_S
        self._gone_at: float | None = None

    def asked(self) -> None:
        """Something was sent; the deadline is set when the time is known, see :meth:`settle`."""
        self._fresh = True

    def answered(self) -> None:
        """A message came: the next one has its full time again."""
        self._fresh = True

    def settle(self, now: float, *, waits: bool) -> None:
        """Set the deadline of the answer; ``waits``: whether one is due."""
        self.now = now
        if not waits:
            self._answer_by = None
        elif self._fresh or self._answer_by is None:
            self._answer_by = now + ANSWER_S
        self._fresh = False

    def silent(self, now: float) -> bool:
        """Whether the server owes an answer for too long."""
        return self._answer_by is not None and now >= self._answer_by

    def leased(self, lease_s: int, grace_s: int | None) -> None:
        """Leases live ``lease_s`` from now; renew at half of it."""
        bounded = min(max(lease_s, SHORTEST_LEASE_S), LONGEST_LEASE_S)
        self._renew_at = self.now + bounded / 2
        if grace_s is not None:
            self._grace_s = float(min(grace_s, LONGEST_LEASE_S))

    def renewal_due(self, now: float) -> bool:
        """Whether to renew; once."""
        if self._renew_at is None or now < self._renew_at:
            return False
        self._renew_at = None
        return True

    def away(self, now: float) -> None:
        """No connection any more."""
        self.now = now
        self._answer_by = self._renew_at = None
        self._fresh = False
        if self._gone_at is None:
            self._gone_at = now + self._grace_s

    def back(self) -> None:
        """Leases are looked after again."""
        self._gone_at = None

    def forgotten(self, now: float) -> bool:
        """Whether the server has ended our leases by now; once."""
        if self._gone_at is None or now < self._gone_at:
            return False
        self._gone_at = None
        return True

    def next(self, phase: Phase) -> float | None:
        """The next deadline that matters in ``phase``."""
        if phase is Phase.AWAY:
            return self._gone_at
        if phase is Phase.FAILED:
            return None
        times = [self.now] if self._fresh else []
        if self._answer_by is not None:
            times.append(self._answer_by)
        if phase is Phase.READY and self._renew_at is not None:
            times.append(self._renew_at)
        return min(times, default=None)

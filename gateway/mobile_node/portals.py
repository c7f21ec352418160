"""Captive portals: looked for where nobody answers, and looked at again until they open."""

from collections.abc import Callable

from gateway.mobile_node.alarm import Alarm
from gateway.mobile_node.backoff import Backoff
from gateway.mobile_node.inputs import Portal

FIRST_PROBE_S, LAST_PROBE_S = 5.0, 60.0
PROBE_ANSWER_S = 20.0
"""A probe that nobody reports on is over then."""


class PortalWatch:
    """Of one interface (draft 002, section 4.2.6)."""

    __slots__ = ("_probe_at", "_probing_until", "_waits", "answered", "found")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self.found = Portal.UNKNOWN
        self.answered = False
        """Whether a probe has come back since the link changed."""
        self._probe_at = 0.0
        self._probing_until: float | None = None
        self._waits = Backoff(FIRST_PROBE_S, LAST_PROBE_S, random)

    def reset(self) -> None:
        """Another link: nothing is known."""
        self.found, self.answered, self._probing_until = Portal.UNKNOWN, False, None
        self._probe_at = 0.0
        self._waits.reset()

    @property
    def captive(self) -> bool:
        """Whether somebody wants a login first."""
        return self.found is Portal.CAPTIVE

    def hurry(self, now: float) -> None:
        """There is a new reason for doubt."""
        self._probe_at = min(self._probe_at, now)

    def may_probe(self, now: float, alarm: Alarm) -> bool:
        """Whether a probe is due; then it counts as sent."""
        if self._probing_until is not None:
            if not alarm.reached(self._probing_until):
                return False
            self.hear(Portal.UNKNOWN, now)
        if not alarm.reached(self._probe_at):
            return False
        self._probing_until = now + PROBE_ANSWER_S
        alarm.want(self._probing_until)
        return True

    def hear(self, found: Portal, now: float) -> bool:
        """What a probe found; whether the way has just become free."""
        freed = self.captive and found is Portal.OPEN
        self.found, self.answered, self._probing_until = found, True, None
        self._probe_at = now + self._waits.next_s()
        if freed:
            self._waits.reset()
        return freed

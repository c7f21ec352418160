"""Wake-ups that come too often are put off a little, so that each of them has more to do.

A system call and a turn of the loop cost as much as several packets. Without this a forwarder that
is just fast enough wakes for each packet, and is not fast enough for the next ones.
"""

from typing import Final

WINDOW_S: Final = 0.005
BUSY_TURNS: Final = 25
"""Turns in a window from which on they are put off; ten devices that talk make fewer."""
CALM_TURNS: Final = 5
"""Turns in a window below which they are put off no more."""
PAUSE_S: Final = 50e-6
"""The kernel adds its timer slack of as much again."""


class Pace:
    """Counts the turns of a loop."""

    def __init__(self, now: float) -> None:
        self._until = now + WINDOW_S
        self._turns = 0
        self._busy = False

    def pause_s(self, now: float) -> float:
        """After a turn that had something to do: how long not to look again."""
        self._turns += 1
        if now >= self._until:
            quiet = now >= self._until + WINDOW_S
            self._busy = not quiet and self._turns >= (CALM_TURNS if self._busy else BUSY_TURNS)
            self._turns = 0
            self._until = now + WINDOW_S
        return PAUSE_S if self._busy else 0.0

"""Notices that the machine slept.

While it sleeps neither our clock runs nor the timeouts of the kernel's permits, and it may wake up
somewhere else: whatever was proven before is void.
"""

import os
import sys
import time
from typing import Final

from gateway.domain import timerfd

SLEPT_S: Final = 0.5
"""Less is the drift between two readings."""
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2
_FAR_S: Final = min(1 << 40, sys.maxsize)


def _asleep_s() -> float:
    """How long the machine has slept since it started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class SuspendWatch:
    """Readable when the wall clock was set, which waking up does (timerfd_create(2)).

    Raises OSError from the constructor.
    """

    def __init__(self) -> None:
        self._asleep_s = _asleep_s()
        self._fd = timerfd.create(time.CLOCK_REALTIME)
        self._arm()

    def _arm(self) -> None:
        """A timer that never fires, and is cancelled when the clock is set."""
        try:
            timerfd.arm(self._fd, _FAR_S, flags=_TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET)
        except OSError:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        """For selectors."""
        return self._fd

    def read(self) -> float:
        """How long the machine slept since the last reading; 0 when only its clock was set."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            pass  # nobody set the clock
        except OSError:
            self._arm()  # ECANCELED: it was set
        before, self._asleep_s = self._asleep_s, _asleep_s()
        slept_s = self._asleep_s - before
        return slept_s if slept_s >= SLEPT_S else 0.0

    def close(self) -> None:
        """Close the timer."""
        os.close(self._fd)

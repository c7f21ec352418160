"""Notices that the machine slept.

While it sleeps neither our clock runs nor the timeouts of the kernel's permits, and it may wake up
somewhere else: whatever was proven before is void.
"""

import ctypes
import os
import struct
import time
from typing import Final

SLEPT_S: Final = 0.5
"""Less is the drift between two readings."""
_CLOCK_REALTIME = 0
_TFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2
_FAR = struct.Struct("=qqqq")
_FAR_S: Final = 1 << 40
_libc = ctypes.CDLL(None, use_errno=True)


def _asleep_s() -> float:
    """How long the machine has slept since it started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class SuspendWatch:
    """Readable when the wall clock was set, which waking up does (timerfd_create(2)).

    Raises OSError from the constructor.
    """

    def __init__(self) -> None:
        self._asleep_s = _asleep_s()
        self._fd = int(_libc.timerfd_create(_CLOCK_REALTIME, _TFD_NONBLOCK_CLOEXEC))
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._arm()

    def _arm(self) -> None:
        """A timer that never fires, and is cancelled when the clock is set."""
        far = ctypes.create_string_buffer(_FAR.pack(0, 0, _FAR_S, 0))
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        if _libc.timerfd_settime(self._fd, flags, far, None) != 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, os.strerror(number))

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

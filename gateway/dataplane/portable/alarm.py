"""A descriptor that becomes readable after a while: timerfd_create(2), which Python 3.11 lacks."""

import contextlib
import ctypes
import os
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_LEAST_NS: Final = 1
"""Zero would disarm it."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Goes off once, as often as it is set. Raises OSError."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, flags)
        if self._fd < 0:
            raise _error()

    def fileno(self) -> int:
        """Readable from when it has gone off until :meth:`clear`."""
        return self._fd

    def set(self, after_s: float) -> None:
        """Go off then, and not when it would have."""
        seconds, nanoseconds = divmod(max(_LEAST_NS, round(after_s * 1e9)), 1_000_000_000)
        wanted = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        if self._libc.timerfd_settime(self._fd, 0, ctypes.byref(wanted), None):
            raise _error()

    def clear(self) -> None:
        """It has been heard, if it has gone off."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))

"""Timers that are descriptors: timerfd_create(2), which Python 3.11 lacks."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def create(clock: int) -> int:
    """A timer by one of ``time.CLOCK_...``, that does not block and is not set. Raises OSError."""
    fd = int(_libc.timerfd_create(clock, os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        raise _error()
    return fd


def arm(fd: int, seconds: int, nanoseconds: int = 0, *, flags: int = 0) -> None:
    """Let it go off once. Raises OSError."""
    wanted = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
    if _libc.timerfd_settime(fd, flags, ctypes.byref(wanted), None):
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))

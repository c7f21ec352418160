"""A descriptor that becomes readable after a while."""

import contextlib
import os
import time
from typing import Final

from gateway.domain import timerfd

_LEAST_NS: Final = 1
"""Zero would disarm it."""


class Alarm:
    """Goes off once, as often as it is set. Raises OSError."""

    def __init__(self) -> None:
        self._fd = timerfd.create(time.CLOCK_MONOTONIC)

    def fileno(self) -> int:
        """Readable from when it has gone off until :meth:`clear`."""
        return self._fd

    def set(self, after_s: float) -> None:
        """Go off then, and not when it would have."""
        timerfd.arm(self._fd, *divmod(max(_LEAST_NS, round(after_s * 1e9)), 1_000_000_000))

    def clear(self) -> None:
        """It has been heard, if it has gone off."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

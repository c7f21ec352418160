"""The one timer of an engine, or of several: the earliest moment at which one has to be woken."""

from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    """A timer that can be called off."""

    def cancel(self) -> None:
        """Call it off."""


CallAt = Callable[[float, Callable[[], None]], Handle]


class OneTimer:
    """Calls ``due`` at the time it was armed for, once.

    An earlier one that finds nothing to do costs less than moving it, so a later time changes
    nothing.
    """

    __slots__ = ("_armed_at", "_call_at", "_due", "_handle")

    def __init__(self, call_at: CallAt, due: Callable[[], None]) -> None:
        self._call_at = call_at
        self._due = due
        self._armed_at: float | None = None
        self._handle: Handle | None = None

    def arm(self, at: float | None) -> None:
        """Wake not later than ``at``; None asks for nothing."""
        if at is None or (self._armed_at is not None and self._armed_at <= at):
            return
        if self._handle is not None:
            self._handle.cancel()
        self._armed_at = at
        self._handle = self._call_at(at, self._fire)

    def _fire(self) -> None:
        self._armed_at = self._handle = None
        self._due()

    def stop(self) -> None:
        """Call it off."""
        if self._handle is not None:
            self._handle.cancel()
        self._armed_at = self._handle = None

"""When the engine wants to be called next: each condition in time says so where it is asked."""


class Alarm:
    """Collects, during one pass over the node's state, every moment that would change it.

    A condition that is asked by :meth:`reached` cannot be forgotten: if it is not yet true, the
    node is woken when it becomes so.
    """

    __slots__ = ("_next", "_now")

    def __init__(self) -> None:
        self._now = 0.0
        self._next: float | None = None

    def start(self, now: float) -> None:
        """A new pass begins at ``now``; what the last one waited for is asked again."""
        self._now = now
        self._next = None

    def reached(self, at: float) -> bool:
        """Whether ``at`` has come; otherwise the node is woken then."""
        if self._now >= at:
            return True
        self.want(at)
        return False

    def want(self, at: float | None) -> None:
        """Wake the node at ``at``, or earlier; None is never."""
        if at is not None and (self._next is None or at < self._next):
            self._next = at

    def next_at(self) -> float | None:
        """The earliest moment that was asked for."""
        return self._next

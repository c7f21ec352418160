"""When nobody uses the network: then the proof of the inside is not kept up (draft 002, 3.1)."""

from collections.abc import Callable


class IdleWatch:
    """Looks at how many packets the user had, now and then.

    It never asks more often than a few times in ``idle_after_s``, and costs no message at all.
    """

    __slots__ = ("_checked_at", "_count", "_idle_after_s", "_packets", "_used_at", "asleep")

    LOOKS = 4
    """Looks within the time after which a device counts as idle."""

    def __init__(self, packets: Callable[[], int] | None, idle_after_s: float) -> None:
        self._packets = packets
        self._idle_after_s = idle_after_s if packets is not None else 0.0
        self._count = -1
        self._used_at = 0.0
        self._checked_at = 0.0
        self.asleep = False
        """Plaintext is held until a packet waits."""

    def change(self, idle_after_s: float) -> None:
        """Another patience."""
        self._idle_after_s = idle_after_s if self._packets is not None else 0.0

    def used(self, now: float) -> None:
        """Somebody uses the network, or may: count anew from here."""
        self.asleep = False
        self._used_at = self._checked_at = now
        if self._packets is not None and self._idle_after_s > 0:
            self._count = self._packets()

    def next_look(self) -> float | None:
        """When :meth:`look` is due; None while it has nothing to see."""
        if self._idle_after_s <= 0 or self.asleep:
            return None
        return self._checked_at + self._idle_after_s / self.LOOKS

    def look(self, now: float) -> bool:
        """Whether the network has been idle for long enough; ``asleep`` from then on."""
        if self._packets is None or self._idle_after_s <= 0 or self.asleep:
            return self.asleep
        due = self.next_look()
        if due is not None and now < due:
            return False
        self._checked_at = now
        count = self._packets()
        if count != self._count:
            self._count, self._used_at = count, now
        self.asleep = now - self._used_at >= self._idle_after_s
        return self.asleep

"""The anti-replay window of an inbound SA (RFC 4303 section 3.4.3, RFC 4304 appendix A)."""

from typing import Final

SMALLEST: Final = 32
LARGEST: Final = 1024
_LOW: Final = 0xFFFFFFFF
_END: Final = 1 << 64

REFUSED: Final = -1
"""No sequence number: the packet is old, was here before, or has number 0."""


class ReplayWindow:
    """Numbers that were received, up to a distance from the highest."""

    __slots__ = ("_esn", "_mask", "_size", "bitmap", "highest")

    def __init__(self, size: int, *, esn: bool, highest: int = 0, bitmap: int = 0) -> None:
        self._size = max(SMALLEST, min(size, LARGEST))
        self._mask = (1 << self._size) - 1
        self.bitmap = bitmap & self._mask
        """Bit n is the number ``highest - n``."""
        self._esn = esn
        self.highest = highest
        """With ESN the full 64 bits."""

    @property
    def size(self) -> int:
        """In packets."""
        return self._size

    def full(self, low: int) -> int:
        """The number that ``low`` of a packet stands for, or :data:`REFUSED`.

        The packet has to prove it, and is to be counted by :meth:`accept` only then.
        """
        highest = self.highest
        number = self._guess(low) if self._esn else low
        if number > highest:
            return number
        behind = highest - number
        if number <= 0 or behind >= self._size or self.bitmap >> behind & 1:
            return REFUSED
        return number

    def _guess(self, low: int) -> int:
        """RFC 4304 appendix A2: the window may span two numbers of the high half."""
        highest = self.highest
        top = highest & _LOW
        number = highest - top + low
        bottom = top - self._size + 1
        if bottom >= 0:
            if low < bottom:
                number += 1 << 32
        elif low >= bottom + (1 << 32):
            number -= 1 << 32
        return number if number < _END else REFUSED

    def accept(self, number: int) -> None:
        """Count a packet whose ICV was right; ``number`` is what :meth:`full` has said."""
        ahead = number - self.highest
        if ahead > 0:
            self.highest = number
            if ahead < self._size:
                self.bitmap = (self.bitmap << ahead | 1) & self._mask
            else:
                self.bitmap = 1
        else:
            self.bitmap |= 1 << -ahead

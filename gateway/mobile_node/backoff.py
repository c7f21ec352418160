"""How long to wait before the next try: longer each time, never for ever, never in step."""

from collections.abc import Callable


class Backoff:
    """Exponential waits between a first and a last one, each shortened by up to a quarter.

    Without the random part all devices of an outage would come back in the same moment.
    """

    __slots__ = ("_factor", "_first_s", "_last_s", "_random", "tries")

    def __init__(
        self,
        first_s: float,
        last_s: float,
        random: Callable[[int], bytes],
        factor: float = 2.0,
    ) -> None:
        self._first_s = first_s
        self._last_s = last_s
        self._factor = factor
        self._random = random
        self.tries = 0
        """How many waits were drawn since the last success."""

    def next_s(self) -> float:
        """The next wait in seconds."""
        # The exponent is bounded too: a number that nobody reads needs no thousand digits.
        wait_s = min(self._last_s, self._first_s * self._factor ** min(self.tries, 32))
        self.tries += 1
        share = int.from_bytes(self._random(2)) / 0xFFFF
        return wait_s * (1.0 - 0.25 * share)

    def reset(self) -> None:
        """It worked: begin with the first wait again."""
        self.tries = 0

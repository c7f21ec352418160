"""Challenges that mobile nodes give back in their requests (RFC 4721 sections 2 and 3)."""

from collections import OrderedDict, deque
from collections.abc import Callable

from gateway.mip_agents.codec.codes import ReplyCode

CHALLENGE_OCTETS = 16
CHALLENGE_WINDOW = 2
"""So many of the last advertised challenges are good (RFC 4721 section 9)."""
MAX_REMEMBERED = 4096
"""Nodes whose own challenge, or whose last used one, is remembered."""


class Challenges:
    """Those advertised, those given to single nodes in replies, and who used which."""

    __slots__ = ("_advertised", "_given", "_random", "_used")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._advertised: deque[bytes] = deque(maxlen=CHALLENGE_WINDOW)
        self._given: OrderedDict[bytes, bytes] = OrderedDict()
        """The challenge in the last reply."""
        self._used: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()

    def current(self) -> bytes:
        """The one to advertise to whoever asks."""
        return self._advertised[-1] if self._advertised else self.advertise()

    def advertise(self) -> bytes:
        """A new one for everybody; the oldest of the window is no longer good."""
        value = self._random(CHALLENGE_OCTETS)
        self._advertised.append(value)
        return value

    def give(self, party: bytes) -> bytes:
        """A new one for this node alone, in the reply to it."""
        value = self._random(CHALLENGE_OCTETS)
        self._given[party] = value
        self._given.move_to_end(party)
        if len(self._given) > MAX_REMEMBERED:
            self._given.popitem(last=False)
        return value

    def judge(self, party: bytes, value: bytes) -> ReplyCode | None:
        """What is wrong with the challenge that this node gave back."""
        if (party, value) in self._used:
            return ReplyCode.FA_STALE_CHALLENGE
        if value in self._advertised or self._given.get(party) == value:
            return None
        return ReplyCode.FA_UNKNOWN_CHALLENGE

    def use(self, party: bytes, value: bytes) -> None:
        """Remember that this node has used it: it is no good for it again."""
        if self._given.get(party) == value:
            del self._given[party]
        self._used[(party, value)] = None
        if len(self._used) > MAX_REMEMBERED:
            self._used.popitem(last=False)

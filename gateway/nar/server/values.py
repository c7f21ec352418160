"""The values of one kind at one address: who has which, and which is given out next.

Values are drawn at random places, so nobody guesses the next one, and rest for a while after they
were released, so packets meant for the former client reach nobody else. Every operation takes
constant time: a range of up to :data:`DENSE` values has one octet for each, and finding a free one
is a search for an octet (some 10 nanoseconds per 1,000 values); of a larger range so few are in
use that chance finds a free one.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable

from gateway.nar.server.leases import Lease, Openness, claim
from gateway.nar.server.sessions import Owner

DENSE = 1 << 17
REST_S = 120.0
"""How long a released value is not given to another client, unless nothing else is left."""
TRIES = 16
"""Values that are looked at when the box itself uses what was found."""
SHARING_TRIES = 64
"""Values that are looked at for one that can be shared, when none is free."""
_FREE, _TAKEN, _RESTING, _NEVER = range(4)

Random = Callable[[int], bytes]


class Shared:
    """One value with several leases: of different remotes, none is in another's way."""

    __slots__ = ("leases", "openness", "owner")

    def __init__(self, openness: Openness, owner: Owner) -> None:
        self.openness = openness
        self.owner = owner
        """Whose all of them are, if they are not EXACT."""
        self.leases: dict[int, Lease] = {}
        """By the number of :func:`claim`."""


class Values:
    """Ports of one protocol, or ICMP identifiers, or SPIs, at one address."""

    __slots__ = (
        "_bases",
        "_holders",
        "_never",
        "_resting",
        "_size",
        "_spans",
        "_states",
        "_taken",
    )

    def __init__(self, ranges: Iterable[range], never: Collection[int]) -> None:
        self._spans: list[tuple[int, int, int]] = []
        """Ranges in order: first value, the one after the last, and the place of the first."""
        self._bases: list[int] = []
        self._size = 0
        for one in _disjoint(ranges):
            self._spans.append((one.start, one.stop, self._size))
            self._bases.append(self._size)
            self._size += len(one)
        self._never = never
        self._holders: dict[int, Lease | Shared] = {}
        self._resting: OrderedDict[int, tuple[float, int]] = OrderedDict()
        """Places of released values, oldest first: since when, and whose it was (address)."""
        self._taken = 0
        self._states: bytearray | None = None
        if self._size <= DENSE:
            self._states = bytearray(self._size)
            for value in never:
                place = self._place(value)
                if place is not None:
                    self._states[place] = _NEVER
                    self._taken += 1

    @property
    def room(self) -> int:
        """How many values of the ranges nobody has."""
        return self._size - self._taken

    def covers(self, value: int) -> bool:
        """Whether it is in the ranges and may be leased."""
        return value not in self._never and self._place(value) is not None

    def find(self, value: int, number: int, openness: Openness) -> Lease | None:
        """The lease of exactly this tuple."""
        entry = self._holders.get(value)
        if isinstance(entry, Shared):
            return entry.leases.get(number) if entry.openness is openness else None
        if entry is not None and claim(entry.mapping.tuple) == (openness, number):
            return entry
        return None

    def blocker(self, value: int, number: int, openness: Openness, owner: Owner) -> Lease | None:
        """A lease that is in the way of this tuple: overlaps it, or has the value for itself."""
        entry = self._holders.get(value)
        if entry is None:
            return None
        if isinstance(entry, Shared):
            if entry.openness is openness and self._beside(openness, entry.owner, owner):
                return entry.leases.get(number)
            return next(iter(entry.leases.values()))
        theirs, their_number = claim(entry.mapping.tuple)
        if theirs is openness and self._beside(openness, entry.session.owner, owner):
            return entry if their_number == number else None
        return entry

    @staticmethod
    def _beside(openness: Openness, theirs: Owner, ours: Owner) -> bool:
        """Whether tuples of the same openness and different remotes may share a value."""
        if openness is Openness.EXACT:
            return True
        return openness is Openness.FROM_ONE and theirs is ours

    def rests(self, value: int, client: int, now: float) -> bool:
        """Whether another client had it a moment ago."""
        place = self._place(value)
        if place is None:
            return False
        since = self._resting.get(place)
        return since is not None and since[1] != client and now - since[0] < REST_S

    def draw(self, random: Random, now: float, free: Callable[[int], bool]) -> int | None:
        """A value that nobody has; ``free`` tells whether the box does not use it either.

        None: there is none, or what was found is in use by the box again and again.
        """
        if not self._size:
            return None
        if self._states is None:
            return self._guess(random, free)
        self._wake(now)
        states = self._states
        for _ in range(TRIES):
            start = int.from_bytes(random(4), "big") % self._size
            place = states.find(_FREE, start)
            if place < 0:
                place = states.find(_FREE, 0, start)
            if place < 0:
                break
            value = self._value(place)
            if free(value):
                return value
        for tries, place in enumerate(self._resting):
            value = self._value(place)
            if free(value):
                return value
            if tries == TRIES:
                break
        return None

    def _guess(self, random: Random, free: Callable[[int], bool]) -> int | None:
        for _ in range(4 * TRIES):
            value = self._value(int.from_bytes(random(8), "big") % self._size)
            if value not in self._holders and value not in self._never and free(value):
                return value
        return None

    def draw_shared(
        self, random: Random, number: int, owner: Owner, free: Callable[[int], bool]
    ) -> int | None:
        """A value that others have with other remotes only; for EXACT tuples."""
        if not self._size:
            return None
        start = int.from_bytes(random(4), "big")
        step = int.from_bytes(random(4), "big") | 1
        for at in range(min(SHARING_TRIES, self._size)):
            value = self._value((start + at * step) % self._size)
            if value in self._never or self._holders.get(value) is None:
                continue
            if self.blocker(value, number, Openness.EXACT, owner) is None and free(value):
                return value
        return None

    def add(self, lease: Lease) -> None:
        """Enter a lease that no :meth:`blocker` is in the way of."""
        value = lease.mapping.tuple.value
        entry = self._holders.get(value)
        if entry is None:
            self._holders[value] = lease
            self._take(value)
            return
        openness, number = claim(lease.mapping.tuple)
        if isinstance(entry, Lease):
            shared = Shared(openness, lease.session.owner)
            shared.leases[claim(entry.mapping.tuple)[1]] = entry
            self._holders[value] = entry = shared
        entry.leases[number] = lease

    def remove(self, lease: Lease, now: float) -> bool:
        """Take a lease out; its value rests. False: it was not in."""
        value = lease.mapping.tuple.value
        entry = self._holders.get(value)
        if isinstance(entry, Shared):
            number = claim(lease.mapping.tuple)[1]
            if entry.leases.get(number) is not lease:
                return False
            del entry.leases[number]
            if entry.leases:
                return True
        elif entry is not lease:
            return False
        del self._holders[value]
        self._release(value, int(lease.mapping.client), now)
        return True

    def _take(self, value: int) -> None:
        place = self._place(value)
        if place is None:
            return
        self._taken += 1
        if self._states is not None:
            if self._states[place] == _RESTING:
                del self._resting[place]
            self._states[place] = _TAKEN

    def _release(self, value: int, client: int, now: float) -> None:
        place = self._place(value)
        if place is None:
            return
        self._taken -= 1
        if self._states is not None:
            self._states[place] = _RESTING
            self._resting[place] = (now, client)

    def _wake(self, now: float) -> None:
        resting, states = self._resting, self._states
        while resting and states is not None:
            place, (since, _) = next(iter(resting.items()))
            if now - since < REST_S:
                return
            del resting[place]
            states[place] = _FREE

    def _place(self, value: int) -> int | None:
        for start, stop, base in self._spans:
            if start <= value < stop:
                return base + value - start
        return None

    def _value(self, place: int) -> int:
        start, _, base = self._spans[bisect_right(self._bases, place) - 1]
        return start + place - base


def _disjoint(ranges: Iterable[range]) -> list[range]:
    """The same values, in order, each once."""
    merged: list[range] = []
    for one in sorted(ranges, key=lambda each: each.start):
        if not len(one):
            continue
        if merged and one.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, one.stop))
        else:
            merged.append(range(one.start, one.stop))
    return merged

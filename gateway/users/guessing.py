"""Slows the guessing of passwords down, by user and by address, without locking anybody out.

After a few wrong passwords, attempts for a user, and attempts from an address, must keep a growing
distance in time. An address from which the user logged in before is not held up by what others do
to the user's name, so that guessing from elsewhere does not keep the user out.
"""

import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import TypeVar

from gateway.domain.endpoint import IpAddress

K = TypeVar("K", str, int)

MAX_KEYS = 10_000
"""Of each table; the entry that was used least recently goes first."""
FORGET_S = 900.0
"""A name or address is new again after this long without a wrong password."""
MAX_WAIT_S = 15.0
"""An attempt that would have to wait longer is refused: peers give up by then."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Wrong passwords that cost nothing, and the distance after more of them."""

    free: int
    first_s: float
    longest_s: float

    def distance_s(self, failures: int) -> float:
        """Between two attempts after so many wrong ones."""
        over = failures - self.free
        if over <= 0:
            return 0.0
        return min(self.first_s * 2.0 ** min(over - 1, 16), self.longest_s)


OF_USER = Pace(5, 0.5, 4.0)
OF_ADDRESS = Pace(20, 0.5, 4.0)
"""More, because many users share the address of a CGNAT."""


@dataclass(slots=True)
class _Trail:
    failures: int = 0
    failed_at: float = 0.0
    next_at: float = 0.0


class GuessLimit:
    """Decides when an attempt may be made. Time is the caller's."""

    def __init__(self, of_user: Pace = OF_USER, of_address: Pace = OF_ADDRESS) -> None:
        self._of_user = of_user
        self._of_address = of_address
        self._users: OrderedDict[str, _Trail] = OrderedDict()
        self._addresses: OrderedDict[int, _Trail] = OrderedDict()
        self._known: OrderedDict[tuple[str, int], None] = OrderedDict()

    def admit(self, user: str, address: IpAddress, now: float) -> float | None:
        """Seconds to wait before this attempt, 0 at first; None refuses it.

        An admitted attempt takes its place in the row, so attempts at the same time wait in turn.
        """
        user, where = _key(user), _network(address)
        paced = [(self._addresses.get(where), self._of_address)]
        if (user, where) not in self._known:
            paced.append((self._users.get(user), self._of_user))
        trails = [
            (trail, pace)
            for trail, pace in paced
            if trail is not None and now - trail.failed_at < FORGET_S
        ]
        at = max((trail.next_at for trail, _ in trails), default=now)
        if at - now > MAX_WAIT_S:
            return None
        at = max(at, now)
        for trail, pace in trails:
            trail.next_at = at + pace.distance_s(trail.failures)
        return at - now

    def failed(self, user: str, address: IpAddress, now: float) -> int:
        """The password was wrong. Returns how often it was for this user lately."""
        user, where = _key(user), _network(address)
        self._note(self._addresses, where, self._of_address, now)
        return self._note(self._users, user, self._of_user, now)

    def succeeded(self, user: str, address: IpAddress) -> None:
        """The password was right: the user is at home there."""
        key = (_key(user), _network(address))
        self._known[key] = None
        self._known.move_to_end(key)
        if len(self._known) > MAX_KEYS:
            self._known.popitem(last=False)

    @staticmethod
    def _note(table: OrderedDict[K, _Trail], key: K, pace: Pace, now: float) -> int:
        trail = table.get(key)
        if trail is None or now - trail.failed_at >= FORGET_S:
            trail = table[key] = _Trail()
        table.move_to_end(key)
        if len(table) > MAX_KEYS:
            table.popitem(last=False)
        trail.failures += 1
        trail.failed_at = now
        trail.next_at = max(trail.next_at, now + pace.distance_s(trail.failures))
        return trail.failures


def _key(user: str) -> str:
    """One name for all the spellings that a backend may take for the same user."""
    return unicodedata.normalize("NFKC", user).casefold()[:256]


def _network(address: IpAddress) -> int:
    """An IPv4 address, or the /64 of an IPv6 address: who has one address of it has all."""
    if isinstance(address, IPv6Address):
        return int(IPv6Network((address, 64), strict=False).network_address)
    return int(address)

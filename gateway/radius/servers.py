"""Which server is asked, and under which identifier: liveness and the 256 numbers per port."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.domain.endpoint import Endpoint

IDENTIFIERS = 256
MAX_SLOTS = 16
"""Source ports per server: 4096 requests at the same time."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send to ``server`` from the socket of this slot; each (server, slot) has its own port."""

    server: Endpoint
    data: bytes
    source_slot: int


@dataclass(frozen=True, slots=True)
class ServerChanged:
    """A server began or ceased to answer."""

    server: Endpoint
    alive: bool
    hold_s: float = 0.0
    """For how long it is left alone when it does not answer."""
    still: bool = False
    """It did not answer before either."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A datagram that changed nothing, and why; for one log line."""

    server: Endpoint
    reason: str


class Identifiers(Generic[R]):
    """Requests in flight to one server, by source slot and identifier.

    Numbers go round, so that one is not used again soon after its request ended.
    """

    __slots__ = ("_last", "_slots")

    def __init__(self) -> None:
        self._slots: list[dict[int, R]] = []
        self._last: list[int] = []

    def take(self, request: R) -> tuple[int, int] | None:
        """A free (slot, identifier) for the request, or None."""
        free = (at for at, used in enumerate(self._slots) if len(used) < IDENTIFIERS)
        slot = next(free, len(self._slots))
        if slot == MAX_SLOTS:
            return None
        if slot == len(self._slots):
            self._slots.append({})
            self._last.append(IDENTIFIERS - 1)
        used = self._slots[slot]
        number = (self._last[slot] + 1) % IDENTIFIERS
        while number in used:
            number = (number + 1) % IDENTIFIERS
        self._last[slot] = number
        used[number] = request
        return slot, number

    def find(self, slot: int, identifier: int) -> R | None:
        """The request in flight under this number."""
        if not 0 <= slot < len(self._slots):
            return None
        return self._slots[slot].get(identifier)

    def free(self, slot: int, identifier: int) -> None:
        """The request is over."""
        self._slots[slot].pop(identifier, None)

    def __len__(self) -> int:
        return sum(map(len, self._slots))


class Liveness:
    """Which servers answer, in order of preference."""

    __slots__ = ("_dead_until", "_heard_at", "_hold_s", "_order", "changes")

    def __init__(self, servers: Iterable[Endpoint], hold_s: float) -> None:
        self._order = tuple(servers)
        self._hold_s = hold_s
        self._dead_until: dict[Endpoint, float] = {}
        self._heard_at: dict[Endpoint, float] = {}
        self.changes: list[ServerChanged] = []
        """For the owner to pass on and clear."""

    def dead(self) -> tuple[Endpoint, ...]:
        """Servers that do not answer now."""
        return tuple(self._dead_until)

    def choose(self, now: float, tried: Iterable[Endpoint] = ()) -> Endpoint | None:
        """The server to ask, none of ``tried``; None when all were.

        A dead server whose hold time is over gets this one request and is held again, so that a
        server that stays dead delays one user per hold time and not all. With every server
        dead, the one that is dead for the longest time is asked.
        """
        left = [server for server in self._order if server not in set(tried)]
        for server in left:
            until = self._dead_until.get(server)
            if until is None:
                return server
            if until <= now:
                self._dead_until[server] = now + self._hold_s
                return server
        return min(left, key=self._dead_until.__getitem__, default=None)

    def answered(self, server: Endpoint, now: float) -> None:
        """A proven answer came."""
        self._heard_at[server] = now
        if self._dead_until.pop(server, None) is not None:
            self.changes.append(ServerChanged(server, alive=True))

    def silent(self, server: Endpoint, since: float, now: float) -> None:
        """A request of ``since`` got no answer; the server is dead unless another one did."""
        if self._heard_at.get(server, since) > since:
            return
        still = server in self._dead_until
        self.changes.append(ServerChanged(server, False, self._hold_s, still))
        self._dead_until[server] = now + self._hold_s

"""Tickets, and the leases that were granted for them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from gateway.domain.nar import NarTuple
from gateway.nar.client.asks import Ask
from gateway.nar.client_outputs import Lease
from gateway.nar.codec.leases import LeaseKey


@dataclass(slots=True)
class Entry:
    """What became of one ticket so far."""

    ask: Ask
    lease: Lease | None = None
    restoring: bool = False
    """Asked for once more, after the server forgot the session."""


class LeaseBook:
    """Who asked for what, and what was granted. Every lookup is by ticket or by tuple."""

    __slots__ = ("_by_tuple", "_entries", "_last")

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._by_tuple: dict[NarTuple, int] = {}
        self._last = 0

    def __getitem__(self, ticket: int) -> Entry:
        return self._entries[ticket]

    def __contains__(self, ticket: int) -> bool:
        return ticket in self._entries

    def add(self, ask: Ask) -> int:
        """A new ticket."""
        self._last += 1
        self._entries[self._last] = Entry(ask)
        return self._last

    def grant(self, ticket: int, lease: Lease) -> bool:
        """Note a lease; False when another ticket has it already."""
        if self._by_tuple.setdefault(lease.tuple, ticket) != ticket:
            return False
        self._entries[ticket].lease = lease
        return True

    def remove(self, ticket: int) -> Lease | None:
        """Forget a ticket; its lease, if it had one."""
        lease = self._entries.pop(ticket).lease
        if lease is not None:
            self._by_tuple.pop(lease.tuple, None)
        return lease

    def holder(self, key: NarTuple) -> int | None:
        """The ticket of a tuple."""
        return self._by_tuple.get(key)

    def find(self, key: LeaseKey, address: IPv4Address) -> int | None:
        """The ticket of a tuple that is at ``address``, or else at another Nb of ours."""
        ticket = self._by_tuple.get(key.at(address))
        if ticket is not None:
            return ticket
        found = (at for full, at in self._by_tuple.items() if LeaseKey.of(full) == key)
        return next(found, None)

    def tickets(self) -> list[int]:
        """All of them, the oldest first."""
        return list(self._entries)

    def restoring(self) -> list[int]:
        """Tickets whose leases are asked for once more."""
        return [ticket for ticket, entry in self._entries.items() if entry.restoring]

    def held(self) -> dict[int, Lease]:
        """Leases by ticket."""
        entries = self._entries.items()
        return {ticket: entry.lease for ticket, entry in entries if entry.lease is not None}

    def move(self, tickets: Iterable[int], address: IPv4Address) -> dict[int, Lease]:
        """Leases go on at another Nb; the moved ones. One whose place is taken stays."""
        moved = {}
        for ticket in tickets:
            lease = self._entries[ticket].lease
            if lease is None or lease.tuple.address == address:
                continue
            key = replace(lease.tuple, address=address)
            if key in self._by_tuple:
                continue
            del self._by_tuple[lease.tuple]
            self._by_tuple[key] = ticket
            moved[ticket] = self._entries[ticket].lease = replace(lease, tuple=key)
        return {ticket: lease for ticket, lease in moved.items() if lease is not None}

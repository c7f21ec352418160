"""Leases that are asked for once more, because the server forgot the session."""

from dataclasses import replace
from ipaddress import IPv4Address

from gateway.nar.client.asks import ask_again
from gateway.nar.client.book import LeaseBook
from gateway.nar.client_outputs import AddressChanged, Lease


class Restoring:
    """Asks for what was lent, and says in the end what could not be had again.

    Replies need not come for the lease that was meant: of two ports towards the same remote
    endpoint, the server may confirm the second first.
    """

    __slots__ = ("_awaited", "_book")

    def __init__(self, book: LeaseBook) -> None:
        self._book = book
        self._awaited: set[int] = set()
        """Tickets whose request is not answered yet."""

    def begin(self, *, everything: bool, target: IPv4Address | str) -> list[int]:
        """Which tickets to ask for: those not restored yet, or ``everything``."""
        if everything:
            for ticket, lease in self._book.held().items():
                entry = self._book[ticket]
                entry.restoring, entry.ask = True, ask_again(lease, target)
        tickets = self._book.restoring()
        self._awaited = set(tickets)
        return tickets

    def gave_up(self, ticket: int) -> bool:
        """It need not be asked for any more; whether it was one of ours."""
        found = ticket in self._awaited
        self._awaited.discard(ticket)
        return found

    def answered(self, ticket: int) -> None:
        """Its request was refused."""
        self._awaited.discard(ticket)

    def came(self, ticket: int, lease: Lease) -> list[AddressChanged] | None:
        """A lease came; None when it is none of ours, else what there is to say about it."""
        self._awaited.discard(ticket)
        holder = self._book.holder(lease.tuple)
        if holder is not None:
            entry = self._book[holder]
            if entry.lease != lease:
                return None
            entry.restoring = False
            return []
        if ticket not in self._book:
            return None
        old = self._book[ticket].lease
        if old is None or _elsewhere(old, lease.tuple.address) != lease:
            return None
        self._book[ticket].restoring = False
        moved = self._book.move([ticket], lease.tuple.address)
        return [AddressChanged(old.tuple.address, lease.tuple.address, moved)]

    def lost(self) -> list[tuple[int, Lease]]:
        """After the last answer: what is gone; forgotten here as well."""
        if self._awaited:
            return []
        gone = []
        for ticket in self._book.restoring():
            lease = self._book.remove(ticket)
            if lease is not None:
                gone.append((ticket, lease))
        return gone


def _elsewhere(lease: Lease, address: IPv4Address) -> Lease:
    return replace(lease, tuple=replace(lease.tuple, address=address))

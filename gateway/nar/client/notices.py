"""What the server says unasked about leases."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

from gateway.domain.wire import WireError
from gateway.nar.client import words
from gateway.nar.client.asks import Mode
from gateway.nar.client.book import LeaseBook
from gateway.nar.client.settings import usable
from gateway.nar.client_outputs import AddressChanged, Lost, Output, ServerStopping
from gateway.nar.codec.leases import NoticeMessage
from gateway.nar.codec.numbers import Notice


def noticed(
    message: NoticeMessage, mode: Mode, book: LeaseBook, say: Callable[[Output], None]
) -> Mode:
    """Follow a notice; the mode after it. Leases that are not ours are passed over.

    Raises:
        WireError: Nb became an address that no host can have.
    """
    if message.reason is Notice.STOPPING:
        say(ServerStopping())
        return mode
    if message.reason is Notice.LEASE_ENDED:
        _ended(message, mode, book, say)
        return mode
    if not usable(message.address):
        raise WireError("a change to an address that nobody can use")
    return _moved(message, mode, book, say)


def _ended(
    message: NoticeMessage, mode: Mode, book: LeaseBook, say: Callable[[Output], None]
) -> None:
    if message.key is None:
        tickets = list(book.held())
    else:
        at = message.address if int(message.address) else mode.address
        ticket = book.find(message.key, at)
        tickets = [] if ticket is None else [ticket]
    for ticket in tickets:
        lease = book.remove(ticket)
        if lease is not None:
            say(Lost(ticket, lease, words.OVER))


def _moved(
    message: NoticeMessage, mode: Mode, book: LeaseBook, say: Callable[[Output], None]
) -> Mode:
    """One lease, or all that are at the address of the mode (all, when the mode is new already)."""
    new = message.address
    if message.key is None:
        tickets = [
            ticket
            for ticket, lease in book.held().items()
            if mode.address in (lease.tuple.address, new)
        ]
    else:
        ticket = book.find(message.key, mode.address)
        tickets = [] if ticket is None else [ticket]
    before: dict[IPv4Address, list[int]] = {}
    for ticket in tickets:
        lease = book[ticket].lease
        if lease is not None and lease.tuple.address != new:
            before.setdefault(lease.tuple.address, []).append(ticket)
    for old, those in before.items():
        say(AddressChanged(old, new, book.move(those, new)))
    if message.key is None and not before and mode.address != new:
        say(AddressChanged(mode.address, new, {}))
    return replace(mode, address=new)

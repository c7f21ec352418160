"""Fwmarks of clients and lent addresses, and the aliases that stand for lent addresses.

A packet for a client has the lent address as its destination, which is an address of this box or
is routed to it: the kernel would keep it. While it is on its way to the tunnel it has an *alias*
in its place, an address of 240.0.0.0/4 with the same ones' complement sum: every checksum stays
right, also that of an ICMP error that quotes the packet, and nothing has to be recalculated.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.dataplane.kernel.nar import constants
from gateway.domain.nar import Delivery


class NumbersExhaustedError(Exception):
    """More clients, addresses or L2TP sessions than there are numbers."""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """What a client's mark stands for."""

    server_address: IPv4Address
    """Na."""
    client: IPv4Address
    """Xa."""
    delivery: Delivery


def alias_of(address: IPv4Address, prefix: int) -> IPv4Address:
    """The address with the upper half ``prefix`` that no checksum can tell from ``address``."""
    number = int(address)
    lower = ((number >> 16) + (number & 0xFFFF) - prefix) % 0xFFFF
    return IPv4Address(prefix << 16 | lower)


class _Pool:
    """Numbers of a range; the one that was given back longest ago is used last."""

    def __init__(self, numbers: range) -> None:
        self._fresh = numbers
        self._next = 0
        self._free: deque[int] = deque()
        self._taken: set[int] = set()

    def take(self) -> int:
        while self._next < len(self._fresh):
            number = self._fresh[self._next]
            self._next += 1
            if number not in self._taken:
                self._taken.add(number)
                return number
        if not self._free:
            raise NumbersExhaustedError
        number = self._free.popleft()
        self._taken.add(number)
        return number

    def occupy(self, number: int) -> bool:
        """Take this one, before any other is taken; False when it is not ours to take."""
        if number in self._taken or number not in self._fresh:
            return False
        self._taken.add(number)
        return True

    def give_back(self, number: int) -> None:
        if number in self._taken:
            self._taken.discard(number)
            self._free.append(number)


class Numbers:
    """Who has which number. Clients' numbers are counted by their mappings."""

    def __init__(self) -> None:
        self._marks = {delivery: _Pool(pool) for delivery, pool in constants.CLIENT_MARKS.items()}
        self._clients: dict[ClientKey, int] = {}
        self._uses: dict[ClientKey, int] = {}
        self._out = _Pool(constants.OUT_MARKS)
        self._addresses: dict[IPv4Address, int] = {}
        self._prefixes = _Pool(constants.ALIAS_PREFIXES)
        self._aliases: dict[tuple[int, IPv4Address], IPv4Address] = {}
        self._alias_uses: dict[tuple[int, IPv4Address], int] = {}

    # -- clients -------------------------------------------------------------------------------

    def claim(self, key: ClientKey) -> int:
        """The client's mark. One release for each claim. Raises NumbersExhaustedError."""
        mark = self._clients.get(key)
        if mark is None:
            try:
                mark = self._marks[key.delivery].take()
            except NumbersExhaustedError:
                room = len(constants.CLIENT_MARKS[key.delivery])
                text = f"more than {room} clients with delivery {key.delivery.value}"
                raise NumbersExhaustedError(text) from None
            self._clients[key] = mark
        self._uses[key] = self._uses.get(key, 0) + 1
        return mark

    def release(self, key: ClientKey) -> bool:
        """Undo one claim; whether it was the last one."""
        uses = self._uses.get(key, 0) - 1
        if uses > 0:
            self._uses[key] = uses
            return False
        self._uses.pop(key, None)
        mark = self._clients.pop(key, None)
        if mark is not None:
            self._marks[key.delivery].give_back(mark)
        return True

    def client_mark(self, key: ClientKey) -> int:
        """Of a client that has claimed it. Raises KeyError."""
        return self._clients[key]

    def clients(self) -> Iterator[tuple[ClientKey, int]]:
        """All that are in use."""
        return ((key, self._clients[key]) for key in self._uses)

    # -- addresses -----------------------------------------------------------------------------

    def set_addresses(self, addresses: Iterable[IPv4Address]) -> None:
        """Lent addresses; those that stay keep their numbers. Raises NumbersExhaustedError."""
        wanted = dict.fromkeys(addresses)
        for address in [known for known in self._addresses if known not in wanted]:
            self._out.give_back(self._addresses.pop(address))
            self.release_alias(0, address)
        for address in wanted:
            if address not in self._addresses:
                self._addresses[address] = self._out.take()
            if (0, address) not in self._alias_uses:
                self.claim_alias(0, address)

    def out_mark(self, address: IPv4Address) -> int:
        """Of translated packets that leave with this source. Raises KeyError."""
        return self._addresses[address]

    def alias(self, mark: int, address: IPv4Address) -> IPv4Address:
        """What stands for a lent address on the way to the client with ``mark``.

        Raises KeyError.
        """
        own = mark if mark in constants.L2TP_MARKS else 0
        return self._aliases[own, address]

    def claim_alias(self, mark: int, address: IPv4Address) -> tuple[IPv4Address, bool]:
        """An L2TP client has aliases of its own, one for each address: they choose its device.

        Returns the alias and whether this is its first use. Raises NumbersExhaustedError.
        """
        key = mark, address
        alias = self._aliases.get(key)
        if alias is None:
            try:
                alias = alias_of(address, self._prefixes.take())
            except NumbersExhaustedError:
                raise NumbersExhaustedError("too many addresses and L2TP sessions") from None
            self._aliases[key] = alias
        self._alias_uses[key] = uses = self._alias_uses.get(key, 0) + 1
        return alias, uses == 1

    def release_alias(self, mark: int, address: IPv4Address) -> IPv4Address | None:
        """Undo one claim; the alias when it was the last one."""
        key = mark, address
        uses = self._alias_uses.get(key, 0) - 1
        if uses > 0:
            self._alias_uses[key] = uses
            return None
        self._alias_uses.pop(key, None)
        alias = self._aliases.pop(key, None)
        if alias is not None:
            self._prefixes.give_back(int(alias) >> 16)
        return alias

    def l2tp_aliases(self) -> Iterator[IPv4Address]:
        """All that are in use for L2TP clients."""
        return (alias for (mark, _), alias in self._aliases.items() if mark)

    # -- adoption ------------------------------------------------------------------------------

    def adopt_client(self, mark: int, server_address: IPv4Address, client: IPv4Address) -> None:
        """An earlier process gave this mark; who claims it as the same client gets it again."""
        for delivery, marks in constants.CLIENT_MARKS.items():
            if mark in marks:
                key = ClientKey(server_address, client, delivery)
                if key not in self._clients and self._marks[delivery].occupy(mark):
                    self._clients[key] = mark

    def adopt_address(self, mark: int, address: IPv4Address) -> None:
        """The same for an out mark."""
        if address not in self._addresses and self._out.occupy(mark):
            self._addresses[address] = mark

    def adopt_alias(self, mark: int, address: IPv4Address, alias: IPv4Address) -> None:
        """The same for an alias."""
        prefix = int(alias) >> 16
        new = (mark, address) not in self._aliases and alias == alias_of(address, prefix)
        if new and self._prefixes.occupy(prefix):
            self._aliases[mark, address] = alias

    def forget_unclaimed(self) -> None:
        """After adoption: what nobody claimed is free again."""
        for key in [key for key in self._clients if key not in self._uses]:
            self._marks[key.delivery].give_back(self._clients.pop(key))
        for own in [own for own in self._aliases if own not in self._alias_uses]:
            self._prefixes.give_back(int(self._aliases.pop(own)) >> 16)

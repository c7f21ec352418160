"""Who shall have which name inside: one name for each identity, whatever its sessions do.

Sans-IO: sessions come and go, and what is to be said to the DNS server comes out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from gateway.domain.endpoint import IpAddress
from gateway.domain.remote_access import Grant, Presence
from gateway.names.labels import candidates

MAX_TRIES: Final = 4
"""Names that are tried for an identity whose first ones others have."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A name and what it leads to."""

    name: str
    identity: str
    addresses: tuple[IpAddress, ...]


@dataclass(slots=True)
class _Holder:
    """An identity that is in."""

    label: str
    left: list[str]
    """Labels to try when another one has this."""
    sessions: dict[str, Grant] = field(default_factory=dict)
    """The newest last."""

    @property
    def addresses(self) -> tuple[IpAddress, ...]:
        """Those of the newest session."""
        return next(reversed(self.sessions.values())).addresses


@dataclass(frozen=True, slots=True)
class Register:
    """Give a name these addresses, whatever it has."""

    entry: Registered


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take a name away, if it is still that identity's."""

    entry: Registered


Order = Register | Withdraw


def who(grant: Grant) -> str:
    """Whose a session is: the identity, or the user where that is a mere claim or but an address.

    Windows says its private address, which other devices have, too.
    """
    if not grant.proven:
        return grant.user or grant.peer
    try:
        ip_address(grant.peer)
    except ValueError:
        return grant.peer
    return grant.user or grant.peer


class Roster:
    """Names of one zone. No operation depends on the number of devices."""

    def __init__(self, zone: str, configured: Callable[[str], str]) -> None:
        """``configured`` tells the device's name in the configuration by identity, or empty."""
        self.zone = zone
        self._configured = configured
        self._holders: dict[str, _Holder] = {}
        self._owner: dict[str, str] = {}
        """Identity by label."""
        self._there: dict[str, Registered] = {}
        """By name, what the DNS server was told; of earlier processes, too."""
        self._leaving: set[str] = set()
        """Names that it was told to take away, and may have still."""
        self._orders: dict[str, Order] = {}
        """By name: the last one counts."""

    def __len__(self) -> int:
        return len(self._holders)

    def take_orders(self) -> list[Order]:
        """What is to be said, since the last call."""
        orders, self._orders = list(self._orders.values()), {}
        return orders

    def left_behind(self, entries: Iterable[Registered]) -> None:
        """What an earlier process had registered."""
        for entry in entries:
            self._there[entry.name] = entry

    def settle(self) -> None:
        """Everybody who was in before has been granted again: the names of others go."""
        for name, entry in list(self._there.items()):
            label = name.removesuffix(f".{self.zone}")
            if self._owner.get(label) != entry.identity:
                self._withdraw(entry)

    def granted(self, grant: Grant) -> None:
        """A session is in; without an address of its own its device gets no name."""
        if grant.presence is not Presence.ADDRESS or not grant.addresses:
            self.ended(grant)
            return
        holder = self._holders.get(who(grant))
        if holder is None:
            holder = self._new_holder(grant)
            if holder is None:
                return
        before = holder.sessions and holder.addresses
        holder.sessions[grant.session] = grant
        if holder.addresses != before:
            self._register(who(grant), holder)

    def ended(self, grant: Grant) -> None:
        """It is over."""
        holder = self._holders.get(who(grant))
        if holder is None or grant.session not in holder.sessions:
            return
        before = holder.addresses
        del holder.sessions[grant.session]
        if holder.sessions:
            if holder.addresses != before:
                self._register(who(grant), holder)
            return
        del self._holders[who(grant)]
        del self._owner[holder.label]
        name = f"{holder.label}.{self.zone}"
        self._withdraw(self._there.get(name) or Registered(name, who(grant), before))

    def taken(self, name: str) -> bool:
        """The DNS server says that a name is somebody else's; whether another one is tried."""
        entry = self._there.pop(name, None)
        label = name.removesuffix(f".{self.zone}")
        identity = self._owner.get(label)
        if entry is None or identity is None or entry.identity != identity:
            return False
        holder = self._holders[identity]
        while holder.left:
            candidate = holder.left.pop(0)
            if candidate not in self._owner:
                del self._owner[label]
                self._owner[candidate] = identity
                holder.label = candidate
                self._register(identity, holder)
                return True
        return False

    def withdrawn(self, name: str) -> None:
        """The DNS server has it no more."""
        if name in self._leaving:
            self._leaving.discard(name)
            self._there.pop(name, None)

    def name_of(self, identity: str) -> str | None:
        """The name of an identity that is in."""
        holder = self._holders.get(identity)
        return None if holder is None else f"{holder.label}.{self.zone}"

    def identity_of(self, label: str) -> str | None:
        """Who has a label."""
        return self._owner.get(label)

    def entries(self) -> Iterable[Registered]:
        """All that are in."""
        for identity, holder in self._holders.items():
            yield Registered(f"{holder.label}.{self.zone}", identity, holder.addresses)

    def withdraw_all(self) -> None:
        """Nobody has a name any more."""
        self._holders.clear()
        self._owner.clear()
        self._orders.clear()
        for entry in self._there.values():
            self._withdraw(entry)

    def again(self) -> None:
        """Say everything anew: whom we told may have forgotten it."""
        for name, entry in self._there.items():
            label = name.removesuffix(f".{self.zone}")
            owner = self._owner.get(label)
            self._orders[name] = Register(entry) if owner == entry.identity else Withdraw(entry)

    def reconsider(self, identity: str) -> None:
        """An administrator calls the device differently: it gets that name, if nobody has it."""
        holder = self._holders.get(identity)
        if holder is None:
            return
        grant = next(reversed(holder.sessions.values()))
        wanted = self._candidates(grant)
        found = next((n for n, one in enumerate(wanted) if self._is_free(one, identity)), None)
        if found is None or wanted[found] == holder.label:
            return
        before = f"{holder.label}.{self.zone}"
        self._withdraw(self._there.get(before) or Registered(before, identity, holder.addresses))
        del self._owner[holder.label]
        holder.label, holder.left = wanted[found], wanted[found + 1 : found + 1 + MAX_TRIES]
        self._owner[holder.label] = identity
        self._register(identity, holder)

    def _is_free(self, label: str, identity: str) -> bool:
        return self._owner.get(label, identity) == identity

    def _candidates(self, grant: Grant) -> list[str]:
        configured, wanted = self._configured(who(grant)), grant.wanted_name
        if not grant.proven:
            # Nor may it take the name of another device that is away.
            configured = wanted = ""
        return list(candidates(configured=configured, wanted=wanted, identity=who(grant)))

    def _new_holder(self, grant: Grant) -> _Holder | None:
        wanted = self._candidates(grant)
        while wanted and wanted[0] in self._owner:
            wanted.pop(0)
        if not wanted:
            return None
        holder = _Holder(wanted[0], wanted[1 : 1 + MAX_TRIES])
        self._holders[who(grant)] = holder
        self._owner[holder.label] = who(grant)
        return holder

    def _register(self, identity: str, holder: _Holder) -> None:
        name = f"{holder.label}.{self.zone}"
        entry = Registered(name, identity, holder.addresses)
        there = self._there.get(name)
        if there is not None and there.identity != identity:
            # Ours, of somebody who left: the record of the new one would be refused.
            self._orders[f"{name} of {there.identity}"] = Withdraw(there)
        if there != entry or name in self._leaving:
            self._leaving.discard(name)
            self._there[name] = entry
            self._orders.pop(name, None)
            self._orders[name] = Register(entry)

    def _withdraw(self, entry: Registered) -> None:
        self._leaving.add(entry.name)
        self._orders[entry.name] = Withdraw(entry)

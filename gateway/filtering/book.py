"""All rules, and who they are for."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from gateway.domain.remote_access import Grant
from gateway.filtering.rule import Action, Rule


@dataclass(frozen=True, slots=True)
class Terms:
    """What a connection, a profile or a device says; None: nothing."""

    rules: tuple[str, ...] | None = None
    up_kbit_s: int | None = None
    down_kbit_s: int | None = None


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A configured device."""

    name: str
    terms: Terms = Terms()


FindDevice = Callable[[str], KnownDevice | None]
"""By the identity that a session has proven."""
_NOTHING = Terms()


@dataclass(frozen=True)
class Book:
    """The rules of a configuration."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    """By name."""
    connections: Mapping[str, Terms] = field(default_factory=dict)
    profiles: Mapping[str, Terms] = field(default_factory=dict)
    isolate_devices: bool = True
    to_gateway: str = "services"
    log_refusals: bool = True
    log_refusals_per_minute: int = 30
    comparable: Callable[[str], str] = str
    """One text for all spellings of a user or identity that count as the same; rules have it."""

    @cached_property
    def _named(self) -> dict[tuple[str, str], list[str]]:
        """Rules by kind and name of whom they name."""
        found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for rule in self.rules.values():
            for who in _people(rule):
                found[who].append(rule.name)
        return dict(found)

    def rules_of(self, grant: Grant, device: KnownDevice | None = None) -> dict[str, str]:
        """The names of the rules that apply to a session, and why each one does.

        A device that has not proven its identity gets nothing by it: only what refuses applies.
        """
        found: dict[str, str] = {}
        profile = self.profiles.get(grant.profile, _NOTHING)
        if profile.rules is not None:
            found.update(dict.fromkeys(profile.rules, f"profile {grant.profile}"))
        else:
            listed = self.connections.get(grant.connection, _NOTHING).rules or ()
            found.update(dict.fromkeys(listed, f"connection {grant.connection}"))
        for kind, who, shown in self.whos(grant, device):
            believed = kind != "device" or grant.proven
            for name in self._named.get((kind, who), ()):
                if believed or self.rules[name].action is Action.REFUSE:
                    found.setdefault(name, f"{kind} {shown}")
        return {name: why for name, why in found.items() if name in self.rules}

    def whos(self, grant: Grant, device: KnownDevice | None) -> Iterator[tuple[str, str, str]]:
        """Whom a session stands for: kind, what rules call them, and for people."""
        if grant.user:
            yield "user", self.comparable(grant.user), grant.user
        for group in sorted(grant.groups):
            yield "group", group, group
        yield "device", self.comparable(grant.peer), grant.peer
        if device is not None:
            yield "device", device.name, device.name

    def bandwidth_of(
        self, grant: Grant, device: KnownDevice | None = None
    ) -> tuple[int | None, int | None]:
        """From and to the device, in kilobits per second; a mere claim makes none faster."""
        own = _NOTHING if device is None else device.terms
        terms = (
            self.profiles.get(grant.profile, _NOTHING),
            self.connections.get(grant.connection, _NOTHING),
        )
        up = next((one.up_kbit_s for one in terms if one.up_kbit_s is not None), None)
        down = next((one.down_kbit_s for one in terms if one.down_kbit_s is not None), None)

        def limit(mine: int | None, others: int | None) -> int | None:
            if mine is None or others is None:
                return others if mine is None else mine
            return mine if grant.proven else min(mine, others)

        return limit(own.up_kbit_s, up), limit(own.down_kbit_s, down)

    def touched(self, other: "Book", changed: Iterable[str]) -> "Touched":
        """Who may be under other rules in the other book, whose ``changed`` rules differ."""
        names = set(changed)
        people = set()
        for book in (self, other):
            for name in names & book.rules.keys():
                people |= set(_people(book.rules[name]))

        def differing(before: Mapping[str, Terms], after: Mapping[str, Terms]) -> set[str]:
            return {
                name
                for name in before.keys() | after.keys()
                if before.get(name) != after.get(name)
                or not names.isdisjoint(after.get(name, _NOTHING).rules or ())
            }

        connections = differing(self.connections, other.connections)
        return Touched(people, connections, differing(self.profiles, other.profiles))


def _people(rule: Rule) -> Iterator[tuple[str, str]]:
    for kind, names in (("user", rule.users), ("group", rule.groups), ("device", rule.devices)):
        for who in names:
            yield kind, who


@dataclass(frozen=True, slots=True)
class Touched:
    """Kinds and names of people, connections and profiles."""

    people: set[tuple[str, str]]
    connections: set[str]
    profiles: set[str]

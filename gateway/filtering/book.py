"""All rules, and who they are for."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from gateway.domain.remote_access import Grant
from gateway.filtering.rule import Rule


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
            for kind in ("user", "group", "device"):
                for who in getattr(rule, f"{kind}s"):
                    found[kind, who].append(rule.name)
        return dict(found)

    def rules_of(self, grant: Grant, device: KnownDevice | None = None) -> dict[str, str]:
        """The names of the rules that apply to a session, and why each one does."""
        found: dict[str, str] = {}
        profile = self.profiles.get(grant.profile, _NOTHING)
        if profile.rules is not None:
            found.update(dict.fromkeys(profile.rules, f"profile {grant.profile}"))
        else:
            listed = self.connections.get(grant.connection, _NOTHING).rules or ()
            found.update(dict.fromkeys(listed, f"connection {grant.connection}"))
        for kind, who, shown in self._whos(grant, device):
            for name in self._named.get((kind, who), ()):
                found.setdefault(name, f"{kind} {shown}")
        return {name: why for name, why in found.items() if name in self.rules}

    def _whos(self, grant: Grant, device: KnownDevice | None) -> Iterator[tuple[str, str, str]]:
        """Kind, what rules call them, and for people."""
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
        """From and to the device, in kilobits per second."""
        terms = (
            _NOTHING if device is None else device.terms,
            self.profiles.get(grant.profile, _NOTHING),
            self.connections.get(grant.connection, _NOTHING),
        )
        up = next((one.up_kbit_s for one in terms if one.up_kbit_s is not None), None)
        down = next((one.down_kbit_s for one in terms if one.down_kbit_s is not None), None)
        return up, down

    def same_people(self, other: "Book") -> bool:
        """Whether the same rules apply to everybody, whatever these say."""

        def people(book: Book) -> object:
            named = [
                (one.name, one.direction, one.users, one.groups, one.devices)
                for one in book.rules.values()
            ]
            return named, book.connections, book.profiles

        return people(self) == people(other)

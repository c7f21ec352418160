"""All rules, and who they are for."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
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


_NOTHING = Terms()


@dataclass(frozen=True)
class Book:
    """The rules of a configuration."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    """By name."""
    connections: Mapping[str, Terms] = field(default_factory=dict)
    profiles: Mapping[str, Terms] = field(default_factory=dict)
    devices: Mapping[str, Terms] = field(default_factory=dict)
    """By identity."""
    device_names: Mapping[str, str] = field(default_factory=dict)
    """By identity."""
    isolate_devices: bool = True
    to_gateway: str = "services"
    log_refusals: bool = True
    log_refusals_per_minute: int = 30

    @cached_property
    def _named(self) -> dict[tuple[str, str], list[str]]:
        """Rules by kind and name of whom they name."""
        found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for rule in self.rules.values():
            for kind in ("user", "group", "device"):
                for who in getattr(rule, f"{kind}s"):
                    found[kind, who].append(rule.name)
        return dict(found)

    def rules_of(self, grant: Grant) -> dict[str, str]:
        """The names of the rules that apply to a session, and why each one does."""
        found: dict[str, str] = {}
        profile = self.profiles.get(grant.profile, _NOTHING)
        if profile.rules is not None:
            found.update(dict.fromkeys(profile.rules, f"profile {grant.profile}"))
        else:
            listed = self.connections.get(grant.connection, _NOTHING).rules or ()
            found.update(dict.fromkeys(listed, f"connection {grant.connection}"))
        for kind, who in self._whos(grant):
            for name in self._named.get((kind, who), ()):
                found.setdefault(name, f"{kind} {who}")
        return {name: why for name, why in found.items() if name in self.rules}

    def _whos(self, grant: Grant) -> Iterator[tuple[str, str]]:
        if grant.user:
            yield "user", grant.user
        for group in sorted(grant.groups):
            yield "group", group
        yield "device", grant.peer
        name = self.device_names.get(grant.peer)
        if name is not None and name != grant.peer:
            yield "device", name

    def bandwidth_of(self, grant: Grant) -> tuple[int | None, int | None]:
        """From and to the device, in kilobits per second."""
        terms = (
            self.devices.get(grant.peer, _NOTHING),
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
            lists = book.connections, book.profiles, book.devices, book.device_names
            return named, lists, book.isolate_devices

        return people(self) == people(other)

"""Which rule sets there are, and who is under which: grants, rules and time in, changes out.

Sessions under the same rules share a rule set, and what a rule says changes in its rule sets, not
at each session. Rule sets are numbered after the names of their rules, so that the next process
finds what the last one left.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.domain.endpoint import IpAddress
from gateway.domain.filtering import Box, Direction, Placement, RuleSet
from gateway.domain.remote_access import Grant
from gateway.filtering.book import Book, FindDevice, KnownDevice
from gateway.filtering.disjoint import disjoint
from gateway.filtering.rule import Action, Rule, boxes

MAX_TOGETHER: Final = 65_536
"""Entries of a rule set."""
_Key = tuple[Direction, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Define:
    """There is a rule set of this number, or it says something else now."""

    number: int
    rule_set: RuleSet


@dataclass(frozen=True, slots=True)
class Undefine:
    """Nobody is under it any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Place:
    """A session is in, or is under other rule sets now."""

    session: str
    placement: Placement


@dataclass(frozen=True, slots=True)
class Displace:
    """It is over."""

    session: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something could not be done; it was refused to be safe."""

    text: str


Output = Define | Undefine | Place | Displace | Trouble


@dataclass(frozen=True, slots=True)
class _Session:
    grant: Grant
    device: KnownDevice | None
    keys: tuple[_Key, ...]
    whos: frozenset[tuple[str, str]]
    """What rules may call it."""


@dataclass(slots=True)
class _Defined:
    number: int
    rule_set: RuleSet
    rules: dict[Box, str]
    """Whose each box is; of both actions, by box."""


class Filtering:
    """The engine."""

    def __init__(
        self,
        book: Book,
        day: int = 0,
        minute: int = 0,
        find_device: FindDevice = lambda _identity: None,
        max_idle: int = 0,
    ) -> None:
        """``day`` 0 is Monday; ``minute`` is of the day, in the gateway's time zone.

        Rule sets that nobody is under stay while they have no more than ``max_idle`` entries
        together: a large set of the kernel's is slow to change.
        """
        self._max_idle = max_idle
        self._idle: dict[_Key, int] = {}
        """By their entries; who was left the longest ago is the first."""
        self._idle_entries = 0
        self.book = book
        self._find_device = find_device
        self._time = day, minute
        self._timed = _timed(book)
        self._sessions: dict[str, _Session] = {}
        self._of_device: defaultdict[str, set[str]] = defaultdict(set)
        """Sessions by names of configured devices, and by identities."""
        self._by_address: dict[IpAddress, str] = {}
        self._by_zone: dict[int, str] = {}
        self._sets: dict[_Key, _Defined] = {}
        self._numbers: dict[int, _Key] = {}
        self._using: Counter[_Key] = Counter()
        self._rule_keys: defaultdict[str, set[_Key]] = defaultdict(set)
        self._boxes: dict[str, tuple[Rule, list[Box]]] = {}
        self._outputs: list[Output] = []

    def take_outputs(self) -> list[Output]:
        """What has to be done, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # -- sessions ----------------------------------------------------------------------------

    def granted(self, grant: Grant) -> None:
        """A session is in, or its grant is another one now."""
        device = self._find_device(grant.peer)
        former = self._sessions.get(grant.session)
        if former is not None:
            self._forget(former)
        keys = self._keys(grant, device)
        for key in keys:
            self._use(key)
        whos = frozenset((kind, who) for kind, who, _ in self.book.whos(grant, device))
        self._sessions[grant.session] = _Session(grant, device, keys, whos)
        for who in _names(grant, device):
            self._of_device[who].add(grant.session)
        if grant.zone:
            self._by_zone[grant.zone] = grant.session
        else:
            self._by_address.update(dict.fromkeys(grant.addresses, grant.session))
        self._outputs.append(Place(grant.session, self._placement(grant, device, keys)))
        if former is not None:
            self._leave(former.keys)

    def ended(self, session: str) -> None:
        """It is over."""
        found = self._sessions.pop(session, None)
        if found is None:
            return
        self._forget(found)
        self._outputs.append(Displace(session))
        self._leave(found.keys)

    def device_changed(self, name: str, identity: str | None) -> None:
        """A configured device came, changed or went; ``identity`` is what it proves now."""
        sessions = {*self._of_device.get(name, ()), *self._of_device.get(identity or "", ())}
        for session in sessions:
            self.granted(self._sessions[session].grant)

    def _forget(self, former: "_Session") -> None:
        grant = former.grant
        for address in grant.addresses:
            if self._by_address.get(address) == grant.session:
                del self._by_address[address]
        if self._by_zone.get(grant.zone) == grant.session:
            del self._by_zone[grant.zone]
        for who in _names(grant, former.device):
            self._of_device[who].discard(grant.session)
            if not self._of_device[who]:
                del self._of_device[who]

    def _keys(self, grant: Grant, device: KnownDevice | None) -> tuple[_Key, ...]:
        names: defaultdict[Direction, list[str]] = defaultdict(list)
        for name in self.book.rules_of(grant, device):
            names[self.book.rules[name].direction].append(name)
        return tuple((direction, tuple(sorted(found))) for direction, found in names.items())

    def _placement(
        self, grant: Grant, device: KnownDevice | None, keys: Iterable[_Key]
    ) -> Placement:
        numbers = {key[0]: self._sets[key].number for key in keys}
        bandwidth = self.book.bandwidth_of(grant, device)
        return Placement(grant.addresses, grant.zone, numbers, *bandwidth)

    # -- rule sets ---------------------------------------------------------------------------

    def _use(self, key: _Key) -> None:
        self._using[key] += 1
        self._idle_entries -= self._idle.pop(key, 0)
        if key not in self._sets:
            defined = self._sets[key] = self._compiled(key, self._number(key))
            for name in key[1]:
                self._rule_keys[name].add(key)
            self._outputs.append(Define(defined.number, defined.rule_set))

    def _leave(self, keys: Iterable[_Key]) -> None:
        for key in keys:
            self._using[key] -= 1
            if self._using[key] <= 0:
                del self._using[key]
                self._idle[key] = 1 + len(self._sets[key].rules)
                self._idle_entries += self._idle[key]
        self._drop_idle(self._max_idle)

    def _drop_idle(self, most: int) -> None:
        while self._idle_entries > most:
            key = next(iter(self._idle))
            self._idle_entries -= self._idle.pop(key)
            number = self._sets.pop(key).number
            del self._numbers[number]
            for name in key[1]:
                self._rule_keys[name].discard(key)
            self._outputs.append(Undefine(number))

    def _number(self, key: _Key) -> int:
        text = " ".join((key[0].value, *key[1]))
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        while not number or number in self._numbers:
            number = (number + 1) & 0xFFFF_FFFF
        self._numbers[number] = key
        return number

    def _compiled(self, key: _Key, number: int) -> _Defined:
        direction, names = key
        rules = [self.book.rules[name] for name in names if name in self.book.rules]
        closed = any(rule.action is Action.ALLOW for rule in rules)
        if direction is Direction.BETWEEN_DEVICES:
            closed = closed or self.book.isolate_devices
        now = [rule for rule in rules if rule.in_force(*self._time)]
        try:
            refuse = self._disjoint(rule for rule in now if rule.action is Action.REFUSE)
            allow = self._disjoint(rule for rule in now if rule.action is Action.ALLOW)
            helpers = {
                helper: frozenset(
                    self._disjoint(
                        rule
                        for rule in now
                        if rule.helper == helper and rule.action is Action.ALLOW
                    )
                )
                for helper in sorted({rule.helper for rule in now if rule.helper})
            }
        except ValueError as error:
            # What checks of the configuration have let through must not open anything.
            self._outputs.append(Trouble(f"rules {', '.join(names)}: {error}; all is refused"))
            return _Defined(number, RuleSet(closed=True), {})
        rule_set = RuleSet(frozenset(refuse), frozenset(allow), closed, helpers)
        return _Defined(number, rule_set, allow | refuse)

    def _disjoint(self, rules: Iterable[Rule]) -> dict[Box, str]:
        return disjoint(
            ((rule.name, box) for rule in rules for box in self._boxes_of(rule)), MAX_TOGETHER
        )

    def _boxes_of(self, rule: Rule) -> list[Box]:
        known = self._boxes.get(rule.name)
        if known is None or known[0] != rule:
            known = self._boxes[rule.name] = rule, boxes(rule)
        return known[1]

    def _compile_again(self, keys: Iterable[_Key]) -> None:
        for key in keys:
            before = self._sets[key]
            after = self._sets[key] = self._compiled(key, before.number)
            if after.rule_set != before.rule_set:
                self._outputs.append(Define(after.number, after.rule_set))

    # -- changes -----------------------------------------------------------------------------

    def time(self, day: int, minute: int) -> None:
        """It is this time now; call it every minute when :attr:`timed`."""
        before, self._time = self._time, (day, minute)
        changed = {
            rule.name
            for rule in self._timed
            if rule.in_force(*before) != rule.in_force(day, minute)
        }
        self._compile_again({key for name in changed for key in self._rule_keys.get(name, ())})

    @property
    def timed(self) -> bool:
        """Whether anything depends on the time."""
        return bool(self._timed)

    def change(self, book: Book) -> None:
        """Other rules are in force. Who is under the same ones notices nothing."""
        before, self.book = self.book, book
        self._timed = _timed(book)
        changed = _changed(before.rules, book.rules)
        for name in changed:
            self._boxes.pop(name, None)
        again = {key for name in changed for key in self._rule_keys.get(name, ())}
        if before.isolate_devices != book.isolate_devices:
            again |= {key for key in self._sets if key[0] is Direction.BETWEEN_DEVICES}
        if changed:
            self._drop_idle(0)
            again &= self._sets.keys()
        self._compile_again(again)
        touched = before.touched(book, changed)
        for one in list(self._sessions.values()):
            grant = one.grant
            if (
                grant.connection in touched.connections
                or grant.profile in touched.profiles
                or not one.whos.isdisjoint(touched.people)
            ):
                self._look_again(one, before)

    def _look_again(self, one: "_Session", before: Book) -> None:
        bandwidth = before.bandwidth_of(one.grant, one.device)
        if (
            self._keys(one.grant, one.device) != one.keys
            or self.book.bandwidth_of(one.grant, one.device) != bandwidth
        ):
            self.granted(one.grant)

    # -- questions ---------------------------------------------------------------------------

    def session_at(self, address: IpAddress, zone: int = 0) -> str | None:
        """Whose packets have this address, or are in this zone."""
        return self._by_zone.get(zone) if zone else self._by_address.get(address)

    def grant_of(self, session: str) -> Grant | None:
        """Its grant; None when it is not in."""
        found = self._sessions.get(session)
        return None if found is None else found.grant

    def rules_of(self, grant: Grant) -> dict[str, str]:
        """The rules that apply to a session, or would, and why."""
        return self.book.rules_of(grant, self._find_device(grant.peer))

    def bandwidth_of(self, grant: Grant) -> tuple[int | None, int | None]:
        """From and to the device, in kilobits per second."""
        return self.book.bandwidth_of(grant, self._find_device(grant.peer))

    def sessions_under(self, rule: str) -> int:
        """To how many sessions a rule applies."""
        return sum(self._using[key] for key in self._rule_keys.get(rule, ()))

    def rule_of(self, number: int, box: Box) -> str | None:
        """Whose entry of a rule set a box is."""
        key = self._numbers.get(number)
        return None if key is None else self._sets[key].rules.get(box)

    def in_force(self, rule: Rule) -> bool:
        """Whether a rule is in force now."""
        return rule.in_force(*self._time)

    def counted(self) -> Mapping[str, int]:
        """How many sessions, rule sets and entries there are."""
        entries = sum(len(one.rules) for one in self._sets.values())
        return {"sessions": len(self._sessions), "rule_sets": len(self._sets), "entries": entries}


def _timed(book: Book) -> list[Rule]:
    return [rule for rule in book.rules.values() if rule.times]


def _names(grant: Grant, device: KnownDevice | None) -> set[str]:
    return {grant.peer} if device is None else {grant.peer, device.name}


def _changed(before: Mapping[str, Rule], after: Mapping[str, Rule]) -> set[str]:
    """Names of rules that came, went or say something else."""
    found = before.keys() ^ after.keys()
    for name in before.keys() & after.keys():
        one, other = before[name], after[name]
        if one is not other and one != other:
            found.add(name)
    return found

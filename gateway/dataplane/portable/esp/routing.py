"""The security policies of what leaves: which child SA a packet belongs to.

As in the kernel, a policy belongs to a reqid, of which one SA sends. Of several policies that
match, that of the longest destination prefix counts, then of the longest source prefix, then the
one that asks for a protocol or ports. The same selector of several reqids is the newest one's.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from gateway.dataplane.kernel.xfrm.encode import Selector
from gateway.dataplane.packet import marks
from gateway.dataplane.portable.esp.inner import Flow, flow_of

_ZONE: Final = 0xFFFF
_OF_ZONES: Final = frozenset((marks.TO_DEVICE, marks.ANSWER))
MAX_FLOWS: Final = 16384
"""Pairs of addresses whose way is remembered."""


class Target(Protocol):
    """What policies lead to."""

    reqid: int


T = TypeVar("T", bound=Target)


class Rule(Generic[T]):
    """A selector, compared with numbers."""

    __slots__ = (
        "_claims",
        "_ports",
        "_protocol",
        "_source",
        "_source_mask",
        "destination",
        "key",
        "prefix",
        "rank",
        "simple",
        "version",
    )

    def __init__(self, selector: Selector) -> None:
        self.key = selector
        self.version = selector.destination.version
        bits = selector.destination.max_prefixlen
        self.prefix = selector.destination_prefix
        self.destination = int(selector.destination) >> bits - self.prefix
        self._source_mask = (1 << bits) - (1 << bits - selector.source_prefix)
        self._source = int(selector.source)
        self._protocol = selector.protocol
        self._ports = (
            selector.source_port,
            selector.source_port_mask,
            selector.destination_port,
            selector.destination_port_mask,
        )
        ported = selector.source_port_mask.bit_count() + selector.destination_port_mask.bit_count()
        self.simple = not (selector.protocol or ported)
        """Whether the addresses say it all."""
        self.rank = (-selector.source_prefix, not selector.protocol, -ported)
        self._claims: dict[int, T] = {}

    def takes(self, flow: Flow) -> bool:
        """Whether the packet is this selector's, its destination aside."""
        source, _, protocol, source_port, destination_port = flow
        if source & self._source_mask != self._source:
            return False
        if self.simple:
            return True
        if self._protocol and protocol != self._protocol:
            return False
        first, first_mask, second, second_mask = self._ports
        if not first_mask | second_mask:
            return True
        return (
            source_port >= 0
            and source_port & first_mask == first
            and destination_port & second_mask == second
        )

    def claim(self, target: T) -> None:
        """Make it the newest owner, unless it is one."""
        self._claims.setdefault(target.reqid, target)

    def release(self, reqid: int) -> bool:
        """Whether nobody owns it any more."""
        self._claims.pop(reqid, None)
        return not self._claims

    @property
    def owner(self) -> T:
        """The newest."""
        return next(reversed(self._claims.values()))


class _Policies(Generic[T]):
    """Of one zone and IP version."""

    __slots__ = ("_bits", "_by_prefix", "_prefixes", "flows")

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._by_prefix: dict[int, dict[int, list[Rule[T]]]] = {}
        self._prefixes: list[tuple[int, dict[int, list[Rule[T]]]]] = []
        self.flows: dict[bytes, T] = {}

    def add(self, rule: Rule[T]) -> None:
        table = self._by_prefix.get(rule.prefix)
        if table is None:
            table = self._by_prefix[rule.prefix] = {}
            self._order()
        rules = table.setdefault(rule.destination, [])
        rules.append(rule)
        rules.sort(key=lambda one: one.rank)

    def remove(self, rule: Rule[T]) -> None:
        table = self._by_prefix[rule.prefix]
        rules = table[rule.destination]
        rules.remove(rule)
        if not rules:
            del table[rule.destination]
        if not table:
            del self._by_prefix[rule.prefix]
            self._order()

    def _order(self) -> None:
        self._prefixes = [
            (self._bits - prefix, table)
            for prefix, table in sorted(self._by_prefix.items(), reverse=True)
        ]

    def __bool__(self) -> bool:
        return bool(self._by_prefix)

    def find(self, flow: Flow, ends: bytes) -> T | None:
        """And remember it where the addresses are enough to say it again."""
        destination = flow[1]
        simple = True
        for shift, table in self._prefixes:
            for rule in table.get(destination >> shift, ()):
                simple = simple and rule.simple
                if rule.takes(flow):
                    owner = rule.owner
                    if simple:
                        if len(self.flows) >= MAX_FLOWS:
                            self.flows.clear()
                        self.flows[ends] = owner
                    return owner
        return None


class Routing(Generic[T]):
    """Every policy, by zone."""

    def __init__(self) -> None:
        self._rules: dict[tuple[int, Selector], Rule[T]] = {}
        self._of: dict[int, dict[tuple[int, Selector], None]] = {}
        self._policies: dict[tuple[int, int], _Policies[T]] = {
            (0, 4): _Policies(32),
            (0, 6): _Policies(128),
        }

    def __len__(self) -> int:
        return len(self._rules)

    def claim(self, zone: int, selectors: Iterable[Selector], target: T) -> None:
        """Lead these selectors to ``target``, from now on."""
        for selector in selectors:
            key = zone, selector
            rule = self._rules.get(key)
            if rule is None:
                rule = self._rules[key] = Rule(selector)
                rule.claim(target)
                self._of_zone(zone, rule.version).add(rule)
            else:
                rule.claim(target)
            self._of_zone(zone, rule.version).flows.clear()
            self._of.setdefault(target.reqid, {})[key] = None

    def release(self, reqid: int) -> None:
        """Give up all that it has; who had the same before gets it back."""
        for key in self._of.pop(reqid, ()):
            rule = self._rules[key]
            policies = self._of_zone(key[0], rule.version)
            policies.flows.clear()
            if rule.release(reqid):
                del self._rules[key]
                policies.remove(rule)
                if key[0] and not policies:
                    del self._policies[key[0], rule.version]

    def _of_zone(self, zone: int, version: int) -> _Policies[T]:
        policies = self._policies.get((zone, version))
        if policies is None:
            policies = self._policies[zone, version] = _Policies(32 if version == 4 else 128)
        return policies

    def find(self, packet: bytes, version: int, mark: int) -> T | None:
        """Where a packet has to go. One with a zone goes by a policy of that zone or not at all."""
        zone = mark & _ZONE if mark & marks.ZONES in _OF_ZONES else 0
        policies = self._policies.get((zone, version))
        if policies is None:
            return None
        ends = packet[12:20] if version == 4 else packet[8:40]
        found = policies.flows.get(ends)
        return found or policies.find(flow_of(packet, version), ends)


class Guard:
    """The selectors of one inbound SA: what may come out of it."""

    __slots__ = ("_rules", "allowed")

    def __init__(self, selectors: Sequence[Selector]) -> None:
        self._rules: list[Rule[Target]] = [Rule(selector.reversed()) for selector in selectors]
        self.allowed: set[bytes] = set()
        """Pairs of addresses that are enough to say so."""

    def allows(self, packet: bytes, version: int) -> bool:
        """Whether a packet is one that the peer may send."""
        ends = packet[12:20] if version == 4 else packet[8:40]
        return ends in self.allowed or self._allows(packet, version, ends)

    def _allows(self, packet: bytes, version: int, ends: bytes) -> bool:
        flow = flow_of(packet, version)
        bits = 32 if version == 4 else 128
        for rule in self._rules:
            if (
                rule.version == version
                and flow[1] >> bits - rule.prefix == rule.destination
                and rule.takes(flow)
            ):
                if rule.simple:
                    if len(self.allowed) >= MAX_ALLOWED:
                        self.allowed.clear()
                    self.allowed.add(ends)
                return True
        return False


MAX_ALLOWED: Final = 256

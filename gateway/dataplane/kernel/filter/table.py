"""The table in the kernel, and what we know to be in it: changes are differences."""

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gateway.dataplane.kernel.filter import ruleset
from gateway.dataplane.kernel.filter.elements import Element, Found, Place, found_elements
from gateway.dataplane.kernel.filter.ruleset import TABLE, Variant
from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    request,
)
from gateway.dataplane.kernel.nft_elements import (
    CHUNK,
    NFPROTO_INET,
    ElementChange,
    SetElements,
)
from gateway.dataplane.kernel.ruleset import RulesetRefusedError, run_nft
from gateway.dataplane.kernel.ruleset_version import has_chain

_GETSETELEM: Final = 10 << 8 | 13
_NEWSETELEM: Final = 10 << 8 | 12
_DUMPED: Final = 3
_GETRULE, _NEWRULE = 10 << 8 | 7, 10 << 8 | 6
_RULE_EXPRESSIONS, _RULE_USERDATA = 4, 7
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_BATCH: Final = bytes((0, 0, 0, 10))


def _place_of_set(name: str) -> bytes:
    return (
        bytes((NFPROTO_INET, 0, 0, 0))
        + attribute(1, TABLE.encode() + b"\0")
        + attribute(2, name.encode() + b"\0")
    )


def read(netfilter: NetlinkSocket, name: str) -> Iterator[Found]:
    """The elements of a set, as they are. Raises OSError."""
    for kind, body in netfilter.dump(_GETSETELEM, _place_of_set(name)):
        if kind == _NEWSETELEM:
            yield from found_elements(name, attributes(body, 4).get(_DUMPED, b""))


def rule_counter(fields: Mapping[int, bytes]) -> tuple[str, int]:
    """Comment and packets of a rule; the comment is empty where it has none or counts nothing."""
    userdata = fields.get(_RULE_USERDATA, b"")
    if len(userdata) < 2 or userdata[0] or userdata[1] > len(userdata) - 2:
        return "", 0
    comment = userdata[2 : 2 + userdata[1]].rstrip(b"\0").decode("ascii", "replace")
    listed, at = fields.get(_RULE_EXPRESSIONS, b""), 0
    while at + 4 <= len(listed):
        size = int.from_bytes(listed[at : at + 2], sys.byteorder)
        if size < 4:
            break
        expression = attributes(listed, at + 4, at + size)
        packets = attributes(expression.get(2, b""), 0).get(2, b"")
        if expression.get(1) == b"counter\0" and len(packets) == 8:
            return comment, int.from_bytes(packets, "big")
        at += size + 3 & ~3
    return "", 0


class Table:
    """Elements that shall be in the kernel. Raises OSError."""

    def __init__(self) -> None:
        self._sets = SetElements(TABLE)
        self._netfilter = NetlinkSocket(NETLINK_NETFILTER)
        self.variant: Variant | None = None
        """What the kernel has; None before there is anything of this version."""
        self._version = ""
        self._live: dict[Place, Element] = {}
        """In the kernel, or queued."""
        self._unclaimed: dict[Place, Element] = {}
        """An earlier process left them, and nobody has asked for them yet."""
        self._queue: list[ElementChange] = []

    def close(self) -> None:
        """Close the sockets; the table stays."""
        self._sets.close()
        self._netfilter.close()

    def adopt(self, variant: Variant) -> bool:
        """Take what an earlier process left, when it is of this version and variant."""
        version = ruleset.version(variant)
        if not has_chain(self._netfilter, TABLE, version):
            return False
        self._version = version
        for name in ruleset.all_sets(variant):
            for found in read(self._netfilter, name):
                if found.element.place not in self._live:
                    self._unclaimed[found.element.place] = found.element
        self.variant = variant
        return True

    @property
    def exists(self) -> bool:
        """Whether there is a table of any version."""
        with contextlib.suppress(RulesetRefusedError):
            return bool(run_nft(f"list chains inet {TABLE}") or True)
        return False

    def build(self, variant: Variant) -> list[str]:
        """Make the table anew, closed until everything is in it; returns what was refused.

        It stays closed, until it is built again, where the kernel refused more than single
        elements. Raises :class:`RulesetRefusedError`.
        """
        self.variant = None
        run_nft(ruleset.render(variant))
        refused = self._load_rules(variant)
        self._unclaimed = {}
        self._queue = [element.change() for element in self._live.values()]
        refused += self.commit(give_up=True)
        if self._queue:
            return [*refused, "nothing passes until the table can be made whole"]
        run_nft(ruleset.opened(variant))
        self.variant, self._version = variant, ruleset.version(variant)
        return refused

    def is_lost(self) -> bool:
        """Whether somebody else removed the table, as ``nft flush ruleset`` does."""
        made = self.variant is not None
        return made and not has_chain(self._netfilter, TABLE, self._version)

    def _load_rules(self, variant: Variant) -> list[str]:
        rules = ruleset.ruled(variant)
        if not rules:
            return []
        requests = [request(_BATCH_BEGIN, 0, _BATCH), *rules, request(_BATCH_END, 0, _BATCH)]
        refusals, _ = self._netfilter.transact(requests, acknowledge=-2)
        if refusals:
            raise RulesetRefusedError(f"nftables refused a rule: {refusals[0]}")
        return []

    def want(self, element: Element) -> None:
        """There shall be this element; another with its key goes."""
        place = element.place
        there = self._live.get(place) or self._unclaimed.pop(place, None)
        self._live[place] = element
        if there == element:
            return
        if there is not None:
            self._queue.append(there.change(add=False))
        self._queue.append(element.change())

    def unwant(self, place: Place) -> None:
        """There shall be no such element."""
        there = self._live.pop(place, None)
        if there is not None:
            self._queue.append(there.change(add=False))

    def forget_unclaimed(self) -> None:
        """Queue the removal of what an earlier process left and nobody has asked for.

        It comes first: the kernel refuses intervals that overlap.
        """
        unclaimed, self._unclaimed = self._unclaimed, {}
        gone = [element.change(add=False) for element in unclaimed.values()]
        self._queue = [*gone, *self._queue]

    def commit(self, *, give_up: bool = False) -> list[str]:
        """Carry out what is queued; returns what the kernel refused.

        The elements that it refused are there for the next :meth:`build`, or with ``give_up``
        forgotten.
        """
        refused: list[str] = []
        while self._queue:
            refusal = self._sets.apply(self._queue)
            if refusal is None:
                self._queue = []
                break
            refused.append(f"nftables refused an element: {refusal}")
            if refusal.index < 0 or len(refused) > _PATIENCE:
                break
            bad = self._queue.pop(refusal.index)
            if give_up:
                self._live.pop((bad.name, bad.key, bad.key_end), None)
            # Transactions before this one are done.
            self._queue = self._queue[refusal.index // CHUNK * CHUNK :]
        return refused

    def read(self, names: Iterable[str]) -> Iterator[Found]:
        """The elements of these sets by a socket of its own: for threads. Raises OSError."""
        with contextlib.closing(NetlinkSocket(NETLINK_NETFILTER)) as netfilter:
            for name in names:
                yield from read(netfilter, name)

    def read_some(self, places: Iterable[Place]) -> Iterator[Found]:
        """These elements, as they are."""
        requests = []
        for name, key, _ in places:
            element = nested(1, nested(1, attribute(1, key)))
            body = _place_of_set(name) + nested(_DUMPED, element)
            requests.append((name, request(_GETSETELEM, 0, body)))
        _, answers = self._netfilter.transact([one for _, one in requests])
        for index, kind, body in answers:
            if kind == _NEWSETELEM:
                yield from found_elements(requests[index][0], attributes(body, 4).get(_DUMPED, b""))

    def counters(self) -> Counter[str]:
        """Packets by the comment of the rule. libnftables would read all sets for it."""
        counts: Counter[str] = Counter()
        body = bytes((NFPROTO_INET, 0, 0, 0)) + attribute(1, TABLE.encode() + b"\0")
        for kind, answer in self._netfilter.dump(_GETRULE, body):
            if kind == _NEWRULE:
                comment, packets = rule_counter(attributes(answer, 4))
                if comment:
                    counts[comment] += packets
        return counts

    def remove(self) -> None:
        """Delete the table. Raises :class:`RulesetRefusedError`."""
        run_nft(f"add table inet {TABLE}\ndelete table inet {TABLE}")


_PATIENCE: Final = 16
"""Refused elements after which the rest has to wait."""

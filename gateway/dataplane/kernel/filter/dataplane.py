"""Rules in the kernel of this namespace: see :class:`gateway.dataplane.filter.FilterDataplane`.

At a start, what an earlier process left goes on until everybody who was in has been placed again.
"""

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gateway.dataplane.filter import Count, DeviceUsage, GatewayServices, RefusedPacket
from gateway.dataplane.kernel.filter import elements, ruleset
from gateway.dataplane.kernel.filter.elements import Element, Place
from gateway.dataplane.kernel.filter.refusal_log import RefusalLog
from gateway.dataplane.kernel.filter.ruleset import LOG_GROUP, TABLE, Variant
from gateway.dataplane.kernel.filter.table import Table
from gateway.dataplane.kernel.ruleset import RulesetRefusedError, run_nft
from gateway.domain.filtering import Box, Placement, RuleSet

_NOTHING: Final = RuleSet()


class KernelFilter:
    """See the module. The constructor and :meth:`open` raise OSError."""

    def __init__(self, interface: str) -> None:
        self._wanted = Variant(interface)
        self._table = Table()
        self._log: RefusalLog | None = None
        self._troubles: list[str] = []
        """What this kernel does without; told once."""
        self._sets: dict[int, RuleSet] = {}
        self._placements: dict[str, list[Element]] = {}
        self._holders: Counter[Place] = Counter()
        self._services: list[Element] = []
        self._waiting = False
        """What an earlier process left stays in force until :meth:`settle`: it may overlap what is
        wanted now."""
        self._missing: set[str] = set()
        """Helpers that the kernel does not have."""

    def open(self) -> None:
        """Adopt or make the table, after :meth:`configure`. Raises OSError."""
        try:
            self._log = RefusalLog(LOG_GROUP)
        except OSError as error:
            why = error.strerror or str(error)
            self._troubles.append(f"refused packets cannot be logged: {why}")
        self._waiting = self._table.adopt(self._wanted) or self._table.exists
        if self._waiting:
            return
        try:
            self._troubles += self._build()
        except OSError:
            # Half a table is closed: it must not outlive a start that fails.
            self.close(keep=False)
            raise

    def _build(self) -> list[str]:
        """What this kernel lacks must not cost everybody the rest."""
        wanted = self._wanted
        try:
            return self._table.build(wanted)
        except RulesetRefusedError as error:
            first = error
        troubles = [self._try_helper(name) for name in sorted(wanted.helpers)]
        troubles = [one for one in troubles if one]
        wanted = replace(wanted, helpers=wanted.helpers - self._missing)
        if not troubles:
            text = f"this kernel does neither limit bandwidth nor log what is refused: {first}"
            troubles.append(text)
            wanted = replace(wanted, bare=True)
        refused = self._table.build(wanted)
        self._wanted = wanted
        return troubles + refused

    def _try_helper(self, name: str) -> str:
        trial = f"{TABLE}_trial"
        what = "\n".join(ruleset.helper_objects([name]))
        try:
            run_nft(f"add table inet {trial}\ndelete table inet {trial}")
            run_nft(f"table inet {trial} {{\n{what}\n}}")
        except RulesetRefusedError as error:
            self._missing.add(name)
            return f"the kernel has no helper for {name}: {error}"
        finally:
            with contextlib.suppress(RulesetRefusedError):
                run_nft(f"delete table inet {trial}")
        return ""

    # -- verbs -------------------------------------------------------------------------------

    def configure(
        self,
        services: GatewayServices,
        *,
        isolate: bool,
        rules: bool,
        helpers: frozenset[str] = frozenset(),
    ) -> None:
        """See :meth:`FilterDataplane.configure`.

        Rules or helpers that come build the table anew; those that go wait for the next start.
        """
        before = {element.place: element for element in self._services}
        interface = self._wanted.interface
        self._services = [*elements.of_services(services, interface, isolate=isolate)]
        for place in before.keys() - {element.place for element in self._services}:
            self._table.unwant(place)
        for element in self._services:
            self._table.want(element)
        helpers = (self._wanted.helpers | helpers) - self._missing
        rules = self._wanted.rules or rules
        self._wanted = replace(self._wanted, rules=rules, helpers=helpers)

    def define(self, number: int, rule_set: RuleSet) -> None:
        """See :meth:`FilterDataplane.define`. What refuses comes before what allows."""
        before = self._entries(number, self._sets.get(number, _NOTHING))
        self._sets[number] = rule_set
        after = self._entries(number, rule_set)
        ordered = sorted(after - before, key=lambda place: place[0].startswith("allow"))
        for place in sorted(before - after):
            self._table.unwant(place)
        for place in ordered:
            self._table.want(Element(place))

    def _entries(self, number: int, rule_set: RuleSet) -> set[Place]:
        if self._missing:
            known = {k: v for k, v in rule_set.helpers.items() if k not in self._missing}
            rule_set = replace(rule_set, helpers=known)
        found = set(elements.of_rule_set(number, rule_set))
        return found | {elements.closed(number)} if rule_set.closed else found

    def undefine(self, number: int) -> None:
        """See :meth:`FilterDataplane.undefine`."""
        self.define(number, _NOTHING)
        del self._sets[number]

    def place(self, session: str, placement: Placement) -> None:
        """See :meth:`FilterDataplane.place`."""
        before = self._placements.get(session, [])
        after = [*elements.of_placement(placement)]
        if self._wanted.bare:
            after = [one for one in after if not one.place[0].startswith("rate")]
        self._placements[session] = after
        for element in after:
            self._holders[element.place] += 1
            self._table.want(element)
        self._release(before)

    def displace(self, session: str) -> None:
        """See :meth:`FilterDataplane.displace`."""
        self._release(self._placements.pop(session, []))

    def _release(self, held: list[Element]) -> None:
        """An address may be another session's already."""
        for element in held:
            self._holders[element.place] -= 1
            if self._holders[element.place] <= 0:
                del self._holders[element.place]
                self._table.unwant(element.place)

    def commit(self) -> list[str]:
        """See :meth:`FilterDataplane.commit`."""
        if self._waiting:
            return []
        lost = self._table.is_lost()
        told = [f"somebody removed the table {TABLE}, so it is made anew"] if lost else []
        if not lost and (self._table.variant == self._wanted or self._only_less()):
            told = self._table.commit()
            if not told:
                return []
            # It may have been what closes the way to somebody: all anew, closed until it is there.
        try:
            return told + self._build()
        except RulesetRefusedError as error:
            return [*told, str(error)]

    def _only_less(self) -> bool:
        """The kernel's table can all that is wanted."""
        there, wanted = self._table.variant, self._wanted
        return there is not None and there.rules >= wanted.rules and there.helpers >= wanted.helpers

    def settle(self) -> list[str]:
        """See :meth:`FilterDataplane.settle`."""
        self._waiting = False
        self._table.forget_unclaimed()
        troubles, self._troubles = self._troubles, []
        return troubles + self.commit()

    # -- what was counted --------------------------------------------------------------------

    def counts(self) -> Mapping[tuple[int, Box], Count]:
        """See :meth:`FilterDataplane.counts`."""
        if self._table.variant is None:
            return {}
        names = ruleset.rule_sets(self._table.variant)
        found: dict[tuple[int, Box], Count] = {}
        for one in self._table.read(name for name in names if not name.startswith("helper")):
            with contextlib.suppress(ValueError):
                at = elements.box_at(one.element.place)
                found[at] = found.get(at, Count()) + one.count
        return found

    def usage(self, placement: Placement) -> DeviceUsage:
        """See :meth:`FilterDataplane.usage`."""
        up, down, refused = elements.usage_places(placement)
        return DeviceUsage(self._sum(up), self._sum(down), self._sum(refused).packets)

    def _sum(self, places: list[Place]) -> Count:
        total = Count()
        for found in self._table.read_some(places):
            total += found.count
        return total

    def refused(self) -> list[RefusedPacket]:
        """See :meth:`FilterDataplane.refused`."""
        return [] if self._log is None else self._log.read()

    def fileno(self) -> int:
        """See :meth:`FilterDataplane.fileno`; -1 where there is no log."""
        return -1 if self._log is None else self._log.fileno()

    def counters(self) -> Mapping[str, int]:
        """See :meth:`FilterDataplane.counters`."""
        try:
            return dict(self._table.counters())
        except OSError:
            return {}

    def close(self, *, keep: bool) -> None:
        """See :meth:`FilterDataplane.close`."""
        if not keep:
            with contextlib.suppress(OSError):
                self._table.remove()
        self._table.close()
        if self._log is not None:
            self._log.close()

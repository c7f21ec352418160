"""Who may reach what: the engine of rules, the filter in the kernel, the log of refusals."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from gateway.appliance.paging import page
from gateway.appliance.remote_access.filtering_views import (
    device_view,
    rule_view,
    test_view,
    would_be,
)
from gateway.appliance.remote_access.part import Joint, Part
from gateway.appliance.remote_access.refusals import Refusals
from gateway.config import to_filtering
from gateway.control.protocol import ControlError, ErrorCode
from gateway.dataplane.filter import Count, FilterDataplane
from gateway.dataplane.kernel.rules_dataplane import RulesDataplane
from gateway.domain.filtering import Direction
from gateway.filtering.engine import Define, Displace, Filtering, Place, Trouble, Undefine
from gateway.filtering.judge import Flow, judge
from gateway.ike.outputs import Event, Severity

if TYPE_CHECKING:
    from gateway.config.document import Config
    from gateway.control.protocol import Page, Request
    from gateway.control.remote_access_views import RulesOfDevice, RuleTest
    from gateway.domain.filtering import Box, Placement
    from gateway.domain.remote_access import Grant
    from gateway.filtering.book import KnownDevice

    Handler = Callable[[Request], Awaitable[object]]

_MINUTE_S: Final = 60.0


def build(joint: Joint) -> Part:
    """For :mod:`gateway.appliance.remote_access.composition`."""
    if not isinstance(joint.dataplane, RulesDataplane):
        return FilteringPart(joint, None)
    from gateway.dataplane.kernel.filter.dataplane import KernelFilter  # noqa: PLC0415

    return FilteringPart(joint, KernelFilter(joint.config().dataplane.xfrm_interface))


class FilteringPart(Part):
    """See the module. Without a dataplane it knows and enforces nothing."""

    def __init__(self, joint: Joint, dataplane: FilterDataplane | None) -> None:
        self._joint = joint
        self._dataplane = dataplane
        self._known: to_filtering.Known = {}
        book = to_filtering.book(joint.config(), self._known)
        self._engine = Filtering(
            book, *self._now(), find_device=self._known_device, max_idle=_MAX_IDLE
        )
        self._services = to_filtering.gateway_services(joint.config())
        self._placements: dict[str, Placement] = {}
        self._refusals = Refusals(joint, self._engine, self.is_service)
        self._folded: Counter[str] = Counter()
        self._reader: int | None = None
        self._stopped = False

    # -- life ------------------------------------------------------------------------------

    def open(self) -> None:
        """See :meth:`Part.open`."""
        self._configure(self._joint.config())
        if self._dataplane is not None:
            self._dataplane.open()

    def _configure(self, config: "Config") -> None:
        self._services = to_filtering.gateway_services(config)
        if self._dataplane is not None:
            self._dataplane.configure(
                self._services,
                isolate=config.filtering.isolate_devices,
                rules=bool(config.rules),
                helpers=to_filtering.helpers(config),
            )

    async def start(self) -> None:
        """See :meth:`Part.start`."""
        if self._dataplane is not None:
            self._carry_out()
            self._report(self._dataplane.settle())
            if self._dataplane.fileno() >= 0:
                self._reader = self._dataplane.fileno()
                asyncio.get_running_loop().add_reader(self._reader, self._refused)
        self._next_minute()

    async def stop(self, *, keep: bool) -> None:
        """See :meth:`Part.stop`."""
        self._stopped = True
        if self._reader is not None:
            asyncio.get_running_loop().remove_reader(self._reader)
        if self._dataplane is not None:
            self._dataplane.close(keep=keep)

    def reconfigure(self, config: "Config") -> None:
        """See :meth:`Part.reconfigure`."""
        self._configure(config)
        self._engine.change(to_filtering.book(config, self._known))
        self._engine.time(*self._now())
        self.commit()

    # -- grants ----------------------------------------------------------------------------

    def granted(self, grant: "Grant") -> None:
        """See :meth:`Part.granted`."""
        self._engine.granted(grant)

    def ended(self, grant: "Grant") -> None:
        """See :meth:`Part.ended`."""
        self._engine.ended(grant.session)

    def device_changed(self, name: str, identity: str | None) -> None:
        """See :meth:`Part.device_changed`."""
        self._engine.device_changed(name, identity)
        self.commit()

    def _known_device(self, identity: str) -> "KnownDevice | None":
        found = self._joint.configured_device(identity)
        return None if found is None else to_filtering.known_device(found.name, found.section)

    def commit(self) -> None:
        """See :meth:`Part.commit`."""
        self._carry_out()
        if self._dataplane is not None:
            self._report(self._dataplane.commit())

    def _carry_out(self) -> None:
        for output in self._engine.take_outputs():
            if isinstance(output, Trouble):
                self._report([output.text])
            elif isinstance(output, Place):
                self._placements[output.session] = output.placement
            elif isinstance(output, Displace):
                self._placements.pop(output.session, None)
            if self._dataplane is None:
                continue
            if isinstance(output, Define):
                self._dataplane.define(output.number, output.rule_set)
            elif isinstance(output, Undefine):
                self._dataplane.undefine(output.number)
            elif isinstance(output, Place):
                self._dataplane.place(output.session, output.placement)
            elif isinstance(output, Displace):
                self._dataplane.displace(output.session)

    def _report(self, problems: list[str]) -> None:
        for text in problems[:_REPORTED]:
            self._joint.emit(Event("filter_refused", f"rules: {text}", Severity.WARNING))

    # -- time ------------------------------------------------------------------------------

    def _now(self) -> tuple[int, int]:
        local = time.localtime(self._joint.wall_clock())
        return local.tm_wday, 60 * local.tm_hour + local.tm_min

    def _next_minute(self) -> None:
        """The clock may be set, and the table removed by somebody else: look every minute."""
        if self._stopped:
            return
        if self._engine.timed:
            self._engine.time(*self._now())
        self.commit()
        left = _MINUTE_S - self._joint.wall_clock() % _MINUTE_S
        self._joint.call_at(self._joint.clock() + left + _LATER_S, self._next_minute)

    # -- refusals --------------------------------------------------------------------------

    def _refused(self) -> None:
        if self._dataplane is not None:
            self._refusals.note(self._dataplane.refused())

    def is_service(self, protocol: int, port: int) -> bool:
        """Whether devices reach this of the gateway without rules."""
        services = self._services
        return (
            services.everything
            or protocol in services.protocols
            or any(one == protocol and a <= port <= b for one, (a, b) in services.ports)
        )

    # -- questions -------------------------------------------------------------------------

    def handlers(self) -> "Mapping[str, Handler]":
        """See :meth:`Part.handlers`."""
        return {
            "rules-of": self._rules_of,
            "rule-counters": self._rule_counters,
            "rule-test": self._rule_test,
        }

    async def _counts(self) -> "Mapping[tuple[int, Box], Count]":
        if self._dataplane is None:
            return {}
        return await asyncio.to_thread(self._dataplane.counts)

    async def _rules_of(self, request: "Request") -> "RulesOfDevice":
        grants, name = self._grants_of(request)
        counts = await self._counts()
        by_rule: dict[str, Count] = {}
        numbers = {
            number
            for grant, _ in grants
            if grant.session in self._placements
            for number in self._placements[grant.session].rule_sets.values()
        }
        for (number, box), count in counts.items():
            rule = self._engine.rule_of(number, box) if number in numbers else None
            if rule is not None:
                by_rule[rule] = by_rule.get(rule, Count()) + count
        usages = []
        for grant, connected in grants:
            placement = self._placements.get(grant.session)
            if connected and placement is not None and self._dataplane is not None:
                usages.append(self._dataplane.usage(placement))
        return device_view(self._engine, name, grants, by_rule, usages)

    async def _rule_counters(self, request: "Request") -> "Page":
        counts = await self._counts()
        by_rule: dict[str, Count] = {}
        for (number, box), count in counts.items():
            rule = self._engine.rule_of(number, box)
            if rule is not None:
                by_rule[rule] = by_rule.get(rule, Count()) + count
        wanted = (request.text("q") or "").casefold()
        rules = self._engine.book.rules
        names = [name for name in rules if wanted in name.casefold()]
        shown, following = page(names, request)
        items = [rule_view(self._engine, rules[name], by_rule.get(name)) for name in shown]
        return {"items": items, "next": following, "total": len(names)}

    async def _rule_test(self, request: "Request") -> "RuleTest":
        grants, name = self._grants_of(request)
        flow = _flow(request)
        found = [
            judge(
                self._engine.book,
                self._engine.rules_of(grant),
                flow,
                self._engine.in_force,
                self.is_service,
            )
            for grant, _ in grants
        ]
        connected = sum(connected for _, connected in grants)
        return test_view(name, found, connected)

    def _grants_of(self, request: "Request") -> "tuple[list[tuple[Grant, bool]], str]":
        """The device's sessions, or the one that it would have; and whether it is there."""
        device = self._joint.find_device(request.text("device") or "")
        grants = self._joint.grants()
        names = [one.id for one in device.sessions.values()]
        found = [(grants[name], True) for name in names if name in grants]
        return found or [
            (would_be(device, self._joint.configured_device(device.identity)), False)
        ], device.name

    def facts(self) -> dict[str, object]:
        """See :meth:`Part.facts`."""
        counters = {} if self._dataplane is None else dict(self._dataplane.counters())
        return {**self._engine.counted(), "counters": {**counters, **self._refusals.counters}}


_MAX_IDLE: Final = 16_384
_REPORTED: Final = 3
_LATER_S: Final = 0.05


def _flow(request: "Request") -> Flow:
    from ipaddress import ip_address  # noqa: PLC0415

    try:
        address = ip_address(request.text("address") or "")
    except ValueError:
        text = f"address: {request.text('address')!r} is not an IP address"
        raise ControlError(ErrorCode.INVALID, text, "address") from None
    direction = Direction(request.text("direction") or "to-inside")
    return Flow(direction, address, request.number("protocol"), request.number("port"))

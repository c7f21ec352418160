"""The NAR servers of this box: engines, ports, dataplane, disk, addresses. No protocol logic."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from typing import Final, Protocol

from gateway.appliance.nar.addresses import AddressMonitor
from gateway.appliance.nar.audit import Audit
from gateway.appliance.nar.fleet import Fleet
from gateway.appliance.nar.listener import NarListenError, descriptors_for
from gateway.appliance.nar.plan import (
    NarPlan,
    Planner,
    keeping_old,
    lending,
    with_connections,
)
from gateway.appliance.nar.resolver import NameResolver
from gateway.appliance.nar.server import RunningServer, ServingEngine
from gateway.appliance.nar.service import NarService
from gateway.appliance.nar.status import status, summary
from gateway.appliance.nar.store import NarStore
from gateway.appliance.session_takeover import TakenOver
from gateway.dataplane.nar import NarDataplane, NarSettings
from gateway.domain.event import Event, Severity
from gateway.domain.nar import NarMapping, NarProtocol, NarTuple
from gateway.domain.user_auth import Answer, PasswordQuestion
from gateway.nar.outputs import AskPassword, Resolve
from gateway.nar.policy import NarServerPolicy
from gateway.nar.service import NarEngine, Occupied
from gateway.store.nar_leases import Bounds

SWEEP_S: Final = 30.0
CHANGE_INTERVAL_S: Final = 0.2
"""Addresses come and go in crowds: what happens within is looked at once."""
MAX_KEPT_SPIS: Final = 1 << 31
"""Of larger ranges the IKE engine avoids only what is leased."""
_SPI_PROTOCOLS: Final = frozenset({NarProtocol.ESP, NarProtocol.AH})

AskUser = Callable[[PasswordQuestion, Callable[[Answer], None]], None]
"""Asks the backends that IKE logins use, within the same limits on guessing."""


class KernelSide(NarDataplane, Protocol):
    """A dataplane with a slow path."""

    kind: str
    """Which one it is, in one word."""

    def event_fds(self) -> Sequence[int]:
        """Readable when packets wait for user space."""

    def read_events(self) -> object:
        """Judge a bounded number of them."""


class Makers(Protocol):
    """Makes the parts; see :class:`gateway.appliance.nar.parts.NarParts`."""

    def engine(self, policy: NarServerPolicy, occupied: Occupied) -> ServingEngine:
        """Without any session."""

    def dataplane(self, settings: NarSettings) -> KernelSide:
        """Started."""


class Nar:
    """All of it, while it runs. Construct with privileges; :meth:`start`; at last the stops.

    Raises OSError, DataplaneUnavailableError and
    :class:`gateway.appliance.nar.listener.NarListenError` when it cannot be set up.
    """

    def __init__(
        self,
        planner: Planner,
        makers: Makers,
        *,
        ask_user: AskUser,
        spi_in_use: Callable[[int], bool],
        emit: Callable[[Event], None],
        taken: TakenOver,
        addresses: Callable[[], AddressMonitor] = AddressMonitor,
    ) -> None:
        """``spi_in_use`` knows the inbound SPIs of our own IKE engine."""
        self._loop = asyncio.get_running_loop()
        self._planner, self._makers = planner, makers
        self._ask_user, self._spi_in_use, self._emit = ask_user, spi_in_use, emit
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._following: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._started = self._stopped = self._look_again = False
        self._kept_spis: tuple[range, ...] = ()
        self._watched: tuple[int, ...] = ()
        self._short_of: tuple[int, int] | None = None
        self._monitor = addresses()
        self._resolver = NameResolver()
        self._fleet = Fleet(
            self._make_engine,
            self._resolver,
            clock=self._loop.time,
            touched=self._touched,
            flush=self.flush,
            emit=emit,
        )
        try:
            self._plan = plan = self._bounded(self._make_plan(planner))
            self._fleet.bind(plan.servers)
            self._dataplane = makers.dataplane(plan.settings)
        except BaseException:
            self.close()
            raise
        self._store = NarStore(
            taken, plan.state_dir, emit, Bounds(plan.audit_rows, plan.audit_age_s)
        )
        self._service = NarService(
            self._dataplane,
            self._fleet.running,
            store=self._store,
            asker=self,
            clock=self._loop.time,
            call_at=self._loop.call_at,
            call_soon=self._loop.call_soon,
            emit=emit,
        )
        self._use_plan(plan)

    def _make_plan(self, planner: Planner) -> NarPlan:
        return planner(self._monitor.address_of, self._monitor.local)

    def _bounded(self, plan: NarPlan) -> NarPlan:
        """No more connections than the process may have files."""
        possible, wanted = descriptors_for(one.policy.max_connections for one in plan.servers)
        if possible >= wanted:
            return plan
        text = (
            f"this process may have {possible} connections of NAR clients instead of {wanted}:"
            " raise LimitNOFILE of its service, or lower max_connections"
        )
        fields: dict[str, object] = {"possible": possible, "wanted": wanted}
        if self._short_of != (possible, wanted):
            self._short_of = (possible, wanted)
            self._emit(Event("nar_few_descriptors", text, Severity.WARNING, fields))
        return with_connections(plan, possible, wanted)

    def _use_plan(self, plan: NarPlan) -> None:
        self._plan = plan
        self._store.bounds = Bounds(plan.audit_rows, plan.audit_age_s)
        self._service.audit = Audit(self._store) if plan.audit else None
        ranges = tuple(one.policy.spis for one in plan.servers)
        self._kept_spis = ranges if sum(map(len, ranges)) <= MAX_KEPT_SPIS else ()

    # -- what others see -------------------------------------------------------------------

    @property
    def servers(self) -> Mapping[str, NarEngine]:
        """The engines that serve, by name."""
        return {name: one.engine for name, one in self._fleet.running.items()}

    @property
    def audit(self) -> Audit | None:
        """Who held what, and when; None: nothing is written down."""
        return self._service.audit

    def flush(self, now: float) -> None:
        """Carry out what engines ask for; call it after anything that drove one."""
        self._service.flush(now)

    def spi_taken(self, spi: int) -> bool:
        """Whether our own IKE engine has to choose another one: it is, or may be, lent."""
        return self._service.spi_leased(spi) or any(spi in one for one in self._kept_spis)

    def summary(self) -> str:
        """The servers in a few words."""
        return summary(self._plan, self._fleet.running)

    def facts(self) -> dict[str, object]:
        """What a status page shows."""
        return {
            **status(self._plan, self._fleet, self._service),
            "counters": {
                "service": dict(self._service.counters),
                "store": dict(self._store.counters),
                "resolver": dict(self._resolver.counters),
            },
            "dataplane": {"counters": self._dataplane.counters()},
        }

    # -- mobile nodes that negotiate nothing (draft 004 section 2.6.3) -------------------------

    def set_foreign_mapping(self, mapping: NarMapping) -> str | None:
        """Deliver what a foreign agent learnt from a registration; None, or why not."""
        address = mapping.tuple.address
        if all(address not in one.policy.addresses for one in self._plan.servers):
            return f"no NAR server lends {address}"
        return self._service.set_foreign(mapping)

    def remove_foreign_mapping(self, key: NarTuple) -> None:
        """Deliver it no more. Removing what is not there is fine."""
        self._service.remove_foreign(key)

    def leased_to(self, key: NarTuple) -> str:
        """Which client has this tuple; empty for none."""
        holder = self._service.held.get(key)
        return "" if holder is None else str(holder.client)

    def respect(self, visiting: Callable[[NarTuple], bool]) -> None:
        """Lease no tuple that a visitor of our foreign agent has."""
        self._service.visiting = visiting

    # -- start -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the leases of the last run up, then serve. Raises OSError."""
        now = self._loop.time()
        fleet, plan = self._fleet, self._plan
        fleet.records = self._store.open()
        for one in plan.servers:
            fleet.begin(one, now)
        self._service.flush(now, before_commit=self._dataplane.adopt)
        names = [one.policy.name for one in plan.servers]
        waiting = [name for name in names if name not in fleet.running]
        self._store.start(self._service.held, names, waiting)
        self._started = True
        self._alive()
        self._sweep()
        self._loop.add_reader(self._monitor.fileno(), self._addresses_changed)
        self._watch_queue()
        for one in plan.servers:
            await fleet.listen(one)
        self._addresses_changed()  # meanwhile

    def _make_engine(self, policy: NarServerPolicy) -> ServingEngine:
        engine = self._makers.engine(policy, self._occupied)
        engine.respect(self._service.has_visitor)
        return engine

    def _touched(self) -> None:
        self._service.touch()

    def _occupied(self, protocol: NarProtocol, address: IPv4Address, value: int) -> bool:
        if protocol in _SPI_PROTOCOLS and self._spi_in_use(value):
            return True
        return self._dataplane.occupied(protocol, address, value)

    def _alive(self) -> None:
        # The next one first: a fault in this one must not be the last.
        every = self._plan.settings.dead_after_s / 3.0
        self._timers["alive"] = self._loop.call_later(every, self._alive)
        self._dataplane.alive()

    def _sweep(self) -> None:
        self._timers["sweep"] = self._loop.call_later(SWEEP_S, self._sweep)
        self._fleet.sweep(self._loop.time())

    def _watch_queue(self) -> None:
        """The queue's descriptors may be others after a change of the dataplane."""
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
        self._watched = tuple(self._dataplane.event_fds())
        for descriptor in self._watched:
            self._loop.add_reader(descriptor, self._dataplane.read_events)

    # -- questions -------------------------------------------------------------------------

    def ask_password(self, server: RunningServer, output: AskPassword) -> None:
        """To the backend, and back with the answer."""

        def answered(answer: Answer) -> None:
            server.engine.user_answered(output.ticket, answer, self._loop.time())
            self._service.touch()

        self._ask_user(output.question, answered)

    def resolve(self, server: RunningServer, output: Resolve) -> None:
        """To the name servers, and back with the answer."""
        done = partial(self._resolved, server, output.ticket)
        self._resolver.ask(output.name, output.ipv6, done)

    def _resolved(self, server: RunningServer, ticket: int, found: Sequence[object]) -> None:
        server.engine.resolved(ticket, found, self._loop.time())  # type: ignore[arg-type]
        self._service.touch()

    # -- changes ---------------------------------------------------------------------------

    def _addresses_changed(self) -> None:
        try:
            changed = self._monitor.read()
        except OSError as error:
            text = f"addresses of interfaces cannot be read: {error}"
            self._emit(Event("nar_addresses_unknown", text, Severity.WARNING))
            return
        if changed:
            self._look_again = True
            if self._following is None or self._following.done():
                self._following = self._loop.create_task(self._follow_addresses())

    async def _follow_addresses(self) -> None:
        """An interface has another address, or one at last: leases move, servers begin."""
        while self._look_again and not self._stopped:
            async with self._changing:
                self._look_again = False
                try:
                    await self._apply(self._bounded(self._make_plan(self._planner)))
                except (OSError, NarListenError) as error:
                    text = f"NAR could not follow a change of addresses: {error}"
                    self._emit(Event("nar_change_failed", text, Severity.WARNING))
            await asyncio.sleep(CHANGE_INTERVAL_S)

    async def reload(self, planner: Planner) -> None:
        """Use another configuration; leases stay where they still may be.

        Raises OSError and :class:`gateway.appliance.nar.listener.NarListenError`; then some of
        the old configuration stays in force.
        """
        async with self._changing:
            self._planner = planner
            await self._apply(self._bounded(self._make_plan(planner)))

    async def _apply(self, plan: NarPlan) -> None:
        before = {one.policy.name: one for one in self._plan.servers}
        now = self._loop.time()
        plan = replace(plan, servers=tuple(keeping_old(one, before) for one in plan.servers))
        for name in before.keys() - {one.policy.name for one in plan.servers}:
            self._fleet.end(name, now)
        settings = lending(plan)
        if settings != self._plan.settings:
            # Before the engines: leases that move need their new address there.
            self._dataplane.reconfigure(settings)
            self._watch_queue()
        self._use_plan(replace(plan, settings=settings))
        problems: list[str] = []
        for one in plan.servers:
            problems += await self._fleet.change(one, now)
        self._service.flush(now)
        if problems:
            raise NarListenError("; ".join(problems))

    # -- stop ------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Serve no more; leases go on for the next process."""
        self._stopped = True
        if not self._started:
            return
        for handle in self._timers.values():
            handle.cancel()
        if self._following is not None:
            self._following.cancel()
        self._loop.remove_reader(self._monitor.fileno())
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
        self._fleet.stop(self._loop.time())
        self._dataplane.alive()
        self._service.stop()
        self._fleet.disconnect()
        self._resolver.stop()
        await self._store.stop()

    def close(self) -> None:
        """Close ports and the dataplane, whose mappings go on for the next process."""
        self._fleet.close()
        if hasattr(self, "_dataplane"):
            self._dataplane.close(keep=True)
        self._monitor.close()

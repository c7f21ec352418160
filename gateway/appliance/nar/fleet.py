"""The NAR servers that run, with their ports: begun, changed and ended as plans say."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.appliance.nar.listener import Listener, NarListenError
from gateway.appliance.nar.plan import NarServerPlan
from gateway.appliance.nar.server import RunningServer, ServingEngine
from gateway.appliance.nar.udp_relay import Resolving
from gateway.domain.event import Event, Severity
from gateway.nar.policy import NarServerPolicy


class Fleet:
    """By name. A server whose interfaces have no address yet has its ports, but does not serve."""

    def __init__(
        self,
        make_engine: Callable[[NarServerPolicy], ServingEngine],
        resolver: Resolving,
        *,
        clock: Callable[[], float],
        touched: Callable[[], None],
        flush: Callable[[float], None],
        emit: Callable[[Event], None],
    ) -> None:
        """``flush`` carries out what engines ask for, ``touched`` does so at the turn's end."""
        self._make_engine, self._resolver = make_engine, resolver
        self._clock, self._touched, self._flush, self._emit = clock, touched, flush, emit
        self.running: dict[str, RunningServer] = {}
        self.listeners: dict[str, Listener] = {}
        self.records: dict[str, list[bytes]] = {}
        """Sessions of the last run, until their server begins."""

    def bind(self, plans: Iterable[NarServerPlan]) -> None:
        """Take the ports. Raises :class:`gateway.appliance.nar.listener.NarListenError`."""
        for one in plans:
            self.listeners[one.policy.name] = Listener(one)

    def begin(self, plan: NarServerPlan, now: float) -> None:
        """Make the server, with the sessions of the last run; it waits if it has no address."""
        policy = plan.policy
        if not policy.addresses:
            where = ", ".join(plan.interfaces) or "its interfaces"
            text = f"NAR server {policy.name} waits: {where} has no IPv4 address to lend"
            self._emit(Event("nar_waits", text, Severity.WARNING, {"server": policy.name}))
            return
        server = RunningServer(
            policy,
            self._make_engine(policy),
            self._resolver,
            clock=self._clock,
            touched=self._touched,
        )
        self.running[policy.name] = server
        records = self.records.pop(policy.name, None)
        if records:
            server.engine.restore(records, now)

    async def listen(self, plan: NarServerPlan) -> None:
        """Accept clients, unless the server waits. Raises OSError."""
        server = self.running.get(plan.policy.name)
        if server is not None:
            await self.listeners[plan.policy.name].start(server.connections)

    async def change(self, wanted: NarServerPlan, now: float) -> list[str]:
        """Be as this plan says; returns what could not be."""
        name = wanted.policy.name
        running = self.running.get(name)
        if running is None:
            self.begin(wanted, now)
            self._flush(now)
        elif wanted.policy.addresses and wanted.policy != running.policy:
            self._move(running, wanted, now)
        try:
            if name not in self.listeners:
                self.bind([wanted])
            else:
                await self.listeners[name].reload(wanted)
            await self.listen(wanted)
        except (NarListenError, OSError) as error:
            return [str(error)]
        return []

    def _move(self, running: RunningServer, wanted: NarServerPlan, now: float) -> None:
        """Another policy; leases at addresses that are gone move to those that came."""
        before, after = running.policy.addresses, wanted.policy.addresses
        gone = [one for one in before if one not in after] if wanted.interfaces else []
        come = [one for one in after if one not in before] or list(after)
        for number, old in enumerate(gone):
            new = come[min(number, len(come) - 1)]
            text = f"NAR server {running.name}: address {old} is {new} now"
            fields: dict[str, object] = {"server": running.name, "old": str(old), "new": str(new)}
            self._emit(Event("nar_address_changed", text, fields=fields))
            running.engine.address_changed(old, new, now)
        running.policy = wanted.policy
        running.engine.reconfigure(wanted.policy, now)

    def end(self, name: str, now: float) -> None:
        """The configuration names it no more: nobody may anything, and it is gone.

        Without rules the engine ends every lease and every client that was let in.
        """
        listener = self.listeners.pop(name, None)
        if listener is not None:
            listener.close()
        running = self.running.get(name)
        if running is None:
            return
        running.engine.reconfigure(replace(running.policy, rules=(), trusted=()), now)
        self._flush(now)
        running.stop("the server is gone")
        self._flush(now)
        del self.running[name]

    def sweep(self, now: float) -> None:
        """Close relays that nobody uses."""
        for server in self.running.values():
            server.proxy.sweep(now)

    def stop(self, now: float) -> None:
        """Tell the clients and let them go; their leases stay for the next process."""
        self.close()
        for server in self.running.values():
            server.engine.stopping(now)
        self._flush(now)

    def disconnect(self) -> None:
        """Close all connections; what waits to be sent still goes out if it can."""
        for server in self.running.values():
            server.stop("the gateway stops")

    def close(self) -> None:
        """Close the ports."""
        for listener in self.listeners.values():
            listener.close()

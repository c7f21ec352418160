"""Joins the NAR engines to the world: what they ask for is carried out, once per turn of the loop.

As with IKE, the dataplane's work of a turn is committed before any reply of that turn leaves: a
client that knows its lease can use it. A turn takes what one wake-up has read from all clients,
so a thousand leases per second cost few commits.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from gateway.appliance.nar.audit import Audit
from gateway.appliance.nar.server import RunningServer
from gateway.appliance.nar.store import NarStore
from gateway.appliance.one_timer import CallAt, OneTimer
from gateway.dataplane.nar import NarDataplane, NarRefusal
from gateway.domain.event import Event, Severity
from gateway.domain.nar import NarMapping, NarProtocol, NarTuple
from gateway.nar.outputs import (
    AskPassword,
    CloseConnection,
    Forget,
    FreePort,
    HoldPort,
    LeaseClosed,
    LeaseOpened,
    OpenProxy,
    Output,
    Remember,
    RemoveL2tp,
    RemoveMapping,
    Resolve,
    Send,
    SetL2tp,
    SetMapping,
    StartRelay,
)
from gateway.nar.server.views import tuple_id

MAX_ROUNDS: Final = 4
_SPI_PROTOCOLS: Final = frozenset({NarProtocol.ESP, NarProtocol.AH})
_TO_DATAPLANE: Final = (SetMapping, RemoveMapping, SetL2tp, RemoveL2tp, HoldPort, FreePort)


class Asker(Protocol):
    """Carries questions of the engines to where they are answered."""

    def ask_password(self, server: RunningServer, output: AskPassword) -> None:
        """Answered later, never within this call."""

    def resolve(self, server: RunningServer, output: Resolve) -> None:
        """Answered later, never within this call."""


class NarService:
    """All NAR servers of this box, their dataplane, their store and one timer."""

    def __init__(
        self,
        dataplane: NarDataplane,
        servers: Mapping[str, RunningServer],
        *,
        store: NarStore,
        asker: Asker,
        clock: Callable[[], float],
        call_at: CallAt,
        call_soon: Callable[[Callable[[], None]], object],
        emit: Callable[[Event], None],
    ) -> None:
        """``servers`` are those that serve, by name; they come and go."""
        self._dataplane, self._store, self._asker = dataplane, store, asker
        self.servers = servers
        self.audit: Audit | None = Audit(store)
        """None: leases are not written down."""
        self._clock, self._call_soon, self._emit = clock, call_soon, emit
        self._timer = OneTimer(call_at, self._due)
        self._scheduled = self._stopped = self.begun = False
        self.held: dict[NarTuple, NarMapping] = {}
        """What clients have."""
        self.foreign: dict[NarTuple, NarMapping] = {}
        """Of mobile nodes that negotiate nothing (draft 004 section 2.6.3)."""
        self.visiting: Callable[[NarTuple], bool] = lambda _: False
        """Whether tunnels of this tuple end at our foreign agent."""
        self._spis: Counter[int] = Counter()
        self.counters = dict.fromkeys(("turns", "commits", "refusals", "faults"), 0)

    def spi_leased(self, spi: int) -> bool:
        """Whether a client has this SPI, for ESP or AH."""
        return spi in self._spis

    # -- turns -----------------------------------------------------------------------------

    def touch(self) -> None:
        """An engine was called: carry its outputs out once everything that came is handled."""
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            self._call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if not self._stopped:
            self.flush(self._clock())

    def flush(self, now: float, *, before_commit: Callable[[], object] | None = None) -> None:
        """Carry the engines' outputs out now and arm the timer."""
        self.counters["turns"] += 1
        self.begun = True
        for _ in range(MAX_ROUNDS):
            outputs = [
                (server, one)
                for server in list(self.servers.values())
                for one in server.engine.outputs()
            ]
            if not outputs and before_commit is None:
                break
            self._round(outputs, now, before_commit)
            before_commit = None
        else:
            self.touch()
        for server in self.servers.values():
            server.connections.finish_turn()
        self._arm()

    def _round(
        self,
        outputs: list[tuple[RunningServer, Output]],
        now: float,
        before_commit: Callable[[], object] | None,
    ) -> None:
        refused: list[tuple[RunningServer, NarTuple, str]] = []
        later: list[tuple[RunningServer, Output]] = []
        dirty = False
        for server, output in outputs:
            if isinstance(output, _TO_DATAPLANE):
                dirty = True
                try:
                    why = self._to_dataplane(server.name, output)
                except Exception as error:  # noqa: BLE001 - the others' leases still have to go on
                    self._fault(output, error)
                    if isinstance(output, SetMapping):
                        why = output.mapping.tuple, "internal fault"
                    else:
                        why = None
                if why is not None:
                    refused.append((server, *why))
            else:
                later.append((server, output))
        if before_commit is not None:
            before_commit()
            dirty = True
        if dirty:
            fresh = [one.mapping.tuple for _, one in outputs if isinstance(one, SetMapping)]
            refused += self._commit(fresh)
        for server, key, reason in refused:
            self.counters["refusals"] += 1
            server.engine.mapping_refused(key, reason, now)
        for server, output in later:
            try:
                self._to_world(server, output)
            except Exception as error:  # noqa: BLE001 - what others are to get still has to go
                self._fault(output, error)

    def _fault(self, output: Output, error: Exception) -> None:
        self.counters["faults"] += 1
        text = f"internal fault: {type(output).__name__}: {type(error).__name__}: {error}"
        self._emit(Event("internal_fault", text, Severity.WARNING))

    # -- dataplane -------------------------------------------------------------------------

    def _to_dataplane(self, server: str, output: Output) -> tuple[NarTuple, str] | None:
        """Queue it; or why it cannot be."""
        dataplane = self._dataplane
        if isinstance(output, SetMapping):
            key = output.mapping.tuple
            if self.has_visitor(key):
                return key, "a mobile node of our foreign agent has it"
            self._hold(output.mapping)
            dataplane.set_mapping(output.mapping)
        elif isinstance(output, RemoveMapping):
            self._release(output.tuple)
            if output.tuple not in self.foreign:
                dataplane.remove_mapping(output.tuple)
        elif isinstance(output, SetL2tp):
            dataplane.set_l2tp(server, output.session)
        elif isinstance(output, RemoveL2tp):
            dataplane.remove_l2tp(output.session.client)
        elif isinstance(output, HoldPort):
            key = output.tuple
            if not dataplane.hold_port(key.protocol, key.address, key.value):
                return key, f"port {key.value} is in use by the gateway's host"
        elif isinstance(output, FreePort):
            key = output.tuple
            dataplane.free_port(key.protocol, key.address, key.value)
        return None

    def _hold(self, mapping: NarMapping) -> None:
        key = mapping.tuple
        before = len(self.held)
        self.held[key] = mapping
        if len(self.held) != before and key.protocol in _SPI_PROTOCOLS:
            self._spis[key.value] += 1

    def _release(self, key: NarTuple) -> None:
        if self.held.pop(key, None) is not None and key.protocol in _SPI_PROTOCOLS:
            self._spis[key.value] -= 1
            if self._spis[key.value] <= 0:
                del self._spis[key.value]

    def _commit(self, fresh: Sequence[NarTuple]) -> list[tuple[RunningServer, NarTuple, str]]:
        self.counters["commits"] += 1
        found: list[tuple[RunningServer, NarTuple, str]] = []
        try:
            refusals = self._dataplane.commit()
        except OSError as error:
            # Nobody knows what is there now: nothing of this turn is promised to anybody.
            why = f"the dataplane failed: {error.strerror or error}"
            refusals = [NarRefusal(key, why) for key in fresh]
        for refusal in refusals:
            mapping = self.held.get(refusal.tuple)
            server = None if mapping is None else self.servers.get(mapping.server)
            if server is not None:
                found.append((server, refusal.tuple, refusal.reason))
            elif self.foreign.pop(refusal.tuple, None) is not None:
                text = f"the mapping {refusal.tuple} of a mobile node was refused: {refusal.reason}"
                self._emit(Event("nar_mapping_refused", text, Severity.WARNING))
        return found

    # -- mobile nodes without negotiation ----------------------------------------------------

    def set_foreign(self, mapping: NarMapping) -> str | None:
        """Deliver without a lease; or why not."""
        key = mapping.tuple
        if not key.protocol.is_tunnel:
            return f"{key} is no tunnel: a foreign agent delivers nothing else"
        holder = self.held.get(key)
        if holder is not None:
            return f"{key} is leased to {holder.client}"
        other = self.foreign.get(key)
        if other is not None and other.client != mapping.client:
            return f"{key} belongs to the mobile node at {other.client}"
        self.foreign[key] = mapping
        self._dataplane.set_mapping(mapping)
        if not self.begun:
            return None  # committed with all that there is; what is not there by then is removed
        try:
            refusals = self._dataplane.commit()
        except OSError as error:
            refusals = [NarRefusal(key, f"the dataplane failed: {error.strerror or error}")]
        for refusal in refusals:
            if refusal.tuple == key:
                del self.foreign[key]
                return refusal.reason
        return None

    def remove_foreign(self, key: NarTuple) -> None:
        """Deliver no more."""
        if self.foreign.pop(key, None) is not None:
            self._dataplane.remove_mapping(key)
            self._dataplane.commit()

    def has_visitor(self, key: NarTuple) -> bool:
        """Whether a mobile node has tunnels of this tuple, which no client can have then."""
        # Only tunnels may have one: everybody else's tuple is not even looked for.
        return key.protocol.is_tunnel and (key in self.foreign or self.visiting(key))

    # -- the rest of the world ---------------------------------------------------------------

    def _to_world(self, server: RunningServer, output: Output) -> None:
        if isinstance(output, Send):
            server.connections.send(output.connection, output.data)
        elif isinstance(output, Remember):
            self._store.keep(server.name, output.key, output.record)
        elif isinstance(output, LeaseOpened | LeaseClosed):
            if self.audit is not None:
                self._store.note(output)
            self._emit(lease_event(output))
        elif isinstance(output, Event):
            self._emit(output)
        elif isinstance(output, CloseConnection):
            server.connections.close(output.connection)
        elif isinstance(output, Forget):
            self._store.forget(server.name, output.key)
        elif isinstance(output, AskPassword):
            self._asker.ask_password(server, output)
        elif isinstance(output, Resolve):
            self._asker.resolve(server, output)
        elif isinstance(output, OpenProxy):
            connection = server.connections.get(output.connection)
            if connection is not None:
                server.proxy.open(output, connection)
        elif isinstance(output, StartRelay):
            server.proxy.start(output.connection, output.early)

    # -- timer -----------------------------------------------------------------------------

    def _arm(self) -> None:
        times = (server.engine.next_timer() for server in self.servers.values())
        self._timer.arm(min((at for at in times if at is not None), default=None))

    def _due(self) -> None:
        now = self._clock()
        for server in self.servers.values():
            server.engine.handle_timer(now)
        self.flush(now)

    def stop(self) -> None:
        """Call the timer off and carry nothing out any more."""
        self._stopped = True
        self._timer.stop()


def lease_event(output: LeaseOpened | LeaseClosed) -> Event:
    """For whoever follows the stream of events; the audit is what lasts."""
    mapping = output.mapping
    fields: dict[str, object] = {
        "server": output.server,
        "client": str(mapping.client),
        "user": output.user,
        "lease": tuple_id(mapping.tuple),
        "delivery": mapping.delivery.value,
    }
    who = f"{mapping.client} ({output.user})" if output.user else str(mapping.client)
    if isinstance(output, LeaseOpened):
        text = f"{who} has {mapping.tuple} by {mapping.delivery.value}"
        return Event("nar_lease_opened", text, Severity.DEBUG, fields)
    fields["reason"] = output.reason
    text = f"{who} no longer has {mapping.tuple}: {output.reason}"
    return Event("nar_lease_closed", text, Severity.DEBUG, fields)

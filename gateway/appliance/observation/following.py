"""Follows the engines' events: each changes one device of the register, at a cost of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Final, Protocol

from gateway.appliance.mobility_queries import Agents
from gateway.appliance.observation.device import (
    BindingFacts,
    ChildFacts,
    Device,
    MoveRecord,
    SessionFacts,
    VisitorFacts,
)
from gateway.appliance.observation.register import Register
from gateway.appliance.observation.rings import NOTHING, Counts
from gateway.domain.event import Event
from gateway.ike.snapshot import ChildSaSnapshot, IkeSaSnapshot

if TYPE_CHECKING:
    from gateway.mip_agents.home_agent.views import BindingView

MESSAGE_PRECISION_S: Final = 0.001
UNKNOWN: Final = "(unknown)"


class IkeSide(Protocol):
    """What is read of :class:`gateway.ike.engine.IkeEngine`."""

    def ike_sa_names(self) -> Sequence[tuple[str, str]]:
        """Name and connection of each IKE SA."""

    def ike_sas(self, now: float, names: Iterable[str]) -> Sequence[IkeSaSnapshot]:
        """The IKE SAs of these names."""

    def child_sas(self, now: float, spis_in: Iterable[int]) -> Sequence[ChildSaSnapshot]:
        """The child SAs of these inbound SPIs."""


class Chronicler(Protocol):
    """:class:`gateway.appliance.observation.chronicle.Chronicle`."""

    def used(self, identity: str, counts: Counts, connected_s: float, handovers: int = 0) -> None:
        """Add to today's use."""

    def happened(
        self, identity: str, session: str, what: str, text: str, fields: dict[str, object]
    ) -> None:
        """Note what happened."""


class Follower:
    """Call it with every event; it answers with the event that names device and session."""

    def __init__(
        self,
        register: Register,
        chronicle: Chronicler,
        engine: IkeSide,
        agents: Callable[[], Agents | None],
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        true_place: Callable[[str], str] = str,
    ) -> None:
        """``true_place`` gives the address of a peer by TCP for what stands for it."""
        self._true_place = true_place
        self._register = register
        self._chronicle = chronicle
        self._engine = engine
        self._agents = agents
        self._clock = clock
        self._wall_clock = wall_clock
        self.gaps_s: Callable[[float], None] = _nothing
        """Told of the gap of each handover."""
        self._ended = ""
        """The session that an event has ended."""
        self.leases: dict[str, int] = {}
        """NAR leases by client."""
        self._handlers: Mapping[str, Callable[[Event], Device | None]] = {
            "ike_sa_established": self._established,
            "ike_sa_rekeyed": self._renamed,
            "ike_sa_reauthenticated": self._renamed,
            "ike_sa_closed": self._closed,
            "endpoint_moved": self._moved,
            "child_sa_installed": self._child_installed,
            "child_sa_closed": self._child_closed,
            "handshake_failed": self._failed,
            "registered": self._registered,
            "deregistered": self._unbound,
            "binding_expired": self._unbound,
            "registration_revoked": self._unbound,
            "binding_refused": self._unbound,
            "registration_denied": self._denied,
            "visitor_registered": self._visiting,
            "visitor_left": self._left,
            "visitor_denied": self._denied,
            "nar_lease_opened": self._leased,
            "nar_lease_closed": self._leased,
        }

    def __call__(self, event: Event) -> Event:
        """Change what it changes, and say in the event whose it is."""
        self._ended = ""
        handler = self._handlers.get(event.name)
        device = handler(event) if handler is not None else None
        if device is None:
            device = self._find(event)
        if device is None:
            return event
        fields = {**event.fields, "device": device.name}
        if not fields.get("session"):
            fields["session"] = self._ended or self._session_of(event, device)
        return replace(event, fields=fields)

    def restore(self, names: Iterable[str]) -> None:
        """IKE SAs that were there before us: a few of :meth:`IkeSide.ike_sa_names`."""
        now = self._clock()
        for sa in self._engine.ike_sas(now, names):
            if sa.peer != UNKNOWN and (sa.child_sas or sa.inner_address):
                self._set_session(sa, "", now)

    def restore_mobility(self) -> None:
        """Bindings and visitors that were there before us."""
        agents = self._agents()
        if agents is None:
            return
        for name, home in agents.home_agents.items():
            for address in home.home_addresses():
                self._set_binding(name, str(address), quietly=True)
        for name, foreign in agents.foreign_agents.items():
            for home_agent, address in foreign.visitor_keys():
                view = foreign.visitor(home_agent, address)
                if view is not None:
                    fields: dict[str, object] = {
                        "nai": view.nai,
                        "through_vpn": "vpn" in view.flags,
                        "link_address": view.link_address,
                    }
                    self._register.set_visitor(
                        self._visitor(name, str(home_agent), str(address), fields)
                    )

    # -- whose an event is ---------------------------------------------------------------------

    def _find(self, event: Event) -> Device | None:
        fields, register = event.fields, self._register
        found = register.of_session(str(fields.get("spis", "")))
        if found is None and fields.get("spi_in"):
            pair = register.of_spi(_hex(fields["spi_in"]))
            found = pair[0] if pair is not None else None
        if found is None and fields.get("peer"):
            found = register.identified(str(fields["peer"]))
        if found is None and fields.get("home_address"):
            home_agent, home = str(fields.get("home_agent", "")), str(fields["home_address"])
            found = register.of_binding(home_agent, home) or register.of_inner(home)
        if found is None and (fields.get("nai") or fields.get("node")):
            found = register.of_node(str(fields.get("node", "")), str(fields.get("nai", "")))
        if found is None and fields.get("client"):
            found = register.of_inner(str(fields["client"]))
        if found is None and fields.get("user"):
            found = register.identified(str(fields["user"]))
        return found

    def _session_of(self, event: Event, device: Device) -> str:
        session = device.sessions.get(str(event.fields.get("spis", ""))) or device.session
        if session is not None:
            return session.id
        binding = next(iter(device.bindings.values()), None)
        if binding is not None:
            return f"mip-{int(IPv4Address(binding.home_address)):08x}-{int(binding.since_s):08x}"
        visitor = next(iter(device.visitors.values()), None)
        if visitor is not None:
            return f"mip-{int(IPv4Address(visitor.home_address)):08x}-{int(visitor.since_s):08x}"
        return ""

    # -- IKE -------------------------------------------------------------------------------------

    def _established(self, event: Event) -> Device | None:
        now = self._clock()
        spis = str(event.fields.get("spis", ""))
        for sa in self._engine.ike_sas(now, [spis]):
            device = self._set_session(sa, str(event.fields.get("session", "")), now)
            device.failed_s = None
            self._register.settle(device)
            session = device.sessions[spis]
            fields = _only(event, "remote", "connection", "user", "inner_address", "suite", "auth")
            self._happened(device, session.id, "connected", event.text, fields)
            return device
        return None

    def _set_session(self, sa: IkeSaSnapshot, id_: str, now: float) -> Device:
        register, wall_s = self._register, self._wall_clock()
        device = register.see(sa.peer)
        spis = [int(spi, 16) for spi in sa.child_sas]
        session = SessionFacts(
            spis=sa.spis,
            id=id_ or str(getattr(sa, "session", "") or sa.spis),
            connection=sa.connection,
            user=sa.user,
            local=sa.local,
            outer=self._true_place(sa.remote),
            natted=sa.remote_natted,
            inner=(),
            mobike=sa.mobike,
            since_s=wall_s - sa.age_s,
            by_tcp=self._true_place(sa.remote) != sa.remote,
            heard_at=now - sa.idle_s,
            heard_precision_s=MESSAGE_PRECISION_S,
            accounted_at=now,
        )
        for child in self._engine.child_sas(now, spis):
            session.children[child.spi_in] = _child(child)
        session.inner = _inner(sa.inner_address, session.children.values())
        if not device.sessions:
            device.octets_in = device.octets_out = 0
            device.packets_in = device.packets_out = device.handovers = 0
        device.last_seen_s = wall_s - sa.idle_s
        rtt_s = getattr(sa, "rtt_s", None)
        device.rtt_s = rtt_s if isinstance(rtt_s, float) else device.rtt_s
        register.set_session(device, session)
        return device

    def _renamed(self, event: Event) -> Device | None:
        old, new = str(event.fields.get("old_spis", "")), str(event.fields.get("spis", ""))
        self._register.rename_session(old, new)
        return self._register.of_session(new)

    def _closed(self, event: Event) -> Device | None:
        spis = str(event.fields.get("spis", ""))
        device = self._register.of_session(spis)
        if device is None:
            return None
        session = device.sessions[spis]
        if event.fields.get("session"):
            session.id = str(event.fields["session"])
        self._ended = session.id
        now = self._clock()
        self._chronicle.used(device.identity, NOTHING, max(0.0, now - session.accounted_at))
        fields = _only(event, "remote", "connection", "reason", "age_s")
        self._register.drop_session(spis)
        self._happened(device, session.id, "disconnected", event.text, fields)
        device.rate_in = device.rate_out = 0.0
        return device

    def _moved(self, event: Event) -> Device | None:
        fields, now = event.fields, self._clock()
        device = self._register.of_session(str(fields.get("spis", "")))
        device = device or self._register.identified(str(fields.get("peer", "")))
        if device is None:
            return None
        new = str(fields.get("new", ""))
        session = device.sessions.get(str(fields.get("spis", ""))) or device.session
        if session is None:
            return None
        gap_s, precision_s = self._gap(session, fields.get("silent_s"), now)
        for sa in self._engine.ike_sas(now, [session.spis]):
            session.natted, new = sa.remote_natted, self._true_place(sa.remote)
            session.by_tcp = new != sa.remote
        self._register.move_session(device, session, new)
        self._note_move(device, session.id, event, "endpoint", gap_s, precision_s)
        session.heard_at, session.heard_precision_s = now, MESSAGE_PRECISION_S
        return device

    @staticmethod
    def _gap(session: SessionFacts, silent_s: object, now: float) -> tuple[float | None, float]:
        """Since when nothing had come by the old way; by message or by packet, the shorter."""
        found = []
        if session.heard_at >= 0:
            found.append((max(0.0, now - session.heard_at), session.heard_precision_s))
        if isinstance(silent_s, int | float):
            found.append((max(0.0, float(silent_s)), MESSAGE_PRECISION_S))
        return min(found) if found else (None, 0.0)

    def _note_move(  # noqa: PLR0917 - one fact each
        self,
        device: Device,
        session: str,
        event: Event,
        kind: str,
        gap_s: float | None,
        precision_s: float,
    ) -> None:
        fields = event.fields
        old, new, proof = (str(fields.get(name, "")) for name in ("old", "new", "proof"))
        wall_s = self._wall_clock()
        device.last_seen_s = wall_s
        device.moved(MoveRecord(wall_s, kind, old, new, proof, gap_s, precision_s))
        told = _only(event, "old", "new", "proof")
        if gap_s is not None:
            told["gap_ms"] = round(gap_s * 1000, 1)
            self.gaps_s(gap_s)
        self._chronicle.used(device.identity, NOTHING, 0.0, 1)
        self._happened(device, session, "moved", event.text, told)

    def _child_installed(self, event: Event) -> Device | None:
        now = self._clock()
        for child in self._engine.child_sas(now, [_hex(event.fields.get("spi_in"))]):
            device = self._register.of_session(child.ike_spis)
            if device is None:
                return None
            session = device.sessions[child.ike_spis]
            session.children[child.spi_in] = _child(child)
            inner = next((one for one in session.inner), None)
            session.inner = _inner(inner, session.children.values())
            self._register.set_session(device, session)
            return device
        return None

    def _child_closed(self, event: Event) -> Device | None:
        device = self._register.drop_child(_hex(event.fields.get("spi_in")))
        if device is not None:
            self._register.settle(device)
        return device

    def _failed(self, event: Event) -> Device | None:
        """Whoever failed has proven nothing: known devices only, and none is made."""
        device = self._find(event)
        if device is None:
            return None
        device.failures += 1
        if not device.sessions:
            device.failed_s = self._wall_clock()
        self._register.settle(device)
        fields = _only(event, "remote", "connection", "step", "reason", "remedy")
        self._happened(device, str(event.fields.get("session", "")), "failed", event.text, fields)
        return device

    # -- Mobile IP -------------------------------------------------------------------------------

    def _registered(self, event: Event) -> Device | None:
        fields = event.fields
        agent, home = str(fields.get("home_agent", "")), str(fields.get("home_address", ""))
        device = self._register.of_binding(agent, home)
        care_of = str(fields.get("care_of_address", ""))
        renewed = device is not None and fields.get("renewed") is True
        if device is not None and renewed and care_of in device.bindings[agent, home].care_of:
            device.last_seen_s = self._wall_clock()
            return device
        return self._set_binding(agent, home, event=event)

    def _set_binding(
        self, agent: str, home: str, *, event: Event | None = None, quietly: bool = False
    ) -> Device | None:
        view = self._binding(agent, home)
        if view is None:
            return None
        agents = self._agents()
        outside = (
            agents is not None and agents.home_agents[agent].policy.placement.value == "outside"
        )
        before = self._register.of_binding(agent, home)
        known = before.bindings[agent, home] if before is not None else None
        wall_s = self._wall_clock()
        since_s = wall_s if known is None else known.since_s
        binding = _binding_facts(view, agent, since_s, outside=outside)
        device = self._register.set_binding(binding)
        seen_s = device.last_seen_s
        device.last_seen_s = wall_s
        if quietly or event is None:
            return device
        session = self._session_of(event, device)
        if known is None:
            fields = _only(event, "home_agent", "home_address", "care_of_address", "lifetime_s")
            self._happened(device, session, "connected", event.text, fields)
        elif known.care_of[-1:] != binding.care_of[-1:]:
            old, new = " ".join(known.care_of[-1:]), " ".join(binding.care_of[-1:])
            told = replace(
                event, fields={**event.fields, "old": old, "new": new, "proof": "registration"}
            )
            gap_s = None if seen_s is None else max(0.0, wall_s - seen_s)
            silent = [one.heard_at for one in device.sessions.values() if one.heard_at >= 0]
            if silent:
                gap_s = min(gap_s or 1e9, max(0.0, self._clock() - max(silent)))
            self._note_move(device, session, told, "care-of", gap_s, MESSAGE_PRECISION_S)
        return device

    def _binding(self, agent: str, home: str) -> "BindingView | None":
        agents = self._agents()
        side = agents.home_agents.get(agent) if agents is not None else None
        try:
            return None if side is None else side.binding(IPv4Address(home), self._clock())
        except AddressValueError:
            return None

    def _unbound(self, event: Event) -> Device | None:
        fields = event.fields
        agent, home = str(fields.get("home_agent", "")), str(fields.get("home_address", ""))
        device = self._register.of_binding(agent, home)
        if device is None:
            return None
        session = self._session_of(event, device)
        if self._binding(agent, home) is not None:
            self._set_binding(agent, home, quietly=True)
            return device
        self._ended = session
        self._register.drop_binding(agent, home)
        told = _only(event, "home_agent", "home_address", "care_of_address", "reason")
        self._happened(device, session, "disconnected", event.text, told)
        return device

    def _denied(self, event: Event) -> Device | None:
        device = self._find(event)
        if device is None:
            return None
        device.failures += 1
        if not device.active:
            device.failed_s = self._wall_clock()
        self._register.settle(device)
        fields = _only(event, "home_agent", "source", "code", "code_name", "reason", "hint")
        self._happened(device, self._session_of(event, device), "failed", event.text, fields)
        return device

    def _visiting(self, event: Event) -> Device | None:
        fields = event.fields
        agent, home_agent, home = (
            str(fields.get(name, "")) for name in ("foreign_agent", "home_agent", "home_address")
        )
        known = self._register.of_visitor((agent, home_agent, home))
        device = self._register.set_visitor(self._visitor(agent, home_agent, home, fields))
        device.last_seen_s = self._wall_clock()
        if known is None:
            told = _only(event, "foreign_agent", "home_agent", "home_address", "interface")
            session = self._session_of(event, device)
            self._happened(device, session, "connected", event.text, told)
        return device

    def _visitor(
        self, agent: str, home_agent: str, home: str, fields: Mapping[str, object]
    ) -> VisitorFacts:
        device = self._register.of_visitor((agent, home_agent, home))
        known = device.visitors[agent, home_agent, home] if device is not None else None
        return VisitorFacts(
            agent,
            home_agent,
            home,
            str(fields.get("nai") or ""),
            fields.get("through_vpn") is True,
            str(fields.get("link_address") or ""),
            self._wall_clock() if known is None else known.since_s,
        )

    def _left(self, event: Event) -> Device | None:
        fields = event.fields
        agent, home_agent, home = (
            str(fields.get(name, "")) for name in ("foreign_agent", "home_agent", "home_address")
        )
        device = self._register.of_visitor((agent, home_agent, home))
        if device is None:
            return None
        session = self._ended = self._session_of(event, device)
        self._register.drop_visitor((agent, home_agent, home))
        told = _only(event, "foreign_agent", "home_agent", "home_address", "reason")
        self._happened(device, session, "disconnected", event.text, told)
        return device

    # -- NAR -------------------------------------------------------------------------------------

    def _leased(self, event: Event) -> Device | None:
        client = str(event.fields.get("client", ""))
        count = self.leases.get(client, 0) + (1 if event.name == "nar_lease_opened" else -1)
        if count > 0:
            self.leases[client] = count
        else:
            self.leases.pop(client, None)
        return self._register.of_inner(client)

    def _happened(
        self, device: Device, session: str, what: str, text: str, fields: dict[str, object]
    ) -> None:
        self._chronicle.happened(device.identity, session, what, text, fields)


def _child(sa: ChildSaSnapshot) -> ChildFacts:
    return ChildFacts(
        sa.spi_in,
        sa.spi_out,
        sa.suite,
        sa.encapsulated,
        sa.endpoint_update,
        sa.vpn_fa,
        " ".join(sa.remote_ts),
    )


def _inner(leased: str | None, children: Iterable[ChildFacts]) -> tuple[str, ...]:
    """Single addresses at the device: leased to it, or a selector of its own."""
    found = dict.fromkeys([leased] if leased else [])
    for child in children:
        for selector in child.remote.split(" "):
            address, slash, prefix = selector.partition("/")
            if slash and prefix in {"32", "128"}:
                found[address] = None
    return tuple(found)


def _binding_facts(
    view: "BindingView", agent: str, since_s: float, *, outside: bool
) -> BindingFacts:
    return BindingFacts(
        agent,
        outside,
        view.home_address,
        view.care_of_addresses,
        view.tunnels,
        view.name,
        view.nai,
        "co_located" in view.flags,
        bool(view.zero_overhead),
        view.via_foreign_agent or "",
        since_s,
    )


def _only(event: Event, *names: str) -> dict[str, object]:
    return {name: event.fields[name] for name in names if event.fields.get(name) not in {None, ""}}


def _hex(value: object) -> int:
    try:
        return int(str(value), 16)
    except ValueError:
        return 0


def _nothing(_gap_s: float) -> None:
    return None

"""Follows the engines' events: each changes one device of the register, at a cost of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final, Protocol

from gateway.appliance.mobility_queries import Agents
from gateway.appliance.observation.device import (
    ChildFacts,
    Device,
    SessionFacts,
)
from gateway.appliance.observation.mobility_following import MobilityFollowing
from gateway.appliance.observation.register import Register
from gateway.appliance.observation.rings import NOTHING
from gateway.appliance.observation.telling import (
    MESSAGE_PRECISION_S,
    Chronicler,
    hexadecimal,
    only,
)
from gateway.domain.event import Event
from gateway.ike.snapshot import ChildSaSnapshot, IkeSaSnapshot

SECOND_S: Final = 1.0
UNKNOWN: Final = "(unknown)"


class IkeSide(Protocol):
    """What is read of :class:`gateway.ike.engine.IkeEngine`."""

    def ike_sa_names(self) -> Sequence[tuple[str, str]]:
        """Name and connection of each IKE SA."""

    def ike_sas(self, now: float, names: Iterable[str]) -> Sequence[IkeSaSnapshot]:
        """The IKE SAs of these names."""

    def child_sas(self, now: float, spis_in: Iterable[int]) -> Sequence[ChildSaSnapshot]:
        """The child SAs of these inbound SPIs."""


class Follower(MobilityFollowing):
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
        super().__init__(register, chronicle, clock=clock, wall_clock=wall_clock)
        self._engine = engine
        self._agents = agents
        self.before_move: Callable[[int], tuple[int, float | None] | None] = _unknown
        """What the dataplane had counted of a child SA as it moved."""
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

    # -- IKE -------------------------------------------------------------------------------------

    def _established(self, event: Event) -> Device | None:
        now = self._clock()
        spis = str(event.fields.get("spis", ""))
        for sa in self._engine.ike_sas(now, [spis]):
            device = self._set_session(sa, str(event.fields.get("session", "")), now)
            device.failed_s = None
            self._register.settle(device)
            session = device.sessions[spis]
            fields = only(event, "remote", "connection", "user", "inner_address", "suite", "auth")
            self._happened(device, session.id, "connected", event.text, fields)
            return device
        return None

    def _set_session(self, sa: IkeSaSnapshot, id_: str, now: float) -> Device:
        register, wall_s = self._register, self._wall_clock()
        device = register.see(sa.peer)
        spis = [int(spi, 16) for spi in sa.child_sas]
        session = SessionFacts(
            spis=sa.spis,
            id=id_ or sa.session or sa.spis,
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
        device.rtt_s = sa.rtt_s if sa.rtt_s is not None else device.rtt_s
        register.set_session(device, session)
        return device

    def look_at(self, device: Device, session: SessionFacts, now: float) -> None:
        """What the engine knows of a session by now that no event tells."""
        for sa in self._engine.ike_sas(now, [session.spis]):
            if now - sa.idle_s > session.heard_at:
                session.heard_at, session.heard_precision_s = now - sa.idle_s, MESSAGE_PRECISION_S
                device.last_seen_s = self._wall_clock() - sa.idle_s
            device.rtt_s = sa.rtt_s if sa.rtt_s is not None else device.rtt_s

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
        fields = only(event, "remote", "connection", "reason", "age_s")
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
        gap_s, precision_s = self._gap(session, now)
        for sa in self._engine.ike_sas(now, [session.spis]):
            session.natted, new = sa.remote_natted, self._true_place(sa.remote)
            session.by_tcp = new != sa.remote
        # Where a NAT comes or goes, ESP is put into UDP or taken out.
        for child in self._engine.child_sas(now, list(session.children)):
            session.children[child.spi_in].encapsulated = child.encapsulated
        self._register.move_session(device, session, new)
        self._note_move(device, session.id, event, "endpoint", gap_s, precision_s)
        session.heard_at, session.heard_precision_s = now, MESSAGE_PRECISION_S
        return device

    def _gap(self, session: SessionFacts, now: float) -> tuple[float | None, float]:
        """How long nothing came by the old way, at most; and how much less it may have been."""
        heard_at, precision_s = session.heard_at, session.heard_precision_s
        for child in session.children.values():
            before = self.before_move(child.spi_in)
            if before is None:
                continue
            packets, last_used_s = before
            # One may be the packet that proved the new way: where a NAT changed, it is counted.
            if child.sampled_at > heard_at and packets > child.counted[2] + 1:
                heard_at, precision_s = child.sampled_at, now - child.sampled_at
            if last_used_s is not None:
                at = now - (self._wall_clock() - last_used_s)
                if heard_at < at < now - SECOND_S:
                    heard_at, precision_s = at, SECOND_S
        if heard_at < 0:
            return None, 0.0
        return max(0.0, now - heard_at), precision_s

    def _child_installed(self, event: Event) -> Device | None:
        now = self._clock()
        for child in self._engine.child_sas(now, [hexadecimal(event.fields.get("spi_in"))]):
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
        device = self._register.drop_child(hexadecimal(event.fields.get("spi_in")))
        if device is not None:
            self._register.settle(device)
        return device

    def _failed(self, event: Event) -> Device | None:
        """Whoever failed has proven nothing: known devices only, and none is made."""
        device = self._find(event)
        if device is None:
            return None
        session = str(event.fields.get("session", ""))
        self._fail(device, session, event, "remote", "connection", "step", "reason", "remedy")
        return device

    # -- NAR -------------------------------------------------------------------------------------

    def restore_leases(self, client: int, count: int) -> None:
        """Leases of a NAR client that were there before us."""
        if count:
            name = str(IPv4Address(client))
            self.leases[name] = self.leases.get(name, 0) + count

    def _leased(self, event: Event) -> Device | None:
        client = str(event.fields.get("client", ""))
        count = self.leases.get(client, 0) + (1 if event.name == "nar_lease_opened" else -1)
        if count > 0:
            self.leases[client] = count
        else:
            self.leases.pop(client, None)
        return self._register.of_inner(client)


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


def _unknown(_spi_in: int) -> tuple[int, float | None] | None:
    return None

"""One gateway, a client of every kind, and a network in the hands of an enemy; virtual time.

:meth:`World.check` holds after every single step, whatever it was.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from harness_v2 import GATEWAY, NOW
from hostile_clients import FIND_USER, KEY, Kind, clients
from users_v2 import PASSWORD, RadiusServer

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.pools import AddressPool
from gateway.domain.user_auth import Accepted, Answer, PasswordQuestion, Rejected
from gateway.ike.engine import IkeEngine
from gateway.ike.half_open import Source, source_of
from gateway.ike.outputs import (
    ActivateOutbound,
    AskAboutUser,
    Event,
    InstallChildSa,
    MoveChildSa,
    RemoveChildSa,
    SessionClosed,
    SessionOpened,
    Transmit,
)
from gateway.ike.policy import ConnectionPolicy, EngineSettings
from gateway.ike.v1.sa import IkeSa as IkeSa1
from gateway.ike.v2.sa import Evidence as Evidence2
from gateway.ike.v2.sa import IkeSa as IkeSa2
from gateway.ike.v2.sa import State as State2

ELSEWHERE = Endpoint(ip_address("203.0.113.66"), 4500)
LOG_WINDOW_S = 10.0


@dataclass
class Flight:
    """A datagram on its way; the path is the receiver's."""

    receiver: str
    message: bytes
    path: Path


@dataclass
class Party:
    """An engine with a dataplane that only remembers, and objects to nonsense."""

    name: str
    engine: IkeEngine
    kind: Kind | None = None
    installed: dict[int, bool] = field(default_factory=dict)
    """Whether each child SA sends, by inbound SPI."""
    sessions: set[str] = field(default_factory=set)
    ever: set[str] = field(default_factory=set)
    """Sessions that were ever opened."""
    events: list[Event] = field(default_factory=list)
    spis: set[bytes] = field(default_factory=set)
    """SPIs that this engine ever gave to an IKE SA."""

    def take(self, output: object) -> None:
        """Carry an output out."""
        if isinstance(output, InstallChildSa):
            assert output.sa.spi_in not in self.installed, "installed twice"
            self.installed[output.sa.spi_in] = output.outbound
        elif isinstance(output, ActivateOutbound):
            assert self.installed[output.spi_in] is False, "activated twice"
            self.installed[output.spi_in] = True
        elif isinstance(output, MoveChildSa):
            assert output.spi_in in self.installed, "moved, but not installed"
        elif isinstance(output, RemoveChildSa):
            assert output.spi_in in self.installed, "removed, but not installed"
            del self.installed[output.spi_in]
        elif isinstance(output, SessionOpened):
            assert output.session.session_id not in self.ever, "one session opened twice"
            self.ever.add(output.session.session_id)
            self.sessions.add(output.session.session_id)
        elif isinstance(output, SessionClosed):
            assert output.session_id in self.sessions, "a session closed that was not open"
            self.sessions.discard(output.session_id)
        elif isinstance(output, Event):
            assert output.name != "internal_error", output.text
            assert PASSWORD not in output.text
            assert KEY.secret.decode() not in output.text
            self.events.append(output)


class World:
    """Gateway, clients, network, clock, and the backend that knows about users."""

    def __init__(self, seed: int = 0, names: tuple[str, ...] = (), **settings: Any) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        kinds = [kind for kind in clients() if not names or kind.name in names]
        policies: dict[str, ConnectionPolicy] = {kind.name: kind.gateway for kind in kinds}
        self.policies = tuple(policies.values())
        self.settings = EngineSettings(**settings)
        self.gateway = Party("gateway", self._engine(self.policies))
        self.devices = [
            Party(str(kind.device.local.address), self._engine((kind.device,)), kind)
            for kind in kinds
            if kind.device.local is not None
        ]
        self.parties = {one.name: one for one in (self.gateway, *self.devices)}
        self.flights: list[Flight] = []
        self.seen: list[Flight] = []
        self.questions: list[AskAboutUser] = []
        self.answered: list[tuple[int, Answer]] = []
        self.radius = RadiusServer()

    def _engine(self, connections: tuple[ConnectionPolicy, ...]) -> IkeEngine:
        return IkeEngine(
            self.settings,
            connections,
            self.pools(),
            random=random.Random(self.rng.random()).randbytes,
            wall_clock=lambda: NOW,
            find_user=FIND_USER,
        )

    @staticmethod
    def pools(prefix: int = 24) -> dict[str, AddressPool]:
        return {
            "road": AddressPool("road", ip_network(f"10.9.0.0/{prefix}")),
            "staff": AddressPool("staff", ip_network(f"10.8.0.0/{prefix}")),
        }

    def device(self, name: str, *, rogue: bool = False) -> Party:
        return next(
            one
            for one in self.devices
            if one.kind is not None and one.kind.name == name and one.kind.rogue is rogue
        )

    # -- carrying things about --------------------------------------------------------------

    def collect(self) -> None:
        """Carry out what the engines want; their datagrams wait in ``flights``."""
        for party in self.parties.values():
            for output in party.engine.take_outputs():
                party.take(output)
                if isinstance(output, Transmit):
                    self._fly(output)
                elif isinstance(output, AskAboutUser):
                    assert party is self.gateway
                    self.questions.append(output)
            if party.engine._core.sas:
                party.spis.update(party.engine._core.sas)

    def _fly(self, sent: Transmit) -> None:
        source, target = sent.path.local, sent.path.remote
        receiver = "gateway" if target.address == GATEWAY.address else str(target.address)
        flight = Flight(receiver, sent.message, Path(target, source))
        self.seen.append(flight)
        self.flights.append(flight)

    def deliver(self, flight: Flight) -> None:
        party = self.parties.get(flight.receiver)
        if party is not None:
            party.engine.receive(flight.message, flight.path, self.now)
        self.collect()

    def judge(self, asked: AskAboutUser) -> Answer:
        """What an honest backend says."""
        question = asked.question
        if isinstance(question, PasswordQuestion):
            if (question.user, question.password) == ("ada", PASSWORD.encode()):
                return Accepted("ada", ("staff",))
            return Rejected("wrong password")
        return self.radius(asked)

    def answer(self, asked: AskAboutUser) -> None:
        answer = self.judge(asked)
        self.answered.append((asked.ticket, answer))
        self.gateway.engine.user_answered(asked.ticket, answer, self.now)
        self.collect()

    def settle(self, rounds: int = 400) -> None:
        """Everything on its way arrives in order, every question is answered."""
        self.collect()
        for _ in range(rounds):
            if self.flights:
                self.deliver(self.flights.pop(0))
            elif self.questions:
                self.answer(self.questions.pop(0))
            else:
                return

    def fire(self, seconds: float, *, deliver: bool = False) -> None:
        """Time goes on, timer by timer."""
        end = self.now + seconds
        while True:
            nexts = [
                at
                for party in self.parties.values()
                if (at := party.engine.next_timer()) is not None and at <= end
            ]
            if not nexts:
                break
            self.now = max(self.now, min(nexts))
            for party in self.parties.values():
                party.engine.handle_timer(self.now)
            self.collect()
            if deliver:
                self.settle()
        self.now = end

    # -- what must hold -----------------------------------------------------------------------

    def check(self) -> None:
        for party in self.parties.values():
            core = party.engine._core
            assert core.counters["internal_errors"] == 0
            if core.sas or core.children or core.timers or party.installed or party.sessions:
                self._check_tables(party)
                self._check_addresses(party)
        self._check_admitted()

    def _check_tables(self, party: Party) -> None:
        core = party.engine._core
        mine: dict[int, Any] = {}
        for spi, sa in core.sas.items():
            assert sa.local_spi == spi
            assert sa.path.remote is not None
            for spi_in, child in sa.children.items():
                assert child.spi_in == spi_in
                mine[spi_in] = sa
                assert _may_have_children(sa), (sa.state_name, sa.connection_name)
            assert not (sa.closed and (sa.children or sa.leases or sa.session))
            assert not (sa.closed and (sa.granted or sa.zone))
        assert mine == core.children
        assert set(party.installed) == set(core.children)
        assert {
            spi: child.outbound_active
            for sa in core.sas.values()
            for spi, child in sa.children.items()
        } == party.installed
        for ticket, spi in core.asked.items():
            assert core.sas[spi].ticket == ticket
            assert not core.sas[spi].closed
        for kind, name in core.timers._deadline:
            if isinstance(name, bytes):
                assert name in core.sas, kind
            elif isinstance(name, int):
                assert name in core.children, kind
            else:
                assert name in core.wanted, kind
        for peer, spis in core.by_peer.items():
            assert spis
            for spi in spis:
                assert core.sas[spi].peer_id == peer
                assert not core.sas[spi].closed
        assert {sa.session.session_id for sa in core.sas.values() if sa.session} == party.sessions
        self._check_half_open(core)

    def _check_half_open(self, core: Any) -> None:
        waiting = list(core.half_open._by_request.values())
        assert len({id(sa) for sa in waiting}) == len(waiting)
        per_source: dict[Source, int] = defaultdict(int)
        for _digest, source in core.half_open._by_request:
            per_source[source_of(source)] += 1
        assert per_source == core.half_open._per_source
        for sa in waiting:
            assert core.sas[sa.local_spi] is sa
            assert not sa.established
            assert not sa.closed

    def _check_addresses(self, party: Party) -> None:
        core = party.engine._core
        held: dict[str, list[int]] = defaultdict(list)
        for sa in core.sas.values():
            for one in sa.leases:
                if one.pool is not None:
                    held[one.pool].append(int(one.address))
        for name, pool in core.pools.items():
            numbers = held.pop(name, [])
            assert len(set(numbers)) == len(numbers), "one address, two SAs"
            assert set(numbers) == set(pool._leased), "leases are not what the SAs have"
        assert not held
        for address, spi in core.framed.items():
            assert address in core.sas[spi].inner_addresses

    def _check_admitted(self) -> None:
        """Whoever is established at the gateway had the right to be."""
        owners: dict[bytes, list[Kind]] = defaultdict(list)
        for party in self.devices:
            for spi in party.spis:
                if party.kind is not None:
                    owners[spi].append(party.kind)
        core = self.gateway.engine._core
        for sa in core.sas.values():
            if not (sa.established or sa.replaced) or sa.closed:
                continue
            kinds = owners.get(sa.responder_spi if sa.initiator else sa.initiator_spi)
            name = sa.connection_name
            assert str(sa.peer_id) == f"{name}@example.com"
            if kinds is None:
                assert isinstance(sa, IkeSa2)
                assert sa.evidence & Evidence2.INHERITED, "nobody's SA"
            else:
                assert any(one.name == name and not one.rogue for one in kinds), (
                    f"a stranger got in as {name}"
                )
            wanted = self.policies_by_name(name)
            got = sa.user.user if sa.user is not None else ""
            assert got == wanted.user, f"{name}: user {got!r}"
            assert (sa.profile == "staff") is bool(wanted.user and wanted.name != "tls")
            for one in sa.leases:
                assert one.pool in (None, "staff" if sa.profile else "road")

    def policies_by_name(self, name: str) -> Kind:
        return next(
            one.kind for one in self.devices if one.kind is not None and one.kind.name == name
        )

    # -- the end ------------------------------------------------------------------------------

    def end(self) -> None:
        """Nobody says anything any more: whatever was left goes by itself."""
        self.flights.clear()
        for party in self.parties.values():
            party.engine.close_all(self.now)
        self.collect()
        self.check()
        for _ in range(20):
            self.fire(50.0)
            self.flights.clear()
        self.check()
        for party in self.parties.values():
            core = party.engine._core
            left = {
                "sas": [(sa.state_name, sa.connection_name) for sa in core.sas.values()],
                "children": list(core.children),
                "asked": dict(core.asked),
                "by_peer": dict(core.by_peer),
                "framed": dict(core.framed),
                "timers": list(core.timers._deadline),
                "half open": len(core.half_open),
                "reqids": dict(core._reqids),
                "wanted": dict(core.wanted),
                "installed": dict(party.installed),
                "sessions": set(party.sessions),
                "leases": [pool.in_use for pool in core.pools.values() if pool.in_use],
            }
            assert not any(left.values()), (party.name, left)


def _may_have_children(sa: Any) -> bool:
    """A child SA lives under an established IKE SA, or one that is on its orderly way out."""
    if isinstance(sa, IkeSa1):
        return bool(sa.established)
    return sa.state is State2.ESTABLISHED

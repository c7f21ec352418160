"""Joins the mobility agents to the world: datagrams to the agent they are for, outputs outwards.

As with IKE, the dataplane's work of a round is committed before any reply of that round leaves: a
mobile node that knows it is registered is reachable. A round takes what one wake-up has read, so
a storm of registrations costs few commits.
"""

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final, Protocol

from gateway.appliance.link_socket import (
    ALL_MOBILITY_AGENTS,
    ALL_SYSTEMS,
    LIMITED_BROADCAST,
    FromLink,
    LinkSocket,
)
from gateway.appliance.mip_sockets import Datagram, MipSockets
from gateway.appliance.one_timer import CallAt, OneTimer
from gateway.dataplane.mobility import MobilityDataplane
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Event, Severity
from gateway.domain.mobility import Visitor
from gateway.domain.nar import TUNNEL_PROTOCOLS, NarMapping, NarTuple
from gateway.domain.session_records import SessionRecords
from gateway.mip_agents.codec.numbers import MessageType
from gateway.mip_agents.outputs import (
    Forget,
    Keep,
    Link,
    Output,
    RemoveBinding,
    RemoveNarMapping,
    RemoveVisitor,
    SetBinding,
    SetNarMapping,
    SetVisitor,
    Transmit,
    TransmitAdvertisement,
)
from gateway.mip_agents.policy import ForeignAgentPolicy, HomeAgentPolicy

MAX_ROUNDS: Final = 4
BINDINGS: Final = "binding:"
"""Kind of the records of home agents, before the agent's name."""
VISITORS: Final = "visitor:"
"""The same of foreign agents."""
_REQUEST: Final = bytes([MessageType.REGISTRATION_REQUEST])


class Agent(Protocol):
    """What home agents and foreign agents have in common."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened how often."""

    def receive(self, message: bytes, path: Path, now: float, link: Link | None = None) -> None:
        """A message from the network."""

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`."""

    def take_outputs(self) -> list[Output]:
        """What to do, in order."""

    def close(self, now: float) -> None:
        """Say goodbye."""


class HomeAgentEngine(Agent, Protocol):
    """:class:`gateway.mip_agents.home_agent.engine.HomeAgent`."""

    @property
    def policy(self) -> HomeAgentPolicy:
        """What it was told."""

    def binding_refused(self, home_address: IPv4Address, reason: str, now: float) -> None:
        """The dataplane could not do it."""


class ForeignAgentEngine(Agent, Protocol):
    """:class:`gateway.mip_agents.foreign_agent.engine.ForeignAgent`."""

    @property
    def policy(self) -> ForeignAgentPolicy:
        """What it was told."""

    def receive(
        self,
        message: bytes,
        path: Path,
        now: float,
        link: Link | None = None,
        ttl: int | None = None,
    ) -> None:
        """A message from the network; ``ttl`` is known on a visited link."""

    def solicited(self, message: bytes, source: IPv4Address, link: Link, now: float) -> None:
        """A mobile node looks for an agent."""

    def home_agent_unreachable(self, home_agent: IPv4Address, icmp_code: int, now: float) -> None:
        """ICMP says so about a request that was relayed."""

    def visitor_refused(
        self, home_agent: IPv4Address, home_address: IPv4Address, reason: str, now: float
    ) -> None:
        """The dataplane could not do it."""


class NarDelivery(Protocol):
    """:class:`gateway.appliance.nar.composition.Nar`, for tunnels that it delivers or leases."""

    def set_foreign_mapping(self, mapping: NarMapping) -> str | None:
        """Deliver a visitor's tunnels; None, or why not."""

    def remove_foreign_mapping(self, key: NarTuple) -> None:
        """Deliver them no more."""


class MobilityService:
    """All agents of this box, their sockets, their dataplane and one timer."""

    def __init__(
        self,
        home_agents: Sequence[HomeAgentEngine],
        foreign_agents: Sequence[ForeignAgentEngine],
        dataplane: MobilityDataplane,
        *,
        sockets: MipSockets,
        links: Mapping[str, LinkSocket],
        records: SessionRecords,
        clock: Callable[[], float],
        call_at: CallAt,
        emit: Callable[[Event], None],
    ) -> None:
        self._dataplane = dataplane
        self._sockets = sockets
        self._links = links
        self._records = records
        self._clock = clock
        self._emit = emit
        self._timer = OneTimer(call_at, self._due)
        self._interfaces: dict[int, Link] = {}
        self.nar: NarDelivery | None = None
        self._tunnels: dict[tuple[IPv4Address, IPv4Address], NarTuple] = {}
        """Of visitors whose tunnels end here, by home agent and home address."""
        self.counters = dict.fromkeys(
            ("commits", "refusals", "sends_refused", "not_for_us", "malformed", "receive_errors"), 0
        )
        self.use(home_agents, foreign_agents)

    def use(
        self,
        home_agents: Sequence[HomeAgentEngine],
        foreign_agents: Sequence[ForeignAgentEngine],
    ) -> None:
        """Serve these agents from now on."""
        self.home_agents, self.foreign_agents = tuple(home_agents), tuple(foreign_agents)
        self._agents: tuple[Agent, ...] = (*self.home_agents, *self.foreign_agents)
        self._by_address: dict[IPv4Address, Agent] = {}
        for visited in self.foreign_agents:
            self._by_address[visited.policy.care_of_address] = visited
        self._by_interface = {one.policy.interface: one for one in self.foreign_agents}
        self._broadcasts: dict[IPv4Address, HomeAgentEngine] = {}
        self._home_links: dict[str, HomeAgentEngine] = {}
        for home in self.home_agents:
            self._by_address[home.policy.address] = home
            for network in home.policy.networks:
                self._broadcasts[network.network.broadcast_address] = home
                if network.interface is not None:
                    self._home_links[network.interface] = home

    # -- in ------------------------------------------------------------------------------------

    def receive(self, batch: list[Datagram]) -> None:
        """Datagrams of one wake-up: all are handled, then one commit, then the replies."""
        now = self._clock()
        by_address = self._by_address
        for message, path, index in batch:
            link = self._interfaces.get(index) or self._interface(index)
            local = path.local.address
            agent = by_address.get(local)  # type: ignore[arg-type]
            if agent is None:
                agent = self._other(path, link.interface)
            elif message[:1] == _REQUEST and link.interface in self._links:
                # A mobile node on the link of a foreign agent: its link-layer address counts,
                # so the packet socket has it. Only home agents are asked directly.
                agent = agent if agent in self.home_agents else None
            if agent is None:
                self.counters["not_for_us"] += 1
                continue
            agent.receive(message, path, now, link)
        self.flush(now)

    def _other(self, path: Path, interface: str) -> Agent | None:
        """Whose a datagram is that was sent to no agent's own address."""
        local = path.local.address
        if not isinstance(local, IPv4Address):
            return None
        if (home := self._broadcasts.get(local)) is not None:
            return home
        if local in {LIMITED_BROADCAST, ALL_MOBILITY_AGENTS}:
            return self._home_links.get(interface)
        return None

    def _interface(self, index: int) -> Link:
        try:
            name = socket.if_indextoname(index) if index else ""
        except OSError:
            return Link("")  # gone in this moment
        return self._interfaces.setdefault(index, Link(name))

    def link_readable(self, interface: str) -> None:
        """Mobile nodes of a visited link have sent something."""
        agent, sock = self._by_interface.get(interface), self._links[interface]
        now = self._clock()
        own = sock.address()
        for packet in sock.read(self._count):
            if agent is None:
                continue
            link = Link(interface, packet.link_address)
            if packet.solicitation:
                source = packet.path.remote.address
                if isinstance(source, IPv4Address):
                    agent.solicited(packet.solicitation, source, link, now)
            else:
                self._request(agent, packet, own, link, now)
        self.flush(now)

    def _request(
        self,
        agent: ForeignAgentEngine,
        packet: FromLink,
        own: IPv4Address | None,
        link: Link,
        now: float,
    ) -> None:
        care_of = agent.policy.care_of_address
        asked = packet.path.local.address
        if packet.message[:1] != _REQUEST or asked not in {
            own,
            care_of,
            ALL_MOBILITY_AGENTS,
            LIMITED_BROADCAST,
        }:
            self.counters["not_for_us"] += 1
            return
        if asked not in {own, care_of}:
            here = Endpoint(own or care_of, packet.path.local.port)
            path = Path(here, packet.path.remote)
            agent.receive(packet.message, path, now, link, ttl=packet.ttl)
            return
        agent.receive(packet.message, packet.path, now, link, ttl=packet.ttl)

    def unreachable(self, address: IPv4Address, icmp_code: int) -> None:
        """ICMP says that an address cannot be reached: it may be that of a home agent."""
        now = self._clock()
        for agent in self.foreign_agents:
            agent.home_agent_unreachable(address, icmp_code, now)
        self.flush(now)

    def _count(self, what: str) -> None:
        self.counters[what] += 1

    # -- out -----------------------------------------------------------------------------------

    def flush(self, now: float | None = None) -> None:
        """Carry the agents' outputs out and arm the timer. Call after anything that drove one."""
        if now is None:
            now = self._clock()
        for _ in range(MAX_ROUNDS):
            outputs = [(agent, one) for agent in self._agents for one in agent.take_outputs()]
            if not outputs:
                break
            self._round(outputs, now)
        self._arm()

    def _round(self, outputs: list[tuple[Agent, Output]], now: float) -> None:
        staged: list[Transmit | TransmitAdvertisement] = []
        refused: list[tuple[NarMapping, str]] = []
        events: list[Event] = []
        dirty = False
        for agent, output in outputs:
            kind = type(output)
            if kind is Transmit or kind is TransmitAdvertisement:
                staged.append(output)  # type: ignore[arg-type]
            elif kind is Event:
                events.append(output)  # type: ignore[arg-type]
            elif kind is Keep or kind is Forget:
                self._record(agent, output)
            elif isinstance(output, SetNarMapping):
                if (why := self._deliver(output.mapping)) is not None:
                    refused.append((output.mapping, why))
            elif isinstance(output, RemoveNarMapping):
                if self.nar is not None:
                    self.nar.remove_foreign_mapping(output.tuple)
            else:
                self._to_dataplane(output)
                dirty = True
        if dirty:
            self.commit(now)
        for mapping, why in refused:
            self._visitor_refused(mapping, why, now)
        for message in staged:
            failed = self._send(message)
            if failed is not None:
                self.counters["sends_refused"] += 1
                events.append(_unsent(message, failed))
        for event in events:
            self._emit(event)

    def _record(self, agent: Agent, output: Output) -> None:
        if not isinstance(output, Keep | Forget):
            return
        if agent in self.home_agents:
            kind = f"{BINDINGS}{agent.policy.name}"
        elif agent in self.foreign_agents:
            kind = f"{VISITORS}{agent.policy.name}"
        else:
            return
        if isinstance(output, Keep):
            self._records.keep(kind, output.key, output.record)
        else:
            self._records.forget(kind, output.key)

    def _to_dataplane(self, output: Output) -> None:
        if isinstance(output, SetVisitor):
            self._note_tunnel(output.visitor)
        elif isinstance(output, RemoveVisitor):
            self._tunnels.pop((output.home_agent, output.home_address), None)
        if isinstance(output, SetBinding):
            self._dataplane.set_binding(output.binding)
        elif isinstance(output, RemoveBinding):
            self._dataplane.remove_binding(output.home_agent, output.home_address)
        elif isinstance(output, SetVisitor):
            self._dataplane.set_visitor(output.visitor)
        elif isinstance(output, RemoveVisitor):
            self._dataplane.remove_visitor(output.home_agent, output.home_address)

    def commit(self, now: float) -> None:
        """Apply the dataplane's work; agents hear of what it refused."""
        self.counters["commits"] += 1
        for refusal in self._dataplane.commit():
            self.counters["refusals"] += 1
            home = self._by_address.get(refusal.home_agent)
            if home in self.home_agents:
                home.binding_refused(refusal.home_address, refusal.reason, now)
            for visited in self.foreign_agents:
                visited.visitor_refused(
                    refusal.home_agent, refusal.home_address, refusal.reason, now
                )

    # -- tunnels that NAR tells apart -----------------------------------------------------------

    def visiting(self, key: NarTuple) -> bool:
        """Whether tunnels of this tuple end here, for a visitor."""
        home_agent = key.remote
        if home_agent is None or not key.protocol.is_tunnel:
            return False
        return self._tunnels.get((home_agent, IPv4Address(key.value))) == key

    def _note_tunnel(self, visitor: Visitor) -> None:
        where = (visitor.home_agent, visitor.home_address)
        key = tunnel_tuple(visitor)
        if key is None:
            self._tunnels.pop(where, None)
        else:
            self._tunnels[where] = key

    def _deliver(self, mapping: NarMapping) -> str | None:
        if self.nar is None:
            return "no NAR server runs here"
        if self.visiting(mapping.tuple):
            return "the tunnels of another visitor have this tuple"
        return self.nar.set_foreign_mapping(mapping)

    def _visitor_refused(self, mapping: NarMapping, reason: str, now: float) -> None:
        self.counters["refusals"] += 1
        key = mapping.tuple
        agent = self._by_address.get(key.address)
        if key.remote is not None and agent is not None and agent in self.foreign_agents:
            agent.visitor_refused(key.remote, IPv4Address(key.value), reason, now)

    def _send(self, output: Transmit | TransmitAdvertisement) -> OSError | None:
        if isinstance(output, TransmitAdvertisement):
            return self._advertise(output)
        link = output.link
        if link is None:
            return self._sockets.send(output.message, output.path)
        if link.address and (sock := self._links.get(link.interface)) is not None:
            return sock.send(output.message, output.path, link.address)
        try:
            index = socket.if_nametoindex(link.interface)
        except OSError as error:
            return error
        return self._sockets.send(output.message, output.path, index)

    def _advertise(self, output: TransmitAdvertisement) -> OSError | None:
        sock = self._links.get(output.link.interface)
        if sock is None:
            return None  # behind the VPN nobody hears advertisements; IKE carries ours
        source = sock.address()
        if source is None:
            return OSError(0, f"interface {output.link.interface} has no IPv4 address")
        destination = output.destination
        if destination is None:
            return sock.advertise(output.message, source, ALL_SYSTEMS, b"")
        return sock.advertise(output.message, source, destination, output.link.address)

    # -- timer ---------------------------------------------------------------------------------

    def _arm(self) -> None:
        times = [at for agent in self._agents if (at := agent.next_timer()) is not None]
        self._timer.arm(min(times, default=None))

    def _due(self) -> None:
        now = self._clock()
        for agent in self._agents:
            agent.handle_timer(now)
        self.flush(now)

    def stop(self) -> None:
        """Call the timer off."""
        self._timer.stop()


def tunnel_tuple(visitor: Visitor) -> NarTuple | None:
    """What NAR would tell a visitor's tunnels apart by; None for tunnels that it does not know."""
    protocol = TUNNEL_PROTOCOLS.get(visitor.tunnel.encapsulation)
    if protocol is None or visitor.tunnel.udp_port:
        return None
    value = int(visitor.home_address)
    return NarTuple(protocol, visitor.tunnel.local, value, visitor.home_agent)


def _unsent(output: Transmit | TransmitAdvertisement, error: OSError) -> Event:
    to = output.link.interface if isinstance(output, TransmitAdvertisement) else output.path.remote
    what = "an advertisement" if isinstance(output, TransmitAdvertisement) else "a message"
    reason = error.strerror or str(error)
    return Event(
        "send_failed",
        f"cannot send {what} of Mobile IP to {to}: {reason}",
        Severity.WARNING,
        {"to": str(to), "error": reason},
    )


def interfaces_of(policies: Iterable[ForeignAgentPolicy]) -> list[str]:
    """The links that need a packet socket."""
    return [policy.interface for policy in policies if not policy.through_vpn]

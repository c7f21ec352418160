"""The mobile node's world in virtual time: draft 001's topology around the real agents.

Home link, i-FA link and an office inside; a café, one behind a NAT, an x-FA link and a hostile
network outside. The i-HA, the x-HA and all foreign agents are the gateway's own engines; IKE is
played. Datagrams take time, get lost or overtake each other as a test wants.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from gateway.dataplane.node import HELD, LayerStack
from gateway.domain.access_mode import AccessMode
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Event
from gateway.domain.mobility import MIP_PORT, HomeNetwork
from gateway.mip_agents import policy as agents
from gateway.mip_agents.codec.registration import RegistrationReply, RegistrationRequest
from gateway.mip_agents.foreign_agent.engine import ForeignAgent
from gateway.mip_agents.home_agent.engine import HomeAgent
from gateway.mip_agents.outputs import Link, Transmit, TransmitAdvertisement
from gateway.mip_agents.policy import Algorithm, MobileNode, Placement, SecurityAssociation
from gateway.mobile_node.inputs import LinkState, Portal, VpnSession
from gateway.mobile_node.node import MobileNode as Device
from gateway.mobile_node.outputs import (
    Apply,
    CloseVpn,
    ConnectVpn,
    Forbid,
    KeepCredentials,
    MoveVpn,
    NodeOutput,
    Permit,
    ProbePortal,
    Solicit,
    TransmitRegistration,
)
from gateway.mobile_node.policy import Detection, Hints, HomeAgentPolicy, NodePolicy, VpnPolicy

INSIDE_HA = IPv4Address("10.0.0.2")
OUTSIDE_HA = IPv4Address("198.51.100.2")
GATEWAY = IPv4Address("198.51.100.10")
VPN_FA = IPv4Address("10.0.0.10")
HOME = IPv4Address("10.1.0.5")
HOME_NETWORK = IPv4Network("10.1.0.0/24")
OUTSIDE_HOME = IPv4Address("198.51.100.100")
OUTSIDE_NETWORK = IPv4Network("198.51.100.64/26")
VPN_POOL = IPv4Address("10.9.0.7")
NAT = IPv4Address("203.0.113.200")
ROGUE_HA = SecurityAssociation(256, b"guessed, and guessed wrong")
INSIDE_KEY = SecurityAssociation(256, b"between device and i-HA, 32 oct.", Algorithm.HMAC_SHA256)
OUTSIDE_KEY = SecurityAssociation(300, b"between device and x-HA, 32 oct.", Algorithm.HMAC_SHA256)
MAC = bytes.fromhex("02000000000b")
AGENT_MAC = bytes.fromhex("02000000000a")
WALL_S = 1_900_000_000.0
BOUND_S = 60.0


@dataclass
class Network:
    """Somewhere that a device can be plugged in."""

    name: str
    inside: bool
    address: str = ""
    """That the device gets by DHCP; none on a foreign agent's link."""
    router: str = ""
    agent: str = ""
    """Care-of address of the foreign agent."""
    nat: bool = False
    udp: bool = True
    tcp: bool = True
    ip_ip: bool = True
    """Whether protocols other than UDP and TCP pass."""
    deaf: bool = False
    """What the i-HA answers directly does not arrive."""
    portal: Portal = Portal.OPEN
    domain: str = ""
    mac: bytes = b""

    @property
    def passes_udp(self) -> bool:
        return self.udp and self.portal is not Portal.CAPTIVE


NETWORKS = {
    one.name: one
    for one in (
        Network("home", True, "10.1.0.5/24", "10.1.0.1"),
        Network("office", True, "10.2.0.20/24", "10.2.0.1", domain="corp.example"),
        Network("lab", True, "10.4.0.20/24", "10.4.0.1"),
        Network("i-fa", True, agent="10.3.0.1"),
        Network("cafe", False, "203.0.113.20/26", "203.0.113.1"),
        Network("hotel", False, "203.0.113.150/26", "203.0.113.129", domain="hotel.example"),
        Network("nat", False, "192.168.1.20/24", "192.168.1.1", nat=True),
        Network("x-fa", False, agent="203.0.113.65"),
        Network("portal", False, "203.0.113.230/28", "203.0.113.225", udp=False, tcp=False),
        Network("web-only", False, "192.0.2.20/24", "192.0.2.1", udp=False),
        Network("dead", False, "192.0.2.120/24", "192.0.2.1", udp=False, tcp=False),
    )
}


class Nodes:
    """The mobile nodes that a home agent knows."""

    def __init__(self, node: MobileNode) -> None:
        self._node = node

    def by_home_address(self, address: IPv4Address) -> MobileNode | None:
        return self._node if address == self._node.home_address else None

    def by_nai(self, nai: str) -> MobileNode | None:
        return None


INTERNAL = HomeAgentPolicy(INSIDE_HA, HOME, HOME_NETWORK, INSIDE_KEY)
EXTERNAL = HomeAgentPolicy(OUTSIDE_HA, OUTSIDE_HOME, OUTSIDE_NETWORK, OUTSIDE_KEY)


def node_policy(**changes: object) -> NodePolicy:
    plain = NodePolicy("laptop", INTERNAL, EXTERNAL, VpnPolicy(GATEWAY))
    return replace(plain, **changes)  # type: ignore[arg-type]


@dataclass
class Gateway:
    """What the VPN gateway offers."""

    vpn_fa: bool = True
    endpoint_update: bool = True
    mobike: bool = True
    up: bool = True
    refuses: str = ""
    blocks_plain_esp: bool = False
    session: VpnSession | None = None
    serial: int = 0
    connects: list[ConnectVpn] = field(default_factory=list)
    moves: list[MoveVpn] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    broken_since: float | None = None


@dataclass
class Sent:
    """A request of the device to the i-HA past the VPN."""

    interface: str
    generation: int
    at: float
    accepted: bool = False


class World:
    """The networks, the agents, the device and what its dataplane was told."""

    def __init__(
        self, policy: NodePolicy | None = None, *, seed: int = 1, **gateway: object
    ) -> None:
        self.now = 1000.0
        self.chance = random.Random(seed)
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = 0
        self.delay_s = 0.01
        self.jitter_s = 0.0
        self.loss = 0.0
        self.networks = {name: replace(one) for name, one in NETWORKS.items()}
        self.inside_ha_up = self.outside_ha_up = True
        self.gateway = Gateway(**gateway)  # type: ignore[arg-type]
        self.plugs: dict[str, str] = {}
        self.metrics: dict[str, int] = {}
        self.generations: Counter[str] = Counter()
        self.user = 0
        self.busy = True
        """The user has traffic all the time."""
        self.outputs: list[tuple[float, NodeOutput]] = []
        self.stack: LayerStack = HELD
        self.permits: dict[str, float] = {}
        self.asked: dict[int, Sent] = {}
        self.leaving_inside_since: dict[str, float] = {}
        self.problems: list[str] = []
        wall = lambda: WALL_S + self.now  # noqa: E731
        self.inside_ha = HomeAgent(
            agents.HomeAgentPolicy(
                "i-ha",
                INSIDE_HA,
                Placement.INSIDE,
                (HomeNetwork("home", HOME_NETWORK, "eth1"),),
                Nodes(MobileNode("laptop", HOME, associations=(INSIDE_KEY,))),
                lifetime_spread=0,
            ),
            random=self.chance.randbytes,
            wall_clock=wall,
        )
        self.outside_ha = HomeAgent(
            agents.HomeAgentPolicy(
                "x-ha",
                OUTSIDE_HA,
                Placement.OUTSIDE,
                (HomeNetwork("virtual", OUTSIDE_NETWORK),),
                Nodes(MobileNode("laptop", OUTSIDE_HOME, associations=(OUTSIDE_KEY,))),
                lifetime_spread=0,
            ),
            random=self.chance.randbytes,
            wall_clock=wall,
        )
        self.agents = {
            name: ForeignAgent(
                agents.ForeignAgentPolicy(name, IPv4Address(address), name, through_vpn=vpn),
                random=self.chance.randbytes,
                wall_clock=wall,
            )
            for name, address, vpn in (
                ("i-fa", "10.3.0.1", False),
                ("x-fa", "203.0.113.65", False),
                ("vpn-fa", str(VPN_FA), True),
            )
        }
        self.node = Device(
            policy or node_policy(),
            random=self.chance.randbytes,
            wall_clock=wall,
            user_packets=lambda: int(self.now * 100) if self.busy else self.user,
        )
        for agent in self.agents.values():
            agent.handle_timer(self.now)
        self.flush()

    # -- what a test does -------------------------------------------------------------------

    def plug(self, interface: str, network: str | None) -> None:
        """Into a network, or out of it (None: no carrier)."""
        if network is None:
            self.plugs.pop(interface, None)
        else:
            self.plugs[interface] = network
        self.generations[interface] += 1
        self.leaving_inside_since.pop(interface, None)
        self.tell_links()

    def swap(self, interface: str, network: str) -> None:
        """Silently: the device does not notice."""
        self.plugs[interface] = network

    def tell_links(self) -> None:
        self.node.links_changed(self.links(), self.now)
        self.flush()

    def links(self) -> Sequence[LinkState]:
        return [self.link(name) for name in sorted(self.generations)]

    def link(self, interface: str) -> LinkState:
        name = self.plugs.get(interface)
        generation = self.generations[interface]
        metric = self.metrics.get(interface, 100)
        if name is None:
            return LinkState(interface, False, metric=metric, generation=generation)
        network = self.networks[name]
        return LinkState(
            interface,
            True,
            IPv4Interface(network.address) if network.address else None,
            IPv4Address(network.router) if network.router else None,
            network.mac,
            network.domain,
            metric,
            generation,
        )

    def run(self, seconds: float) -> "World":
        self.run_until(self.now + seconds, lambda: False)
        return self

    def wait(self, what: Callable[[], object], seconds: float = 60.0) -> float:
        """Until something is so; how long it took."""
        began = self.now
        self.run_until(self.now + seconds, what)
        assert what(), f"not within {seconds} s: {self.node.status(self.now)}"
        return self.now - began

    def wait_for(self, *modes: str, seconds: float = 60.0) -> float:
        return self.wait(lambda: self.mode in modes and self.carries(), seconds)

    def run_until(self, end: float, what: Callable[[], object]) -> None:
        calls = 0
        while not what():
            due = [at for at in (self.queue[0][0] if self.queue else None,) if at is not None]
            timers = [
                one.next_timer()
                for one in (self.node, self.inside_ha, self.outside_ha, *self.agents.values())
            ]
            due += [at for at in timers if at is not None]
            at = min(due, default=end)
            if at > end:
                self.now = end
                return
            calls += 1
            assert calls < 200_000, "it never comes to rest"
            self.now = max(self.now, at)
            if self.queue and self.queue[0][0] <= self.now:
                heapq.heappop(self.queue)[2]()
            else:
                for one in (self.node, self.inside_ha, self.outside_ha, *self.agents.values()):
                    timer = one.next_timer()
                    if timer is not None and timer <= self.now:
                        one.handle_timer(self.now)
            self.flush()

    # -- what there is to see ---------------------------------------------------------------

    @property
    def mode(self) -> str:
        return self.stack.mode.value

    @property
    def status(self):  # noqa: ANN201
        return self.node.status(self.now)

    def of(self, kind: type, since: float = 0.0) -> list:
        return [one for at, one in self.outputs if isinstance(one, kind) and at >= since]

    def permitted(self, interface: str) -> bool:
        return self.permits.get(interface, 0.0) > self.now

    def carries(self) -> bool:
        """Whether a packet to the i-HoA reaches the device, by what the agents believe."""
        stack = self.stack
        if stack.mode is AccessMode.HELD:
            return False
        if stack.mode is AccessMode.V:
            return self.vpn_alive()
        binding = self.inside_ha.binding(HOME)
        if stack.mode is AccessMode.HOME:
            return binding is None and self.plugs.get(self._attached()) == "home"
        if binding is None or stack.internal is None:
            return False
        care_of = IPv4Address(binding.care_of_addresses[-1])
        if care_of != stack.internal.care_of_address:
            return False
        if stack.mode.inside:
            interface = self._attached()
            network = self.networks.get(self.plugs.get(interface, ""))
            if network is None or not self.permitted(interface):
                return False
            if stack.mode is AccessMode.F:
                return str(care_of) == network.agent
            return str(care_of) == network.address.split("/")[0]
        if not self.vpn_alive() or self.gateway.session is None:
            return False
        if stack.internal.co_located:
            return care_of == self.gateway.session.inner
        return bool(self.agents["vpn-fa"].visitors())

    def vpn_alive(self) -> bool:
        """Whether ESP passes both ways."""
        session = self.gateway.session
        return (
            session is not None
            and self.stack.vpn is not None
            and self.stack.vpn.outer == session.outer
            and self.passes(session.outer, tcp=session.tcp)
            and (not self.gateway.blocks_plain_esp or session.encapsulated or session.tcp)
        )

    def passes(self, outer: IPv4Address, *, tcp: bool = False) -> bool:
        """Whether packets from the device's address ``outer`` come to the gateway and back."""
        stack = self.stack
        interface = self._attached()
        name = self.plugs.get(interface)
        if name is None or not self.gateway.up:
            return False
        network = self.networks[name]
        if not (network.tcp if tcp else network.udp) or network.portal is Portal.CAPTIVE:
            return False
        if outer == OUTSIDE_HOME:
            tunnel, binding = stack.external, self.outside_ha.binding(OUTSIDE_HOME)
            if tunnel is None or binding is None or not self.outside_ha_up:
                return False
            if not network.ip_ip and not tunnel.udp_port:
                return False
            here = network.agent or network.address.split("/")[0]
            return str(tunnel.care_of_address) == here == binding.care_of_addresses[-1]
        return str(outer) == network.address.split("/")[0]

    def _attached(self) -> str:
        return self.stack.attachment.interface if self.stack.attachment is not None else ""

    # -- what the device wants --------------------------------------------------------------

    def flush(self) -> None:
        """Carry out what everybody wants."""
        for output in self.node.take_outputs():
            self.outputs.append((self.now, output))
            self._do(output)
        for name, agent in self.agents.items():
            for one in agent.take_outputs():
                self._agent_did(name, one)
        for agent, address in ((self.inside_ha, INSIDE_HA), (self.outside_ha, OUTSIDE_HA)):
            for one in agent.take_outputs():
                if isinstance(one, Transmit):
                    self._home_agent_sent(address, one)
        self.check()

    def check(self) -> None:
        """The invariants."""
        alive = {name for name, until in self.permits.items() if until > self.now}
        if self.stack.mode is AccessMode.HELD and alive:
            self.problems.append(f"{self.now}: held, but {alive} is permitted")
        for name in alive:
            network = self.networks.get(self.plugs.get(name, ""))
            if network is not None and network.inside:
                self.leaving_inside_since.pop(name, None)
                continue
            since = self.leaving_inside_since.setdefault(name, self.now)
            if self.now - since > BOUND_S:
                self.problems.append(f"{self.now}: plaintext outside on {name} since {since}")
        assert not self.problems, self.problems

    def _do(self, output: NodeOutput) -> None:
        if isinstance(output, TransmitRegistration):
            self._device_sent(output)
        elif isinstance(output, Apply):
            self.stack = output.stack
        elif isinstance(output, Permit):
            self._permit(output)
        elif isinstance(output, Forbid):
            if output.interface is None:
                self.permits.clear()
            else:
                self.permits.pop(output.interface, None)
        elif isinstance(output, ConnectVpn):
            self._connect(output)
        elif isinstance(output, MoveVpn):
            self._move(output)
        elif isinstance(output, CloseVpn):
            self._close_vpn(output.reason)
        elif isinstance(output, ProbePortal):
            self._probe(output.interface)
        elif isinstance(output, Solicit):
            self._solicited(output.interface)
        else:
            assert isinstance(output, Event | KeepCredentials), output

    def _permit(self, permit: Permit) -> None:
        until = self.now + permit.lifetime_s
        bound = self.node.policy.detection
        longest = bound.monitor_interval_s + bound.monitor_tries_s
        proofs = [
            one.at
            for one in self.asked.values()
            if one.accepted
            and one.interface == permit.interface
            and one.generation == self.generations[permit.interface]
        ]
        if not proofs or until > max(proofs) + longest + 1e-6:
            self.problems.append(f"{self.now}: {permit} without proof ({proofs})")
        self.permits[permit.interface] = until

    # -- datagrams --------------------------------------------------------------------------

    def later(self, what: Callable[[], None], delay_s: float | None = None) -> None:
        if delay_s is None:
            delay_s = self.delay_s + self.jitter_s * self.chance.random()
        self.serial += 1
        heapq.heappush(self.queue, (self.now + delay_s, self.serial, what))

    def lost(self) -> bool:
        return self.chance.random() < self.loss

    def _device_sent(self, sent: TransmitRegistration) -> None:
        if sent.message[0] != 1 or self.lost():
            return
        request = RegistrationRequest.parse(sent.message)
        if request.home_agent == INSIDE_HA and sent.interface is not None:
            self.asked[request.identification & 0xFFFF_FFFF] = Sent(
                sent.interface, self.generations[sent.interface], self.now
            )
        if sent.interface is None:
            if self.vpn_alive():
                self.later(lambda: self._from_vpn(sent))
            return
        name = self.plugs.get(sent.interface)
        if name is None:
            return
        network = self.networks[name]
        if sent.destination == (IPv4Address(network.agent) if network.agent else None):
            link = Link(name, MAC)
            path = Path(Endpoint(sent.destination, MIP_PORT), Endpoint(sent.source, MIP_PORT))
            agent = self.agents[name]
            self.later(lambda: agent.receive(sent.message, path, self.now, link, 255))
        elif network.address:
            source = Endpoint(NAT, 40000) if network.nat else Endpoint(sent.source, MIP_PORT)
            self._to_home_agent(sent.message, sent.destination, source, network)

    def _to_home_agent(
        self, message: bytes, home_agent: IPv4Address, source: Endpoint, network: Network
    ) -> None:
        path = Path(Endpoint(home_agent, MIP_PORT), source)
        if home_agent == INSIDE_HA and network.inside and self.inside_ha_up:
            self.later(lambda: self.inside_ha.receive(message, path, self.now))
        elif home_agent == OUTSIDE_HA and self.outside_ha_up and network.passes_udp:
            self.later(lambda: self.outside_ha.receive(message, path, self.now))

    def _from_vpn(self, sent: TransmitRegistration) -> None:
        if sent.destination == VPN_FA:
            path = Path(Endpoint(VPN_FA, MIP_PORT), Endpoint(sent.source, MIP_PORT))
            self.agents["vpn-fa"].receive(sent.message, path, self.now, Link("vpn-fa", b""), 64)
        else:
            source = Endpoint(sent.source, MIP_PORT)
            self._to_home_agent(sent.message, sent.destination, source, self.networks["office"])

    def _agent_did(self, name: str, output: object) -> None:
        if isinstance(output, TransmitAdvertisement):
            octets = output.message
            for interface, network in self.plugs.items():
                if network == name and not self.lost():
                    self.later(lambda i=interface: self._advertised(i, name, octets))
        elif isinstance(output, Transmit):
            far = output.path.remote
            inside = self.networks["office"] if name != "x-fa" else self.networks["cafe"]
            if far.address in (INSIDE_HA, OUTSIDE_HA) and isinstance(far.address, IPv4Address):
                near = self.agents[name].policy.care_of_address
                self._to_home_agent(
                    output.message, far.address, Endpoint(near, output.path.local.port), inside
                )
            elif name == "vpn-fa":
                self.later(lambda: self._through_vpn(output.message, VPN_FA))
            else:
                source = Endpoint(self.agents[name].policy.care_of_address, MIP_PORT)
                for interface, network in list(self.plugs.items()):
                    if network == name:
                        self._to_device(output.message, interface, source)

    def _advertised(self, interface: str, name: str, octets: bytes) -> None:
        if self.plugs.get(interface) == name:
            source = self.agents[name].policy.care_of_address
            self.node.advertisement(octets, source, interface, AGENT_MAC, self.now)

    def _solicited(self, interface: str) -> None:
        name = self.plugs.get(interface)
        if name in self.agents and not self.lost():
            agent = self.agents[name]
            octets = bytes.fromhex("0a00f5ff00000000")
            self.later(lambda: agent.solicited(octets, HOME, Link(name, MAC), self.now))

    def _home_agent_sent(self, home_agent: IPv4Address, sent: Transmit) -> None:
        message, far = sent.message, sent.path.remote
        source = Endpoint(home_agent, MIP_PORT)
        if home_agent == INSIDE_HA and message[0] == 3:
            reply = RegistrationReply.parse(message)
            one = self.asked.get(reply.identification & 0xFFFF_FFFF)
            if one is not None and reply.code in (0, 1):
                one.accepted = True
        for agent in self.agents.values():
            if agent.policy.care_of_address == far.address:
                path = Path(far, source)
                self.later(
                    lambda a=agent, p=path: a.receive(message, p, self.now, Link("wan0", b""))
                )
                return
        session = self.gateway.session
        if session is not None and far.address == session.inner and not session.vpn_fa:
            self.later(lambda: self._through_vpn(message, home_agent))
            return
        for interface, name in list(self.plugs.items()):
            network = self.networks[name]
            if network.deaf and home_agent == INSIDE_HA:
                continue
            address = NAT if network.nat else IPv4Interface(network.address or "0.0.0.0").ip
            if far.address == address or (name == "home" and far.address == HOME):
                self._to_device(message, interface, source)

    def _to_device(self, message: bytes, interface: str, source: Endpoint) -> None:
        name = self.plugs.get(interface)

        def arrive() -> None:
            if self.plugs.get(interface) == name:
                self.node.receive(message, interface, source, self.now)

        if not self.lost():
            self.later(arrive)

    def _through_vpn(self, message: bytes, source: IPv4Address) -> None:
        def arrive() -> None:
            if self.vpn_alive():
                self.node.receive(message, None, Endpoint(source, MIP_PORT), self.now)

        if not self.lost():
            self.later(arrive)

    # -- IKE --------------------------------------------------------------------------------

    def _connect(self, wish: ConnectVpn) -> None:
        gateway = self.gateway
        gateway.connects.append(wish)
        self._close_vpn("again")
        gateway.serial += 1
        serial = gateway.serial
        self.later(lambda: self._ike_done(wish, serial, self.now + 12.0), 4 * self.delay_s)

    def _ike_done(self, wish: ConnectVpn, serial: int, until: float) -> None:
        gateway = self.gateway
        if serial != gateway.serial:
            return
        if not self.passes(wish.outer, tcp=wish.tcp):
            if self.now > until:
                self.node.vpn_failed("no answer", "check the network", False, self.now)
            else:
                self.later(lambda: self._ike_done(wish, serial, until), 0.5)
            return
        if gateway.refuses:
            self.node.vpn_failed(gateway.refuses, "ask your administrator", True, self.now)
            return
        vpn_fa = wish.vpn_fa and gateway.vpn_fa
        nat = self.networks[self.plugs[self._attached()]].nat
        gateway.session = VpnSession(
            wish.outer,
            HOME if vpn_fa else VPN_POOL,
            vpn_fa,
            wish.endpoint_update and gateway.endpoint_update,
            wish.mobike and gateway.mobike,
            nat or wish.force_udp,
            wish.tcp,
            self.agents["vpn-fa"].advertisement().serialize() if vpn_fa else b"",
            suite="aes_gcm_16_256",
        )
        if vpn_fa:
            self.agents["vpn-fa"].session_up(HOME, self.now, "laptop")
        gateway.broken_since = None
        self.later(lambda: self._watch(serial), 5.0)
        self.node.vpn_up(gateway.session, self.now)

    def _watch(self, serial: int) -> None:
        """Dead peer detection."""
        gateway = self.gateway
        if serial != gateway.serial or gateway.session is None:
            return
        if self.vpn_alive():
            gateway.broken_since = None
        elif gateway.broken_since is None:
            gateway.broken_since = self.now
        elif self.now - gateway.broken_since >= 20.0:
            self.end_vpn("the gateway gave no answer")
            return
        self.later(lambda: self._watch(serial), 5.0)

    def end_vpn(self, reason: str) -> None:
        self._close_vpn(reason)
        self.node.vpn_down(reason, self.now)
        self.flush()

    def _move(self, move: MoveVpn) -> None:
        gateway = self.gateway
        gateway.moves.append(move)
        session = gateway.session
        assert session is not None
        assert session.mobike if move.mobike else session.endpoint_update
        gateway.session = replace(session, outer=move.outer)

    def _close_vpn(self, reason: str) -> None:
        gateway = self.gateway
        gateway.closed.append(reason)
        gateway.serial += 1
        if gateway.session is not None and gateway.session.vpn_fa:
            self.agents["vpn-fa"].session_down(HOME, self.now)
        gateway.session = None

    def _probe(self, interface: str) -> None:
        def answer() -> None:
            name = self.plugs.get(interface)
            found = self.networks[name].portal if name is not None else Portal.SILENT
            if name is not None and found is Portal.OPEN and not self.networks[name].tcp:
                found = Portal.SILENT
            self.node.portal(interface, found, self.now)

        self.later(answer, 0.2)


__all__ = ["Detection", "Hints", "World", "node_policy"]

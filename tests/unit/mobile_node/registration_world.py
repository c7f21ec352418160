"""A registration client, home agents and a foreign agent in virtual time, and the net between.

Messages take time, get lost, come twice or out of order as a test wants; nothing else is known
to either side but octets.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Event
from gateway.domain.mobility import HomeNetwork
from gateway.mip_agents import policy as agents
from gateway.mip_agents.foreign_agent.engine import ForeignAgent
from gateway.mip_agents.home_agent.engine import HomeAgent
from gateway.mip_agents.outputs import Link, Transmit
from gateway.mip_agents.policy import Algorithm, MobileNode, Placement, SecurityAssociation
from gateway.mobile_node.outputs import TransmitRegistration
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.outcome import (
    Accepted,
    Denied,
    Ended,
    GaveUp,
    Outcome,
    Retransmission,
    Via,
)
from gateway.mobile_node.registration import RegistrationClient

HOME_AGENT = IPv4Address("198.51.100.1")
OTHER_HOME_AGENT = IPv4Address("198.51.100.2")
HOME = IPv4Address("10.7.0.5")
CARE_OF = IPv4Address("192.0.2.33")
CARE_OF_2 = IPv4Address("192.0.2.44")
FOREIGN_AGENT = IPv4Address("203.0.113.1")
AGENT_MAC = bytes.fromhex("02000000000a")
NODE_MAC = bytes.fromhex("02000000000b")
NAT = IPv4Address("203.0.113.77")
GATEWAY = IPv4Address("198.51.100.77")
NETWORK = IPv4Network("10.7.0.0/24")
KEY = SecurityAssociation(256, b"0123456789abcdef0123456789abcdef", Algorithm.HMAC_SHA256)
OTHER_KEY = SecurityAssociation(257, b"another thing altogether")
WALL_S = 1_900_000_000.0
SOON = Retransmission(0.5, 2.0, 4.0, None)

DIRECT = Via("eth0", CARE_OF, HOME_AGENT, CARE_OF, co_located=True)
DIRECT_2 = Via("wlan0", CARE_OF_2, HOME_AGENT, CARE_OF_2, co_located=True)
BY_AGENT = Via("eth0", HOME, FOREIGN_AGENT, FOREIGN_AGENT, co_located=False, link_address=AGENT_MAC)


class Nodes:
    """The mobile nodes that a home agent knows."""

    def __init__(self, *nodes: MobileNode) -> None:
        self._nodes = nodes

    def by_home_address(self, address: IPv4Address) -> MobileNode | None:
        return next((one for one in self._nodes if one.home_address == address), None)

    def by_nai(self, nai: str) -> MobileNode | None:
        return next((one for one in self._nodes if one.nai == nai), None)


def node_policy(**changes: object) -> HomeAgentPolicy:
    plain = HomeAgentPolicy(HOME_AGENT, HOME, NETWORK, KEY)
    return replace(plain, **changes)  # type: ignore[arg-type]


def home_policy(key: SecurityAssociation = KEY, **changes: object) -> agents.HomeAgentPolicy:
    plain = agents.HomeAgentPolicy(
        "x-ha",
        HOME_AGENT,
        Placement.OUTSIDE,
        (HomeNetwork("virtual", NETWORK),),
        Nodes(MobileNode("laptop", HOME, associations=(key,))),
        lifetime_spread=0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def foreign_policy(**changes: object) -> agents.ForeignAgentPolicy:
    plain = agents.ForeignAgentPolicy(
        "fa", FOREIGN_AGENT, "lan0", advertisement_interval_s=0, udp_tunnelling=agents.Allowance.OFF
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@dataclass
class Way:
    """What happens to messages: how long each takes, None for lost, several for copies."""

    delays: Callable[[bytes], list[float]] = lambda _message: [0.01]


class World:
    """Client, agents, the time, and what is under way."""

    def __init__(
        self,
        node: HomeAgentPolicy | None = None,
        home: agents.HomeAgentPolicy | None = None,
        foreign: agents.ForeignAgentPolicy | None = None,
        *,
        nat: bool = False,
        clock_off_s: float = 0.0,
        seed: int = 7,
    ) -> None:
        self.now = 1000.0
        self.chance = random.Random(seed)
        self.nat = nat
        self.clock_off_s = clock_off_s
        self.way = Way()
        self.home = HomeAgent(
            home or home_policy(), random=random.Random(1).randbytes, wall_clock=self.wall
        )
        self.foreign = ForeignAgent(
            foreign or foreign_policy(), random=random.Random(2).randbytes, wall_clock=self.wall
        )
        self.client = self.new_client(node or node_policy())
        self.sent: list[TransmitRegistration] = []
        self.sent_at: list[float] = []
        self.answers: list[bytes] = []
        """Everything that came to the node."""
        self.outcomes: list[Outcome] = []
        self.events: list[Event] = []
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def wall(self) -> float:
        return WALL_S + self.now

    def new_client(self, policy: HomeAgentPolicy) -> RegistrationClient:
        return RegistrationClient(
            policy,
            random=self.chance.randbytes,
            wall_clock=lambda: self.wall() + self.clock_off_s,
        )

    # -- the net -----------------------------------------------------------------------------

    def _carry(self, message: bytes, arrive: Callable[[], None]) -> None:
        for delay in self.way.delays(message):
            self._count += 1
            heapq.heappush(self._under_way, (self.now + delay, self._count, arrive))

    def settle(self) -> None:
        """Take what the client wants, and give it to the net."""
        for one in self.client.take_outputs():
            if isinstance(one, TransmitRegistration):
                self.sent.append(one)
                self.sent_at.append(self.now)
                self._carry(one.message, lambda one=one: self._to_agent(one))  # type: ignore[misc]
            elif isinstance(one, Event):
                self.events.append(one)
            else:
                self.outcomes.append(one)

    def _to_agent(self, one: TransmitRegistration) -> None:
        if one.message[0] == 4:
            return
        if one.destination == FOREIGN_AGENT:
            path = Path(Endpoint(FOREIGN_AGENT, 434), Endpoint(one.source, 434))
            self.foreign.receive(one.message, path, self.now, Link("lan0", NODE_MAC), 255)
        else:
            seen = Endpoint(NAT, 40434) if self.nat else Endpoint(one.source, 434)
            self.home.receive(one.message, Path(Endpoint(HOME_AGENT, 434), seen), self.now)
        self._agents_speak()

    def _agents_speak(self) -> None:
        for one in (*self.foreign.take_outputs(), *self.home.take_outputs()):
            if isinstance(one, Transmit):
                self._carry(one.message, lambda one=one: self._from_agent(one))  # type: ignore[misc]

    def _from_agent(self, one: Transmit) -> None:
        local, remote = one.path.local, one.path.remote
        if one.link is not None:
            self.hear(one.message, local)
        elif local.address == FOREIGN_AGENT:
            path = Path(Endpoint(HOME_AGENT, 434), local)
            self.home.receive(one.message, path, self.now)
            self._agents_speak()
        elif remote.address == FOREIGN_AGENT:
            path = Path(Endpoint(FOREIGN_AGENT, 434), local)
            self.foreign.receive(one.message, path, self.now, Link("wan0"))
            self._agents_speak()
        else:
            self.hear(one.message, local)

    def hear(self, message: bytes, source: Endpoint | None = None) -> bool:
        """Something reaches the node."""
        self.answers.append(message)
        heard = self.client.receive(message, source or Endpoint(HOME_AGENT, 434), self.now)
        self.settle()
        return heard

    def run(self, seconds: float) -> None:
        """Let time pass, everything at its time."""
        until = self.now + seconds
        self.settle()
        self._agents_speak()
        while True:
            timers = (
                self._under_way[0][0] if self._under_way else None,
                self.client.next_timer(),
                self.home.next_timer(),
                self.foreign.next_timer(),
            )
            due = [one for one in timers if one is not None]
            if not due or min(due) > until:
                break
            self.now = max(self.now, min(due))
            while self._under_way and self._under_way[0][0] <= self.now:
                heapq.heappop(self._under_way)[2]()
            self.client.handle_timer(self.now)
            self.home.handle_timer(self.now)
            self.foreign.handle_timer(self.now)
            self._agents_speak()
            self.settle()
        self.now = until

    # -- what is done often ------------------------------------------------------------------

    def register(self, via: Via = DIRECT, seconds: float = 1.0, **asked: object) -> None:
        asked.setdefault("retransmission", SOON)
        self.client.register(via, self.now, **asked)  # type: ignore[arg-type]
        self.run(seconds)

    def lose_everything(self) -> None:
        self.way.delays = lambda _message: []

    def lose_nothing(self) -> None:
        self.way.delays = lambda _message: [0.01]

    def lose_answers(self) -> None:
        self.way.delays = lambda message: [0.01] if message[0] != 3 else []

    @property
    def accepted(self) -> list[Accepted]:
        return [one for one in self.outcomes if isinstance(one, Accepted)]

    @property
    def denied(self) -> list[Denied]:
        return [one for one in self.outcomes if isinstance(one, Denied)]

    @property
    def gave_up(self) -> list[GaveUp]:
        return [one for one in self.outcomes if isinstance(one, GaveUp)]

    @property
    def ended(self) -> list[Ended]:
        return [one for one in self.outcomes if isinstance(one, Ended)]

    @property
    def bindings(self) -> dict[str, tuple[str, ...]]:
        return {one.home_address: one.care_of_addresses for one in self.home.bindings(self.now)}

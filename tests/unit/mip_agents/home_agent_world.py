"""A home agent in virtual time, and mobile nodes and foreign agents that talk to it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Event
from gateway.domain.mobility import HomeNetwork, MobilityBinding
from gateway.domain.pools import AddressPool
from gateway.mip_agents import authentication
from gateway.mip_agents.codec.extensions import (
    Authentication,
    AuthenticationKind,
    Extension,
    Nai,
    RevocationSupport,
    UdpTunnelReply,
    UdpTunnelRequest,
    ZeroOverheadConfirmation,
)
from gateway.mip_agents.codec.registration import (
    RegistrationReply,
    RegistrationRequest,
    RequestFlag,
)
from gateway.mip_agents.home_agent.engine import HomeAgent
from gateway.mip_agents.outputs import (
    Forget,
    Keep,
    Output,
    RemoveBinding,
    SetBinding,
    Transmit,
)
from gateway.mip_agents.policy import (
    Algorithm,
    HomeAgentPolicy,
    MobileNode,
    PeerAgent,
    Placement,
    ReplayProtection,
    SecurityAssociation,
)
from gateway.mip_agents.replay import ntp

S = RequestFlag.SIMULTANEOUS
B = RequestFlag.BROADCASTS
D = RequestFlag.CO_LOCATED
M = RequestFlag.MINIMAL
G = RequestFlag.GRE
T = RequestFlag.REVERSE

HOME_AGENT = IPv4Address("198.51.100.1")
PUBLIC = IPv4Address("203.0.113.9")
OTHER_HOME_AGENT = IPv4Address("198.51.100.2")
HOME = IPv4Address("10.7.0.5")
CARE_OF = IPv4Address("192.0.2.33")
CARE_OF_2 = IPv4Address("192.0.2.44")
CARE_OF_3 = IPv4Address("192.0.2.55")
FOREIGN_AGENT = IPv4Address("192.0.2.1")
NAT = IPv4Address("203.0.113.77")
UNSPECIFIED = IPv4Address(0)
VIRTUAL = HomeNetwork("virtual", IPv4Network("10.7.0.0/24"))
PHYSICAL = HomeNetwork("office", IPv4Network("10.8.0.0/24"), "eth1")
POOL = "10.7.0.128/25"

KEY = SecurityAssociation(256, b"0123456789abcdef")
NONCES = replace(KEY, replay=ReplayProtection.NONCES)
SHA = SecurityAssociation(300, b"another key, longer than the first one", Algorithm.HMAC_SHA256)
OLD = SecurityAssociation(301, b"fedcba9876543210", Algorithm.KEYED_MD5)
FA_KEY = SecurityAssociation(400, b"between the two agents")
LAPTOP = MobileNode("laptop", HOME, associations=(KEY, SHA, OLD))
PHONE = MobileNode("phone", None, "phone@example.org", "virtual", (KEY,))
TABLET = MobileNode("tablet", IPv4Address("10.8.0.9"), "tablet@example.org", "", (NONCES,))


class Nodes:
    """Mobile nodes of a policy."""

    def __init__(self, *nodes: MobileNode) -> None:
        self._by_home = {one.home_address: one for one in nodes if one.home_address}
        self._by_nai = {one.nai: one for one in nodes if one.nai}

    def by_home_address(self, address: IPv4Address) -> MobileNode | None:
        return self._by_home.get(address)

    def by_nai(self, nai: str) -> MobileNode | None:
        return self._by_nai.get(nai)


def policy(**changes: object) -> HomeAgentPolicy:
    settings: dict[str, object] = {
        "name": "x-ha",
        "address": HOME_AGENT,
        "placement": Placement.OUTSIDE,
        "networks": (VIRTUAL, PHYSICAL),
        "nodes": Nodes(LAPTOP, PHONE, TABLET),
        "pools": {"virtual": AddressPool("virtual", IPv4Network(POOL))},
        "public_addresses": (PUBLIC,),
        "other_home_agents": frozenset({OTHER_HOME_AGENT}),
    }
    return HomeAgentPolicy(**(settings | changes))  # type: ignore[arg-type]


def trusting(address: IPv4Address = FOREIGN_AGENT, *, required: bool = True) -> dict[str, object]:
    return {"peer_agents": {address: PeerAgent(address, (FA_KEY,), required)}}


@dataclass
class Answers:
    """What came of a call, sorted."""

    outputs: Sequence[Output]

    def of(self, kind: type) -> list:
        return [one for one in self.outputs if isinstance(one, kind)]

    @property
    def transmits(self) -> list[Transmit]:
        return self.of(Transmit)

    @property
    def reply(self) -> RegistrationReply:
        (one,) = [x for x in self.transmits if x.message[0] == 3]
        return RegistrationReply.parse(one.message)

    @property
    def code(self) -> int:
        return self.reply.code

    @property
    def path(self) -> Path:
        (one,) = [x for x in self.transmits if x.message[0] == 3]
        return one.path

    @property
    def set(self) -> MobilityBinding:
        (one,) = self.of(SetBinding)
        return one.binding

    @property
    def removed(self) -> list[RemoveBinding]:
        return self.of(RemoveBinding)

    @property
    def kept(self) -> list[Keep]:
        return self.of(Keep)

    @property
    def forgotten(self) -> list[Forget]:
        return self.of(Forget)

    @property
    def events(self) -> list[Event]:
        return self.of(Event)

    @property
    def event(self) -> Event:
        (one,) = self.events
        return one

    @property
    def udp(self) -> UdpTunnelReply | None:
        return self.reply.first(UdpTunnelReply)

    @property
    def zero_overhead(self) -> IPv4Address | None:
        found = self.reply.first(ZeroOverheadConfirmation)
        return found.destination if found else None


@dataclass
class World:
    """A home agent and its clocks."""

    policy: HomeAgentPolicy = field(default_factory=policy)
    now: float = 1000.0
    wall: float = 1.9e9
    seed: int = 7

    def __post_init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.agent = self._new()

    def _new(self) -> HomeAgent:
        chance = random.Random(self.seed)
        return HomeAgent(self.policy, random=chance.randbytes, wall_clock=lambda: self.wall)

    def take(self) -> Answers:
        outputs = self.agent.take_outputs()
        for one in outputs:
            if isinstance(one, Keep):
                self.records[one.key] = one.record
            elif isinstance(one, Forget):
                self.records.pop(one.key, None)
        return Answers(outputs)

    def pass_time(self, seconds: float) -> Answers:
        self.now += seconds
        self.wall += seconds
        self.agent.handle_timer(self.now)
        return self.take()

    def send(
        self,
        octets: bytes,
        source: IPv4Address = CARE_OF,
        port: int = 434,
        to: IPv4Address = HOME_AGENT,
    ) -> Answers:
        path = Path(Endpoint(to, 434), Endpoint(source, port))
        self.agent.receive(octets, path, self.now)
        return self.take()

    def tick(self) -> int:
        """An identification that is newer than all before."""
        self.now += 0.01
        self.wall += 0.01
        return ntp(self.wall)

    def register(
        self, source: IPv4Address | None = None, port: int = 434, **wanted: object
    ) -> Answers:
        """Send an honest request; see :func:`request` for what may be said."""
        wanted.setdefault("identification", self.tick())
        octets = request(**wanted)  # type: ignore[arg-type]
        care_of = wanted.get("care_of", CARE_OF)
        assert isinstance(care_of, IPv4Address)
        return self.send(octets, source or care_of, port)

    def restart(self, downtime_s: float = 1.0, *, tidy: bool = False) -> Answers:
        if tidy:
            self.agent.close(self.now)
            self.take()
        self.wall += downtime_s
        self.now = 5.0
        self.agent = self._new()
        self.agent.restore(list(self.records.values()), self.now)
        return self.take()

    @property
    def bound(self) -> dict[str, tuple[str, ...]]:
        return {one.home_address: one.care_of_addresses for one in self.agent.bindings(self.now)}


def request(
    flags: RequestFlag = D | T,
    lifetime: int = 300,
    home: IPv4Address = HOME,
    agent: IPv4Address = HOME_AGENT,
    care_of: IPv4Address = CARE_OF,
    identification: int = 0,
    nai: str = "",
    extensions: Sequence[Extension] = (),
    key: SecurityAssociation | None = KEY,
    behind: Sequence[Extension] = (),
    fa_key: SecurityAssociation | None = None,
) -> bytes:
    """A signed request: ``extensions`` are the mobile node's, ``behind`` the foreign agent's."""
    said = ((Nai(nai),) if nai else ()) + tuple(extensions)
    octets = RegistrationRequest(
        flags, lifetime, home, agent, care_of, identification, said
    ).serialize()
    if key is not None:
        octets = authentication.sign(octets, AuthenticationKind.MOBILE_HOME, key)
    octets += b"".join(one.serialize() for one in behind)
    if fa_key is not None:
        octets = authentication.sign(octets, AuthenticationKind.FOREIGN_HOME, fa_key)
    return octets


def authentic(
    octets: bytes,
    reply: RegistrationReply,
    key: SecurityAssociation = KEY,
    kind: AuthenticationKind = AuthenticationKind.MOBILE_HOME,
) -> bool:
    (found,) = reply.authentications(kind)
    return authentication.verify(octets, found, key)


__all__ = ["Authentication", "RevocationSupport", "UdpTunnelRequest"]

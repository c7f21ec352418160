"""A foreign agent in virtual time, a mobile node on its link, home agents made of octets."""

import random
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Event
from gateway.domain.mobility import MIP_PORT
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.extensions import AuthenticationKind, Extension
from gateway.mip_agents.codec.registration import (
    RegistrationReply,
    RegistrationRequest,
    RequestFlag,
)
from gateway.mip_agents.foreign_agent.engine import ForeignAgent
from gateway.mip_agents.outputs import (
    Link,
    Output,
    RemoveVisitor,
    SetVisitor,
    Transmit,
    TransmitAdvertisement,
)
from gateway.mip_agents.policy import ForeignAgentPolicy, PeerAgent, SecurityAssociation

CARE_OF = IPv4Address("198.51.100.1")
HOME_AGENT = IPv4Address("192.0.2.10")
X_HOME_AGENT = IPv4Address("203.0.113.10")
HOME = IPv4Address("10.1.0.5")
OTHER_HOME = IPv4Address("10.1.0.6")
ZERO = IPv4Address(0)
LINK = "lan0"
MAC = bytes.fromhex("02000000000a")
OTHER_MAC = bytes.fromhex("02000000000b")
PORT = 40000
MOBILE_HOME = SecurityAssociation(0x1000, b"the home agent's key")
MOBILE_FOREIGN = SecurityAssociation(0x2000, b"the foreign agent's key")
FOREIGN_HOME = SecurityAssociation(0x3000, b"what the agents share")
WALL_S = 1_800_000_000.0
IDENTIFICATION = 0x0123_4567_89AB_CDEF

PEER = PeerAgent(HOME_AGENT, (FOREIGN_HOME,))
PEERS = {HOME_AGENT: PEER}


def policy(**changes: object) -> ForeignAgentPolicy:
    """A policy that advertises nothing by itself."""
    plain = ForeignAgentPolicy("fa", CARE_OF, LINK, advertisement_interval_s=0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def request(
    *,
    flags: int = RequestFlag.REVERSE,
    lifetime_s: int = 600,
    home: IPv4Address = HOME,
    home_agent: IPv4Address = HOME_AGENT,
    care_of: IPv4Address = CARE_OF,
    identification: int = IDENTIFICATION,
    extensions: Sequence[Extension] = (),
    behind: Sequence[Extension] = (),
    signed: bool = True,
    proof: SecurityAssociation | None = None,
) -> bytes:
    """A request of a mobile node; ``behind`` stands after what the home agent believes."""
    octets = RegistrationRequest(
        RequestFlag(flags),
        lifetime_s,
        home,
        home_agent,
        care_of,
        identification,
        tuple(extensions),
    ).serialize()
    if signed:
        octets = sign(octets, AuthenticationKind.MOBILE_HOME, MOBILE_HOME)
    octets += b"".join(one.serialize() for one in behind)
    return sign(octets, AuthenticationKind.MOBILE_FOREIGN, proof) if proof else octets


def reply(
    *,
    code: int = 0,
    lifetime_s: int = 600,
    home: IPv4Address = HOME,
    home_agent: IPv4Address = HOME_AGENT,
    identification: int = IDENTIFICATION,
    extensions: Sequence[Extension] = (),
    behind: Sequence[Extension] = (),
    signed: bool = True,
    peer: SecurityAssociation | None = None,
) -> bytes:
    """A reply of a home agent; ``behind`` stands after what the mobile node believes."""
    octets = RegistrationReply(
        code, lifetime_s, home, home_agent, identification, tuple(extensions)
    ).serialize()
    if signed:
        octets = sign(octets, AuthenticationKind.MOBILE_HOME, MOBILE_HOME)
    octets += b"".join(one.serialize() for one in behind)
    return sign(octets, AuthenticationKind.FOREIGN_HOME, peer) if peer else octets


class World:
    """The agent, its clock, and what it did last."""

    def __init__(self, **changes: object) -> None:
        self.now = 100.0
        self.policy = policy(**changes)
        self.agent = ForeignAgent(
            self.policy,
            random=random.Random(7).randbytes,
            wall_clock=lambda: WALL_S + self.now,
        )
        self.outputs: list[Output] = []

    def took(self) -> list[Output]:
        self.outputs = self.agent.take_outputs()
        return self.outputs

    def asks(
        self,
        octets: bytes,
        *,
        mac: bytes = MAC,
        source: IPv4Address = HOME,
        port: int = PORT,
        local: IPv4Address = CARE_OF,
        interface: str | None = None,
        ttl: int | None = 255,
    ) -> list[Output]:
        """A mobile node sends a request."""
        path = Path(Endpoint(local, MIP_PORT), Endpoint(source, port))
        link = Link(self.policy.interface if interface is None else interface, mac)
        self.agent.receive(octets, path, self.now, link, ttl)
        return self.took()

    def hears(
        self,
        octets: bytes,
        *,
        source: IPv4Address = HOME_AGENT,
        port: int = MIP_PORT,
        interface: str = "wan0",
    ) -> list[Output]:
        """A home agent sends something."""
        path = Path(Endpoint(CARE_OF, MIP_PORT), Endpoint(source, port))
        self.agent.receive(octets, path, self.now, Link(interface, b"\x02\xff\xff\xff\xff\xff"))
        return self.took()

    def registers(self, **fields: object) -> list[Output]:
        """A request and its acceptance; what came of the acceptance."""
        mac = fields.pop("mac", MAC)
        peer = fields.pop("peer", None)
        common = ("home", "home_agent", "identification", "lifetime_s")
        same = {key: value for key, value in fields.items() if key in common}
        home_agent = fields.get("home_agent", HOME_AGENT)
        source = fields.get("home", HOME)
        self.asks(request(**fields), mac=mac, source=source)  # type: ignore[arg-type]
        return self.hears(
            reply(**same, peer=peer),  # type: ignore[arg-type]
            source=home_agent,  # type: ignore[arg-type]
        )

    def passes(self, seconds: float) -> list[Output]:
        """Time goes by, with every timer at its time."""
        until = self.now + seconds
        collected: list[Output] = []
        while (due := self.agent.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.agent.handle_timer(self.now)
            collected += self.agent.take_outputs()
        self.now = until
        self.outputs = collected
        return collected

    # -- what came out ----------------------------------------------------------------------

    def transmits(self) -> list[Transmit]:
        return [one for one in self.outputs if isinstance(one, Transmit)]

    def to_node(self) -> list[tuple[RegistrationReply, Transmit]]:
        """Replies that mobile nodes get."""
        return [
            (RegistrationReply.parse(one.message), one)
            for one in self.transmits()
            if one.message[0] == 3
        ]

    def relayed(self) -> list[tuple[RegistrationRequest, Transmit]]:
        """Requests that home agents get."""
        return [
            (RegistrationRequest.parse(one.message), one)
            for one in self.transmits()
            if one.message[0] == 1
        ]

    def code(self) -> int:
        """Of the one reply that a mobile node got."""
        ((got, _),) = self.to_node()
        return got.code

    def set_visitors(self) -> list[SetVisitor]:
        return [one for one in self.outputs if isinstance(one, SetVisitor)]

    def removed(self) -> list[RemoveVisitor]:
        return [one for one in self.outputs if isinstance(one, RemoveVisitor)]

    def advertisements(self) -> list[TransmitAdvertisement]:
        return [one for one in self.outputs if isinstance(one, TransmitAdvertisement)]

    def events(self, name: str) -> list[Event]:
        return [one for one in self.outputs if isinstance(one, Event) and one.name == name]

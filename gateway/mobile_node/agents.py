"""Hears mobility agents on one link (RFC 5944 section 2.4)."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.domain.event import Event
from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.advertisement import AgentAdvertisement
from gateway.mobile_node.outputs import Solicit


@dataclass(frozen=True, slots=True)
class Agent:
    """A mobility agent as its newest advertisement describes it. None of it is proven."""

    interface: str
    address: IPv4Address
    """Source of the advertisement: where requests go."""
    link_address: bytes
    care_of_addresses: tuple[IPv4Address, ...]
    longest_lifetime_s: int
    foreign: bool
    home: bool
    busy: bool
    registration_required: bool
    reverse_tunnelling: bool
    udp_tunnelling: bool
    encapsulations: frozenset[Encapsulation]
    nai: str
    challenge: bytes
    prefix_length: int | None
    """Of the agent's link, when told."""
    expires_at: float
    advertisement: AgentAdvertisement


@dataclass(frozen=True, slots=True)
class AgentHeard:
    """An agent is there that was not, or that has forgotten everybody: time to register."""

    agent: Agent
    restarted: bool
    """Known before, but its sequence numbers began anew."""


@dataclass(frozen=True, slots=True)
class AgentLost:
    """Its advertisements' lifetime is over: the node has moved, or the agent is gone."""

    agent: Agent


@dataclass(frozen=True, slots=True)
class ChallengeHeard:
    """The agent has a new challenge; the next request needs it."""

    agent: Agent


AgentOutput = AgentHeard | AgentLost | ChallengeHeard | Solicit | Event


class AgentListener:
    """The agents of one link."""

    def __init__(self, interface: str, *, random: Callable[[int], bytes]) -> None:
        raise NotImplementedError

    def start(self, now: float) -> None:
        """The link is new, or may be another one: forget all agents and solicit."""
        raise NotImplementedError

    def stop(self) -> None:
        """The link is gone."""
        raise NotImplementedError

    def receive(self, octets: bytes, source: IPv4Address, link_address: bytes, now: float) -> bool:
        """Take an ICMP message; whether it was an agent's advertisement. Never raises."""
        raise NotImplementedError

    def current(self, now: float) -> Agent | None:
        """The foreign agent to register with: the one in use while it lasts, else the best."""
        raise NotImplementedError

    def agents(self, now: float) -> tuple[Agent, ...]:
        """All that are there."""
        raise NotImplementedError

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is to be called next, or None."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    def take_outputs(self) -> list[AgentOutput]:
        """Everything since the last call, in order."""
        raise NotImplementedError

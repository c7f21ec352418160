"""Hears mobility agents on one link (RFC 5944 section 2.4).

Nobody signs advertisements: they say where a registration may be tried, and prove nothing.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.event import Event, Severity
from gateway.domain.mobility import Encapsulation
from gateway.domain.timers import Timers
from gateway.domain.token_bucket import TokenBucket
from gateway.domain.wire import WireError
from gateway.mip_agents.advertisement import (
    FIRST_SEQUENCE_AFTER_ROLLOVER,
    ICMP_ROUTER_ADVERTISEMENT,
    AgentAdvertisement,
    AgentFlag,
)
from gateway.mip_agents.policy import INFINITE_LIFETIME_S
from gateway.mobile_node.outputs import Solicit
from gateway.mobile_node.registering.outcome import Via

FIRST_SOLICITATIONS: Final = 3
"""At one a second; the interval doubles from then on."""
FIRST_INTERVAL_S: Final = 1.0
LONGEST_INTERVAL_S: Final = 60.0
JITTER: Final = 0.1
"""Intervals are longer by up to this share, so that a room of nodes does not ask as one."""
ASK_AGAIN_AFTER: Final = 2 / 3
"""Of an advertisement's lifetime without a newer one, the agent is asked whether it is there."""
MAX_AGENTS: Final = 16
LINES_PER_MINUTE: Final = 6.0
"""In the log, of agents that come and go on a link; further ones are of level debug."""
LONGEST_LIFETIME_S: Final = 9000
"""RFC 1256 section 4.1."""
OVERTAKEN: Final = 16
"""A sequence number that is less than so much behind comes late, it is no rollover."""
_Key = tuple[IPv4Address, bytes]


@dataclass(frozen=True, slots=True)
class Agent:
    """A mobility agent as its newest advertisement describes it. None of it is proven."""

    interface: str | None
    """None: the one behind the VPN, whose advertisement IKE carries (draft 001, appendix B.2)."""
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

    def via(self, source: IPv4Address, care_of_address: IPv4Address | None = None) -> Via:
        """How to register by way of it.

        ``source`` is the home address; or the node's own address when that is to be the
        care-of address, given again as ``care_of_address`` (the R bit demands to ask here).
        Raises IndexError for an agent without care-of addresses.
        """
        co_located = care_of_address is not None
        return Via(
            self.interface,
            source,
            self.address,
            self.care_of_addresses[0] if care_of_address is None else care_of_address,
            co_located,
            self.link_address,
            self.challenge,
            frozenset(Encapsulation) if co_located else self.encapsulations,
            self.longest_lifetime_s or INFINITE_LIFETIME_S,
        )


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


def describe_agent(
    advertisement: AgentAdvertisement,
    interface: str | None,
    address: IPv4Address,
    link_address: bytes,
    now: float,
) -> Agent:
    """What an advertisement says of the agent that sent it from ``address``."""
    flags = advertisement.flags
    encapsulations = {Encapsulation.IP_IP}
    if flags & AgentFlag.MINIMAL_ENCAPSULATION:
        encapsulations.add(Encapsulation.MINIMAL)
    if flags & AgentFlag.GRE:
        encapsulations.add(Encapsulation.GRE)
    prefixes = zip(advertisement.routers, advertisement.prefix_lengths, strict=False)
    care_of = tuple(one for one in advertisement.care_of_addresses if _is_host(one))
    return Agent(
        interface,
        address,
        link_address,
        care_of,
        advertisement.registration_lifetime_s,
        foreign=bool(flags & AgentFlag.FOREIGN_AGENT and care_of),
        home=bool(flags & AgentFlag.HOME_AGENT),
        busy=bool(flags & AgentFlag.BUSY),
        registration_required=bool(flags & AgentFlag.REGISTRATION_REQUIRED),
        reverse_tunnelling=bool(flags & AgentFlag.REVERSE_TUNNELLING),
        udp_tunnelling=bool(flags & AgentFlag.UDP_TUNNELLING),
        encapsulations=frozenset(encapsulations),
        nai=advertisement.nai or "",
        challenge=advertisement.challenge or b"",
        prefix_length=next((n for router, n in prefixes if router.address == address), None),
        expires_at=now + min(advertisement.lifetime_s, LONGEST_LIFETIME_S),
        advertisement=advertisement,
    )


class AgentListener:
    """The agents of one link. ``random`` yields that many random octets."""

    def __init__(self, interface: str, *, random: Callable[[int], bytes]) -> None:
        self.interface = interface
        self._random = random
        self._agents: dict[_Key, Agent] = {}
        self._chosen: _Key | None = None
        self._passed_over: dict[_Key, float] = {}
        self._timers: Timers[Hashable] = Timers()
        self._outputs: list[AgentOutput] = []
        self._solicited = 0
        self._solicited_at: float | None = None
        self._interval_s = FIRST_INTERVAL_S
        self._lines = TokenBucket(LINES_PER_MINUTE / 60, LINES_PER_MINUTE)

    # -- the link ----------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """The link is new, or may be another one: forget all agents and solicit."""
        self.stop()
        self._seek(now)

    def stop(self) -> None:
        """The link is gone."""
        self._agents.clear()
        self._passed_over.clear()
        self._chosen = None
        self._timers = Timers()

    def take_outputs(self) -> list[AgentOutput]:
        """Everything since the last call, in order."""
        taken = self._outputs.copy()
        self._outputs.clear()
        return taken

    # -- advertisements ----------------------------------------------------------------------

    def receive(self, octets: bytes, source: IPv4Address, link_address: bytes, now: float) -> bool:
        """Take an ICMP message; whether it was an agent's advertisement. Never raises."""
        if octets[:1] != bytes([ICMP_ROUTER_ADVERTISEMENT]) or not _is_host(source):
            return False
        try:
            advertisement = AgentAdvertisement.parse(octets)
        except WireError:
            return False
        key = (source, link_address)
        before = self._agents.get(key)
        if before is not None and _overtaken(advertisement, before.advertisement):
            return True
        agent = describe_agent(advertisement, self.interface, source, link_address, now)
        if not advertisement.lifetime_s:
            # RFC 1256: that is how an agent says that it stops.
            self._lose(key, now)
            return True
        if before is None and not self._make_room():
            return True
        self._agents[key] = agent
        self._watch(key, agent, now)
        if agent.foreign:
            self._timers.cancel("solicit")
        self._tell(before, agent, now)
        return True

    def _make_room(self) -> bool:
        """A flood of made-up agents does not drive out the one in use."""
        if len(self._agents) < MAX_AGENTS:
            return True
        others = [key for key in self._agents if key != self._chosen]
        soonest = min(others, key=lambda key: self._agents[key].expires_at, default=None)
        if soonest is None:
            return False
        self._forget(soonest)
        return True

    def _tell(self, before: Agent | None, agent: Agent, now: float) -> None:
        restarted = before is not None and agent.advertisement.restarted_since(before.advertisement)
        if before is None or restarted:
            self._outputs.append(AgentHeard(agent, restarted))
            what = "has restarted" if restarted else "is here"
            busy = ", and busy" if agent.busy else ""
            self._log("agent_heard", agent, f"{what}{busy}", now)
        elif agent.challenge != before.challenge and agent.challenge:
            self._outputs.append(ChallengeHeard(agent))

    def _log(self, name: str, agent: Agent, what: str, now: float) -> None:
        # A neighbour can make any number of agents up: they must not fill a disk.
        worth = agent.foreign and self._lines.take(now)
        role = "foreign agent" if agent.foreign else "home agent" if agent.home else "agent"
        nai = f" ({agent.nai})" if agent.nai else ""
        self._outputs.append(
            Event(
                name,
                f"{self.interface}: {role} {agent.address}{nai} {what}",
                Severity.INFO if worth else Severity.DEBUG,
                {
                    "interface": self.interface,
                    "agent": str(agent.address),
                    "link_address": agent.link_address.hex(":"),
                    "nai": agent.nai,
                    "care_of_addresses": [str(one) for one in agent.care_of_addresses],
                    "foreign": agent.foreign,
                    "home": agent.home,
                    "busy": agent.busy,
                },
            )
        )

    # -- who is there ------------------------------------------------------------------------

    def current(self, now: float) -> Agent | None:
        """The foreign agent to register with: the one in use while it lasts, else the best.

        The best is one that is not busy, and of those the one that stays longest.
        """
        chosen = None if self._chosen is None else self._agents.get(self._chosen)
        if chosen is not None and chosen.foreign and chosen.expires_at > now:
            return chosen
        fit = [
            one
            for one in self.agents(now)
            if one.foreign
            and not one.busy
            and self._passed_over.get((one.address, one.link_address), now) <= now
        ]
        best = max(fit, key=lambda one: one.expires_at, default=None)
        self._chosen = None if best is None else (best.address, best.link_address)
        return best

    def pass_over(self, agent: Agent, until: float) -> None:
        """It refuses us: :meth:`current` takes another one for so long, if there is any."""
        key = (agent.address, agent.link_address)
        if key in self._agents:
            self._passed_over[key] = until
            if self._chosen == key:
                self._chosen = None

    def agents(self, now: float) -> tuple[Agent, ...]:
        """All that are there."""
        return tuple(one for one in self._agents.values() if one.expires_at > now)

    # -- time --------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is to be called next, or None."""
        return self._timers.next_at()

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for timer in self._timers.due(now):
            if timer == "solicit":
                self._solicit(now)
            elif isinstance(timer, tuple):
                self._review((timer[0], timer[1]), now)

    def _watch(self, key: _Key, agent: Agent, now: float) -> None:
        self._timers.set(key, now + ASK_AGAIN_AFTER * (agent.expires_at - now))

    def _review(self, key: _Key, now: float) -> None:
        """An agent was silent for long: ask, and in the end believe that it is gone."""
        agent = self._agents.get(key)
        if agent is None:
            return
        if agent.expires_at <= now:
            self._lose(key, now)
            return
        self._timers.set(key, agent.expires_at)
        last = self._solicited_at
        lately = last is not None and now < last + FIRST_INTERVAL_S
        if agent.foreign and not lately and "solicit" not in self._timers:
            self._emit_solicitation(now)

    def _lose(self, key: _Key, now: float) -> None:
        agent = self._agents.get(key)
        if agent is None:
            return
        self._forget(key)
        self._outputs.append(AgentLost(agent))
        self._log("agent_lost", agent, "is gone", now)
        if not any(one.foreign for one in self._agents.values()):
            self._seek(now)

    def _forget(self, key: _Key) -> None:
        self._agents.pop(key, None)
        self._passed_over.pop(key, None)
        self._timers.cancel(key)
        if self._chosen == key:
            self._chosen = None

    # -- solicitations -----------------------------------------------------------------------

    def _seek(self, now: float) -> None:
        if "solicit" in self._timers:
            return
        self._solicited = 0
        self._interval_s = FIRST_INTERVAL_S
        # However often the link changes, one a second is the most.
        last = self._solicited_at
        self._timers.set("solicit", now if last is None else max(now, last + FIRST_INTERVAL_S))

    def _solicit(self, now: float) -> None:
        self._emit_solicitation(now)
        self._solicited += 1
        if self._solicited >= FIRST_SOLICITATIONS:
            self._interval_s = min(self._interval_s * 2, LONGEST_INTERVAL_S)
        jitter = 1 + JITTER * int.from_bytes(self._random(2)) / 0x10000
        self._timers.set("solicit", now + self._interval_s * jitter)

    def _emit_solicitation(self, now: float) -> None:
        self._solicited_at = now
        self._outputs.append(Solicit(self.interface))


def _overtaken(advertisement: AgentAdvertisement, newest: AgentAdvertisement) -> bool:
    """Sent before the one that was heard last (RFC 5944 section 2.3.2)."""
    behind = newest.sequence - advertisement.sequence
    return 0 < behind < OVERTAKEN and advertisement.sequence >= FIRST_SEQUENCE_AFTER_ROLLOVER


def _is_host(address: IPv4Address) -> bool:
    return not (
        address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or address.is_reserved
        or int(address) >> 24 == 0
    )

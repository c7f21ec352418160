"""Agent advertisements: regular ones, and answers to solicitations (RFC 5944 sections 2.1, 2.3).

A solicitation is answered to its sender alone, once a second at most and to so many nodes a
second; what is beyond that is answered by one advertisement to everybody, at most one a second
(RFC 5944 section 2.3 wants no more). So a flood costs little and nobody goes without.
"""

import struct
from collections import OrderedDict
from ipaddress import IPv4Address

from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.advertisement import (
    FIRST_SEQUENCE_AFTER_ROLLOVER,
    MAX_OCTETS,
    AgentAdvertisement,
    AgentFlag,
    Extension,
    foreign_agent_nai,
)
from gateway.mip_agents.advertisement import challenge as challenge_extension
from gateway.mip_agents.foreign_agent import records
from gateway.mip_agents.foreign_agent.addresses import UNSPECIFIED, is_unicast
from gateway.mip_agents.foreign_agent.core import Core, TimerKind
from gateway.mip_agents.foreign_agent.refusal import Discarded
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry
from gateway.mip_agents.outputs import Forget, Keep, Link, TransmitAdvertisement
from gateway.mip_agents.policy import Allowance, ForeignAgentPolicy

LAST_SEQUENCE = 0xFFFF
INITIAL_ADVERTISEMENTS = 3
INITIAL_INTERVAL_S = 16.0
"""The first ones come at least this often (RFC 1256 section 5)."""
SHORTEST_SHARE = 0.75
"""An interval is between this share of the configured one and all of it, by chance."""
ANSWER_INTERVAL_S = 1.0
ANSWERS_PER_S = 20.0
MAX_REMEMBERED = 1024
"""Askers whose last answer is remembered."""

ICMP_SOLICITATION = 10
SOLICITATION_OCTETS = 8
_TIMER = (TimerKind.ADVERTISEMENT, None)
_SOLICITED = (TimerKind.SOLICITED, None)
_SOLICITATION = struct.Struct("!BBHI")


class Advertising:
    """What this agent says about itself, and when."""

    __slots__ = ("_answered", "_core", "_last_multicast", "_sent", "_sequence", "_tokens", "_when")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sequence = 0
        self._sent = 0
        self._answered: OrderedDict[bytes, float] = OrderedDict()
        self._last_multicast = float("-inf")
        self._tokens = ANSWERS_PER_S
        self._when = float("-inf")
        self.restart(0.0)

    def restart(self, now: float) -> None:
        """Start over with the intervals: at boot, and when the policy changed."""
        self._sent = 0
        if self._unsolicited():
            self._core.timers.set(_TIMER, now)
        else:
            self._core.timers.cancel(_TIMER)

    def go_on_after(self, sequence: int) -> None:
        """The last process advertised this one, and perhaps a few more."""
        for _ in range(2 * records.SEQUENCES):
            sequence = next_sequence(sequence)
        self._sequence = sequence
        self._remember()

    def _remember(self) -> None:
        record = records.write_sequence(self._sequence)
        self._core.outputs.append(Keep(records.sequence_key(self._core.policy.name), record))

    def _unsolicited(self) -> bool:
        policy = self._core.policy
        return policy.advertisement_interval_s > 0 and not policy.through_vpn

    def advertisement(
        self, challenge: bytes = b"", lifetime_s: int | None = None
    ) -> AgentAdvertisement:
        """What is said now. Inside IKE, without a challenge: its receiver has proved itself."""
        core = self._core
        return describe_agent(core.policy, self._sequence, core.busy(), challenge, lifetime_s)

    def due(self, now: float) -> None:
        """A regular advertisement, and the time of the next."""
        if not self._unsolicited():
            return
        self._multicast(now)
        interval_s = self._core.policy.advertisement_interval_s
        if self._sent <= INITIAL_ADVERTISEMENTS:
            interval_s = min(interval_s, INITIAL_INTERVAL_S)
        share = SHORTEST_SHARE + (1 - SHORTEST_SHARE) * self._core.fraction()
        self._core.timers.set(_TIMER, now + interval_s * share)

    def solicited_due(self, now: float) -> None:
        """One answer for all who have asked since."""
        self._multicast(now)

    def farewell(self) -> None:
        """The agent stops: what it advertised is no longer good (RFC 1256 section 4.3)."""
        if self._unsolicited():
            self._send(b"", None, Link(self._core.policy.interface), lifetime_s=0)
        # Nobody is a visitor any more: the next process shall look like a restart.
        self._core.outputs.append(Forget(records.sequence_key(self._core.policy.name)))

    def solicited(self, message: bytes, source: IPv4Address, link: Link, now: float) -> None:
        """Answer an ICMP router solicitation; raise Discarded."""
        core = self._core
        _check_solicitation(message, source)
        if link.interface != core.policy.interface or core.policy.through_vpn:
            raise Discarded(
                "foreign_link", f"a solicitation of {source}: it came over {link.interface}"
            )
        core.counters["solicitations"] += 1
        # Who has no address, or none on the link that we know, cannot be answered alone.
        if source != UNSPECIFIED and link.address:
            if self._answered_just_now(link.address, now):
                core.counters["solicitations_repeated"] += 1
                return
            if self._take_token(now):
                self._answer(source, link, now)
                return
        if _SOLICITED not in core.timers:
            core.timers.set(_SOLICITED, max(now, self._last_multicast + ANSWER_INTERVAL_S))

    def _answer(self, source: IPv4Address, link: Link, now: float) -> None:
        self._answered[link.address] = now
        self._answered.move_to_end(link.address)
        if len(self._answered) > MAX_REMEMBERED:
            self._answered.popitem(last=False)
        self._core.counters["solicitations_answered"] += 1
        self._send(self._challenge(), source, link)

    def inform(self, entry: VisitorEntry) -> None:
        """Let a mobile node know that its registration is gone (RFC 3543 section 4.1).

        It takes an advertisement with sequence number 0 for a restart of the agent, and registers
        again.
        """
        policy = self._core.policy
        if policy.through_vpn or not entry.link.address:
            return
        message = describe_agent(policy, 0, self._core.busy(), self._challenge(), None).serialize()
        self._core.outputs.append(TransmitAdvertisement(message, entry.link, entry.reached_at))

    def _answered_just_now(self, address: bytes, now: float) -> bool:
        last = self._answered.get(address)
        return last is not None and now - last < ANSWER_INTERVAL_S

    def _take_token(self, now: float) -> bool:
        gained = (now - self._when) * ANSWERS_PER_S
        self._tokens = min(ANSWERS_PER_S, self._tokens + gained)
        self._when = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _challenge(self) -> bytes:
        policy = self._core.policy
        return self._core.challenges.current() if policy.challenge else b""

    def _multicast(self, now: float) -> None:
        core = self._core
        core.timers.cancel(_SOLICITED)
        challenge = core.challenges.advertise() if core.policy.challenge else b""
        self._last_multicast = now
        self._sent += 1
        core.counters["advertisements"] += 1
        self._send(challenge, None, Link(core.policy.interface))

    def _send(
        self,
        challenge: bytes,
        destination: IPv4Address | None,
        link: Link,
        lifetime_s: int | None = None,
    ) -> None:
        message = self.advertisement(challenge, lifetime_s).serialize()
        self._sequence = next_sequence(self._sequence)
        if self._sequence % records.SEQUENCES == 1:
            self._remember()
        self._core.outputs.append(TransmitAdvertisement(message, link, destination))


def next_sequence(sequence: int) -> int:
    """RFC 5944 section 2.3.2: 256 comes after 65535, so that 0 always means a restart."""
    return FIRST_SEQUENCE_AFTER_ROLLOVER if sequence >= LAST_SEQUENCE else sequence + 1


def describe_agent(
    policy: ForeignAgentPolicy,
    sequence: int,
    busy: bool,
    challenge: bytes,
    lifetime_s: int | None,
) -> AgentAdvertisement:
    """The advertisement of a foreign agent with this policy."""
    flags = AgentFlag.FOREIGN_AGENT
    flags |= _if(
        policy.registration_required or policy.through_vpn, AgentFlag.REGISTRATION_REQUIRED
    )
    flags |= _if(busy, AgentFlag.BUSY)
    flags |= _if(Encapsulation.MINIMAL in policy.encapsulations, AgentFlag.MINIMAL_ENCAPSULATION)
    flags |= _if(Encapsulation.GRE in policy.encapsulations, AgentFlag.GRE)
    flags |= _if(
        policy.through_vpn or policy.reverse_tunnelling is not Allowance.OFF,
        AgentFlag.REVERSE_TUNNELLING,
    )
    flags |= _if(policy.udp_tunnelling is not Allowance.OFF, AgentFlag.UDP_TUNNELLING)
    flags |= _if(policy.revocation, AgentFlag.REVOCATION)
    extensions: list[Extension] = []
    if challenge:
        extensions.append(challenge_extension(challenge))
    if policy.nai:
        extensions.append(foreign_agent_nai(policy.nai))
    return AgentAdvertisement(
        sequence,
        policy.lifetime_s,
        flags,
        (policy.care_of_address,),
        policy.advertisement_lifetime_s if lifetime_s is None else lifetime_s,
        extensions=tuple(extensions),
        routes_common_traffic=False,
    )


def _if(condition: bool, flag: AgentFlag) -> AgentFlag:
    return flag if condition else AgentFlag(0)


def _check_solicitation(message: bytes, source: IPv4Address) -> None:
    if not SOLICITATION_OCTETS <= len(message) <= MAX_OCTETS:
        raise Discarded("malformed", f"a solicitation of {source} of {len(message)} octets")
    kind, code, _, _ = _SOLICITATION.unpack_from(message)
    if kind != ICMP_SOLICITATION or code != 0:
        raise Discarded("malformed", f"ICMP type {kind} code {code} of {source}: no solicitation")
    if internet_checksum(message) != 0:
        raise Discarded("malformed", f"a solicitation of {source} with a wrong checksum")
    if source != UNSPECIFIED and not is_unicast(source):
        raise Discarded("source", f"a solicitation of {source}: no host has that address")

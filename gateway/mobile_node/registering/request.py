"""What a registration request asks for, and its octets (RFC 5944 section 3.6.1)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    Challenge,
    Extension,
    Nai,
    RevocationSupport,
    UdpTunnelRequest,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.numbers import FIRST_SPI
from gateway.mip_agents.codec.registration import RegistrationRequest, RequestFlag
from gateway.mip_agents.codec.ticket import MAX_TICKET_OCTETS, ticket_extension
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.outcome import Via

_FLAG = {
    Encapsulation.IP_IP: RequestFlag(0),
    Encapsulation.MINIMAL: RequestFlag.MINIMAL,
    Encapsulation.GRE: RequestFlag.GRE,
}


MAX_NAI_OCTETS = 255


def check_policy(policy: HomeAgentPolicy) -> None:
    """Raise ValueError for what fits no request."""
    limits = (
        ("SPI", policy.association.spi, FIRST_SPI, 0xFFFF_FFFF),
        ("lifetime", policy.lifetime_s, 1, 0xFFFF),
        ("NAI's octets", len(policy.nai.encode()), 0, MAX_NAI_OCTETS),
        ("ticket's octets", len(policy.ticket), 0, MAX_TICKET_OCTETS),
    )
    for what, given, least, most in limits:
        if not least <= given <= most:
            raise ValueError(
                f"home agent {policy.home_agent}: {what}: {given}; {least} to {most} are allowed"
            )


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; refusals take from it until it fits."""

    lifetime_s: int
    """0 deregisters."""
    encapsulation: Encapsulation
    zero_overhead: IPv4Address | None = None
    """The default destination to switch addresses for (draft 001, appendix D)."""
    plain: bool = False
    """Without what an old home agent may stumble over."""
    challenge: bytes = field(default=b"")
    """The foreign agent's, given back."""


def first_wish(
    policy: HomeAgentPolicy,
    via: Via,
    lifetime_s: int | None,
    default_destination: IPv4Address | None,
) -> Wish:
    """Everything that the policy wants and the way there allows."""
    wanted = policy.lifetime_s if lifetime_s is None else lifetime_s
    switching = (
        policy.zero_overhead and via.co_located and direct(policy, via) and not policy.force_udp
    )
    return Wish(
        min(max(wanted, 1), via.longest_lifetime_s or wanted, 0xFFFF),
        policy.encapsulation if policy.encapsulation in via.encapsulations else Encapsulation.IP_IP,
        default_destination if switching else None,
        challenge=via.challenge,
    )


def farewell(via: Via) -> Wish:
    """What a deregistration asks for."""
    return Wish(0, Encapsulation.IP_IP, challenge=via.challenge)


def direct(policy: HomeAgentPolicy, via: Via) -> bool:
    """Without a foreign agent in between."""
    return via.destination == policy.home_agent


def compose(
    policy: HomeAgentPolicy, via: Via, wish: Wish, identification: int, wall_clock_s: float
) -> bytes:
    """The datagram's payload: fields, what the home agent reads, proof, what a relay reads."""
    flags = RequestFlag.REVERSE | _FLAG[wish.encapsulation]
    if via.co_located:
        flags |= RequestFlag.CO_LOCATED
    octets = RegistrationRequest(
        flags,
        wish.lifetime_s,
        policy.home_address,
        policy.home_agent,
        via.care_of_address,
        identification,
        _for_home_agent(policy, via, wish, wall_clock_s),
    ).serialize()
    octets += ticket_extension(policy.ticket)
    octets = sign(octets, AuthenticationKind.MOBILE_HOME, policy.association)
    if wish.challenge and not direct(policy, via):
        octets += Challenge(wish.challenge).serialize()
    return octets


def _for_home_agent(
    policy: HomeAgentPolicy, via: Via, wish: Wish, wall_clock_s: float
) -> tuple[Extension, ...]:
    found: list[Extension] = []
    if policy.nai:
        found.append(Nai(policy.nai))
    if not (via.co_located and wish.lifetime_s):
        # Behind a foreign agent, UDP and revocation are its affair (RFC 3519 section 4.1,
        # RFC 3543 section 4.2.1).
        return tuple(found)
    straight = direct(policy, via)
    found.append(
        UdpTunnelRequest(policy.force_udp and straight, not straight, wish.encapsulation.protocol)
    )
    if wish.plain:
        return tuple(found)
    if wish.zero_overhead is not None:
        found.append(ZeroOverheadRequest(wish.zero_overhead))
    if straight:
        found.append(RevocationSupport(int(wall_clock_s) & 0xFFFF_FFFF))
    return tuple(found)

"""What an authentic acceptance grants; only what its authenticator covers counts."""

from dataclasses import dataclass

from gateway.dataplane.node import NodeTunnel
from gateway.domain.mobility import MIP_PORT
from gateway.mip_agents.codec.extensions import (
    Authentication,
    RevocationSupport,
    UdpTunnelReply,
    VendorExtension,
    ZeroOverheadConfirmation,
)
from gateway.mip_agents.codec.registration import RegistrationReply
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.outcome import Via
from gateway.mobile_node.registering.request import Wish

DEFAULT_KEEPALIVE_S = 110
"""When the home agent names no interval (RFC 3519 section 3.2)."""
SHORTEST_KEEPALIVE_S = 5
"""Nobody makes us send more often."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the home agent gave."""

    tunnel: NodeTunnel
    lifetime_s: int
    keepalive_s: int = 0
    """0: nothing to keep open."""
    natted: bool = False
    revocation_timestamp: int | None = None
    """The home agent's clock, if it is able to revoke (RFC 3543 section 3.2)."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """An acceptance that cannot be used."""

    why: str
    switching: bool = False
    """It confirms zero overhead other than was asked for: better not to ask for it."""


def read_grant(
    reply: RegistrationReply,
    proof: Authentication,
    policy: HomeAgentPolicy,
    via: Via,
    wish: Wish,
) -> Grant | Unfit:
    """What ``reply`` grants of ``wish``; ``proof`` is its authenticator, found right."""
    if any(type(one) is VendorExtension and one.critical for one in reply.extensions):
        return Unfit("it has a critical vendor extension that is not known here")
    if not reply.lifetime_s:
        return Unfit("it grants a lifetime of 0")
    udp = reply.first(UdpTunnelReply, proof) if via.co_located else None
    in_udp = udp is not None and udp.accepted
    confirmed = reply.first(ZeroOverheadConfirmation, proof)
    if confirmed is not None and (confirmed.destination != wish.zero_overhead or in_udp):
        return Unfit("it confirms zero overhead other than it was asked for", switching=True)
    tunnel = NodeTunnel(
        policy.home_address,
        policy.home_agent,
        via.care_of_address,
        via.co_located,
        wish.encapsulation,
        MIP_PORT if in_udp else 0,
        None if confirmed is None else confirmed.destination,
    )
    support = reply.first(RevocationSupport, proof)
    keepalive_s = 0
    natted = False
    if udp is not None and in_udp:
        keepalive_s = max(udp.keepalive_s or DEFAULT_KEEPALIVE_S, SHORTEST_KEEPALIVE_S)
        natted = not udp.forced
    return Grant(
        tunnel,
        min(reply.lifetime_s, wish.lifetime_s),
        keepalive_s,
        natted,
        None if support is None else support.timestamp,
    )

"""Whether a tunnel is carried in UDP (RFC 3519 section 4).

The outside of a NAT shows in the source address of a request: it is not the care-of address
that the sender believes to have.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.codec.extensions import UdpTunnelReply, UdpTunnelRequest
from gateway.mip_agents.home_agent import denials
from gateway.mip_agents.home_agent.addresses import is_private
from gateway.mip_agents.home_agent.denials import Denial
from gateway.mip_agents.policy import Allowance, HomeAgentPolicy

ACCEPTED = 0
_BY_PROTOCOL = {one.protocol: one for one in Encapsulation}


@dataclass(frozen=True, slots=True)
class Traversal:
    """How packets get to the care-of address."""

    remote: IPv4Address
    """Where they are sent."""
    udp_port: int = 0
    """0: no UDP."""
    encapsulation: Encapsulation | None = None
    """Inside of UDP; None: what the request's M and G bits say."""
    nat: bool = False
    reply: UdpTunnelReply | None = None


def decide(
    wanted: UdpTunnelRequest | None,
    care_of_address: IPv4Address,
    source: IPv4Address,
    source_port: int,
    policy: HomeAgentPolicy,
    *,
    co_located: bool,
    by_flags: Encapsulation,
) -> Traversal | Denial:
    """Judge the request's source against its care-of address, and what it offers.

    What forces UDP and cannot have it is denied with 129 (RFC 3519 section 3.1.1). A request whose
    source differs, but that shows no sign of a NAT, came by way of a foreign
    agent which demands that (the R bit of its advertisements).
    """
    differs = source != care_of_address
    if wanted is None:
        if differs and is_private(int(care_of_address)) and not is_private(int(source)):
            return denials.BEHIND_NAT
        return Traversal(care_of_address)
    relayed = co_located and wanted.from_foreign_agent
    if relayed:
        # The agent in between would get the UDP packets, and knows nothing of them.
        return denials.FORCED_BY_WAY_OF_AGENT if wanted.forced else Traversal(care_of_address)
    if policy.udp_tunnelling is Allowance.OFF:
        return denials.UDP_OFF if differs or wanted.forced else Traversal(care_of_address)
    if not (differs or wanted.forced or policy.udp_tunnelling is Allowance.REQUIRED):
        return Traversal(care_of_address)
    encapsulation = _BY_PROTOCOL.get(wanted.encapsulation) if wanted.encapsulation else by_flags
    if encapsulation not in policy.encapsulations or not source_port:
        return denials.UDP_ENCAPSULATION_UNAVAILABLE
    return Traversal(
        source,
        source_port,
        encapsulation,
        differs,
        UdpTunnelReply(ACCEPTED, not differs, policy.keepalive_s),
    )

"""Our care-of address at an address of the node's own, by NAR (draft 004, section 2.6.3).

A node in a private network that has an address there may register our care-of address as its
co-located one (D bit). Its home agent then tunnels to us; the tuple of those packets (home agent,
care-of address, home address) is learnt from the registration, and NAR delivers them to the node,
which decapsulates them itself. Nothing is negotiated, and the home agent sees nothing of it.

Tunnels to this care-of address are told apart by that tuple, whoever they are for: nodes like this,
ordinary visitors, and NAR clients with TUNNEL-ASSOCIATE. Whoever has a tuple keeps it; who comes
later is refused.
"""

from ipaddress import IPv4Address

from gateway.domain.mobility import Encapsulation
from gateway.domain.nar import TUNNEL_PROTOCOLS, NarTuple
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    RevocationSupport,
    UdpTunnelReply,
    UdpTunnelRequest,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.registration import (
    RegistrationReply,
    RegistrationRequest,
    RequestFlag,
)
from gateway.mip_agents.foreign_agent.addresses import UNSPECIFIED
from gateway.mip_agents.foreign_agent.asked import Asked
from gateway.mip_agents.foreign_agent.core import Core
from gateway.mip_agents.foreign_agent.refusal import Denied
from gateway.mip_agents.policy import ForeignAgentPolicy

_ACCEPTED_IN_UDP = 0


def server_for(policy: ForeignAgentPolicy, request: RegistrationRequest) -> str:
    """The NAR server that would deliver; empty when it is not asked for, or not offered."""
    co_located = bool(request.flags & RequestFlag.CO_LOCATED)
    if co_located and request.care_of_address == policy.care_of_address:
        return policy.nar_server
    return ""


def check_request(core: Core, asked: Asked, encapsulation: Encapsulation) -> None:
    """What such a registration has to meet, beyond what any has. Raises Denied."""
    request = asked.request
    source = asked.pending.remote.address
    ours = core.policy.care_of_address
    if not asked.pending.own_address or source in (request.home_address, ours, request.home_agent):
        raise Denied(
            ReplyCode.FA_INVALID_CARE_OF_ADDRESS,
            "the request with the D bit does not come from an address of the node's own",
            f"clear the D bit to use {ours} without one",
        )
    if encapsulation not in TUNNEL_PROTOCOLS:
        raise Denied(
            ReplyCode.FA_ENCAPSULATION_UNAVAILABLE,
            f"NAR does not deliver {encapsulation.value} encapsulation",
            "use IP-in-IP or GRE, or clear the D bit",
        )
    udp = request.first(UdpTunnelRequest)
    if udp is not None and udp.forced:
        raise Denied(
            ReplyCode.FA_ENCAPSULATION_UNAVAILABLE,
            "NAR does not deliver tunnels in UDP",
            "do not force tunnelling in UDP: there is no NAT between us and the home agent that"
            " needs it",
        )
    if request.first(ZeroOverheadRequest) is not None:
        raise Denied(
            ReplyCode.FA_ENCAPSULATION_UNAVAILABLE,
            "zero-overhead packets carry nothing that NAR could tell them apart by",
            "do not ask for zero-overhead tunnelling here",
        )
    if request.first(RevocationSupport) is not None:
        raise Denied(
            ReplyCode.FA_POOR_REQUEST,
            "revocations for the node itself would reach us, at its care-of address",
            "leave revocation support out with this care-of address",
        )


def check_reply(reply: RegistrationReply) -> None:
    """The home agent tunnels as NAR can deliver. Raises Denied."""
    udp = reply.first(UdpTunnelReply)
    if udp is not None and udp.code == _ACCEPTED_IN_UDP:
        raise Denied(
            ReplyCode.FA_ENCAPSULATION_UNAVAILABLE,
            "the home agent tunnels in UDP, which NAR does not deliver",
            "do not offer tunnelling in UDP with this care-of address",
        )


def check_tuple(
    core: Core, encapsulation: Encapsulation, home_agent: IPv4Address, home_address: IPv4Address
) -> None:
    """No NAR client has these tunnels: they would go there. Raises Denied."""
    protocol = TUNNEL_PROTOCOLS.get(encapsulation)
    if protocol is None or home_address == UNSPECIFIED:
        return
    care_of_address = core.policy.care_of_address
    holder = core.leased(NarTuple(protocol, care_of_address, int(home_address), home_agent))
    if holder:
        raise Denied(
            ReplyCode.FA_PROHIBITED,
            f"tunnels from {home_agent} for {home_address} are leased to {holder} by NAR",
            "register again when that lease has ended",
        )

"""Whether a binding gets zero-overhead tunnelling (draft 001, appendix D).

A request that does not get it is no worse off: the reply just lacks the confirmation, and the
mobile node stays with its ordinary tunnel.
"""

from ipaddress import IPv4Address

from gateway.mip_agents.codec.registration import RegistrationRequest, RequestFlag
from gateway.mip_agents.home_agent.addresses import Addresses, is_no_host
from gateway.mip_agents.policy import Allowance, HomeAgentPolicy

_NEEDED = RequestFlag.CO_LOCATED | RequestFlag.REVERSE


def grant(
    wanted: IPv4Address,
    request: RegistrationRequest,
    home_address: IPv4Address,
    policy: HomeAgentPolicy,
    addresses: Addresses,
    *,
    direct: bool,
    alone: bool,
) -> IPv4Address | None:
    """The default destination whose packets are switched, or None.

    ``direct``: nothing between the care-of address and us rewrites addresses; ``alone``: the
    mobile node has no other care-of address. With several, or with packets in UDP, the switched
    addresses would not tell which binding a packet belongs to.
    """
    if policy.zero_overhead is Allowance.OFF or request.flags & _NEEDED != _NEEDED:
        return None
    if not (direct and alone):
        return None
    destination = int(wanted)
    if (
        is_no_host(destination)
        or addresses.is_home_agent(destination)
        # Another mobile node would be reached by its tunnel, not by switching.
        or addresses.home_network(destination) is not None
        or wanted in (home_address, request.care_of_address)
    ):
        return None
    allowed = policy.zero_overhead_destinations
    if allowed and not any(wanted in network for network in allowed):
        return None
    return wanted

"""Which home address a mobile node has: configured, or leased from a pool (RFC 2794)."""

from collections.abc import Hashable
from ipaddress import IPv4Address

from gateway.domain.pools import AddressPool, PoolExhausted
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.home_agent import denials
from gateway.mip_agents.home_agent.addresses import Addresses
from gateway.mip_agents.home_agent.bindings import Registrant
from gateway.mip_agents.home_agent.denials import Denial
from gateway.mip_agents.policy import HomeAgentPolicy, MobileNode

_UNSPECIFIED = IPv4Address(0)


def judge(
    asked: IPv4Address, node: MobileNode, registrant: Registrant | None, addresses: Addresses
) -> IPv4Address | Denial | None:
    """The home address of ``node``, None if it has to be leased, or why it cannot be had."""
    own = node.home_address
    if own is None and registrant is not None:
        own = registrant.home_address
    if own is None:
        return None
    if asked not in (own, _UNSPECIFIED):
        return denials.ANOTHERS_HOME_ADDRESS
    if registrant is not None and registrant.home_address is not None:
        return own
    return own if addresses.can_be_home_address(int(own)) else denials.OUTSIDE_HOME_NETWORKS


def lease(
    asked: IPv4Address,
    node: MobileNode,
    key: Hashable,
    policy: HomeAgentPolicy,
    addresses: Addresses,
) -> IPv4Address | Denial:
    """Lease a home address; the same mobile node gets the same one as long as it is free."""
    pool = pool_of(node, policy)
    if pool is None:
        return denials.NO_POOL
    wanted = None if asked == _UNSPECIFIED else asked
    if wanted is not None and (wanted not in pool.network or pool.holder(wanted) is not None):
        return denials.ANOTHERS_HOME_ADDRESS
    try:
        leased = pool.lease(str(key), wanted)
    except PoolExhausted as problem:
        return Denial(
            ReplyCode.HA_INSUFFICIENT_RESOURCES, str(problem), "give the home network a larger pool"
        )
    if isinstance(leased, IPv4Address) and addresses.can_be_home_address(int(leased)):
        if wanted is None or leased == wanted:
            return leased
        pool.release(leased)
        return denials.ANOTHERS_HOME_ADDRESS
    pool.release(leased)
    return denials.OUTSIDE_HOME_NETWORKS


def pool_of(node: MobileNode, policy: HomeAgentPolicy) -> AddressPool | None:
    """The pool of the node's home network, or of the first network that has one."""
    if node.home_network:
        return policy.pools.get(node.home_network)
    for network in policy.networks:
        pool = policy.pools.get(network.name)
        if pool is not None:
            return pool
    return None


def release(address: IPv4Address, policy: HomeAgentPolicy) -> None:
    """Give a leased home address back."""
    for pool in policy.pools.values():
        if address in pool.network:
            pool.release(address)
            return


def lease_again(address: IPv4Address, key: Hashable, policy: HomeAgentPolicy) -> bool:
    """Lease what was leased before a restart or a change of the configuration."""
    for pool in policy.pools.values():
        if address not in pool.network:
            continue
        holder = pool.holder(address)
        if holder is not None:
            return holder == str(key)
        leased = pool.lease(str(key), address)
        if leased == address:
            return True
        pool.release(leased)
        return False
    return False

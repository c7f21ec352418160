"""What a change of the mobility agents would end, before it is made."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from gateway.control.object_operations import CutSession

if TYPE_CHECKING:
    from gateway.appliance.mobility import Mobility
    from gateway.appliance.mobility_plan import MobilityPlan
    from gateway.appliance.mobility_queries import HomeAgentSide
    from gateway.mip_agents.policy import HomeAgentPolicy


def bindings_ended_by(mobility: "Mobility", plan: "MobilityPlan | None") -> list[CutSession]:
    """Bindings that have no place in ``plan`` any more."""
    wanted = {} if plan is None else {policy.name: policy for policy in plan.home_agents}
    found: list[CutSession] = []
    for name, agent in mobility.home_agents.items():
        policy = wanted.get(name)
        found += [
            {"session": f"binding of {address}", "peer": f"{address} at {name}"}
            for address in _homeless(agent, policy)
        ]
    return found


def _homeless(agent: "HomeAgentSide", wanted: "HomeAgentPolicy | None") -> Iterator[IPv4Address]:
    old = agent.policy
    if wanted is None or (wanted.address, wanted.placement) != (old.address, old.placement):
        yield from agent.home_addresses()
        return
    for address in agent.home_addresses():
        before = old.nodes.by_home_address(address)
        after = wanted.nodes.by_home_address(address)
        another = before is not None and (after is None or after.name != before.name)
        if another or not any(address in network.network for network in wanted.networks):
            yield address

"""What becomes of a registrant when the policy changes."""

from ipaddress import IPv4Address

from gateway.mip_agents.home_agent import home_addresses
from gateway.mip_agents.home_agent.bindings import Registrant, dataplane_binding
from gateway.mip_agents.home_agent.registrar import Registrar
from gateway.mip_agents.outputs import SetBinding
from gateway.mip_agents.policy import HomeAgentPolicy, MobileNode


def adopt(registrant: Registrant, old: HomeAgentPolicy, registrar: Registrar) -> str:
    """Fit a registrant into the registrar's new policy.

    Returns why it has no place there, or nothing. What the dataplane does is set anew only if it
    has to do something else now.
    """
    policy, addresses = registrar.policy, registrar.court.addresses
    before, home = registrant.node, registrant.home_address
    if before.nai:
        node = policy.nodes.by_nai(before.nai)
    else:
        node = policy.nodes.by_home_address(before.home_address or IPv4Address(0))
    if node is None or node.nai != before.nai:
        return "it is not configured any more"
    if node.home_address != before.home_address:
        return "its home address is another one now"
    _keep_replay_protection(registrant, node)
    if home is None:
        registrant.node = node
        return ""
    network = addresses.home_network(int(home))
    if network is None or not addresses.can_be_home_address(int(home)):
        return "its home network is gone"
    if registrant.leased and not home_addresses.lease_again(home, registrant.key, policy):
        return "its home address is no longer in a pool"
    binding = dataplane_binding(registrant, old)
    registrant.node, registrant.home_network = node, network
    changed = dataplane_binding(registrant, policy)
    if changed != binding:
        registrar.outputs.append(SetBinding(changed))
    return ""


def _keep_replay_protection(registrant: Registrant, node: MobileNode) -> None:
    """Where timestamps gave way to nonces or the reverse, there is nothing to compare with."""
    if registrant.logins is not None:
        # What it showed is judged anew.
        registrant.logins.octets = b""
    before = {one.spi: one.replay for one in registrant.node.associations}
    now = {one.spi: one.replay for one in node.associations}
    for spi in list(registrant.replay):
        if before.get(spi) is not now.get(spi):
            del registrant.replay[spi]

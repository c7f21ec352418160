"""From the validated file to what the kernel dataplane takes."""

from gateway.config.document import Config
from gateway.dataplane import choice
from gateway.dataplane.kernel.settings import KernelSettings


def kernel_needs(config: Config) -> frozenset[str]:
    """What this configuration needs of a kernel that is to carry its packets."""
    needs = set(choice.IPSEC)
    if config.has_mobility_agents:
        needs |= choice.MOBILITY
    if config.needs_nar:
        needs |= choice.TUNNELS
    offered = " ".join(
        proposal
        for connection in config.connections.values()
        for proposal in connection.esp_proposals
    ).lower()
    if "sha" in offered:
        needs.add("esp-aes-cbc")
    if "chacha" in offered:
        needs.add("esp-chacha20")
    return frozenset(needs)


def kernel_settings(config: Config) -> KernelSettings:
    """Settings of the kernel dataplane: pools are inside, what connections offer is protected."""
    return KernelSettings(
        xfrm_interface=config.dataplane.xfrm_interface,
        inner_networks=tuple(pool.network for pool in config.pools.values()),
        protected_networks=config.offered_networks,
        outside_interfaces=config.dataplane.outside_interfaces,
        queue_number=config.dataplane.queue,
        queue_length=config.dataplane.queue_length,
        mtu=config.dataplane.mtu,
        forwarding=config.dataplane.forwarding,
    )

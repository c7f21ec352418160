"""From the validated file to what the kernel dataplane takes."""

from gateway.config.document import Config
from gateway.dataplane.kernel.settings import KernelSettings


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

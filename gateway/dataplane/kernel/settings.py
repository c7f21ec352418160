"""What the kernel dataplane is told at start."""

from dataclasses import dataclass
from typing import Final

from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress

DEFAULT_MTU: Final = 1400
"""Inner MTU. An outer path of 1500 octets, less the most that ESP adds over IPv6 with UDP:
40 (IPv6) + 8 (UDP) + 8 (SPI, sequence) + 16 (CBC IV) + up to 17 (padding, pad length, next
header) + 32 (ICV of HMAC-SHA2-512-256) = 121 leaves 1379 for that rare suite; with AES-GCM over
IPv4 and UDP, 20 + 8 + 8 + 8 + up to 5 + 16 = 65 leaves 1435. 1400 also leaves room for an access
network with PPPoE (1492) or a small tunnel; for IPv6 with CBC set 1360."""


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """Settings of :class:`gateway.dataplane.kernel.dataplane.KernelDataplane`."""

    xfrm_interface: str = "gw0"
    inner_networks: tuple[IpNetwork, ...] = ()
    """Pools: routed to the xfrm interface; such a source coming from elsewhere is dropped."""
    protected_networks: tuple[IpNetwork, ...] = ()
    """Networks that ``outside_interfaces`` must not reach without a tunnel."""
    outside_interfaces: tuple[str, ...] = ()
    error_sources: tuple[IpAddress, ...] = ()
    """Whom ICMP errors to devices come from that would not fit their tunnels: an address of each
    IP version at most. Empty: found at start among our addresses in protected networks."""
    queue_number: int = 4757
    queue_length: int = 1024
    """Packets that may wait for a verdict; the kernel drops what exceeds it."""
    mtu: int = DEFAULT_MTU
    forwarding: bool = True
    """Turn on IP forwarding at start where it is off."""
    output_mark: int = 0
    """Not 0: the fwmark of the ESP packets that are sent, by which they are routed."""
    esp_queue: bool = True
    """Whether the ruleset hands ESP from unknown sources to the queue."""
    routes: bool = True
    """Add routes to what lies behind peers. A mobile node has its own."""

"""What a gateway assigns to us as its client."""

from dataclasses import dataclass

from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress
from gateway.ike.lease import Lease


@dataclass(frozen=True, slots=True)
class Assigned:
    """A configuration that a gateway gave us, with everything malformed left out."""

    address: IpAddress | None
    """Of IPv4; or the only one."""
    dns: tuple[IpAddress, ...]
    subnets: tuple[IpNetwork, ...]
    domains: tuple[str, ...]
    address6: IpAddress | None = None
    """Of IPv6."""
    mtu: int | None = None
    """What fits into the tunnel, as the gateway sees it."""

    @property
    def leases(self) -> tuple[Lease, ...]:
        """The inner addresses."""
        return tuple(Lease(one) for one in (self.address, self.address6) if one is not None)

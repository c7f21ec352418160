"""What a gateway assigns to us as its client."""

from dataclasses import dataclass

from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress


@dataclass(frozen=True, slots=True)
class Assigned:
    """A configuration that a gateway gave us, with everything malformed left out."""

    address: IpAddress | None
    dns: tuple[IpAddress, ...]
    subnets: tuple[IpNetwork, ...]
    domains: tuple[str, ...]

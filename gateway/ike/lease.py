"""An inner address of a peer, and where it came from."""

from dataclasses import dataclass

from gateway.domain.endpoint import IpAddress
from gateway.domain.remote_access import NOWHERE


@dataclass(frozen=True, slots=True)
class Lease:
    """One inner address; an IKE SA has one of each IP version at most."""

    address: IpAddress
    pool: str | None = None
    """Where it goes back to. None: RADIUS gave it, the other side leased it to us, or it is one
    of :data:`~gateway.domain.remote_access.NOWHERE`."""

    @property
    def leads_nowhere(self) -> bool:
        """Whether it only keeps the IPv6 traffic of the device in the tunnel."""
        return self.address.version == 6 and self.address in NOWHERE

"""What a device needs to register with a home agent, as one login gives it (draft 002, 4.2.1)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network


@dataclass(frozen=True, slots=True)
class MobilityGrant:
    """What a gateway grants a peer: an address at a home agent. No secret in it."""

    inside: bool
    """Whether the home agent is the i-HA; otherwise the x-HA."""
    home_agent: IPv4Address
    home_address: IPv4Address
    home_network: IPv4Network


@dataclass(frozen=True, slots=True)
class MobilityCredential:
    """A grant with its mobility security association, derived from an IKE session."""

    grant: MobilityGrant
    spi: int
    """256 or more."""
    key: bytes = field(repr=False)
    """32 octets, for HMAC-SHA2-256."""
    ticket: bytes = field(repr=False, default=b"")
    """Opaque to the device, which sends it along with each registration: the home agent finds
    ``spi`` and ``key`` in it, sealed by the gateway. So a home agent keeps no state for it."""
    expires_at: float = 0.0
    """Wall clock, seconds since 1970. The next login renews it long before."""

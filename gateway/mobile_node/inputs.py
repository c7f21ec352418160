"""What the host tells the mobile node."""

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from gateway.domain.mobility_credential import MobilityCredential


@dataclass(frozen=True, slots=True)
class LinkState:
    """One network interface now. A new ``generation`` means: whatever was proven there is void."""

    interface: str
    carrier: bool
    address: IPv4Interface | None = None
    """Its own, from DHCP or by hand; None on a foreign agent's link."""
    router: IPv4Address | None = None
    router_link_address: bytes = b""
    domain: str = ""
    """As the DHCP lease says; a hint."""
    metric: int = 0
    """Of its default route; smaller is preferred."""
    generation: int = 0
    """Counts up with every change of carrier, address, router, BSSID or name."""


class Portal(enum.Enum):
    """What the probe for captive portals found (draft 002, section 4.2.6)."""

    UNKNOWN = "unknown"
    OPEN = "open"
    CAPTIVE = "captive"
    SILENT = "silent"
    """Nobody answered: no internet, or only some ports."""


@dataclass(frozen=True, slots=True)
class VpnSession:
    """IKE came up: what was agreed and assigned."""

    outer: IPv4Address
    inner: IPv4Address
    """VPN-TIA; with ``vpn_fa`` the i-HoA."""
    vpn_fa: bool = False
    endpoint_update: bool = False
    mobike: bool = False
    encapsulated: bool = False
    tcp: bool = False
    advertisement: bytes = b""
    """The foreign agent advertisement that IKE carried (draft 001, appendix B.2)."""
    dns: tuple[IPv4Address, ...] = ()
    domains: tuple[str, ...] = ()
    subnets: tuple[IPv4Network, ...] = ()
    suite: str = ""
    credentials: tuple[MobilityCredential, ...] = ()

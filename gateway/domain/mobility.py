"""What the mobility agents and the dataplane both speak of: tunnels, bindings, visitors.

A home agent's binding says where a home address is now; a foreign agent's visitor says which
home agent a home address behind it belongs to (RFC 5944 section 1.6).
"""

import enum
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

MIP_PORT = 434
"""UDP: registrations, revocations, and tunnelled data (RFC 5944 section 3, RFC 3519)."""


class Encapsulation(enum.Enum):
    """How a packet is carried between the two ends of a tunnel."""

    IP_IP = "ip-ip"
    """RFC 2003."""
    MINIMAL = "minimal"
    """RFC 2004."""
    GRE = "gre"
    """RFC 2784, without key, checksum or sequence number when we send."""

    @property
    def protocol(self) -> int:
        """The number in the IP header, and in the next header field of a UDP tunnel (RFC 3519)."""
        return _PROTOCOL[self]


_PROTOCOL = {Encapsulation.IP_IP: 4, Encapsulation.MINIMAL: 55, Encapsulation.GRE: 47}


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel from our point of view: ``local`` is our end."""

    local: IPv4Address
    remote: IPv4Address
    encapsulation: Encapsulation = Encapsulation.IP_IP
    udp_port: int = 0
    """Not 0: everything travels in UDP between our port 434 and this one of ``remote``."""

    def __str__(self) -> str:
        if self.udp_port:
            return f"{self.encapsulation.value} in UDP to {self.remote}:{self.udp_port}"
        return f"{self.encapsulation.value} to {self.remote}"


@dataclass(frozen=True, slots=True)
class HomeNetwork:
    """A network of home addresses.

    ``interface`` names the link it lives on; None makes it virtual: all its nodes are always away.
    """

    name: str
    network: IPv4Network
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class MobilityBinding:
    """What the dataplane does for one mobile node at one home agent."""

    home_agent: IPv4Address
    """Our address: the local end of each tunnel."""
    home_address: IPv4Address
    home_network: HomeNetwork
    tunnels: tuple[Tunnel, ...]
    """One for each care-of address; more than one only with simultaneous bindings (S bit): every
    packet is copied to all of them."""
    co_located: bool
    """D bit: the mobile node decapsulates itself. Otherwise broadcasts are encapsulated twice."""
    reverse: bool
    """T bit: packets of the mobile node come through the tunnel. Without, nothing is accepted."""
    broadcasts: bool
    """B bit: broadcasts of a physical home network are forwarded."""
    max_packet_octets: int
    """Largest inner packet; longer ones are fragmented before they are encapsulated, or answered
    with "fragmentation needed" (draft 002, section 4.2.4)."""
    zero_overhead: IPv4Address | None = None
    """The default destination whose packets travel by address switching (draft 001, appendix D).
    Only with a single care-of address, co-located, no UDP."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """What the dataplane does for one registration of a mobile node at our foreign agent."""

    home_address: IPv4Address
    home_agent: IPv4Address
    tunnel: Tunnel
    """``local`` is the care-of address, ``remote`` the home agent."""
    interface: str
    """Where the mobile node is: a link, or the xfrm interface of the VPN (draft 001, B.5)."""
    link_address: bytes = field(default=b"")
    """The mobile node's link-layer address; empty behind the VPN. It is never asked for by ARP."""
    reverse: bool = True
    """T bit: what it sends is tunnelled to the home agent. Behind the VPN always."""
    encapsulating: bool = False
    """It sends encapsulated packets to the care-of address (RFC 3024 section 5.2); plain unicast
    from it is then routed, not tunnelled."""
    max_packet_octets: int = 1400
    through_vpn: bool = False

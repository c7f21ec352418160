"""Tunnel links: interfaces whose packets the forwarder encapsulates, as tunnel devices would."""

import enum
from dataclasses import dataclass, field
from ipaddress import IPv4Address


class TunnelKind(enum.Enum):
    """How a packet of the link looks on the wire."""

    IP_IP = "ip-ip"
    """RFC 2003."""
    GRE = "gre"
    """RFC 2784 without options; received with those of RFC 2890 as well."""
    MINIMAL = "minimal"
    """RFC 2004."""
    MIP_UDP = "mip-udp"
    """RFC 3519 with IP-in-IP inside."""
    GRE_UDP = "gre-udp"
    """GRE directly in UDP, as Linux' FOU does it: for rulesets that exchange the header."""
    L2TP = "l2tp"
    """L2TPv3 in UDP with fixed session ids (RFC 3931), as the kernel's l2tp and l2tp_eth do it."""


@dataclass(frozen=True, slots=True)
class TunnelLink:
    """One interface. An address that is None is any: then the ruleset writes what is sent."""

    name: str
    """Of the interface that packets are routed to and come out of."""
    kind: TunnelKind
    sends: bool = True
    """Whether what is routed to it is encapsulated; otherwise it is dropped."""
    receives: bool = True
    """Whether tunnels between these addresses come out of it. Links with addresses go before
    those without."""
    local: IPv4Address | None = None
    remote: IPv4Address | None = None
    mark: int | None = None
    """The fwmark of what is sent; None: that of the inner packet. What comes out has the mark of
    the packet that carried it."""
    local_port: int = 0
    remote_port: int = 0
    """Of kinds in UDP."""
    below: int = 0
    """Index of the interface that is sent by; 0: as it is routed."""
    ttl: int = 64
    copies_dont_fragment: bool = False
    """Whether the outer header has the inner one's; otherwise it may always be fragmented."""
    session: int = 0
    """Of L2TP: in what is received; the next one in what is sent."""
    peer_session: int = 0
    cookie: bytes = field(default=b"", repr=False)
    """Of L2TP, 8 octets: in what is received; the next one in what is sent."""
    peer_cookie: bytes = field(default=b"", repr=False)
    link_address: bytes = b""
    """Of L2TP: the Ethernet address that both ends use."""

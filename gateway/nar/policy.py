"""What a NAR server allows, as the configuration says it."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from gateway.domain.child_sa import IpNetwork
from gateway.domain.nar import SOCKS_PORT, Delivery, NarProtocol

ALL_PROTOCOLS = frozenset(NarProtocol)
ALL_DELIVERIES = frozenset(Delivery)
OWN_PORTS = frozenset({434, 500, SOCKS_PORT, 1701, 4500})
"""Mobile IP, IKE, NAR and L2TP: the box's own, unless it is known that they are not."""


@dataclass(frozen=True, slots=True)
class NarRule:
    """What some clients may do. The first rule that a client fits is the one that counts."""

    name: str
    users: frozenset[str] | None = None
    """None: everybody, also who needs no login."""
    groups: frozenset[str] = frozenset()
    """A user in one of them fits as well."""
    clients: tuple[IPv4Network, ...] = ()
    """Where the client has to come from; empty: anywhere."""
    protocols: frozenset[NarProtocol] = ALL_PROTOCOLS
    ports: tuple[range, ...] = ()
    """Ports that the client may wish for, besides the server's own ranges (server mappings)."""
    remotes: tuple[IPv4Network, ...] = ()
    """With whom: targets of NAR-MODE, CONNECT and so on; empty: anybody not forbidden."""
    any_remote: bool = True
    """Whether a mapping may be open to everybody outside (a server mapping)."""
    deliveries: frozenset[Delivery] = ALL_DELIVERIES
    max_leases: int = 256
    """Of one client at a time."""
    max_lease_s: float | None = None
    """A lease ends after this long, renewed or not."""
    proxy: bool = False
    """Whether plain SOCKS5 (no NAR-MODE) is served."""
    proxy_ipv6: bool = False
    """Whether the proxy takes IPv6 targets; NAR never does."""


@dataclass(frozen=True, slots=True)
class NarServerPolicy:
    """One NAR server. Times in seconds."""

    name: str
    tunnel_address: IPv4Address
    """Na."""
    addresses: tuple[IPv4Address, ...]
    """Nb and more: the first with room is lent."""
    ports: tuple[range, ...] = (range(20_000, 30_000),)
    icmp_ids: range = range(0xC000, 0x1_0000)
    spis: range = range(0x4000_0000, 0x8000_0000)
    rules: tuple[NarRule, ...] = ()
    """Who fits none may do nothing."""
    trusted: tuple[IPv4Network, ...] = ()
    """Clients from here need no login (method 0)."""
    backend: str | None = None
    """Asked for passwords (method 2), see :mod:`gateway.domain.user_auth`; None: no logins."""
    require_tls: bool = True
    """Passwords are taken over TLS only. Off for networks where nobody listens."""
    impose: Delivery | None = None
    """Every client gets this delivery, whatever it asks for (section 3.1)."""
    default_delivery: Delivery = Delivery.IP_IP
    forbidden: tuple[IpNetwork, ...] = ()
    """Never a target or remote: loopback, link-local and metadata, our own addresses, management
    networks."""
    lease_s: float = 600.0
    """Of a client that knows leases; renewed by it."""
    grace_s: float = 120.0
    """Leases outlive their control connection so long."""
    handshake_s: float = 10.0
    """From the connection's start until the first command is complete."""
    idle_s: float = 300.0
    """A connection in NAR mode without any lease is closed then."""
    max_connections: int = 20_000
    max_connections_per_source: int = 100
    max_leases: int = 100_000
    listen_port: int = SOCKS_PORT
    occupied_ports: frozenset[int] = OWN_PORTS
    """The box's own services at these addresses: IKE, the API, the NAR port itself. Never leased.
    """

"""What the mobility agents are allowed and told to do. Built from the configuration."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Protocol

from gateway.domain.mobility import Encapsulation, HomeNetwork
from gateway.domain.pools import AddressPool

if TYPE_CHECKING:
    from gateway.mip_agents.ticket import TicketBox

INFINITE_LIFETIME_S = 0xFFFF
"""A lifetime field of all ones never ends (RFC 5944 section 3.3)."""


class Algorithm(enum.Enum):
    """Of authenticators."""

    HMAC_MD5 = "hmac-md5"
    """The default of RFC 5944 section 5.1."""
    HMAC_SHA256 = "hmac-sha256"
    """HMAC-SHA2-256, not truncated: 32 octets."""
    KEYED_MD5 = "keyed-md5"
    """Prefix and suffix mode of RFC 2002: MD5(key, data, key). For peers that know no other."""


class ReplayProtection(enum.Enum):
    """How a home agent knows that a request is new (RFC 5944 section 5.7)."""

    TIMESTAMPS = "timestamps"
    NONCES = "nonces"


class Allowance(enum.Enum):
    """Whether a mobile node may, or must, use something."""

    OFF = "off"
    ALLOWED = "allowed"
    REQUIRED = "required"


class Placement(enum.Enum):
    """Which of the two home agents of draft 001 it is."""

    INSIDE = "inside"
    """i-HA: registrations from outside are blocked, so that reaching it proves to be inside."""
    OUTSIDE = "outside"
    """x-HA."""


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """A mobility security association (RFC 5944 section 1.6)."""

    spi: int
    """256 or more."""
    key: bytes = field(repr=False)
    algorithm: Algorithm = Algorithm.HMAC_MD5
    replay: ReplayProtection = ReplayProtection.TIMESTAMPS
    replay_window_s: float = 7.0
    """How far a timestamp may be from our clock."""


@dataclass(frozen=True, slots=True)
class MobileNode:
    """A mobile node that a home agent knows, by its home address, its NAI or both."""

    name: str
    """For people."""
    home_address: IPv4Address | None = None
    """None: it gets one from the pool of its home network (RFC 5944 section 3.8.2, RFC 2794)."""
    nai: str = ""
    home_network: str = ""
    """Where a dynamic home address comes from; empty for the first network with a pool."""
    associations: tuple[SecurityAssociation, ...] = ()
    max_care_of_addresses: int = 3
    """Simultaneous bindings."""
    max_packet_octets: int | None = None
    """Overrides the home agent's."""
    login: bool = False
    """Its key comes with the ticket of a login at the gateway (draft 002, section 4.2.1)."""
    identity: str = ""
    """Whose login that is; empty for whoever the ticket names."""


class MobileNodes(Protocol):
    """Where a home agent looks mobile nodes up; costs O(1)."""

    def by_home_address(self, address: IPv4Address) -> MobileNode | None:
        """The one with this configured home address."""

    def by_nai(self, nai: str) -> MobileNode | None:
        """The one with this network access identifier."""


@dataclass(frozen=True, slots=True)
class PeerAgent:
    """Another agent that we share a key with: FA-HA authentication (RFC 5944 section 3.5.4)."""

    address: IPv4Address
    associations: tuple[SecurityAssociation, ...]
    required: bool = True
    """Requests and replies by way of it are refused without the extension (codes 69, 132)."""


@dataclass(frozen=True, slots=True)
class HomeAgentPolicy:
    """One home agent."""

    name: str
    address: IPv4Address
    placement: Placement
    networks: tuple[HomeNetwork, ...]
    nodes: MobileNodes
    pools: Mapping[str, AddressPool] = field(default_factory=dict)
    """Dynamic home addresses by name of the home network."""
    public_addresses: tuple[IPv4Address, ...] = ()
    """Others that mobile nodes may name us by: ours as it is seen before a port forwarding."""
    peer_agents: Mapping[IPv4Address, PeerAgent] = field(default_factory=dict)
    lifetime_s: int = 1800
    """The longest that is granted."""
    lifetime_spread: float = 0.1
    """Granted lifetimes are shortened by up to this share at random, so that an outage does not
    turn into a storm of registrations a lifetime later. Never below what was asked for when that
    is shorter than the shortened one."""
    encapsulations: frozenset[Encapsulation] = frozenset(Encapsulation)
    reverse_tunnelling: Allowance = Allowance.ALLOWED
    udp_tunnelling: Allowance = Allowance.ALLOWED
    """RFC 3519. REQUIRED forces it on whoever can."""
    keepalive_s: int = 110
    """Told to mobile nodes behind a NAT (RFC 3519 section 4.9)."""
    simultaneous: bool = True
    broadcasts: bool = True
    revocation: bool = True
    zero_overhead: Allowance = Allowance.ALLOWED
    """REQUIRED counts as ALLOWED."""
    zero_overhead_destinations: tuple[IPv4Network, ...] = ()
    """Default destinations that may be asked for; empty for any."""
    max_packet_octets: int = 1400
    max_bindings: int = 100_000
    trust_unsigned_agents: bool = True
    """Requests by way of foreign agents that share no key with us are served."""
    other_home_agents: frozenset[IPv4Address] = frozenset()
    """Of this gateway or beside it: none of them is a care-of address, which would loop."""
    tickets: "TicketBox | None" = None
    """Opens the tickets of nodes with ``login``."""


@dataclass(frozen=True, slots=True)
class ForeignAgentPolicy:
    """One foreign agent, on a link or inside the VPN gateway."""

    name: str
    care_of_address: IPv4Address
    interface: str
    """Of the visitors; the xfrm interface for VPN/FA."""
    through_vpn: bool = False
    peer_agents: Mapping[IPv4Address, PeerAgent] = field(default_factory=dict)
    """Home agents that we share a key with."""
    home_agents: tuple[IPv4Network, ...] = ()
    """Where requests are relayed to; empty for anywhere."""
    visitor_associations: Mapping[int, SecurityAssociation] = field(default_factory=dict)
    """MN-FA authentication by SPI; empty for none."""
    require_visitor_authentication: bool = False
    registration_required: bool = True
    """The R bit: even nodes with an address of their own register by way of us."""
    lifetime_s: int = 1800
    reverse_tunnelling: Allowance = Allowance.ALLOWED
    """Through the VPN always REQUIRED."""
    encapsulations: frozenset[Encapsulation] = frozenset(Encapsulation)
    challenge: bool = False
    """Advertise challenges and demand them (RFC 4721)."""
    nai: str = ""
    """Of the foreign agent, in its advertisements (RFC 3846-style hint for mobile nodes)."""
    advertisement_interval_s: float = 10.0
    """0 switches unsolicited advertisements off."""
    advertisement_lifetime_s: int = 30
    revocation: bool = True
    max_visitors: int = 10_000
    max_pending: int = 1_000
    pending_timeout_s: float = 7.0
    max_packet_octets: int = 1400
    trust_unsigned_agents: bool = True
    udp_tunnelling: Allowance = Allowance.ALLOWED
    """RFC 3519. REQUIRED: of home agents that we share a key with, tunnels in UDP are demanded,
    because we are behind a NAT ourselves."""
    nar_server: str = ""
    """The NAR server that lends our care-of address. Nodes with an address of their own may use it
    as theirs: tunnels are delivered to that address (draft 004, section 2.6.3). Empty: nobody."""

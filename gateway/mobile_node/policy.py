"""What a mobile node is told to do. Built from its profile and from what a login taught it."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.policy import SecurityAssociation


@dataclass(frozen=True, slots=True)
class HomeAgentPolicy:
    """One Mobile IP layer: the i-HA's or the x-HA's."""

    home_agent: IPv4Address
    home_address: IPv4Address
    home_network: IPv4Network
    association: SecurityAssociation
    ticket: bytes = field(default=b"", repr=False)
    """Goes with each request, before the authenticator (see domain.mobility_credential)."""
    nai: str = ""
    lifetime_s: int = 1800
    """Asked for; outside, renewal follows what is granted."""
    encapsulation: Encapsulation = Encapsulation.IP_IP
    force_udp: bool = False
    """RFC 3519's F bit: UDP tunnelling also where no NAT is seen (draft 002, section 4.2.5)."""
    zero_overhead: bool = False
    """Ask for it; only for the x-HA, the default destination is the gateway."""


@dataclass(frozen=True, slots=True)
class VpnPolicy:
    """What the node may ask of the gateway."""

    gateway: IPv4Address
    vpn_fa: bool = True
    """Prefer modes whose third letter is f, where the gateway offers it."""
    endpoint_update: bool = True
    """Prefer modes without x-MIP, where the gateway offers it (draft 001, appendix C)."""
    mobike: bool = True
    """Use MOBIKE in place of x-MIP where there is no endpoint update (RFC 5266)."""
    tcp: bool = True
    """Fall back to TCP encapsulation where UDP gets no answer (RFC 9329)."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What makes the node look inside first. It never proves anything (draft 001, section 4.4)."""

    domains: frozenset[str] = frozenset()
    nais: frozenset[str] = frozenset()
    router_link_addresses: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Detection:
    """Secure detection of the inside (draft 001, sections 4.2 and 4.3)."""

    retransmit_first_s: float = 0.5
    retransmit_factor: float = 2.0
    retransmit_max_s: float = 4.0
    detection_period_s: float = 2.0
    """How long an answer of the x-HA alone leaves the i-HA the chance to answer."""
    inside_hint_s: float = 1.0
    """How long the x-HA is not asked where a hint says inside."""
    monitor_interval_s: float = 30.0
    """Inside, a registration is renewed this often, whatever its lifetime."""
    monitor_tries_s: float = 20.0
    """Renewals are retransmitted for so long; then plaintext stops. The sum of both is the bound,
    counted from when the last confirmed request was *sent*: at most 60 s by default."""
    retry_inside_s: float = 600.0
    """Outside, the i-HA is asked now and then."""
    idle_after_s: float = 120.0
    """Without user's packets for so long, inside: stop renewing, hold, prove again on demand.
    0 never."""


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """Everything the engine knows of its user's profile."""

    name: str
    internal: HomeAgentPolicy | None = None
    external: HomeAgentPolicy | None = None
    vpn: VpnPolicy | None = None
    detection: Detection = field(default_factory=Detection)
    hints: Hints = field(default_factory=Hints)
    interfaces: tuple[str, ...] = ()
    """Patterns as of fnmatch, in order of preference; empty takes every link in its metric's
    order."""
    modes: frozenset[str] = frozenset()
    """Names of allowed access modes; empty allows all."""
    networks: tuple[IPv4Network, ...] = (IPv4Network("0.0.0.0/0"),)
    direct_networks: tuple[IPv4Network, ...] = ()

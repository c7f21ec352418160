"""What the administrator wants of a connection, as the IKE engine sees it (no files, no TOML)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.ike.auth.credentials import LocalCredential, PresharedKey, TrustAnchors
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer


@dataclass(frozen=True, slots=True)
class PeerAuth:
    """How the peer must prove itself: with a shared key or a certificate under these anchors."""

    preshared_key: PresharedKey | None = None
    anchors: TrustAnchors | None = None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """When SAs are renewed. Rekeying starts up to ``jitter`` (a fraction) earlier."""

    ike_rekey_s: float = 4 * 3600
    ike_over_s: float = 600
    """An IKE SA that was not rekeyed this long after ``ike_rekey_s`` is deleted."""
    child_rekey_s: float = 3600
    child_over_s: float = 300
    child_soft_bytes: int | None = None
    child_hard_bytes: int | None = None
    child_soft_packets: int | None = None
    child_hard_packets: int | None = None
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class ConnectionPolicy:
    """One connection of the configuration; many peers may match a responder's connection."""

    name: str
    local_id: Identity
    local_credential: LocalCredential | PresharedKey
    remote_id: IdentityPattern
    peer_auth: PeerAuth
    ike_offer: SuiteOffer
    esp_offer: SuiteOffer
    local_ts: tuple[TrafficSelector, ...]
    """What the peer may reach through the tunnel."""
    remote_ts: tuple[TrafficSelector, ...] = ()
    """Selectors of the peer's side; empty when it gets an inner address from ``pool``."""
    pool: str | None = None
    dns: tuple[IPv4Address | IPv6Address, ...] = ()
    dns_domains: tuple[str, ...] = ()
    subnets: tuple[IPv4Network | IPv6Network, ...] = ()
    """Sent as INTERNAL_IP4_SUBNET / INTERNAL_IP6_SUBNET."""
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    force_encapsulation: bool = False
    mobike: bool = True
    return_routability: bool = True
    """Ask the peer at its new address whether it is there, right after a MOBIKE update."""
    endpoint_update: bool = True
    """Follow the device when authenticated packets come from a new address (appendix C)."""
    liveness_s: float = 30.0
    """Check the peer after this long without an authenticated packet; 0 switches it off."""
    replay_window: int = 128
    send_certificate: bool = True
    # initiator only
    remote: Endpoint | None = None
    local: Endpoint | None = None
    request_inner_address: bool = False


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Limits of the whole engine. Named bounds, each with a test."""

    retransmit_first_s: float = 1.0
    retransmit_factor: float = 1.8
    retransmit_tries: int = 7
    half_open_timeout_s: float = 30.0
    half_open_limit: int = 1000
    """New half-open SAs beyond this are dropped without an answer."""
    half_open_per_source: int = 10
    """Per (address, port), not per address: many devices share one address behind a CGNAT."""
    cookie_threshold: int = 100
    """From this many half-open SAs on, a cookie is demanded first."""
    fragment_size: int = 1280
    """Largest IP packet we send for IKE, RFC 7383."""
    max_fragments: int = 64
    max_message_octets: int = 65_536
    max_moves_per_minute: int = 30
    """Endpoint moves of one peer; more are refused and logged."""
    nat_keepalive_s: float = 20.0
    nat_port: int = 4500
    """Our own UDP port for IKE and ESP through NATs, and the one we expect of a responder."""

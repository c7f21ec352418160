"""What the administrator wants of a connection, as the IKE engine sees it (no files, no TOML)."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.domain.child_sa import Mode, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.domain.remote_access import Presence
from gateway.domain.user_auth import LOCAL, LocalUser
from gateway.ike.auth.credentials import LocalCredential, PresharedKey, TrustAnchors
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer


class Feature(enum.Enum):
    """What policy says about a mechanism that both sides must agree on."""

    OFF = "off"
    ALLOWED = "allowed"
    """Used with peers that know it; others get a plain SA."""
    REQUIRED = "required"
    """No child SA without it."""


class UserMethod(enum.Enum):
    """How a user proves who it is."""

    EAP_MSCHAPV2 = "eap-mschapv2"
    EAP_GTC = "eap-gtc"
    EAP_TLS = "eap-tls"
    EAP_RADIUS = "eap-radius"
    """Whatever method the RADIUS server of the backend chooses."""
    XAUTH = "xauth"
    """IKEv1: user name and password after phase 1."""


class V1Exchange(enum.Enum):
    """The phase 1 exchange of IKEv1."""

    MAIN = "main"
    AGGRESSIVE = "aggressive"
    """Shows the identity, and with a pre-shared key its hash to whoever asks."""


class ConfigMode(enum.Enum):
    """Who begins the configuration exchange of IKEv1 when we are the gateway."""

    PULL = "pull"
    PUSH = "push"


@dataclass(frozen=True, slots=True)
class UserAuth:
    """The user of the device proves itself too: by EAP in IKEv2, by XAUTH in IKEv1."""

    methods: tuple[UserMethod, ...]
    """In the order they are offered."""
    backend: str = LOCAL
    identities: IdentityPattern | None = None
    """User names that may log in here; None for all of the backend."""
    eap_identity: bool = True
    """Ask for the EAP identity; otherwise the IKE identity is taken as the user name."""
    anchors: TrustAnchors | None = None
    """EAP-TLS: under these the user's certificate must be; the gateway's own is its credential."""


@dataclass(frozen=True, slots=True)
class UserCredential:
    """What we log in with when we are the client of EAP or XAUTH."""

    name: str
    password: bytes = field(default=b"", repr=False)
    certificate: LocalCredential | None = None
    """For EAP-TLS."""
    anchors: TrustAnchors | None = None
    """For EAP-TLS: under these the server's TLS certificate must be."""


@dataclass(frozen=True, slots=True)
class Ppk:
    """A post-quantum pre-shared key (RFC 8784)."""

    ppk_id: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PpkPolicy:
    """The PPKs that a connection knows; the initiator uses the first."""

    ppks: tuple[Ppk, ...]
    required: bool = False


@dataclass(frozen=True, slots=True)
class PeerAuth:
    """How the peer must prove itself: with a shared key or a certificate under these anchors.

    With ``user`` alone, the user's proof (EAP, or hybrid and XAUTH) stands for the device's.
    """

    preshared_key: PresharedKey | None = None
    anchors: TrustAnchors | None = None
    user: UserAuth | None = None
    allow_sha1_signatures: bool = False
    """Take RSA signatures over SHA-1 in AUTH, from peers that know nothing else (RFC 7296)."""

    @property
    def device_too(self) -> bool:
        """Whether the device proves itself, with or without its user."""
        return self.preshared_key is not None or self.anchors is not None


@dataclass(frozen=True, slots=True)
class Profile:
    """What the members of some groups get instead of what the connection says; None: as there."""

    name: str
    groups: frozenset[str]
    pool: str | None = None
    pool6: str | None = None
    presence: Presence | None = None
    block_ipv6: bool | None = None
    dns: tuple[IPv4Address | IPv6Address, ...] | None = None
    dns_domains: tuple[str, ...] | None = None
    subnets: tuple[IPv4Network | IPv6Network, ...] | None = None
    local_ts: tuple[TrafficSelector, ...] | None = None
    endpoint_update: Feature | None = None
    vpn_fa: Feature | None = None


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
    pool6: str | None = None
    """Another pool, of the other IP version: peers that ask for both get both."""
    presence: Presence = Presence.ADDRESS
    """With NAPT, a peer that gets no address from a pool has one of its own as its side: any, or
    one that ``remote_ts`` allows."""
    block_ipv6: bool = False
    """A peer that asks for an IPv6 address, where there is none for it, gets one that leads
    nowhere; see :data:`gateway.domain.remote_access.NOWHERE`."""
    mode: Mode = Mode.TUNNEL
    """Transport mode: the sides are the peer's address and ours, and nothing else will do."""
    tunnel_mtu: int | None = None
    """The MTU of our side of the tunnel, for devices of this project that ask."""
    dns: tuple[IPv4Address | IPv6Address, ...] = ()
    dns_domains: tuple[str, ...] = ()
    subnets: tuple[IPv4Network | IPv6Network, ...] = ()
    """Sent as INTERNAL_IP4_SUBNET / INTERNAL_IP6_SUBNET."""
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    force_encapsulation: bool = False
    mobike: bool = True
    return_routability: bool = True
    """Ask the peer at its new address whether it is there, right after a MOBIKE update."""
    endpoint_update: Feature = Feature.ALLOWED
    """SA endpoint update as negotiated (draft 001, appendix C)."""
    follow_plain_peers: bool = True
    """Follow authenticated packets from a new address also where the peer did not negotiate it."""
    vpn_fa: Feature = Feature.OFF
    """The foreign agent inside the gateway (draft 001, appendix B), as negotiated."""
    fa_advertisement: bytes = b""
    """The agent advertisement that peers with ``vpn_fa`` get: an ICMP message, no IP header."""
    liveness_s: float = 30.0
    """Check the peer after this long without an authenticated packet; 0 switches it off."""
    replay_window: int = 128
    send_certificate: bool = True
    version: int = 2
    """Of IKE: 1 or 2."""
    childless: bool = False
    """An IKE SA may stay without a child SA (RFC 6023)."""
    reauthenticate: bool = False
    """Renew the IKE SA by a new login instead of rekeying."""
    ppk: PpkPolicy | None = None
    profiles: tuple[Profile, ...] = ()
    """By group of the user; the first that fits."""
    profile_required: bool = False
    """Users without a profile are refused."""
    v1_exchange: V1Exchange = V1Exchange.MAIN
    v1_config_mode: ConfigMode = ConfigMode.PULL
    # initiator only
    user_credential: UserCredential | None = None
    device_too: bool = False
    """IKEv2: before its user logs in, the device proves itself by ``local_credential`` (RFC 4739).

    Without it the user's login stands for both.
    """
    remote: Endpoint | None = None
    local: Endpoint | None = None
    request_inner_address: bool = False
    home_address: IPv4Address | None = None
    """With a gateway that knows VPN/FA, where ``vpn_fa`` allows it, this is our side of the child
    SA (draft 001, appendix B.5). With any other one ``request_inner_address`` counts."""

    def asked_home_address(self, peer_knows_vpn_fa: bool) -> IPv4Address | None:
        """The home address that the child SA is asked for with, or None."""
        if peer_knows_vpn_fa and self.vpn_fa is not Feature.OFF:
            return self.home_address
        return None

    def asks_inner_address(self, peer_knows_vpn_fa: bool) -> bool:
        """Whether the gateway is to lease us an inner address."""
        return self.request_inner_address and self.asked_home_address(peer_knows_vpn_fa) is None

    @property
    def gives_addresses(self) -> bool:
        """Whether peers have to ask for an inner address."""
        return self.pool is not None and self.presence is Presence.ADDRESS

    def with_profile(self, profile: Profile) -> "ConnectionPolicy":
        """The connection as the members of a profile's groups have it."""
        changed = {
            name: value for name in _OF_PROFILE if (value := getattr(profile, name)) is not None
        }
        return replace(self, **changed)


_OF_PROFILE = (
    "pool",
    "pool6",
    "presence",
    "block_ipv6",
    "dns",
    "dns_domains",
    "subnets",
    "local_ts",
    "endpoint_update",
    "vpn_fa",
)


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
    key_exchanges_per_s: int = 500
    """With so many half-open SAs that cookies are demanded; the peers beyond it try again."""
    failed_logins_per_minute: int = 30
    """Of users from one address (IPv6: one /64); then it must wait. Many may share an address."""
    max_moves_per_minute: int = 30
    """Endpoint moves of one peer; more are refused and logged."""
    nat_keepalive_s: float = 20.0
    nat_port: int = 4500
    """Our own UDP port for IKE and ESP through NATs, and the one we expect of a responder."""
    listen: tuple[IPv4Address | IPv6Address, ...] = (IPv4Address(0),)
    """Our addresses; MOBIKE tells peers of those that they do not use (RFC 4555 section 3.4)."""


FindUser = Callable[[str], LocalUser | None]
"""Looks a user of the local user base up by name."""

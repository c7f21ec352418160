"""``[connections.NAME]``: who may connect, or whom we connect to, and what for."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gateway.config.fields import (
    Address,
    Address4,
    Domain,
    FeatureWord,
    FilePath,
    Flag,
    IdentityText,
    Name,
    Network,
    Number,
    PeerEndpoint,
    Secret,
    Section,
    Url,
    UserName,
    Whole,
)
from gateway.config.remote_access import AccessFields

RevocationWord = Literal["off", "when-known", "required"]
UserMethodWord = Literal["eap-mschapv2", "eap-tls", "eap-gtc", "eap-radius", "xauth"]


class LifetimesSection(Section):
    """``[connections.NAME.lifetimes]``: when SAs are renewed, see ``Lifetimes``."""

    ike_rekey_s: Number = Field(default=14_400.0, ge=60, le=604_800)
    ike_over_s: Number = Field(default=600.0, ge=10, le=86_400)
    child_rekey_s: Number = Field(default=3600.0, ge=60, le=604_800)
    child_over_s: Number = Field(default=300.0, ge=10, le=86_400)
    child_soft_bytes: Whole | None = Field(default=None, ge=1)
    child_hard_bytes: Whole | None = Field(default=None, ge=1)
    child_soft_packets: Whole | None = Field(default=None, ge=1)
    child_hard_packets: Whole | None = Field(default=None, ge=1)
    jitter: Number = Field(default=0.1, ge=0, le=0.5)


class AdvertisementSection(Section):
    """``[connections.NAME.foreign_agent]``: the agent advertisement of draft 001, appendix B.2."""

    name: Name | None = None
    """A ``[foreign_agents.NAME]`` with ``through_vpn``, which says all the rest."""
    care_of_addresses: tuple[Address4, ...] = Field(default=(), max_length=32)
    """Of the gateway, as mobile nodes see it through the tunnel."""
    registration_lifetime_s: Whole = Field(default=1800, ge=1, le=65_535)
    """The longest that a registration lasts; 65535 has no end."""
    lifetime_s: Whole = Field(default=1800, ge=3, le=9000)
    """How long the advertisement itself is good for."""
    registration_required: Flag = True
    """Mobile nodes register through this agent even with an address of their own."""
    reverse_tunnelling: Flag = True


def _by_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class ConnectionSection(AccessFields):
    """One connection. Without ``remote`` we only answer, and many devices may match it."""

    ike_version: Annotated[Whole, Field(ge=1, le=2)] = 2
    local_id: IdentityText | None = None
    """Our identity; without it, ``gateway.name``."""
    local_auth: Literal["certificate", "psk", "user"] = "certificate"
    """``user``: only with ``user``, whose login then stands for this device's proof; otherwise the
    device proves itself first and ``user`` logs in after that."""
    remote_id: IdentityText = "*"
    """An identity, or a pattern such as ``*@example.com`` or ``*.example.com``."""
    remote_auth: Literal["certificate", "psk", "user"] = "certificate"
    """``user``: its user's login alone, by EAP (IKEv2) or hybrid authentication (IKEv1). With
    another word and ``user_auth``, the device first and then its user (RFC 4739, XAUTH)."""
    psk: Secret | None = None
    psk_file: FilePath | None = None
    certificate: FilePath | None = None
    private_key: FilePath | None = None
    ca_certificates: tuple[FilePath, ...] = ()
    """These three replace those of ``[credentials]`` for this connection."""
    send_certificate: Flag = True
    crl_files: tuple[FilePath, ...] = ()
    ocsp_responder: Url | None = None
    revocation: RevocationWord | None = None
    """These three, too, replace those of ``[credentials]``."""
    allow_sha1_signatures: Flag = False
    """Take RSA signatures over SHA-1 from peers that know nothing else."""
    user_auth: tuple[UserMethodWord, ...] = ()
    """How the device's user logs in, best first."""
    user_backend: Name = "local"
    """Who knows the users: ``local``, or the name of a ``[radius.NAME]``."""
    user_names: IdentityText | None = None
    """A pattern of the users that may log in here; without it, all of the backend."""
    eap_identity: Flag = True
    """Ask for the user's name in EAP; otherwise the IKE identity is it."""
    profiles: tuple[Name, ...] = ()
    """Names of ``[profiles.NAME]``; a user gets the first that one of its groups has."""
    profile_required: Flag = False
    pool: Name | None = None
    local_subnets: tuple[Network, ...] = ()
    """What the peer may reach through the tunnel."""
    remote_subnets: tuple[Network, ...] = ()
    """What is on the peer's side when it gets no address from a pool."""
    dns: tuple[Address, ...] = ()
    """Replaces the DNS servers of the pool."""
    domains: tuple[Domain, ...] = ()
    """Only names below these go to our DNS servers (split DNS)."""
    ike_proposals: tuple[str, ...] = ()
    esp_proposals: tuple[str, ...] = ()
    lifetimes: LifetimesSection = LifetimesSection()
    reauthenticate: Flag = False
    """Renew the IKE SA by a new login instead of rekeying."""
    childless: Flag = False
    """An IKE SA may stay without a child SA (RFC 6023)."""
    ppk_id: IdentityText | None = None
    ppk_file: FilePath | None = None
    ppk_required: Flag = False
    """A post-quantum pre-shared key (RFC 8784)."""
    encapsulation: Literal["auto", "always"] = "auto"
    mode: Literal["tunnel", "transport"] = "tunnel"
    """``transport``: for L2TP (RFC 3193) and others who talk with the gateway itself; no pool."""
    mobike: Flag = True
    return_routability: Flag = True
    endpoint_update: FeatureWord = "allowed"
    follow_plain_peers: Flag = True
    """Follow peers that did not negotiate endpoint update as well."""
    vpn_fa: FeatureWord = "off"
    foreign_agent: Annotated[AdvertisementSection | None, BeforeValidator(_by_name)] = None
    """Or its name alone; without it, the only one with ``through_vpn``."""
    liveness_s: Number = Field(default=30.0, ge=0, le=86_400)
    replay_window: Whole = Field(default=128, ge=0, le=4096)
    # IKEv1 only
    exchange: Literal["main", "aggressive"] = "main"
    allow_aggressive_psk: Flag = False
    config_mode: Literal["pull", "push"] = "pull"
    # the remaining ones are for connections that we open ourselves
    remote: PeerEndpoint | None = None
    local: Address | None = None
    request_inner_address: Flag = False
    user: UserName | None = None
    password: Secret | None = None
    password_file: FilePath | None = None
    start: Literal["none", "trap", "start"] = "none"

    @property
    def asks_for_user(self) -> bool:
        """Whether the peer's user must log in."""
        return bool(self.user_auth) or self.remote_auth == "user"

    @property
    def needs_local_users(self) -> bool:
        """Whether a login needs the local user base."""
        return self.user_backend == "local" and any(m != "eap-tls" for m in self.user_auth)

    @property
    def needs_authorities(self) -> bool:
        """Whether certificates of the other side are judged, the device's or its user's."""
        eap_tls = "eap-tls" in self.user_auth or (self.user is not None and self.eap_certificate)
        return self.remote_auth == "certificate" or eap_tls

    @property
    def needs_certificate(self) -> bool:
        """Whether a certificate of ours is used: as the device, or as the user in EAP-TLS."""
        return self.local_auth == "certificate" or (self.user is not None and self.eap_certificate)

    @property
    def proves_device_too(self) -> bool:
        """Whether we prove the device in IKEv2 before our user logs in (RFC 4739)."""
        return self.ike_version == 2 and self.user is not None and self.local_auth != "user"

    @property
    def eap_certificate(self) -> bool:
        """Whether our user has a certificate for EAP-TLS: the connection names it itself."""
        named = self.certificate is not None or self.private_key is not None
        return self.ike_version == 2 and self.local_auth == "user" and named


class ProfileSection(AccessFields):
    """``[profiles.NAME]``: what the members of some groups get instead of the connection's."""

    groups: tuple[Annotated[str, Field(min_length=1, max_length=253)], ...] = Field(min_length=1)
    """Of the local user base, or as the RADIUS server names them (Filter-Id or Class)."""
    pool: Name | None = None
    dns: tuple[Address, ...] | None = None
    domains: tuple[Domain, ...] | None = None
    subnets: tuple[Network, ...] | None = None
    """In place of ``local_subnets``."""
    endpoint_update: FeatureWord | None = None
    vpn_fa: FeatureWord | None = None

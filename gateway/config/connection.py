"""``[connections.NAME]``: who may connect, or whom we connect to, and what for."""

from typing import Literal

from pydantic import Field

from gateway.config.fields import (
    Address,
    Domain,
    FilePath,
    Flag,
    IdentityText,
    Name,
    Network,
    Number,
    PeerEndpoint,
    Secret,
    Section,
    Whole,
)


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


class ConnectionSection(Section):
    """One connection. Without ``remote`` we only answer, and many devices may match it."""

    local_id: IdentityText | None = None
    """Our identity; without it, ``gateway.name``."""
    local_auth: Literal["certificate", "psk"] = "certificate"
    remote_id: IdentityText = "*"
    """An identity, or a pattern such as ``*@example.com`` or ``*.example.com``."""
    remote_auth: Literal["certificate", "psk"] = "certificate"
    psk: Secret | None = None
    psk_file: FilePath | None = None
    certificate: FilePath | None = None
    private_key: FilePath | None = None
    ca_certificates: tuple[FilePath, ...] = ()
    """These three replace those of ``[credentials]`` for this connection."""
    send_certificate: Flag = True
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
    encapsulation: Literal["auto", "always"] = "auto"
    mobike: Flag = True
    endpoint_update: Flag = True
    liveness_s: Number = Field(default=30.0, ge=0, le=86_400)
    replay_window: Whole = Field(default=128, ge=0, le=4096)
    # the remaining ones are for connections that we open ourselves
    remote: PeerEndpoint | None = None
    local: Address | None = None
    request_inner_address: Flag = False
    start: Literal["none", "trap", "start"] = "none"

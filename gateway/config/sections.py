"""The tables of ``gateway.toml`` that exist once, and the pools."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gateway.config.fields import (
    Address,
    Domain,
    FilePath,
    Flag,
    InterfaceName,
    ListenEndpoint,
    Name,
    Network,
    Number,
    Port,
    Secret,
    Section,
    Url,
    Whole,
)
from gateway.config.remote_access import LeaseFields
from gateway.domain.endpoint import Endpoint

_LOOPBACK = IPv4Address("127.0.0.1")
_ANY = IPv4Address("0.0.0.0")  # noqa: S104 - a gateway answers on its outside addresses


class GatewaySection(Section):
    """``[gateway]``: the process as a whole."""

    name: str = Field(default="gateway", min_length=1, max_length=253)
    """Name of this gateway in logs, and the default identity of its connections."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["human", "json"] = "human"
    runtime_dir: FilePath = Path("/run/gateway")
    on_sigterm: Literal["keep", "close"] = "keep"
    """What becomes of sessions when it is told to end: the next process takes them over, or the
    peers are told goodbye."""


class IkeSection(Section):
    """``[ike]``: sockets and limits of the IKE engine, see ``EngineSettings``."""

    listen: tuple[Address, ...] = Field(default=(_ANY,), min_length=1)
    port: Port = 500
    nat_port: Port = 4500
    tcp_listen: tuple[ListenEndpoint, ...] = ()
    """Where IKE and ESP by TCP are accepted (RFC 9329)."""
    tcp_connections: Whole = Field(default=1000, ge=1, le=100_000)
    tcp_connections_per_source: Whole = Field(default=100, ge=1, le=100_000)
    retransmit_first_s: Number = Field(default=1.0, ge=0.1, le=60)
    retransmit_factor: Number = Field(default=1.8, ge=1, le=10)
    retransmit_tries: Whole = Field(default=7, ge=1, le=20)
    half_open_timeout_s: Number = Field(default=30.0, ge=1, le=600)
    half_open_limit: Whole = Field(default=1000, ge=1, le=1_000_000)
    half_open_per_source: Whole = Field(default=10, ge=1, le=1_000_000)
    cookie_threshold: Whole = Field(default=100, ge=0, le=1_000_000)
    key_exchanges_per_s: Whole = Field(default=500, ge=1, le=1_000_000)
    fragment_size: Whole = Field(default=1280, ge=576, le=65_535)
    max_fragments: Whole = Field(default=64, ge=2, le=255)
    max_message_octets: Whole = Field(default=65_536, ge=1280, le=1_048_576)
    failed_logins_per_minute: Whole = Field(default=30, ge=1, le=6000)
    max_moves_per_minute: Whole = Field(default=30, ge=1, le=6000)
    nat_keepalive_s: Number = Field(default=20.0, ge=0, le=3600)


class DataplaneSection(Section):
    """``[dataplane]``: what carries the packets."""

    kind: Literal["auto", "kernel", "portable"] = "auto"
    """Who carries them: the kernel, or a process of ours in user space."""
    xfrm_interface: InterfaceName = "gw0"
    """The interface that the tunnels' inner packets pass."""
    outside_interfaces: tuple[InterfaceName, ...] = ()
    """Interfaces that must not reach ``local_subnets`` without a tunnel."""
    mtu: Whole = Field(default=1400, ge=576, le=65_535)
    """Largest inner packet in octets."""
    queue: Whole = Field(default=4757, ge=0, le=65_535)
    """Number of the netfilter queue of the slow path."""
    queue_length: Whole = Field(default=1024, ge=1, le=65_535)
    """Packets that may wait in it."""
    forwarding: Flag = True
    """Turn IP forwarding on at start."""


class PoolSection(LeaseFields):
    """``[pools.NAME]``: inner addresses for the devices."""

    network: Network
    dns: tuple[Address, ...] = ()
    reserved: tuple[Network, ...] = ()
    """Addresses and networks of the pool that are never given out."""


class CredentialsSection(Section):
    """``[credentials]``: what proves who we are and whom we believe, all PEM."""

    ca_certificates: tuple[FilePath, ...] = ()
    """Files, or directories whose ``*.pem`` and ``*.crt`` count."""
    certificate: FilePath | None = None
    """Our certificate, leaf first, followed by intermediate CAs."""
    private_key: FilePath | None = None
    crl_files: tuple[FilePath, ...] = ()
    """Revoked certificates, PEM or DER; read again when they change."""
    ocsp_responder: Url | None = None
    """The only one that is ever asked; addresses in certificates are not looked at."""
    revocation: Literal["off", "when-known", "required"] = "when-known"
    crl_grace_s: Number = Field(default=0.0, ge=0, le=31_536_000)
    """A CRL counts as fresh so long after its next update was due."""


class UsersSection(Section):
    """``[users]``: the local user base, see ``UserBaseSettings``."""

    file: FilePath | None = None
    """Written by ``gateway users``; without it there are no local users."""
    key_file: FilePath | None = None
    """Seals what MSCHAPv2 needs; without it, ``file`` with ``.key`` behind."""
    scrypt_ln: Whole = Field(default=14, ge=10, le=18)
    """Cost of a password check for passwords set from now on: 14 takes 16 MB and about 50 ms."""


class RadiusServerSection(Section):
    """``[radius.NAME.servers.SERVER]``: one server and the secret shared with it."""

    address: Address
    authentication_port: Port = 1812
    accounting_port: Port = 1813
    secret_file: FilePath | None = None
    secret: Secret | None = None


class RadiusSection(Section):
    """``[radius.NAME]``: servers that know the same users, the preferred first."""

    servers: dict[Name, RadiusServerSection] = Field(min_length=1)
    accounting: Flag = True
    group_attributes: tuple[Literal["filter-id", "class"], ...] = Field(
        default=("filter-id", "class"), min_length=1
    )
    """Which attributes of an answer name the user's groups."""
    nas_identifier: str | None = Field(default=None, min_length=1, max_length=253)
    """Without it, ``gateway.name``."""
    nas_address: Address | None = None
    """Without it, the address of ours that the device came to."""
    retransmit_first_s: Number = Field(default=1.0, ge=0.1, le=30)
    tries: Whole = Field(default=3, ge=1, le=10)
    """Transmissions to one server before another is asked."""
    deadline_s: Number = Field(default=20.0, ge=1, le=120)
    hold_s: Number = Field(default=60.0, ge=1, le=3600)
    """A server that did not answer is left alone this long."""
    interim_interval_s: Number | None = Field(default=None, ge=60, le=86_400)
    """Between interim accounting records when the server does not say; None sends none."""


class ApiSection(Section):
    """``[api]``: the process of the REST interface and the dashboard."""

    enabled: Flag = True
    listen: ListenEndpoint = Endpoint(_LOOPBACK, 8443)
    names: tuple[Domain, ...] = Field(default=(), max_length=32)
    """Host names that it answers to, besides the addresses that it listens on."""
    tls: Flag = True
    """Only on loopback may it be false."""
    certificate: FilePath | None = None
    """Leaf first; without it, one is made at first start."""
    private_key: FilePath | None = None
    metrics_open: tuple[Network, ...] = Field(default=(), max_length=32)
    """Who comes from there reads ``/metrics`` without a token."""
    token_file: FilePath | None = None
    """Holds the bearer token; without it, a new one is written to ``RUNTIME_DIR/api-token``."""
    user: str = Field(default="nobody", min_length=1)
    """The user that the API process runs as when the gateway is started as root."""


class ControlSection(Section):
    """``[control]``: the unix socket that every other interface is a client of."""

    socket: FilePath | None = None
    """Without it, ``RUNTIME_DIR/control.sock``."""
    allowed_uids: tuple[Annotated[Whole, Field(ge=0)], ...] = ()
    """Besides root and the gateway's own user."""
    allowed_groups: tuple[Name, ...] = ()

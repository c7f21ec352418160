"""The tables of Negotiated Address Reuse: NAR servers, their rules, and what they share."""

from ipaddress import IPv4Address
from pathlib import Path

from pydantic import Field

from gateway.config.fields import (
    FilePath,
    Flag,
    InterfaceName,
    Name,
    Number,
    Section,
    UserName,
    Whole,
)
from gateway.config.nar_fields import (
    AnyNetworks,
    DeliveryWord,
    IcmpIds,
    InterfaceAddress,
    LentAddresses,
    Listens,
    NarNetworks,
    PortSpans,
    ProtocolWord,
    Spis,
    TlsListens,
    TunnelAddress,
)

ALL_PROTOCOLS: tuple[ProtocolWord, ...] = ("tcp", "udp", "icmp", "esp", "ah", "ip-ip", "gre")
ALL_DELIVERIES: tuple[DeliveryWord, ...] = ("ip-ip", "gre", "l2tp", "translated")


class NarRuleSection(Section):
    """``[nar.NAME.rules.RULE]``: what some clients may do; the first that fits counts."""

    users: tuple[UserName, ...] = ()
    groups: tuple[UserName, ...] = ()
    """A user in one of them fits as well. Without users and groups, everybody who is let in."""
    clients: NarNetworks = ()
    """Where the client has to come from; empty for anywhere."""
    protocols: tuple[ProtocolWord, ...] = Field(default=ALL_PROTOCOLS, min_length=1)
    ports: PortSpans = ()
    """Ports outside ``ports`` of the server that the client may wish for."""
    remotes: NarNetworks = ()
    """With whom; empty for anybody who is not forbidden."""
    any_remote: Flag = False
    """Whether a mapping may be open to everybody outside (a server mapping)."""
    deliveries: tuple[DeliveryWord, ...] | None = Field(default=None, min_length=1)
    """Without it, those of the server."""
    max_leases: Whole = Field(default=256, ge=0, le=100_000)
    """Of one client at a time; 0 for clients that may use the proxy only."""
    max_lease_s: Number | None = Field(default=None, ge=10, le=366 * 86_400)
    proxy: Flag = False
    proxy_ipv6: Flag = False


class NarServerSection(Section):
    """``[nar.NAME]``, see ``NarServerPolicy`` and ``NarServerSettings``."""

    listen: Listens = ()
    """SOCKS5 and NAR, port 1080 if none is named."""
    tls_listen: TlsListens = ()
    """The same in TLS from the first octet."""
    tunnel_address: TunnelAddress | None = None
    """Na. Without it, the first address of ``listen`` or ``tls_listen``."""
    addresses: LentAddresses
    """Nb and more: lent to clients."""
    client_interfaces: tuple[InterfaceName, ...] = Field(min_length=1)
    outside_interfaces: tuple[InterfaceName, ...] = Field(min_length=1)
    ports: PortSpans = (range(20_000, 30_000),)
    icmp_ids: IcmpIds = range(0xC000, 0x1_0000)
    spis: Spis = range(0x4000_0000, 0x8000_0000)
    trusted: NarNetworks = ()
    """Clients from here need no login."""
    backend: Name | None = None
    """Who knows the users: ``local``, or a RADIUS backend."""
    require_tls: Flag = True
    certificate: FilePath | None = None
    """For ``tls_listen``. Without it, that of ``[credentials]``."""
    private_key: FilePath | None = None
    deliveries: tuple[DeliveryWord, ...] = Field(default=ALL_DELIVERIES, min_length=1)
    impose: DeliveryWord | None = None
    """Every client gets this delivery, whatever it asks for."""
    lease_s: Number = Field(default=600.0, ge=10, le=86_400)
    grace_s: Number = Field(default=120.0, ge=0, le=86_400)
    handshake_s: Number = Field(default=10.0, ge=1, le=300)
    idle_s: Number = Field(default=300.0, ge=10, le=86_400)
    max_connections: Whole = Field(default=20_000, ge=1, le=1_000_000)
    max_connections_per_source: Whole = Field(default=100, ge=1, le=1_000_000)
    max_leases: Whole = Field(default=100_000, ge=1, le=1_000_000)
    forbidden: AnyNetworks = ()
    """Never a target, besides what never is: loopback, link-local, multicast, ourselves."""
    masquerade: NarNetworks = ()
    """Networks of clients whose other traffic leaves by ordinary NAPT."""
    rules: dict[Name, NarRuleSection] = Field(default_factory=dict)

    @property
    def tunnel_end(self) -> IPv4Address | None:
        """Na, said or implied; None where the file does not tell."""
        if self.tunnel_address is not None:
            return self.tunnel_address
        for where in (*self.listen, *self.tls_listen):
            if isinstance(where.address, IPv4Address) and not where.address.is_unspecified:
                return where.address
        return None

    @property
    def lent_interfaces(self) -> tuple[str, ...]:
        """Interfaces whose address is lent, whichever it is at the time."""
        return tuple(a.interface for a in self.addresses if isinstance(a, InterfaceAddress))


class NarSettingsSection(Section):
    """``[nar_settings]``: what all NAR servers share."""

    state_dir: FilePath = Path("/var/lib/gateway")
    """Leases and the audit are kept here."""
    offload: Flag = True
    """The kernel carries the packets; otherwise each passes through the gateway's process."""
    queue: Whole = Field(default=4759, ge=0, le=65_535)
    queue_length: Whole = Field(default=4096, ge=1, le=65_535)
    mtu: Whole = Field(default=1480, ge=576, le=65_535)
    """Of the tunnels between servers and clients."""
    dead_after_s: Number = Field(default=120.0, ge=10, le=3600)
    """Mappings go on so long without a living gateway."""
    audit: Flag = True
    audit_days: Number = Field(default=180.0, ge=0.01, le=3660)
    """How long it is remembered who held what."""
    audit_rows: Whole = Field(default=1_000_000, ge=1000, le=100_000_000)
    """At most; the oldest go first."""

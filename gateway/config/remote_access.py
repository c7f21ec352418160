"""The tables of remote access (draft 000): NAPT, redirects, translations, rules, names, bridges."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.fields import (
    Address,
    Domain,
    FilePath,
    Flag,
    IdentityText,
    InterfaceName,
    Name,
    Network,
    Number,
    Port,
    Section,
    UserName,
    Whole,
)
from gateway.config.remote_access_fields import AddressRange, PortRange, Protocol, TimeSpan

HelperWord = Literal["ftp", "sip", "h323", "irc", "pptp", "tftp"]
"""Protocols that carry addresses (draft 000, appendix C): the kernel's helpers."""
MAX_OF_A_RULE = 1000
"""Networks, ports or persons that one rule names."""


class NaptSection(Section):
    """``[napt.NAME]``: the inside presence of devices without inner addresses (appendix A)."""

    addresses: tuple[AddressRange, ...] = Field(default=(), max_length=64)
    """G_i: what their packets have as source; without it, the address of the interface that they
    leave by."""
    ports: PortRange = Field(default=(1024, 65_535), json_schema_extra={"default": "1024-65535"})
    """A device's own port is kept where it is free and, for other ports than these, one of them.
    With these, a reserved port (below 1024) is exchanged for a reserved one."""
    any_source: tuple[Network, ...] = Field(default=(), max_length=256)
    """UDP answers may come from any address of these networks: servers with several addresses
    answer from another than they were asked at (appendix C). IPv4 only."""


class RedirectSection(Section):
    """``[redirects.NAME]``: an inside address and port that leads to a device (appendix C)."""

    protocol: Literal["tcp", "udp"] = "tcp"
    address: Address | None = None
    """Of the gateway, where inside hosts connect to; without it, every inside address of it."""
    ports: PortRange
    device: IdentityText
    """A ``[devices.NAME]``, or the identity that it proves."""
    to_port: Port | None = None
    """The first port on the device; without it, the same ports."""
    sources: tuple[Network, ...] = Field(default=(), max_length=256)
    """Who may use it; without it, everybody inside."""


class TranslationSection(Section):
    """``[translations.NAME]``: an inside network under other addresses, one for one.

    For devices whose own network has the same addresses.
    """

    network: Network
    """As it is."""
    shown_as: Network
    """As devices address it, of the same size."""


class RuleSection(Section):
    """``[rules.NAME]``: who may reach what.

    Applies to the sessions of connections and profiles that list it in ``rules``, and to the
    users, groups and devices that it names. Of the rules that apply to a session, one that refuses
    wins. In a direction for which any rule allows something, nothing else is allowed.
    """

    action: Literal["allow", "refuse"] = "allow"
    direction: Literal["to-inside", "from-inside", "between-devices", "to-gateway"] = "to-inside"
    """``from-inside`` is what inside hosts open to the device."""
    networks: tuple[Network, ...] = Field(default=(), max_length=MAX_OF_A_RULE)
    """The other side; without it, any."""
    protocols: tuple[Protocol, ...] = Field(default=(), max_length=64)
    """Names or numbers; without it, any."""
    ports: tuple[PortRange, ...] = Field(default=(), max_length=MAX_OF_A_RULE)
    """Of the side that is connected to; only with TCP, UDP, SCTP or DCCP."""
    times: tuple[TimeSpan, ...] = Field(default=(), max_length=64)
    """When it is in force, in the time zone of the gateway; without it, always."""
    helper: HelperWord | None = None
    """Lets connections through that this protocol announces in its payload."""
    log: Flag = False
    """Log what it refuses, at a bounded rate."""
    users: tuple[UserName, ...] = Field(default=(), max_length=MAX_OF_A_RULE)
    groups: tuple[UserName, ...] = Field(default=(), max_length=MAX_OF_A_RULE)
    devices: tuple[IdentityText, ...] = Field(default=(), max_length=MAX_OF_A_RULE)
    """Names of ``[devices.NAME]``, or identities."""


class FilteringSection(Section):
    """``[filtering]``: what holds for devices without rules."""

    isolate_devices: Flag = True
    """Devices do not reach each other, unless a rule allows it."""
    to_gateway: Literal["services", "all", "none"] = "services"
    """What of the gateway itself devices reach through the tunnel: ``services`` are those of its
    roles (ping, names, mobility agents, NAR), not its administration."""
    log_refusals: Flag = True
    log_refusals_per_minute: Whole = Field(default=30, ge=1, le=6000)


class RegistrationSection(Section):
    """``[names.registration]``: devices get names inside, by dynamic update (RFC 2136)."""

    server: Address
    port: Port = 53
    zone: Domain
    """Devices are named ``NAME.ZONE``."""
    reverse: Flag = True
    """Register the addresses in the reverse zone, too."""
    key_name: Domain
    algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    secret_file: FilePath
    """The TSIG key (RFC 8945), in base64."""
    ttl_s: Whole = Field(default=60, ge=0, le=86_400)


class ForwardSection(Section):
    """``[[names.forward]]``: names below some domains have servers of their own."""

    domains: tuple[Domain, ...] = Field(min_length=1, max_length=256)
    servers: tuple[Address, ...] = Field(min_length=1, max_length=8)


class NamesSection(Section):
    """``[names]``: names inside (draft 000, section 5)."""

    listen: tuple[Address, ...] = Field(default=(), max_length=8)
    """Where the forwarder answers devices; none: there is no forwarder. Push it with ``dns``."""
    port: Port = 53
    servers: tuple[Address, ...] = Field(default=(), max_length=8)
    """Whom the forwarder asks."""
    forward: tuple[ForwardSection, ...] = Field(default=(), max_length=256)
    cache_entries: Whole = Field(default=4096, ge=0, le=1_000_000)
    user: str = Field(default="nobody", min_length=1)
    """The user that the forwarder's process runs as when the gateway is started as root."""
    registration: RegistrationSection | None = None
    published: Domain | None = None
    """The domain in whose public DNS devices find the gateway (KX, SRV and A)."""


class BridgeSection(Section):
    """``[bridges.NAME]``: what is not IP, by GRE through the tunnel (draft 000, section 1.1)."""

    interface: InterfaceName
    """A bridge of the host, or an inside interface that is put into one."""
    address: Address
    """Of the gateway, inside the tunnel: the other end of the devices' GRE tunnels."""


Bandwidth = Annotated[Whole, Field(ge=8, le=100_000_000)]
"""Kilobits per second."""


class AccessFields(Section):
    """What connections and profiles say of remote access; None in a profile: as the connection."""

    pool6: Name | None = None
    """A second pool, with the addresses of the other IP version."""
    presence: Literal["address", "napt"] | None = None
    """``napt``: devices keep their own addresses in the tunnel and appear as the gateway's."""
    napt: Name | None = None
    """A ``[napt.NAME]``; without it, NAPT as its defaults are."""
    rules: tuple[Name, ...] | None = Field(default=None, max_length=256)
    translations: tuple[Name, ...] | None = Field(default=None, max_length=64)
    bridge: Name | None = None
    bandwidth_up_kbit_s: Bandwidth | None = None
    """From the device."""
    bandwidth_down_kbit_s: Bandwidth | None = None
    ipv6: Literal["pass", "block"] | None = None
    """``block``: a device that gets no IPv6 address of ours gets one that leads nowhere, so that
    its IPv6 traffic does not pass the tunnel by."""


class LeaseFields(Section):
    """What a pool says of its leases and of how the inside learns of it."""

    lease_s: Number = Field(default=86_400.0, ge=0, le=31_536_000)
    """How long an address stays its device's after the session's end. When all others are taken,
    the one that was left the longest ago is given to somebody else."""
    static: dict[IdentityText, Address] = Field(default_factory=dict, max_length=65_536)
    """Identities or users that always get the same address, which nobody else gets."""
    advertise: Literal["none", "proxy-arp", "frr", "route-hint"] = "none"
    """How inside routers learn where the pool is: the gateway answers ARP (and neighbour
    solicitations) for leased addresses; FRR announces them; or ``gateway check`` prints the
    static route to enter."""
    inside_interface: InterfaceName | None = None
    """For ``proxy-arp``."""

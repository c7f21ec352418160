"""The tables of the mobility agents: home networks, home agents, mobile nodes, foreign agents."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, WrapValidator

from gateway.config.fields import (
    Address4,
    FeatureWord,
    FilePath,
    Flag,
    IdentityText,
    InterfaceName,
    Name,
    Number,
    Port,
    Section,
    Whole,
)
from gateway.config.mobility_fields import (
    AddressRanges,
    AlgorithmWord,
    EncapsulationWord,
    KeyText,
    LifetimeSeconds,
    LoginKeys,
    Nai,
    Network4,
    Networks4,
    PacketOctets,
    ReplayWord,
    Spi,
    keys_or_login,
)

_ALL: tuple[EncapsulationWord, ...] = ("ip-ip", "minimal", "gre")


class KeySection(Section):
    """A mobility security association: the key that an SPI means (RFC 5944 section 1.6)."""

    spi: Spi
    key: KeyText | None = None
    key_file: FilePath | None = None
    algorithm: AlgorithmWord = "hmac-md5"


class NodeKeySection(KeySection):
    """``[[mobile_nodes.NAME.keys]]``: one of a mobile node's, when it has several."""

    replay: ReplayWord = "timestamps"
    replay_window_s: Number = Field(default=7.0, ge=1, le=3600)


class PeerAgentSection(Section):
    """``[home_agents.NAME.foreign_agents.OTHER]`` and the like: an agent we share a key with."""

    address: Address4
    spi: Spi
    key: KeyText | None = None
    key_file: FilePath | None = None
    algorithm: AlgorithmWord = "hmac-md5"
    required: Flag = True
    """Refuse what comes by way of it without its authenticator."""


class MobileNodeSection(Section):
    """``[mobile_nodes.NAME]``: a device that home agents know."""

    home_address: Address4 | None = None
    """Without it, one from the ``dynamic`` addresses of its home network."""
    nai: Nai | None = None
    home_network: Name | None = None
    """Where a dynamic address comes from; without it, the first that has some."""
    home_agents: tuple[Name, ...] = ()
    """Without it, every one that has its home network."""
    spi: Spi | None = None
    key: KeyText | None = None
    key_file: FilePath | None = None
    algorithm: AlgorithmWord = "hmac-md5"
    replay: ReplayWord = "timestamps"
    replay_window_s: Number = Field(default=7.0, ge=1, le=3600)
    keys: Annotated[tuple[NodeKeySection, ...], WrapValidator(keys_or_login)] = ()
    """In place of, or besides, the key here. ``"login"``: they come with a login at the gateway."""
    identity: IdentityText | None = None
    """Whose login at the gateway brings this home address."""
    max_packet_octets: PacketOctets | None = None
    max_care_of_addresses: Whole = Field(default=3, ge=1, le=16)

    @property
    def logs_in(self) -> bool:
        """Whether its keys come with a login at the gateway."""
        return isinstance(self.keys, LoginKeys)


class HomeNetworkSection(Section):
    """``[home_networks.NAME]``: where mobile nodes belong."""

    network: Network4
    interface: InterfaceName | None = None
    """The link that it is; without it, it is virtual and its nodes are always away."""
    dynamic: AddressRanges = ()
    """Addresses for nodes without a home address of their own."""
    reserved: Networks4 = ()
    """Of ``dynamic``, never given out."""


class HomeAgentSection(Section):
    """``[home_agents.NAME]``, see ``HomeAgentPolicy``."""

    address: Address4
    placement: Literal["inside", "outside"]
    home_networks: tuple[Name, ...] = Field(min_length=1)
    remote: Flag = False
    """It is in another box; logins here bring home addresses of it all the same."""
    ticket_key_file: FilePath | None = None
    """As that of ``[mobility]``, for this home agent alone."""
    public_addresses: tuple[Address4, ...] = ()
    """How nodes name it when its address is translated on the way."""
    lifetime_s: LifetimeSeconds = 1800
    lifetime_spread: Number = Field(default=0.1, ge=0, le=0.5)
    encapsulations: tuple[EncapsulationWord, ...] = Field(default=_ALL, min_length=1)
    reverse_tunnelling: FeatureWord = "allowed"
    udp_tunnelling: FeatureWord = "allowed"
    keepalive_s: Whole = Field(default=110, ge=1, le=65_535)
    simultaneous: Flag = True
    broadcasts: Flag = True
    revocation: Flag = True
    zero_overhead: Literal["off", "allowed"] = "allowed"
    """Draft 001, appendix D."""
    zero_overhead_destinations: Networks4 = ()
    """Default destinations that nodes may ask for; empty for any."""
    max_packet_octets: PacketOctets = 1400
    max_bindings: Whole = Field(default=100_000, ge=1, le=1_000_000)
    trust_unsigned_agents: Flag = True
    """Serve requests by way of foreign agents that share no key with us."""
    foreign_agents: dict[Name, PeerAgentSection] = Field(default_factory=dict)


class ForeignAgentSection(Section):
    """``[foreign_agents.NAME]``, see ``ForeignAgentPolicy``."""

    care_of_address: Address4
    interface: InterfaceName | None = None
    """The link of the visitors."""
    through_vpn: Flag = False
    """The visitors come by the tunnels of this gateway (draft 001, appendix B)."""
    nar_server: Name | None = None
    """Visitors with an address of their own may use ``care_of_address`` by this ``[nar.NAME]``."""
    home_agents: Networks4 = ()
    """Where requests are relayed to; empty for anywhere."""
    registration_required: Flag = True
    require_visitor_authentication: Flag = False
    lifetime_s: LifetimeSeconds = 1800
    reverse_tunnelling: FeatureWord = "allowed"
    udp_tunnelling: FeatureWord = "allowed"
    """``required``: this foreign agent is behind a NAT itself."""
    encapsulations: tuple[EncapsulationWord, ...] = Field(default=_ALL, min_length=1)
    challenge: Flag = False
    nai: Nai | None = None
    advertisement_interval_s: Number = Field(default=10.0, ge=0, le=1800)
    advertisement_lifetime_s: Whole = Field(default=30, ge=3, le=9000)
    revocation: Flag = True
    max_visitors: Whole = Field(default=10_000, ge=1, le=1_000_000)
    max_pending: Whole = Field(default=1000, ge=1, le=100_000)
    pending_timeout_s: Number = Field(default=7.0, ge=1, le=60)
    max_packet_octets: PacketOctets = 1400
    trust_unsigned_agents: Flag = True
    """Take replies of home agents that share no key with us."""
    known_home_agents: dict[Name, PeerAgentSection] = Field(default_factory=dict)
    visitor_keys: tuple[KeySection, ...] = ()
    """Keys shared with visitors (MN-FA authentication), by SPI."""


class RelaySection(Section):
    """``[[mobility.relays]]``: a private home agent behind a port (draft 002, section 4.2.3)."""

    public_address: Address4
    public_port: Port
    home_agent: Address4


class MobilitySection(Section):
    """``[mobility]``: what all mobility agents share."""

    state_dir: FilePath = Path("/var/lib/gateway")
    """Bindings are kept here, so that a restart finds them."""
    mobile_nodes_file: FilePath | None = None
    """A file of more ``[mobile_nodes.NAME]`` tables."""
    offload: Flag = True
    """The kernel carries the packets; otherwise each passes through the gateway's process."""
    queue: Whole = Field(default=4758, ge=0, le=65_535)
    queue_length: Whole = Field(default=4096, ge=1, le=65_535)
    inside_home_agents: tuple[Address4, ...] = ()
    """i-HAs of others behind us: registrations from outside do not reach them."""
    ticket_key_file: FilePath | None = None
    """Keys that gateway and home agents share: logins are told by tickets sealed with the first."""
    ticket_lifetime_s: Whole = Field(default=7 * 86_400, ge=300, le=366 * 86_400)
    """How long a login lets a device register."""
    relays: tuple[RelaySection, ...] = ()


class MobileNodesFile(Section):
    """What ``mobility.mobile_nodes_file`` holds."""

    mobile_nodes: dict[Name, MobileNodeSection] = Field(default_factory=dict)

"""The whole file."""

from ipaddress import IPv4Address
from pathlib import Path

from pydantic import Field, PrivateAttr

from gateway.config.administration import DeviceSection, StoreSection
from gateway.config.connection import ConnectionSection, ProfileSection
from gateway.config.fields import Name, Section
from gateway.config.mobility import (
    ForeignAgentSection,
    HomeAgentSection,
    HomeNetworkSection,
    MobileNodeSection,
    MobilitySection,
)
from gateway.config.nar import NarServerSection, NarSettingsSection
from gateway.config.problem import Problem
from gateway.config.provisioning import ProvisioningSection
from gateway.config.remote_access import (
    BridgeSection,
    FilteringSection,
    NamesSection,
    NaptSection,
    RedirectSection,
    RuleSection,
    TranslationSection,
)
from gateway.config.sections import (
    ApiSection,
    ControlSection,
    CredentialsSection,
    DataplaneSection,
    GatewaySection,
    IkeSection,
    PoolSection,
    RadiusSection,
    UsersSection,
)
from gateway.domain.child_sa import IpNetwork


class Config(Section):
    """A configuration that was read and found usable. Immutable."""

    gateway: GatewaySection = GatewaySection()
    ike: IkeSection = IkeSection()
    dataplane: DataplaneSection = DataplaneSection()
    pools: dict[Name, PoolSection] = Field(default_factory=dict)
    credentials: CredentialsSection = CredentialsSection()
    users: UsersSection = UsersSection()
    radius: dict[Name, RadiusSection] = Field(default_factory=dict)
    profiles: dict[Name, ProfileSection] = Field(default_factory=dict)
    connections: dict[Name, ConnectionSection] = Field(default_factory=dict)
    mobility: MobilitySection = MobilitySection()
    home_networks: dict[Name, HomeNetworkSection] = Field(default_factory=dict)
    home_agents: dict[Name, HomeAgentSection] = Field(default_factory=dict)
    mobile_nodes: dict[Name, MobileNodeSection] = Field(default_factory=dict)
    foreign_agents: dict[Name, ForeignAgentSection] = Field(default_factory=dict)
    nar_settings: NarSettingsSection = NarSettingsSection()
    nar: dict[Name, NarServerSection] = Field(default_factory=dict)
    napt: dict[Name, NaptSection] = Field(default_factory=dict)
    redirects: dict[Name, RedirectSection] = Field(default_factory=dict)
    translations: dict[Name, TranslationSection] = Field(default_factory=dict)
    rules: dict[Name, RuleSection] = Field(default_factory=dict)
    filtering: FilteringSection = FilteringSection()
    bridges: dict[Name, BridgeSection] = Field(default_factory=dict)
    names: NamesSection = NamesSection()
    devices: dict[Name, DeviceSection] = Field(default_factory=dict)
    store: StoreSection = StoreSection()
    provisioning: ProvisioningSection = ProvisioningSection()
    api: ApiSection = ApiSection()
    control: ControlSection = ControlSection()

    _path: Path = PrivateAttr(default=Path())
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())
    _broken: dict[tuple[str, str], tuple[Problem, ...]] = PrivateAttr(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file this was read from."""
        return self._path

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is allowed but should be looked at."""
        return self._warnings

    @property
    def broken(self) -> dict[tuple[str, str], tuple[Problem, ...]]:
        """Stored objects that were left out, by kind and name, and why."""
        return self._broken

    @property
    def offered_networks(self) -> tuple[IpNetwork, ...]:
        """What devices may reach by tunnels, and outside interfaces may not; each once."""
        offers = [connection.local_subnets for connection in self.connections.values()]
        offers += [profile.subnets or () for profile in self.profiles.values()]
        found = dict.fromkeys(network for offer in offers for network in offer if network.prefixlen)
        return tuple(found)

    @property
    def has_mobility_agents(self) -> bool:
        """Whether a home agent or foreign agent runs here."""
        return bool(self.own_home_agents or self.foreign_agents)

    @property
    def own_home_agents(self) -> dict[str, HomeAgentSection]:
        """The home agents that run here, by name."""
        return {name: agent for name, agent in self.home_agents.items() if not agent.remote}

    @property
    def others_inside(self) -> tuple[IPv4Address, ...]:
        """Inside home agents in other boxes: registrations from outside do not reach them."""
        remote = [a for a in self.home_agents.values() if a.remote and a.placement == "inside"]
        found = (*self.mobility.inside_home_agents, *(agent.address for agent in remote))
        return tuple(dict.fromkeys(found))

    @property
    def needs_mobility(self) -> bool:
        """Whether there is anything to do for Mobile IPv4: agents of ours, or others' behind us."""
        others = self.others_inside or self.mobility.relays
        return self.has_mobility_agents or bool(others)

    @property
    def needs_nar(self) -> bool:
        """Whether a NAR server runs here."""
        return bool(self.nar)

    @property
    def control_socket(self) -> Path:
        """Where the control socket is."""
        return self.control.socket or self.gateway.runtime_dir / "control.sock"

    @property
    def store_key_file(self) -> Path:
        """Where the key is that seals the secrets of the store."""
        return self.store.key_file or self.store.state_dir / "store.key"

    @property
    def store_url(self) -> str:
        """The database; may hold a password."""
        if self.store.url is not None:
            return self.store.url.get_secret_value()
        return f"sqlite:///{self.store.state_dir / 'gateway.sqlite'}"

    @property
    def user_key_file(self) -> Path | None:
        """Where the key is that seals NT hashes; None without local users."""
        file = self.users.file
        if file is None:
            return None
        return self.users.key_file or file.with_name(f"{file.name}.key")

    @property
    def api_token_file(self) -> Path:
        """Where the API's bearer token is, whether configured or generated."""
        return self.api.token_file or self.gateway.runtime_dir / "api-token"

"""What the node works by: its profile, what logins taught, where the gateway is, what is unlocked.

Each part of the host takes its share from here, anew whenever one of the four changes.
"""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from gateway.config.profile import Profile
from gateway.config.to_node import acceptable, connection_policy, node_policy, node_settings
from gateway.dataplane.node import NodeSettings
from gateway.domain.mobility_credential import MobilityCredential
from gateway.ike.policy import ConnectionPolicy
from gateway.mobile_host.unlock import Lock
from gateway.mobile_node.policy import NodePolicy

MAX_CREDENTIALS = 16


class Terms:
    """The four, and what follows from them."""

    def __init__(
        self,
        profile: Profile,
        lock: Lock,
        wall_clock: Callable[[], float],
        credentials: Iterable[MobilityCredential] = (),
        gateway: IPv4Address | None = None,
    ) -> None:
        self.profile = profile
        self.lock = lock
        self.credentials = tuple(credentials)
        self.gateway = gateway
        """Where the gateway's name led to; None while nobody knows."""
        self._wall_clock = wall_clock

    def learn(self, credentials: Iterable[MobilityCredential]) -> bool:
        """Take what a login taught; whether that was news. Of one home agent the newest counts."""
        newest = {
            (one.grant.inside, one.grant.home_agent): one
            for one in sorted((*self.credentials, *credentials), key=lambda one: one.expires_at)
        }
        now = self._wall_clock()
        good = [one for one in newest.values() if one.expires_at > now]
        before, self.credentials = self.credentials, tuple(good[-MAX_CREDENTIALS:])
        return set(before) != set(self.credentials)

    def wanted(self, credentials: Iterable[MobilityCredential]) -> tuple[MobilityCredential, ...]:
        """Those that count, see :func:`gateway.config.to_node.acceptable`."""
        return acceptable(self.profile, credentials, gateway=self.gateway)

    @property
    def keeps_on_disk(self) -> bool:
        """Whether what is learnt may be written down: not where a password guards the secrets."""
        return self.profile.sealed is None

    def node_policy(self) -> NodePolicy:
        """For the engine. Raises :class:`gateway.config.ConfigError`."""
        learnt = () if self.lock.locked else self.credentials
        return node_policy(self.profile, learnt, gateway=self.gateway, unlocked=self.lock.secrets)

    def node_settings(self) -> NodeSettings:
        """For the node's dataplane."""
        return node_settings(self.profile, self.credentials, gateway=self.gateway)

    def connection_policy(self) -> ConnectionPolicy | None:
        """For the VPN layer; None without gateway or while locked.

        Raises :class:`gateway.config.ConfigError`.
        """
        return connection_policy(self.profile, gateway=self.gateway, unlocked=self.lock.secrets)

    @property
    def tcp_ports(self) -> tuple[int, ...]:
        """Of the gateway's TCP encapsulation."""
        return self.profile.gateway.tcp_ports if self.profile.gateway is not None else ()

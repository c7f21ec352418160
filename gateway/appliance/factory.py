"""What the core is built of, and who builds it: :class:`gateway.appliance.parts.Parts`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from socket import socket
from typing import TYPE_CHECKING, Protocol

from gateway.appliance.administration.composition import Administration
from gateway.appliance.administration.source import Load
from gateway.appliance.backends import Asking, BackendSettings
from gateway.appliance.ike_service import Engine
from gateway.appliance.mobility_plan import MobilityPlan
from gateway.appliance.opening import Opener
from gateway.appliance.queries import Core as QueriedCore
from gateway.appliance.session_takeover import KernelSide as TakenKernelSide
from gateway.appliance.session_takeover import TakenOver, TakeoverEngine
from gateway.appliance.vpn_fa import VpnFaSessions
from gateway.config.document import Config
from gateway.dataplane.interface import Dataplane
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.plane import Plane
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event
from gateway.domain.pools import AddressPool
from gateway.ike.mobility_authority import MobilityAuthority
from gateway.ike.policy import ConnectionPolicy, FindUser
from gateway.ike.transport import IkeSockets

if TYPE_CHECKING:
    from gateway.appliance.mobility import Mobility
    from gateway.appliance.nar.composition import AskUser, Nar
    from gateway.appliance.nar.plan import Planner


class ManagedEngine(Engine, QueriedCore, Opener, Asking, TakeoverEngine, Protocol):
    """What the appliance needs of an engine beyond its joints."""

    trace: bool
    """Whether it makes debug events."""
    mobility: MobilityAuthority | None
    """The home addresses that logins bring."""
    spi_taken: Callable[[int], bool] | None
    """Inbound SPIs that clients of a NAR server have."""

    @property
    def pools(self) -> Mapping[str, AddressPool]:
        """The pools of inner addresses, by name."""

    refuse_login: Callable[[str, str], str | None] | None
    """Why a login with an identity by a user is refused at all."""

    def peers(self) -> set[str]:
        """Identities of the peers of all established IKE SAs."""

    def sessions_of(self, identity: str) -> list[tuple[str, str]]:
        """Name and peer of each IKE SA of a peer or user with this identity."""

    def ended_by(
        self, connections: Sequence[ConnectionPolicy], pools: Mapping[str, AddressPool]
    ) -> list[tuple[str, str]]:
        """Name and peer of each IKE SA that :meth:`reconfigure` would end."""

    def has_child_spi(self, spi_in: int) -> bool:
        """Whether a child SA has this inbound SPI."""

    def close_all(self, now: float) -> None:
        """Say goodbye to every peer."""

    def hand_over(self, now: float) -> None:
        """Make the last records; say nothing to anybody, and do nothing more."""

    def established_remotes(self) -> set[Endpoint]:
        """Where the peers of established IKE SAs are."""

    def reconfigure(
        self,
        connections: Sequence[ConnectionPolicy],
        now: float,
        pools: Mapping[str, AddressPool] | None = None,
    ) -> None:
        """Take new policies and pools."""


class KernelSide(TakenKernelSide, Protocol):
    """A dataplane with events: :meth:`gateway.dataplane.plane.Plane.dataplane`."""

    def event_fds(self) -> Iterable[int]:
        """Readable when there are events."""

    def before_move(self, spi_in: int) -> tuple[int, float | None] | None:
        """Packets in, and when the last one came (wall clock), as an SA moved last."""

    def counters(self) -> dict[str, int]:
        """What it counted."""

    def reconfigure(self, settings: KernelSettings) -> None:
        """Use other networks; raises OSError."""


class Factory(Protocol):
    """Builds the parts from a configuration; see :mod:`gateway.appliance.parts`."""

    @property
    def load(self) -> Load:
        """Reads the configuration."""

    def taken_over(
        self, config: Config, administration: Administration, emit: Callable[[Event], None]
    ) -> TakenOver:
        """The sessions of the last process."""

    def connections(self, config: Config) -> Sequence[ConnectionPolicy]:
        """The policies of the configuration."""

    def pools(self, config: Config) -> Mapping[str, AddressPool]:
        """The pools, nothing leased."""

    def kernel_settings(self, config: Config) -> KernelSettings:
        """What the dataplane is told."""

    @property
    def plane(self) -> Plane | None:
        """Which dataplane this process has; None until it is chosen."""

    def sockets(self, config: Config, held: Sequence[socket] = ()) -> IkeSockets:
        """The bound IKE sockets; ``held`` are those of the last process."""

    def dataplane(self, config: Config) -> KernelSide:
        """Open the dataplane; what an earlier process left waits to be adopted."""

    def backends(self, config: Config) -> BackendSettings:
        """The users of the configuration, read."""

    def mobility_login(self, config: Config) -> MobilityAuthority | None:
        """The home addresses that logins bring; None where there are none."""

    def mobility(self, config: Config) -> MobilityPlan | None:
        """What is wanted of the mobility agents; None when none is configured."""

    def mobility_agents(
        self,
        plan: MobilityPlan,
        sessions: VpnFaSessions,
        emit: Callable[[Event], None],
        taken: TakenOver,
    ) -> "Mobility":
        """The agents with their sockets and their dataplane, not started."""

    def nar(self, config: Config) -> "Planner | None":
        """What is wanted of the NAR servers; None when none is configured."""

    def nar_servers(
        self,
        planner: "Planner",
        *,
        ask_user: "AskUser",
        spi_in_use: Callable[[int], bool],
        emit: Callable[[Event], None],
        taken: TakenOver,
    ) -> "Nar":
        """The servers with their ports and their dataplane, not started."""

    def engine(
        self,
        config: Config,
        connections: Sequence[ConnectionPolicy],
        dataplane: Dataplane,
        find_user: FindUser,
        *,
        debug: bool,
        recording: bool = False,
    ) -> ManagedEngine:
        """A new engine."""

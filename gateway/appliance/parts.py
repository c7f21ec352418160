"""Builds the parts of the core from the configuration. No logic beyond that."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from socket import socket
from typing import TYPE_CHECKING, TypeVar

from gateway.appliance.administration.composition import Administration
from gateway.appliance.backends import BackendSettings
from gateway.appliance.mobility_plan import MobilityPlan
from gateway.appliance.opening import with_local_addresses
from gateway.appliance.session_takeover import TakenOver
from gateway.appliance.vpn_fa import VpnFaSessions
from gateway.config import to_dataplane, to_mobility, to_policy, to_users
from gateway.config.credential_files import FileRefusedError
from gateway.config.document import Config
from gateway.config.loader import load
from gateway.config.problem import ConfigError, Problem, shown
from gateway.control.protocol import ControlError
from gateway.dataplane.interface import Dataplane
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.plane import Plane
from gateway.domain.event import Event
from gateway.domain.pools import AddressPool
from gateway.ike.engine import IkeEngine
from gateway.ike.mobility_authority import MobilityAuthority
from gateway.ike.policy import ConnectionPolicy, FindUser
from gateway.ike.transport import IkeSockets
from gateway.ike.transport_esp import EspInUdp
from gateway.users.document import UserFileError
from gateway.users.store import UserBase

if TYPE_CHECKING:
    from gateway.appliance.mobility import Mobility
    from gateway.appliance.nar.composition import AskUser, Nar
    from gateway.appliance.nar.plan import Planner
    from gateway.dataplane.kernel.dataplane import KernelDataplane
    from gateway.dataplane.portable.dataplane import PortableDataplane


T = TypeVar("T")


def _without_os_errors(config: Config, make: Callable[[Config], T]) -> T:
    """What needs the key of tickets, which may have to be made first."""
    try:
        return make(config)
    except (OSError, FileRefusedError) as error:
        key, folder = "mobility.state_dir", config.mobility.state_dir
        why = f"the key of tickets cannot be kept here: {error}"
        raise ConfigError([Problem(config.path, key, why, shown(folder))]) from None


class Parts:
    """The parts of a gateway with its dataplane and IKE.

    What only mobility agents or NAR servers need is imported when there are some: most gateways
    have none.
    """

    load = staticmethod(load)

    def __init__(self, node_refusal: Callable[[str], str | None] | None = None) -> None:
        """``node_refusal`` says why a mobile node may not register, or None."""
        self.node_refusal = node_refusal
        self.plane: Plane | None = None
        """Which dataplane this process has, from :meth:`sockets` on."""

    def choose(self, config: Config) -> Plane:
        """Choose the dataplane, once.

        Raises :class:`gateway.dataplane.interface.DataplaneUnavailableError`.
        """
        if self.plane is None:
            needs = to_dataplane.kernel_needs(config)
            folder = config.gateway.runtime_dir
            interface = config.dataplane.xfrm_interface
            self.plane = Plane.of(config.dataplane.kind, needs, folder, interface)
        return self.plane

    @property
    def chosen(self) -> Plane:
        """The dataplane that was chosen."""
        if self.plane is None:
            raise ValueError("sockets come first")
        return self.plane

    def taken_over(
        self, config: Config, administration: Administration, emit: Callable[[Event], None]
    ) -> TakenOver:
        """The sessions of the last process, read; none where there is no store."""
        try:
            store = administration.store
        except ControlError:
            return TakenOver(None, emit)
        from gateway.store.sessions import SessionStore  # noqa: PLC0415 - see the class

        return TakenOver(SessionStore(store, config.gateway.runtime_dir / "sessions", emit), emit)

    def connections(self, config: Config) -> Sequence[ConnectionPolicy]:
        """The connections of the configuration, with their credentials read."""
        ike = config.ike
        return with_local_addresses(to_policy.connections(config), ike.listen, ike.port)

    def sockets(self, config: Config, held: Sequence[socket] = ()) -> IkeSockets:
        """The bound IKE sockets, of the last process where ``held`` has them.

        Raises :class:`gateway.ike.socket_errors.TransportError` and DataplaneUnavailableError.
        """
        ike = config.ike
        esp = EspInUdp.FILTERED if self.choose(config).portable else EspInUdp.KERNEL
        return IkeSockets(ike.listen, ike_port=ike.port, nat_port=ike.nat_port, esp=esp, held=held)

    def dataplane(self, config: Config) -> "KernelDataplane | PortableDataplane":
        """A started dataplane that has to adopt; raises :class:`DataplaneUnavailableError`."""
        dataplane = self.choose(config).dataplane(self.kernel_settings(config))
        dataplane.start(adopt=True)
        return dataplane

    def pools(self, config: Config) -> Mapping[str, AddressPool]:
        """The pools of the configuration, nothing leased."""
        return to_policy.pools(config)

    def kernel_settings(self, config: Config) -> KernelSettings:
        """What the dataplane is told."""
        return to_dataplane.kernel_settings(config)

    def backends(self, config: Config) -> BackendSettings:
        """The users of the configuration, read; takes a second for ten thousand.

        Raises :class:`gateway.config.ConfigError`.
        """
        where = to_users.user_base(config)
        try:
            users = UserBase.load(where) if where is not None else None
        except UserFileError as error:
            problem = Problem(config.path, "users.file", str(error), shown(config.users.file))
            raise ConfigError([problem]) from None
        return BackendSettings(users, {one.name: one for one in to_users.radius(config)})

    def engine(
        self,
        config: Config,
        connections: Sequence[ConnectionPolicy],
        dataplane: Dataplane,
        find_user: FindUser,
        *,
        debug: bool,
        recording: bool = False,
    ) -> IkeEngine:
        """An engine without any SA; with ``recording`` it makes records of those it will have."""

        def last_inbound(spi_in: int) -> float | None:
            usage = dataplane.usage(spi_in)
            return usage.last_in_age_s if usage is not None else None

        engine = IkeEngine(
            to_policy.engine_settings(config),
            connections,
            self.pools(config),
            random=os.urandom,
            wall_clock=lambda: datetime.now(UTC),
            last_inbound=last_inbound,
            find_user=find_user,
            recording=recording,
        )
        engine.trace = debug
        return engine

    def mobility_login(self, config: Config) -> MobilityAuthority | None:
        """The home addresses that logins bring; None where there are none."""
        if not config.home_agents or not config.connections:
            return None
        from gateway.appliance.mobility_login import mobility_login  # noqa: PLC0415 - see the class

        return _without_os_errors(config, mobility_login)

    def mobility(self, config: Config) -> MobilityPlan | None:
        """What is wanted of the mobility agents; None when none is configured."""
        settings = to_mobility.mobility_settings(config)
        if settings is None:
            return None
        from gateway.appliance.mobility_login import ticket_boxes  # noqa: PLC0415 - see the class

        tickets = _without_os_errors(config, ticket_boxes) if config.own_home_agents else {}
        homes = to_mobility.home_agents(config, tickets)
        if self.node_refusal is not None and homes:
            from gateway.appliance.blocked_nodes import without_blocked  # noqa: PLC0415

            homes = without_blocked(homes, self.node_refusal)
        return MobilityPlan(
            homes,
            to_mobility.foreign_agents(config),
            settings,
            config.mobility.state_dir,
        )

    def mobility_agents(
        self,
        plan: MobilityPlan,
        sessions: VpnFaSessions,
        emit: Callable[[Event], None],
        taken: TakenOver,
    ) -> "Mobility":
        """The agents with their sockets and their dataplane, not started.

        Raises DataplaneUnavailableError, OSError and
        :class:`gateway.appliance.mip_sockets.MipSocketError`.
        """
        from gateway.appliance.mobility import Mobility  # noqa: PLC0415 - see the class
        from gateway.appliance.mobility_parts import MobilityParts  # noqa: PLC0415

        return Mobility(plan, MobilityParts(self.chosen), sessions, emit, taken)

    def nar(self, config: Config) -> "Planner | None":
        """What is wanted of the NAR servers; None when none is configured."""
        if not config.needs_nar:
            return None
        from gateway.appliance.nar.parts import nar_planner  # noqa: PLC0415 - see the class

        return nar_planner(config)

    def nar_servers(
        self,
        planner: "Planner",
        *,
        ask_user: "AskUser",
        spi_in_use: Callable[[int], bool],
        emit: Callable[[Event], None],
        taken: TakenOver,
    ) -> "Nar":
        """The servers with their ports and their dataplane, not started.

        Raises DataplaneUnavailableError, OSError and
        :class:`gateway.appliance.nar.listener.NarListenError`.
        """
        from gateway.appliance.nar.composition import Nar  # noqa: PLC0415 - see the class
        from gateway.appliance.nar.parts import NarParts  # noqa: PLC0415

        return Nar(
            planner,
            NarParts(self.chosen),
            ask_user=ask_user,
            spi_in_use=spi_in_use,
            emit=emit,
            taken=taken,
        )

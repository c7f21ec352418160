"""What the mobile node's host is built of, and who builds it. No logic beyond that."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from gateway.config.profile import Profile, load_profile
from gateway.dataplane.choice import IPSEC, MOBILITY
from gateway.dataplane.interface import Dataplane, DataplaneUnavailableError
from gateway.dataplane.kernel.node import constants
from gateway.dataplane.kernel.node.node import KernelNode
from gateway.dataplane.kernel.node.release import is_left
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.node import NodeDataplane, NodeSettings
from gateway.dataplane.plane import Plane
from gateway.dataplane.portable.node.node import PortableNode
from gateway.dataplane.portable.wire.links import peer_name
from gateway.domain.event import Event
from gateway.ike.engine import IkeEngine
from gateway.ike.transport import IkeSockets
from gateway.ike.transport_esp import EspInUdp
from gateway.mobile_host.links import LinkMonitor
from gateway.mobile_host.node_service import NodeEngine
from gateway.mobile_host.signalling import Receiver, Signalling
from gateway.mobile_host.vpn import CLIENT_TIMING, ClientEngine, Vpn, VpnListener
from gateway.mobile_node.node import MobileNode
from gateway.mobile_node.policy import NodePolicy
from gateway.mobile_node.status import NodeStatus

_PAIRS = (constants.XFRM_INTERFACE, *constants.TUNNELS)
OWN_DEVICES = frozenset({constants.HOLD, *_PAIRS, *map(peer_name, _PAIRS)})
KERNEL_NEEDS = IPSEC | MOBILITY
"""Of a kernel that is to carry a node's packets."""
__all__ = ["HostParts", "ManagedDataplane", "ManagedEngine", "Parts"]


class ManagedEngine(NodeEngine, Protocol):
    """What the host needs of a mobile node beyond its joints."""

    def reconfigure(self, policy: NodePolicy, now: float) -> None:
        """Work by another policy."""

    def lock(self, now: float) -> None:
        """Nothing of the user's leaves; log out."""

    def unlock(self, now: float) -> None:
        """Work again."""

    def reconnect(self, now: float) -> None:
        """Take nothing as proven any more."""

    def doubt(self, now: float) -> None:
        """As :meth:`reconnect`, but the VPN lives on."""

    def close(self, now: float) -> None:
        """Say goodbye."""

    def status(self, now: float) -> NodeStatus:
        """What to show."""


class ManagedDataplane(NodeDataplane, Protocol):
    """A node dataplane whose peers can change."""

    restored: int
    """How often it had to put the switch back."""

    def reconfigure(self, settings: NodeSettings) -> None:
        """Other peers, ports and acceptances. Raises OSError."""


class HostParts(Protocol):
    """Builds the parts; see :class:`Parts`."""

    @property
    def chosen(self) -> str:
        """Who carries the packets, and why; empty before :meth:`dataplane`."""

    def load(self, path: Path) -> Profile:
        """Read the profile."""

    def switch_left(self) -> bool:
        """Whether an earlier process left the switch closed. Raises OSError."""

    def dataplane(self, profile: Profile, settings: NodeSettings) -> ManagedDataplane:
        """Not opened yet."""

    def links(
        self, emit: Callable[[Event], None], domain_of: Callable[[int, str], str]
    ) -> LinkMonitor:
        """Not started yet."""

    def engine(self, policy: NodePolicy, user_packets: Callable[[], int]) -> ManagedEngine:
        """A new one."""

    def vpn(
        self,
        profile: Profile,
        listener: VpnListener,
        emit: Callable[[Event], None],
        *,
        debug: bool,
    ) -> Vpn:
        """The VPN layer with its sockets and its share of the kernel, not started."""

    def signalling(self, receiver: Receiver) -> Signalling:
        """The sockets of port 434, open inside the VPN, on no link yet."""


class Parts:
    """The parts of a mobile node on Linux. Who carries its packets is chosen once."""

    def __init__(self) -> None:
        self._plane: Plane | None = None

    @property
    def chosen(self) -> str:
        """Who carries the packets, and why."""
        return "" if self._plane is None else f"{self._plane.choice.kind}: {self._plane.why}"

    def _choose(self, profile: Profile) -> Plane:
        """Raises :class:`gateway.dataplane.interface.DataplaneUnavailableError`."""
        if self._plane is None:
            kind, folder = profile.dataplane.kind, profile.profile.runtime_dir
            self._plane = Plane.of(kind, KERNEL_NEEDS, folder, constants.XFRM_INTERFACE, workers=1)
        return self._plane

    def load(self, path: Path) -> Profile:
        """Read and check the profile; raises :class:`gateway.config.ConfigError`."""
        return load_profile(path)

    def switch_left(self) -> bool:
        """Whether the switch's table is there."""
        return is_left()

    def dataplane(self, profile: Profile, settings: NodeSettings) -> ManagedDataplane:
        """The kernel with its tunnels, or those of the forwarder."""
        with contextlib.suppress(DataplaneUnavailableError):
            plane = self._choose(profile)
            if plane.portable:
                return PortableNode(settings, plane.forwarder)
        # Where neither can be had its switch closes all the same; :meth:`vpn` says what is missing.
        return KernelNode(settings)

    def links(
        self, emit: Callable[[Event], None], domain_of: Callable[[int, str], str]
    ) -> LinkMonitor:
        """Rtnetlink."""
        return LinkMonitor(OWN_DEVICES, emit, domain_of)

    def engine(self, policy: NodePolicy, user_packets: Callable[[], int]) -> ManagedEngine:
        """The engine of draft 001."""
        return MobileNode(
            policy,
            random=os.urandom,
            wall_clock=time.time,
            user_packets=user_packets,
        )

    def vpn(
        self,
        profile: Profile,
        listener: VpnListener,
        emit: Callable[[Event], None],
        *,
        debug: bool,
    ) -> Vpn:
        """Our IKE engine over XFRM, or over the forwarder.

        Raises DataplaneUnavailableError and :class:`gateway.ike.socket_errors.TransportError`.
        """
        plane = self._choose(profile)
        dataplane = plane.dataplane(kernel_settings(profile))
        dataplane.start()
        esp = EspInUdp.FILTERED if plane.portable else EspInUdp.KERNEL
        try:
            sockets = IkeSockets([IPv4Address(0)], mark=constants.NODE_VPN, esp=esp)
        except BaseException:
            dataplane.close()
            raise
        return Vpn(
            asyncio.get_running_loop(),
            ike_engine(dataplane, debug=debug),
            dataplane,
            sockets,
            listener=listener,
            emit=emit,
            mark=constants.NODE_VPN,
        )

    def signalling(self, receiver: Receiver) -> Signalling:
        """Raises OSError."""
        signalling = Signalling(
            asyncio.get_running_loop(),
            receiver,
            link_mark=constants.NODE_LINK,
            inner_mark=constants.NODE_INNER,
        )
        signalling.open_inner(constants.XFRM_INTERFACE)
        return signalling


def kernel_settings(profile: Profile) -> KernelSettings:
    """The IPsec dataplane of a client: no pools, no routes, no router."""
    return KernelSettings(
        xfrm_interface=constants.XFRM_INTERFACE,
        mtu=profile.network.mtu,
        forwarding=False,
        output_mark=constants.NODE_VPN,
        routes=False,
    )


def ike_engine(dataplane: Dataplane, *, debug: bool) -> ClientEngine:
    """An engine without any connection yet."""

    def last_inbound(spi_in: int) -> float | None:
        usage = dataplane.usage(spi_in)
        return usage.last_in_age_s if usage is not None else None

    engine = IkeEngine(
        CLIENT_TIMING,
        (),
        {},
        random=os.urandom,
        wall_clock=lambda: datetime.now(UTC),
        last_inbound=last_inbound,
    )
    engine.trace = debug
    return engine

"""What the mobile node's host is built of, and who builds it. No logic beyond that."""

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from gateway.config.profile import Profile, load_profile
from gateway.dataplane.interface import Dataplane
from gateway.dataplane.kernel.dataplane import KernelDataplane
from gateway.dataplane.kernel.node import constants
from gateway.dataplane.kernel.node.node import KernelNode
from gateway.dataplane.kernel.node.release import is_left
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.node import NodeDataplane, NodeSettings
from gateway.domain.event import Event
from gateway.ike.engine import IkeEngine
from gateway.ike.transport import IkeSockets
from gateway.mobile_host.links import LinkMonitor
from gateway.mobile_host.node_service import NodeEngine
from gateway.mobile_host.signalling import Receiver, Signalling
from gateway.mobile_host.vpn import CLIENT_TIMING, ClientEngine, Vpn, VpnListener
from gateway.mobile_node.node import MobileNode
from gateway.mobile_node.policy import NodePolicy
from gateway.mobile_node.status import NodeStatus

OWN_DEVICES = frozenset({constants.HOLD, constants.XFRM_INTERFACE, *constants.TUNNELS})
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

    def load(self, path: Path) -> Profile:
        """Read the profile."""

    def switch_left(self) -> bool:
        """Whether an earlier process left the switch closed. Raises OSError."""

    def dataplane(self, settings: NodeSettings) -> ManagedDataplane:
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
    """The parts of a mobile node on Linux."""

    def load(self, path: Path) -> Profile:
        """Read and check the profile; raises :class:`gateway.config.ConfigError`."""
        return load_profile(path)

    def switch_left(self) -> bool:
        """Whether the switch's table is there."""
        return is_left()

    def dataplane(self, settings: NodeSettings) -> ManagedDataplane:
        """The kernel."""
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
        """Our IKE engine over XFRM.

        Raises DataplaneUnavailableError and :class:`gateway.ike.socket_errors.TransportError`.
        """
        dataplane = KernelDataplane(kernel_settings(profile))
        dataplane.start()
        try:
            sockets = IkeSockets([IPv4Address(0)], mark=constants.NODE_VPN)
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

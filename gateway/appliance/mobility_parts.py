"""Builds the engines and the dataplane of the mobility agents."""

import errno
import os
import time

from gateway.appliance.link_socket import LinkSocket
from gateway.appliance.mip_sockets import MipSockets
from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.kernel.mobility.dataplane import KernelMobility
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.plane import Plane
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError
from gateway.mip_agents.foreign_agent.engine import ForeignAgent
from gateway.mip_agents.home_agent.engine import HomeAgent
from gateway.mip_agents.policy import ForeignAgentPolicy, HomeAgentPolicy


class MobilityParts:
    """The real ones."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        """Which dataplane this process has."""

    def sockets(self) -> MipSockets:
        """UDP port 434; raises :class:`gateway.appliance.mip_sockets.MipSocketError`."""
        return MipSockets()

    def link_socket(self, interface: str) -> LinkSocket:
        """On a link of a foreign agent; raises OSError."""
        return LinkSocket(interface)

    def home_agent(self, policy: HomeAgentPolicy) -> HomeAgent:
        """Without any binding."""
        return HomeAgent(policy, random=os.urandom, wall_clock=time.time)

    def foreign_agent(self, policy: ForeignAgentPolicy) -> ForeignAgent:
        """Without any visitor."""
        return ForeignAgent(policy, random=os.urandom, wall_clock=time.time)

    def mobility_dataplane(self, settings: MobilitySettings) -> KernelMobility:
        """A started dataplane; raises :class:`DataplaneUnavailableError`."""
        dataplane = self._mobility_dataplane(settings)
        dataplane.start(adopt=True)
        return dataplane

    def _mobility_dataplane(self, settings: MobilitySettings) -> KernelMobility:
        if not self.plane.portable:
            return KernelMobility(settings)
        from gateway.dataplane.portable.mobility.dataplane import (  # noqa: PLC0415 - if needed
            PortableMobility,
        )

        try:
            forwarder = self.plane.forwarder()
        except ForwarderUnavailableError as error:
            raise DataplaneUnavailableError(error.errno or errno.EIO, str(error)) from error
        if not self.plane.shared.marks:
            text = f"Mobile IPv4 in user space needs {self.plane.shared.marks_need}"
            forwarder.close(keep=True)
            raise DataplaneUnavailableError(errno.ENOSYS, text)
        return PortableMobility(settings, forwarder)

"""Builds the engines and the dataplane of the mobility agents."""

import os
import time

from gateway.dataplane.kernel.mobility.dataplane import KernelMobility
from gateway.dataplane.mobility import MobilitySettings
from gateway.mip_agents.foreign_agent.engine import ForeignAgent
from gateway.mip_agents.home_agent.engine import HomeAgent
from gateway.mip_agents.policy import ForeignAgentPolicy, HomeAgentPolicy


class MobilityParts:
    """The real ones."""

    def home_agent(self, policy: HomeAgentPolicy) -> HomeAgent:
        """Without any binding."""
        return HomeAgent(policy, random=os.urandom, wall_clock=time.time)

    def foreign_agent(self, policy: ForeignAgentPolicy) -> ForeignAgent:
        """Without any visitor."""
        return ForeignAgent(policy, random=os.urandom, wall_clock=time.time)

    def mobility_dataplane(self, settings: MobilitySettings) -> KernelMobility:
        """A started dataplane; raises :class:`DataplaneUnavailableError`."""
        dataplane = KernelMobility(settings)
        dataplane.start()
        return dataplane

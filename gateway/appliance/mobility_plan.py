"""What a configuration wants of the mobility agents."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.dataplane.mobility import MobilitySettings
from gateway.mip_agents.policy import ForeignAgentPolicy, HomeAgentPolicy


@dataclass(frozen=True, slots=True)
class MobilityPlan:
    """All agents of this box."""

    home_agents: Sequence[HomeAgentPolicy]
    foreign_agents: Sequence[ForeignAgentPolicy]
    settings: MobilitySettings
    state_dir: Path
    """Where bindings outlive the process."""

"""The home agent of a fleet of mobile nodes, for the benchmarks."""

from ipaddress import IPv4Address, IPv4Network

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.mobility import MIP_PORT, HomeNetwork
from gateway.lab.mobility.load import FIRST_HOME, Fleet
from gateway.mip_agents.policy import HomeAgentPolicy, MobileNode, Placement

NODES = 10_000
HOME_AGENT = IPv4Address("192.0.2.1")
NETWORK = HomeNetwork("fleet", IPv4Network((int(FIRST_HOME) >> 16 << 16, 16)))


class Known:
    """The nodes of a fleet as a home agent knows them."""

    def __init__(self, fleet: Fleet) -> None:
        self._nodes = {
            fleet.home_address(number): MobileNode(
                f"node {number}",
                fleet.home_address(number),
                associations=(fleet.association(number),),
            )
            for number in range(fleet.count)
        }

    def by_home_address(self, address: IPv4Address) -> MobileNode | None:
        """See :class:`gateway.mip_agents.policy.MobileNodes`."""
        return self._nodes.get(address)

    def by_nai(self, nai: str) -> MobileNode | None:  # noqa: ARG002
        """None has one."""
        return None


def policy(fleet: Fleet) -> HomeAgentPolicy:
    """A home agent for them."""
    return HomeAgentPolicy("fleet", fleet.home_agent, Placement.OUTSIDE, (NETWORK,), Known(fleet))


def requests(fleet: Fleet, wall_clock_s: float, place: int = 0) -> list[tuple[bytes, Path]]:
    """A request of each, and the path that it comes on."""
    local = Endpoint(fleet.home_agent, MIP_PORT)
    return [
        (
            fleet.request(node, wall_clock_s, place=place),
            Path(local, Endpoint(fleet.care_of(node, place), MIP_PORT)),
        )
        for node in range(fleet.count)
    ]

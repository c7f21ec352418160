"""Mobile nodes as home agents see them, without those whose device is blocked."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

from gateway.mip_agents.policy import HomeAgentPolicy, MobileNode, MobileNodes

NodeRefusal = Callable[[str], str | None]
"""Why a mobile node of this name may not register; None when it may. Must be quick."""


class UnblockedNodes:
    """The nodes of a home agent that may register now."""

    __slots__ = ("_nodes", "_refusal")

    def __init__(self, nodes: MobileNodes, refusal: NodeRefusal) -> None:
        self._nodes = nodes
        self._refusal = refusal

    def by_home_address(self, address: IPv4Address) -> MobileNode | None:
        """The one with this configured home address."""
        return self._unblocked(self._nodes.by_home_address(address))

    def by_nai(self, nai: str) -> MobileNode | None:
        """The one with this network access identifier."""
        return self._unblocked(self._nodes.by_nai(nai))

    def _unblocked(self, node: MobileNode | None) -> MobileNode | None:
        return None if node is None or self._refusal(node.name) is not None else node


def without_blocked(
    policies: tuple[HomeAgentPolicy, ...], refusal: NodeRefusal
) -> tuple[HomeAgentPolicy, ...]:
    """The same home agents, which know no blocked device."""
    return tuple(replace(one, nodes=UnblockedNodes(one.nodes, refusal)) for one in policies)

"""The sessions of one device, found and ended."""

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from gateway.appliance.administration.side import Surroundings
from gateway.control.object_operations import CutSession

if TYPE_CHECKING:
    from gateway.appliance.mobility_queries import HomeAgentSide

MAX_CUT = 1000


class Sessions:
    """Looks through what runs; only when an administrator asks."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings

    def of(self, identity: str, mobile_node: str | None) -> list[CutSession]:
        """What the device has: IKE SAs by its identity, and its mobile node's bindings."""
        found: list[CutSession] = [
            {"session": name, "peer": peer}
            for name, peer in self._around.engine.sessions_of(identity)
        ]
        found += [
            {"session": f"binding of {address}", "peer": mobile_node or identity}
            for _, address in self._bindings(mobile_node)
        ]
        return found[:MAX_CUT]

    def end(self, identity: str, mobile_node: str | None, reason: str) -> list[CutSession]:
        """End them; peers are told."""
        found, now = self.of(identity, mobile_node), self._around.clock()
        for name, _ in self._around.engine.sessions_of(identity):
            self._around.engine.close_ike_sa(name, reason, now)
        self._around.service.flush(now)
        bindings = self._bindings(mobile_node)
        for agent, address in bindings:
            agent.revoke(address, now)
        mobility = self._around.mobility()
        if bindings and mobility is not None:
            mobility.service.flush(now)
        return found

    def _bindings(self, mobile_node: str | None) -> "list[tuple[HomeAgentSide, IPv4Address]]":
        mobility = self._around.mobility()
        if mobile_node is None or mobility is None:
            return []
        section = self._around.config().mobile_nodes.get(mobile_node)
        now = self._around.clock()
        found: list[tuple[HomeAgentSide, IPv4Address]] = []
        for agent in mobility.home_agents.values():
            if section is not None and section.home_address is not None:
                candidates = [section.home_address]
            else:
                candidates = list(agent.home_addresses())
            for address in candidates:
                binding = agent.binding(address, now)
                if binding is not None and binding.name == mobile_node:
                    found.append((agent, address))
        return found

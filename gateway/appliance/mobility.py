"""The mobility roles of this box: home agents, foreign agents, what they stand on. No logic."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Protocol

from gateway.appliance.earlier_files import take_bindings
from gateway.appliance.link_socket import LinkSocket
from gateway.appliance.mip_sockets import MipSockets
from gateway.appliance.mobility_plan import MobilityPlan
from gateway.appliance.mobility_queries import ForeignAgentSide, HomeAgentSide
from gateway.appliance.mobility_service import (
    BINDINGS,
    VISITORS,
    ForeignAgentEngine,
    HomeAgentEngine,
    MobilityService,
    NarDelivery,
    interfaces_of,
)
from gateway.appliance.session_takeover import TakenOver
from gateway.appliance.vpn_fa import VpnFaSessions
from gateway.dataplane.mobility import MobilityDataplane, MobilitySettings
from gateway.domain.event import Event
from gateway.domain.nar import NarTuple
from gateway.mip_agents.policy import ForeignAgentPolicy, HomeAgentPolicy


class KernelSide(MobilityDataplane, Protocol):
    """A dataplane with a slow path."""

    def event_fds(self) -> Sequence[int]:
        """Readable when packets wait for user space."""

    def read_events(self) -> object:
        """Judge a bounded number of them."""


class Engines(Protocol):
    """Makes the parts; see :class:`gateway.appliance.mobility_parts.MobilityParts`."""

    def sockets(self) -> MipSockets:
        """Bound."""

    def link_socket(self, interface: str) -> LinkSocket:
        """On a link of a foreign agent."""

    def home_agent(self, policy: HomeAgentPolicy) -> "RunningHomeAgent":
        """Without any binding."""

    def foreign_agent(self, policy: ForeignAgentPolicy) -> "RunningForeignAgent":
        """Without any visitor."""

    def mobility_dataplane(self, settings: MobilitySettings) -> KernelSide:
        """Started; what an earlier process left is adopted with the first commit."""


class RunningHomeAgent(HomeAgentEngine, HomeAgentSide, Protocol):
    """What is needed beyond the joint."""

    def restore(self, records: Sequence[bytes], now: float) -> None:
        """Bindings of an earlier run."""

    def reconfigure(self, policy: HomeAgentPolicy, now: float) -> None:
        """Use another policy."""


class RunningForeignAgent(ForeignAgentEngine, ForeignAgentSide, Protocol):
    """What is needed beyond the joint."""

    def restore(self, records: Mapping[str, bytes], now: float) -> None:
        """Visitors of an earlier run, by key."""

    def hand_over(self) -> None:
        """Do nothing more, without a word to anybody."""

    def reconfigure(self, policy: ForeignAgentPolicy, now: float) -> None:
        """Use another policy."""

    def respect(self, leased: Callable[[NarTuple], str]) -> None:
        """Ask who has tunnels of a tuple by NAR."""

    def session_up(self, home_address: IPv4Address, now: float, peer: str) -> None:
        """See :class:`gateway.appliance.vpn_fa.SaListener`."""

    def session_down(self, home_address: IPv4Address, now: float) -> None:
        """See :class:`gateway.appliance.vpn_fa.SaListener`."""


class NarSide(NarDelivery, Protocol):
    """The NAR servers of this box, whose clients may have tunnels at the same addresses."""

    def leased_to(self, key: NarTuple) -> str:
        """Which client has this tuple; empty for none."""

    def respect(self, visiting: Callable[[NarTuple], bool]) -> None:
        """Lease no tuple that a visitor has."""


class Mobility:
    """All of it, while it runs. Construct with privileges; :meth:`start`; at last the stops.

    Raises OSError, DataplaneUnavailableError and MipSocketError when it cannot be set up.
    """

    def __init__(
        self,
        plan: MobilityPlan,
        engines: Engines,
        sessions: VpnFaSessions,
        emit: Callable[[Event], None],
        taken: TakenOver,
    ) -> None:
        """``taken`` has the records of the last process, and takes ours."""
        self._loop = asyncio.get_running_loop()
        self._engines, self._sessions, self._emit = engines, sessions, emit
        self._taken, self._state_dir = taken, plan.state_dir
        self._links: dict[str, LinkSocket] = {}
        self._nar: NarSide | None = None
        self._sockets = engines.sockets()
        try:
            self._dataplane = engines.mobility_dataplane(plan.settings)
            self._open_links(plan.foreign_agents)
        except BaseException:
            self.close()
            raise
        self.home_agents: dict[str, RunningHomeAgent] = {
            policy.name: engines.home_agent(policy) for policy in plan.home_agents
        }
        self.foreign_agents: dict[str, RunningForeignAgent] = {
            policy.name: engines.foreign_agent(policy) for policy in plan.foreign_agents
        }
        self.service = MobilityService(
            tuple(self.home_agents.values()),
            tuple(self.foreign_agents.values()),
            self._dataplane,
            sockets=self._sockets,
            links=self._links,
            records=taken.records,
            clock=self._loop.time,
            call_at=self._loop.call_at,
            emit=emit,
        )

    def _open_links(self, policies: Sequence[ForeignAgentPolicy]) -> None:
        for interface in interfaces_of(policies):
            if interface not in self._links:
                self._links[interface] = self._engines.link_socket(interface)

    def start(self) -> None:
        """Bring the bindings of the last run back, then serve."""
        now = self._loop.time()
        take_bindings(self._state_dir, self._taken, self._emit)
        for name, agent in self.home_agents.items():
            if records := self._taken.of(f"{BINDINGS}{name}"):
                agent.restore(list(records.values()), now)
        for name, visited in self.foreign_agents.items():
            if records := self._taken.of(f"{VISITORS}{name}"):
                visited.restore(records, now)
        self._sockets.start(self._loop, self.service.receive, self.service.unreachable)
        for interface in self._links:
            self._watch_link(interface)
        for descriptor in self._dataplane.event_fds():
            self._loop.add_reader(descriptor, self._dataplane.read_events)
        self._listen()
        self.service.flush(now)
        # What nobody has set by now is nobody's: the first commit removes it.
        self.service.commit(now)
        self.service.flush(now)

    def meet(self, nar: NarSide) -> None:
        """Share tunnels with NAR servers: whoever has a tuple keeps it, and NAR delivers for us."""
        self._nar = self.service.nar = nar
        for agent in self.foreign_agents.values():
            self._respect(agent)
        nar.respect(self.service.visiting)

    def _respect(self, agent: RunningForeignAgent) -> None:
        if self._nar is not None:
            agent.respect(self._nar.leased_to)

    def _watch_link(self, interface: str) -> None:
        descriptor = self._links[interface].fileno()
        self._loop.add_reader(descriptor, self.service.link_readable, interface)

    def _listen(self) -> None:
        inside = (one for one in self.foreign_agents.values() if one.policy.through_vpn)
        self._sessions.listen(next(inside, None), self.service.flush)

    def reload(self, plan: MobilityPlan) -> None:
        """Use another configuration; bindings and visitors stay where they still may be.

        Raises OSError when the kernel refuses.
        """
        now = self._loop.time()
        self._dataplane.reconfigure(plan.settings)
        known = set(self._links)
        self._open_links(plan.foreign_agents)
        for policy in plan.home_agents:
            if (home := self.home_agents.get(policy.name)) is not None:
                home.reconfigure(policy, now)
            else:
                self.home_agents[policy.name] = self._engines.home_agent(policy)
        for visited in plan.foreign_agents:
            if (foreign := self.foreign_agents.get(visited.name)) is not None:
                foreign.reconfigure(visited, now)
            else:
                self.foreign_agents[visited.name] = self._engines.foreign_agent(visited)
                self._respect(self.foreign_agents[visited.name])
        self._end_others(plan, now)
        self.service.use(tuple(self.home_agents.values()), tuple(self.foreign_agents.values()))
        for interface in set(self._links) - known:
            self._watch_link(interface)
        self._listen()
        self.service.flush(now)

    def _end_others(self, plan: MobilityPlan, now: float) -> None:
        """Agents that the configuration no longer names say goodbye, and are gone."""
        homes = {policy.name for policy in plan.home_agents}
        visited = {policy.name for policy in plan.foreign_agents}
        for home in [one for name, one in self.home_agents.items() if name not in homes]:
            home.close(now)
        for foreign in [one for name, one in self.foreign_agents.items() if name not in visited]:
            foreign.close(now)
        self.service.flush(now)
        self.home_agents = {n: one for n, one in self.home_agents.items() if n in homes}
        self.foreign_agents = {n: one for n, one in self.foreign_agents.items() if n in visited}
        wanted = set(interfaces_of(plan.foreign_agents))
        for interface in set(self._links) - wanted:
            sock = self._links.pop(interface)
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def summary(self) -> str:
        """The agents in a few words."""
        kinds = (("home agent", self.home_agents), ("foreign agent", self.foreign_agents))
        named = [f"{kind}{'s' * (len(one) > 1)} {', '.join(one)}" for kind, one in kinds if one]
        return "; ".join(named) or "no mobility agents"

    def facts(self) -> dict[str, object]:
        """What a status page shows."""
        agents: dict[str, Mapping[str, int]] = {
            name: one.counters for name, one in {**self.home_agents, **self.foreign_agents}.items()
        }
        return {
            "home_agents": {
                name: {
                    "address": str(one.policy.address),
                    "placement": one.policy.placement.value,
                    "bindings": len(one.home_addresses()),
                }
                for name, one in self.home_agents.items()
            },
            "foreign_agents": {
                name: {
                    "care_of_address": str(one.policy.care_of_address),
                    "interface": one.policy.interface,
                    "through_vpn": one.policy.through_vpn,
                    "visitors": len(one.visitor_keys()),
                }
                for name, one in self.foreign_agents.items()
            },
            "counters": {
                **{name: dict(values) for name, values in agents.items()},
                "service": dict(self.service.counters),
                "sockets": dict(self._sockets.counters),
            },
            "dataplane": {"counters": self._dataplane.counters()},
        }

    # -- stop ------------------------------------------------------------------------------

    async def stop(self, *, keep: bool = False) -> None:
        """Serve no more, and write down what is not written yet: the next run goes on there.

        Bindings are for the next run in any case; with ``keep`` visitors are too, and are not told.
        """
        now = self._loop.time()
        for home in self.home_agents.values():
            home.close(now)
        for visited in self.foreign_agents.values():
            if keep:
                visited.hand_over()
            else:
                visited.close(now)
        self.service.flush(now)
        self.service.stop()
        self._sockets.stop()
        for descriptor in (*self._dataplane.event_fds(), *self._link_descriptors()):
            self._loop.remove_reader(descriptor)
        self._sessions.listen(None)

    def _link_descriptors(self) -> list[int]:
        return [sock.fileno() for sock in self._links.values()]

    def close(self, *, keep: bool = False) -> None:
        """Remove everything from the kernel, unless it is kept, and close the sockets."""
        if hasattr(self, "_dataplane"):
            self._dataplane.close(keep=keep)
        for sock in self._links.values():
            sock.close()
        self._sockets.close()

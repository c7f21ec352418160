"""The mobility roles as one: started with what was written down, reloaded, stopped."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kept_state import KeptState

from gateway.appliance.mip_sockets import MipSockets
from gateway.appliance.mobility import Mobility
from gateway.appliance.mobility_plan import MobilityPlan
from gateway.appliance.session_takeover import TakenOver
from gateway.appliance.vpn_fa import VpnFaSessions
from gateway.dataplane.mobility import MobilityRefusal, MobilitySettings
from gateway.domain.event import Event
from gateway.domain.mobility import HomeNetwork
from gateway.mip_agents.outputs import Keep
from gateway.mip_agents.policy import ForeignAgentPolicy, HomeAgentPolicy, Placement

NETWORK = HomeNetwork("staff", IPv4Network("10.60.0.0/24"))
INNER = HomeAgentPolicy(
    "inner",
    IPv4Address("10.1.0.1"),
    Placement.INSIDE,
    (NETWORK,),
    SimpleNamespace(),
)
LAN = ForeignAgentPolicy("lan", IPv4Address("10.3.0.1"), "eth2")
VPN = ForeignAgentPolicy("vpn", IPv4Address("10.1.0.9"), "gw0", through_vpn=True)
PLAN = MobilityPlan((INNER,), (LAN, VPN), MobilitySettings(), Path())


class FakeAgent:
    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.calls: list[tuple[Any, ...]] = []
        self.outputs: list[Any] = []
        self.counters = {"accepted": 1}

    def restore(self, records: Sequence[bytes], now: float) -> None:
        self.calls.append(("restore", list(records)))

    def reconfigure(self, policy: Any, now: float) -> None:
        self.calls.append(("reconfigure", policy))
        self.policy = policy

    def session_up(self, home_address: IPv4Address, now: float, peer: str) -> None:
        self.calls.append(("session_up", home_address, peer))

    def home_addresses(self) -> list[IPv4Address]:
        return [IPv4Address("10.60.0.5")]

    def visitor_keys(self) -> list[Any]:
        return []

    def next_timer(self) -> float | None:
        return None

    def take_outputs(self) -> list[Any]:
        taken, self.outputs = self.outputs, []
        return taken

    def close(self, now: float) -> None:
        self.calls.append(("close",))
        if isinstance(self.policy, HomeAgentPolicy):
            self.outputs.append(Keep("node", b"the last word"))


class FakeKernel:
    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        self.settings: list[MobilitySettings] = []
        self.closed = False

    def event_fds(self) -> list[int]:
        return [self.reads]

    def read_events(self) -> None:
        os.read(self.reads, 100)

    def reconfigure(self, settings: MobilitySettings) -> None:
        self.settings.append(settings)

    def commit(self) -> list[MobilityRefusal]:
        return []

    def counters(self) -> dict[str, int]:
        return {"to_mobile_node": 7}

    def close(self, *, keep: bool = False) -> None:
        self.closed = True
        os.close(self.reads)
        os.close(self.writes)


class FakeLink:
    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        self.closed = False

    def fileno(self) -> int:
        return self.reads

    def close(self) -> None:
        if not self.closed:
            os.close(self.reads)
            os.close(self.writes)
        self.closed = True


class Parts:
    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.links: dict[str, FakeLink] = {}

    def sockets(self) -> MipSockets:
        return MipSockets(port=0, address="127.0.0.1")

    def link_socket(self, interface: str) -> Any:
        return self.links.setdefault(interface, FakeLink())

    def home_agent(self, policy: HomeAgentPolicy) -> Any:
        return FakeAgent(policy)

    def foreign_agent(self, policy: ForeignAgentPolicy) -> Any:
        return FakeAgent(policy)

    def mobility_dataplane(self, settings: MobilitySettings) -> Any:
        self.kernel.settings.append(settings)
        return self.kernel


def made(folder: Path, state: KeptState | None = None) -> tuple[Mobility, Parts, VpnFaSessions]:
    loop = asyncio.get_running_loop()
    sessions = VpnFaSessions(loop.time, loop.call_soon)
    parts = Parts()
    events: list[Event] = []
    plan = replace(PLAN, state_dir=folder)
    taken = TakenOver(None, events.append) if state is None else state.taken
    return Mobility(plan, parts, sessions, events.append, taken), parts, sessions


def calls(agent: Any) -> list[tuple[Any, ...]]:
    return agent.calls  # type: ignore[no-any-return]


def test_what_was_written_down_comes_back_and_what_is_left_is_written_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        before = KeptState(tmp_path)
        before.taken.records.keep("binding:inner", "node", b"record")
        before.taken.records.keep("binding:of an agent that is gone", "node", b"other")
        await before.stop()
        state = KeptState(tmp_path)
        state.start()
        mobility, parts, _ = made(tmp_path, state)
        mobility.start()
        assert calls(mobility.home_agents["inner"]) == [("restore", [b"record"])]
        await mobility.stop()
        mobility.close()
        assert parts.kernel.closed
        assert all(link.closed for link in parts.links.values())
        for agent in (*mobility.home_agents.values(), *mobility.foreign_agents.values()):
            assert ("close",) in calls(agent)
        await state.stop()
        after = KeptState(tmp_path)
        assert after.records("binding:inner") == {"node": b"the last word"}
        assert after.records("binding:of an agent that is gone") == {"node": b"other"}
        await after.stop()

    asyncio.run(scenario())


def test_a_reload_changes_ends_and_adds_agents(tmp_path: Path) -> None:
    async def scenario() -> None:
        mobility, parts, sessions = made(tmp_path)
        mobility.start()
        inner, lan = mobility.home_agents["inner"], mobility.foreign_agents["lan"]
        changed = replace(INNER, lifetime_s=60)
        outer = replace(INNER, name="outer", address=IPv4Address("192.0.2.9"))
        other = replace(LAN, name="other", interface="eth3")
        settings = MobilitySettings(home_agents=(INNER.address, outer.address))
        mobility.reload(MobilityPlan((changed, outer), (other, VPN), settings, tmp_path))
        assert calls(inner)[-1] == ("reconfigure", changed)
        assert calls(lan)[-1] == ("close",)
        assert set(mobility.home_agents) == {"inner", "outer"}
        assert set(mobility.foreign_agents) == {"other", "vpn"}
        assert parts.kernel.settings[-1] == settings
        assert parts.links["eth2"].closed
        assert not parts.links["eth3"].closed
        assert sessions._listener is mobility.foreign_agents["vpn"]
        await mobility.stop()
        mobility.close()

    asyncio.run(scenario())


def test_the_status_shows_who_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        mobility, _, _ = made(tmp_path)
        mobility.start()
        facts: Any = mobility.facts()
        assert mobility.summary() == "home agent inner; foreign agents lan, vpn"
        assert facts["home_agents"]["inner"] == {
            "address": "10.1.0.1",
            "placement": "inside",
            "bindings": 1,
        }
        assert facts["foreign_agents"]["vpn"]["through_vpn"]
        assert facts["dataplane"]["counters"] == {"to_mobile_node": 7}
        assert facts["counters"]["inner"] == {"accepted": 1}
        await mobility.stop()
        mobility.close()

    asyncio.run(scenario())

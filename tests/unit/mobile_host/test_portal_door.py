"""When the way to a captive portal's page opens, and what ends it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from gateway.control.node_operations import NODE_OPERATIONS
from gateway.control.protocol import ControlError, Request
from gateway.domain.event import Event
from gateway.mobile_host.control import NodeControl
from gateway.mobile_host.portal import PortalProbe
from gateway.mobile_host.portal_door import LEASE_S, OPEN_S, PAGE, PortalDoor
from gateway.mobile_node.inputs import LinkState, Portal
from gateway.mobile_node.status import InterfaceStatus, NodeStatus

CAPTIVE = InterfaceStatus("wlan0", "captive portal", in_use=True)
UNKNOWN = replace(CAPTIVE, verdict="unknown")
HELD = NodeStatus("ann", "held", "unknown", "a test", 1.0, "", 0, False, (), (CAPTIVE,))
ANN = 1000


class World:
    """A node that is as the test says, at a time that the test chooses."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.now = 100.0
        self.state = HELD
        self.wlan: LinkState | None = LinkState("wlan0", carrier=True, generation=4)
        self.probes = 0
        self.told: list[Event] = []
        self.door = PortalDoor(loop, PortalProbe(loop, 0), self, self.told.append, look_s=1e6)
        self.door._loop = self  # type: ignore[assignment]
        self._real = loop

    def time(self) -> float:
        return self.now

    def create_task(self, work: Awaitable[None]) -> "asyncio.Future[None]":
        return asyncio.ensure_future(work)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def status(self) -> NodeStatus:
        return self.state

    def link(self, interface: str) -> LinkState | None:
        return self.wlan if interface == "wlan0" else None

    def name_servers(self, _interface: str) -> Sequence[IPv4Address]:
        return ()

    def no_portals(self) -> Collection[IPv4Address]:
        return ()

    def probe_portal(self, _interface: str) -> None:
        self.probes += 1

    portal_page = PAGE

    def shows(self, verdict: str) -> None:
        self.state = replace(HELD, interfaces=(replace(CAPTIVE, verdict=verdict),))


def in_loop(test: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        world = World()
        try:
            await test(world)
        finally:
            world.door.end("the test is over")

    asyncio.run(run())


def test_it_opens_at_a_captive_portal_and_stays_for_whoever_asks_again() -> None:
    async def test(world: World) -> None:
        found = world.door.ask(ANN)
        assert (found["open"], found["interface"], found["page"]) == (True, "wlan0", PAGE)
        world.now += LEASE_S - 1
        assert world.door.keep(ANN)["port"] == found["port"]
        world.now += LEASE_S - 1
        assert world.door.ask(ANN)["port"] == found["port"]
        assert [one.name for one in world.told] == ["portal_way_opened"]

    in_loop(test)


def test_it_opens_where_nobody_answers_at_all() -> None:
    async def test(world: World) -> None:
        world.shows("unknown")
        world.door.heard("wlan0", 3, Portal.SILENT)  # of the network before
        with pytest.raises(ControlError, match="no captive portal was found"):
            world.door.ask(ANN)
        world.door.heard("wlan0", 4, Portal.SILENT)
        assert world.door.ask(ANN)["open"] is True

    in_loop(test)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (replace(HELD, mode="vf"), "no login is needed: mode vf works"),
        (replace(HELD, mode="c"), "no login is needed"),
        (replace(HELD, locked=True), "gateway mn unlock"),
        (replace(HELD, interfaces=()), "no network is in use"),
        (replace(HELD, interfaces=(replace(CAPTIVE, in_use=False),)), "no network is in use"),
        (replace(HELD, interfaces=(UNKNOWN,)), "no captive portal was found"),
        *(
            (replace(HELD, interfaces=(replace(CAPTIVE, verdict=verdict),)), verdict)
            for verdict in ("home", "inside", "outside", "idle", "no address")
        ),
    ],
)
def test_it_does_not_open_where_no_portal_is_in_the_way(state: NodeStatus, why: str) -> None:
    async def test(world: World) -> None:
        world.state = state
        with pytest.raises(ControlError, match=why):
            world.door.ask(ANN)
        assert world.told == []

    in_loop(test)


def _another_mode(world: World) -> None:
    world.state = replace(HELD, mode="vf")


def _another_network(world: World) -> None:
    world.wlan = LinkState("wlan0", carrier=True, generation=5)


def _no_network(world: World) -> None:
    world.wlan = None


def _other_link(world: World) -> None:
    other = InterfaceStatus("eth0", "unknown", in_use=True)
    world.state = replace(HELD, interfaces=(replace(CAPTIVE, in_use=False), other))


def _inside(world: World) -> None:
    world.shows("inside")


def _open(world: World) -> None:
    world.door.heard("wlan0", 4, Portal.OPEN)


def _command_gone(world: World) -> None:
    world.now += LEASE_S


def _late(world: World) -> None:
    for _ in range(int(OPEN_S)):
        world.now += 1
        world.door.keep(ANN)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_another_mode, "no login is needed: mode vf works"),
        (_another_network, "wlan0 is another network now"),
        (_no_network, "wlan0 is another network now"),
        (_other_link, "another network is in use"),
        (_inside, "no captive portal is in the way: inside"),
        (_open, "the network is open"),
        (_command_gone, "the command ended"),
        (_late, "10 minutes are over"),
    ],
)
def test_what_ends_it(change: Callable[[World], None], reason: str) -> None:
    async def test(world: World) -> None:
        port = world.door.ask(ANN)["port"]
        assert isinstance(port, int)
        change(world)
        world.door.look()
        kept = world.door.keep(ANN)
        assert kept["open"] is False
        assert reason in str(kept["reason"])
        assert reason in world.told[-1].text
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    in_loop(test)


def test_a_probe_that_failed_ends_nothing() -> None:
    async def test(world: World) -> None:
        world.door.ask(ANN)
        for verdict in (Portal.UNKNOWN, Portal.SILENT, Portal.CAPTIVE):
            world.shows("unknown")
            world.door.heard("wlan0", 4, verdict)
            assert world.door.keep(ANN)["open"] is True
        world.door.heard("wlan0", 3, Portal.OPEN)  # of the network before
        assert world.door.keep(ANN)["open"] is True

    in_loop(test)


def test_another_user_gets_a_way_of_his_own() -> None:
    async def test(world: World) -> None:
        first = world.door.ask(ANN)["port"]
        assert isinstance(first, int)
        assert world.door.keep(ANN + 1)["open"] is False
        assert world.door.ask(ANN + 1)["open"] is True
        assert world.door.keep(ANN)["open"] is False
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", first)

    in_loop(test)


def test_while_it_is_open_the_portal_is_looked_at_often() -> None:
    async def test(world: World) -> None:
        world.door.ask(ANN)
        for _ in range(9):
            world.now += 1
            world.door.keep(ANN)
            world.door._look_again()
        assert world.probes == 3

    in_loop(test)


def test_the_control_socket_opens_keeps_and_closes_it() -> None:
    async def test(world: World) -> None:
        class Node:
            portal_door = world.door

        control = NodeControl(Node(), world.time)  # type: ignore[arg-type]

        async def call(name: str, **given: int | bool) -> object:
            operation = NODE_OPERATIONS[name]
            return await control.handle(Request(operation, operation.check(given)))

        assert (await call("node-portal", uid=ANN, keep=True)) == {
            "open": False,
            "reason": "it was not open",
        }
        opened = await call("node-portal", uid=ANN)
        assert isinstance(opened, dict)
        assert opened["open"] is True
        assert await call("node-portal-stop") == {"open": False}
        kept = await call("node-portal", uid=ANN, keep=True)
        assert kept == {"open": False, "reason": "it was told to"}

    in_loop(test)

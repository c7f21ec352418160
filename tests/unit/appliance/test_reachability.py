"""How the inside learns where the pools are."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from gateway.appliance.pool_overlaps import overlaps
from gateway.appliance.remote_access import frr
from gateway.appliance.remote_access.reachability import Reachability, not_on_link
from gateway.appliance.remote_access.route_hints import route_hints, source_towards
from gateway.config.document import Config
from gateway.dataplane.kernel.routes_in_use import Route

A = ip_address
CORE = Route(ip_network("10.0.0.0/8"), "eth0", connected=False)
LAN = Route(ip_network("10.1.0.0/24"), "eth1")


def config(**pools: dict[str, Any]) -> Config:
    connection = {"remote_id": "*", "pool": "staff", "local_subnets": ["10.1.0.0/16", "0.0.0.0/0"]}
    return Config.model_validate({"pools": pools, "connections": {"road": connection}})


def by_arp(network: str = "10.1.0.128/25", interface: str = "eth1") -> dict[str, Any]:
    return {"network": network, "advertise": "proxy-arp", "inside_interface": interface}


class FakeProxies:
    def __init__(self) -> None:
        self.wanted: dict[Any, None] = {}
        self.there: set[Any] = set()
        self.missing: dict[str, str] = {}
        self.prepared: list[set[str]] = []
        self.closed: bool | None = None
        self.commits = 0

    def prepare(self, interfaces: set[str]) -> None:
        self.prepared.append(interfaces)

    def add(self, place: Any) -> None:
        self.wanted[place] = None

    def remove(self, place: Any) -> None:
        del self.wanted[place]

    def commit(self) -> None:
        self.commits += 1
        self.there = set(self.wanted)

    def settle(self) -> int:
        self.commit()
        return 0

    def close(self, *, keep: bool) -> None:
        self.closed = keep


class World:
    def __init__(self, wanted: Config, hand_over: Callable[[Any], Any] | None = None) -> None:
        self.proxies = FakeProxies()
        self.events: list[Any] = []
        self.given: list[list[str]] = []
        self.answer: Any = frr.Running(
            (frr.Section(("router ospf",), 4, ["redistribute kernel"]),), {}, frozenset()
        )
        self.reach = Reachability(
            wanted,
            self.events.append,
            make_proxies=lambda: self.proxies,  # type: ignore[arg-type,return-value]
            hand_over=hand_over or self.hand_over,
            routes=lambda: [LAN],
        )

    def hand_over(self, networks: Any) -> Any:
        self.given.append([str(one) for one in networks])
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - another thread makes it true
            await asyncio.sleep(0.01)


def test_arp_is_answered_for_who_is_there() -> None:
    async def story() -> None:
        world = World(config(staff=by_arp()))
        world.reach.open()
        # Before the start nothing goes: what is known is not all yet.
        world.reach.add(A("10.1.0.130"))
        world.reach.add(A("10.9.0.1"))
        world.reach.commit()
        assert world.proxies.commits == 0
        await world.reach.start()
        assert world.proxies.there == {("eth1", A("10.1.0.130"))}
        world.reach.add(A("10.1.0.131"))
        world.reach.remove(A("10.1.0.130"))
        world.reach.remove(A("10.1.0.130"))
        world.reach.commit()
        assert world.proxies.there == {("eth1", A("10.1.0.131"))}
        (view,) = await world.reach.views()
        assert (view["state"], view["announced"], view["routes"]) == ("ok", 1, [])
        await world.reach.stop(keep=True)
        assert world.proxies.closed is True

    asyncio.run(story())


def test_a_reload_moves_what_is_answered_for() -> None:
    async def story() -> None:
        world = World(config(staff={"network": "10.1.0.128/25"}))
        world.reach.open()
        await world.reach.start()
        world.reach.add(A("10.1.0.130"))
        world.reach.commit()
        assert world.proxies.prepared == []
        world.reach.configure(config(staff=by_arp()))
        assert world.proxies.there == {("eth1", A("10.1.0.130"))}
        world.reach.configure(config(staff=by_arp(interface="eth2")))
        assert world.proxies.there == {("eth2", A("10.1.0.130"))}
        world.reach.configure(config())
        assert world.proxies.there == set()
        await world.reach.stop(keep=False)
        assert world.proxies.closed is False

    asyncio.run(story())


def test_an_interface_that_is_missing_is_told_once() -> None:
    async def story() -> None:
        world = World(config(staff=by_arp()))
        world.proxies.missing = {"eth1": "there is no such interface"}
        world.reach.open()
        await world.reach.start()
        for _ in range(3):
            world.reach.commit()
        assert [one.name for one in world.events] == ["reachability_failed"]
        (view,) = await world.reach.views()
        assert (view["state"], view["detail"]) == ("failed", "there is no such interface")
        world.proxies.missing = {}
        world.reach.commit()
        world.proxies.missing = {"eth1": "there is no such interface"}
        world.reach.commit()
        assert len(world.events) == 2
        await world.reach.stop(keep=True)

    asyncio.run(story())


def test_frr_is_told_of_the_pools_and_forgets_them_at_the_end() -> None:
    async def story() -> None:
        world = World(config(staff={"network": "10.9.0.0/24", "advertise": "frr"}))
        await world.reach.start()
        await until(lambda: world.given)
        (view,) = await world.reach.views()
        assert (view["state"], view["detail"]) == ("ok", "FRR announces it by: router ospf")
        world.reach.configure(config())
        await until(lambda: len(world.given) == 2)
        world.reach.configure(config(staff={"network": "10.8.0.0/24", "advertise": "frr"}))
        await until(lambda: len(world.given) == 3)
        await world.reach.stop(keep=False)
        assert world.given == [["10.9.0.0/24"], [], ["10.8.0.0/24"], []]

    asyncio.run(story())


def test_a_frr_that_is_away_is_told_once_and_tried_again() -> None:
    async def story() -> None:
        world = World(config(staff={"network": "10.9.0.0/24", "advertise": "frr"}))
        world.answer = frr.FrrError("FRR is not installed; run: apt install frr")
        await world.reach.start()
        await until(lambda: world.given)
        world.reach._look.set()
        await until(lambda: len(world.given) == 2)
        (view,) = await world.reach.views()
        assert view["state"] == "failed"
        assert "apt install frr" in view["detail"]
        assert view["routes"]
        assert [one.name for one in world.events] == ["reachability_failed"]
        await world.reach.stop(keep=True)
        assert len(world.given) == 2

    asyncio.run(story())


def test_nothing_is_said_to_a_frr_that_nobody_asked_for() -> None:
    async def story() -> None:
        world = World(config(staff={"network": "10.9.0.0/24"}))
        await world.reach.start()
        await until(lambda: not world.reach._look.is_set())
        await world.reach.stop(keep=False)
        assert world.given == []

    asyncio.run(story())


def test_hints_name_the_route_to_enter() -> None:
    wanted = config(
        staff={"network": "10.9.0.0/24", "advertise": "route-hint"},
        other={"network": "fd00:9::/64"},
    )
    assert route_hints(wanted, "staff", lambda _one: A("10.1.0.1")) == [
        {
            "network": "10.9.0.0/24",
            "via": "10.1.0.1",
            "command": "ip route add 10.9.0.0/24 via 10.1.0.1",
        }
    ]
    (unknown,) = route_hints(wanted, "staff", lambda _one: None)
    assert unknown["via"] is None
    (other,) = route_hints(wanted, "other")
    assert other["command"].startswith("ip -6 route add fd00:9::/64 via INSIDE")

    async def story() -> None:
        views = await World(wanted).reach.views()
        assert [one["state"] for one in views] == ["todo", "unknown"]
        assert "ip route add 10.9.0.0/24 via" in views[0]["detail"]

    asyncio.run(story())


def test_our_own_address_towards_somewhere() -> None:
    assert source_towards(A("127.0.0.1")) is None
    assert source_towards(A("255.255.255.255")) is None


def test_only_hosts_of_the_same_network_ask() -> None:
    assert not_on_link(ip_network("10.1.0.128/25"), "eth1", [LAN]) is None
    why = str(not_on_link(ip_network("10.9.0.0/24"), "eth1", [LAN]))
    assert "10.9.0.0/24 is no part of the network of eth1 (10.1.0.0/24)" in why
    routed = Route(ip_network("10.0.0.0/8"), "eth1", connected=False)
    assert "it has none" in str(not_on_link(ip_network("10.9.0.0/24"), "eth1", [routed]))


@pytest.mark.parametrize(
    ("pool", "route", "grave"),
    [
        ({"network": "10.1.0.0/24"}, LAN, True),
        ({"network": "10.0.0.0/8"}, LAN, True),
        ({"network": "10.1.0.128/25"}, LAN, False),
        (
            {"network": "10.1.0.128/25"},
            Route(ip_network("10.0.0.0/8"), "eth0", connected=False),
            False,
        ),
        (by_arp(), LAN, None),
        (by_arp("10.0.0.0/8"), LAN, True),
        ({"network": "10.9.0.0/24"}, LAN, None),
        ({"network": "fd00::/64"}, LAN, None),
        ({"network": "10.1.0.0/24"}, Route(ip_network("10.1.0.0/24"), "gw0"), None),
    ],
)
def test_overlaps_with_networks_in_use(
    pool: dict[str, Any], route: Route, grave: bool | None
) -> None:
    found = list(overlaps(config(staff=pool), [route]))
    assert [one.grave for one in found] == ([] if grave is None else [grave])
    for one in found:
        assert str(route.network) in one.detail

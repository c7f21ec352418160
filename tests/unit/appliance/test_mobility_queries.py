"""Bindings, visitors and denials over the control socket's language."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from gateway.api.models_mobility import Binding, RegistrationFailure, Visitor
from gateway.api.models_mobility import HomeNetwork as HomeNetworkModel
from gateway.appliance.failures import Failures
from gateway.appliance.mobility_queries import MobilityQueries
from gateway.control.protocol import ControlError, ErrorCode, Role, check_request, dump
from gateway.domain.event import Event, Severity
from gateway.domain.mobility import HomeNetwork
from gateway.domain.pools import AddressPool
from gateway.mip_agents.foreign_agent.views import VisitorView
from gateway.mip_agents.home_agent.views import BindingView, CareOfView
from gateway.mip_agents.policy import (
    ForeignAgentPolicy,
    HomeAgentPolicy,
    MobileNode,
    Placement,
)

NETWORK = HomeNetwork("roaming", IPv4Network("10.20.0.0/24"))
OTHER = HomeNetwork("spare", IPv4Network("10.21.0.0/24"), "eth1")


class Nobody:
    def by_home_address(self, address: IPv4Address) -> MobileNode | None:
        del address
        return None

    def by_nai(self, nai: str) -> MobileNode | None:
        del nai
        return None


def binding(number: int, agent: str = "inside") -> BindingView:
    care_of = f"192.0.2.{number % 250}"
    flags = ("co_located", "reverse")
    each = CareOfView(care_of, f"ip-ip to {care_of}", flags, 1800, 1700.12345, False, None)
    return BindingView(
        home_agent=agent,
        name=f"node{number}",
        nai=f"node{number}@Example.com" if number % 2 else "",
        home_address=str(NETWORK.network[number]),
        home_network="roaming",
        care_of_addresses=(care_of,),
        tunnels=(each.tunnel,),
        flags=flags,
        lifetime_s=1800,
        registered_for_s=99.98765,
        expires_in_s=1700.12345,
        zero_overhead=None,
        nat=False,
        via_foreign_agent=None,
        dynamic=False,
        registrations=2,
        last_code=0,
        each=(each,),
    )


@dataclass
class FakeHome:
    policy: HomeAgentPolicy
    bound: dict[IPv4Address, BindingView] = field(default_factory=dict)
    looked_at: int = 0

    def home_addresses(self) -> list[IPv4Address]:
        return list(self.bound)

    def binding(self, home_address: IPv4Address, now: float) -> BindingView | None:
        assert now == 7.0
        self.looked_at += 1
        return self.bound.get(home_address)

    def revoke(self, home_address: IPv4Address, now: float) -> bool:
        assert now == 7.0
        return self.bound.pop(home_address, None) is not None


@dataclass
class FakeForeign:
    policy: ForeignAgentPolicy
    there: dict[tuple[IPv4Address, IPv4Address], VisitorView]

    def visitor_keys(self) -> list[tuple[IPv4Address, IPv4Address]]:
        return list(self.there)

    def visitor(self, home_agent: IPv4Address, home_address: IPv4Address) -> VisitorView | None:
        return self.there.get((home_agent, home_address))


class Flushes:
    def __init__(self) -> None:
        self.at: list[float] = []

    def flush(self, now: float) -> None:
        self.at.append(now)


@dataclass
class FakeAgents:
    home_agents: dict[str, FakeHome]
    foreign_agents: dict[str, FakeForeign] = field(default_factory=dict)
    service: Flushes = field(default_factory=Flushes)


def home(name: str, address: str, count: int, *networks: HomeNetwork) -> FakeHome:
    pool = AddressPool("roaming", NETWORK.network)
    pool.lease("x")
    nobody = Nobody()
    policy = HomeAgentPolicy(
        name, IPv4Address(address), Placement.INSIDE, networks, nobody, {"roaming": pool}
    )
    views = (binding(number, name) for number in range(10, 10 + count))
    return FakeHome(policy, {IPv4Address(view.home_address): view for view in views})


def visitor(agent: str, home_agent: str, home_address: str) -> VisitorView:
    return VisitorView(
        foreign_agent=agent,
        home_address=IPv4Address(home_address),
        home_agent=IPv4Address(home_agent),
        care_of_address=IPv4Address("10.4.0.1"),
        nai="",
        interface="eth2",
        link_address="02:00:00:00:00:01",
        tunnel="ip-ip to 10.20.0.1",
        flags=("reverse",),
        lifetime_s=None,
        granted_at=1.0,
        expires_in_s=None,
        installed=True,
        registrations=1,
        last_code=0,
    )


def ask(agents: FakeAgents | None, op: str, failures: Failures | None = None, **args: object):  # type: ignore[no-untyped-def] # noqa: ANN201
    request = check_request({"op": op, "args": args}, Role.OPERATOR)
    records = (Failures() if failures is None else failures).registrations
    queries = MobilityQueries(lambda: agents, records, lambda: 7.0)
    return asyncio.run(queries.handlers()[op](request))  # type: ignore[arg-type]


def pages(agents: FakeAgents, op: str, limit: int, **args: object) -> Iterable[dict[str, object]]:
    cursor = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = ask(agents, op, limit=limit, **more, **args)
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def test_bindings_in_pages_look_at_no_others() -> None:
    agents = FakeAgents({"inside": home("inside", "10.20.0.1", 200, NETWORK)})
    first = ask(agents, "bindings", limit=10)
    assert first["total"] == 200
    assert agents.home_agents["inside"].looked_at == 10
    found = [one["home_address"] for one in pages(agents, "bindings", 30)]
    assert found == [str(NETWORK.network[number]) for number in range(10, 210)]


def test_a_binding_says_where_how_and_until_when() -> None:
    agents = FakeAgents({"inside": home("inside", "10.20.0.1", 5, NETWORK)})
    one = ask(agents, "binding", home_address="10.20.0.11")
    assert one["node"] == "node11"
    assert one["nai"] == "node11@Example.com"
    assert (one["registered_for_s"], one["expires_in_s"]) == (99.988, 1700.123)
    (care_of,) = one["care_of_addresses"]
    assert care_of["tunnel"] == "ip-ip to 192.0.2.11"
    assert care_of["flags"] == ("co_located", "reverse")
    assert ask(agents, "binding", home_address="10.20.0.12")["nai"] is None


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ({"node": "NODE13"}, ["10.20.0.13"]),
        ({"node": "@example.COM"}, ["10.20.0.11", "10.20.0.13"]),
        ({"care_of_address": "192.0.2.14"}, ["10.20.0.14"]),
        ({"home_address": "10.20.0.10"}, ["10.20.0.10"]),
        ({"home_agent": "other"}, []),
        ({"node": "node13", "care_of_address": "192.0.2.14"}, []),
    ],
)
def test_filters(args: dict[str, object], found: list[str]) -> None:
    agents = FakeAgents({"inside": home("inside", "10.20.0.1", 5, NETWORK)})
    page = ask(agents, "bindings", **args)
    assert [one["home_address"] for one in page["items"]] == found
    assert page["total"] == len(found)


def test_revoking_tells_the_world() -> None:
    agents = FakeAgents({"inside": home("inside", "10.20.0.1", 5, NETWORK)})
    done = ask(agents, "revoke-binding", home_address="10.20.0.12")
    assert done == {"revoked": "10.20.0.12", "home_agent": "inside", "node": "node12"}
    assert agents.service.at == [7.0]
    with pytest.raises(ControlError) as refused:
        ask(agents, "revoke-binding", home_address="10.20.0.12")
    assert refused.value.code is ErrorCode.NOT_FOUND
    assert refused.value.field == "home_address"
    assert agents.service.at == [7.0]


@pytest.mark.parametrize("address", ["10.20.0.256", "1.2.3.4.5", "ten", "", "10.20.0.1 "])
def test_what_is_no_address_is_refused(address: str) -> None:
    agents = FakeAgents({"inside": home("inside", "10.20.0.1", 5, NETWORK)})
    with pytest.raises(ControlError) as refused:
        ask(agents, "binding", home_address=address)
    assert refused.value.code is ErrorCode.INVALID
    assert refused.value.field == "home_address"


def test_visitors_of_several_home_agents_and_agents() -> None:
    policy = ForeignAgentPolicy("hall", IPv4Address("10.4.0.1"), "eth2")
    agents = FakeAgents({})
    for name in ("hall", "vpn"):
        views = [visitor(name, f"10.20.0.{n}", f"10.20.1.{m}") for n in (1, 2) for m in range(9)]
        there = {(view.home_agent, view.home_address): view for view in views}
        agents.foreign_agents[name] = FakeForeign(replace(policy, name=name), there)
    found = list(pages(agents, "visitors", 7))
    assert len(found) == 36
    assert len({tuple(map(str, one.values())) for one in found}) == 36
    assert ask(agents, "visitors", foreign_agent="vpn")["total"] == 18
    one = ask(agents, "visitors", home_address="10.20.1.3", home_agent_address="10.20.0.2")
    assert [item["foreign_agent"] for item in one["items"]] == ["hall", "vpn"]
    assert one["items"][0]["nai"] is None


def test_home_networks_count_who_is_away() -> None:
    agents = FakeAgents({"inside": home("inside", "10.20.0.1", 5, NETWORK, OTHER)})
    first, second = ask(agents, "home-networks")["items"]
    assert (first["name"], first["bindings"], first["interface"]) == ("roaming", 5, None)
    assert (first["dynamic_addresses"], first["dynamic_addresses_in_use"]) == (254, 1)
    assert (second["bindings"], second["interface"], second["dynamic_addresses"]) == (0, "eth1", 0)


@pytest.mark.parametrize("op", ["bindings", "visitors", "home-networks"])
def test_without_agents_lists_are_empty(op: str) -> None:
    assert ask(None, op) == {"items": [], "next": None, "total": 0}


def denied(name: str = "registration_denied", **fields: object) -> Event:
    facts: dict[str, object] = {
        "home_agent": "outside",
        "node": "ann",
        "nai": "ann@example.com",
        "home_address": "10.20.0.10",
        "source": "198.51.100.7:434",
        "code": 131,
        "reason": "its authenticator is wrong",
        "hint": "compare the keys",
    }
    return Event(name, "one line", Severity.WARNING, {**facts, **fields}, logged=False)


def test_denied_registrations_are_recorded_beside_logins() -> None:
    failures = Failures()
    for port in range(3):
        failures(denied(source=f"198.51.100.7:{port}"))
    failures(denied("visitor_denied", foreign_agent="hall", source="", node="10.20.0.11", code=78))
    failures(denied("registered"))
    assert (len(failures), failures.total) == (0, 0)
    assert failures.registrations.total == 4
    page = ask(None, "registration-failures", failures)
    newest, oldest = page["items"]
    assert (newest["agent"], newest["denied_by"], newest["code"]) == ("hall", "foreign agent", 78)
    assert newest["source"] == "10.20.0.10"
    assert (oldest["agent"], oldest["denied_by"], oldest["code"]) == ("outside", "home agent", 131)
    assert (oldest["count"], oldest["source"]) == (3, "198.51.100.7:2")
    assert oldest["node"] == "ann, ann@example.com, 10.20.0.10"
    assert oldest["remedy"] == "compare the keys"


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ({"who": "ANN@"}, 1),
        ({"who": "198.51.100.7"}, 1),
        ({"who": "bob"}, 0),
        ({"agent": "outside"}, 1),
        ({"agent": "hall"}, 0),
        ({"within_s": 60}, 1),
    ],
)
def test_denials_are_found_by(args: dict[str, object], count: int) -> None:
    failures = Failures()
    failures(denied())
    assert ask(None, "registration-failures", failures, **args)["total"] == count


def test_the_api_knows_every_field() -> None:
    """What is answered here is what the API's models describe, nothing less and nothing more."""
    policy = ForeignAgentPolicy("hall", IPv4Address("10.4.0.1"), "eth2")
    one = visitor("hall", "10.20.0.1", "10.20.1.3")
    foreign = FakeForeign(policy, {(one.home_agent, one.home_address): one})
    agents = FakeAgents({"inside": home("inside", "10.20.0.1", 1, NETWORK)}, {"hall": foreign})
    failures = Failures()
    failures(denied())
    for op, model in (
        ("bindings", Binding),
        ("visitors", Visitor),
        ("home-networks", HomeNetworkModel),
        ("registration-failures", RegistrationFailure),
    ):
        (item,) = json.loads(dump(ask(agents, op, failures)))["items"]
        assert set(item) == set(model.model_fields)
        assert model.model_validate(item).model_dump() == item

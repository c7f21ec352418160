"""Agents in one box, and agents that prove themselves: what the single roles' files leave out."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from mobility_bed import GATEWAY, I_HA, I_HOA, SERVER, WAYS, X_HOA, MobilityBed, mobility_bed

from gateway.lab import plan as lab_plan
from gateway.lab.mobility import plan, roles
from gateway.lab.mobility.discovery import Listener
from gateway.lab.mobility.mobile_node import BY_AGENT, MobileNode
from gateway.lab.mobility.wires import shapes, wired
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

LINK, AGENT = "ifalink", plan.INSIDE_FOREIGN_AGENT
HERE, PLAIN = plan.ACCESSES["access1"], plan.ACCESSES["plain"]
AGENTS_KEY = "8d0f43a1c6e2579bb1347fe05a6d9c28"
ANONYMOUS = IPv4Address(0)


@pytest.fixture
def bed() -> Iterator[MobilityBed]:
    with mobility_bed() as made:
        yield made


@pytest.fixture(params=WAYS)
def box(request: pytest.FixtureRequest) -> Iterator[MobilityBed]:
    with mobility_bed(offload=request.param == "kernel") as made:
        yield made


def in_the_box(bed: MobilityBed) -> MobileNode:
    """The x-HA is in the VPN gateway's own box, at a second address of it."""
    bed.lab.run("gw", ["ip", "address", "add", f"{plan.GATEWAY_HOME_AGENT}/28", "dev", "outside"])
    way = ["ip", "route", "replace", str(plan.OUTSIDE_HOME_NETWORK), "via", str(GATEWAY)]
    bed.lab.run("internet", way)
    bed.inside_home_agent()
    bed.vpn(outside_agent=True)
    node = bed.node("x")
    node.home_agent = plan.GATEWAY_HOME_AGENT
    return node


def test_the_outside_home_agent_in_the_gateways_own_box(box: MobilityBed) -> None:
    """Section 6.5: zero overhead to a default destination that is this very box, ESP and IKE."""
    bed = box
    low = in_the_box(bed)
    bed.lab.move("access1")
    answer = low.co_located(HERE, zero_overhead=GATEWAY)
    assert answer.zero_overhead == GATEWAY
    outside = bed.record("gw", "outside")
    bed.initiator(X_HOA)
    high = bed.node("i", default_route=False)
    # The mark of the outer tunnel says nothing about what IPsec protected in it.
    high.stack.through_device("gw0")
    assert not bed.ping("device", SERVER, source=I_HOA, count=1)
    counters = bed.boxes["gw"].call("status")["dataplane"]["counters"]
    assert counters["vpn_fa_unregistered"] >= 1
    assert high.by_vpn(plan.VPN_CARE_OF_ADDRESS, "gw0").accepted
    assert bed.ping("device", SERVER, source=I_HOA)
    bed.lab.move("access2")
    again = low.co_located(plan.ACCESSES["access2"], zero_overhead=GATEWAY)
    assert again.zero_overhead == GATEWAY
    assert bed.ping("device", SERVER, source=I_HOA)
    assert bed.ping("server", I_HOA)
    seen = wired(outside.stop())
    # Not one octet more than IPsec itself, and only topologically right addresses.
    assert {one.shape for one in seen if "esp" in one.shape} == {"ip/esp"}
    homes = {one for one in seen if X_HOA in (one.outer.source, one.outer.destination)}
    assert not homes
    assert len(bed.boxes["gw"].events("ike_sa_established")) == 1


def test_the_foreign_agent_in_the_box_of_the_inside_home_agent(bed: MobilityBed) -> None:
    """A tunnel between two addresses of one box; never a short cut between two devices."""
    text = roles.mobile_nodes(roles.NODES, "office")
    home = roles.table("home_networks.office", network=str(plan.HOME_NETWORK))
    agent = roles.table(
        "home_agents.office",
        address="10.0.0.254",
        placement="inside",
        home_networks=["office"],
    )
    bed.lab.run("gw", ["ip", "address", "add", "10.0.0.254/32", "dev", "lo"])
    route = ["ip", "route", "replace", str(plan.HOME_NETWORK), "via", "10.0.0.1"]
    bed.lab.run("core", route)
    bed.lab.run("gw", ["ip", "route", "delete", str(plan.HOME_NETWORK)])
    bed.start("gw", lambda folder: roles.vpn_gateway(folder) + home + agent + text)
    bed.lab.move("access1")
    bed.initiator(HERE.device.ip)
    node = bed.node("i", default_route=False)
    node.home_agent = IPv4Address("10.0.0.254")
    assert node.by_vpn(plan.VPN_CARE_OF_ADDRESS, "gw0").accepted
    assert bed.ping("device", SERVER, source=I_HOA)
    assert bed.ping("server", I_HOA)
    counters = bed.boxes["gw"].call("status")["mobility"]["dataplane"]["counters"]
    assert counters["to_home_agent"] >= 3
    assert counters["to_mobile_node"] >= 3
    assert counters["to_visitor"] >= 3


@pytest.fixture
def proving(bed: MobilityBed) -> MobileNode:
    """Both agents share a key, and the foreign agent demands its challenges."""
    key = {"spi": 4000, "key": AGENTS_KEY, "algorithm": "hmac-sha256"}
    bed.inside_home_agent(
        trust_unsigned_agents=False,
        foreign_agents={"hall": {"address": str(AGENT), **key}},
    )
    bed.foreign_agent(
        "ifa",
        challenge=True,
        advertisement_interval_s=3,
        known_home_agents={"office": {"address": str(I_HA), **key}},
    )
    bed.lab.enter_link(LINK)
    return bed.node("i")


def test_challenges_and_the_key_between_the_agents(bed: MobilityBed, proving: MobileNode) -> None:
    answer, found = proving.by_agent(LINK)
    assert answer.code == 105
    challenge = found.advertisement.challenge
    assert challenge
    wrong = proving.request(AGENT, flags=BY_AGENT, challenge=bytes(len(challenge)))
    assert proving.ask(wrong, AGENT).code == 104
    upstream = bed.record("core", "ifa")
    right = proving.request(AGENT, flags=BY_AGENT, challenge=challenge)
    assert proving.ask(right, AGENT).accepted
    assert bed.ping("device", SERVER, source=I_HOA)
    assert bed.findings() == []
    assert shapes(upstream.stop())["ip/mip"] == 2
    stale = proving.request(AGENT, flags=BY_AGENT, challenge=challenge)
    assert proving.ask(stale, AGENT).code in {104, 106}
    with Listener(bed.lab, "device", LINK) as listener:
        fresh = listener.next(10).advertisement.challenge
    assert fresh != challenge
    renewed = proving.request(AGENT, flags=BY_AGENT, challenge=fresh)
    assert proving.ask(renewed, AGENT).accepted


def test_a_foreign_agent_without_the_key_is_refused(bed: MobilityBed) -> None:
    bed.inside_home_agent(
        trust_unsigned_agents=False,
        foreign_agents={"hall": {"address": str(AGENT), "spi": 4000, "key": AGENTS_KEY}},
    )
    bed.foreign_agent("ifa")
    bed.lab.enter_link(LINK)
    answer, _ = bed.node("i").by_agent(LINK)
    assert answer.code == 132
    wait_until(lambda: bed.boxes["iha"].events("registration_denied"), 10, "the line of the denial")
    denied = bed.boxes["iha"].events("registration_denied")
    assert denied[-1]["code"] == 132


def test_an_address_on_demand_is_the_same_one_next_time(bed: MobilityBed) -> None:
    name = "phone@example.com"

    def write(folder: object) -> str:
        text = roles.inside_home_agent(folder).replace(
            "[home_networks.office]", '[home_networks.office]\ndynamic = "10.2.0.200-10.2.0.209"'
        )
        return text + roles.table(
            "mobile_nodes.phone",
            nai=name,
            home_agents=["office"],
            spi=plan.INSIDE_ASSOCIATION.spi,
            key=plan.INSIDE_ASSOCIATION.key.hex(),
        )

    bed.start("iha", write)
    bed.lab.move("plain")
    node = bed.node("i")
    node.stack.use_care_of(PLAIN)
    node.at(PLAIN.device.ip)
    request = node.request(PLAIN.device.ip, nai=name, home_address=ANONYMOUS)
    answer = node.ask(request, I_HA)
    assert answer.accepted
    given = answer.reply.home_address
    assert IPv4Address("10.2.0.200") <= given <= IPv4Address("10.2.0.209")
    near = bed.record("core", "plain")
    assert not bed.ping("server", given, count=2)  # the tunnel's end has no such address
    tunnelled = [one for one in wired(near.stop()) if one.shape == "ip/ip/icmp"]
    assert {str(one.outer) for one in tunnelled} == {f"{I_HA} > {PLAIN.device.ip}"}
    released = node.request(PLAIN.device.ip, nai=name, home_address=given, lifetime_s=0)
    assert node.ask(released, I_HA).accepted
    again = node.request(PLAIN.device.ip, nai=name, home_address=ANONYMOUS)
    assert node.ask(again, I_HA).reply.home_address == given
    wait_until(lambda: bed.boxes["iha"].events("registered"), 10, "the line of the registration")
    assert bed.boxes["iha"].events("registered")[-1]["nai"] == name
    assert lab_plan.SERVER == SERVER

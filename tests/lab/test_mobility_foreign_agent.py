"""A foreign agent on a link (mode f): advertisements, relaying, visitors that no ARP asks for."""

from collections.abc import Iterator

import pytest
from mobility_bed import I_HA, I_HOA, SERVER, WAYS, MobilityBed, mobility_bed

from gateway.domain.mobility import Encapsulation
from gateway.lab.capture import dissect
from gateway.lab.mobility import plan
from gateway.lab.mobility.discovery import Listener, discover
from gateway.lab.mobility.mobile_node import BY_AGENT, MobileNode
from gateway.lab.mobility.wires import between, shapes
from gateway.lab.processes import wait_until
from gateway.mip_agents.advertisement import AgentFlag
from gateway.mip_agents.codec.registration import RequestFlag

pytestmark = pytest.mark.kernel

LINK, AGENT = "ifalink", plan.INSIDE_FOREIGN_AGENT
ON_LINK, UPSTREAM = ("ifa", "visited"), ("core", "ifa")


@pytest.fixture(scope="module", params=WAYS)
def shared(request: pytest.FixtureRequest) -> Iterator[MobilityBed]:
    with mobility_bed(offload=request.param == "kernel") as bed:
        bed.inside_home_agent()
        bed.foreign_agent("ifa", advertisement_interval_s=2)
        yield bed


@pytest.fixture
def bed(shared: MobilityBed) -> Iterator[MobilityBed]:
    shared.lab.enter_link(LINK)
    yield shared
    shared.drop_nodes()


@pytest.fixture
def node(bed: MobilityBed) -> MobileNode:
    return bed.node("i")


def gone(node: MobileNode) -> None:
    assert node.by_agent(LINK, lifetime_s=0)[0].accepted


def test_the_agent_advertises_itself_and_answers_solicitations(bed: MobilityBed) -> None:
    mac = bed.lab.link_address("ifa", "visited")
    with Listener(bed.lab, "device", LINK) as listener:
        first, second = listener.next(10), listener.next(10)
    for found in (first, second):
        assert str(found.destination) in {"224.0.0.1", "255.255.255.255"}
        assert found.ttl == 1
        assert found.address == AGENT
        assert found.link_address == mac
        assert found.care_of_address == AGENT
        flags = found.advertisement.flags
        assert flags & AgentFlag.FOREIGN_AGENT
        assert flags & AgentFlag.REGISTRATION_REQUIRED
        assert flags & AgentFlag.REVERSE_TUNNELLING
        assert not flags & (AgentFlag.HOME_AGENT | AgentFlag.BUSY)
    following = first.advertisement.sequence + 1
    assert second.advertisement.sequence == (256 if following == 65536 else following)
    # To the one who asked, although its address does not belong to the link.
    answer = discover(bed.lab, "device", LINK, I_HOA)
    assert answer.destination in {I_HOA, *{first.destination}}


@pytest.mark.parametrize(
    ("encapsulation", "shape"),
    [(Encapsulation.IP_IP, "ip/ip/icmp"), (Encapsulation.GRE, "ip/gre/ip/icmp")],
    ids=["ip-ip", "gre"],
)
def test_a_visitor_sends_and_gets_plain_packets(
    bed: MobilityBed, node: MobileNode, encapsulation: Encapsulation, shape: str
) -> None:
    link, upstream = bed.record(*ON_LINK), bed.record(*UPSTREAM)
    answer, agent = node.by_agent(LINK, encapsulation=encapsulation)
    assert answer.accepted
    assert agent.care_of_address == AGENT
    assert bed.ping("device", SERVER, source=I_HOA)
    assert bed.ping("server", I_HOA)
    on_link, beyond = link.stop(), upstream.stop()
    for source, to in ((I_HOA, SERVER), (SERVER, I_HOA)):
        assert {one.shape for one in between(on_link, source, to)} == {"ip/icmp"}
        seen = between(beyond, source, to)
        assert len(seen) == 6
        assert {one.shape for one in seen} == {shape}
    assert {str(one.outer) for one in between(beyond, SERVER, I_HOA)} == {f"{I_HA} > {AGENT}"}
    assert {str(one.outer) for one in between(beyond, I_HOA, SERVER)} == {f"{AGENT} > {I_HA}"}
    # RFC 5944 section 4.6: the visitor is reached at the address its request came from.
    assert dissect(on_link, f"arp.dst.proto_ipv4 == {I_HOA}", ["arp.src.proto_ipv4"]) == []
    gone(node)


def test_the_visitor_leaves(bed: MobilityBed, node: MobileNode) -> None:
    assert node.by_agent(LINK)[0].accepted
    wait_until(lambda: bed.boxes["ifa"].events("visitor_registered"), 5, "the line of the visitor")
    gone(node)
    link, upstream = bed.record(*ON_LINK), bed.record(*UPSTREAM)
    assert not bed.ping("server", I_HOA, count=1)
    assert not bed.ping("device", SERVER, source=I_HOA, count=1)
    assert not between(link.stop(), SERVER, I_HOA)
    assert not shapes(upstream.stop())["ip/ip/icmp"]


def test_nobody_else_on_the_link_is_tunnelled_for(bed: MobilityBed, node: MobileNode) -> None:
    assert node.by_agent(LINK)[0].accepted
    other = plan.INSIDE_HOME_ADDRESS_2
    bed.lab.run("device", ["ip", "address", "add", f"{other}/32", "dev", "ihoa"])
    bed.lab.run("device", ["ip", "rule", "add", "pref", "99", "from", str(other), "lookup", "1004"])
    upstream = bed.record(*UPSTREAM)
    assert not bed.ping("device", SERVER, source=other, count=2)
    assert bed.ping("device", SERVER, source=I_HOA, count=1)
    seen = upstream.stop()
    assert not [one for one in between(seen, other, SERVER) if one.shape != "ip/icmp"]
    bed.lab.run("device", ["ip", "rule", "delete", "pref", "99"])
    gone(node)


def test_denials_come_through(bed: MobilityBed, node: MobileNode) -> None:
    """Of the home agent with its authenticator, of the foreign agent with its own codes."""
    home_agent = node.by_agent(LINK, home_address=plan.INSIDE_HOME_ADDRESS_2)[0]
    assert home_agent.code == 131
    node.at(I_HOA, interface=LINK)
    wrong_care_of = node.ask(node.request(plan.PLAIN_NETWORK[77], flags=BY_AGENT), AGENT)
    assert wrong_care_of.code == 77
    assert not wrong_care_of.authentic
    reserved = node.ask(node.request(AGENT, flags=BY_AGENT | RequestFlag.RESERVED), AGENT)
    assert reserved.accepted  # RFC 5944 section 3.3: ignored when received
    too_long = node.ask(node.request(AGENT, flags=BY_AGENT, lifetime_s=60_000), AGENT)
    assert too_long.code == 69
    gone(node)


def test_the_foreign_agent_restarts_and_the_node_comes_again(
    bed: MobilityBed, node: MobileNode
) -> None:
    assert node.by_agent(LINK)[0].accepted
    with Listener(bed.lab, "device", LINK) as listener:
        before = listener.next(10).advertisement.sequence
        bed.restart("ifa")
        after = listener.next(20).advertisement.sequence
    # RFC 5944 section 2.3.2: below 256 only after a restart.
    assert after < 256
    assert before >= after or before < 256
    answer, _ = node.by_agent(LINK)
    assert answer.accepted
    assert bed.ping("device", SERVER, source=I_HOA)
    gone(node)


def test_large_packets_pass_the_foreign_agent(bed: MobilityBed, node: MobileNode) -> None:
    assert node.by_agent(LINK)[0].accepted
    upstream = bed.record(*UPSTREAM)
    assert bed.ping("server", I_HOA, size=3000, count=2)
    assert bed.ping("device", SERVER, source=I_HOA, size=3000, count=2)
    seen = [one for one in between(upstream.stop(), I_HOA, SERVER) if len(one.layers) == 2]
    assert seen
    assert not any(one.outer.fragment for one in seen)
    assert max(one.inner.octets for one in seen) <= 1400
    gone(node)


def test_a_broadcast_reaches_the_visitor_by_two_tunnels(bed: MobilityBed, node: MobileNode) -> None:
    """RFC 5944 section 4.3: to the home address in the tunnel, which goes to the care-of one."""
    answer, _ = node.by_agent(LINK, flags=BY_AGENT | RequestFlag.BROADCASTS)
    assert answer.accepted
    link, upstream = bed.record(*ON_LINK), bed.record(*UPSTREAM)
    broadcast = plan.HOME_NETWORK.broadcast_address
    argv = ["ping", "-b", "-c", "2", "-i", "0.3", "-W", "1", str(broadcast)]
    bed.lab.run("neighbour", argv, check=False)
    assert bed.ping("server", I_HOA, count=1)
    twice = between(upstream.stop(), plan.NEIGHBOUR, broadcast)
    once = between(link.stop(), plan.NEIGHBOUR, broadcast)
    assert [one.shape for one in twice] == ["ip/ip/ip/icmp"] * 2
    assert [one.shape for one in once] == ["ip/ip/icmp"] * 2
    assert {tuple(map(str, one.layers)) for one in twice} == {
        (f"{I_HA} > {AGENT}", f"{I_HA} > {I_HOA}", f"{plan.NEIGHBOUR} > {broadcast}")
    }
    gone(node)


def test_nothing_on_any_wire_was_wrong(bed: MobilityBed) -> None:
    assert bed.findings() == []
    for box in bed.boxes.values():
        assert not [line for line in box.log() if line.get("level") == "error"]

"""Mobile IP through NAR without negotiation (draft 004, section 2.6.3).

N is foreign agent and NAR server at once; the home agent outside and the node know nothing of NAR.
"""

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
from nar_bed import WAYS, NarBed, granted, nar_bed

from gateway.domain.mobility import Encapsulation
from gateway.lab.mobility.discovery import discover
from gateway.lab.mobility.mobile_node import BY_AGENT, CO_LOCATED, Answer, MobileNode
from gateway.lab.mobility.roles import table
from gateway.lab.mobility.wires import Wired, between
from gateway.lab.nar import plan, roles
from gateway.lab.nar.instrument import CONNECT, IP_IP, leasing, tuple_field
from gateway.lab.nar.topology import NarLab
from gateway.lab.processes import LabError, wait_until
from gateway.mip_agents.advertisement import AgentFlag
from gateway.mip_agents.codec.codes import ReplyCode

pytestmark = pytest.mark.kernel

NA, NB, Y, HA = plan.NA, plan.NB, plan.Y, plan.HOME_AGENT
XA = {"x1": plan.X1, "x2": plan.X2}
XB = {"x1": plan.XB, "x2": plan.XB2}
SHAPES = {Encapsulation.IP_IP: "ip/ip/icmp", Encapsulation.GRE: "ip/gre/ip/icmp"}


def agent_and_server(folder: object, *, offload: bool, **keys: Any) -> str:
    agent = {
        "care_of_address": str(NB),
        "interface": "inside",
        "nar_server": "soho",
        "advertisement_interval_s": 1,
        **keys,
    }
    return (
        roles.soho(folder, offload=offload)
        + table("mobility", state_dir=f"{folder}/state", offload=offload)
        + table("foreign_agents.hall", **agent)
    )


@pytest.fixture(scope="module")
def shared() -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(roles.home_agent, host="ha")
        bed.start(agent_and_server, offload=WAYS[0] == "kernel")
        yield bed


@pytest.fixture(scope="module", params=WAYS)
def _way(request: pytest.FixtureRequest, shared: NarBed) -> None:
    """Packets of mappings and of visitors take this way through N."""
    if request.param != WAYS[0]:
        shared.start(agent_and_server, offload=request.param == "kernel")


ways = pytest.mark.usefixtures("_way")


class Nodes:
    """Mobile nodes by host, which leave at the end of a test."""

    def __init__(self, lab: NarLab) -> None:
        self._lab = lab
        self.all: dict[str, MobileNode] = {}

    def __getitem__(self, host: str) -> MobileNode:
        if host not in self.all:
            association = roles.HOME_NODES[host][1]
            self.all[host] = MobileNode(
                self._lab,
                host,
                "mip",
                1,
                home_address=XB[host],
                home_agent=HA,
                association=association,
            )
        return self.all[host]

    def registers(self, host: str, **asked: Any) -> Answer:
        """From its own address, with ours as the co-located care-of address."""
        node = self[host]
        node.at(XA[host])
        return node.ask(node.request(NB, **asked), NA)

    def present(self, host: str, far_end: IPv4Address = NA, **asked: Any) -> Answer:
        """Registered, and its tunnel is set up with this far end."""
        answer = self.registers(host, **asked)
        assert answer.accepted, answer.code
        self[host].stack.through_tunnel(XA[host], far_end, answer.encapsulation)
        return answer


@pytest.fixture
def nodes(shared: NarBed) -> Iterator[Nodes]:
    nodes = Nodes(shared.lab)
    yield nodes
    for host, node in nodes.all.items():
        with contextlib.suppress(LabError):
            nodes.registers(host, lifetime_s=0)
        node.__exit__()


def ping(bed: NarBed, host: str, to: object, source: object = None, count: int = 2) -> bool:
    argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "1"]
    argv += ["-I", str(source)] if source else []
    return " 0% packet loss" in bed.lab.run(host, [*argv, str(to)], check=False).stdout


def outers(found: list[Wired]) -> set[str]:
    return {str(one.outer) for one in found}


def test_the_agent_forces_registrations(shared: NarBed) -> None:
    found = discover(shared.lab, "x1", "inside", XA["x1"])
    assert found.care_of_address == NB
    assert found.advertisement.flags & AgentFlag.REGISTRATION_REQUIRED


@ways
@pytest.mark.parametrize("encapsulation", SHAPES, ids=["ip-ip", "gre"])
def test_the_figure(shared: NarBed, nodes: Nodes, encapsulation: Encapsulation) -> None:
    """Yb->Nb becomes Na->Xa with the same packet in it; back, Xa->Na becomes Nb->Yb."""
    answer = nodes.present("x1", encapsulation=encapsulation)
    assert answer.reply.home_address == XB["x1"]
    (binding,) = shared.boxes["ha"].call("bindings")["items"]
    assert str(NB) in str(binding)
    inside, outside = shared.record("n", "inside"), shared.record("n", "outside")
    assert ping(shared, "y", XB["x1"])
    assert ping(shared, "x1", Y, XB["x1"])
    near, far = inside.stop(), outside.stop()
    for pcap, there, back in ((far, f"{HA} > {NB}", f"{NB} > {HA}"), (
        near, f"{NA} > {XA['x1']}", f"{XA['x1']} > {NA}")):  # fmt: skip
        to_node, from_node = between(pcap, Y, XB["x1"]), between(pcap, XB["x1"], Y)
        assert len(to_node) == len(from_node) == 4
        assert outers(to_node) == {there}
        assert outers(from_node) == {back}
        assert {one.shape for one in (*to_node, *from_node)} == {SHAPES[encapsulation]}
    inner = [[one.inner for one in between(pcap, Y, XB["x1"])] for pcap in (far, near)]
    assert [str(one) for one in inner[0]] == [str(one) for one in inner[1]]
    assert [one.octets for one in inner[0]] == [one.octets for one in inner[1]]
    assert shared.findings() == []


@ways
def test_the_reverse_tunnel_may_name_the_home_agent(shared: NarBed, nodes: Nodes) -> None:
    """Xa->Yb becomes Nb->Yb too; a node need not know that N delivers."""
    nodes.present("x1", far_end=HA)
    shared.lab.run("x1", ["ip", "link", "add", "mipin", "type", "ipip", "local", str(XA["x1"]),
                          "remote", str(NA)])  # fmt: skip
    shared.lab.run("x1", ["ip", "link", "set", "mipin", "up"])
    inside, outside = shared.record("n", "inside"), shared.record("n", "outside")
    assert ping(shared, "x1", Y, XB["x1"])
    shared.lab.run("x1", ["ip", "link", "delete", "mipin"])
    assert outers(between(inside.stop(), XB["x1"], Y)) == {f"{XA['x1']} > {HA}"}
    assert outers(between(outside.stop(), XB["x1"], Y)) == {f"{NB} > {HA}"}


@ways
def test_two_nodes_and_an_ordinary_visitor(shared: NarBed, nodes: Nodes) -> None:
    """All of them share Nb: tunnels are told apart by home address."""
    nodes.present("x1")
    visitor = nodes["x2"]
    visitor.stack.ip(f"address replace {XB['x2']}/32 dev {visitor.stack.home_device}")
    answer, agent = visitor.by_agent("inside", flags=BY_AGENT)
    assert answer.accepted
    assert agent.care_of_address == NB
    inside = shared.record("n", "inside")
    for host in ("x1", "x2"):
        assert ping(shared, "y", XB[host])
        assert ping(shared, host, Y, XB[host])
    near = inside.stop()
    assert outers(between(near, Y, XB["x1"])) == {f"{NA} > {XA['x1']}"}
    assert {one.shape for one in between(near, Y, XB["x2"])} == {"ip/icmp"}
    # The visitor takes its own address to use, and both go on beside each other.
    nodes.present("x2")
    assert ping(shared, "y", XB["x2"])
    assert ping(shared, "y", XB["x1"])
    assert len(shared.n.call("visitors")["items"]) == 2


def test_beside_leases_of_nar_clients(shared: NarBed, nodes: Nodes) -> None:
    nodes.present("x1")
    client, _ = leasing(shared.lab, "x2", HA)
    assert client.ask(CONNECT, Y, 80).reply == 0
    other = IPv4Address("192.0.2.109")
    assert client.tunnel(other, IP_IP)[0] == 0
    assert ping(shared, "y", XB["x1"])
    client.release()
    client.close()


def test_h74_h77_tunnels_that_a_visitor_has(shared: NarBed, nodes: Nodes) -> None:
    client, _ = leasing(shared.lab, "x2", HA)
    nodes.present("x1")
    assert client.tunnel(XB["x1"], IP_IP)[0] != 0
    assert nodes["x1"].by_agent("inside", flags=BY_AGENT)[0].accepted
    assert client.tunnel(XB["x1"], IP_IP)[0] != 0
    assert nodes.registers("x1", lifetime_s=0, flags=BY_AGENT).accepted
    assert granted(client.tunnel(XB["x1"], IP_IP)) == IP_IP
    client.release()
    client.close()


@pytest.mark.parametrize("flags", [CO_LOCATED, BY_AGENT])
def test_h74_h77_tunnels_that_a_nar_client_has(shared: NarBed, nodes: Nodes, flags: Any) -> None:
    client, _ = leasing(shared.lab, "x2", HA)
    assert client.tunnel(XB["x1"], IP_IP)[0] == 0

    def registers() -> Answer:
        if flags == BY_AGENT:
            return nodes["x1"].by_agent("inside", flags=flags)[0]
        return nodes.registers("x1", flags=flags)

    try:
        assert registers().code is ReplyCode.FA_PROHIBITED
    finally:
        assert client.release(tuple_field(IP_IP, int(XB["x1"]), HA))[0] == 0
        client.close()
    assert registers().accepted


def test_h73_after_it_left_nothing_is_delivered(shared: NarBed, nodes: Nodes) -> None:
    nodes.present("x1")
    assert ping(shared, "y", XB["x1"])
    assert nodes.registers("x1", lifetime_s=0).accepted
    wait_until(lambda: not shared.n.call("visitors")["items"], 5, "the end of the visit")
    inside = shared.record("n", "inside")
    outside = shared.record("n", "outside")
    assert not ping(shared, "y", XB["x1"])
    assert not ping(shared, "x1", Y, XB["x1"])
    assert not between(inside.stop(), Y, XB["x1"])
    assert f"{NB} > {HA}" not in outers(between(outside.stop(), XB["x1"], Y))


def test_h73_a_neighbour_has_no_part_in_it(shared: NarBed, nodes: Nodes) -> None:
    """Only the node that registered may send by its tuple."""
    nodes.present("x1")
    neighbour = MobileNode(
        shared.lab, "mallory", "mip", 1, home_address=XB["x1"], home_agent=HA,
        association=roles.ASSOCIATION_2,
    )  # fmt: skip
    with neighbour:
        neighbour.stack.through_tunnel(plan.MALLORY, NA, Encapsulation.IP_IP)
        outside = shared.record("n", "outside")
        assert not ping(shared, "mallory", Y, XB["x1"])
        assert not between(outside.stop(), XB["x1"], Y)
    assert ping(shared, "y", XB["x1"])


def test_a_restart_ends_visits_and_nodes_come_back(shared: NarBed, nodes: Nodes) -> None:
    nodes.present("x1")
    shared.restart()
    assert shared.n.call("visitors")["items"] == []
    nodes.present("x1")
    assert ping(shared, "y", XB["x1"])

"""Mobile IP through NAR without negotiation (draft 004, section 2.6.3).

N is foreign agent and NAR server at once; the home agent outside and the node know nothing of NAR.
"""

# planes: kernel portable

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from nar_bed import WAYS, NarBed, granted, nar_bed

from gateway.domain.mobility import Encapsulation
from gateway.lab.mobility.discovery import discover
from gateway.lab.mobility.mobile_node import BY_AGENT, CO_LOCATED, Answer, MobileNode
from gateway.lab.mobility.roles import table
from gateway.lab.mobility.user_tunnel import make_tunnel
from gateway.lab.mobility.wires import Wired
from gateway.lab.mobility.wires import between as all_between
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


def between(pcap: Path, source: object, to: object, shape: str = "") -> list[Wired]:
    found = all_between(pcap, source, to)
    return [one for one in found if shape in ("", one.shape)]


def outers(found: list[Wired]) -> set[str]:
    return {str(one.outer) for one in found}


def same(one: Wired) -> bytes:
    """What no box on the way may change: the packet in the tunnel."""
    return one.packet[-one.inner.octets :]


@ways
def test_the_figure(shared: NarBed, nodes: Nodes) -> None:
    """Yb->Nb becomes Na->Xa with the same packet in it; Xa->Na and Xa->Yb become Nb->Yb."""
    found = discover(shared.lab, "x1", "inside", XA["x1"])
    assert found.care_of_address == NB
    assert found.advertisement.flags & AgentFlag.REGISTRATION_REQUIRED
    inside, outside = shared.record("n", "inside"), shared.record("n", "outside")
    for encapsulation in SHAPES:
        nodes.present("x1", encapsulation=encapsulation)
        (binding,) = shared.boxes["ha"].call("bindings")["items"]
        assert str(NB) in str(binding)
        assert ping(shared, "y", XB["x1"])
        assert ping(shared, "x1", Y, XB["x1"])
    # A node need not know that N delivers: its tunnel may end at the home agent.
    nodes.present("x1", far_end=HA)
    end = make_tunnel(shared.lab, "x1", "mipin", (XA["x1"], NA))
    assert ping(shared, "x1", Y, XB["x1"])
    end()

    near, far = inside.stop(), outside.stop()
    for shape in SHAPES.values():
        sent, got = between(far, Y, XB["x1"], shape), between(near, Y, XB["x1"], shape)
        assert outers(sent) == {f"{HA} > {NB}"}
        assert outers(got) == {f"{NA} > {XA['x1']}"}
        assert [same(one) for one in got] == [same(one) for one in sent]
        sent, got = between(near, XB["x1"], Y, shape), between(far, XB["x1"], Y, shape)
        ends = {NA, HA} if shape == SHAPES[Encapsulation.IP_IP] else {NA}
        assert outers(sent) == {f"{XA['x1']} > {end}" for end in ends}
        assert outers(got) == {f"{NB} > {HA}"}
        assert [same(one) for one in got] == [same(one) for one in sent]
    assert shared.findings() == []


def test_two_nodes_and_an_ordinary_visitor(shared: NarBed, nodes: Nodes) -> None:
    """All of them share Nb with clients that lease: tunnels are told apart by home address."""
    client, _ = leasing(shared.lab, "legacy", HA)
    assert client.ask(CONNECT, Y, 80).reply == 0
    assert client.tunnel(IPv4Address("192.0.2.109"), IP_IP)[0] == 0
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


def test_h73_only_the_node_and_only_while_it_is_registered(shared: NarBed, nodes: Nodes) -> None:
    nodes.present("x1")
    assert ping(shared, "y", XB["x1"])
    inside, outside = shared.record("n", "inside"), shared.record("n", "outside")
    neighbour = MobileNode(
        shared.lab, "mallory", "mip", 1, home_address=XB["x1"], home_agent=HA,
        association=roles.ASSOCIATION_2,
    )  # fmt: skip
    with neighbour:
        neighbour.stack.through_tunnel(plan.MALLORY, NA, Encapsulation.IP_IP)
        assert not ping(shared, "mallory", Y, XB["x1"], count=1)
    assert nodes.registers("x1", lifetime_s=0).accepted
    wait_until(lambda: not shared.n.call("visitors")["items"], 5, "the end of the visit")
    assert not ping(shared, "y", XB["x1"], count=1)
    assert not ping(shared, "x1", Y, XB["x1"], count=1)
    assert not between(inside.stop(), Y, XB["x1"])
    assert f"{NB} > {HA}" not in outers(between(outside.stop(), XB["x1"], Y))


@pytest.mark.parametrize("kill", [False, True], ids=["stop", "kill"])
def test_a_restart_keeps_visits(shared: NarBed, nodes: Nodes, kill: bool) -> None:
    nodes.present("x1")
    assert ping(shared, "y", XB["x1"])
    shared.restart(kill=kill)
    (visit,) = shared.n.call("visitors")["items"]
    assert visit["home_address"] == str(XB["x1"])
    assert ping(shared, "y", XB["x1"])
    nodes.present("x1")
    assert ping(shared, "y", XB["x1"])

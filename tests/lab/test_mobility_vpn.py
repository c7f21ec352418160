"""The foreign agent inside the VPN gateway (draft 001, appendix B), and the firewall beside it."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from mobility_bed import GATEWAY, I_HA, I_HOA, SERVER, WAYS, MobilityBed, mobility_bed

from gateway.domain.checksum import internet_checksum
from gateway.lab import inject
from gateway.lab.appliance import Appliance
from gateway.lab.kernel import has_esp
from gateway.lab.mobility import plan
from gateway.lab.mobility.mobile_node import BY_AGENT, MobileNode
from gateway.lab.mobility.wires import between, max_segment_sizes, shapes, wired
from gateway.lab.processes import wait_until
from gateway.mip_agents.codec.registration import RequestFlag

pytestmark = pytest.mark.kernel

HERE = plan.ACCESSES["access1"]
CARE_OF = plan.VPN_CARE_OF_ADDRESS
I_HOA_2 = plan.INSIDE_HOME_ADDRESS_2
OUTSIDE, CORE = ("gw", "outside"), ("gw", "core")
VPN_DEVICE = "gw0"


@pytest.fixture(scope="module", params=WAYS)
def shared(request: pytest.FixtureRequest) -> Iterator[MobilityBed]:
    with mobility_bed(offload=request.param == "kernel", access="access1") as bed:
        bed.inside_home_agent()
        bed.vpn()
        yield bed


@pytest.fixture
def bed(shared: MobilityBed) -> Iterator[MobilityBed]:
    shared.lab.move("access1")
    yield shared
    for swan in list(shared.swans):
        shared.end_strongswan(swan)
    shared.drop_nodes()
    for host in ("device", "device2"):
        if host in shared.boxes:
            shared.end(host)
    wait_until(lambda: not shared.boxes["gw"].call("ike-sas")["items"], 15, "no SA is left")


@pytest.fixture
def device(bed: MobilityBed) -> Appliance:
    """The device's own IKE, its SA with VPN/FA up."""
    return connected(bed)


@pytest.fixture
def node(bed: MobilityBed, device: Appliance) -> MobileNode:
    return bed.nodes[-1]


def connected(bed: MobilityBed, host: str = "device") -> Appliance:
    bed.node("i", host, default_route=False)
    return bed.initiator(HERE.device.ip if host == "device" else plan.DEVICE_2, host=host)


def registered(node: MobileNode, **asked: object) -> MobileNode:
    answer = node.by_vpn(CARE_OF, VPN_DEVICE, **asked)
    assert answer.accepted
    assert answer.authentic
    return node


def gone(node: MobileNode) -> None:
    assert node.by_vpn(CARE_OF, VPN_DEVICE, lifetime_s=0).accepted


def test_the_advertisement_came_by_ike(bed: MobilityBed, device: Appliance) -> None:
    (child,) = device.call("child-sas")["items"]
    assert child["vpn_fa"]
    assert child["local_ts"] == [f"{I_HOA}/32"]
    (child,) = bed.boxes["gw"].call("child-sas")["items"]
    assert child["vpn_fa"]


def test_packets_are_reverse_tunnelled_and_come_back(bed: MobilityBed, node: MobileNode) -> None:
    outside, core = bed.record(*OUTSIDE), bed.record(*CORE)
    registered(node)
    assert bed.ping("device", SERVER, source=I_HOA)
    assert bed.ping("server", I_HOA)
    assert set(shapes(outside.stop())) <= {"ip/esp"}
    pcap = core.stop()
    up = [one for one in between(pcap, I_HOA, SERVER) if len(one.layers) == 2]
    down = [one for one in between(pcap, SERVER, I_HOA) if len(one.layers) == 2]
    assert {str(one.outer) for one in up} == {f"{CARE_OF} > {I_HA}"}
    assert {str(one.outer) for one in down} == {f"{I_HA} > {CARE_OF}"}
    assert len(up) == len(down) == 6
    assert {one.overhead_octets for one in (*up, *down)} == {20}
    # What the home agent took out of the tunnel comes by again as it is, and nothing else.
    assert len(between(pcap, I_HOA, SERVER)) == 12


def test_without_a_binding_only_registrations_pass(bed: MobilityBed, node: MobileNode) -> None:
    gone(node)  # what an earlier test left
    core = bed.record(*CORE)
    inside = bed.record("gw", "inside")
    assert not bed.ping("device", SERVER, source=I_HOA, count=2)
    assert not bed.ping("device", CARE_OF, source=I_HOA, count=1)
    assert not wired(core.stop())
    assert not between(inside.stop(), I_HOA, SERVER)
    registered(node)
    assert bed.ping("device", SERVER, source=I_HOA)


def test_two_devices_talk_only_by_way_of_the_home_agent(bed: MobilityBed, node: MobileNode) -> None:
    registered(node)
    connected(bed, "device2")
    registered(bed.nodes[-1])
    core = bed.record(*CORE)
    assert bed.ping("device", I_HOA_2, source=I_HOA)
    seen = between(core.stop(), I_HOA, I_HOA_2)
    outer = [str(one.outer) for one in seen]
    assert outer == [f"{CARE_OF} > {I_HA}", f"{I_HA} > {CARE_OF}"] * 3


def test_packets_for_a_device_whose_sa_is_gone_are_dropped(
    bed: MobilityBed, node: MobileNode
) -> None:
    registered(node)
    assert bed.ping("server", I_HOA)
    bed.end("device")
    wait_until(lambda: not bed.boxes["gw"].call("child-sas")["items"], 10, "the SA's end")
    outside, core = bed.record(*OUTSIDE), bed.record(*CORE)
    assert not bed.ping("server", I_HOA, count=3)
    assert not [one for one in wired(outside.stop()) if "icmp" in one.shape or "esp" in one.shape]
    seen = between(core.stop(), SERVER, I_HOA)
    # The home agent still tunnels; what it tunnels goes nowhere from here.
    assert len([one for one in seen if len(one.layers) == 2]) == 3
    assert len(seen) == 6
    # With a new SA of the same device and a registration it is back.
    bed.initiator(HERE.device.ip)
    registered(node)
    assert bed.ping("server", I_HOA)


def test_from_the_home_agent_only(bed: MobilityBed, node: MobileNode) -> None:
    """B.5: source = home agent, destination = VPN-CoA, inner destination = an active binding."""
    registered(node)
    outside = bed.record("device", VPN_DEVICE)
    core = bed.record(*CORE)
    assert bed.ping("server", I_HOA, count=1)
    good = next(one for one in between(core.stop(), SERVER, I_HOA) if len(one.layers) == 2)
    inject.send(bed.lab, "core", fixed(inject.with_source(good.packet, plan.NEIGHBOUR)))
    inner = good.packet[20:]
    other = good.packet[:20] + fixed(inner[:16] + I_HOA_2.packed + inner[20:])
    inject.send(bed.lab, "core", other)
    inject.send(bed.lab, "core", good.packet)  # a replayed packet of the home agent is one
    wait_until(lambda: len(between(outside.path, SERVER, I_HOA)) >= 2, 10, "the good one")
    assert bed.ping("server", I_HOA, count=1)
    seen = wired(outside.stop())
    assert len([one for one in seen if str(one.inner) == f"{SERVER} > {I_HOA}"]) == 3
    assert not [one for one in seen if one.inner.destination == I_HOA_2]


def fixed(packet: bytes) -> bytes:
    head = packet[:10] + bytes(2) + packet[12:20]
    return head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:] + packet[20:]


def test_back_inside_nothing_needs_to_be_torn_down(bed: MobilityBed, node: MobileNode) -> None:
    """B.8: the SA and the visitor stay; packets follow the home agent's binding."""
    registered(node)
    assert bed.ping("device", SERVER, source=I_HOA)
    plain = plan.ACCESSES["plain"]
    bed.lab.attach("plain")
    assert node.co_located(plain).accepted
    core, way = bed.record(*CORE), bed.record("core", "plain")
    assert bed.ping("device", SERVER, source=I_HOA)
    assert bed.ping("server", I_HOA)
    assert not [one for one in wired(core.stop()) if one.outer.destination == CARE_OF]
    assert len(between(way.stop(), SERVER, I_HOA)) == 6
    assert bed.boxes["gw"].call("child-sas")["items"]
    # And outside again, with the SA that is still there.
    bed.lab.move("access1")
    registered(node)
    assert bed.ping("device", SERVER, source=I_HOA)


def test_large_packets_and_segments(bed: MobilityBed, node: MobileNode) -> None:
    registered(node)
    core, inside = bed.record(*CORE), bed.record("gw", "inside", "tcp")
    arriving = bed.record("device", VPN_DEVICE, "tcp")
    assert bed.ping("server", I_HOA, size=3000, count=2)
    assert bed.ping("device", SERVER, source=I_HOA, size=3000, count=2)
    bed.lab.run("device", ["ip", "route", "replace", "10.1.0.0/24", "dev", VPN_DEVICE, "src",
                           str(I_HOA)])  # fmt: skip
    with bed.download() as session:
        session.goes_on()
        session.end()
    tunnelled = [one for one in wired(core.stop()) if len(one.layers) == 2]
    assert not any(one.outer.fragment for one in tunnelled)
    assert max(one.inner.octets for one in tunnelled) <= 1400
    # Each side is told by the other what fits into the tunnel.
    assert dict(max_segment_sizes(inside.stop()))[f"{I_HOA} > {SERVER}"] == 1360
    assert dict(max_segment_sizes(arriving.stop()))[f"{SERVER} > {I_HOA}"] == 1360


def test_broadcasts_are_encapsulated_twice_and_need_nothing_special(
    bed: MobilityBed, node: MobileNode
) -> None:
    registered(node, flags=BY_AGENT | RequestFlag.BROADCASTS)
    core, inside = bed.record(*CORE), bed.record("device", VPN_DEVICE)
    broadcast = plan.HOME_NETWORK.broadcast_address
    argv = ["ping", "-b", "-c", "2", "-i", "0.3", "-W", "1", str(broadcast)]
    bed.lab.run("neighbour", argv, check=False)
    assert bed.ping("server", I_HOA, count=1)
    assert [one.shape for one in between(core.stop(), plan.NEIGHBOUR, broadcast)] == [
        "ip/ip/ip/icmp"
    ] * 2
    seen = between(inside.stop(), plan.NEIGHBOUR, broadcast)
    assert [one.shape for one in seen] == ["ip/ip/icmp"] * 2
    assert {str(one.outer) for one in seen} == {f"{I_HA} > {I_HOA}"}


# -- firewalling (draft 001, sections 4.1 and 6.3) ---------------------------------------------


def test_h68_registrations_from_outside_do_not_reach_the_inside_home_agent(
    bed: MobilityBed,
) -> None:
    node = bed.node("i", default_route=False)
    bed.lab.run("internet", ["ip", "route", "replace", str(plan.HOME_NETWORK), "via", str(GATEWAY)])
    core = bed.record(*CORE)
    before = bed.boxes["iha"].events("registered")
    for source in (HERE.device.ip, plan.PLAIN_NETWORK[50]):
        bed.lab.run("device", ["ip", "address", "replace", f"{source}/32", "dev", "lo"])
        node.at(source)
        assert node.no_answer(node.request(source), I_HA)
        bed.lab.run("device", ["ip", "address", "delete", f"{source}/32", "dev", "lo"])
    assert not wired(core.stop())
    assert bed.boxes["iha"].events("registered") == before
    bed.lab.run("internet", ["ip", "route", "delete", str(plan.HOME_NETWORK)])


FIREWALL = """
table inet site {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        iifname "gw0" accept
        oifname "gw0" accept
        iifname { "core", "inside" } oifname { "core", "inside" } accept
    }
}
"""


def test_a_session_that_the_firewall_never_saw_begin_goes_on(bed: MobilityBed) -> None:
    """Section 6.3: opened inside, away from the gateway, then carried by it."""
    bed.lab.nft("gw", FIREWALL)
    bed.lab.run("gw", ["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0"])
    bed.serve("neighbour", plan.NEIGHBOUR)
    bed.lab.move("home")
    node = bed.node("i", default_route=False)
    assert node.at_home(bed.lab.accesses["home"])
    try:
        with bed.download(server=plan.NEIGHBOUR) as session:
            session.goes_on()
            bed.lab.attach("access1")  # the new way is there before the old one goes
            node.stack.use_care_of(HERE)
            bed.initiator(HERE.device.ip)
            registered(node)
            bed.lab.move("access1")
            session.goes_on()
            session.end()
    finally:
        bed.lab.run("gw", ["nft", "delete", "table", "inet", "site"])


def test_an_unmodified_client_registers_its_inner_address(bed: MobilityBed) -> None:
    """Mode vc: VPN-TIA as co-located care-of address; two headers inside ESP."""
    swan = bed.strongswan()
    (inner,) = swan.established()[0].virtual_ips
    tia = IPv4Address(inner)
    node = bed.node("i", default_route=False)
    core, outside = bed.record(*CORE), bed.record(*OUTSIDE)
    assert node.co_located(HERE, care_of=tia).accepted
    assert bed.ping("device", SERVER, source=I_HOA)
    assert bed.ping("server", I_HOA)
    seen = [one for one in between(core.stop(), I_HOA, SERVER) if len(one.layers) == 2]
    assert {str(one.outer) for one in seen} == {f"{tia} > {I_HA}"}
    # The client may look for changes; its user-space IPsec knows ESP in UDP only.
    assert set(shapes(outside.stop())) <= {"ip/esp" if has_esp() else "ip/esp-in-udp", "ip/udp"}
    assert node.ask(node.request(tia, lifetime_s=0), I_HA).accepted
    bed.end_strongswan(swan)


def test_nothing_on_any_wire_was_wrong(bed: MobilityBed) -> None:
    assert bed.findings() == []
    for host in ("iha", "gw"):
        assert not [line for line in bed.boxes[host].log() if line.get("level") == "error"]

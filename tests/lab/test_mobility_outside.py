"""The x-HA: co-located and foreign agent care-of addresses, NATs, zero overhead (appendix D)."""

from collections.abc import Iterator

import pytest
from mobility_bed import GATEWAY, WAYS, X_HA, X_HOA, MobilityBed, mobility_bed

from gateway.lab.mobility import plan
from gateway.lab.mobility.mobile_node import CO_LOCATED, MobileNode
from gateway.lab.mobility.wires import between, shapes, wired
from gateway.lab.processes import wait_until
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import UdpTunnelRequest
from gateway.mip_agents.codec.registration import RequestFlag

pytestmark = pytest.mark.kernel

HERE, THERE, BEHIND_NAT = (plan.ACCESSES[name] for name in ("access1", "access2", "nat"))
NEAR, FAR = ("internet", "access1"), ("internet", "dmz")


@pytest.fixture(scope="module", params=WAYS)
def shared(request: pytest.FixtureRequest) -> Iterator[MobilityBed]:
    with mobility_bed(offload=request.param == "kernel", access="access1") as bed:
        bed.outside_home_agent()
        bed.foreign_agent("xfa")
        yield bed


@pytest.fixture
def bed(shared: MobilityBed) -> Iterator[MobilityBed]:
    shared.lab.move("access1")
    yield shared
    shared.drop_nodes()


@pytest.fixture
def node(bed: MobilityBed) -> MobileNode:
    return bed.node("x")


def reaches(bed: MobilityBed, count: int = 3, **options: object) -> bool:
    return bed.ping("device", GATEWAY, source=X_HOA, count=count, **options)  # type: ignore[arg-type]


def test_the_home_address_follows_the_device(bed: MobilityBed, node: MobileNode) -> None:
    for access in (HERE, THERE, HERE):
        bed.lab.move(access.name)
        capture = bed.record("internet", access.name)
        assert node.co_located(access).accepted
        assert reaches(bed)
        pcap = capture.stop()
        seen = between(pcap, X_HOA, GATEWAY) + between(pcap, GATEWAY, X_HOA)
        assert {one.shape for one in seen} == {"ip/ip/icmp"}
        assert {one.overhead_octets for one in seen} == {20}
        assert access.device.ip in {one.outer.source for one in seen}


def test_by_a_foreign_agent_outside(bed: MobilityBed, node: MobileNode) -> None:
    bed.lab.enter_link("xfalink")
    link, upstream = bed.record("xfa", "visited"), bed.record("internet", "xfa")
    answer, agent = node.by_agent("xfalink")
    assert answer.accepted
    assert agent.care_of_address == plan.OUTSIDE_FOREIGN_AGENT
    assert reaches(bed)
    assert {one.shape for one in between(link.stop(), X_HOA, GATEWAY)} == {"ip/icmp"}
    assert {one.shape for one in between(upstream.stop(), X_HOA, GATEWAY)} == {"ip/ip/icmp"}


def test_a_nat_between_is_noticed_and_crossed(bed: MobilityBed, node: MobileNode) -> None:
    bed.lab.move("nat")
    capture = bed.record("internet", "nat")
    answer = node.co_located(BEHIND_NAT, udp=UdpTunnelRequest())
    assert answer.accepted
    assert answer.in_udp
    assert reaches(bed)
    public, _ = bed.lab.nat_mapping()
    seen = between(capture.stop(), GATEWAY, X_HOA)
    assert {one.shape for one in seen} == {"ip/tunnel/ip/icmp"}
    assert {str(one.outer) for one in seen} == {f"{X_HA} > {public}"}
    assert {one.overhead_octets for one in seen} == {32}  # 001 section 6.2: 12 more than IP-in-IP


def test_h63_a_nat_that_forgets_is_followed(bed: MobilityBed, node: MobileNode) -> None:
    """By the next registration; the old mapping is served no longer."""
    bed.lab.move("nat")
    assert node.co_located(BEHIND_NAT, udp=UdpTunnelRequest()).accepted
    assert reaches(bed)
    bed.lab.remap_nat()
    request = node.request(BEHIND_NAT.device.ip, udp=UdpTunnelRequest())
    assert node.ask(request, X_HA).accepted
    assert reaches(bed)


def test_a_nat_without_udp_tunnelling_is_refused(bed: MobilityBed, node: MobileNode) -> None:
    """A reply that says so, not a binding that cannot work."""
    bed.lab.move("nat")
    answer = node.co_located(BEHIND_NAT, use=False)
    assert answer.code == ReplyCode.HA_PROHIBITED
    assert not answer.in_udp


# -- zero overhead -----------------------------------------------------------------------------


def switched(node: MobileNode, access: object = HERE) -> MobileNode:
    answer = node.co_located(access, zero_overhead=GATEWAY)  # type: ignore[arg-type]
    assert answer.accepted
    assert answer.zero_overhead == GATEWAY
    return node


def test_zero_overhead_as_in_the_figure(bed: MobilityBed, node: MobileNode) -> None:
    """IP(CoA, x-HA) on one side, IP(x-HoA, VPN) on the other, both ways, without a header more."""
    near, far = bed.record(*NEAR), bed.record(*FAR)
    switched(node)
    assert reaches(bed)
    assert bed.ping("gw", X_HOA)
    near_side = [one for one in wired(near.stop()) if one.shape.endswith("icmp")]
    far_side = [one for one in wired(far.stop()) if one.shape.endswith("icmp")]
    assert {one.shape for one in (*near_side, *far_side)} == {"ip/icmp"}
    assert {str(one.outer) for one in near_side} == {
        f"{HERE.device.ip} > {X_HA}",
        f"{X_HA} > {HERE.device.ip}",
    }
    assert {str(one.outer) for one in far_side} == {f"{X_HOA} > {GATEWAY}", f"{GATEWAY} > {X_HOA}"}
    assert len(near_side) == len(far_side) == 12


def test_others_than_the_default_destination_take_the_tunnel(
    bed: MobilityBed, node: MobileNode
) -> None:
    switched(node)
    near = bed.record(*NEAR)
    assert bed.ping("device", plan.DEVICE_2, source=X_HOA)
    assert bed.ping("device2", X_HOA)
    seen = shapes(near.stop())
    assert seen["ip/ip/icmp"] == 12
    assert not seen["ip/icmp"]


def test_fragments_take_the_tunnel(bed: MobilityBed, node: MobileNode) -> None:
    switched(node)
    near = bed.record(*NEAR)
    assert reaches(bed, count=2, size=2500)
    assert bed.ping("gw", X_HOA, count=2, size=2500)
    seen = shapes(near.stop())
    assert seen["ip/ip/fragment"] >= 8
    assert not seen["ip/fragment"]
    assert not seen["ip/icmp"]


def test_registrations_are_never_switched(bed: MobilityBed, node: MobileNode) -> None:
    switched(node)
    near = bed.record(*NEAR)
    request = node.request(HERE.device.ip, zero_overhead=GATEWAY)
    assert node.ask(request, X_HA).accepted
    seen = [one for one in wired(near.stop()) if one.shape == "ip/mip"]
    assert {str(one.outer) for one in seen} == {
        f"{HERE.device.ip} > {X_HA}",
        f"{X_HA} > {HERE.device.ip}",
    }
    assert reaches(bed)


def test_moving_with_zero_overhead(bed: MobilityBed, node: MobileNode) -> None:
    switched(node)
    assert reaches(bed)
    bed.lab.move("access2")
    switched(node, THERE)
    near = bed.record("internet", "access2")
    assert reaches(bed)
    assert shapes(near.stop()) == {"ip/icmp": 6}


def test_behind_a_nat_it_is_not_granted(bed: MobilityBed, node: MobileNode) -> None:
    bed.lab.move("nat")
    answer = node.co_located(BEHIND_NAT, udp=UdpTunnelRequest(), zero_overhead=GATEWAY)
    assert answer.accepted
    assert answer.in_udp
    assert answer.zero_overhead is None
    assert reaches(bed)


def test_without_a_reverse_tunnel_or_with_several_places_it_is_not_granted(
    bed: MobilityBed, node: MobileNode
) -> None:
    for flags in (RequestFlag.CO_LOCATED, CO_LOCATED | RequestFlag.SIMULTANEOUS):
        request = node.request(HERE.device.ip, flags=flags, zero_overhead=GATEWAY)
        node.at(HERE.device.ip)
        answer = node.ask(request, X_HA)
        if flags & RequestFlag.SIMULTANEOUS and answer.zero_overhead is not None:
            continue  # a single place still, as long as it is the only one
        assert answer.zero_overhead is None


@pytest.fixture
def narrow(bed: MobilityBed) -> Iterator[None]:
    """The way between the device's network and the rest takes only 1200 octets."""
    ends = (("internet", "access1"), ("access1", "uplink"))
    for host, interface in ends:
        bed.lab.run(host, ["ip", "link", "set", interface, "mtu", "1200"])
    yield
    for host, interface in ends:
        bed.lab.run(host, ["ip", "link", "set", interface, "mtu", "1500"])
    for host in ("device", "gw"):
        bed.lab.run(host, ["ip", "route", "flush", "cache"])


def test_icmp_errors_come_back_in_the_sender_s_words(
    bed: MobilityBed, node: MobileNode, narrow: None
) -> None:
    """A router near the device minds IP(x-HA, CoA); the VPN gateway hears of IP(VPN, x-HoA)."""
    switched(node)
    far = bed.record(*FAR, "icmp")
    assert not bed.ping("gw", X_HOA, count=1, size=1300, df=True)
    errors = [one for one in wired(far.stop()) if one.packet[20:22] == b"\x03\x04"]
    assert errors
    for one in errors:
        quoted = one.packet[28:]
        assert one.outer.destination == GATEWAY
        assert quoted[12:16] == GATEWAY.packed
        assert quoted[16:20] == X_HOA.packed
        assert int.from_bytes(one.packet[26:28], "big") == 1200
    # The kernel of the gateway believes it: it knows the size from now on.
    found = bed.lab.run("gw", ["ip", "route", "get", str(X_HOA)]).stdout
    assert "mtu 1200" in found
    assert bed.ping("gw", X_HOA, count=1, size=1100, df=True)


def test_a_restart_keeps_the_address_switch(bed: MobilityBed, node: MobileNode) -> None:
    switched(node)
    bed.restart("xha", kill=True)
    wait_until(lambda: reaches(bed, count=1), 20, "the binding of the last run")
    near = bed.record(*NEAR)
    assert reaches(bed)
    assert shapes(near.stop()) == {"ip/icmp": 6}


def test_nothing_on_any_wire_was_wrong(bed: MobilityBed) -> None:
    assert bed.findings() == []
    for box in bed.boxes.values():
        assert not [line for line in box.log() if line.get("level") == "error"]

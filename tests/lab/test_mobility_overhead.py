"""Octets that a packet costs on the device's own wire: the table of draft 001, section 6.2.

The table was computed for a cipher with 64-bit blocks and a check value of 12 octets; AES-GCM
comes to the same 57 at most: 20 for IP, 8 for ESP, 8 for the IV, 2 to 5 at the end, 16 to check.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from mobility_bed import GATEWAY, I_HOA, SERVER, X_HOA, MobilityBed, mobility_bed

from gateway.lab.kernel import has_esp
from gateway.lab.mobility import plan
from gateway.lab.mobility.mobile_node import MobileNode
from gateway.lab.mobility.wires import wired
from gateway.mip_agents.codec.extensions import UdpTunnelRequest

pytestmark = pytest.mark.kernel

HERE, PLAIN, NAT = (plan.ACCESSES[name] for name in ("access1", "plain", "nat"))
SIZES = range(1000, 1008)
UDP_OCTETS = 8
"""Of the data in the echo requests: every remainder that padding can depend on."""
VPN_DEVICE = "gw0"


@pytest.fixture(scope="module")
def shared() -> Iterator[MobilityBed]:
    with mobility_bed(access="plain") as bed:
        bed.inside_home_agent()
        bed.foreign_agent("ifa")
        bed.vpn()
        bed.outside_home_agent()
        bed.foreign_agent("xfa")
        yield bed


@pytest.fixture
def bed(shared: MobilityBed) -> Iterator[MobilityBed]:
    yield shared
    for swan in list(shared.swans):
        shared.end_strongswan(swan)
    shared.drop_nodes()
    if "device" in shared.boxes:
        shared.end("device")


def overheads(bed: MobilityBed, wire: tuple[str, str]) -> set[int]:
    """Octets beyond the device's own packet, of echo requests of every size."""
    found = set()
    for size in SIZES:
        capture = bed.record(*wire)
        assert bed.ping("device", SERVER, source=I_HOA, size=size, count=1)
        mine = size + 28
        both = [one.outer.octets - mine for one in wired(capture.stop()) if one.outer.octets > 900]
        assert len(both) == 2
        found |= set(both)
    return found


def below(bed: MobilityBed, way: str) -> tuple[IPv4Address, tuple[str, str]]:
    """Register at the x-HA in this way; where IKE comes from, and the device's wire."""
    node = bed.node("x")
    if way == "f":
        bed.lab.enter_link("xfalink")
        assert node.by_agent("xfalink")[0].accepted
        return X_HOA, ("xfa", "visited")
    bed.lab.move("nat" if way == "n" else "access1")
    if way == "v":
        node.stack.use_care_of(HERE)
        return HERE.device.ip, ("access1", "device")
    if way == "n":
        assert node.co_located(NAT, udp=UdpTunnelRequest()).in_udp
        return X_HOA, ("nat", "device")
    answer = node.co_located(HERE, zero_overhead=GATEWAY if way == "z" else None)
    assert (answer.zero_overhead == GATEWAY) == (way == "z")
    return X_HOA, ("access1", "device")


def above(bed: MobilityBed, way: str, local: IPv4Address) -> MobileNode:
    node = bed.node("i", default_route=False)
    if way == "f":
        bed.initiator(local)
        assert node.by_vpn(plan.VPN_CARE_OF_ADDRESS, VPN_DEVICE).accepted
        return node
    swan = bed.strongswan(local, mobike=False)
    tia = IPv4Address(swan.established()[0].virtual_ips[0])
    node.at(tia)
    answer = node.ask(node.request(tia), node.home_agent)
    assert answer.accepted
    node.use(answer)
    return node


def test_inside_with_a_foreign_agent(bed: MobilityBed) -> None:
    bed.lab.enter_link("ifalink")
    assert bed.node("i").by_agent("ifalink")[0].accepted
    assert overheads(bed, ("ifa", "visited")) == {0}


def test_inside_with_a_co_located_address(bed: MobilityBed) -> None:
    bed.lab.move("plain")
    assert bed.node("i").co_located(PLAIN).accepted
    assert overheads(bed, ("core", "plain")) == {20}


@pytest.mark.parametrize(
    ("low", "high", "at_most"),
    [
        ("f", "c", 77),
        ("f", "f", 57),
        ("c", "c", 97),
        ("c", "f", 77),
        ("z", "c", 77),
        ("z", "f", 57),
        ("v", "f", 57),
        ("v", "c", 77),
        ("n", "f", 77 + 12),
    ],
    ids=["fvc", "fvf", "cvc", "cvf", "cvc-zot", "cvf-zot", "vf", "vc", "cvf-nat"],
)
def test_outside(bed: MobilityBed, low: str, high: str, at_most: int) -> None:
    local, wire = below(bed, low)
    above(bed, high, local)
    if high == "c" and not has_esp():
        # strongSwan's user-space IPsec knows ESP in UDP only.
        at_most += UDP_OCTETS
    found = overheads(bed, wire)
    assert max(found) == at_most
    assert min(found) == at_most - 3  # the rest is padding


def test_nothing_on_any_wire_was_wrong(bed: MobilityBed) -> None:
    assert bed.findings() == []

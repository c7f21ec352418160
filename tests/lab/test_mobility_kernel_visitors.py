"""The foreign agent's kernel path: the host's link is visited, the node's namespace the home."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from dataplane_bed import entered, inside
from mobility_kernel_bed import (
    AGENT,
    CARE_OF,
    ETH_P_ARP,
    GATEWAY,
    HOME,
    HOST,
    NAT_PORT,
    NODE,
    ROUTER,
    MobilityBed,
    Packet,
    binding,
    mobility_bed,
)

from gateway.domain.mobility import Encapsulation, Tunnel, Visitor

pytestmark = pytest.mark.kernel

HOME_AGENT = CARE_OF
"""Here the node's namespace is the home agent, and the gateway's address the care-of address."""
OURS = AGENT
CORRESPONDENT = IPv4Address("172.16.0.1")


def link_address(name: str, interface: str) -> bytes:
    with entered(name):
        words = inside(name, "ip", "-o", "link", "show", interface).split()
    return bytes.fromhex(words[words.index("link/ether") + 1].replace(":", ""))


def visitor(**changes: Any) -> Visitor:
    fields: dict[str, Any] = {
        "home_address": HOME,
        "home_agent": HOME_AGENT,
        "tunnel": Tunnel(OURS, HOME_AGENT),
        "interface": "h1",
        "link_address": link_address(HOST, "c0"),
        "max_packet_octets": 1300,
    }
    return Visitor(**{**fields, **changes})


@pytest.fixture
def bed() -> Iterator[MobilityBed]:
    """The host moves to its home address; the correspondent lives at the home agent."""
    with mobility_bed() as bed:
        inside(HOST, "ip", "address", "add", f"{HOME}/32", "dev", "c0")
        inside(HOST, "ip", "route", "replace", "default", "via", "10.1.0.1", "src", HOME)
        inside(NODE, "ip", "address", "add", f"{CORRESPONDENT}/32", "dev", "lo")
        yield bed


def start(bed: MobilityBed, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "home_agents": (),
        "home_networks": (),
        "care_of_addresses": (OURS,),
        "visited_interfaces": ("h1",),
    }
    bed.start(**{**fields, **changes})


def home_agent(bed: MobilityBed, tunnel: Tunnel) -> None:
    bed.node_tunnel(
        tunnel.encapsulation, home=CORRESPONDENT, udp=bool(tunnel.udp_port), checksum=False
    )
    inside(NODE, "ip", "route", "replace", HOME, "dev", "t0", "src", CORRESPONDENT)


TUNNELS = pytest.mark.parametrize(
    "tunnel",
    [
        Tunnel(OURS, HOME_AGENT),
        Tunnel(OURS, HOME_AGENT, Encapsulation.GRE),
        Tunnel(OURS, HOME_AGENT, udp_port=NAT_PORT),
    ],
    ids=["ip-ip", "gre", "udp"],
)


@TUNNELS
def test_direct_delivery_both_ways(bed: MobilityBed, tunnel: Tunnel) -> None:
    start(bed)
    home_agent(bed, tunnel)
    bed.commit(visitors=(visitor(tunnel=tunnel),))
    wire, link = bed.capture(ROUTER, "r1"), bed.capture(HOST, "c0")
    asked = bed.capture(HOST, "c0", ETH_P_ARP)
    assert bed.reaches(NODE, CORRESPONDENT, HOME)
    assert bed.reaches(HOST, HOME, CORRESPONDENT)
    outer = wire.wait(lambda p: p.source == OURS and p.destination == HOME_AGENT)
    inner = Packet(outer.inner[{4: 0, 47: 4, 17: 12}[outer.protocol] :])
    assert (inner.source, inner.destination) == (HOME, CORRESPONDENT)
    assert outer.ttl == 64
    assert not outer.dont_fragment
    assert inner.transport_is_right
    delivered = link.wait(lambda p: p.destination == HOME)
    assert delivered.source == CORRESPONDENT
    # Its link-layer address is known from the registration (RFC 5944 section 4.6 forbids ARP).
    requests = [frame for frame in asked.read() if frame[6:8] == b"\0\1"]
    assert not [frame for frame in requests if frame[24:28] == HOME.packed]
    counted = bed.counters()
    assert min(counted[n] for n in ("to_visitor", "from_visitor", "to_home_agent")) >= 1


@TUNNELS
def test_long_packets_of_a_visitor_are_fragmented_first(bed: MobilityBed, tunnel: Tunnel) -> None:
    start(bed)
    home_agent(bed, tunnel)
    bed.commit(visitors=(visitor(tunnel=tunnel),))
    wire = bed.capture(ROUTER, "r1")
    assert bed.reaches(HOST, HOME, CORRESPONDENT, "-s", 1372, "-M", "dont")
    sent = [p for p in wire.packets() if p.source == OURS and p.destination == HOME_AGENT]
    assert len(sent) == 2
    assert not any(p.is_fragment for p in sent)
    answer = bed.ping(HOST, HOME, CORRESPONDENT, "-s", 1372, "-M", "do")
    assert "1300" in answer


def test_without_a_visitor_nothing_is_delivered(bed: MobilityBed) -> None:
    start(bed)
    home_agent(bed, Tunnel(OURS, HOME_AGENT))
    assert not bed.reaches(NODE, CORRESPONDENT, HOME)
    bed.commit(visitors=(visitor(),))
    assert bed.reaches(NODE, CORRESPONDENT, HOME)
    assert bed.mobility is not None
    bed.mobility.remove_visitor(HOME_AGENT, HOME)
    assert bed.mobility.commit() == []
    link = bed.capture(HOST, "c0")
    assert not bed.reaches(NODE, CORRESPONDENT, HOME)
    assert not [p for p in link.packets() if p.destination == HOME]
    assert str(HOME) not in inside(GATEWAY, "ip", "neigh", "show", "dev", "h1")


def test_another_station_on_the_link_is_not_the_visitor(bed: MobilityBed) -> None:
    start(bed)
    home_agent(bed, Tunnel(OURS, HOME_AGENT))
    bed.commit(visitors=(visitor(link_address=bytes.fromhex("020000000001")),))
    wire = bed.capture(ROUTER, "r1")
    assert not bed.reaches(HOST, HOME, CORRESPONDENT)
    assert not [p for p in wire.packets() if p.protocol == 4]


def test_encapsulating_delivery(bed: MobilityBed) -> None:
    """RFC 3024 section 5.2: what it encapsulates is tunnelled on, the rest is routed."""
    start(bed)
    home_agent(bed, Tunnel(OURS, HOME_AGENT))
    bed.commit(visitors=(visitor(encapsulating=True),))
    wire = bed.capture(ROUTER, "r1")
    assert not bed.reaches(HOST, HOME, CORRESPONDENT)
    assert wire.wait(lambda p: p.source == HOME and p.destination == CORRESPONDENT)
    bed.tunnel(HOST, HOME, OURS)
    inside(HOST, *f"ip route add {OURS} via 10.1.0.1".split())
    inside(HOST, *f"ip route add {CORRESPONDENT} dev t0 src {HOME}".split())
    assert bed.reaches(HOST, HOME, CORRESPONDENT)
    outer = wire.wait(lambda p: p.protocol == 4 and p.source == OURS)
    assert Packet(outer.inner).source == HOME
    bed.commit(visitors=(visitor(encapsulating=True, link_address=b"\2\0\0\0\0\1"),))
    assert not bed.reaches(HOST, HOME, CORRESPONDENT)
    assert bed.counters()["spoofed_visitor"] >= 1


def test_behind_the_vpn_everything_is_tunnelled(bed: MobilityBed) -> None:
    """Draft 001, B.5: also what the routing table would send elsewhere."""
    start(bed, visited_interfaces=(), vpn_interface="h1")
    home_agent(bed, Tunnel(OURS, HOME_AGENT))
    bed.commit(visitors=(visitor(through_vpn=True, link_address=b""),))
    assert bed.reaches(HOST, HOME, CORRESPONDENT)
    assert bed.reaches(NODE, CORRESPONDENT, HOME)
    wire = bed.capture(ROUTER, "r1")
    bed.ping(HOST, HOME, "198.51.100.1")
    outer = wire.wait(lambda p: p.protocol == 4)
    assert Packet(outer.inner).destination == IPv4Address("198.51.100.1")
    assert not [p for p in wire.packets() if p.source == HOME]


def test_home_and_foreign_agent_in_one_box(bed: MobilityBed) -> None:
    """The tunnel between two of our own addresses runs over lo."""
    inner = IPv4Address("10.1.0.1")
    bed.start(
        home_agents=(AGENT,), care_of_addresses=(inner,), visited_interfaces=("h1",)
    )  # the virtual home network is ours
    bed.commit(
        binding(tunnels=(Tunnel(AGENT, inner),), co_located=False),
        visitors=(visitor(home_agent=AGENT, tunnel=Tunnel(inner, AGENT)),),
    )
    inside(ROUTER, "ip", "route", "add", "10.9.0.0/24", "via", AGENT)
    assert bed.reaches(HOST, HOME, "198.51.100.1")
    assert bed.reaches(ROUTER, "198.51.100.1", HOME)
    assert bed.reaches(GATEWAY, AGENT, HOME)
    counted = bed.counters()
    assert counted["from_mobile_node"] >= 2
    assert counted["to_visitor"] >= 3


def test_strict_reverse_path_filters_of_the_host_do_not_matter(bed: MobilityBed) -> None:
    with entered(GATEWAY):
        Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("1")
    start(bed)
    home_agent(bed, Tunnel(OURS, HOME_AGENT))
    bed.commit(visitors=(visitor(),))
    assert bed.reaches(HOST, HOME, CORRESPONDENT)
    assert bed.reaches(NODE, CORRESPONDENT, HOME)
    bed.stop()
    with entered(GATEWAY):
        assert Path("/proc/sys/net/ipv4/conf/h1/rp_filter").read_text().strip() == "0"


def test_refusals_name_the_reason(bed: MobilityBed) -> None:
    start(bed)
    assert bed.mobility is not None
    bed.mobility.set_visitor(visitor(interface="nowhere"))
    bed.mobility.set_visitor(replace(visitor(), home_address=CORRESPONDENT, link_address=b""))
    refused = bed.mobility.commit()
    assert [refusal.reason for refusal in refused] == [
        "no interface nowhere",
        "no link-layer address of six octets on h1",
    ]
    assert bed.mobility.commit() == []

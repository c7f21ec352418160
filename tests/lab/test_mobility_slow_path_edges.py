"""What only the slow path does, with offload on and off: copies, errors, fragments, groups."""

import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from dataplane_bed import entered
from mobility_kernel_bed import (
    AGENT,
    AT_OFFICE,
    CARE_OF,
    GATEWAY,
    HOME,
    HOST,
    HOST_ADDRESS,
    NAT_PORT,
    NODE,
    PHYSICAL,
    MobilityBed,
    binding,
    mobility_bed,
)
from mobility_wires import Wires, by_tunnel, packet, udp

from gateway.dataplane.packet import icmp
from gateway.dataplane.packet.fragments import fragment
from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import Encapsulation, Tunnel

pytestmark = pytest.mark.kernel

both = pytest.mark.parametrize("offload", [True, False], ids=["offload", "queue"])


@pytest.fixture
def bed() -> Iterator[MobilityBed]:
    with mobility_bed() as bed:
        yield bed


@pytest.fixture
def wires(bed: MobilityBed) -> Iterator[Wires]:
    made = Wires(bed)
    yield made
    made.close()


@both
def test_simultaneous_bindings_get_copies(bed: MobilityBed, wires: Wires, offload: bool) -> None:
    other = IPv4Address("192.0.2.11")
    bed.start(offload=offload)
    bed.commit(binding(tunnels=(Tunnel(AGENT, CARE_OF), Tunnel(AGENT, other))))
    asked = udp(HOST_ADDRESS, HOME, 100)
    copies = wires.send(HOST, asked, wires.abroad, 2)
    assert {IPv4Address(one[16:20]) for one in copies} == {CARE_OF, other}
    assert all(asked[20:] in one for one in copies)


@both
@pytest.mark.parametrize("port", [0, NAT_PORT])
def test_h65_an_error_about_a_tunnel_packet_reaches_the_inner_sender(
    bed: MobilityBed, wires: Wires, offload: bool, port: int
) -> None:
    bed.start(offload=offload)
    bed.commit(binding(tunnels=(Tunnel(AGENT, CARE_OF, udp_port=port),)))
    asked = udp(HOST_ADDRESS, HOME, 900)
    (made,) = wires.send(HOST, asked, wires.abroad)
    told = icmp.error(CARE_OF.packed, made, 3, 1)
    assert told is not None
    (heard,) = wires.send(NODE, told, wires.at_home)
    error = icmp.parse_error(heard)
    assert (error.type, error.code) == (3, 1)
    assert error.quote[12:20] == asked[12:20]
    assert heard[12:20] == AGENT.packed + HOST_ADDRESS.packed


@both
@pytest.mark.parametrize(
    ("kind", "port"),
    [(Encapsulation.IP_IP, 0), (Encapsulation.GRE, 0), (Encapsulation.IP_IP, NAT_PORT)],
)
def test_h65_tunnel_packets_in_fragments(
    bed: MobilityBed, wires: Wires, offload: bool, kind: Encapsulation, port: int
) -> None:
    bed.start(offload=offload)
    bed.commit(binding(tunnels=(Tunnel(AGENT, CARE_OF, kind, port),)))
    inner = udp(HOME, HOST_ADDRESS, 1000)
    first, last = fragment(by_tunnel(inner, CARE_OF, kind, port), 700)
    wires.sockets[NODE].sendto(first, (str(AGENT), 0))
    (got,) = wires.send(NODE, last, wires.at_home)
    assert got[20:] == inner[20:]


@both
@pytest.mark.parametrize("kind", [Encapsulation.IP_IP, Encapsulation.MINIMAL])
@pytest.mark.parametrize("target", [AGENT, IPv4Address("10.1.0.1")], ids=["agent", "other"])
def test_h63_nothing_comes_out_of_a_tunnel_in_a_tunnel(
    bed: MobilityBed, wires: Wires, offload: bool, kind: Encapsulation, target: IPv4Address
) -> None:
    bed.start(offload=offload)
    bed.commit(binding(tunnels=(Tunnel(AGENT, CARE_OF, kind),)))
    spoofed = udp(IPv4Address("10.9.0.99"), HOST_ADDRESS, 77)
    gre = bytes.fromhex("00000800") + spoofed
    in_udp = bytes.fromhex("04040000") + spoofed
    made = [
        packet(spoofed, HOME, target, protocol=4),
        packet(gre, HOME, target, protocol=47),
        packet(struct.pack("!HHHH", 434, 64949, 8 + len(gre), 0) + gre, HOME, target, protocol=17),
        packet(
            struct.pack("!HHHH", 434, 434, 8 + len(in_udp), 0) + in_udp, HOME, target, protocol=17
        ),
        *fragment(packet(spoofed, HOME, target, protocol=4), 84),
    ]
    for one in made:
        wires.sockets[NODE].sendto(by_tunnel(one, CARE_OF, kind, 0), (str(AGENT), 0))
    marker = udp(HOME, HOST_ADDRESS, 1)
    (got,) = wires.send(NODE, by_tunnel(marker, CARE_OF, kind, 0), wires.at_home)
    assert got[20:] == marker[20:]


@both
def test_broadcasts_of_the_home_link(bed: MobilityBed, wires: Wires, offload: bool) -> None:
    bed.start(offload=offload)
    bed.commit(
        replace(binding(AT_OFFICE, home_network=PHYSICAL, broadcasts=True), co_located=False)
    )
    everyone = packet(b"hello", HOST_ADDRESS, IPv4Address("10.1.0.255"), ttl=1)
    (made,) = wires.send(HOST, everyone, wires.abroad)
    assert made[12:20] == AGENT.packed + CARE_OF.packed
    assert made[32:40] == AGENT.packed + AT_OFFICE.packed
    assert made[40:] == everyone


@both
def test_groups_of_the_home_link(bed: MobilityBed, wires: Wires, offload: bool) -> None:
    """A mobile node joins through its tunnel, sends to its link, and hears from it."""
    group = IPv4Address("239.1.2.3")
    bed.start(offload=offload)
    bed.commit(binding(AT_OFFICE, home_network=PHYSICAL, broadcasts=True))
    bare = struct.pack("!BBHHH", 0x22, 0, 0, 0, 1) + struct.pack("!BBH4s", 4, 0, 0, group.packed)
    report = bare[:2] + internet_checksum(bare).to_bytes(2, "big") + bare[4:]
    joining = packet(report, AT_OFFICE, IPv4Address("224.0.0.22"), protocol=2, ttl=1)
    wires.sockets[NODE].sendto(by_tunnel(joining, CARE_OF, Encapsulation.IP_IP, 0), (str(AGENT), 0))
    end = time.monotonic() + 5.0
    assert bed.mobility is not None
    while bed.counters().get("slow_path_group_report", 0) == 0:
        assert time.monotonic() < end, bed.counters()
        with entered(GATEWAY):
            bed.mobility.read_events()
    asked = packet(b"to the group", HOST_ADDRESS, group, ttl=1)
    (heard,) = wires.send(HOST, asked, wires.abroad)
    assert heard[20:] == asked
    told = packet(b"from abroad", AT_OFFICE, group, ttl=1)
    (on_link,) = wires.send(NODE, by_tunnel(told, CARE_OF, Encapsulation.IP_IP, 0), wires.at_home)
    assert on_link == told

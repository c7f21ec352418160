"""The home agent's kernel path: every encapsulation, both directions, as seen on the wire."""

# planes: kernel portable

import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from dataplane_bed import inside, wait_for
from mobility_kernel_bed import (
    AGENT,
    CARE_OF,
    GATEWAY,
    HOME,
    HOST,
    HOST_ADDRESS,
    NAT_PORT,
    NODE,
    ROUTER,
    MobilityBed,
    Packet,
    binding,
    echo,
    ip,
    mobility_bed,
    send_raw,
)

from gateway.domain.mobility import Encapsulation, Tunnel

pytestmark = pytest.mark.kernel

GRE_TUNNEL = Tunnel(AGENT, CARE_OF, Encapsulation.GRE)
UDP_TUNNEL = Tunnel(AGENT, CARE_OF, udp_port=NAT_PORT)


@pytest.fixture
def bed() -> Iterator[MobilityBed]:
    with mobility_bed() as bed:
        yield bed


def to_node(packet: Packet) -> bool:
    return packet.destination == CARE_OF and packet.source == AGENT


def test_ip_ip_both_ways(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding())
    bed.node_tunnel()
    wire = bed.capture(ROUTER, "r1")
    assert bed.reaches(NODE, HOME, HOST_ADDRESS)
    assert bed.reaches(HOST, HOST_ADDRESS, HOME)
    outer = wire.wait(to_node)
    inner = Packet(outer.inner)
    assert (outer.protocol, outer.ttl, outer.header_is_right) == (4, 64, True)
    assert not outer.dont_fragment
    assert (inner.source, inner.destination) == (HOST_ADDRESS, HOME)
    assert inner.header_is_right
    assert inner.transport_is_right
    # Decremented once, by the home agent that forwards it into the tunnel (RFC 2003 section 3.1).
    assert inner.ttl == 63
    counted = bed.counters()
    assert counted["from_mobile_node"] >= 2
    assert counted["to_mobile_node"] >= 2


def test_gre_both_ways(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding(tunnels=(GRE_TUNNEL,)))
    bed.node_tunnel(Encapsulation.GRE)
    wire = bed.capture(ROUTER, "r1")
    assert bed.reaches(NODE, HOME, HOST_ADDRESS)
    outer = wire.wait(to_node)
    assert (outer.protocol, outer.ttl, outer.header_is_right) == (47, 64, True)
    assert not outer.dont_fragment
    assert outer.inner[:4] == bytes.fromhex("00000800")
    assert Packet(outer.inner[4:]).transport_is_right


@pytest.mark.parametrize("checksum", [False, True])
def test_ip_ip_in_udp_both_ways(bed: MobilityBed, checksum: bool) -> None:
    bed.start()
    bed.commit(binding(tunnels=(UDP_TUNNEL,)))
    bed.node_tunnel(udp=True, checksum=False)
    wire = bed.capture(ROUTER, "r1")
    assert bed.reaches(NODE, HOME, HOST_ADDRESS)
    outer = wire.wait(to_node)
    assert (outer.protocol, outer.ttl, outer.header_is_right) == (17, 64, True)
    source, destination, length, udp_checksum = struct.unpack_from("!HHHH", outer.inner)
    assert (source, destination, length) == (434, NAT_PORT, len(outer.inner))
    assert udp_checksum == 0
    assert outer.inner[8:12] == bytes.fromhex("04040000")
    assert Packet(outer.inner[12:]).transport_is_right
    received = wire.wait(lambda p: p.source == CARE_OF)
    assert received.inner[8:12] == bytes.fromhex("04040000")


@pytest.mark.parametrize(
    ("tunnel", "node"),
    [
        (Tunnel(AGENT, CARE_OF), {}),
        (GRE_TUNNEL, {"encapsulation": Encapsulation.GRE}),
        (UDP_TUNNEL, {"udp": True, "checksum": False}),
    ],
    ids=["ip-ip", "gre", "udp"],
)
def test_tcp_in_both_directions_with_segmentation_offload(
    bed: MobilityBed, tunnel: Tunnel, node: dict
) -> None:
    bed.start()
    bed.commit(binding(tunnels=(tunnel,)))
    bed.node_tunnel(**node)
    wire = bed.capture(ROUTER, "r1")
    for direction in ((), ("-R",)):
        # One server for each: between two tests it does not listen for a moment.
        inside(HOST, "iperf3", "-s", "-1", "-D")
        wait_for(lambda: ":5201" in inside(HOST, "ss", "-Hltn"), "server")
        words = f"timeout 20 iperf3 -c {HOST_ADDRESS} -B {HOME} -n 2M".split()
        answer = inside(NODE, *words, *direction)
        assert "iperf Done" in answer, answer
    assert all(not p.is_fragment for p in wire.packets())
    syn = next(
        inner
        for inner in map(inner_of, wire.packets())
        if inner is not None and inner.protocol == 6 and inner.inner[13] == 0x02
    )
    assert segment_size(syn) <= 1300 - 40


def inner_of(packet: Packet) -> Packet | None:
    skip = {4: 0, 47: 4, 17: 12}.get(packet.protocol)
    return None if skip is None else Packet(packet.inner[skip:])


def segment_size(syn: Packet) -> int:
    options = syn.inner[20 : (syn.inner[12] >> 4) * 4]
    place = options.index(b"\x02\x04")
    return int(struct.unpack_from("!H", options, place + 2)[0])


@pytest.mark.parametrize(
    "tunnel", [Tunnel(AGENT, CARE_OF), GRE_TUNNEL, UDP_TUNNEL], ids=["ip-ip", "gre", "udp"]
)
def test_h65_long_packets_are_fragmented_before_they_are_encapsulated(
    bed: MobilityBed, tunnel: Tunnel
) -> None:
    bed.start()
    bed.commit(binding(tunnels=(tunnel,)))
    bed.node_tunnel(tunnel.encapsulation, udp=bool(tunnel.udp_port), checksum=False)
    wire = bed.capture(ROUTER, "r1")
    assert bed.reaches(HOST, HOST_ADDRESS, HOME, "-s", 1372, "-M", "dont")
    sent = [p for p in wire.packets() if to_node(p)]
    assert len(sent) == 2
    assert not any(p.is_fragment or p.dont_fragment for p in sent)
    inner = [i for i in map(inner_of, sent) if i is not None]
    assert all(i.is_fragment and len(i.octets) <= 1300 for i in inner)


def test_too_long_with_df_is_answered_with_the_binding_s_size(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding())
    bed.node_tunnel()
    answer = bed.ping(HOST, HOST_ADDRESS, HOME, "-s", 1372, "-M", "do")
    assert "mtu = 1300" in answer or "mtu=1300" in answer, answer
    bed.commit(binding(max_packet_octets=1200))
    inside(HOST, "ip", "route", "flush", "cache")
    answer = bed.ping(HOST, HOST_ADDRESS, HOME, "-s", 1272, "-M", "do")
    assert "mtu = 1200" in answer or "mtu=1200" in answer, answer


def test_without_a_binding_nothing_is_decapsulated(bed: MobilityBed) -> None:
    mobility = bed.start()
    bed.node_tunnel()
    assert not bed.reaches(NODE, HOME, HOST_ADDRESS)
    assert bed.counters()["tunnel_unknown"] == 1
    bed.commit(binding())
    assert bed.reaches(NODE, HOME, HOST_ADDRESS)
    mobility.remove_binding(AGENT, HOME)
    assert mobility.commit() == []
    assert not bed.reaches(NODE, HOME, HOST_ADDRESS)
    assert "Unreachable" in bed.ping(HOST, HOST_ADDRESS, HOME)


def test_another_inner_source_or_care_of_address_is_refused(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding())
    bed.node_tunnel(home=IPv4Address("10.9.0.6"))
    assert not bed.reaches(NODE, "10.9.0.6", HOST_ADDRESS)
    bed.commit(replace(binding(), tunnels=(Tunnel(AGENT, IPv4Address("192.0.2.11")),)))
    bed.node_tunnel()
    assert not bed.reaches(NODE, HOME, HOST_ADDRESS)


def test_a_care_of_address_changes(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding(tunnels=(Tunnel(AGENT, IPv4Address("192.0.2.99")),)))
    bed.commit(binding())
    bed.node_tunnel()
    assert bed.reaches(NODE, HOME, HOST_ADDRESS)
    bed.commit(binding(tunnels=(GRE_TUNNEL,)))
    bed.node_tunnel(Encapsulation.GRE)
    assert bed.reaches(HOST, HOST_ADDRESS, HOME)


def test_without_reverse_tunnelling_only_the_forward_direction(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding(reverse=False))
    bed.node_tunnel()
    assert not bed.reaches(NODE, HOME, HOST_ADDRESS)
    inside(NODE, "ip", "route", "replace", "10.1.0.0/24", "via", "192.0.2.1", "src", HOME)
    inside(ROUTER, "ip", "route", "add", "10.1.0.0/24", "via", AGENT)
    assert bed.reaches(NODE, HOME, HOST_ADDRESS)


def test_the_gateway_itself_speaks_with_the_mobile_node(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding())
    bed.node_tunnel()
    assert bed.reaches(GATEWAY, "10.1.0.1", HOME)
    assert bed.reaches(NODE, HOME, "10.1.0.1")


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "tunnel", [Tunnel(AGENT, CARE_OF), GRE_TUNNEL, UDP_TUNNEL], ids=["ip-ip", "gre", "udp"]
)
def test_h65_outer_fragments_are_put_together(
    bed: MobilityBed, tunnel: Tunnel, backwards: bool
) -> None:
    """A router abroad may cut the outer packet: its DF bit is clear."""
    bed.start()
    bed.commit(binding(tunnels=(tunnel,)))
    home = bed.capture(HOST, "c0")
    inner = echo(HOME, HOST_ADDRESS, b"x" * 600)
    carried = {
        4: inner,
        47: bytes.fromhex("00000800") + inner,
        17: struct.pack("!HHHH", NAT_PORT, 434, 12 + len(inner), 0) + b"\4\4\0\0" + inner,
    }
    protocol = 17 if tunnel.udp_port else tunnel.encapsulation.protocol
    body = carried[protocol]
    parts = [
        ip(CARE_OF, AGENT, protocol, body[:320], fragment=0x2000),
        ip(CARE_OF, AGENT, protocol, body[320:], fragment=40),
    ]
    for part in reversed(parts) if backwards else parts:
        send_raw(NODE, part)
    assert home.wait(lambda p: p.source == HOME).transport_is_right
    # The same for somebody else's inner source.
    forged = ip(CARE_OF, AGENT, 4, echo("10.9.0.6", HOST_ADDRESS, b"x" * 600))[20:]
    send_raw(NODE, ip(CARE_OF, AGENT, 4, forged[:320], fragment=0x2000))
    send_raw(NODE, ip(CARE_OF, AGENT, 4, forged[320:], fragment=40))
    wait_for(lambda: bed.counters()["tunnel_unknown"] == 1, "an unknown one")


def test_h65_inner_fragments_of_a_mobile_node_travel_on(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding())
    bed.node_tunnel()
    assert bed.reaches(NODE, HOME, HOST_ADDRESS, "-s", 3000, "-M", "dont")


def test_h65_a_packet_whose_ttl_ends_at_the_home_agent(bed: MobilityBed) -> None:
    bed.start()
    bed.commit(binding())
    bed.node_tunnel()
    answer = bed.ping(NODE, HOME, HOST_ADDRESS, "-t", 1)
    assert "Time to live exceeded" in answer
    answer = bed.ping(HOST, HOST_ADDRESS, HOME, "-t", 1)
    assert "Time to live exceeded" in answer

"""Zero-overhead tunnelling (draft 001, appendix D) in the kernel: what is on which wire."""

# planes: kernel portable

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
from dataplane_bed import entered, inside, run, wait_for
from mobility_kernel_bed import (
    AGENT,
    CARE_OF,
    HOME,
    HOST,
    HOST_ADDRESS,
    NODE,
    ROUTER,
    MobilityBed,
    binding,
    mobility_bed,
)

from gateway.domain.mobility import Tunnel
from gateway.lab.mobility.topology import offloads_off

pytestmark = pytest.mark.kernel

GATEWAY_INSIDE = IPv4Address("10.1.0.1")


def node_switches(peer: IPv4Address) -> None:
    """The mobile node's half: what it sends to ``peer`` from home, except port 434, is switched."""
    with entered(NODE):
        run("nft", "-f", "-", stdin=f"""
            table ip switch {{
              chain out {{ type route hook output priority raw;
                udp dport 434 accept
                udp sport 434 accept
                ip saddr {HOME} ip daddr {peer} ip saddr set {CARE_OF} ip daddr set {AGENT}
              }}
              chain in {{ type filter hook prerouting priority raw;
                ip protocol 4 accept
                udp dport 434 accept
                udp sport 434 accept
                ip saddr {AGENT} ip daddr {CARE_OF} ip saddr set {peer} ip daddr set {HOME}
              }}
            }}
        """)  # fmt: skip


@pytest.fixture
def bed() -> Iterator[MobilityBed]:
    with mobility_bed() as bed:
        yield bed


def switched(bed: MobilityBed, peer: IPv4Address, **changes: Any) -> None:
    bed.start(**changes)
    bed.commit(binding(zero_overhead=peer))
    bed.node_tunnel()
    node_switches(peer)


def udp(name: str, address: object, port: int) -> socket.socket:
    with entered(name):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((str(address), port))
    made.settimeout(5)
    return made


def test_addresses_are_switched_both_ways_without_overhead(bed: MobilityBed) -> None:
    switched(bed, HOST_ADDRESS)
    wire, home = bed.capture(ROUTER, "r1"), bed.capture(HOST, "c0")
    assert bed.reaches(NODE, HOME, HOST_ADDRESS)
    assert bed.reaches(HOST, HOST_ADDRESS, HOME)
    outside = [p for p in wire.packets() if CARE_OF in (p.source, p.destination)]
    assert {(p.source, p.destination) for p in outside} == {(CARE_OF, AGENT), (AGENT, CARE_OF)}
    assert {p.protocol for p in outside} == {1}
    at_home = [p for p in home.packets() if HOME in (p.source, p.destination)]
    assert {(p.source, p.destination) for p in at_home} == {
        (HOME, HOST_ADDRESS),
        (HOST_ADDRESS, HOME),
    }
    for packet in outside + at_home:
        assert packet.header_is_right
        assert packet.transport_is_right
    assert {len(p.octets) for p in outside} == {len(p.octets) for p in at_home}


def test_udp_and_tcp_checksums_are_right_on_every_wire(bed: MobilityBed) -> None:
    switched(bed, HOST_ADDRESS)
    # A socket's own checksum is filled in by the card; without it what is on the wire is final.
    for name, link in ((NODE, "m0"), (HOST, "c0")):
        with entered(name):
            offloads_off([link])
    wire, home = bed.capture(ROUTER, "r1"), bed.capture(HOST, "c0")
    with udp(HOST, HOST_ADDRESS, 5000) as host, udp(NODE, HOME, 6000) as node:
        node.sendto(b"there", (str(HOST_ADDRESS), 5000))
        heard, source = host.recvfrom(100)
        assert (heard, source) == (b"there", (str(HOME), 6000))
        host.sendto(b"back", source)
        assert node.recvfrom(100) == (b"back", (str(HOST_ADDRESS), 5000))
    for capture in (wire, home):
        seen = [p for p in capture.packets() if p.protocol == 17]
        assert len(seen) == 2
        assert all(p.transport_is_right and p.inner[6:8] != b"\0\0" for p in seen)
    with entered(HOST):
        listener = socket.create_server((str(HOST_ADDRESS), 5001))
    with entered(NODE):
        client = socket.socket()
    client.bind((str(HOME), 0))
    with listener, client:
        client.settimeout(5)
        client.connect((str(HOST_ADDRESS), 5001))
        server = listener.accept()[0]
        with server:
            server.sendall(b"x" * 3000)
            got = b""
            while len(got) < 3000:
                got += client.recv(4000)
    tcp = [p for p in wire.packets() if p.protocol == 6]
    assert len(tcp) > 5
    assert all(p.transport_is_right for p in tcp if len(p.octets) <= 1500)


def test_the_default_destination_is_this_box(bed: MobilityBed) -> None:
    """As when the VPN gateway and the outer home agent are one."""
    switched(bed, GATEWAY_INSIDE)
    wire = bed.capture(ROUTER, "r1")
    assert bed.reaches(NODE, HOME, GATEWAY_INSIDE)
    seen = [p for p in wire.packets() if CARE_OF in (p.source, p.destination)]
    assert {(p.source, p.destination) for p in seen} == {(CARE_OF, AGENT), (AGENT, CARE_OF)}
    assert {p.protocol for p in seen} == {1}
    # Others still come through the tunnel.
    assert bed.reaches(HOST, HOST_ADDRESS, HOME)
    assert wire.wait(lambda p: p.protocol == 4)


def test_port_434_is_never_switched(bed: MobilityBed) -> None:
    switched(bed, HOST_ADDRESS)
    wire = bed.capture(ROUTER, "r1")
    with udp(HOST, HOST_ADDRESS, 434) as host, udp(NODE, HOME, 434) as node:
        node.sendto(b"\1registration", (str(HOST_ADDRESS), 434))
        assert host.recvfrom(100)[1] == (str(HOME), 434)
        host.sendto(b"\3reply", (str(HOME), 434))
        assert node.recvfrom(100)[0] == b"\3reply"
    carried = [p for p in wire.packets() if CARE_OF in (p.source, p.destination)]
    assert [p.protocol for p in carried] == [4, 4]


def test_registrations_from_the_care_of_address_reach_the_home_agent(bed: MobilityBed) -> None:
    switched(bed, HOST_ADDRESS)
    with udp("mkt-gw", AGENT, 434) as agent, udp(NODE, CARE_OF, 434) as node:
        node.sendto(b"\1registration", (str(AGENT), 434))
        assert agent.recvfrom(100) == (b"\1registration", (str(CARE_OF), 434))
        agent.sendto(b"\3reply", (str(CARE_OF), 434))
        assert node.recvfrom(100)[0] == b"\3reply"


def test_h65_fragments_travel_in_the_tunnel(bed: MobilityBed) -> None:
    switched(bed, HOST_ADDRESS)
    wire = bed.capture(ROUTER, "r1")
    with udp(HOST, HOST_ADDRESS, 5000) as host, udp(NODE, HOME, 6000):
        # IP_MTU_DISCOVER, IP_PMTUDISC_DONT: no DF, so it is fragmented on its way.
        host.setsockopt(socket.IPPROTO_IP, 10, 0)
        host.sendto(b"x" * 2500, (str(HOME), 6000))
        carried = wait_for(
            lambda: [p for p in wire.packets() if p.destination == CARE_OF and p.protocol == 4],
            "fragments in the tunnel",
        )
    assert all(not p.is_fragment for p in carried)
    assert not [p for p in wire.packets() if p.protocol == 17]


def test_a_switched_fragment_from_abroad_is_dropped(bed: MobilityBed) -> None:
    switched(bed, HOST_ADDRESS)
    home = bed.capture(HOST, "c0")
    with entered(NODE):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)
    header = bytes.fromhex("4500001c000120004011000000000000") + AGENT.packed
    with raw:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        raw.sendto(header + bytes(8), (str(AGENT), 0))
    wait_for(lambda: bed.counters()["switched_fragment"], "count of the fragment")
    assert not [p for p in home.packets() if p.protocol == 17]


def test_after_the_binding_nothing_is_switched(bed: MobilityBed) -> None:
    switched(bed, HOST_ADDRESS)
    bed.commit(binding())
    home = bed.capture(HOST, "c0")
    bed.ping(NODE, HOME, HOST_ADDRESS)
    assert not [p for p in home.packets() if p.source == HOME]
    listed = inside("mkt-gw", *["nft", "list", "map", "ip", "gateway_mobility", "switch_out"])
    assert str(HOME) not in listed


def test_one_care_of_address_serves_one_home_address(bed: MobilityBed) -> None:
    mobility = bed.start()
    other = IPv4Address("10.9.0.6")
    mobility.set_binding(binding(zero_overhead=HOST_ADDRESS))
    mobility.set_binding(binding(other, zero_overhead=HOST_ADDRESS))
    refused = mobility.commit()
    assert [(r.home_address, r.reason) for r in refused] == [
        (other, f"zero-overhead tunnelling: {CARE_OF} serves {HOME} with it")
    ]
    mobility.set_binding(
        binding(tunnels=(Tunnel(AGENT, CARE_OF, udp_port=4444),), zero_overhead=HOST_ADDRESS)
    )
    assert "no UDP" in mobility.commit()[0].reason

"""Tunnel links: what is sent for them, what comes out of them, what is refused."""

import struct
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.packet import gre, marks, minimal, udp
from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.packet.tunnel_ports import FOU_PORT
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.tunnels.engine import TunnelEngine
from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import Endpoint

HERE, THERE, OTHER = (IPv4Address(f"192.0.2.{number}") for number in (1, 2, 3))
LINK = TunnelLink("t0", TunnelKind.IP_IP, local=HERE, remote=THERE)
MARK = 0x47570010


def inner(data: bytes = b"abcd", *, tos: int = 0, flags: int = 0, protocol: int = 253) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(data), 7, flags, 63, protocol, 0)
    return with_checksum(head + bytes((10, 0, 0, 1, 10, 0, 0, 2))) + data


def finished(outer: bytes) -> bytes:
    """As the kernel sends it: with a checksum."""
    return with_checksum(outer)


def mirrored(link: TunnelLink) -> TunnelLink:
    """The other end of a tunnel."""
    return replace(
        link,
        local=link.remote,
        remote=link.local,
        local_port=link.remote_port,
        remote_port=link.local_port,
    )


def engine(*links: TunnelLink) -> TunnelEngine:
    made = TunnelEngine()
    for link in links:
        assert made.set_tunnel(link) is None
    return made


def sent(link: TunnelLink, packet: bytes, mark: int = 0) -> bytes:
    made = engine(link)
    made.leaving(link.name, [(packet, mark)])
    [(outer, _)] = made.sends
    return finished(outer)


KINDS = [
    LINK,
    replace(LINK, kind=TunnelKind.GRE),
    replace(LINK, kind=TunnelKind.MINIMAL),
    replace(LINK, kind=TunnelKind.GRE_UDP, local_port=FOU_PORT, remote_port=FOU_PORT),
    replace(LINK, kind=TunnelKind.MIP_UDP, local_port=434, remote_port=434),
]


@pytest.mark.parametrize("link", KINDS, ids=lambda link: link.kind.value)
def test_what_one_end_sends_comes_out_of_the_other(link: TunnelLink) -> None:
    packet = inner()
    outer = sent(link, packet)
    assert outer[12:20] == HERE.packed + THERE.packed
    other = engine(mirrored(link))
    other.arrived([(outer, MARK)])
    assert other.delivers == [("t0", packet, MARK)]
    assert other.counters == {"decapsulated": 1}


@pytest.mark.parametrize("link", KINDS, ids=lambda link: link.kind.value)
@given(octets=st.binary(min_size=0, max_size=80))
def test_hostile_packets_raise_nothing(link: TunnelLink, octets: bytes) -> None:
    made = engine(link)
    made.leaving("t0", [(octets, 0)])
    made.arrived([(octets, 0)])
    whole_header = inner(octets, protocol=min(made.wanted()[0], default=17))
    made.arrived([(whole_header, 0)])
    made.leaving("t0", [(whole_header, 0)])


@pytest.mark.parametrize("link", KINDS, ids=lambda link: link.kind.value)
@given(data=st.data())
def test_a_changed_octet_raises_nothing(link: TunnelLink, data: st.DataObject) -> None:
    outer = bytearray(sent(link, inner()))
    outer[data.draw(st.integers(0, len(outer) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(outer)))
    made = engine(mirrored(link))
    made.arrived([(bytes(outer), 0), (bytes(outer[:cut]), 0)])
    assert all(len(packet) >= 20 for _, packet, _ in made.delivers)


def test_outer_header() -> None:
    outer = sent(LINK, inner(tos=0xB8, flags=0x4000))
    assert outer[1] == 0xB8
    assert outer[8] == 64
    assert outer[6:8] == b"\0\0"
    outer = sent(replace(LINK, copies_dont_fragment=True, ttl=9), inner(flags=0x4000))
    assert outer[6:8] == b"\x40\0"
    assert outer[8] == 9
    outer = sent(replace(LINK, copies_dont_fragment=True), inner(flags=0x2001))
    assert outer[6:8] == b"\0\0"


def test_congestion_marks_go_in_and_out() -> None:
    assert sent(LINK, inner(tos=3))[1] == 2
    assert sent(LINK, inner(tos=1))[1] == 1
    other = engine(mirrored(LINK))
    for tos, outer_tos in ((0, 3), (2, 3), (2, 2), (3, 0)):
        outer = sent(LINK, inner(tos=tos))
        other.arrived([(finished(outer[:1] + bytes((outer_tos,)) + outer[2:]), 0)])
    assert [packet[1] for _, packet, _ in other.delivers] == [3, 2, 3]
    assert all(internet_checksum(packet[:20]) == 0 for _, packet, _ in other.delivers)
    assert other.counters["congestion"] == 1


def test_marks() -> None:
    made = engine(LINK, replace(LINK, name="t1", remote=OTHER, mark=0))
    made.leaving("t0", [(inner(), MARK)])
    made.leaving("t1", [(inner(), MARK)])
    assert [mark for _, mark in made.sends] == [MARK, 0]


def test_what_is_for_the_slow_path_is_left_to_it() -> None:
    made = engine(LINK)
    made.leaving("t0", [(inner(), marks.SLOW), (inner(), marks.SLOW_REVERSE)])
    assert made.sends == []


def test_below() -> None:
    made = engine(replace(LINK, below=4))
    made.leaving("t0", [(inner(), 1)])
    assert made.sends == []
    assert [(mark, device) for _, mark, device in made.sends_below] == [(1, 4)]


def test_links_with_addresses_go_first() -> None:
    made = engine(
        replace(LINK, name="any", local=None, remote=None, sends=False),
        replace(LINK, name="local", remote=None, sends=False),
        replace(LINK, name="remote", local=None),
        LINK,
    )
    for source, destination in ((THERE, HERE), (THERE, OTHER), (OTHER, HERE), (OTHER, OTHER)):
        packet = sent(replace(LINK, local=source, remote=destination), inner())
        made.arrived([(packet, 0)])
    assert [link for link, _, _ in made.delivers] == ["t0", "remote", "local", "any"]
    made.remove_tunnel("t0")
    made.remove_tunnel("t0")
    made.delivers.clear()
    made.arrived([(sent(mirrored(LINK), inner()), 0)])
    assert [link for link, _, _ in made.delivers] == ["remote"]


def test_a_link_that_does_not_receive_and_one_that_does_not_send() -> None:
    made = engine(replace(LINK, receives=False))
    assert made.wanted()[0] == frozenset()
    made.arrived([(sent(mirrored(LINK), inner()), 0)])
    assert made.delivers == []
    assert made.counters == {"no_link": 1}
    made = engine(replace(LINK, sends=False))
    made.leaving("t0", [(inner(), 0)])
    made.leaving("unknown", [(inner(), 0)])
    assert made.sends == []
    assert made.counters == {"not_sent": 2}


def test_what_is_wanted_from_the_wire() -> None:
    made = engine(*(replace(link, name=link.kind.value) for link in KINDS if link is not KINDS[1]))
    assert made.wanted() == ({4, 55}, {434, FOU_PORT})
    assert engine(KINDS[1]).wanted() == ({47}, frozenset())
    anywhere = replace(KINDS[1], sends=False, local=None, remote=None)
    assert engine(anywhere).wanted() == ({47}, {FOU_PORT})
    for link in KINDS:
        made.remove_tunnel(link.kind.value)
    assert (made.wanted(), made.held()) == ((frozenset(), frozenset()), [])


def test_gre_in_udp_comes_out_of_gre_links_as_in_linux() -> None:
    made = engine(replace(KINDS[1], sends=False, local=None, remote=None))
    made.arrived([(sent(mirrored(KINDS[3]), inner()), 5)])
    assert made.delivers == [("t0", inner(), 5)]


@pytest.mark.parametrize("wrong", [False, True])
def test_gre_options_and_checksum(wrong: bool) -> None:
    body = bytes.fromhex("b0000800 00000000 00000001 00000002") + inner()
    checksum = internet_checksum(body) ^ wrong
    body = body[:4] + checksum.to_bytes(2, "big") + body[6:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, gre.PROTOCOL, 0)
    made = engine(KINDS[1])
    made.arrived([(with_checksum(head + THERE.packed + HERE.packed) + body, 0)])
    assert len(made.delivers) == (not wrong)
    assert made.counters["malformed"] == wrong


def test_udp_checksum_is_looked_at() -> None:
    gre_packet = gre.HEADER + inner()
    good = udp.packet(Endpoint(THERE, 5000), Endpoint(HERE, FOU_PORT), gre_packet)
    made = engine(KINDS[3])
    made.arrived([(good, 0), (good[:-1] + b"\xff", 0)])
    assert len(made.delivers) == 1
    assert made.counters["malformed"] == 1


def test_signalling_on_port_434_is_not_ours() -> None:
    made = engine(KINDS[4])
    registration = udp.packet(Endpoint(THERE, 434), Endpoint(HERE, 434), b"\x01" + bytes(23))
    made.arrived([(registration, 0)])
    assert made.counters == {"no_tunnel": 1}


def test_fragments_of_packets_travel_in_ip_in_ip_and_come_out_of_the_minimal_link() -> None:
    link = KINDS[2]
    piece = inner(flags=0x2000)
    outer = sent(link, piece)
    assert outer[9] == 4
    assert sent(link, inner())[9] == minimal.PROTOCOL
    made = engine(mirrored(link))
    made.arrived([(outer, 0)])
    assert made.delivers == [("t0", piece, 0)]


def test_circles_end() -> None:
    """A route into the tunnel for its own packets: each goes round a few times, not for ever."""
    made = engine(LINK)
    packet = inner()
    turns = 0
    while made.leaving("t0", [(packet, 0)]) or made.sends:
        packet = finished(made.sends.pop()[0])
        turns += 1
    assert turns == marks.MAX_NESTING
    assert made.counters["nested_too_deep"] == 1


@pytest.mark.parametrize("link", KINDS, ids=lambda link: link.kind.value)
def test_the_longest_packets(link: TunnelLink) -> None:
    overhead = len(sent(link, inner())) - len(inner())
    assert len(sent(link, inner(bytes(0xFFFF - 20 - overhead)))) == 0xFFFF
    made = engine(link)
    made.leaving("t0", [(inner(bytes(0xFFFF - 20 - overhead + 1)), 0)])
    assert made.counters == {"too_long": 1}


@pytest.mark.parametrize(
    "link",
    [
        replace(LINK, kind=TunnelKind.L2TP),
        replace(LINK, remote=None),
        replace(KINDS[2], local=None),
        replace(KINDS[3], local_port=0),
    ],
)
def test_refused_links(link: TunnelLink) -> None:
    made = engine()
    assert made.set_tunnel(link)
    assert made.held() == []


def test_two_links_between_the_same_addresses() -> None:
    made = engine(LINK)
    assert made.set_tunnel(replace(LINK, name="t1")) == (
        "t0 is the tunnel between these addresses already"
    )
    assert made.set_tunnel(replace(LINK, name="t1", receives=False)) is None
    assert made.set_tunnel(replace(LINK, ttl=3)) is None
    assert made.set_tunnel(replace(LINK, name="t1", kind=TunnelKind.GRE)) is None

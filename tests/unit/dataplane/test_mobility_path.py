"""The path of packets, one packet at a time: no kernel, no clock."""

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import mobility_bed as bed
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mobility_bed import COA, COA_2, FA, FAR_HA, GUEST, HA, HOA, HOA_2, PEER, ROUTER, packet

from gateway.dataplane.packet import icmp, marks
from gateway.dataplane.packet.address_switch import AddressSwitch
from gateway.dataplane.packet.demultiplex import open_tunnel
from gateway.dataplane.packet.fragments import fragment
from gateway.dataplane.packet.ipv4 import parse_header
from gateway.dataplane.packet.mobility_path import ACCEPT, DROPPED, UNCHANGED, MobilityPath
from gateway.dataplane.packet.tunnel_ends import tunnel_end
from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import Encapsulation, HomeNetwork, Tunnel

KINDS = [(kind, port) for kind in Encapsulation for port in (0, 40000)]
each_tunnel = pytest.mark.parametrize(("kind", "port"), KINDS)


@pytest.fixture
def path() -> MobilityPath:
    made = MobilityPath(bed.SETTINGS, 41)
    made.reconfigure(bed.SETTINGS, bed.DEVICES)
    return made


def sent(path: MobilityPath) -> list[bytes]:
    found = [one.octets for one in path.sends]
    path.sends.clear()
    assert all(bed.right(one) for one in found)
    return found


def opened(made: bytes) -> bytes:
    """What the other end takes out."""
    if made[9] == 17:
        made = made[:20] + made[22:24] + made[20:22] + made[24:]
    found = open_tunnel(made)
    assert found is not None
    return found.inner


def arriving(kind: Encapsulation, port: int, inner: bytes, *ends: IPv4Address) -> bytes:
    """``inner`` as it comes in by a tunnel, from a mobile node unless ``ends`` say otherwise."""
    source, destination = ends or (COA, HA)
    made = tunnel_end(Tunnel(source, destination, kind, port)).wrap(inner, 5)
    if port:
        made = made[:20] + made[22:24] + made[20:22] + made[24:]
    return made


# A home agent's tunnels.


@each_tunnel
def test_to_a_mobile_node(path: MobilityPath, kind: Encapsulation, port: int) -> None:
    path.set_binding(bed.binding(encapsulation=kind, udp_port=port))
    inner = packet(tos=0xB8)
    assert path.leaving(inner, 0) == DROPPED
    (made,) = sent(path)
    assert bed.ends_of(made) == (HA, COA)
    assert made[9] == (17 if port else kind.protocol)
    assert opened(made) == inner
    assert path.counters["encapsulated"] == 1
    if port:
        assert made[20:24] == struct.pack("!HH", 434, port)
        assert made[26:28] == bytes(2), "no UDP checksum"
        assert made[28:32] == bytes((4, kind.protocol, 0, 0))


@each_tunnel
def test_from_a_mobile_node(path: MobilityPath, kind: Encapsulation, port: int) -> None:
    path.set_binding(bed.binding(encapsulation=kind, udp_port=port))
    inner = packet(source=HOA, destination=PEER)
    made = arriving(kind, port, inner)
    assert path.arrived(made, 0, bed.OUTSIDE_LINK) == (ACCEPT, inner, marks.HOME)


def test_a_tunnel_that_came_in_outside_is_marked(path: MobilityPath) -> None:
    path.reconfigure(replace(bed.SETTINGS, outside_interfaces=("outside0",)), bed.DEVICES)
    path.set_binding(bed.binding())
    made = arriving(Encapsulation.IP_IP, 0, packet(source=HOA, destination=PEER))
    assert path.arrived(made, 0, bed.OUTSIDE_LINK)[2] == marks.HOME_OUTSIDE
    assert path.arrived(made, 0, bed.HOME_LINK)[2] == marks.HOME


@each_tunnel
def test_h63_inner_source_is_not_the_home_address(
    path: MobilityPath, kind: Encapsulation, port: int
) -> None:
    path.set_binding(bed.binding(encapsulation=kind, udp_port=port))
    made = arriving(kind, port, packet(source=HOA_2, destination=PEER))
    assert path.arrived(made, 0, 0) == DROPPED
    assert path.counters["tunnel_unknown"] == 1


def test_h63_outer_source_is_not_the_care_of_address(path: MobilityPath) -> None:
    path.set_binding(bed.binding(COA_2))
    made = arriving(Encapsulation.IP_IP, 0, packet(source=HOA, destination=PEER))
    assert path.arrived(made, 0, 0) == DROPPED


def test_h63_tunnel_data_from_a_new_port(path: MobilityPath) -> None:
    path.set_binding(bed.binding(udp_port=40000))
    inner = packet(source=HOA, destination=PEER)
    assert path.arrived(arriving(Encapsulation.IP_IP, 40001, inner), 0, 0) == DROPPED
    assert path.arrived(arriving(Encapsulation.IP_IP, 0, inner), 0, 0) == DROPPED
    assert path.counters["tunnel_unknown"] == 2


def test_h63_next_header_is_not_what_was_agreed_on(path: MobilityPath) -> None:
    path.set_binding(bed.binding(udp_port=40000))
    inner = packet(source=HOA, destination=PEER)
    assert path.arrived(arriving(Encapsulation.GRE, 40000, inner), 0, 0) == DROPPED
    assert path.counters["tunnel_of_another_kind"] == 1


def test_h63_keepalives_are_answered_without_reverse_tunnelling(path: MobilityPath) -> None:
    path.set_binding(bed.binding(udp_port=40000, reverse=False))
    echo = packet(b"\x08\0" + bytes(6), protocol=1, source=HOA, destination=HA)
    made = arriving(Encapsulation.IP_IP, 40000, echo)
    assert path.arrived(made, 0, 0) == (ACCEPT, echo, marks.HOME)
    other = arriving(Encapsulation.IP_IP, 40000, packet(source=HOA, destination=PEER))
    assert path.arrived(other, 0, 0) == DROPPED


def test_without_the_t_bit_nothing_comes_in(path: MobilityPath) -> None:
    path.set_binding(bed.binding(reverse=False))
    made = arriving(Encapsulation.IP_IP, 0, packet(source=HOA, destination=PEER))
    assert path.arrived(made, 0, 0) == DROPPED


def test_simultaneous_bindings_get_copies(path: MobilityPath) -> None:
    path.set_binding(bed.binding(COA, COA_2))
    inner = packet()
    assert path.leaving(inner, 0) == DROPPED
    made = sent(path)
    assert [bed.ends_of(one)[1] for one in made] == [COA, COA_2]
    assert [opened(one) for one in made] == [inner, inner]


def test_a_binding_replaced_or_removed_leaves_nothing(path: MobilityPath) -> None:
    path.set_binding(bed.binding(COA, peer=PEER))
    path.set_binding(bed.binding(COA_2))
    made = arriving(Encapsulation.IP_IP, 0, packet(source=HOA, destination=PEER))
    assert path.arrived(made, 0, 0) == DROPPED
    path.remove_binding(FAR_HA.packed, HOA.packed)
    assert path.leaving(packet(), 0) == DROPPED
    assert len(sent(path)) == 1
    path.remove_binding(HA.packed, HOA.packed)
    assert path.leaving(packet(), 0) == DROPPED
    assert not sent(path)
    assert path.counters["no_binding"] == 1
    tables = path._tables
    for table in (tables.homes, tables.inbound, tables.switched, tables.half_switched,
                  tables.ends_in_use):  # fmt: skip
        assert not table


# Sizes.


@each_tunnel
def test_fragments_before_encapsulation(path: MobilityPath, kind: Encapsulation, port: int) -> None:
    path.set_binding(bed.binding(encapsulation=kind, udp_port=port, limit=100))
    inner = packet(bytes(range(200)))
    assert path.leaving(inner, 0) == DROPPED
    made = sent(path)
    pieces = [opened(one) for one in made]
    assert len(pieces) == 3
    assert all(len(one) <= 100 for one in pieces)
    assert b"".join(one[20:] for one in pieces) == inner[20:]
    assert all(not parse_header(one).is_fragment for one in made)
    assert path.counters["fragmented"] == 1


def test_too_long_with_df_tells_the_sender(path: MobilityPath) -> None:
    path.set_binding(bed.binding(limit=100))
    assert path.leaving(packet(bytes(200), flags=0x4000), 0) == DROPPED
    (made,) = sent(path)
    told = icmp.parse_error(made)
    assert (told.type, told.code, told.mtu) == (3, 4, 100)
    assert bed.ends_of(made) == (HA, PEER)


def test_errors_are_limited(path: MobilityPath) -> None:
    path.set_binding(bed.binding(limit=100))
    for _ in range(1000):
        path.leaving(packet(bytes(200), flags=0x4000), 0)
    assert len(sent(path)) == 200
    path.advance(0.5)
    for _ in range(1000):
        path.leaving(packet(bytes(200), flags=0x4000), 0)
    assert len(sent(path)) == 100


def test_a_link_too_small_for_a_tunnel_packet(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    path.leaving(packet(bytes(1000)), 0)
    (one,) = path.sends
    path.sends.clear()
    path.too_long(one, 600)
    assert [len(made) <= 600 for made in sent(path)] == [True, True]


# Loops, TTL, what may be inside.


def test_h65_ttl_zero(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    made = arriving(Encapsulation.IP_IP, 0, packet(source=HOA, destination=PEER, ttl=0))
    assert path.arrived(made, 0, 0) == DROPPED
    assert path.leaving(packet(ttl=0), 0) == DROPPED
    assert path.counters["ttl_zero"] == 2
    assert not sent(path)


def test_h65_ttl_one_is_for_the_router_behind(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    inner = packet(source=HOA, destination=PEER, ttl=1)
    made = arriving(Encapsulation.IP_IP, 0, inner)
    assert path.arrived(made, 0, 0) == (ACCEPT, inner, marks.HOME)


def test_h65_inner_fragments_pass(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    for flags in (0x2000, 0x0004):
        inner = packet(source=HOA, destination=PEER, flags=flags)
        assert path.arrived(arriving(Encapsulation.IP_IP, 0, inner), 0, 0)[1] == inner


@each_tunnel
def test_h65_tunnel_packets_in_fragments_are_made_whole(
    path: MobilityPath, kind: Encapsulation, port: int
) -> None:
    path.set_binding(bed.binding(encapsulation=kind, udp_port=port))
    inner = packet(bytes(range(200)), source=HOA, destination=PEER)
    made = arriving(kind, port, inner)
    pieces = fragment(made, 100)
    for one in pieces[1:]:
        assert path.arrived(one, 0, 0) == DROPPED
    assert path.arrived(pieces[0], 0, 0) == (ACCEPT, inner, marks.HOME)
    assert path.counters["reassembled"] == 1
    stranger = packet(bytes(64), protocol=4, source=COA_2, destination=HA, flags=0x2000)
    assert path.arrived(stranger, 0, 0) == UNCHANGED


def test_registrations_in_fragments_are_for_the_socket(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    message = struct.pack("!HHHH", 434, 434, 208, 0) + b"\1" + bytes(199)
    whole = packet(message, protocol=17, source=COA, destination=HA)
    first, second, third = fragment(whole, 100)
    assert path.arrived(first, 0, 0) == DROPPED
    assert path.arrived(second, 0, 0) == DROPPED
    assert path.arrived(third, 0, 0) == (ACCEPT, whole, 0)


def test_h63_recursive_encapsulation_is_opened_once(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    innermost = packet(source=HOA, destination=PEER)
    nested = packet(innermost, protocol=4, source=COA, destination=HA)
    made = packet(nested, protocol=4, source=COA, destination=HA)
    assert path.arrived(made, 0, 0) == DROPPED, "the packet inside is from no home address"


def test_h63_what_comes_out_of_a_tunnel_may_not_be_one_to_us() -> None:
    path = MobilityPath(bed.SETTINGS, 0, (64949,))
    path.set_binding(bed.binding())
    forged = packet(source=HOA_2, destination=PEER)
    data = bytes((4, 4, 0, 0)) + forged
    for protocol, content in (
        (4, forged),
        (47, bytes.fromhex("00000800") + forged),
        (55, bytes(40)),
        (17, struct.pack("!HHHH", 434, 434, 8 + len(data), 0) + data),
        (17, struct.pack("!HHHH", 434, 64949, 8 + len(data), 0) + data),
    ):
        for flags in (0, 0x2000):
            inner = packet(content, protocol=protocol, source=HOA, destination=HA, flags=flags)
            assert path.arrived(arriving(Encapsulation.IP_IP, 0, inner), 0, 0) == DROPPED
    assert path.counters["tunnel_in_tunnel"] == 10
    for inner in (
        packet(
            struct.pack("!HHHH", 434, 434, 9, 0) + b"\1", protocol=17, source=HOA, destination=HA
        ),
        packet(forged, protocol=4, source=HOA, destination=PEER),
    ):
        assert path.arrived(arriving(Encapsulation.IP_IP, 0, inner), 0, 0)[1] == inner


def test_h63_tunnels_within_tunnels_of_ours_end(path: MobilityPath) -> None:
    path.set_binding(bed.binding(HOA_2))
    path.set_binding(bed.binding(HOA, address=HOA_2))
    waiting, rounds = [(packet(), 0)], 0
    while waiting:
        octets, mark = waiting.pop()
        path.leaving(octets, mark)
        waiting += [(one.octets, one.mark) for one in path.sends]
        path.sends.clear()
        rounds += 1
        assert rounds < 10
    assert path.counters["nested_too_deep"] == 1


@pytest.mark.parametrize("source", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_h63_nobodys_addresses_inside(path: MobilityPath, source: str) -> None:
    path.set_visitor(bed.visitor())
    inner = packet(source=IPv4Address(source), destination=GUEST)
    made = packet(inner, protocol=4, source=FAR_HA, destination=FA)
    assert path.arrived(made, 0, 0) == DROPPED
    assert path.counters["inner_address"] == 1


def test_congestion_of_the_tunnel_is_passed_on(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    aware = packet(source=HOA, destination=PEER, tos=2)
    outcome = path.arrived(packet(aware, protocol=4, source=COA, destination=HA, tos=3), 0, 0)
    assert outcome[1] == packet(source=HOA, destination=PEER, tos=3)
    unaware = packet(source=HOA, destination=PEER)
    outer = packet(unaware, protocol=4, source=COA, destination=HA, tos=3)
    assert path.arrived(outer, 0, 0) == DROPPED
    assert path.counters["congestion"] == 1


@given(st.data())
def test_h63_h65_nothing_raises(data: st.DataObject) -> None:
    path = MobilityPath(bed.SETTINGS)
    path.reconfigure(bed.SETTINGS, bed.DEVICES)
    path.set_binding(bed.binding(peer=PEER, broadcasts=True))
    path.set_visitor(bed.visitor(encapsulating=True))
    seeds = [arriving(kind, port, packet(source=HOA, destination=PEER)) for kind, port in KINDS] + [
        packet(source=COA, destination=HA),
        packet(packet(source=HOA), protocol=4, source=COA, destination=HA),
        icmp.error(
            ROUTER.packed, packet(packet(), protocol=4, source=HA, destination=COA), 3, 4, 900
        )
        or b"",
        packet(bytes((0x22, 0, 0, 0, 0, 0, 0, 9)) + bytes(40), protocol=2, destination=HA),
    ]
    octets = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(0, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    made = bytes(octets[: data.draw(st.integers(0, len(octets)))])
    assert path.arrived(made, 0, data.draw(st.sampled_from([0, 3, 4])))[0] in (0, 1)
    assert path.leaving(made, data.draw(st.sampled_from([0, marks.REVERSE])))[0] in (0, 1)


def test_what_is_not_ours_is_left_alone(path: MobilityPath) -> None:
    for one in (
        packet(destination=HA),
        packet(packet(), protocol=4, destination=PEER),
        packet(b"\x01" + bytes(40), protocol=17, destination=HA),
        packet(struct.pack("!HHHH", 434, 434, 32, 0) + b"\1" + bytes(23), protocol=17,
               destination=HA),
    ):  # fmt: skip
        assert path.arrived(one, 0, 0) == UNCHANGED


# A foreign agent's visitors.


@each_tunnel
def test_visitors_are_delivered_to_and_tunnelled_for(
    path: MobilityPath, kind: Encapsulation, port: int
) -> None:
    path.set_visitor(bed.visitor(encapsulation=kind, udp_port=port))
    inner = packet(source=GUEST, destination=PEER)
    assert path.leaving(inner, marks.REVERSE) == DROPPED
    (made,) = sent(path)
    assert bed.ends_of(made) == (FA, FAR_HA)
    assert opened(made) == inner
    assert path.leaving(inner, marks.REVERSE_RANGE + 3) == DROPPED
    assert len(sent(path)) == 1
    answer = packet(destination=GUEST)
    came = arriving(kind, port, answer, FAR_HA, FA)
    assert path.arrived(came, 0, 0) == (ACCEPT, answer, marks.DELIVER)


def test_delivery_is_from_the_visitors_home_agent_only(path: MobilityPath) -> None:
    path.set_visitor(bed.visitor())
    other = packet(packet(destination=GUEST), protocol=4, source=PEER, destination=FA)
    assert path.arrived(other, 0, 0) == DROPPED
    elsewhere = packet(packet(destination=HOA), protocol=4, source=FAR_HA, destination=FA)
    assert path.arrived(elsewhere, 0, 0) == DROPPED


def test_the_encapsulating_style(path: MobilityPath) -> None:
    path.set_visitor(bed.visitor(encapsulating=True))
    inner = packet(source=GUEST, destination=PEER)
    made = packet(inner, protocol=4, source=GUEST, destination=FA)
    assert path.arrived(made, 0, bed.VISITED_LINK) == (ACCEPT, inner, marks.REVERSE)
    assert path.arrived(made, 0, bed.OUTSIDE_LINK) == DROPPED
    forged = packet(packet(source=HOA), protocol=4, source=GUEST, destination=FA)
    assert path.arrived(forged, 0, bed.VISITED_LINK) == DROPPED
    many = packet(source=GUEST, destination=IPv4Address("239.1.1.1"))
    outer = packet(many, protocol=4, source=GUEST, destination=FA)
    assert path.arrived(outer, 0, bed.VISITED_LINK) == DROPPED
    (again,) = sent(path)
    assert bed.ends_of(again) == (FA, FAR_HA)
    assert opened(again) == many


def test_a_visitor_that_left(path: MobilityPath) -> None:
    path.set_visitor(bed.visitor(encapsulating=True))
    path.remove_visitor(FAR_HA.packed, GUEST.packed)
    assert path.leaving(packet(source=GUEST), marks.REVERSE) == DROPPED
    assert not sent(path)
    assert path.counters["no_visitor"] == 1
    assert not path._tables.deliveries
    assert not path._tables.encapsulating
    assert not path._tables.ends_in_use


def test_too_long_from_a_visitor_is_told_on_its_link(path: MobilityPath) -> None:
    path.set_visitor(bed.visitor(limit=100))
    path.leaving(packet(bytes(200), source=GUEST, flags=0x4000), marks.REVERSE)
    assert path.sends[0].mark == marks.DELIVER
    assert bed.ends_of(path.sends[0].octets) == (FA, GUEST)


# Zero overhead.


def udp(ends: bytes, *, source: int = 4500, destination: int = 4500) -> bytes:
    bare = struct.pack("!HHHH", source, destination, 12, 0) + b"data"
    checksum = internet_checksum(ends + struct.pack("!HH", 17, 12) + bare)
    return bare[:6] + checksum.to_bytes(2, "big") + bare[8:]


def test_switching_both_ways(path: MobilityPath) -> None:
    path.set_binding(bed.binding(peer=PEER))
    out = packet(udp(COA.packed + HA.packed), protocol=17, source=COA, destination=HA)
    want = packet(udp(HOA.packed + PEER.packed), protocol=17, source=HOA, destination=PEER)
    assert path.arrived(out, 0, 0) == (ACCEPT, want, marks.HOME)
    answer = packet(udp(PEER.packed + HOA.packed), protocol=17)
    assert path.leaving(answer, 0) == DROPPED
    (made,) = sent(path)
    assert made == packet(udp(HA.packed + COA.packed), protocol=17, source=HA, destination=COA)


def test_h65_what_is_never_switched_travels_in_ip_in_ip(path: MobilityPath) -> None:
    path.set_binding(bed.binding(peer=PEER))
    for one in (
        packet(flags=0x2000),
        packet(flags=0x0004),
        packet(udp(PEER.packed + HOA.packed, source=434), protocol=17),
        packet(udp(PEER.packed + HOA.packed, destination=434), protocol=17),
        packet(packet(), protocol=4),
        packet(source=ROUTER),
    ):
        assert path.leaving(one, 0) == DROPPED
        (made,) = sent(path)
        assert made[9] == 4
        assert opened(made) == one
    fallback = packet(source=HOA, destination=ROUTER)
    outer = packet(fallback, protocol=4, source=COA, destination=HA)
    assert path.arrived(outer, 0, 0) == (ACCEPT, fallback, marks.HOME)
    registration = packet(udp(COA.packed + HA.packed, destination=434), protocol=17, source=COA,
                          destination=HA)  # fmt: skip
    assert path.arrived(registration, 0, 0) == UNCHANGED
    piece = packet(source=COA, destination=HA, flags=0x2000)
    assert path.arrived(piece, 0, 0) == UNCHANGED


def test_h65_an_error_about_a_switched_packet_is_translated(path: MobilityPath) -> None:
    path.set_binding(bed.binding(peer=PEER))
    original = packet(udp(PEER.packed + HOA.packed), protocol=17, flags=0x4000)
    path.leaving(original, 0)
    (switched,) = sent(path)
    error = icmp.error(ROUTER.packed, switched, 3, 4, 1280)
    assert error is not None
    assert path.arrived(error, 0, 0) == DROPPED
    (made,) = sent(path)
    assert bed.ends_of(made) == (HA, PEER)
    told = icmp.parse_error(made)
    assert (told.quote, told.mtu) == (original, 1280)
    own = icmp.error(COA.packed, switched, 3, 3)
    assert own is not None
    verdict, heard, mark = path.arrived(own, 0, 0)
    assert (verdict, mark) == (ACCEPT, marks.HOME)
    assert heard is not None
    assert bed.ends_of(heard) == (HOA, PEER)
    assert icmp.parse_error(heard).quote == original
    broken = error[:-1] + bytes((error[-1] ^ 1,))
    assert path.arrived(broken, 0, 0) == DROPPED


def test_h65_an_error_of_our_own_is_put_right(path: MobilityPath) -> None:
    path.set_binding(bed.binding(peer=PEER))
    original = packet(udp(PEER.packed + HOA.packed), protocol=17)
    half = AddressSwitch(PEER.packed + HOA.packed, PEER.packed + COA.packed).apply(original)
    assert half is not None
    error = icmp.error(HA.packed, half, 11, 0)
    assert error is not None
    for tunnelled in (True, False):
        verdict, made, _ = path.leaving(error, 0, tunnelled=tunnelled)
        assert verdict == ACCEPT
        assert made is not None
        assert icmp.parse_error(made).quote == original
    other = icmp.error(HA.packed, packet(), 11, 0)
    assert other is not None
    assert path.leaving(other, 0, tunnelled=False) == UNCHANGED


def test_a_switched_packet_too_long_for_the_link(path: MobilityPath) -> None:
    path.set_binding(bed.binding(peer=PEER))
    original = packet(bytes(1200), flags=0x4000)
    path.leaving(original, 0)
    (one,) = path.sends
    path.sends.clear()
    path.too_long(one, 1000)
    (made,) = sent(path)
    assert bed.ends_of(made)[1] == PEER
    told = icmp.parse_error(made)
    assert told.mtu == 1000
    assert original.startswith(told.quote)


# Errors of the path (RFC 2003).


@each_tunnel
def test_h65_an_error_about_a_tunnel_packet_reaches_the_inner_sender(
    path: MobilityPath, kind: Encapsulation, port: int
) -> None:
    path.set_binding(bed.binding(encapsulation=kind, udp_port=port))
    inner = packet(bytes(900), flags=0x4000)
    path.leaving(inner, 0)
    (made,) = sent(path)
    overhead = len(made) - len(inner)
    too_big = icmp.error(ROUTER.packed, made, 3, 4, 800)
    assert too_big is not None
    told_apart = kind is Encapsulation.MINIMAL
    if not told_apart:
        assert path.arrived(too_big, 0, 0) == DROPPED
        assert not sent(path), "DF is clear: no router sends this"
    for error, wanted in (
        *(((too_big, (3, 4, 800 - overhead)),) if told_apart else ()),
        (icmp.error(ROUTER.packed, made, 3, 0), (3, 1, 0)),
        (icmp.error(ROUTER.packed, made, 11, 0), (3, 1, 0)),
    ):
        assert error is not None
        assert path.arrived(error, 0, 0) == DROPPED
        (told,) = [icmp.parse_error(one) for one in sent(path)]
        assert (told.type, told.code, told.mtu) == wanted
        assert told.quote[12:20] == inner[12:20]
    for kind_, code in ((4, 0), (5, 1), (12, 0), (3, 5)):
        error = icmp.error(ROUTER.packed, made, kind_, code)
        assert error is not None
        assert path.arrived(error, 0, 0) == DROPPED
        assert not sent(path)
    shorter = packet(bytes(800))
    path.leaving(shorter, 0)
    assert len(sent(path)) == (2 if told_apart else 1), "the path MTU is remembered"
    path.advance(601.0)
    path.leaving(shorter, 0)
    assert len(sent(path)) == 1


def test_h65_an_error_that_quotes_too_little_is_told_with_the_next_packet(
    path: MobilityPath,
) -> None:
    path.set_binding(bed.binding())
    path.leaving(packet(), 0)
    (made,) = sent(path)
    error = icmp.error(ROUTER.packed, made[:28], 3, 1)
    assert error is not None
    assert path.arrived(error, 0, 0) == DROPPED
    assert not sent(path)
    path.leaving(packet(), 0)
    told, again = sent(path)
    assert icmp.parse_error(told).code == 1
    assert opened(again) == packet()
    path.leaving(packet(), 0)
    assert len(sent(path)) == 1, "told once"


def test_h65_forged_errors_change_nothing(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    inner = packet(bytes(900), flags=0x4000)
    path.leaving(inner, 0)
    (made,) = sent(path)
    stranger = packet(made[20:], protocol=4, source=HA, destination=COA_2)
    elsewhere = packet(packet(source=ROUTER, destination=ROUTER), protocol=4, source=HA,
                       destination=COA)  # fmt: skip
    tiny = icmp.error(ROUTER.packed, made, 3, 4, 68)
    for error in (
        icmp.error(ROUTER.packed, stranger, 3, 4, 800),
        icmp.error(ROUTER.packed, elsewhere, 3, 4, 800),
        icmp.error(ROUTER.packed, made[:28], 3, 4, 800),
        tiny,
    ):
        assert error is not None
        path.arrived(error, 0, 0)
        assert not sent(path)
    path.leaving(inner, 0)
    assert len(sent(path)) == 1


def test_state_of_tunnels_is_bounded(path: MobilityPath) -> None:
    for number in range(50):
        care_of = IPv4Address(int(COA) + number)
        path.set_binding(bed.binding(care_of))
        path.leaving(packet(), 0)
        error = icmp.error(ROUTER.packed, sent(path)[-1][:28], 3, 1)
        assert error is not None
        path.arrived(error, 0, 0)
        assert len(path._errors.states) <= 3


# Broadcasts and multicasts.

ALL = IPv4Address("255.255.255.255")
DIRECTED = IPv4Address("10.0.0.255")
GROUP = IPv4Address("239.1.2.3")
AT_HOME = IPv4Address("10.0.0.200")


def report(*records: tuple[int, IPv4Address, int], source: IPv4Address = HOA) -> bytes:
    body = b"".join(
        struct.pack("!BBH4s", kind, 0, sources, group.packed) + bytes(4 * sources)
        for kind, group, sources in records
    )
    bare = struct.pack("!BBHHH", 0x22, 0, 0, 0, len(records)) + body
    message = bare[:2] + internet_checksum(bare).to_bytes(2, "big") + bare[4:]
    return packet(message, protocol=2, source=source, destination=IPv4Address("224.0.0.22"))


def by_tunnel(inner: bytes) -> bytes:
    return packet(inner, protocol=4, source=COA, destination=HA)


@pytest.mark.parametrize("destination", [ALL, DIRECTED])
def test_broadcasts_go_to_those_who_want_them(path: MobilityPath, destination: IPv4Address) -> None:
    path.set_binding(bed.binding(broadcasts=True))
    path.set_binding(bed.binding(COA_2, address=HOA_2))
    one = packet(source=AT_HOME, destination=destination)
    assert path.arrived(one, 0, bed.HOME_LINK) == UNCHANGED
    (made,) = sent(path)
    assert opened(made) == one
    assert path.arrived(one, marks.SENT + 1, bed.HOME_LINK) == UNCHANGED
    assert path.arrived(one, 0, bed.OUTSIDE_LINK) == UNCHANGED
    assert not sent(path)


def test_broadcasts_by_way_of_a_foreign_agent_are_encapsulated_twice(path: MobilityPath) -> None:
    path.set_binding(bed.binding(broadcasts=True, co_located=False, limit=100))
    one = packet(source=AT_HOME, destination=ALL)
    path.arrived(one, 0, bed.HOME_LINK)
    (made,) = sent(path)
    middle = opened(made)
    assert bed.ends_of(made) == (HA, COA)
    assert bed.ends_of(middle) == (HA, HOA)
    assert opened(middle) == one
    path.arrived(packet(bytes(150), source=AT_HOME, destination=ALL), 0, bed.HOME_LINK)
    assert all(len(opened(made)) <= 100 for made in sent(path))


def test_multicasts_go_to_members(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    one = packet(source=AT_HOME, destination=GROUP)
    path.arrived(one, 0, bed.HOME_LINK)
    assert not sent(path)
    assert path.arrived(by_tunnel(report((4, GROUP, 0))), 0, 0) == DROPPED
    assert [(change.device, change.joined) for change in path.group_changes] == [
        (bed.HOME_LINK, True)
    ]
    path.arrived(one, 0, bed.HOME_LINK)
    assert [opened(made) for made in sent(path)] == [one]
    path.set_binding(bed.binding(COA_2))
    path.arrived(one, 0, bed.HOME_LINK)
    assert [bed.ends_of(made)[1] for made in sent(path)] == [COA_2]
    path.arrived(packet(report((3, GROUP, 0)), protocol=4, source=COA_2, destination=HA), 0, 0)
    assert path.group_changes[-1].joined is False
    path.arrived(one, 0, bed.HOME_LINK)
    assert not sent(path)


def test_a_member_that_goes_leaves_its_groups(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    path.arrived(by_tunnel(report((4, GROUP, 0))), 0, 0)
    path.remove_binding(HA.packed, HOA.packed)
    assert [change.joined for change in path.group_changes] == [True, False]


def test_a_member_that_changes_its_home_network_leaves_its_groups(path: MobilityPath) -> None:
    virtual = HomeNetwork("virtual", IPv4Network("10.0.0.0/24"))
    path.reconfigure(replace(bed.SETTINGS, home_networks=(bed.HOME, virtual)), bed.DEVICES)
    path.set_binding(bed.binding(broadcasts=True))
    path.arrived(by_tunnel(report((4, GROUP, 0))), 0, 0)
    path.set_binding(bed.binding(network=virtual, broadcasts=True))
    assert [change.joined for change in path.group_changes] == [True, False]
    path.arrived(packet(source=AT_HOME, destination=ALL), 0, bed.HOME_LINK)
    assert not sent(path)


def test_a_home_network_that_is_configured_later() -> None:
    path = MobilityPath(replace(bed.SETTINGS, home_networks=()))
    path.set_binding(bed.binding(broadcasts=True))
    path.reconfigure(bed.SETTINGS, bed.DEVICES)
    path.arrived(packet(source=AT_HOME, destination=ALL), 0, bed.HOME_LINK)
    assert len(sent(path)) == 1


def test_memberships_are_bounded(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    groups = [IPv4Address(int(GROUP) + number) for number in range(60)]
    path.arrived(by_tunnel(report(*((4, group, 0) for group in groups))), 0, 0)
    assert len(path.group_changes) == 32
    path.arrived(by_tunnel(report(*((4, group, 0) for group in groups * 2))), 0, 0)
    assert path.counters["malformed"] == 1, "a report of too many groups"


def test_reports_that_are_broken_change_nothing(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    whole = report((4, GROUP, 0), (4, IPv4Address("239.1.2.4"), 2))
    for cut in range(20, len(whole)):
        body = whole[20:cut]
        if len(body) >= 4:
            bare = body[:2] + bytes(2) + body[4:]
            body = bare[:2] + internet_checksum(bare).to_bytes(2, "big") + bare[4:]
        one = packet(body, protocol=2, source=HOA, destination=GROUP)
        assert path.arrived(by_tunnel(one), 0, 0) == DROPPED
    assert not path.group_changes


def test_what_a_mobile_node_sends_to_many(path: MobilityPath) -> None:
    path.set_binding(bed.binding(broadcasts=True))
    path.set_binding(bed.binding(COA_2, address=HOA_2, broadcasts=True))
    for destination in (ALL, DIRECTED):
        one = packet(source=HOA, destination=destination)
        assert path.arrived(by_tunnel(one), 0, 0) == DROPPED
        on_link, copy = path.sends
        path.sends.clear()
        assert (on_link.octets, on_link.device) == (one, bed.HOME_LINK)
        assert bed.ends_of(copy.octets) == (HA, COA_2)


def test_a_virtual_home_network_has_no_link(path: MobilityPath) -> None:
    virtual = HomeNetwork("virtual", IPv4Network("10.7.0.0/24"))
    path.reconfigure(replace(bed.SETTINGS, home_networks=(virtual,)), {})
    for care_of, address in ((COA, "10.7.0.5"), (COA_2, "10.7.0.6")):
        path.set_binding(
            bed.binding(care_of, address=IPv4Address(address), network=virtual, broadcasts=True)
        )
    one = packet(source=IPv4Address("10.7.0.5"), destination=IPv4Address("10.7.0.255"))
    assert path.arrived(by_tunnel(one), 0, 0) == DROPPED
    assert [bed.ends_of(made)[1] for made in sent(path)] == [COA_2]


def test_copies_are_limited(path: MobilityPath) -> None:
    for number in range(60):
        path.set_binding(bed.binding(address=IPv4Address(int(HOA) + number), broadcasts=True))
    one = packet(source=AT_HOME, destination=ALL)
    for _ in range(100):
        path.arrived(one, 0, bed.HOME_LINK)
    assert len(sent(path)) == 5000
    assert path.counters["copies_refused"] > 0


def test_a_home_network_that_is_no_more_leaves_its_groups(path: MobilityPath) -> None:
    path.set_binding(bed.binding())
    path.arrived(by_tunnel(report((4, GROUP, 0))), 0, 0)
    path.group_changes.clear()
    path.reconfigure(bed.SETTINGS, {**bed.DEVICES, "home0": 9})
    assert [(one.device, one.joined) for one in path.group_changes] == [(3, False), (9, True)]
    path.group_changes.clear()
    path.reconfigure(replace(bed.SETTINGS, home_networks=()), bed.DEVICES)
    assert [(one.device, one.joined) for one in path.group_changes] == [(9, False)]

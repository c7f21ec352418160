"""Octets and words that the mobile node's dataplane gives to the kernel."""

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.netlink import attributes
from gateway.dataplane.kernel.node import constants, switch
from gateway.dataplane.kernel.node.hold import MAX_OCTETS, MAX_PACKETS, HeldPackets
from gateway.dataplane.kernel.node.tunnels import TunnelDevice
from gateway.dataplane.kernel.routing import SCOPE_HOST, Address, Route, Rule, delete_route
from gateway.dataplane.node import NodeSettings, Peers

ROUTER, SOURCE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.10")
AGENT = IPv4Address("198.51.100.2")
HEADER = 16
SETTINGS = NodeSettings(
    Peers((IPv4Address("198.51.100.3"),), (AGENT,), (IPv4Address("10.1.0.1"),)),
    accept_inside=(
        ("tcp", 22, IPv4Network("10.0.0.0/8")),
        ("tcp", 22, IPv4Network("10.1.0.0/16")),
        ("udp", 69, IPv4Network("10.1.0.0/16")),
    ),
)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def test_a_route_by_a_router_names_it_on_its_link() -> None:
    message = Route(0x4763, IPv4Network("10.0.0.0/8"), 7, ROUTER, SOURCE, 1400, 1360).set()
    family, prefix, _, _, table, protocol, scope, kind, flags = struct.unpack_from(
        "=BBBBBBBBI", message, HEADER
    )
    assert (family, prefix, table, protocol, scope, kind, flags) == (2, 8, 0, 71, 0, 1, 4)
    found = attributes(message, HEADER + 12)
    assert found[1] == IPv4Address("10.0.0.0").packed
    assert found[4] == u32(7)
    assert found[5] == ROUTER.packed
    assert found[7] == SOURCE.packed
    assert found[15] == u32(0x4763)
    assert attributes(found[8], 0) == {2: u32(1400), 8: u32(1360)}


def test_a_route_to_a_device_is_of_link_scope_and_has_no_router() -> None:
    message = Route(0x4763, IPv4Network("0.0.0.0/0"), 7).set()
    assert message[HEADER + 6] == 253
    assert set(attributes(message, HEADER + 12)) == {4, 15}
    assert set(attributes(delete_route((0x4763, IPv4Network("0.0.0.0/0"))), HEADER + 12)) == {15}


def test_rules_match_marks_ports_and_everything_else() -> None:
    message = Rule(9, 0x4763, 0x47580000, 0xFFFF0000, invert=True).add()
    assert struct.unpack_from("=I", message, HEADER + 8)[0] == 2
    found = attributes(message, HEADER + 12)
    assert (found[6], found[10], found[16]) == (u32(9), u32(0x47580000), u32(0xFFFF0000))
    ports = attributes(Rule(9, 254, udp_ports=(68, 67)).add(), HEADER + 12)
    assert (ports[22], ports[23], ports[24]) == (
        b"\x11",
        struct.pack("=HH", 68, 68),
        struct.pack("=HH", 67, 67),
    )
    assert attributes(Rule(9, 254, no_default=True).add(), HEADER + 12)[14] == u32(0)
    assert message[HEADER + 4] == 0
    assert Rule(9, 254).delete()[HEADER + 4] == 254


def test_an_address_is_of_host_scope_and_makes_no_route() -> None:
    message = Address(5, SOURCE).add()
    assert struct.unpack_from("=BBBBI", message, HEADER) == (2, 32, 0, SCOPE_HOST, 5)
    assert attributes(message, HEADER + 8) == {
        1: SOURCE.packed,
        2: SOURCE.packed,
        8: u32(0x200),
        9: u32(0x4758),
    }


@pytest.mark.parametrize("name", constants.TUNNELS)
def test_a_tunnel_is_changed_in_place_without_its_name(name: str) -> None:
    device = TunnelDevice(name, SOURCE, AGENT, 2, constants.NODE_LINK, 1380)
    made = attributes(device.make(), HEADER + 16)
    changed = attributes(device.change(9), HEADER + 16)
    assert made[3] == name.encode() + b"\0"
    assert 3 not in changed
    assert made[18] == changed[18]
    assert made[27] == u32(constants.DEVICE_GROUP)
    data = attributes(attributes(made[18], 0)[2], 0)
    local, remote, ttl, pmtu = (6, 7, 8, 10) if device.gre else (2, 3, 4, 10)
    assert (data[local], data[remote]) == (SOURCE.packed, AGENT.packed)
    assert (data[ttl], data[pmtu], data[20]) == (b"\x40", b"\0", u32(constants.NODE_LINK))


def test_a_udp_tunnel_is_gre_in_fou_between_the_mobile_ip_ports() -> None:
    device = TunnelDevice(constants.OUTER_GRE, SOURCE, AGENT, 2, 1, 1380, 4434)
    data = attributes(attributes(attributes(device.make(), HEADER + 16)[18], 0)[2], 0)
    assert data[14] == struct.pack("=H", 1)
    assert (data[16], data[17]) == (struct.pack("!H", 434), struct.pack("!H", 4434))
    plain = replace(device, udp_port=0)
    data = attributes(attributes(attributes(plain.make(), HEADER + 16)[18], 0)[2], 0)
    assert data[14] == bytes(2)


def test_the_ruleset_names_the_peers_and_leaves_no_placeholder() -> None:
    text = switch.render(SETTINGS)
    assert "$" not in text
    assert "elements = { 198.51.100.3 }" in text
    assert "elements = { 0xc6336403 }" in text
    assert "tcp . 22 . 10.0.0.0/8, udp . 69 . 10.1.0.0/16" in text
    assert "elements = { }" not in switch.render(NodeSettings(Peers()))


def test_names_that_would_leave_their_quotes_are_refused() -> None:
    with pytest.raises(ValueError, match="xfrm_interface"):
        switch.render(SETTINGS, 'x"; flush ruleset; "')
    with pytest.raises(ValueError, match="interface"):
        switch.permit('x" }; flush ruleset', 5.0)
    bad = replace(SETTINGS, accept_inside=(("sctp", 1, IPv4Network("10.0.0.0/8")),))
    with pytest.raises(ValueError, match="accept_inside"):
        switch.render(bad)


def test_only_sets_that_changed_are_written() -> None:
    before = {"home": ("10.1.0.77",), "late": ("192.0.2.2 . 192.0.2.9 : 192.0.2.10",)}
    after = {"home": ("10.1.0.77",), "direct": ("192.0.2.0/24",)}
    assert switch.change(before, before) == ""
    assert switch.change(before, after).splitlines() == [
        "flush set inet gateway_node direct",
        "add element inet gateway_node direct { 192.0.2.0/24 }",
        "flush map inet gateway_node late",
    ]


def packet(octets: int) -> bytes:
    return b"\x45" + bytes(octets - 1)


def test_the_newest_packets_are_dropped_beyond_the_bounds() -> None:
    held = HeldPackets()
    kept = [held.keep(packet(20 + number)) for number in range(MAX_PACKETS + 3)]
    assert kept == [True] * MAX_PACKETS + [False] * 3
    assert [len(one) for one in held.take()] == list(range(20, 20 + MAX_PACKETS))
    assert held.dropped == 3
    assert held.take() == []


@given(st.lists(st.binary(max_size=9000), max_size=200))
def test_whatever_comes_the_bounds_hold(packets: list[bytes]) -> None:
    held = HeldPackets()
    for one in packets:
        assert held.keep(one) is False or one[0] >> 4 == 4
    taken = held.take()
    assert len(taken) <= MAX_PACKETS
    assert sum(map(len, taken)) <= MAX_OCTETS

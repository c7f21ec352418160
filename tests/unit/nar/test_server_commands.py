"""Each command of the NAR server in each mode."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from nar_server_world import (
    ANY,
    LEASES,
    NB,
    NB2,
    POLICY,
    RULE,
    XA,
    XA2,
    YB,
    YB2,
    World,
)

from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.nar.codec.numbers import NarFlag, Reply, SocksCommand
from gateway.nar.codec.request import SocksRequest
from gateway.nar.policy import NarRule

MODES = {
    Delivery.IP_IP: LEASES,
    Delivery.GRE: LEASES | NarFlag.GRE,
    Delivery.L2TP: LEASES | NarFlag.L2TP,
    Delivery.TRANSLATED: LEASES | NarFlag.TRANSLATED,
}
modes = pytest.mark.parametrize("delivery", MODES)
OK = Reply.SUCCEEDED


def only(world: World) -> NarMapping:
    (mapping,) = world.table.values()
    return mapping


@modes
def test_connect_leases_a_port_towards_one_remote(delivery: Delivery) -> None:
    world = World()
    client = world.client(flags=MODES[delivery])
    reply = client.connect(YB2, 443)
    assert (reply.reply, reply.address) == (OK, NB)
    assert 20_000 <= reply.port < 20_100
    key = NarTuple(NarProtocol.TCP, NB, reply.port, YB2, 443)
    assert only(world) == NarMapping("soho", key, XA, delivery, 0, YB2)


@modes
def test_bind_leases_the_port_wished_for(delivery: Delivery) -> None:
    world = World()
    client = world.client(flags=MODES[delivery])
    assert client.bind(20_010).port == 20_010
    key = NarTuple(NarProtocol.TCP, NB, 20_010)
    assert only(world) == NarMapping("soho", key, XA, delivery, 0, None)


def test_bind_names_who_may_connect() -> None:
    world = World()
    port = world.client().bind(0, YB2).port
    assert only(world).tuple == NarTuple(NarProtocol.TCP, NB, port, YB2)
    assert only(world).peer == YB2


def test_bind_beyond_the_ranges_holds_the_port_from_the_box() -> None:
    world = World()
    client = world.client(flags=LEASES)
    assert client.bind(8080).port == 8080
    (key,) = world.held
    assert key == NarTuple(NarProtocol.TCP, NB, 8080)
    client.release(key)
    assert not world.held
    assert not world.table


@pytest.mark.parametrize("wish", [80, 30_000])
def test_bind_gives_another_port_when_the_wish_is_not_allowed(wish: int) -> None:
    world = World()
    port = world.client().bind(wish).port
    assert 20_000 <= port < 20_100
    assert only(world).client_port == 0
    assert f"asked for TCP port {wish}: rule staff allows 20000-20099 and 8080 and 443" in (
        world.why()
    )


def test_bind_translated_keeps_the_clients_own_port() -> None:
    world = World()
    client = world.client(flags=NarFlag.TRANSLATED)
    port = client.bind(80).port
    assert port != 80
    assert only(world) == NarMapping(
        "soho", NarTuple(NarProtocol.TCP, NB, port), XA, Delivery.TRANSLATED, 80, None
    )
    assert client.bind(80).port == port, "asking again is to have the same"
    assert len(world.table) == 1


def test_a_clients_own_port_is_never_that_of_two_translated_leases() -> None:
    """Packets from the client's port have to say which lease they are of."""
    world = World(policy=replace(POLICY, ports=(range(20_000, 20_003),)))
    client = world.client(flags=NarFlag.TRANSLATED)
    other = world.client(XA2)
    assert other.bind(20_001).port == 20_001
    port = client.bind(20_001).port
    assert port != 20_001
    other.hang_up()
    world.pass_time(POLICY.grace_s + 1)
    granted = client.bind().port
    assert granted not in (port, 20_001)
    assert client.bind().reply is Reply.GENERAL_FAILURE, "20001 is free, but in use inside"
    assert client.bind(20_001, YB2).reply is Reply.GENERAL_FAILURE
    assert "its port 20001 is in use" in world.why()


@modes
def test_udp_associate_is_open_to_every_source(delivery: Delivery) -> None:
    world = World()
    client = world.client(flags=MODES[delivery])
    assert client.udp(20_005).port == 20_005
    key = NarTuple(NarProtocol.UDP, NB, 20_005)
    assert only(world) == NarMapping("soho", key, XA, delivery, 0, YB)


def test_udp_associate_with_a_peer_of_its_own() -> None:
    world = World()
    world.client().udp(0, YB2)
    assert only(world).peer == YB2


def test_udp_with_its_remote_shares_ports_by_the_remote_port() -> None:
    world = World(policy=replace(POLICY, ports=(range(20_000, 20_001),)))
    one, two = world.client(XA, flags=LEASES), world.client(XA2, flags=LEASES)
    assert one.udp(53, YB, remote=True).port == 20_000
    assert two.udp(53, YB2, remote=True).reply is Reply.GENERAL_FAILURE
    assert two.udp(123, YB2, remote=True).port == 20_000
    assert {one.tuple for one in world.table.values()} == {
        NarTuple(NarProtocol.UDP, NB, 20_000, None, 53),
        NarTuple(NarProtocol.UDP, NB, 20_000, None, 123),
    }


def test_connections_share_ports_only_when_none_is_free() -> None:
    world = World(policy=replace(POLICY, ports=(range(20_000, 20_002),)))
    one, two = world.client(XA), world.client(XA2)
    first, second = one.connect(YB, 443).port, one.connect(YB, 80).port
    assert first != second
    assert {two.connect(YB2, 443).port, two.connect(YB2, 443).port} == {first, second}
    assert two.connect(YB2, 443).reply is Reply.GENERAL_FAILURE
    assert "none is left" in world.why()
    assert two.bind().reply is Reply.GENERAL_FAILURE, "nobody else's ports are for everybody"


def test_a_port_with_a_wildcard_is_its_clients_alone() -> None:
    world = World(policy=replace(POLICY, ports=(range(20_000, 20_001),)))
    one, two = world.client(XA), world.client(XA2)
    assert one.bind(20_000, YB).port == 20_000
    assert two.connect(YB2, 443).reply is Reply.GENERAL_FAILURE
    assert two.bind(20_000, YB2).reply is Reply.GENERAL_FAILURE
    assert one.bind(20_000, YB2).port == 20_000, "another partner at its own port"
    assert one.bind(20_000).reply is Reply.GENERAL_FAILURE


@modes
def test_icmp_associate(delivery: Delivery) -> None:
    world = World()
    client = world.client(flags=MODES[delivery])
    reply = client.icmp()
    assert reply.identifier in POLICY.icmp_ids
    key = NarTuple(NarProtocol.ICMP, NB, reply.identifier, YB)
    assert only(world) == NarMapping("soho", key, XA, delivery, 0, YB)
    assert client.icmp(0xC123).identifier == 0xC123
    assert client.icmp(5).identifier in POLICY.icmp_ids


def test_icmp_identifiers_are_the_same_for_different_targets_only() -> None:
    world = World()
    one, two, three = world.client(XA), world.client(XA2, target=YB2), world.client("10.0.0.9")
    assert one.icmp(0xC123).identifier == 0xC123
    assert two.icmp(0xC123).identifier == 0xC123
    assert three.icmp(0xC123).identifier != 0xC123


@modes
def test_ipsec_associate(delivery: Delivery) -> None:
    world = World()
    client = world.client(flags=MODES[delivery])
    reply = client.ipsec(50)
    assert reply.spi in POLICY.spis
    key = NarTuple(NarProtocol.ESP, NB, reply.spi)
    assert only(world) == NarMapping("soho", key, XA, delivery, 0, YB)
    assert client.ipsec(50, 0x5555_0001).spi == 0x5555_0001


@modes
def test_ah_is_end_to_end_only(delivery: Delivery) -> None:
    world = World()
    client = world.client(flags=MODES[delivery])
    reply = client.ipsec(51)
    if delivery.end_to_end:
        assert only(world).tuple == NarTuple(NarProtocol.AH, NB, reply.spi)
    else:
        assert (reply.reply, reply.protocol, reply.spi) == (Reply.NOT_ALLOWED, 0, 0)
        assert "it covers the addresses, use end-to-end mode" in world.why()


def test_an_spi_is_of_one_client_for_esp_and_ah() -> None:
    world = World()
    one, two = world.client(XA), world.client(XA2)
    assert one.ipsec(50, 0x5555_0001).spi == 0x5555_0001
    assert two.ipsec(51, 0x5555_0001).spi != 0x5555_0001
    assert one.ipsec(51, 0x5555_0001).spi == 0x5555_0001, "both protocols of one peer"
    assert len([key for key in world.table if key.value == 0x5555_0001]) == 2


@modes
@pytest.mark.parametrize("protocol", [4, 47])
def test_tunnel_associate(delivery: Delivery, protocol: int) -> None:
    world = World()
    client = world.client(flags=MODES[delivery])
    reply = client.tunnel("172.16.0.9", protocol)
    assert (reply.reply, reply.inner, reply.protocol) == (
        OK,
        IPv4Address("172.16.0.9"),
        protocol,
    )
    inner = int(IPv4Address("172.16.0.9"))
    key = NarTuple(NarProtocol(protocol), NB, inner, YB)
    assert only(world) == NarMapping("soho", key, XA, delivery, 0, YB)


def test_the_same_home_address_towards_different_home_agents() -> None:
    """Two mobile nodes may have the same private address (section 2.6.3)."""
    world = World()
    assert world.client(XA).tunnel().reply is OK
    assert world.client(XA2, target=YB2).tunnel().reply is OK
    assert world.client("10.0.0.9", target=YB2).tunnel().reply is Reply.GENERAL_FAILURE


@pytest.mark.parametrize(
    ("flags", "granted", "delivery"),
    [
        (0, 0, Delivery.IP_IP),
        (NarFlag.GRE, NarFlag.GRE, Delivery.GRE),
        (NarFlag.L2TP, 0, Delivery.IP_IP),
        (NarFlag.L2TP | LEASES, NarFlag.L2TP | LEASES, Delivery.L2TP),
        (NarFlag.GRE | NarFlag.L2TP | LEASES, NarFlag.GRE | LEASES, Delivery.GRE),
        (NarFlag.TRANSLATED | NarFlag.GRE, NarFlag.TRANSLATED, Delivery.TRANSLATED),
        (0x7F, NarFlag.TRANSLATED, Delivery.TRANSLATED),
        (0x78, 0, Delivery.IP_IP),
    ],
)
def test_flags_of_nar_mode(flags: int, granted: int, delivery: Delivery) -> None:
    """Translated outweighs the rest; unknown bits are ignored; L2TP needs our extension."""
    world = World()
    client = world.dial()
    assert client is not None
    client.login()
    reply = client.nar_mode(YB, flags)
    assert (reply.reply, reply.flags, reply.address, reply.port) == (OK, granted, NB, 0)
    client.connect()
    assert only(world).delivery is delivery


@pytest.mark.parametrize("imposed", Delivery)
def test_the_server_imposes(imposed: Delivery) -> None:
    world = World(policy=replace(POLICY, impose=imposed))
    client = world.dial()
    assert client is not None
    client.login()
    reply = client.nar_mode(YB, NarFlag.GRE)
    if imposed is Delivery.L2TP:
        assert reply.reply is Reply.NOT_ALLOWED
        assert "imposed" in world.why()
    else:
        client.connect()
        assert only(world).delivery is imposed


def test_a_delivery_that_the_rule_forbids_is_replaced() -> None:
    rule = replace(RULE, deliveries=frozenset({Delivery.GRE, Delivery.TRANSLATED}))
    world = World(policy=replace(POLICY, rules=(rule,)))
    client = world.dial()
    assert client is not None
    client.login()
    assert client.nar_mode(YB, 0).flags == NarFlag.GRE
    nothing = replace(RULE, deliveries=frozenset())
    world = World(policy=replace(POLICY, rules=(nothing,)))
    client = world.dial()
    assert client is not None
    client.login()
    assert client.nar_mode(YB, 0).reply is Reply.NOT_ALLOWED


def test_nar_mode_again_is_for_what_comes_next() -> None:
    world = World()
    client = world.client(target=YB, flags=LEASES)
    first = client.icmp().identifier
    assert client.nar_mode(YB2, LEASES | NarFlag.TRANSLATED).reply is OK
    second = client.icmp().identifier
    by_target = {one.tuple.remote: one for one in world.table.values()}
    assert by_target[YB].tuple.value == first
    assert by_target[YB].delivery is Delivery.IP_IP
    assert by_target[YB2].tuple.value == second
    assert by_target[YB2].delivery is Delivery.TRANSLATED


def test_a_refused_nar_mode_leaves_the_mode_as_it_was() -> None:
    world = World()
    client = world.client(target=YB)
    assert client.nar_mode(IPv4Address("127.0.0.1")).reply is Reply.NOT_ALLOWED
    assert client.icmp().reply is OK
    assert only(world).tuple.remote == YB


def test_without_a_target_what_needs_one_is_refused() -> None:
    world = World()
    client = world.client(target=ANY)
    assert client.icmp().reply is Reply.NOT_ALLOWED
    assert client.tunnel().reply is Reply.NOT_ALLOWED
    assert client.ipsec().reply is OK
    assert client.udp().reply is OK
    assert {one.peer for one in world.table.values()} == {None}


def test_the_first_address_with_room_is_lent() -> None:
    world = World(policy=replace(POLICY, addresses=(NB, NB2), ports=(range(20_000, 20_002),)))
    one = world.client(XA)
    for _ in range(2):
        assert one.bind().address == NB
        assert one.udp().address == NB
    assert one.bind().reply is Reply.GENERAL_FAILURE
    assert world.client(XA2).bind().address == NB2
    assert world.client(XA, port=40_001).connect().reply is Reply.GENERAL_FAILURE, (
        "a host has one address, however many connections"
    )


def test_l2tp_associate_tells_the_session_that_delivers() -> None:
    world = World()
    client = world.client(flags=LEASES | NarFlag.L2TP)
    reply = client.l2tp()
    session = world.l2tp[XA]
    assert reply.session(XA) == session
    assert client.l2tp() == reply, "asking again is to have the same"
    assert len({session.cookie, session.peer_cookie}) == 2
    client.connect()
    other = world.client(XA, flags=LEASES | NarFlag.L2TP, port=40_001)
    assert other.l2tp() == reply, "a host has one device"
    client.hang_up()
    world.pass_time(POLICY.grace_s + 1)
    assert world.l2tp == {XA: session}
    other.hang_up()
    assert not world.l2tp


def test_l2tp_associate_is_for_that_delivery() -> None:
    world = World()
    assert world.client(flags=LEASES).l2tp().reply is Reply.NOT_ALLOWED
    assert not world.l2tp


def test_names_are_resolved_once_and_the_checked_address_is_used() -> None:
    world = World(names={"peer.example": [IPv4Address("127.0.0.1"), YB2]})
    client = world.dial()
    assert client is not None
    client.login()
    assert client.nar_mode("peer.example").reply is OK
    client.icmp()
    assert only(world).tuple.remote == YB2


def test_while_a_name_is_resolved_other_commands_wait() -> None:
    world = World(names={"peer.example": [YB2]}, answers=False)
    client = world.client()
    connect = SocksRequest(SocksCommand.CONNECT, "peer.example", 80).to_octets()
    bind = SocksRequest(SocksCommand.BIND, ANY, 20_010).to_octets()
    assert client.say(connect + bind) == b""
    assert len(world.questions) == 1, "one question at a time"
    world.answer()
    world.pump()
    assert len(client.heard) == 20
    assert client.heard.endswith((20_010).to_bytes(2, "big")), "in their order"
    assert {one.tuple.remote_port for one in world.table.values()} == {80, None}


@pytest.mark.parametrize("protocol", NarProtocol)
def test_a_rule_without_a_protocol(protocol: NarProtocol) -> None:
    rule = replace(RULE, protocols=frozenset(NarProtocol) - {protocol})
    world = World(policy=replace(POLICY, rules=(rule,)))
    client = world.client()
    replies = {
        NarProtocol.TCP: client.connect,
        NarProtocol.UDP: client.udp,
        NarProtocol.ICMP: client.icmp,
        NarProtocol.ESP: lambda: client.ipsec(50),
        NarProtocol.AH: lambda: client.ipsec(51),
        NarProtocol.IP_IP: lambda: client.tunnel(protocol=4),
        NarProtocol.GRE: lambda: client.tunnel(protocol=47),
    }
    for each, ask in replies.items():
        assert ask().reply is (Reply.NOT_ALLOWED if each is protocol else OK), each
    assert all(one.tuple.protocol is not protocol for one in world.table.values())


def test_the_first_rule_that_fits_counts() -> None:
    rules = (
        NarRule("guests", users=frozenset({"guest"}), protocols=frozenset({NarProtocol.UDP})),
        NarRule("admins", users=frozenset(), groups=frozenset({"admin"})),
    )
    policy = replace(POLICY, rules=rules, trusted=(), backend="local", require_tls=False)
    users = {"guest": (), "root": ("admin",), "ann": ()}
    world = World(policy=policy, users=users)
    assert world.client(user="root").connect().reply is OK
    assert world.client(XA2, user="guest").connect().reply is Reply.NOT_ALLOWED
    assert "rule guests allows UDP" in world.why()
    stranger = world.dial("10.0.0.9")
    assert stranger is not None
    stranger.login("ann")
    assert stranger.nar_mode().reply is Reply.NOT_ALLOWED
    assert "client 10.0.0.9 (ann) asked for something, but fits no rule" in world.why()


def test_limits_of_lease_counts_are_per_client_and_per_server() -> None:
    rule = replace(RULE, max_leases=3)
    world = World(policy=replace(POLICY, rules=(rule,), max_leases=5))
    one, again = world.client(XA), world.client(XA, port=40_001)
    assert [one.connect().reply, one.ipsec().reply, again.icmp().reply] == [OK] * 3
    assert one.bind().reply is Reply.NOT_ALLOWED
    assert "it has 3, as many as rule staff allows" in world.why()
    other = world.client(XA2)
    assert [other.bind().reply, other.bind().reply] == [OK] * 2
    assert other.bind().reply is Reply.GENERAL_FAILURE
    assert len(world.table) == 5


def test_what_the_box_uses_is_not_leased() -> None:
    world = World(policy=replace(POLICY, ports=(range(20_000, 20_002),)))
    world.busy = {(NarProtocol.TCP, 20_000), (NarProtocol.ESP, 0x5000_0000)}
    client = world.client()
    assert client.bind(20_000).port == 20_001
    assert client.ipsec(50, 0x5000_0000).spi != 0x5000_0000
    assert client.connect().reply is Reply.GENERAL_FAILURE, "there is no other"

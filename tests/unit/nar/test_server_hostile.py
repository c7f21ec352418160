"""What the NAR server refuses: hostile inputs 71 and 73 to 77."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from nar_server_world import (
    ANY,
    LEASES,
    LOGIN,
    NA,
    NB,
    POLICY,
    RULE,
    XA,
    XA2,
    YB,
    YB2,
    Client,
    World,
)

from gateway.domain.nar import NarProtocol, NarTuple
from gateway.nar.codec.associate import IcmpAssociate, TunnelReply
from gateway.nar.codec.numbers import NarFlag, Reply
from gateway.nar.codec.request import SocksReply
from gateway.nar.policy import OWN_PORTS
from gateway.nar.server.targets import Forbidden

OK, NO, FAILED = Reply.SUCCEEDED, Reply.NOT_ALLOWED, Reply.GENERAL_FAILURE
TYPE = Reply.ADDRESS_TYPE_NOT_SUPPORTED
STRICT = replace(POLICY, rules=(replace(RULE, any_remote=False),))


def ready(world: World, address: IPv4Address = XA) -> Client:
    client = world.dial(address)
    assert client is not None
    client.login()
    return client


@pytest.mark.parametrize("kind", [0, 2, 5, 255])
def test_h71_unknown_address_types(kind: int) -> None:
    world = World()
    client = ready(world)
    assert client.say(bytes((5, 1, 0, kind))) == SocksReply(TYPE).to_octets()
    assert client.closed
    client = world.client()
    assert client.say(bytes((1, 0x83, kind))) == TunnelReply(TYPE).to_octets()
    assert client.closed, "nobody knows where that command ends"


@pytest.mark.parametrize(
    "name",
    [b"", b"a\x00b", b"a\nb", b"a b", b".", b"a..b", b"-a.example", b"x" * 64, b"a." * 127 + b"a"],
)
def test_h71_names_that_are_none(name: bytes) -> None:
    world = World()
    client = world.client()
    octets = bytes((5, 1, 0, 3, len(name))) + name + b"\x00\x50"
    assert client.say(octets) == SocksReply(FAILED).to_octets()
    assert not world.questions
    assert not world.table
    assert client.closed == (not name)


def test_h71_ipv6_where_it_is_not_allowed() -> None:
    world = World()
    six = IPv6Address("2001:db8::5")
    client = world.client()
    assert client.nar_mode(six).reply is TYPE
    assert client.connect(six).reply is TYPE
    assert client.bind(0, six).reply is TYPE
    assert client.udp(0, six).reply is TYPE
    octets = bytes((1, 0x83, 4)) + six.packed + b"\x04"
    assert client.say(octets) == TunnelReply(TYPE).to_octets()
    assert not client.closed
    proxied = ready(world)
    assert proxied.connect(six).reply is TYPE
    assert not world.proxied


def test_h71_a_name_with_no_ipv4_address() -> None:
    world = World(names={"six.example": [IPv6Address("2001:db8::5")], "none.example": []})
    client = world.client()
    assert client.connect("six.example").reply is Reply.HOST_UNREACHABLE
    assert client.connect("none.example").reply is Reply.HOST_UNREACHABLE
    assert client.connect("unknown.example").reply is Reply.HOST_UNREACHABLE
    assert "unknown.example, which has no IPv4 address" in world.why()


def test_h73_no_mapping_before_login_or_after_the_end() -> None:
    world = World(policy=LOGIN, users={"ann": ()})
    client = world.client(user="ann")
    client.connect()
    client.hang_up()
    world.server.received(client.number, IcmpAssociate(0).to_octets(), world.now)
    world.pump()
    assert len(world.table) == 1
    world.pass_time(POLICY.grace_s)
    assert not world.table
    assert world.closed[-1].reason == "the client did not come back in its grace period"


def test_h73_mappings_are_for_the_connections_own_address() -> None:
    """Nothing a client says is taken for its address."""
    world = World()
    client = world.client(XA, target=XA2)
    client.connect(XA2)
    client.bind(0, XA2)
    client.udp(0, XA2)
    client.tunnel(str(XA2))
    assert len(world.table) == 4
    assert {one.client for one in world.table.values()} == {XA}


@pytest.mark.parametrize("address", [NA, NB, IPv4Address("127.0.0.1")])
def test_h73_the_box_itself_is_no_client(address: IPv4Address) -> None:
    world = World(policy=replace(POLICY, trusted=(IPv4Network("0.0.0.0/0"),)))
    client = ready(world, address)
    assert client.nar_mode().reply is NO
    assert "where nothing can be delivered" in world.why()


def test_h74_port_already_leased() -> None:
    world = World()
    assert world.client(XA).bind(20_010).port == 20_010
    other = world.client(XA2)
    port = other.bind(20_010).port
    assert port != 20_010
    assert "asked for TCP port 20010: it is leased to client 10.0.0.7" in world.why()
    assert other.udp(20_010).port == 20_010, "UDP is another matter"


def test_h74_a_port_that_another_client_had_a_moment_ago() -> None:
    world = World()
    one = world.client(XA, flags=LEASES)
    one.bind(20_010)
    one.release()
    assert world.client(XA2).bind(20_010).port != 20_010
    assert "another client had it a moment ago" in world.why()
    assert one.bind(20_010).port == 20_010, "it is no stranger to it"
    one.release()
    world.pass_time(200)
    assert world.client(XA2).bind(20_010).port == 20_010


@pytest.mark.parametrize("spi", [1, 255, 0x3FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_h74_spis_out_of_range(spi: int) -> None:
    world = World()
    assert world.client().ipsec(50, spi).spi in POLICY.spis
    assert f"{spi:#x} as an SPI of ESP: it is outside the server's ranges" in world.why()


def test_h74_spis_below_256_whatever_the_policy_says() -> None:
    world = World(policy=replace(POLICY, spis=range(258)))
    client = world.client()
    assert {client.ipsec(50, 255).spi, client.ipsec(51, 0).spi} == {256, 257}
    assert client.ipsec().reply is FAILED


@pytest.mark.parametrize("port", [0, 434, 500, 1080, 1701, 4500, 8443])
def test_h74_the_boxs_own_ports(port: int) -> None:
    """Even when ranges and rules name them."""
    every = (range(1 << 16),)
    rule = replace(RULE, ports=every)
    policy = replace(POLICY, ports=every, rules=(rule,), occupied_ports=OWN_PORTS | {8443})
    world = World(policy=policy)
    client = world.client()
    assert client.bind(port).port != port
    assert client.udp(port).port != port
    if port:
        assert "it is the gateway's own" in world.why()


def test_h74_ports_by_chance_are_never_the_boxs_own() -> None:
    policy = replace(POLICY, ports=(range(498, 503),), icmp_ids=range(2))
    world = World(policy=policy)
    client = world.client()
    assert {client.bind().port for _ in range(4)} == {498, 499, 501, 502}
    assert client.bind().reply is FAILED
    assert client.icmp().identifier == 1
    assert client.icmp().reply is FAILED


def test_h74_wildcards_need_permission() -> None:
    world = World(policy=STRICT)
    client = ready(world)
    assert client.nar_mode(ANY).reply is NO
    assert "rule staff has no any_remote" in world.why()
    client = world.client()
    assert client.bind().reply is NO
    assert client.bind(0, YB2).reply is OK
    assert client.connect(ANY).reply is NO
    assert client.udp().reply is OK
    assert all(one.peer in (YB, YB2) for one in world.table.values())


def test_h74_remotes_of_a_rule() -> None:
    rule = replace(RULE, remotes=(IPv4Network("198.51.100.4/31"),))
    world = World(policy=replace(POLICY, rules=(rule,)))
    client = world.client(target=YB)
    assert client.connect(YB2).reply is NO
    assert "198.51.100.6: rule staff allows 198.51.100.4/31" in world.why()
    assert client.nar_mode(YB2).reply is NO
    assert client.nar_mode(ANY).reply is NO
    assert client.bind().reply is NO
    assert client.udp(0, YB2).reply is NO
    assert client.connect(YB).reply is OK


def test_h74_incomplete_tuples() -> None:
    world = World()
    client = world.client(flags=LEASES)
    assert client.connect(YB, 0).reply is NO
    assert client.connect(ANY, 80).reply is NO
    assert client.udp(0, YB, remote=True).reply is NO
    for inner in ("0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "169.254.1.1"):
        assert client.tunnel(inner).reply is NO
    assert client.ipsec(17).reply is FAILED
    assert client.tunnel(protocol=41).reply is FAILED
    assert not world.table


def test_h75_one_client_cannot_have_everything() -> None:
    rule = replace(RULE, max_leases=10)
    world = World(policy=replace(POLICY, rules=(rule,)))
    greedy = [world.client(XA, port=40_000 + n) for n in range(3)]
    replies = [client.bind().reply for client in greedy for _ in range(10)]
    assert replies.count(OK) == 10
    for client in greedy:
        client.hang_up()
    again = world.client(XA)
    assert again.ipsec().reply is NO, "lost leases count until their grace period is over"
    world.pass_time(POLICY.grace_s + 1)
    assert again.ipsec().reply is OK
    assert world.client(XA2).bind().reply is OK


def test_h75_ports_run_out_with_a_clear_answer() -> None:
    world = World(policy=replace(POLICY, ports=(range(20_000, 20_010),)))
    one, two = world.client(XA), world.client(XA2)
    assert {one.bind().port for _ in range(10)} == set(range(20_000, 20_010))
    assert two.bind().reply is FAILED
    assert "asked for a TCP port: none is left at 192.0.2.1" in world.why()
    assert two.ipsec().reply is OK


def test_h75_another_clients_lease_cannot_be_released_renewed_or_resumed() -> None:
    world = World(policy=replace(LOGIN, rules=(RULE,)), users={"ann": (), "bob": ()})
    ann = world.client(XA, flags=LEASES, user="ann")
    token = ann.session().token
    ann.bind(20_010)
    (key,) = world.table
    elsewhere = world.client(XA2, flags=LEASES, user="ann")
    beside = world.client(XA, flags=LEASES, user="bob")
    for thief in (elsewhere, beside):
        assert thief.release(key).reply is NO
        assert "which is not its own" in world.why()
        assert thief.session(token).reply is NO
        assert thief.renew().reply is NO
        thief.session()
        assert thief.renew().reply is OK
        assert thief.release(key).reply is NO
        assert thief.release().reply is OK
    world.pass_time(POLICY.lease_s - 1)
    assert key in world.table
    world.pass_time(2)
    assert key not in world.table, "renewing one's own does not renew others'"


def test_h75_wrong_tokens() -> None:
    world = World()
    client = world.client(flags=LEASES)
    token = client.session().token
    client.connect()
    client.hang_up()
    again = world.client(flags=LEASES)
    for wrong in (b"\x01" * 16, token[:15] + bytes((token[15] ^ 1,)), token[::-1]):
        reply = again.session(wrong)
        assert (reply.reply, reply.token, reply.lease_s) == (NO, bytes(16), 0)
    assert again.session(token).reply is OK


def test_h75_tokens_are_neither_shown_nor_stored() -> None:
    world = World()
    client = world.client(flags=LEASES)
    token = client.session().token
    client.connect()
    shown = repr(world.server.clients()) + repr(world.server.mappings()) + repr(world.events)
    assert token.hex() not in shown
    assert not any(token in record for record in world.records.values())


FORBIDDEN = [
    ("127.0.0.1", "loopback"),
    ("127.255.0.3", "loopback"),
    ("0.1.2.3", "this network"),
    ("169.254.169.254", "link-local"),
    ("224.0.0.9", "multicast"),
    ("255.255.255.255", "reserved or broadcast"),
    (str(NA), "the gateway itself"),
    (str(NB), "the gateway itself"),
    ("10.66.0.1", "10.66.0.0/16, which is forbidden"),
]
CLOSED = replace(POLICY, forbidden=(ip_network("10.66.0.0/16"), ip_network("2001:db8:66::/48")))


@pytest.mark.parametrize(("target", "why"), FORBIDDEN)
def test_h76_forbidden_targets(target: str, why: str) -> None:
    world = World(policy=CLOSED)
    address = IPv4Address(target)
    assert ready(world).nar_mode(address).reply is NO
    assert why in world.why()
    client = world.client(flags=LEASES)
    assert client.nar_mode(address, LEASES).reply is NO
    assert client.connect(address).reply is NO
    assert client.bind(0, address).reply is NO
    assert client.udp(0, address).reply is NO
    assert client.udp(53, address, remote=True).reply is NO
    assert ready(world).connect(address).reply is NO
    assert not world.table
    assert not world.proxied
    assert not world.server.may_relay_to("staff", address, 53)


@pytest.mark.parametrize(("target", "why"), FORBIDDEN)
def test_h76_names_of_forbidden_targets(target: str, why: str) -> None:
    """Rebinding: what was checked is what is used, and nothing else of the answer."""
    world = World(policy=CLOSED, names={"evil.example": [IPv4Address(target)]})
    assert ready(world).nar_mode("evil.example").reply is NO
    assert why in world.why()
    assert world.client().connect("evil.example").reply is NO
    assert ready(world).connect("evil.example").reply is NO
    world.names["evil.example"] = [IPv4Address(target), YB2]
    proxied = ready(world)
    proxied.say(b"\x05\x01\x00\x03\x0cevil.example\x00\x50")
    assert [one.targets for one in world.proxied] == [(YB2,)]


@pytest.mark.parametrize(
    "target",
    [
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "::ffff:10.66.0.1",
        "64:ff9b::10.66.0.1",
        "2002:a42:1::1",
        "::ffff:192.0.2.1",
        "2001:db8:66::1",
    ],
)
def test_h76_forbidden_ipv6_targets(target: str) -> None:
    rule = replace(RULE, proxy_ipv6=True)
    world = World(policy=replace(CLOSED, rules=(rule,)))
    address = IPv6Address(target)
    assert ready(world).connect(address).reply is NO
    assert not world.server.may_relay_to("staff", address, 53)
    world.names["evil.example"] = [address]
    assert ready(world).connect("evil.example").reply is NO
    assert not world.proxied


def test_h76_a_name_of_0_0_0_0_is_not_everybody() -> None:
    world = World(names={"any.example": [ANY]})
    assert ready(world).nar_mode("any.example").reply is NO
    client = world.client()
    assert client.bind(0, "any.example").reply is NO
    assert ready(world).bind(0, "any.example").reply is NO
    assert not world.proxied


def test_h76_who_gets_nothing_has_no_name_looked_up() -> None:
    policy = replace(POLICY, rules=(replace(RULE, proxy=False, protocols=frozenset()),))
    world = World(policy=policy, answers=False)
    assert ready(world).connect("evil.example").reply is NO
    assert world.client().connect("evil.example").reply is NO
    nobody = World(policy=replace(POLICY, rules=()), answers=False)
    assert ready(nobody).nar_mode("evil.example").reply is NO
    assert not world.questions
    assert not nobody.questions


@pytest.mark.parametrize("protocol", [50, 51])
@pytest.mark.parametrize("translated", [False, True])
def test_h77_two_clients_with_the_same_peer_and_spi(protocol: int, translated: bool) -> None:
    world = World()
    flags = NarFlag.TRANSLATED if translated and protocol == 50 else 0
    one, two = world.client(XA, flags=flags), world.client(XA2, flags=flags)
    assert one.ipsec(protocol, 0x5000_0001).spi == 0x5000_0001
    other = two.ipsec(protocol, 0x5000_0001).spi
    assert other != 0x5000_0001
    assert "it is leased to client 10.0.0.7" in world.why()
    assert {one.tuple.value: one.client for one in world.table.values()} == {
        0x5000_0001: XA,
        other: XA2,
    }


def test_h77_two_clients_with_the_same_tunnel() -> None:
    world = World()
    world.client(XA).tunnel("172.16.0.9", 4)
    two = world.client(XA2)
    reply = two.tunnel("172.16.0.9", 4)
    assert (reply.reply, reply.inner, reply.protocol) == (FAILED, ANY, 0)
    assert two.tunnel("172.16.0.9", 47).reply is OK
    assert [one.client for one in world.table.values()] == [XA, XA2]


def test_the_dataplane_refuses() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.session()
    client.bind(8080)
    (key,) = world.table
    world.server.mapping_refused(key, "port 8080 is in use", world.now)
    world.pump()
    assert not world.table
    assert not world.held
    (notice,) = client.collect()
    assert notice.key.at(NB) == key
    assert "could not be set up: port 8080 is in use" in world.closed[-1].reason
    world.server.mapping_refused(key, "again", world.now)


def test_an_administrator_ends_leases_and_clients() -> None:
    world = World()
    client, other = world.client(flags=LEASES), world.client(XA2)
    client.bind()
    client.icmp()
    other.bind()
    key = client.mappings[0].tuple
    assert world.server.end_lease(key, world.now, "ended by the administrator")
    assert not world.server.end_lease(key, world.now, "again")
    world.pump()
    assert [one.key.at(NB) for one in client.collect()] == [key]
    assert world.closed[-1].reason == "ended by the administrator"
    assert world.server.end_client(XA, world.now, "ended by the administrator") == 1
    world.pump()
    assert client.closed
    assert not other.closed
    assert [one.client for one in world.table.values()] == [XA2]
    assert world.server.end_client(XA, world.now, "again") == 0


def test_replies_to_nar_commands_have_their_full_length() -> None:
    world = World(policy=replace(POLICY, rules=(replace(RULE, protocols=frozenset()),)))
    client = world.client(flags=LEASES)
    assert client.icmp().reply is NO
    assert client.ipsec().reply is NO
    assert client.tunnel().reply is NO
    assert client.session(b"x" * 16).reply is NO
    assert client.l2tp().reply is NO
    key = NarTuple(NarProtocol.ESP, NB, 7)
    assert client.release(key).reply is NO
    assert client.collect() == [], "nothing is left over"


def test_h76_what_was_found_out_for_one_connection_is_not_said_of_another() -> None:
    """The address that a client reached us at is ours, whether the policy knows it or not."""
    forbidden = Forbidden(POLICY)
    ours = IPv4Address("203.0.113.9")
    for target in (ours, IPv6Address("::ffff:203.0.113.9")):
        for _ in range(2):
            assert forbidden.why(target) is None
            assert "the gateway itself" in str(forbidden.why(target, (ours,)))

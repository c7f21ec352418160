"""Restarts, changes of address and of the configuration: what stays, what ends, who is told."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nar_server_world import (
    LEASES,
    LOGIN,
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

from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import Delivery, NarProtocol, NarTuple
from gateway.domain.wire import WireError
from gateway.nar.codec.numbers import NarFlag, Notice, Reply, SocksCommand
from gateway.nar.codec.request import SocksRequest
from gateway.nar.outputs import Send
from gateway.nar.server.records import LeaseRecord, SessionRecord, read

OK, NO = Reply.SUCCEEDED, Reply.NOT_ALLOWED
NEW = IPv4Address("203.0.113.77")


def full(world: World) -> bytes:
    """Leases of every kind of two clients; the first one's token."""
    one = world.client(XA, flags=LEASES)
    token = one.session().token
    one.bind(20_001)
    one.bind(8080)
    one.connect(YB2, 443)
    one.nar_mode(YB, LEASES | NarFlag.L2TP)
    one.ipsec(51)
    one.nar_mode(YB, LEASES | NarFlag.TRANSLATED)
    one.bind(80)
    one.udp(53, YB, remote=True)
    two = world.client(XA2, flags=NarFlag.GRE)
    two.icmp()
    two.tunnel(protocol=47)
    two.udp(20_002)
    return token


def at(keys: object, address: IPv4Address) -> set[NarTuple]:
    return {replace(key, address=address) for key in keys}


def test_a_restart_loses_nothing() -> None:
    world = World()
    token = full(world)
    held, l2tp, audit = set(world.held), dict(world.l2tp), dict(world.audit)
    views = world.server.mappings()
    world.restart()
    assert world.table == world.kernel_before
    assert (world.held, world.l2tp, world.audit) == (held, l2tp, audit)
    assert world.events[-1].name == "nar_restored"
    assert "9 leases of 2 sessions" in world.why()
    for before, after in zip(views, world.server.mappings(), strict=True):
        assert after | {"expires": 0, "connected": 0} == before | {"expires": 0, "connected": 0}
    again = world.client(XA, flags=LEASES | NarFlag.L2TP)
    assert again.session(token).reply is OK
    assert again.l2tp().session(XA) == l2tp[XA]
    assert len(again.mappings) == 6
    plain = world.client(XA2, flags=NarFlag.GRE)
    assert plain.udp(20_002).port == 20_002
    assert plain.tunnel(protocol=47).reply is OK
    world.pass_time(POLICY.grace_s + 1)
    assert len(world.table) == 8, "the identifier was not asked for again"
    assert again.bind().port not in (20_001, 8080)


def test_clients_are_told_of_a_restart() -> None:
    world = World()
    client, plain = world.client(flags=LEASES), world.client(XA2)
    client.heard = plain.heard = b""
    world.server.stopping(world.now)
    world.pump()
    (notice,) = client.collect()
    assert (notice.reason, notice.key) == (Notice.STOPPING, None)
    assert plain.heard == b""
    assert client.closed
    assert plain.closed
    assert world.dial() is None


def test_nobody_comes_back_after_a_restart() -> None:
    world = World()
    full(world)
    world.restart()
    world.pass_time(POLICY.grace_s + 1)
    assert not world.table
    assert not world.records
    assert not world.held
    assert not world.l2tp
    assert not world.audit
    assert world.server.mappings() == world.server.clients() == []


def test_restarts_again_and_again() -> None:
    world = World()
    token = full(world)
    for _ in range(5):
        world.restart(away_s=1)
    assert len(world.table) == 9
    assert world.client(XA, flags=LEASES).session(token).reply is OK


def test_records_of_another_server_are_left_alone() -> None:
    world = World()
    full(world)
    records = dict(world.records)
    other = World(policy=replace(POLICY, name="firewall"), records=dict(records))
    other.server.restore(list(records.values()), other.now)
    other.pump()
    assert not other.table
    assert other.records == records


@pytest.mark.parametrize(
    ("change", "left", "why"),
    [
        ({"rules": ()}, 0, "no rule fits"),
        ({"trusted": (ip_network("10.0.0.8/32"),)}, 3, "no rule fits"),
        ({"rules": (replace(RULE, protocols=frozenset({NarProtocol.UDP})),)}, 2, "allow"),
        ({"rules": (replace(RULE, ports=()),)}, 8, "port 8080 may not be leased"),
        ({"rules": (replace(RULE, any_remote=False),)}, 6, "wants a remote"),
        ({"rules": (replace(RULE, deliveries=frozenset({Delivery.GRE})),)}, 3, "delivery"),
        ({"rules": (replace(RULE, max_leases=4),)}, 7, "as many leases"),
        ({"max_leases": 2}, 2, "max_leases"),
        ({"occupied_ports": frozenset({20_001})}, 8, "gateway's own"),
        ({"forbidden": (ip_network("198.51.100.6/32"),)}, 8, "forbidden"),
        ({"addresses": (NB2, IPv4Address("192.0.2.3"))}, 0, "is not lent"),
    ],
)
def test_a_restart_with_another_policy(change: dict[str, object], left: int, why: str) -> None:
    world = World()
    full(world)
    world.restart(replace(POLICY, **change))
    assert len(world.table) == left
    assert set(world.audit) == set(world.table)
    assert all("after a restart" in one.reason for one in world.closed)
    assert any(why in one.reason for one in world.closed)
    assert len(world.server.mappings()) == left
    records = [read(one) for one in world.records.values()]
    assert len([one for one in records if isinstance(one, LeaseRecord)]) == left
    sessions = {one.number for one in records if isinstance(one, SessionRecord)}
    assert {int(str(one["session"]), 16) for one in world.server.clients()} == sessions


def test_a_restart_with_the_only_address_changed() -> None:
    """The SOHO case: the provider gave another address while nobody ran."""
    world = World()
    token = full(world)
    mine = {key for key, one in world.table.items() if one.client == XA}
    world.restart(replace(POLICY, addresses=(NEW,)))
    assert set(world.table) == at(mine, NEW), "a client that cannot be told has nothing left"
    again = world.client(XA, flags=LEASES)
    assert again.session(token).reply is OK
    assert [one.reason for one in again.notices] == [Notice.ADDRESS_CHANGED]
    assert again.notices[0].address == NEW
    world.restart()
    assert set(world.table) == at(mine, NEW)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_records_never_raise(data: st.DataObject) -> None:
    world = World()
    full(world)
    records = [bytearray(one) for one in world.records.values()]
    for _ in range(data.draw(st.integers(1, 4))):
        record = data.draw(st.sampled_from(records))
        if record and data.draw(st.booleans()):
            record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
        else:
            del record[data.draw(st.integers(0, len(record))) :]
    records.append(bytearray(data.draw(st.binary(max_size=80))))
    fresh = World()
    server = fresh.server
    server.restore([bytes(one) for one in records], fresh.now)
    keys = [one["id"] for one in server.mappings()]
    assert len(keys) == len(set(keys)) <= 10
    assert not [one for one in server.outputs() if isinstance(one, Send)]


@pytest.mark.parametrize(
    "octets", [b"", b"\x01", b"\x02\x01", b"\x01\x03", b"\x01\x02" + bytes(20)]
)
def test_records_that_are_none(octets: bytes) -> None:
    with pytest.raises(WireError):
        read(octets)


def test_records_are_small() -> None:
    world = World(policy=LOGIN, users={"ann": ("staff",)})
    client = world.client(user="ann", flags=LEASES)
    client.session()
    for _ in range(50):
        client.bind()
    kinds = [read(one) for one in world.records.values()]
    assert [type(one) for one in kinds].count(SessionRecord) == 1
    assert len(kinds) == 51
    assert max(map(len, world.records.values())) < 100


def test_an_address_changes() -> None:
    world = World()
    token = full(world)
    mine = {key for key, one in world.table.items() if one.client == XA}
    one, two = world.clients.values()
    idle, plain = world.client("10.0.0.9", flags=LEASES), world.client("10.0.0.10")
    for client in world.clients.values():
        client.heard = b""
    world.server.address_changed(NB, NEW, world.now)
    world.pump()
    assert set(world.table) == at(mine, NEW) == set(world.audit)
    assert {key.address for key in world.held} == {NEW}
    for client in (one, idle):
        assert [(n.reason, n.address, n.key) for n in client.collect()] == [
            (Notice.ADDRESS_CHANGED, NEW, None)
        ]
        assert not client.closed
    assert two.closed
    assert plain.closed
    assert one.bind().address == NEW
    assert one.release(next(iter(world.table))).reply is OK
    assert world.server.policy.addresses == (NEW,)
    assert "6 leases moved, 3 ended" in next(
        e.text for e in world.events if e.name == "nar_address_changed"
    )
    world.restart()
    assert len(world.table) == 6
    assert world.client(XA, flags=LEASES).session(token).reply is OK


def test_an_address_changes_while_a_client_is_away() -> None:
    world = World()
    client = world.client(flags=LEASES)
    token = client.session().token
    client.bind(20_001)
    client.bind(20_002)
    client.hang_up()
    world.busy.add((NarProtocol.TCP, 20_001))
    world.server.address_changed(NB, NEW, world.now)
    world.pump()
    again = world.client(flags=LEASES)
    assert again.session(token).reply is OK
    ended, moved = again.notices
    assert (ended.reason, ended.key.value) == (Notice.LEASE_ENDED, 20_001)
    assert (moved.reason, moved.address, moved.key) == (Notice.ADDRESS_CHANGED, NEW, None)
    assert set(world.table) == {NarTuple(NarProtocol.TCP, NEW, 20_002)}


def test_an_address_changes_into_another_that_is_lent_already() -> None:
    world = World(policy=replace(POLICY, addresses=(NB, NB2), ports=(range(20_000, 20_002),)))
    one = world.client(XA, flags=LEASES)
    one.session()
    for _ in range(2):
        one.bind()
        one.udp()
    two = world.client(XA2, flags=LEASES)
    taken = two.bind()
    assert taken.address == NB2
    world.server.address_changed(NB, NB2, world.now)
    world.pump()
    reasons = [notice.reason for notice in one.collect()]
    assert reasons == [Notice.LEASE_ENDED, Notice.ADDRESS_CHANGED]
    assert len(world.table) == 4
    assert not two.collect()
    assert two.mappings[0].tuple.value == taken.port


def test_an_address_that_comes_later() -> None:
    """The provider was slow: no address at first."""
    world = World(policy=replace(POLICY, addresses=()))
    client = world.dial()
    assert client is not None
    client.login()
    assert client.nar_mode().reply is Reply.NETWORK_UNREACHABLE
    world.server.address_changed(IPv4Address(0), NB, world.now)
    assert world.client().bind().address == NB


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({}, 9),
        ({"rules": ()}, 0),
        ({"trusted": ()}, 0),
        ({"ports": (range(30_000, 30_100),)}, 4),
        ({"rules": (replace(RULE, ports=()),)}, 8),
        ({"addresses": (NB2,)}, 0),
        ({"spis": range(0x1000, 0x2000)}, 9),
    ],
)
def test_reconfigure_ends_what_is_not_allowed(change: dict[str, object], left: int) -> None:
    world = World()
    full(world)
    world.server.reconfigure(replace(POLICY, **change), world.now)
    world.pump()
    assert len(world.table) == left == len(world.server.mappings())
    assert set(world.audit) == set(world.table)
    one, two = world.clients.values()
    assert one.closed == two.closed == (left == 0)
    assert all("the configuration changed" in each.reason for each in world.closed)
    if not one.closed:
        assert one.bind().reply is OK


def test_reconfigured_ranges_hold_and_free_ports() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.bind(8080)
    client.bind(20_001)
    assert {key.value for key in world.held} == {8080}
    rule = replace(RULE, ports=(range(20_001, 20_002),))
    world.server.reconfigure(replace(POLICY, ports=(range(8000, 9000),), rules=(rule,)), world.now)
    world.pump()
    assert {key.value for key in world.table} == {8080, 20_001}
    assert {key.value for key in world.held} == {20_001}


def test_reconfigure_shortens_leases() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.bind()
    world.pass_time(100)
    rule = replace(RULE, max_lease_s=130.0)
    world.server.reconfigure(replace(POLICY, rules=(rule,)), world.now)
    world.pass_time(29)
    assert world.table
    world.pass_time(2)
    assert not world.table


def test_a_clock_that_was_set_back_makes_no_lease_longer() -> None:
    rule = replace(RULE, max_lease_s=100.0)
    world = World(policy=replace(POLICY, rules=(rule,)))
    client = world.client(flags=LEASES)
    token = client.session().token
    client.bind()
    world.wall_s -= 1_000_000.0
    world.restart()
    again = world.client(flags=LEASES)
    assert again.session(token).reply is OK
    world.pass_time(99)
    assert world.table
    world.pass_time(2)
    assert not world.table


def test_reconfigure_keeps_what_is_leased_from_others() -> None:
    world = World()
    world.client().bind(20_001)
    world.server.reconfigure(replace(POLICY, lease_s=60.0), world.now)
    other = world.client(XA2)
    assert other.bind(20_001).port != 20_001
    assert "it is leased to client 10.0.0.7" in world.why()


def test_a_host_keeps_one_address_when_it_changes() -> None:
    world = World(policy=replace(POLICY, addresses=(NB, NB2), ports=(range(20_000, 20_001),)))
    first = world.client(XA, flags=LEASES)
    first.bind()
    first.udp()
    second = world.client(XA2, flags=LEASES)
    assert second.bind().address == NB2
    first.hang_up()
    world.pass_time(POLICY.grace_s + 1)
    world.server.address_changed(NB2, NEW, world.now)
    assert world.client(XA2, port=41_000).udp().address == NEW, "though another has room too"


def test_a_restart_with_two_leases_of_one_port_inside() -> None:
    """Only broken records say that; then packets from there would be of either."""
    world = World()
    client = world.client(flags=NarFlag.TRANSLATED)
    client.bind(80)
    client.bind(81)
    client_port = slice(31, 33)
    for key, record in world.records.items():
        if record[client_port] == (81).to_bytes(2, "big"):
            world.records[key] = record[:31] + (80).to_bytes(2, "big") + record[33:]
    world.restart()
    (mapping,) = world.table.values()
    assert mapping.client_port == 80
    assert "uses that port for another lease" in world.closed[-1].reason


@pytest.mark.parametrize(
    "change",
    [
        {"forbidden": (ip_network(f"{YB}/32"),)},
        {"rules": (replace(RULE, remotes=(ip_network(f"{YB2}/32"),)),)},
        {"rules": (replace(RULE, deliveries=frozenset({Delivery.GRE})),)},
    ],
)
def test_reconfigure_leaves_no_mode_that_is_not_allowed(change: dict[str, object]) -> None:
    world = World()
    client = world.client(flags=LEASES, target=YB)
    world.server.reconfigure(replace(POLICY, **change), world.now)
    world.pump()
    assert client.closed
    assert not world.table


def test_reconfigure_ends_relays_that_are_not_allowed() -> None:
    world = World()
    client = world.dial()
    assert client is not None
    client.login()
    client.say(SocksRequest(SocksCommand.CONNECT, YB, 80).to_octets())
    (order,) = world.proxied
    world.server.proxy_opened(order.connection, Endpoint(NB, 9), world.now)
    world.pump()
    world.server.reconfigure(POLICY, world.now)
    world.pump()
    assert not client.closed
    world.server.reconfigure(replace(POLICY, rules=(replace(RULE, proxy=False),)), world.now)
    world.pump()
    assert client.closed

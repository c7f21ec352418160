"""Lease times, grace periods, coming back, and clients that know nothing of all that."""

from dataclasses import replace

import pytest
from nar_server_world import LEASES, LOGIN, NB, POLICY, RULE, XA, XA2, YB, YB2, World

from gateway.domain.nar import Delivery, NarProtocol, NarTuple
from gateway.nar.codec.numbers import NarFlag, Notice, Reply
from gateway.nar.outputs import LeaseOpened

OK, NO = Reply.SUCCEEDED, Reply.NOT_ALLOWED


def test_a_session_tells_its_times() -> None:
    world = World()
    reply = world.client(flags=LEASES).session()
    assert (reply.reply, reply.lease_s, reply.grace_s) == (OK, 600, 120)
    assert len(set(reply.token)) > 1
    short = replace(POLICY, rules=(replace(RULE, max_lease_s=90.0),))
    assert World(policy=short).client(flags=LEASES).session().lease_s == 90


def test_leases_end_when_they_are_not_renewed() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.session()
    client.bind()
    (key,) = world.table
    world.pass_time(599)
    assert client.renew().lease_s == 600
    world.pass_time(599)
    assert key in world.table
    world.pass_time(2)
    assert not world.table
    (notice,) = client.collect()
    assert (notice.reason, notice.address, notice.key.at(NB)) == (Notice.LEASE_ENDED, NB, key)
    assert world.closed[-1].reason == "the client did not renew it"
    assert not client.closed
    assert client.bind().reply is OK, "the session is there for others"


def test_a_client_that_asks_for_more_is_alive() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.session()
    client.bind()
    world.pass_time(599)
    client.icmp()
    world.pass_time(599)
    assert len(world.table) == 2
    world.pass_time(2)
    assert not world.table


def test_a_connection_that_lives_needs_no_renewal_without_session() -> None:
    world = World()
    for flags in (0, LEASES):
        client = world.client(flags=flags, port=40_000 + flags)
        client.bind()
    world.pass_time(100_000)
    assert len(world.table) == 2


def test_a_rule_limits_how_long_a_lease_lasts() -> None:
    world = World(policy=replace(POLICY, rules=(replace(RULE, max_lease_s=1000.0),)))
    client = world.client(flags=LEASES)
    client.session()
    client.bind(20_001)
    for _ in range(4):
        world.pass_time(225)
        assert client.renew().reply is OK
    client.bind(20_002)
    world.pass_time(101)
    assert [one.tuple.value for one in world.table.values()] == [20_002]
    assert client.collect()[0].key.value == 20_001
    assert world.closed[-1].reason == "it lasted 1000 s, its rule's max_lease_s"


def test_a_login_limits_how_long_its_leases_last() -> None:
    world = World(policy=LOGIN, users={"ann": ()}, timeout_s=100.0)
    client = world.client(flags=LEASES, user="ann")
    token = client.session().token
    client.bind()
    world.pass_time(60)
    again = world.client(flags=LEASES, user="ann")
    assert again.session(token).reply is OK
    again.udp()
    world.pass_time(99)
    assert len(world.table) == 2, "with a new login they go on"
    world.pass_time(2)
    assert not world.table
    assert {one.reason for one in world.closed} == {"the time of its login is over"}
    assert again.bind().reply is NO
    assert "the time of its login is over" in world.why()


def test_a_lost_session_is_taken_up_by_its_token() -> None:
    world = World()
    client = world.client(flags=LEASES)
    token = client.session().token
    client.bind()
    client.ipsec()
    before = dict(world.table)
    client.hang_up()
    world.pass_time(119)
    again = world.client(flags=LEASES, port=41_000)
    reply = again.session(token)
    assert (reply.reply, reply.token) == (OK, token)
    world.pass_time(300)
    assert world.table == before
    assert again.release(next(iter(before))).reply is OK
    assert world.closed[-1].client.port == 41_000


def test_a_session_is_over_after_its_grace_period() -> None:
    world = World()
    client = world.client(flags=LEASES)
    token = client.session().token
    client.bind()
    client.hang_up()
    world.pass_time(121)
    assert not world.table
    assert world.client(flags=LEASES).session(token).reply is NO
    assert not world.records


def test_a_session_without_leases_is_over_at_once() -> None:
    world = World()
    client = world.client(flags=LEASES)
    token = client.session().token
    client.hang_up()
    assert world.client(flags=LEASES).session(token).reply is NO
    assert not world.records


def test_a_session_is_taken_from_a_connection_that_looks_alive() -> None:
    world = World()
    client = world.client(flags=LEASES)
    token = client.session().token
    client.bind()
    before = dict(world.table)
    again = world.client(flags=LEASES, port=41_000)
    assert again.session(token).reply is OK
    assert client.closed
    world.pass_time(400)
    assert again.renew().reply is OK
    assert world.table == before
    assert again.session(token).reply is OK, "its own, once more"
    assert not again.closed


def test_a_session_is_not_mixed_with_another() -> None:
    world = World()
    client = world.client(flags=LEASES)
    token = client.session().token
    client.bind()
    other = world.client(flags=LEASES, port=41_000)
    other.bind()
    assert other.session(token).reply is NO
    assert not client.closed
    other.release()
    assert other.session(token).reply is OK


def test_a_new_token_replaces_the_old_one() -> None:
    world = World()
    client = world.client(flags=LEASES)
    first = client.session().token
    client.bind()
    second = client.session().token
    assert first != second
    client.hang_up()
    again = world.client(flags=LEASES)
    assert again.session(first).reply is NO
    assert again.session(second).reply is OK


def test_a_session_may_come_after_the_first_leases() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.bind()
    token = client.session().token
    client.hang_up()
    assert world.client(flags=LEASES).session(token).reply is OK
    assert len(world.table) == 1


def test_what_ended_while_the_client_was_away_is_told() -> None:
    world = World()
    client = world.client(flags=LEASES)
    token = client.session().token
    client.bind(20_001)
    client.bind(20_002)
    client.hang_up()
    assert world.server.end_lease(NarTuple(NarProtocol.TCP, NB, 20_001), world.now, "enough")
    world.pump()
    again = world.client(flags=LEASES)
    again.session(token)
    assert [(one.reason, one.key.value) for one in again.notices] == [(Notice.LEASE_ENDED, 20_001)]


def test_release_of_one_and_of_all() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.session()
    client.connect()
    client.udp()
    client.tunnel()
    first, *others = list(world.table)
    reply = client.release(first)
    assert (reply.reply, reply.key.at(NB)) == (OK, first)
    assert list(world.table) == others
    assert client.release(first).reply is NO
    reply = client.release()
    assert (reply.reply, reply.key) == (OK, None)
    assert not world.table
    assert not world.records
    assert client.collect() == [], "who releases is told no news"
    assert client.release().reply is OK
    assert {one.reason for one in world.closed} == {"released"}


def test_a_plain_client_gets_the_same_values_back() -> None:
    world = World(policy=LOGIN, users={"ann": (), "bob": ()})
    client = world.client(user="ann")
    port, spi, identifier = client.bind().port, client.ipsec().spi, client.icmp().identifier
    udp = client.udp(8080).port
    client.tunnel()
    client.hang_up()
    world.pass_time(60)
    bob = world.client(XA, user="bob")
    assert bob.bind(port).port != port
    assert bob.ipsec(50, spi).spi != spi
    assert bob.tunnel().reply is Reply.GENERAL_FAILURE
    bob.hang_up()
    world.pass_time(30)
    again = world.client(user="ann", port=41_000)
    assert again.bind(port).port == port
    assert again.ipsec(50, spi).spi == spi
    assert again.icmp(identifier).identifier == identifier
    assert again.udp(udp).port == udp
    assert again.tunnel().reply is OK
    world.pass_time(1000)
    assert len(world.table) == 5
    assert len(world.held) == 1


@pytest.mark.parametrize("restart", [False, True])
def test_a_plain_client_gets_its_connections_back(restart: bool) -> None:
    world = World()
    client = world.client()
    ports = {client.connect(YB2, 443).port for _ in range(3)}
    other = client.connect(YB2, 80).port
    if restart:
        world.restart()
    else:
        client.hang_up()
    assert world.client(XA2).connect(YB2, 443).port not in ports
    again = world.client()
    assert {again.connect(YB2, 443).port for _ in range(3)} == ports
    assert again.connect(YB2, 443).port not in ports
    world.pass_time(121)
    assert other not in {one.tuple.value for one in again.mappings}
    assert again.connect(YB2, 80).port != other
    again.hang_up()
    world.pass_time(121)
    core = world.server._core
    assert not [
        one for host in core.sessions.hosts.values() for one in host.owners.values() if one._lost
    ]


def test_a_lease_that_becomes_translated_does_not_take_a_port_that_is_in_use() -> None:
    world = World()
    client = world.client()
    client.bind(20_010)
    client.nar_mode(YB, NarFlag.TRANSLATED)
    behind = client.bind(8080).port
    assert behind == 8080
    client.nar_mode(YB)
    assert client.bind(80).port != 80
    client.nar_mode(YB, NarFlag.TRANSLATED)
    other = world.client(XA2)
    assert other.bind(20_020).port == 20_020
    shifted = client.bind(20_020).port
    other.hang_up()
    world.pass_time(300)
    client.nar_mode(YB)
    assert client.bind(20_020).port == 20_020
    client.nar_mode(YB, NarFlag.TRANSLATED)
    assert client.bind(20_020).port == shifted
    used = [
        one.client_port or one.tuple.value for one in client.mappings if not one.delivery.end_to_end
    ]
    assert len(used) == len(set(used))


def test_what_a_plain_client_does_not_ask_for_again_ends() -> None:
    world = World()
    client = world.client()
    client.bind(20_001)
    client.bind(20_002)
    client.hang_up()
    again = world.client()
    assert again.bind(20_002).port == 20_002
    world.pass_time(121)
    assert [one.tuple.value for one in world.table.values()] == [20_002]
    assert len(world.records) == 2


def test_a_plain_client_does_not_get_what_a_live_connection_has() -> None:
    world = World()
    world.client().bind(20_001)
    assert world.client(port=41_000).bind(20_001).port != 20_001


def test_leases_with_a_token_are_not_taken_one_by_one() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.session()
    client.bind(20_001)
    client.hang_up()
    assert world.client().bind(20_001).port != 20_001


def test_asking_again_changes_the_delivery() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.bind(20_001)
    client.nar_mode(YB2, LEASES | NarFlag.GRE)
    assert client.bind(20_001).port == 20_001
    (mapping,) = world.table.values()
    assert mapping.delivery is Delivery.GRE
    assert len([one for one in world.audit.values() if isinstance(one, LeaseOpened)]) == 1


def test_l2tp_lives_as_long_as_the_session_that_needs_it() -> None:
    world = World()
    client = world.client(flags=LEASES | NarFlag.L2TP)
    token = client.session().token
    client.bind()
    session = world.l2tp[XA]
    client.hang_up()
    again = world.client(flags=LEASES | NarFlag.L2TP)
    again.session(token)
    assert again.l2tp().session(XA) == session
    again.release()
    assert world.l2tp
    again.hang_up()
    assert not world.l2tp


def test_audit_knows_who_and_when() -> None:
    world = World(policy=LOGIN, users={"ann": ()})
    client = world.client(user="ann")
    client.bind(20_001)
    key = NarTuple(NarProtocol.TCP, NB, 20_001)
    opened = world.audit[key]
    assert (opened.server, opened.user, opened.client) == ("soho", "ann", client.endpoint)
    assert opened.wall_s == world.wall_s + world.now
    world.pass_time(50)
    client.hang_up()
    world.pass_time(121)
    closed = world.closed[-1]
    assert closed.wall_s - opened.wall_s == pytest.approx(170)
    assert (closed.user, closed.mapping) == ("ann", opened.mapping)


def test_views() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.session()
    client.bind(20_001)
    client.tunnel()
    world.client(XA2).icmp(0xC007)
    first, second = world.server.clients()
    assert first == first | {"client": "10.0.0.7", "state": "nar", "leases": 2, "resumable": True}
    assert first["expires"] == pytest.approx(world.wall_s + world.now + 600)
    assert second["expires"] is None
    tcp, tunnel, icmp = world.server.mappings()
    assert tcp == tcp | {
        "id": "tcp,192.0.2.1,20001,any,any",
        "protocol": "tcp",
        "port": 20_001,
        "remote": None,
        "delivery": "ip-ip",
        "connected": True,
    }
    assert tunnel == tunnel | {"protocol": "ip-ip", "inner": "172.16.0.9", "port": None}
    assert icmp == icmp | {"identifier": 0xC007, "client": "10.0.0.8"}
    client.hang_up()
    lost = next(one for one in world.server.clients() if one["state"] == "lost")
    assert lost == lost | {"client": "10.0.0.7", "port": None, "leases": 2}
    assert world.server.mappings()[0]["connected"] is False


def test_mappings_have_names_that_are_understood() -> None:
    from gateway.nar.server.views import parse_id, tuple_id

    world = World()
    client = world.client(flags=LEASES)
    for ask in (client.connect, client.bind, client.udp, client.icmp, client.ipsec, client.tunnel):
        ask()
    client.udp(53, YB2, remote=True)
    for key in world.table:
        assert parse_id(tuple_id(key)) == key
    assert {one["id"] for one in world.server.mappings()} == set(map(tuple_id, world.table))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp",
        "tcp,192.0.2.1,x,any,any",
        "sctp,192.0.2.1,1,any,any",
        "esp,1,2,3,4",
        "tcp,192.0.2.1,²,any,any",
        "ip-ip,192.0.2.1,7,any,any",
        "tcp,192.0.2.1,1,any,any,any",
    ],
)
def test_names_that_are_none(text: str) -> None:
    from gateway.nar.server.views import parse_id

    with pytest.raises(ValueError, match="a mapping's id"):
        parse_id(text)

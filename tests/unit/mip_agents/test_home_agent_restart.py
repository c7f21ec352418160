"""A home agent that restarts keeps its bindings, and takes nothing old for new."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from home_agent_world import (
    CARE_OF,
    CARE_OF_2,
    FA_KEY,
    FOREIGN_AGENT,
    HOME,
    HOME_AGENT,
    KEY,
    LAPTOP,
    NAT,
    NONCES,
    PHONE,
    SHA,
    UNSPECIFIED,
    D,
    G,
    Nodes,
    RevocationSupport,
    S,
    T,
    UdpTunnelRequest,
    World,
    policy,
    request,
    trusting,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mip_agents.codec.extensions import ZeroOverheadRequest
from gateway.mip_agents.outputs import RemoveBinding, SetBinding, Transmit
from gateway.mip_agents.replay import ntp


def test_bindings_outlive_a_restart() -> None:
    world = World()
    before = world.register(flags=S | D | T, lifetime=300).set
    before = world.register(flags=S | D | T | G, care_of=CARE_OF_2, lifetime=200).set
    answers = world.restart(20)
    assert answers.set == before
    assert world.bound == {str(HOME): (str(CARE_OF), str(CARE_OF_2))}
    (view,) = world.agent.bindings(world.now)
    assert view.each[0].expires_in_s == pytest.approx(280, abs=0.1)
    assert view.each[1].expires_in_s == pytest.approx(180, abs=0.1)
    assert view.registrations == 2
    assert "took up 1 bindings" in answers.event.text
    assert world.pass_time(181).set.tunnels == before.tunnels[:1]
    assert world.pass_time(100).removed


def test_everything_that_was_agreed_on_outlives_a_restart() -> None:
    world = World()
    wanted = UdpTunnelRequest(encapsulation=47)
    behind = world.register(NAT, 40404, care_of=IPv4Address("192.168.1.2"), extensions=[wanted])
    view = world.agent.binding(HOME, world.now)
    assert world.restart().set == behind.set
    after = world.agent.binding(HOME, world.now)
    assert (after.nat, after.tunnels, after.flags) == (view.nat, view.tunnels, view.flags)
    world.pass_time(1)
    again = world.register(NAT, 40404, care_of=IPv4Address("192.168.1.2"), extensions=[wanted])
    assert not again.of(SetBinding), "the renewal finds what it had"

    world = World()
    asked = [ZeroOverheadRequest(IPv4Address("203.0.113.1"))]
    before = world.register(extensions=asked).set
    assert world.restart().set == before

    world = World(policy(**trusting()))
    support = [RevocationSupport(int(world.wall))]
    world.register(FOREIGN_AGENT, care_of=FOREIGN_AGENT, flags=T, behind=support, fa_key=FA_KEY)
    world.restart()
    assert world.agent.binding(HOME, world.now).via_foreign_agent == str(FOREIGN_AGENT)
    world.agent.revoke(HOME, world.now)
    assert [one.message[0] for one in world.take().transmits] == [7]


def test_what_ended_meanwhile_is_removed() -> None:
    world = World()
    world.register(lifetime=300)
    answers = world.restart(400)
    assert answers.removed == [RemoveBinding(HOME_AGENT, HOME)]
    assert not answers.of(SetBinding)
    assert world.bound == {}
    assert world.records == {}


@pytest.mark.parametrize("downtime", [0.0, 0.1, 1.0, 6.0, 30.0])
@pytest.mark.parametrize("offset", [-5.0, 0.0, 5.0])
def test_h55_no_request_of_before_is_new_after_a_restart(downtime: float, offset: float) -> None:
    world = World()
    recorded = []
    for step in range(30):
        identification = ntp(world.wall + offset)
        octets = request(
            care_of=CARE_OF_2 if step == 20 else CARE_OF, identification=identification
        )
        assert world.send(octets).code == 0
        recorded.append(octets)
        world.pass_time(0.05)
    world.restart(downtime)
    before = world.bound
    for octets in recorded:
        answers = world.send(octets)
        assert answers.code == 133 if answers.of(Transmit) else True
        assert not answers.of(SetBinding)
    assert world.bound == before
    # What is signed after the restart is welcome, however wrong the mobile node's clock.
    world.pass_time(1.0)
    assert world.register(identification=ntp(world.wall + offset)).code == 0


def test_restarts_one_after_the_other_keep_nobody_out() -> None:
    world = World()
    world.register()
    for _ in range(20):
        world.restart(0.01, tidy=True)
    world.pass_time(0.6)
    assert world.register().code == 0


def test_h55_every_key_of_a_node_is_protected_after_a_restart() -> None:
    world = World()
    world.register(key=SHA)
    world.register(key=KEY)
    world.pass_time(1)
    octets = request(key=SHA, identification=world.tick())
    assert not world.send(octets).kept
    world.restart(0.2)
    assert world.send(octets).code == 133


def test_h55_replay_protection_outlives_the_binding() -> None:
    world = World()
    octets = request(identification=world.tick())
    assert world.send(octets).code == 0
    world.register(lifetime=0, care_of=HOME)
    world.restart(0.5)
    assert world.send(octets).code == 133
    assert world.bound == {}


def test_h55_a_clock_that_moved_is_written_down_at_once() -> None:
    world = World()
    world.register()
    answers = world.register(identification=ntp(world.wall + 4))
    assert answers.kept


def test_nonces_are_given_out_anew() -> None:
    node = replace(LAPTOP, associations=(NONCES,))
    world = World(policy(nodes=Nodes(node)))
    nonce = world.register(key=NONCES, identification=5).reply.identification >> 32
    octets = request(key=NONCES, identification=nonce << 32 | 6)
    assert world.send(octets).code == 0
    world.seed = 99
    world.restart(1)
    assert world.bound
    assert world.send(octets).code == 133
    nonce = world.register(key=NONCES, identification=7).reply.identification >> 32
    assert world.register(key=NONCES, identification=nonce << 32 | 8).code == 0


def test_h55_replay_protection_outlives_a_binding_that_ended_meanwhile() -> None:
    world = World()
    octets = request(lifetime=1, identification=world.tick())
    assert world.send(octets).code == 0
    answers = world.restart(1.5)
    assert answers.removed == [RemoveBinding(HOME_AGENT, HOME)]
    assert world.send(octets).code == 133
    assert world.bound == {}
    world.pass_time(100)
    assert world.records == {}


def test_leases_outlive_a_restart() -> None:
    world = World()
    home = world.register(nai=PHONE.nai, home=UNSPECIFIED).reply.home_address
    world.policy = policy()
    world.restart(1)
    assert world.policy.pools["virtual"].holder(home) == PHONE.nai
    world.pass_time(2)
    assert world.register(nai=PHONE.nai, home=UNSPECIFIED).reply.home_address == home


def test_a_tidy_end_writes_down_the_last_renewal() -> None:
    world = World()
    world.register(lifetime=1000)
    world.pass_time(30)
    assert not world.register(lifetime=1000).kept
    world.restart(0, tidy=True)
    left = world.agent.binding(HOME, world.now).expires_in_s
    assert left == pytest.approx(1000, abs=0.1)


def test_renewals_lose_at_most_an_eighth_of_the_lifetime() -> None:
    world = World()
    for _ in range(20):
        world.register(lifetime=800)
        world.pass_time(17)
    world.restart(0)
    assert world.agent.binding(HOME, world.now).expires_in_s > 800 * 7 / 8 - 20


def test_a_shorter_lifetime_is_written_down() -> None:
    world = World()
    world.register(lifetime=1000)
    assert world.register(lifetime=20).kept
    world.restart(0)
    assert world.agent.binding(HOME, world.now).expires_in_s <= 20
    assert world.restart(30).removed


def test_records_that_have_no_place_any_more() -> None:
    world = World()
    world.register()
    world.policy = policy(nodes=Nodes(PHONE))
    answers = world.restart()
    assert answers.removed == [RemoveBinding(HOME_AGENT, HOME)]
    assert world.records == {}
    world = World()
    world.register()
    moved = replace(LAPTOP, home_address=IPv4Address("10.7.0.6"))
    world.policy = policy(nodes=Nodes(moved))
    assert world.restart().removed
    assert world.bound == {}


def test_records_of_another_home_agent_are_left_alone() -> None:
    world = World()
    world.register()
    world.policy = policy(name="i-ha")
    answers = world.restart()
    assert answers.outputs == []
    assert len(world.records) == 1


def test_a_clock_set_back_prolongs_nothing() -> None:
    world = World()
    world.register(lifetime=300)
    world.restart(-100_000)
    assert world.agent.binding(HOME, world.now).expires_in_s <= 300


def test_endless_bindings_outlive_a_restart() -> None:
    world = World(policy(lifetime_s=0xFFFF))
    world.register(lifetime=0xFFFF)
    world.restart(1e7)
    assert world.agent.binding(HOME, world.now).expires_in_s is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_broken_records_never_raise(data: st.DataObject) -> None:
    world = World()
    world.register(flags=S | D | T)
    world.register(key=SHA, flags=S | D | T, care_of=CARE_OF_2)
    (record,) = world.records.values()
    if data.draw(st.booleans()):
        position = data.draw(st.integers(0, len(record) - 1))
        value = data.draw(st.integers(0, 255))
        record = record[:position] + bytes([value]) + record[position + 1 :]
    else:
        record = record[: data.draw(st.integers(0, len(record) - 1))]
    world.records = {"k": record}
    world.restart()
    world.pass_time(1)
    world.agent.bindings(world.now)
    world.pass_time(100_000)


def test_garbage_counts_and_is_passed_over() -> None:
    world = World()
    world.register()
    world.records = {"a": b"", "b": b"\xff" * 60, **world.records}
    world.restart()
    assert world.bound
    assert world.agent.counters["discarded_record"] == 2

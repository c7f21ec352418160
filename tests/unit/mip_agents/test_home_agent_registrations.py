"""What a home agent grants: replies, bindings, lifetimes, deregistrations, home addresses."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from home_agent_world import (
    CARE_OF,
    CARE_OF_2,
    CARE_OF_3,
    FA_KEY,
    FOREIGN_AGENT,
    HOME,
    HOME_AGENT,
    KEY,
    LAPTOP,
    NONCES,
    OLD,
    PHONE,
    PUBLIC,
    SHA,
    TABLET,
    UNSPECIFIED,
    VIRTUAL,
    B,
    D,
    G,
    M,
    Nodes,
    RequestFlag,
    S,
    T,
    World,
    authentic,
    policy,
    request,
    trusting,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Severity
from gateway.domain.mobility import Encapsulation, MobilityBinding, Tunnel
from gateway.domain.pools import AddressPool
from gateway.mip_agents.codec.extensions import AuthenticationKind, Nai
from gateway.mip_agents.outputs import Keep, Link, RemoveBinding, SetBinding, Transmit
from gateway.mip_agents.policy import INFINITE_LIFETIME_S, SecurityAssociation


def test_a_binding_and_its_reply() -> None:
    world = World()
    identification = world.tick()
    answers = world.register(lifetime=300, identification=identification, port=40000)
    reply = answers.reply
    assert (reply.code, reply.lifetime_s) == (0, 300)
    assert (reply.home_address, reply.home_agent) == (HOME, HOME_AGENT)
    assert reply.identification == identification
    assert authentic(answers.transmits[0].message, reply)
    assert answers.path == Path(Endpoint(HOME_AGENT, 434), Endpoint(CARE_OF, 40000))
    assert answers.set == MobilityBinding(
        HOME_AGENT, HOME, VIRTUAL, (Tunnel(HOME_AGENT, CARE_OF),), True, True, False, 1400
    )
    assert answers.event.name == "registered"
    assert answers.event.fields["code"] == 0
    assert answers.event.fields["care_of_address"] == str(CARE_OF)
    assert "laptop (10.7.0.5) registered at x-ha from 192.0.2.33 for 300 s" in answers.event.text


def test_outputs_come_in_their_order() -> None:
    world = World()
    kinds = [type(one) for one in world.register().outputs[:3]]
    assert kinds == [SetBinding, Keep, Transmit]
    kinds = [type(one) for one in world.register(lifetime=0, care_of=HOME).outputs[:3]]
    assert kinds == [RemoveBinding, Keep, Transmit]


@pytest.mark.parametrize("key", [KEY, SHA, OLD])
def test_every_algorithm(key: SecurityAssociation) -> None:
    world = World()
    answers = world.register(key=key)
    assert answers.code == 0
    assert authentic(answers.transmits[0].message, answers.reply, key)


@pytest.mark.parametrize(
    ("flags", "encapsulation"),
    [
        (D | T, Encapsulation.IP_IP),
        (D | T | M, Encapsulation.MINIMAL),
        (D | T | G, Encapsulation.GRE),
    ],
)
def test_encapsulations(flags: RequestFlag, encapsulation: Encapsulation) -> None:
    world = World()
    assert world.register(flags=flags).set.tunnels[0].encapsulation is encapsulation


def test_flags_reach_the_dataplane() -> None:
    world = World()
    binding = world.register(flags=B | T, care_of=FOREIGN_AGENT).set
    assert (binding.co_located, binding.reverse, binding.broadcasts) == (False, True, True)
    binding = world.register(flags=D).set
    assert (binding.co_located, binding.reverse, binding.broadcasts) == (True, False, False)
    world = World(policy(broadcasts=False))
    assert not world.register(flags=D | B | T).set.broadcasts


def test_a_mobile_nodes_own_packet_size() -> None:
    world = World(policy(nodes=Nodes(replace(LAPTOP, max_packet_octets=1200))))
    assert world.register().set.max_packet_octets == 1200


def test_a_renewal_that_changes_nothing_is_cheap() -> None:
    world = World()
    world.register()
    answers = world.register()
    assert [type(one).__name__ for one in answers.outputs] == ["Transmit", "Event"]
    assert answers.event.fields["renewed"] is True
    assert answers.event.severity is Severity.DEBUG
    # From time to time its lifetime is written down.
    world.pass_time(100)
    answers = world.register()
    assert [type(one).__name__ for one in answers.outputs] == ["Keep", "Transmit", "Event"]


def test_a_move_replaces_the_tunnel() -> None:
    world = World()
    world.register()
    answers = world.register(care_of=CARE_OF_2)
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, CARE_OF_2),)
    assert not answers.removed
    assert world.bound == {str(HOME): (str(CARE_OF_2),)}


def test_the_reply_goes_back_by_the_link_it_came_from() -> None:
    world = World()
    link = Link("eth1", b"\x02\0\0\0\0\1")
    path = Path(Endpoint(HOME_AGENT, 434), Endpoint(HOME, 434))
    octets = request(lifetime=0, care_of=HOME, identification=world.tick())
    world.agent.receive(octets, path, world.now, link)
    (transmit,) = world.take().transmits
    assert transmit.link == link


def test_asked_by_the_public_address() -> None:
    world = World()
    answers = world.register(agent=PUBLIC)
    assert answers.code == 0
    assert answers.reply.home_agent == PUBLIC
    assert answers.set.home_agent == HOME_AGENT
    assert answers.set.tunnels[0].local == HOME_AGENT


# -- lifetimes -------------------------------------------------------------------------------------


def test_h56_lifetimes_are_granted_up_to_the_policy() -> None:
    world = World(policy(lifetime_s=1000, lifetime_spread=0.0))
    for asked, granted in [(1, 1), (999, 999), (1000, 1000), (1001, 1000), (0xFFFF, 1000)]:
        assert world.register(lifetime=asked).reply.lifetime_s == granted


def test_h56_endless_lifetimes_only_where_the_policy_is_endless() -> None:
    world = World(policy(lifetime_s=INFINITE_LIFETIME_S))
    assert world.register(lifetime=0xFFFF).reply.lifetime_s == 0xFFFF
    assert world.agent.binding(HOME, world.now).expires_in_s is None
    world.pass_time(1e6)
    assert world.bound
    assert world.register(lifetime=100).reply.lifetime_s == 100
    world.pass_time(101)
    assert not world.bound


def test_lifetimes_are_spread() -> None:
    world = World(policy(lifetime_s=1000, lifetime_spread=0.1))
    granted = [world.register(lifetime=1800).reply.lifetime_s for _ in range(300)]
    assert 900 <= min(granted) < 910
    assert 990 < max(granted) <= 1000
    tenths = [sum(900 + 10 * i <= one < 910 + 10 * i for one in granted) for i in range(10)]
    assert min(tenths) > 10, "they are spread evenly"
    assert world.register(lifetime=600).reply.lifetime_s == 600


def test_a_binding_ends_with_its_lifetime() -> None:
    world = World()
    world.register(lifetime=300)
    assert world.agent.next_timer() is not None
    assert not world.pass_time(299).removed
    answers = world.pass_time(2)
    assert answers.removed == [RemoveBinding(HOME_AGENT, HOME)]
    event = answers.events[0]
    assert event.name == "binding_expired"
    assert "laptop" in event.text
    assert world.bound == {}
    assert world.agent.next_timer() is None
    assert world.records == {}


def test_renewals_move_the_end() -> None:
    world = World()
    for _ in range(5):
        world.register(lifetime=300)
        assert not world.pass_time(250).removed
    assert world.bound
    # A shorter lifetime counts as well.
    world.register(lifetime=10)
    assert world.pass_time(11).removed


def test_nothing_is_left_of_somebody_who_went_home() -> None:
    world = World()
    world.register()
    world.register(lifetime=0, care_of=HOME)
    assert len(world.records) == 1, "replay protection outlives the binding"
    answers = world.pass_time(60)
    assert answers.forgotten
    assert world.records == {}
    assert world.agent.next_timer() is None


# -- deregistration --------------------------------------------------------------------------------


def test_h59_deregistration_of_all() -> None:
    world = World()
    world.register(flags=S | D | T)
    world.register(flags=S | D | T, care_of=CARE_OF_2)
    answers = world.register(lifetime=0, care_of=HOME, flags=RequestFlag(0))
    assert (answers.code, answers.reply.lifetime_s) == (0, 0)
    assert answers.removed == [RemoveBinding(HOME_AGENT, HOME)]
    assert answers.event.name == "deregistered"
    assert world.bound == {}


def test_h59_deregistration_of_one() -> None:
    world = World()
    world.register(flags=S | D | T)
    world.register(flags=S | D | T, care_of=CARE_OF_2)
    answers = world.register(lifetime=0, care_of=CARE_OF)
    assert answers.code == 0
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, CARE_OF_2),)
    assert world.bound == {str(HOME): (str(CARE_OF_2),)}


def test_deregistration_of_what_is_not_there() -> None:
    world = World()
    for care_of in (HOME, CARE_OF):
        answers = world.register(lifetime=0, care_of=care_of)
        assert answers.code == 0
        assert not answers.removed
    world.register()
    answers = world.register(lifetime=0, care_of=CARE_OF_3)
    assert answers.code == 0
    assert world.bound == {str(HOME): (str(CARE_OF),)}


# -- simultaneous bindings -------------------------------------------------------------------------


def test_simultaneous_bindings_have_lifetimes_of_their_own() -> None:
    world = World()
    world.register(flags=S | D | T, lifetime=100)
    answers = world.register(flags=S | D | T | G, care_of=CARE_OF_2, lifetime=300)
    assert answers.code == 0
    assert answers.set.tunnels == (
        Tunnel(HOME_AGENT, CARE_OF),
        Tunnel(HOME_AGENT, CARE_OF_2, Encapsulation.GRE),
    )
    answers = world.pass_time(150)
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, CARE_OF_2, Encapsulation.GRE),)
    assert not answers.removed
    assert answers.events[0].fields["remaining"] == 1
    assert world.pass_time(160).removed


def test_code_1_where_simultaneous_bindings_are_off() -> None:
    for world in (
        World(policy(simultaneous=False)),
        World(policy(nodes=Nodes(replace(LAPTOP, max_care_of_addresses=1)))),
    ):
        assert world.register(flags=S | D | T).code == 1
        answers = world.register(flags=S | D | T, care_of=CARE_OF_2)
        assert answers.code == 1
        assert answers.event.name == "registered"
        assert world.bound == {str(HOME): (str(CARE_OF_2),)}


def test_mixed_bindings_are_what_all_of_them_can_do() -> None:
    world = World()
    world.register(flags=S | D)
    binding = world.register(flags=S | T | B, care_of=FOREIGN_AGENT).set
    assert (binding.co_located, binding.reverse, binding.broadcasts) == (False, True, True)


# -- foreign agents --------------------------------------------------------------------------------


def test_by_way_of_a_foreign_agent() -> None:
    world = World(policy(**trusting()))
    answers = world.register(care_of=FOREIGN_AGENT, flags=T, fa_key=FA_KEY, port=5555)
    assert answers.code == 0
    message = answers.transmits[0].message
    assert authentic(message, answers.reply)
    assert authentic(message, answers.reply, FA_KEY, AuthenticationKind.FOREIGN_HOME)
    assert answers.path.remote == Endpoint(FOREIGN_AGENT, 5555)
    view = world.agent.binding(HOME, world.now)
    assert view.via_foreign_agent == str(FOREIGN_AGENT)
    assert "foreign agent 192.0.2.1" in answers.event.text


def test_co_located_by_way_of_an_agent_that_demands_it() -> None:
    world = World()
    answers = world.register(FOREIGN_AGENT)
    assert answers.code == 0
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, CARE_OF),)
    assert world.agent.binding(HOME, world.now).via_foreign_agent == str(FOREIGN_AGENT)
    assert answers.path.remote.address == FOREIGN_AGENT


# -- home addresses --------------------------------------------------------------------------------


def test_a_dynamic_home_address_stays_the_same() -> None:
    world = World(policy(nodes=Nodes(PHONE, replace(PHONE, nai="other@example.org"))))
    answers = world.register(nai=PHONE.nai, home=UNSPECIFIED)
    assert answers.code == 0
    home = answers.reply.home_address
    assert home in IPv4Network("10.7.0.128/25")
    assert answers.reply.first(Nai) == Nai(PHONE.nai)
    assert answers.set.home_address == home
    # Asked for with its name, without, with the address alone.
    assert world.register(nai=PHONE.nai, home=UNSPECIFIED).reply.home_address == home
    assert world.register(nai=PHONE.nai, home=home).reply.home_address == home
    assert world.register(home=home).reply.home_address == home
    assert world.agent.binding(home, world.now).dynamic
    assert world.register(nai=PHONE.nai, lifetime=0, home=home, care_of=home).removed
    other = world.register(nai="other@example.org", home=UNSPECIFIED).reply.home_address
    assert other not in (home, UNSPECIFIED)
    assert world.register(nai=PHONE.nai, home=UNSPECIFIED).reply.home_address == home


def test_a_dynamic_home_address_may_be_asked_for() -> None:
    wanted = IPv4Address("10.7.0.200")
    world = World(policy(nodes=Nodes(PHONE, replace(PHONE, nai="other@example.org"))))
    assert world.register(nai=PHONE.nai, home=wanted).reply.home_address == wanted
    assert world.register(nai="other@example.org", home=wanted, care_of=CARE_OF_2).code == 129
    assert world.register(nai="other@example.org", home=HOME, care_of=CARE_OF_2).code == 129
    pool = world.policy.pools["virtual"]
    assert pool.in_use == 1


def test_a_lease_ends_with_its_binding() -> None:
    world = World()
    pool = world.policy.pools["virtual"]
    home = world.register(nai=PHONE.nai, home=UNSPECIFIED).reply.home_address
    assert pool.holder(home) == PHONE.nai
    world.pass_time(400)
    assert pool.in_use == 0
    assert world.register(nai=PHONE.nai, home=UNSPECIFIED).reply.home_address == home
    assert world.agent.revoke(home, world.now)
    assert pool.in_use == 0


def test_a_denied_request_leases_nothing() -> None:
    world = World()
    assert world.register(nai=PHONE.nai, home=UNSPECIFIED, flags=D | M | G).code == 134
    assert world.register(nai=PHONE.nai, home=UNSPECIFIED, lifetime=0).code == 0
    assert world.policy.pools["virtual"].in_use == 0


def test_a_pool_never_gives_away_a_configured_home_address() -> None:
    pool = AddressPool("virtual", IPv4Network(f"{HOME}/32"))
    world = World(policy(pools={"virtual": pool}))
    world.register()
    answers = world.register(nai=PHONE.nai, home=UNSPECIFIED, care_of=CARE_OF_2)
    assert answers.code == 129
    assert world.bound == {str(HOME): (str(CARE_OF),)}
    assert pool.in_use == 0


def test_a_node_known_by_name_and_home_address() -> None:
    world = World()
    nonce = first_nonce(world)
    home = TABLET.home_address
    assert home is not None
    answers = world.register(
        nai=TABLET.nai, home=UNSPECIFIED, key=NONCES, identification=nonce << 32 | 1
    )
    assert answers.code == 0
    assert answers.reply.home_address == home
    nonce = answers.reply.identification >> 32
    assert world.register(home=home, key=NONCES, identification=nonce << 32 | 2).code == 0
    assert world.bound == {str(home): (str(CARE_OF),)}


def test_a_name_that_nobody_has_leaves_the_home_address() -> None:
    world = World()
    answers = world.register(nai="laptop@elsewhere.example")
    assert answers.code == 0
    assert world.bound == {str(HOME): (str(CARE_OF),)}


def first_nonce(world: World) -> int:
    answers = world.register(home=TABLET.home_address, key=NONCES, identification=77)
    assert answers.code == 133
    return answers.reply.identification >> 32


# -- what the administrator sees and does ----------------------------------------------------------


def test_views() -> None:
    world = World()
    world.register(flags=S | D | T | B, lifetime=300)
    world.register(flags=S | D | T, care_of=CARE_OF_2, lifetime=200)
    world.pass_time(50)
    (view,) = world.agent.bindings(world.now)
    assert view == world.agent.binding(HOME, world.now)
    assert world.agent.home_addresses() == [HOME]
    assert (view.home_agent, view.name, view.home_network) == ("x-ha", "laptop", "virtual")
    assert view.care_of_addresses == (str(CARE_OF), str(CARE_OF_2))
    assert view.tunnels == ("ip-ip to 192.0.2.33", "ip-ip to 192.0.2.44")
    assert view.flags == ("co_located", "reverse")
    assert view.each[0].flags == ("broadcasts", "co_located", "reverse")
    assert view.registrations == 2
    assert (view.lifetime_s, view.last_code) == (300, 0)
    assert view.expires_in_s == pytest.approx(250, abs=0.1)
    assert view.registered_for_s == pytest.approx(50, abs=0.1)
    world.register(flags=M | G)
    assert world.agent.binding(HOME).last_code == 134
    assert world.agent.binding(IPv4Address("10.7.0.99")) is None


def test_revoked_by_the_administrator() -> None:
    world = World()
    world.register()
    assert not world.agent.revoke(IPv4Address("10.7.0.6"), world.now)
    assert world.agent.revoke(HOME, world.now)
    answers = world.take()
    assert answers.removed == [RemoveBinding(HOME_AGENT, HOME)]
    assert answers.event.name == "registration_revoked"
    assert "administrator" in answers.event.text
    assert not world.agent.revoke(HOME, world.now)
    assert world.register().code == 0


def test_another_policy_ends_what_has_no_place_in_it() -> None:
    other = replace(LAPTOP, name="other", home_address=IPv4Address("10.8.0.20"))
    world = World(policy(nodes=Nodes(LAPTOP, other)))
    world.register()
    world.register(home=other.home_address, care_of=CARE_OF_2)
    world.agent.reconfigure(policy(nodes=Nodes(other)), world.now)
    answers = world.take()
    assert [one.home_address for one in answers.removed] == [HOME]
    assert "not configured any more" in answers.events[0].text
    assert not answers.of(SetBinding)
    assert set(world.bound) == {"10.8.0.20"}
    assert world.register().code == 131
    world.agent.reconfigure(policy(nodes=Nodes(other), max_packet_octets=1300), world.now)
    assert world.take().set.max_packet_octets == 1300
    world.agent.reconfigure(policy(nodes=Nodes(other), networks=(VIRTUAL,)), world.now)
    assert world.take().removed
    assert world.bound == {}


def test_another_policy_keeps_leases_and_replay_protection() -> None:
    world = World()
    octets = request(nai=PHONE.nai, home=UNSPECIFIED, identification=world.tick())
    home = world.send(octets).reply.home_address
    changed = policy()
    world.agent.reconfigure(changed, world.now)
    assert not world.take().removed
    assert changed.pools["virtual"].holder(home) == PHONE.nai
    assert world.send(octets).code == 133
    world.agent.reconfigure(policy(pools={}), world.now)
    assert world.take().removed


def test_another_address_ends_all() -> None:
    world = World()
    world.register()
    world.agent.reconfigure(policy(address=IPv4Address("198.51.100.7")), world.now)
    answers = world.take()
    assert answers.removed == [RemoveBinding(HOME_AGENT, HOME)]
    assert world.bound == {}


def test_nothing_is_answered_after_the_end() -> None:
    world = World()
    world.agent.close(world.now)
    world.take()
    assert world.register().outputs == []

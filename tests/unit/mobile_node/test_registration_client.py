"""One registration against the project's own home and foreign agents, in virtual time."""

from dataclasses import replace

import pytest
from registration_world import (
    BY_AGENT,
    CARE_OF,
    CARE_OF_2,
    DIRECT,
    DIRECT_2,
    GATEWAY,
    HOME,
    HOME_AGENT,
    KEY,
    SOON,
    Nodes,
    World,
    foreign_policy,
    home_policy,
    node_policy,
)

from gateway.domain.event import Severity
from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.codec.extensions import (
    Challenge,
    RevocationSupport,
    UdpTunnelRequest,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.registration import RegistrationRequest, RequestFlag
from gateway.mip_agents.policy import Allowance, MobileNode, ReplayProtection
from gateway.mobile_node.registering.outcome import EndReason, Retransmission, Via

NONCES = replace(KEY, replay=ReplayProtection.NONCES)


def requests(world: World) -> list[RegistrationRequest]:
    return [RegistrationRequest.parse(one.message) for one in world.sent if one.message[0] == 1]


# -- registering ---------------------------------------------------------------------------


def test_a_co_located_node_registers_in_one_round_trip() -> None:
    world = World()
    world.register()
    (accepted,) = world.accepted
    assert world.bindings == {str(HOME): (str(CARE_OF),)}
    assert (accepted.lifetime_s, accepted.sent_at, accepted.code) == (1800, 1000.0, 0)
    assert not (accepted.natted)
    assert not (accepted.udp)
    assert not (accepted.zero_overhead)
    assert not (accepted.renewed)
    tunnel = accepted.tunnel
    assert (tunnel.home_address, tunnel.home_agent) == (HOME, HOME_AGENT)
    assert (tunnel.care_of_address, tunnel.co_located, tunnel.udp_port) == (CARE_OF, True, 0)
    assert world.client.registered
    assert world.client.tunnel == tunnel
    assert world.client.expires_at == 1000.0 + 1800
    assert len(world.sent) == 1
    assert not world.client.trying
    (sent,) = world.sent
    assert (sent.interface, sent.source, sent.destination) == ("eth0", CARE_OF, HOME_AGENT)


def test_what_a_co_located_request_asks_for() -> None:
    world = World(node_policy(nai="laptop@example.org"))
    world.register()
    (request,) = requests(world)
    assert request.flags == RequestFlag.CO_LOCATED | RequestFlag.REVERSE
    udp = request.first(UdpTunnelRequest)
    assert udp is not None
    assert not udp.forced
    assert not udp.from_foreign_agent
    assert udp.encapsulation == 4
    assert request.first(RevocationSupport) is not None
    assert request.first(ZeroOverheadRequest) is None


def test_by_way_of_a_foreign_agent() -> None:
    world = World()
    world.register(BY_AGENT)
    (accepted,) = world.accepted
    assert not accepted.tunnel.co_located
    assert not accepted.udp
    assert world.sent[0].link_address == BY_AGENT.link_address
    (request,) = requests(world)
    assert request.flags == RequestFlag.REVERSE
    assert request.first(UdpTunnelRequest) is None
    assert request.first(RevocationSupport) is None
    assert list(world.bindings.values()) == [(str(BY_AGENT.care_of_address),)]


def test_a_co_located_address_by_way_of_a_foreign_agent() -> None:
    """Where the agent demands it (R bit), no UDP is forced on it (RFC 3519 section 4.11)."""
    world = World()
    via = replace(DIRECT, destination=BY_AGENT.destination, link_address=BY_AGENT.link_address)
    world.register(via)
    (accepted,) = world.accepted
    assert accepted.tunnel.co_located
    assert not accepted.udp
    udp = requests(world)[0].first(UdpTunnelRequest)
    assert udp is not None
    assert udp.from_foreign_agent


def test_udp_is_not_forced_by_way_of_a_foreign_agent() -> None:
    """The home agent would have to deny it (RFC 3519 section 4.11)."""
    world = World(node_policy(force_udp=True))
    via = replace(DIRECT, destination=BY_AGENT.destination, link_address=BY_AGENT.link_address)
    world.register(via)
    assert world.client.registered
    assert not world.accepted[0].udp


def test_a_nat_shows_and_is_kept_open() -> None:
    world = World(home=home_policy(keepalive_s=50), nat=True)
    world.register()
    (accepted,) = world.accepted
    assert accepted.natted
    assert accepted.udp
    assert accepted.tunnel.udp_port == 434
    world.run(220)
    keepalives = [one for one in world.sent if one.message[0] == 4]
    assert len(keepalives) == 4
    one = keepalives[0]
    assert (one.interface, one.source, one.destination) == ("eth0", CARE_OF, HOME_AGENT)
    packet = one.message[4:]
    assert one.message[:4] == bytes([4, 4, 0, 0])
    assert (packet[12:16], packet[16:20]) == (HOME.packed, HOME_AGENT.packed)
    assert (packet[9], packet[20]) == (1, 8)


def test_without_a_nat_nothing_is_kept_open() -> None:
    world = World()
    world.register()
    world.run(1000)
    assert [one.message[0] for one in world.sent] == [1]


def test_forced_udp() -> None:
    world = World(node_policy(force_udp=True))
    world.register()
    (accepted,) = world.accepted
    assert accepted.udp
    assert not accepted.natted


def test_udp_is_not_assumed_of_a_home_agent_that_has_none() -> None:
    world = World(home=home_policy(udp_tunnelling=Allowance.OFF))
    world.register()
    assert [one.udp for one in world.accepted] == [False]


def test_zero_overhead_is_confirmed_or_not_there() -> None:
    world = World(node_policy(zero_overhead=True))
    world.register(default_destination=GATEWAY)
    (accepted,) = world.accepted
    assert accepted.zero_overhead
    assert accepted.tunnel.zero_overhead == GATEWAY
    for other in (
        World(node_policy(zero_overhead=True), nat=True),
        World(node_policy(zero_overhead=True), home_policy(zero_overhead=Allowance.OFF)),
        World(node_policy(zero_overhead=False)),
    ):
        other.register(default_destination=GATEWAY)
        (accepted,) = other.accepted
        assert accepted.tunnel.zero_overhead is None
        assert not accepted.zero_overhead
    world = World(node_policy(zero_overhead=True))
    world.register(BY_AGENT, default_destination=GATEWAY)
    assert requests(world)[0].first(ZeroOverheadRequest) is None


def test_a_foreign_agent_behind_a_nat_needs_nothing_of_us() -> None:
    world = World(foreign=foreign_policy(udp_tunnelling=Allowance.ALLOWED))
    world.register(BY_AGENT)
    (accepted,) = world.accepted
    assert not accepted.udp
    world.run(600)
    assert {one.message[0] for one in world.sent} == {1}


@pytest.mark.parametrize("via", [DIRECT, BY_AGENT], ids=["direct", "by-agent"])
def test_a_node_with_a_name(via: Via) -> None:
    node = MobileNode("laptop", HOME, "laptop@example.org", associations=(KEY,))
    world = World(node_policy(nai="laptop@example.org"), home_policy(nodes=Nodes(node)))
    world.register(via)
    assert world.client.registered
    assert not world.denied


# -- retransmission --------------------------------------------------------------------------


def test_every_transmission_has_its_own_identification_and_its_own_proof() -> None:
    world = World()
    world.lose_everything()
    world.register(seconds=60)
    found = requests(world)
    assert len({one.identification for one in found}) == len(found) > 10
    assert len({one.identification & 0xFFFF_FFFF for one in found}) == len(found)
    stamps = [one.identification for one in found]
    assert stamps == sorted(stamps)


def test_the_plan_of_retransmissions_is_kept() -> None:
    world = World()
    world.lose_everything()
    world.client.register(DIRECT, world.now, retransmission=Retransmission(0.5, 2, 4, 20))
    times, before = [], 0
    while True:
        world.settle()
        if len(world.sent) > before:
            before = len(world.sent)
            times.append(world.now - 1000)
        due = world.client.next_timer()
        if due is None:
            break
        world.now = due
        world.client.handle_timer(due)
    assert times == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5]
    (gave_up,) = world.gave_up
    assert (gave_up.sent, gave_up.since, gave_up.via) == (8, 1000.0, DIRECT)
    assert world.now == 1020.0
    assert not world.client.registered


def test_the_moment_of_the_confirmed_request_is_the_one_that_was_answered() -> None:
    """Exposure is counted from it: the answer to the third transmission proves the third."""
    world = World()
    heard = []

    def third_only(message: bytes) -> list[float]:
        if message[0] == 1:
            heard.append(message)
            return [0.01] if len(heard) == 3 else []
        return [0.01]

    world.way.delays = third_only
    world.register(seconds=10)
    (accepted,) = world.accepted
    assert accepted.sent_at == pytest.approx(1001.5)
    assert world.client.confirmed_at == pytest.approx(1001.5)
    assert world.client.expires_at == pytest.approx(1001.5 + 1800)


def test_a_slow_answer_proves_only_what_it_answers() -> None:
    world = World()
    world.way.delays = lambda message: [1.2]
    world.register(seconds=10)
    assert next(one.sent_at for one in world.accepted) == 1000.0
    assert world.accepted[-1].sent_at == 1001.5
    assert all(one.renewed for one in world.accepted[1:])


def test_late_answers_count_after_giving_up() -> None:
    """Late answers of the i-HA win (draft 001, section 4.3)."""
    world = World()
    world.way.delays = lambda message: [3.0]
    world.register(seconds=20, retransmission=Retransmission(1, 2, 4, 2))
    assert world.gave_up
    assert world.accepted[0].sent_at == 1000.0
    assert world.client.registered


def test_an_answer_of_another_attachment_comes_too_late() -> None:
    world = World()
    world.way.delays = lambda message: [0.2]
    world.client.register(DIRECT, world.now, retransmission=SOON)
    world.run(0.3)
    world.client.register(DIRECT_2, world.now, retransmission=SOON)
    world.run(5)
    assert {one.via for one in world.accepted} == {DIRECT_2}
    assert world.client.via == DIRECT_2


def test_nothing_counts_after_stop() -> None:
    world = World()
    world.client.register(DIRECT, world.now, retransmission=SOON)
    world.run(0.005)
    world.client.stop()
    world.run(5)
    assert not world.outcomes
    assert not world.client.registered
    assert world.client.next_timer() is None


# -- lifetime ------------------------------------------------------------------------------------


def test_registrations_are_renewed_at_about_two_thirds() -> None:
    shares = set()
    for seed in range(12):
        world = World(seed=seed)
        world.register(lifetime_s=600)
        world.run(450)
        assert len(world.accepted) == 2
        assert world.accepted[1].renewed
        share = (world.accepted[1].sent_at - 1000) / 600
        assert 0.56 < share < 0.67
        shares.add(round(share, 4))
    assert len(shares) > 6


def test_it_lasts_for_days() -> None:
    world = World()
    world.register()
    world.run(3 * 86400)
    assert world.client.registered
    assert world.bindings
    assert not world.ended
    assert not world.gave_up
    assert len(world.sent) < 3 * 86400 / 1000


def test_a_home_agent_that_grants_less_is_asked_sooner() -> None:
    world = World(home=home_policy(lifetime_s=60))
    world.register()
    assert world.accepted[0].lifetime_s == 60
    world.run(600)
    assert world.client.registered
    assert not world.ended


def test_for_ever() -> None:
    world = World(home=home_policy(lifetime_s=65535))
    world.register(lifetime_s=65535)
    assert world.accepted[0].lifetime_s == 65535
    assert world.client.expires_at is None
    assert world.client.next_timer() is None


def test_a_registration_ends_when_its_home_agent_falls_silent() -> None:
    world = World()
    world.register(lifetime_s=300)
    world.lose_everything()
    world.run(400)
    (ended,) = world.ended
    assert ended.reason is EndReason.EXPIRED
    assert not world.client.registered
    assert not world.client.trying
    assert world.client.next_timer() is None
    assert not world.bindings
    # 100 s of trying, at growing intervals.
    assert len(world.sent) < 15


def test_a_renewal_that_is_asked_for_gives_up_and_leaves_the_registration() -> None:
    """Inside, that is how plaintext is stopped; the binding itself may still be there."""
    world = World()
    world.register()
    world.lose_everything()
    world.client.renew(world.now, Retransmission(0.5, 2, 4, 20))
    world.run(21)
    assert len(world.gave_up) == 1
    assert world.client.registered
    world.lose_nothing()
    world.run(1000)
    assert world.accepted[-1].renewed


def test_a_renewal_without_registration_does_nothing() -> None:
    world = World()
    world.client.renew(world.now, SOON)
    world.run(1)
    assert not world.sent


def test_a_renewal_does_not_disturb_a_handover() -> None:
    world = World()
    world.register()
    world.lose_everything()
    world.client.register(DIRECT_2, world.now, retransmission=SOON)
    world.client.renew(world.now, SOON)
    world.run(3)
    assert {one.source for one in world.sent[1:]} == {CARE_OF_2}


# -- moving --------------------------------------------------------------------------------------


def test_make_before_break() -> None:
    """The old registration stays ours until the new one is accepted."""
    world = World()
    world.register()
    world.lose_everything()
    world.client.register(DIRECT_2, world.now, retransmission=SOON)
    world.run(2)
    assert world.client.via == DIRECT
    assert world.client.registered
    world.lose_nothing()
    world.run(5)
    assert world.client.via == DIRECT_2
    assert world.bindings == {str(HOME): (str(CARE_OF_2),)}
    assert not world.accepted[-1].renewed
    assert world.client.registered_since == pytest.approx(world.now, abs=6)


def test_a_handover_that_fails_leaves_the_old_registration_to_be_renewed() -> None:
    world = World()
    world.register()
    world.lose_everything()
    world.client.register(DIRECT_2, world.now, retransmission=Retransmission(0.5, 2, 4, 5))
    world.run(6)
    assert world.gave_up[0].via == DIRECT_2
    world.lose_nothing()
    world.run(3000)
    assert world.client.via == DIRECT
    assert not world.ended


def test_deregistering_one_address() -> None:
    world = World()
    world.register()
    world.client.deregister(DIRECT, world.now, SOON)
    world.run(1)
    last = world.accepted[-1]
    assert last.deregistered
    assert last.lifetime_s == 0
    assert last.tunnel == world.accepted[0].tunnel
    assert not world.bindings
    assert not world.client.registered
    assert world.client.next_timer() is None


def test_deregistering_at_home_ends_everything() -> None:
    world = World()
    world.register()
    at_home = replace(DIRECT, source=HOME, care_of_address=HOME)
    world.client.deregister(at_home, world.now, SOON)
    world.run(1)
    assert world.accepted[-1].deregistered
    assert not world.bindings
    assert not world.client.registered


def test_deregistering_again_is_nothing_new() -> None:
    """At home that is how the home agent proves, again and again, that it is there."""
    world = World()
    at_home = replace(DIRECT, source=HOME, care_of_address=HOME)
    for _ in range(3):
        world.client.deregister(at_home, world.now, SOON)
        world.run(30)
    assert [one.renewed for one in world.accepted] == [False, True, True]
    told = [one.severity for one in world.events if one.name == "deregistered"]
    assert told == [Severity.INFO, Severity.DEBUG, Severity.DEBUG]
    world.register()
    world.client.deregister(at_home, world.now, SOON)
    world.run(30)
    assert not world.accepted[-1].renewed


def test_deregistering_what_was_never_registered_here() -> None:
    world = World()
    world.client.deregister(DIRECT, world.now, SOON)
    world.run(1)
    (accepted,) = world.accepted
    assert accepted.deregistered
    assert accepted.tunnel.care_of_address == CARE_OF


def test_a_deregistration_that_nobody_hears_is_given_up() -> None:
    world = World()
    world.register()
    world.lose_everything()
    world.client.deregister(DIRECT, world.now, Retransmission(0.5, 2, 4, 5))
    world.run(6)
    assert world.gave_up[0].deregistering
    assert world.client.registered


def test_what_could_not_be_deregistered_is_left_to_its_end() -> None:
    world = World(nat=True)
    world.register(lifetime_s=300)
    world.lose_everything()
    world.client.deregister(DIRECT, world.now, Retransmission(0.5, 2, 4, 5))
    world.run(10)
    before = len(world.sent)
    world.lose_nothing()
    world.run(400)
    assert len(world.sent) == before
    assert [one.reason for one in world.ended] == [EndReason.EXPIRED]
    assert not world.bindings


def test_two_links_at_once_do_not_push_each_others_clock() -> None:
    """Requests of one home address by two links overtake each other on their way."""
    world = World()
    first, second = world.client, world.new_client(node_policy())
    slow, fast = [0.3], [0.01]
    for number in range(20):
        world.client = first
        world.way.delays = lambda message: slow
        first.register(DIRECT, world.now, retransmission=SOON)
        world.settle()
        world.client = second
        world.way.delays = lambda message: fast
        second.register(DIRECT_2, world.now, retransmission=SOON)
        world.run(0.1)
        assert second.registered, number
        world.client = first
        world.run(1.9)
        assert first.registered, number
        assert first.clock_error_s == second.clock_error_s == 0


def test_an_acceptance_that_comes_after_a_deregistration_began_is_none() -> None:
    world = World()
    world.way.delays = lambda message: [0.3]
    world.client.register(DIRECT, world.now, retransmission=SOON)
    world.run(0.4)
    world.client.deregister(DIRECT, world.now, SOON)
    world.run(5)
    assert [one.deregistered for one in world.accepted] == [True] * len(world.accepted)
    assert not world.client.registered
    assert not world.bindings


# -- clocks and nonces ---------------------------------------------------------------------------


@pytest.mark.parametrize("off_s", [-40 * 365 * 86400, -3600, -8, 8, 3600, 10 * 365 * 86400])
def test_h55_a_wrong_clock_is_corrected_once(off_s: float) -> None:
    world = World(clock_off_s=off_s)
    world.register()
    assert len(world.accepted) == 1
    assert len(world.sent) == 2
    assert not world.denied
    world.run(3600)
    assert len(world.accepted) == len(world.sent) - 1


def test_h55_a_clock_that_is_set_back_while_registered() -> None:
    world = World()
    world.register()
    world.clock_off_s = -86400
    world.run(3600)
    assert world.client.registered
    assert not world.denied
    assert not world.ended
    world.clock_off_s = 86400
    world.run(3600)
    assert world.client.registered
    assert not world.denied
    assert not world.ended


def test_h55_across_the_era_of_2036() -> None:
    # The era ends 2**32 s after 1900.
    left = 2**32 - 2_208_988_800 - 1_900_000_000 - 1000
    world = World()
    world.now = 1000.0 + left - 100
    world.register(lifetime_s=300)
    world.run(1000)
    assert world.client.registered
    assert not world.denied
    assert len(world.sent) == len(world.accepted)


def test_h55_nonces() -> None:
    world = World(node_policy(association=NONCES), home_policy(NONCES))
    world.register()
    assert len(world.accepted) == 1
    assert len(world.sent) == 2
    world.run(5000)
    assert len(world.sent) == len(world.accepted) + 1


def test_h55_nonces_when_answers_are_lost() -> None:
    world = World(node_policy(association=NONCES), home_policy(NONCES))
    world.lose_answers()
    world.register(seconds=3)
    world.lose_nothing()
    world.run(10)
    assert world.client.registered
    assert not world.denied
    world.lose_answers()
    world.client.renew(world.now, SOON)
    world.run(3)
    world.lose_nothing()
    world.run(10)
    assert world.accepted[-1].renewed
    assert not world.denied


def test_h55_the_other_kind_of_replay_protection_is_told() -> None:
    # A home agent's nonces are no times: nothing it says fits, and that is said.
    world = World(home=home_policy(NONCES))
    world.register(seconds=60)
    assert not world.accepted
    assert not world.client.registered
    assert any("set replay to nonces" in one.text for one in world.events)
    assert len(world.sent) < 60
    # The reverse is no better than what the home agent's clock makes a good nonce of.
    world = World(node_policy(association=NONCES))
    world.register(seconds=60)
    assert world.client.registered
    assert len(world.sent) < 60


# -- tickets, keys, challenges -------------------------------------------------------------------


def test_a_new_key_is_used_from_the_next_request_on() -> None:
    world = World(home=home_policy(KEY))
    world.register()
    with pytest.raises(ValueError, match="make a new client"):
        world.client.change_policy(node_policy(home_address=CARE_OF))
    wrong = replace(KEY, key=b"not the right one")
    world.client.change_policy(node_policy(association=wrong))
    world.client.renew(world.now, SOON)
    world.run(2)
    (denied,) = world.denied
    assert (denied.code, denied.authentic, denied.final) == (131, False, False)
    world.client.change_policy(node_policy())
    world.run(10)
    assert world.accepted[-1].renewed


def test_an_answer_to_a_request_under_the_old_key_counts() -> None:
    world = World()
    world.client.register(DIRECT, world.now, retransmission=SOON)
    world.settle()
    world.client.change_policy(node_policy(association=replace(KEY, spi=999, key=b"new")))
    world.run(1)
    assert world.accepted


def test_the_ticket_is_covered_by_the_authenticator() -> None:
    world = World(node_policy(ticket=b"sealed"))
    world.client.register(DIRECT, world.now, retransmission=SOON)
    world.settle()
    (request,) = requests(world)
    at = world.sent[0].message.index(b"sealed")
    assert at < request.authentications(request.extensions[-1].kind)[0].offset  # type: ignore[union-attr]


def test_challenges_of_the_foreign_agent_are_followed() -> None:
    world = World(foreign=foreign_policy(challenge=True))
    world.register(BY_AGENT)
    assert len(world.accepted) == 1
    assert len(world.sent) == 2
    asked = requests(world)[1].first(Challenge)
    assert asked is not None
    world.run(4000)
    assert world.client.registered
    assert not world.denied
    # Each reply brought the challenge of the next request.
    assert len(world.sent) == len(world.accepted) + 1
    values = [one.first(Challenge) for one in requests(world)[1:]]
    assert len({one.value for one in values if one is not None}) == len(values)


def test_a_home_agents_refusal_brings_the_next_challenge_too() -> None:
    world = World(
        node_policy(encapsulation=Encapsulation.GRE),
        home_policy(encapsulations=frozenset({Encapsulation.IP_IP})),
        foreign_policy(challenge=True),
    )
    world.register(BY_AGENT)
    assert world.client.registered
    assert len(world.sent) == 3


def test_challenges_survive_retransmissions() -> None:
    world = World(foreign=foreign_policy(challenge=True))
    world.lose_answers()
    world.register(BY_AGENT, seconds=3)
    world.lose_nothing()
    world.run(10)
    assert world.client.registered
    assert not [one for one in world.denied if one.final]


def test_a_challenge_heard_between_is_given_back_next() -> None:
    world = World(foreign=foreign_policy())
    world.register(BY_AGENT)
    world.client.renew(world.now, SOON, challenge=b"of the advertisement")
    world.run(1)
    asked = requests(world)[-1].first(Challenge)
    assert asked == Challenge(b"of the advertisement")


# -- refusals that leave something open ----------------------------------------------------------


@pytest.mark.parametrize("wanted", [Encapsulation.GRE, Encapsulation.MINIMAL])
@pytest.mark.parametrize("nat", [False, True])
def test_an_encapsulation_that_is_refused_gives_way_to_ip_in_ip(
    wanted: Encapsulation, nat: bool
) -> None:
    granted = World(node_policy(encapsulation=wanted), nat=nat)
    granted.register()
    assert granted.accepted[0].tunnel.encapsulation is wanted
    world = World(
        node_policy(encapsulation=wanted),
        home_policy(encapsulations=frozenset({Encapsulation.IP_IP})),
        nat=nat,
    )
    world.register()
    assert world.accepted[0].tunnel.encapsulation is Encapsulation.IP_IP
    assert len(world.sent) == 2
    assert not world.denied
    world.run(1500)
    assert len(world.sent) <= 2 + len(world.accepted) + 15 * nat


def test_an_encapsulation_that_the_foreign_agent_lacks() -> None:
    only = frozenset({Encapsulation.IP_IP})
    world = World(
        node_policy(encapsulation=Encapsulation.GRE), foreign=foreign_policy(encapsulations=only)
    )
    world.register(BY_AGENT)
    assert world.accepted[0].tunnel.encapsulation is Encapsulation.IP_IP
    assert len(world.sent) == 2
    known = World(
        node_policy(encapsulation=Encapsulation.GRE), foreign=foreign_policy(encapsulations=only)
    )
    known.register(replace(BY_AGENT, encapsulations=only))
    assert len(known.sent) == 1
    assert known.accepted


def test_h56_a_lifetime_that_is_too_long_is_shortened() -> None:
    world = World(foreign=foreign_policy(lifetime_s=120))
    world.register(BY_AGENT)
    assert world.accepted[0].lifetime_s == 120
    assert len(world.sent) == 2
    world.run(600)
    assert world.client.registered
    assert len(world.sent) == len(world.accepted) + 1
    known = World(foreign=foreign_policy(lifetime_s=120))
    known.register(replace(BY_AGENT, longest_lifetime_s=120))
    assert len(known.sent) == 1
    assert known.accepted


def test_a_denial_that_leaves_nothing_open_is_final() -> None:
    world = World(home=home_policy(reverse_tunnelling=Allowance.OFF))
    world.register(seconds=30)
    (denied,) = world.denied
    assert (denied.code, denied.authentic, denied.final) == (137, True, True)
    assert not denied.by_foreign_agent
    assert denied.hint
    assert denied.text
    assert len(world.sent) == 1
    assert not world.client.trying


def test_a_home_agent_that_is_full_for_a_moment_is_asked_again() -> None:
    world = World(home=home_policy(max_bindings=0))
    world.register(seconds=10)
    (denied,) = world.denied
    assert (denied.code, denied.authentic, denied.final) == (130, True, False)
    assert world.client.trying
    assert len(world.sent) > 3


def test_a_foreign_agent_that_refuses_is_told_and_asked_on() -> None:
    world = World(foreign=foreign_policy(reverse_tunnelling=Allowance.OFF))
    world.register(BY_AGENT, seconds=10)
    (denied,) = world.denied
    assert (denied.code, denied.by_foreign_agent) == (74, True)
    assert not denied.authentic
    assert not denied.final
    assert world.client.trying


def test_a_home_agent_that_is_silent_behind_a_foreign_agent() -> None:
    world = World(foreign=foreign_policy(pending_timeout_s=2))
    home, world.home.receive = world.home.receive, lambda *_: None  # type: ignore[method-assign]
    world.register(BY_AGENT, seconds=6)
    assert {one.code for one in world.denied} == {78}
    world.home.receive = home  # type: ignore[method-assign]
    world.run(10)
    assert world.client.registered

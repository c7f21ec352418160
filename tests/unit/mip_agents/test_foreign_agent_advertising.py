"""When and what a foreign agent advertises, and what solicitations cost it."""

import itertools
from ipaddress import IPv4Address

import pytest
from foreign_agent_world import (
    CARE_OF,
    HOME,
    LINK,
    MAC,
    OTHER_HOME,
    OTHER_MAC,
    World,
    request,
)

from gateway.domain.checksum import internet_checksum
from gateway.domain.event import Event
from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.advertisement import AgentAdvertisement, AgentFlag
from gateway.mip_agents.foreign_agent.advertising import MAX_REMEMBERED, next_sequence
from gateway.mip_agents.outputs import Link, TransmitAdvertisement
from gateway.mip_agents.policy import Allowance

NODE = IPv4Address("10.1.0.5")


def solicitation(reserved: bytes = bytes(4)) -> bytes:
    body = b"\x0a\x00\x00\x00" + reserved
    return body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]


def asks(
    world: World,
    source: IPv4Address = NODE,
    mac: bytes = MAC,
    message: bytes = b"",
    interface: str = LINK,
) -> list[TransmitAdvertisement]:
    world.agent.solicited(message or solicitation(), source, Link(interface, mac), world.now)
    world.took()
    return world.advertisements()


def read(sent: TransmitAdvertisement) -> AgentAdvertisement:
    return AgentAdvertisement.parse(sent.message)


def test_the_first_comes_at_once_with_sequence_number_0() -> None:
    world = World(advertisement_interval_s=10.0, nai="fa@example.org")
    assert world.agent.next_timer() == 0
    world.passes(0)
    (sent,) = world.advertisements()
    assert sent.link == Link(LINK)
    assert sent.destination is None
    told = read(sent)
    assert told.sequence == 0
    assert told.care_of_addresses == (CARE_OF,)
    assert told.registration_lifetime_s == 1800
    assert told.lifetime_s == 30
    assert told.flags == (
        AgentFlag.FOREIGN_AGENT
        | AgentFlag.REGISTRATION_REQUIRED
        | AgentFlag.MINIMAL_ENCAPSULATION
        | AgentFlag.GRE
        | AgentFlag.REVERSE_TUNNELLING
        | AgentFlag.UDP_TUNNELLING
        | AgentFlag.REVOCATION
    )
    assert not told.routes_common_traffic
    assert b"fa@example.org" in sent.message


def test_flags_follow_the_policy() -> None:
    world = World(
        registration_required=False,
        encapsulations=frozenset({Encapsulation.IP_IP}),
        reverse_tunnelling=Allowance.OFF,
        udp_tunnelling=Allowance.OFF,
        revocation=False,
    )
    assert world.agent.advertisement().flags == AgentFlag.FOREIGN_AGENT


def test_intervals_vary_and_sequence_numbers_count() -> None:
    world = World(advertisement_interval_s=40.0)
    times = []
    sequences = []
    for _ in range(40):
        due = world.agent.next_timer()
        assert due is not None
        times.append(max(due, world.now))
        world.passes(times[-1] - world.now)
        (sent,) = world.advertisements()
        sequences.append(read(sent).sequence)
    assert sequences == list(range(40))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(12 <= gap <= 16 for gap in gaps[:3]), "the first ones come sooner (RFC 1256)"
    assert all(30 <= gap <= 40 for gap in gaps[3:])
    assert len({round(gap, 3) for gap in gaps}) > 20


def test_h62_after_65535_comes_256() -> None:
    assert next_sequence(0) == 1
    assert next_sequence(0xFFFE) == 0xFFFF
    assert next_sequence(0xFFFF) == 256
    world = World(advertisement_interval_s=1.0)
    seen: list[int] = []
    while len(seen) < 0x10002:
        seen += [read(one).sequence for one in world.passes(1000) if hasattr(one, "destination")]
    assert seen[0xFFFF:0x10002] == [0xFFFF, 256, 257]


def test_no_regular_ones_when_switched_off() -> None:
    assert World().agent.next_timer() is None


def test_a_solicitation_is_answered_to_its_sender_alone() -> None:
    world = World()
    (sent,) = asks(world)
    assert sent.link == Link(LINK, MAC)
    assert sent.destination == NODE
    assert read(sent).sequence == 0
    assert asks(world) == [], "once a second at most"
    world.passes(1.1)
    (sent,) = asks(world)
    assert read(sent).sequence == 1


def test_who_has_no_address_is_answered_with_everybody() -> None:
    world = World()
    assert asks(world, IPv4Address(0)) == []
    world.passes(0.1)
    (sent,) = world.advertisements()
    assert sent.destination is None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x0a",
        solicitation()[:7],
        b"\x0a\x00\x12\x34" + bytes(4),
        b"\x09" + solicitation()[1:],
        solicitation() + bytes(2000),
    ],
)
def test_h62_malformed_solicitations_cost_a_counter(message: bytes) -> None:
    world = World()
    world.agent.solicited(message, NODE, Link(LINK, MAC), world.now)
    world.took()
    assert not world.advertisements()
    assert world.agent.counters["discarded_malformed"] == 1
    assert world.agent.next_timer() is None


@pytest.mark.parametrize("source", ["224.0.0.1", "127.0.0.1", "255.255.255.255"])
def test_h62_solicitations_of_no_host_cost_a_counter(source: str) -> None:
    world = World()
    assert asks(world, IPv4Address(source)) == []
    assert world.agent.counters["discarded_source"] == 1


def test_solicitations_of_other_links_cost_a_counter() -> None:
    world = World()
    assert asks(world, interface="wan0") == []
    assert world.agent.counters["discarded_foreign_link"] == 1


def test_h62_a_flood_of_solicitations_costs_little_and_starves_nobody() -> None:
    world = World()
    sent: list[TransmitAdvertisement] = []
    events = 0
    seconds = 5
    for number in range(1000 * seconds):
        sent += [one for one in world.passes(0.001) if isinstance(one, TransmitAdvertisement)]
        mac = b"\x02\x00" + number.to_bytes(4, "big")
        sent += asks(world, NODE, mac)
        events += sum(isinstance(one, Event) for one in world.outputs)
    alone = [one for one in sent if one.destination is not None]
    everybody = [one for one in sent if one.destination is None]
    assert len(alone) <= 20 + 20 * seconds
    assert 1 <= len(everybody) <= seconds + 1
    assert events <= 20
    # Who solicits now hears the next one to everybody within a second.
    assert asks(world, OTHER_HOME, OTHER_MAC) == [] or world.advertisements()
    assert [one for one in world.passes(1.1) if isinstance(one, TransmitAdvertisement)]


def test_h62_what_is_remembered_of_askers_is_bounded() -> None:
    world = World()
    for number in range(3 * MAX_REMEMBERED):
        world.now += 0.1
        assert asks(world, NODE, b"\x02\x00" + number.to_bytes(4, "big"))
    assert len(world.agent._advertising._answered) == MAX_REMEMBERED


def test_h62_one_asker_cannot_use_up_the_answers_of_others() -> None:
    world = World()
    asks(world)
    for _ in range(1000):
        assert asks(world) == []
    assert world.agent.counters["solicitations_repeated"] == 1000
    assert asks(world, OTHER_HOME, OTHER_MAC)
    assert world.agent.next_timer() is None


def test_busy_while_there_is_no_room() -> None:
    world = World(max_visitors=1)
    assert not world.agent.advertisement().flags & AgentFlag.BUSY
    world.registers()
    assert world.agent.advertisement().flags & AgentFlag.BUSY
    world.registers(identification=2, lifetime_s=0)
    assert not world.agent.advertisement().flags & AgentFlag.BUSY
    world = World(max_pending=1)
    world.asks(request(home=HOME))
    assert world.agent.advertisement().flags & AgentFlag.BUSY


def test_what_ike_carries_counts_as_no_advertisement_of_the_link() -> None:
    world = World(advertisement_interval_s=10.0)
    world.passes(0)
    assert world.agent.advertisement() == world.agent.advertisement()
    assert AgentAdvertisement.parse(world.agent.advertisement().serialize()).sequence == 1


def test_a_new_configuration_is_advertised_at_once() -> None:
    from dataclasses import replace

    world = World(advertisement_interval_s=10.0)
    world.passes(0)
    world.agent.reconfigure(world.policy, world.now)
    world.passes(0)
    assert not world.advertisements(), "nothing is new"
    world.agent.reconfigure(replace(world.policy, lifetime_s=900), world.now)
    world.passes(0)
    (sent,) = world.advertisements()
    assert read(sent).registration_lifetime_s == 900
    assert read(sent).sequence == 1

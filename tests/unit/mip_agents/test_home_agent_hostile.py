"""What strangers, liars and broken mobile nodes send to a home agent (numbers 53 to 66)."""

import hashlib
import tracemalloc
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from home_agent_world import (
    CARE_OF,
    CARE_OF_2,
    FOREIGN_AGENT,
    HOME,
    HOME_AGENT,
    KEY,
    LAPTOP,
    NONCES,
    OLD,
    PHONE,
    SHA,
    UNSPECIFIED,
    Nodes,
    T,
    UdpTunnelRequest,
    World,
    authentic,
    policy,
    request,
    trusting,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.mobility import HomeNetwork
from gateway.mip_agents import authentication
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    Nai,
    UnknownExtension,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.registration import RegistrationReply
from gateway.mip_agents.home_agent.answers import STRANGER_BURST, STRANGER_REPLIES_PER_S
from gateway.mip_agents.home_agent.events import LINES
from gateway.mip_agents.outputs import Forget, Keep, RemoveBinding, SetBinding
from gateway.mip_agents.policy import Algorithm, SecurityAssociation
from gateway.mip_agents.replay import ntp

CHANGES = (SetBinding, RemoveBinding, Keep, Forget)


def bound_world() -> World:
    world = World()
    assert world.register().code == 0
    return world


def state(world: World) -> object:
    return world.agent.bindings(0.0), dict(world.records)


def test_h53_cut_anywhere() -> None:
    world = bound_world()
    before = state(world)
    octets = request(
        nai=LAPTOP.name,
        care_of=CARE_OF_2,
        identification=world.tick(),
        extensions=[UdpTunnelRequest(), ZeroOverheadRequest(IPv4Address("203.0.113.1"))],
    )
    for end in range(len(octets)):
        answers = world.send(octets[:end])
        assert not any(isinstance(one, CHANGES) for one in answers.outputs)
        # Cut between two extensions it is whole, but proves nothing.
        assert {one.message[1] for one in answers.transmits} <= {131}
    assert state(world) == before
    assert world.send(octets).code == 0


def test_h53_changed_anywhere() -> None:
    world = bound_world()
    before = state(world)
    octets = request(
        care_of=CARE_OF_2, identification=world.tick(), extensions=[UdpTunnelRequest()]
    )
    for position in range(len(octets)):
        for bit in range(8):
            changed = bytearray(octets)
            changed[position] ^= 1 << bit
            answers = world.send(bytes(changed))
            assert not any(isinstance(one, CHANGES) for one in answers.outputs)
    assert state(world) == before
    total = sum(world.agent.counters.values()) - world.agent.counters["unanswered"]
    assert total == 8 * len(octets) + 1, "each costs one counter"


def test_h53_unknown_extensions() -> None:
    world = World()
    for kind in range(256):
        if kind in (32, 33, 34, 36, 38, 44, 127, 130, 131, 132, 134, 137, 144, 255):
            continue
        extension = UnknownExtension(kind, b"abc")
        answers = world.register(extensions=[extension])
        if kind >= 128:
            assert answers.code == 0
        else:
            assert not answers.transmits
    assert world.agent.counters["discarded_unknown_extension"] == 128 - 8


def test_h53_lengths_that_lie() -> None:
    world = World()
    plain = request(key=None, identification=world.tick())
    for tail in (b"\x20", b"\x20\x16", b"\x20\xff" + bytes(16), b"\x83\x00", b"\x84\x05abc"):
        assert not world.send(plain + tail).transmits
    assert world.agent.counters["discarded_malformed"] == 5


def test_h54_authenticator_missing_or_twice() -> None:
    world = World()
    assert world.register(key=None).code == 131
    once = request(identification=world.tick())
    twice = authentication.sign(once, AuthenticationKind.MOBILE_HOME, KEY)
    assert world.send(twice).code == 131
    assert world.bound == {}


def test_h54_what_comes_behind_the_authenticator_is_not_the_mobile_nodes() -> None:
    world = World(policy(nodes=Nodes(LAPTOP, PHONE)))
    octets = request(
        identification=world.tick(),
        behind=[
            Nai(PHONE.nai),
            UdpTunnelRequest(forced=True),
            ZeroOverheadRequest(IPv4Address("203.0.113.1")),
        ],
    )
    answers = world.send(octets)
    assert answers.code == 0
    assert answers.reply.first(Nai) is None
    assert answers.set.home_address == HOME
    assert answers.udp is None
    assert answers.zero_overhead is None


@pytest.mark.parametrize("spi", [0, 1, 255])
def test_h54_reserved_spis_prove_nothing(spi: int) -> None:
    reserved = replace(KEY, spi=spi)
    world = World(policy(nodes=Nodes(replace(LAPTOP, associations=(reserved,)))))
    octets = bytearray(request(identification=world.tick()))
    octets[26:30] = spi.to_bytes(4, "big")
    mac = authentication.authenticator(bytes(octets[:30]), reserved)
    assert world.send(bytes(octets[:30]) + mac).code == 131


@pytest.mark.parametrize("size", [0, 1, 4, 12, 15, 17, 32])
def test_h54_authenticators_of_another_length(size: int) -> None:
    world = World()
    plain = request(key=None, identification=world.tick())
    covered = plain + bytes([32, 4 + size]) + (256).to_bytes(4, "big")
    mac = authentication.authenticator(covered, KEY)
    padded = (mac + bytes(64))[:size]
    assert world.send(covered + padded).code == 131


def test_h54_octets_behind_an_authenticator_of_everything() -> None:
    world = World()
    octets = request(identification=world.tick())
    assert world.send(octets + b"\x01").transmits == []
    assert world.bound == {}


def test_h55_timestamps() -> None:
    world = World()
    first = world.tick()
    assert world.register(identification=first).code == 0
    for wrong, says in [
        (first, "older"),
        (first - 1, "older"),
        (ntp(world.wall - 8), "behind"),
        (ntp(world.wall + 8), "ahead"),
        (0, ""),
        (2**64 - 1, ""),
    ]:
        answers = world.register(identification=wrong)
        assert answers.code == 133
        assert authentic(answers.transmits[0].message, answers.reply)
        assert says in answers.event.text
        assert answers.reply.identification & 0xFFFFFFFF == wrong & 0xFFFFFFFF
        told = answers.reply.identification >> 32
        assert abs(told - (ntp(world.wall) >> 32)) <= 1
    assert world.register(identification=first + 1).code == 0


def test_h55_resynchronised_by_the_reply() -> None:
    world = World()
    answers = world.register(identification=ntp(world.wall - 3600))
    assert answers.code == 133
    assert world.bound == {}
    ours = answers.reply.identification >> 32
    assert world.register(identification=ours << 32 | 1 << 31).code == 0


def test_h55_the_end_of_the_era_in_2036() -> None:
    wrap = 2**32 - 2_208_988_800
    world = World(wall=wrap - 2.0)
    for _ in range(8):
        world.pass_time(1)
        assert world.register().code == 0
    old = ntp(world.wall - 6.5)
    assert old > ntp(world.wall)
    assert world.register(identification=old).code == 133


def test_h55_nonces() -> None:
    world = World(policy(nodes=Nodes(replace(LAPTOP, associations=(NONCES,)))))
    answers = world.register(key=NONCES, identification=3)
    assert answers.code == 133
    nonce = answers.reply.identification >> 32
    # Played again, it leaves the nonce that the mobile node holds as it is.
    assert world.register(key=NONCES, identification=3).reply.identification >> 32 == nonce
    octets = request(key=NONCES, identification=nonce << 32 | 4)
    answers = world.send(octets)
    assert answers.code == 0
    following = answers.reply.identification >> 32
    assert following != nonce
    assert answers.reply.identification & 0xFFFFFFFF == 4
    assert world.send(octets).code == 133
    assert world.register(key=NONCES, identification=following << 32 | 5).code == 0


def test_h55_nonces_that_nobody_uses_are_forgotten() -> None:
    world = World(policy(nodes=Nodes(replace(LAPTOP, associations=(NONCES,)))))
    nonce = world.register(key=NONCES, identification=3).reply.identification >> 32
    world.pass_time(30)
    assert world.agent.next_timer() is not None
    world.pass_time(60)
    assert world.agent.next_timer() is None
    assert world.register(key=NONCES, identification=nonce << 32 | 5).code == 133


def test_h55_replays_reflect_little() -> None:
    world = World()
    octets = request(identification=world.tick())
    world.send(octets)
    sent = sum(len(world.send(octets, IPv4Address("203.0.113.66")).transmits) for _ in range(500))
    assert sent <= 11
    assert world.agent.counters["ha_identification_mismatch"] == 500
    # Others are not made to suffer.
    world.pass_time(3)
    assert world.register().code == 0


@pytest.mark.parametrize("lifetime", [0, 1, 1800, 0xFFFE, 0xFFFF])
def test_h56_every_lifetime(lifetime: int) -> None:
    world = World()
    answers = world.register(lifetime=lifetime)
    assert answers.code == 0
    granted = answers.reply.lifetime_s
    assert granted <= min(lifetime, world.policy.lifetime_s)
    assert (granted > 0) == (lifetime > 0)


@pytest.mark.parametrize("home", ["0.0.0.0", "255.255.255.255", "224.0.0.1", str(HOME_AGENT)])
def test_h57_home_addresses_of_nobody(home: str) -> None:
    world = World()
    assert world.register(home=IPv4Address(home)).code == 131
    answers = world.register(home=IPv4Address(home), nai=PHONE.nai)
    assert answers.code == (0 if home == "0.0.0.0" else 129)


@pytest.mark.parametrize(
    "care_of", ["0.0.0.0", "127.0.0.1", "224.0.0.1", str(HOME), str(HOME_AGENT), "198.51.100.2"]
)
def test_h58_a_bad_care_of_address_leaves_the_binding(care_of: str) -> None:
    world = bound_world()
    assert world.register(CARE_OF, care_of=IPv4Address(care_of)).code in (129, 134)
    assert world.bound == {str(HOME): (str(CARE_OF),)}


def test_h61_replies_are_not_for_a_home_agent() -> None:
    world = bound_world()
    answers = world.register()
    for octets in (
        answers.transmits[0].message,
        RegistrationReply(0, 1, HOME, HOME_AGENT, 1).serialize(),
        RegistrationReply(250, 1, HOME, HOME_AGENT, 1).serialize(),
    ):
        assert not world.send(octets).transmits
    assert world.agent.counters["discarded_unexpected"] == 3


def test_h61_a_relayed_request_with_changed_fields() -> None:
    world = World(policy(**trusting(required=False)))
    octets = request(care_of=FOREIGN_AGENT, flags=T, identification=world.tick())
    for position in range(1, 24):
        changed = bytearray(octets)
        changed[position] ^= 1
        assert world.send(bytes(changed), FOREIGN_AGENT).code == 131
    assert world.bound == {}


def test_h66_keyed_md5_and_hmac_are_not_mixed_up() -> None:
    world = World(policy(nodes=Nodes(replace(LAPTOP, associations=(KEY, SHA, OLD)))))
    for mine, theirs in [
        (Algorithm.HMAC_MD5, OLD),
        (Algorithm.KEYED_MD5, KEY),
        (Algorithm.HMAC_MD5, SHA),
        (Algorithm.KEYED_MD5, SHA),
        (Algorithm.HMAC_SHA256, KEY),
        (Algorithm.HMAC_SHA256, OLD),
    ]:
        assert world.register(key=replace(theirs, algorithm=mine)).code == 131
    octets = request(key=OLD, identification=world.tick())
    covered = octets[:-16]
    assert octets[-16:] == hashlib.md5(OLD.key + covered + OLD.key).digest()
    assert world.send(octets).code == 0


def test_garbage_costs_a_counter_and_few_lines() -> None:
    world = bound_world()
    before = state(world)
    events = 0
    for number in range(1000):
        garbage = hashlib.sha256(str(number).encode()).digest() * (number % 5)
        events += len(world.send(garbage).events)
    assert state(world) == before
    assert sum(world.agent.counters.values()) == 1001
    assert events <= 4 * LINES


def test_strangers_never_get_more_than_they_send() -> None:
    world = World()
    sent = received = 0
    for number in range(2000):
        octets = request(
            home=HOME + number % 50,
            nai="nobody@example.org" if number % 3 else "",
            identification=number,
            key=None if number % 2 else SecurityAssociation(256 + number, b"guess"),
        )
        answers = world.send(octets, IPv4Address("203.0.113.66"))
        sent += len(octets)
        received += sum(len(one.message) for one in answers.transmits)
        assert all(len(one.message) < len(octets) for one in answers.transmits)
    assert received < sent / 10
    answered = 2000 - world.agent.counters["unanswered"]
    assert answered <= STRANGER_BURST + 1
    assert world.register().code == 0, "an honest node is served meanwhile"
    world.pass_time(1)
    more = sum(len(world.send(request(key=None)).transmits) for _ in range(200))
    assert STRANGER_REPLIES_PER_S - 1 <= more <= STRANGER_REPLIES_PER_S + 10


def test_strangers_do_not_keep_honest_nodes_from_resynchronising() -> None:
    world = World()
    for _ in range(500):
        world.send(request(key=None), IPv4Address("203.0.113.66"))
    answers = world.register(identification=ntp(world.wall - 3600))
    assert answers.code == 133
    told = answers.reply.identification >> 32
    assert world.register(identification=told << 32 | 1 << 31).code == 0


def test_strangers_leave_nothing_in_memory() -> None:
    world = World()
    for number in range(300):
        world.register(home=IPv4Address(0x0A070000 + number), key=None)
        world.register(nai=f"node{number}@example.org", key=None)
    assert world.agent.next_timer() is None
    assert world.records == {}


def test_h12_names_with_every_character_in_events() -> None:
    world = World()
    for name in ("a\nb@x", "a\x00@x", "\x1b[31m@x", "a b@x"):
        octets = request(key=None, identification=world.tick())
        octets += bytes([131, len(name)]) + name.encode()
        assert not world.send(octets).transmits
    answers = world.register(nai="<script>\"'&@example.org", home=UNSPECIFIED)
    assert answers.event.fields["nai"] == "<script>\"'&@example.org"
    assert "\n" not in answers.event.text


@pytest.mark.parametrize("source", ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255"])
def test_sources_that_nobody_can_be_answered_at(source: str) -> None:
    world = World()
    octets = request(identification=world.tick())
    assert not world.send(octets, IPv4Address(source)).transmits
    assert not world.send(octets, port=0).transmits
    assert not world.bound
    assert world.agent.counters == {"discarded_source": 2}
    assert world.send(octets).code == 0


def test_ipv6_paths_and_empty_datagrams() -> None:
    world = World()
    path = Path(Endpoint(IPv6Address("::1"), 434), Endpoint(IPv6Address("::2"), 434))
    world.agent.receive(request(identification=world.tick()), path, world.now)
    assert not world.take().transmits
    assert not world.send(b"").transmits


def test_every_code_has_a_name_in_the_counters() -> None:
    world = World()
    world.register()
    world.register(key=None)
    assert world.agent.counters["accepted"] == 1
    assert world.agent.counters[ReplyCode.HA_MOBILE_NODE_AUTHENTICATION.name.lower()] == 1


def test_one_node_cannot_take_anothers_home_address() -> None:
    other = replace(
        LAPTOP,
        name="other",
        home_address=IPv4Address("10.7.0.6"),
        associations=(SecurityAssociation(256, b"the other's own key"),),
    )
    world = World(policy(nodes=Nodes(LAPTOP, other, PHONE)))
    world.register()
    stolen = world.register(home=HOME, key=other.associations[0], care_of=CARE_OF_2)
    assert stolen.code == 131
    taken = world.register(home=HOME, nai=PHONE.nai, care_of=CARE_OF_2)
    assert taken.code == 129
    assert world.bound == {str(HOME): (str(CARE_OF),)}


def test_a_mobile_node_with_hostile_flags_is_only_denied() -> None:
    world = World()
    for flags in range(256):
        answers = world.register(flags=flags)
        assert answers.code in (0, 134)
        world.pass_time(1)


def test_memory_of_a_binding_is_small() -> None:
    count = 1000
    nodes = [
        replace(
            LAPTOP,
            home_address=IPv4Address("10.16.0.1") + number,
            associations=(SecurityAssociation(256, number.to_bytes(16, "big")),),
        )
        for number in range(count)
    ]
    network = HomeNetwork("large", IPv4Network("10.16.0.0/16"))
    world = World(policy(nodes=Nodes(*nodes), networks=(network,)))
    requests = [
        request(
            home=one.home_address,
            key=one.associations[0],
            identification=ntp(world.wall),
            care_of=CARE_OF + number,
        )
        for number, one in enumerate(nodes)
    ]
    path = Path(Endpoint(HOME_AGENT, 434), Endpoint(CARE_OF, 434))
    tracemalloc.start()
    try:
        for octets in requests:
            world.agent.receive(octets, path, world.now)
            world.agent.take_outputs()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(world.bound) == count
    assert used / count < 4000

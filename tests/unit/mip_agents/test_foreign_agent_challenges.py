"""Challenge and response at the foreign agent (RFC 4721)."""

from foreign_agent_world import (
    HOME,
    LINK,
    MAC,
    MOBILE_FOREIGN,
    OTHER_HOME,
    OTHER_MAC,
    X_HOME_AGENT,
    World,
    reply,
    request,
)

from gateway.domain.checksum import internet_checksum
from gateway.mip_agents.advertisement import CHALLENGE_EXTENSION, AgentAdvertisement
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import Challenge
from gateway.mip_agents.foreign_agent.challenges import MAX_REMEMBERED, Challenges
from gateway.mip_agents.outputs import Link, TransmitAdvertisement


def challenger(**changes: object) -> World:
    return World(challenge=True, advertisement_interval_s=10.0, **changes)


def heard(world: World) -> bytes:
    """The challenge of the last advertisement."""
    advertisements = [one for one in world.outputs if isinstance(one, TransmitAdvertisement)]
    told = AgentAdvertisement.parse(advertisements[-1].message)
    (value,) = [one.data for one in told.extensions if one.type == CHALLENGE_EXTENSION]
    return value


def given(world: World) -> bytes:
    """The challenge in the one reply to a mobile node."""
    ((got, _),) = world.to_node()
    found = got.first(Challenge)
    assert found is not None
    return found.value


def test_an_advertised_challenge_is_good_once_for_each_node() -> None:
    world = challenger()
    world.passes(0)
    value = heard(world)
    assert len(value) == 16
    world.asks(request(extensions=[Challenge(value)]))
    ((got, _),) = world.relayed()
    assert got.first(Challenge) == Challenge(value), "the home agent sees what the node signed"
    world.asks(
        request(home=OTHER_HOME, identification=2, extensions=[Challenge(value)]),
        mac=OTHER_MAC,
        source=OTHER_HOME,
    )
    assert world.relayed()
    world.asks(request(identification=3, extensions=[Challenge(value)]))
    assert world.code() == ReplyCode.FA_STALE_CHALLENGE


def test_one_challenge_is_good_for_both_home_agents_at_once() -> None:
    """Draft 001, section 4.4."""
    world = challenger()
    world.passes(0)
    challenge = [Challenge(heard(world))]
    world.asks(request(extensions=challenge))
    assert world.relayed()
    world.asks(request(home_agent=X_HOME_AGENT, extensions=challenge))
    assert world.relayed()
    world.hears(reply())
    mine = given(world)
    world.hears(reply(home_agent=X_HOME_AGENT), source=X_HOME_AGENT)
    world.asks(request(identification=2, extensions=[Challenge(mine)]))
    assert world.relayed(), "the other home agent's reply did not replace it"


def test_the_same_request_again_is_no_second_use() -> None:
    world = challenger()
    world.passes(0)
    octets = request(extensions=[Challenge(heard(world))])
    for _ in range(3):
        world.asks(octets)
        assert len(world.relayed()) == 1
    world.hears(reply())
    assert world.set_visitors()
    world.asks(octets)
    assert world.code() == ReplyCode.FA_STALE_CHALLENGE, "a replay after the reply"


def test_unknown_and_old_challenges() -> None:
    world = challenger()
    world.passes(0)
    first = heard(world)
    world.asks(request(extensions=[Challenge(b"never seen before")]))
    assert world.code() == ReplyCode.FA_UNKNOWN_CHALLENGE
    assert not world.relayed()
    world.passes(10)
    world.asks(request(identification=2, extensions=[Challenge(first)]))
    assert world.relayed(), "the last two are good"
    world.passes(11)
    world.asks(
        request(home=OTHER_HOME, identification=3, extensions=[Challenge(first)]),
        mac=OTHER_MAC,
        source=OTHER_HOME,
    )
    assert world.code() == ReplyCode.FA_UNKNOWN_CHALLENGE


def test_every_reply_brings_a_new_challenge_for_that_node_alone() -> None:
    world = challenger()
    world.asks(request())
    assert world.code() == ReplyCode.FA_MISSING_CHALLENGE
    mine = given(world)
    world.asks(
        request(home=OTHER_HOME, identification=2, extensions=[Challenge(mine)]),
        mac=OTHER_MAC,
        source=OTHER_HOME,
    )
    assert world.code() == ReplyCode.FA_UNKNOWN_CHALLENGE
    world.asks(request(identification=3, extensions=[Challenge(mine)]))
    assert world.relayed()
    octets = reply(identification=3)
    world.hears(octets)
    ((_, sent),) = world.to_node()
    assert sent.message.startswith(octets)
    assert given(world) != mine


def test_challenge_behind_the_home_agents_part_is_covered_by_the_proof_to_us() -> None:
    world = challenger(visitor_associations={MOBILE_FOREIGN.spi: MOBILE_FOREIGN})
    world.passes(0)
    challenge = Challenge(heard(world))
    world.asks(request(behind=[challenge], proof=MOBILE_FOREIGN))
    ((got, _),) = world.relayed()
    assert got.first(Challenge) is None
    other = request(identification=2, proof=MOBILE_FOREIGN) + challenge.serialize()
    world.asks(other)
    assert world.code() == ReplyCode.FA_MISSING_CHALLENGE, "not covered, so nobody's"


def test_solicited_advertisements_have_the_current_challenge() -> None:
    world = World(challenge=True)
    body = b"\x0a\x00\x00\x00" + bytes(4)
    message = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
    world.agent.solicited(message, HOME, Link(LINK, MAC), world.now)
    world.took()
    world.asks(request(extensions=[Challenge(heard_once(world))]))
    assert world.relayed()


def heard_once(world: World) -> bytes:
    return heard(world)


def test_what_is_remembered_is_bounded() -> None:
    count = iter(range(10**9))
    challenges = Challenges(lambda size: next(count).to_bytes(size, "big"))
    for number in range(3 * MAX_REMEMBERED):
        party = number.to_bytes(6, "big")
        challenges.use(party, challenges.give(party))
        challenges.give(party)
    assert len(challenges._given) <= MAX_REMEMBERED
    assert len(challenges._used) <= MAX_REMEMBERED

"""Registration revocation, the foreign agent's side (RFC 3543)."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from foreign_agent_world import (
    CARE_OF,
    FOREIGN_HOME,
    HOME,
    HOME_AGENT,
    LINK,
    MAC,
    PEERS,
    WALL_S,
    X_HOME_AGENT,
    ZERO,
    World,
    reply,
    request,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.mip_agents.advertisement import AgentAdvertisement
from gateway.mip_agents.authentication import sign, verify
from gateway.mip_agents.codec.extensions import AuthenticationKind, RevocationSupport
from gateway.mip_agents.codec.revocation import Revocation, RevocationAcknowledgment
from gateway.mip_agents.foreign_agent.revocation import MAX_REMEMBERED, is_older
from gateway.mip_agents.outputs import Link, RemoveVisitor
from gateway.mip_agents.policy import SecurityAssociation

THEIR_CLOCK = 7_000


def visited(*, inform: bool = True, timestamp: int = THEIR_CLOCK, **changes: object) -> World:
    """A world with a visitor whose registration can be revoked."""
    world = World(peer_agents=PEERS, **changes)
    world.asks(request())
    world.hears(reply(behind=[RevocationSupport(timestamp, inform)], peer=FOREIGN_HOME))
    assert world.set_visitors()
    return world


def revocation(
    *,
    home: IPv4Address = HOME,
    care_of: IPv4Address = CARE_OF,
    identifier: int = THEIR_CLOCK + 10,
    from_home_agent: bool = True,
    inform: bool = False,
    key: SecurityAssociation | None = FOREIGN_HOME,
) -> bytes:
    octets = Revocation(home, HOME_AGENT, care_of, identifier, from_home_agent, inform).serialize()
    return sign(octets, AuthenticationKind.FOREIGN_HOME, key) if key else octets


def acknowledged(world: World) -> RevocationAcknowledgment:
    (sent,) = [one for one in world.transmits() if one.message[0] == 15]
    got = RevocationAcknowledgment.parse(sent.message)
    (proof,) = got.authentications(AuthenticationKind.FOREIGN_HOME)
    assert verify(sent.message, proof, FOREIGN_HOME)
    assert sent.path == Path(Endpoint(CARE_OF, 434), Endpoint(HOME_AGENT, 434))
    return got


def test_a_revoked_visitor_is_removed_and_the_revocation_acknowledged() -> None:
    world = visited()
    assert "revocable" in world.agent.visitors()[0].flags
    world.hears(revocation())
    assert world.removed() == [RemoveVisitor(HOME_AGENT, HOME)]
    got = acknowledged(world)
    assert (got.home_address, got.identifier, got.inform) == (HOME, THEIR_CLOCK + 10, False)
    assert not world.advertisements()
    (event,) = world.events("visitor_left")
    assert event.fields["reason"] == "revoked"


@pytest.mark.parametrize("agreed", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_h64_the_node_is_informed_if_asked_and_agreed(agreed: bool, asked: bool) -> None:
    world = visited(inform=agreed)
    world.hears(revocation(inform=asked))
    assert acknowledged(world).inform == (agreed and asked)
    told = world.advertisements()
    assert len(told) == (1 if agreed and asked else 0)
    for one in told:
        assert AgentAdvertisement.parse(one.message).sequence == 0
        assert one.link == Link(LINK, MAC)
        assert one.destination == HOME


def test_h64_a_revocation_again_is_acknowledged_again_and_nothing_else() -> None:
    world = visited()
    octets = revocation()
    world.hears(octets)
    world.hears(octets)
    acknowledged(world)
    assert not world.removed()


def test_h64_replayed_revocations_do_not_end_a_later_registration() -> None:
    world = visited()
    octets = revocation(identifier=THEIR_CLOCK + 10)
    world.hears(octets)
    world.asks(request(identification=2))
    world.hears(
        reply(identification=2, behind=[RevocationSupport(THEIR_CLOCK + 20)], peer=FOREIGN_HOME)
    )
    world.hears(octets)
    assert not world.removed()
    assert len(world.agent.visitors()) == 1
    world.hears(revocation(identifier=THEIR_CLOCK + 20))
    assert world.removed(), "in the same second is not older"


def test_h64_what_is_remembered_of_revocations_is_bounded() -> None:
    world = World(peer_agents=PEERS, max_visitors=3 * MAX_REMEMBERED)
    for number in range(2 * MAX_REMEMBERED):
        who = IPv4Address(int(IPv4Address("10.2.0.0")) + number)
        world.asks(request(home=who), source=who)
        world.hears(reply(home=who, behind=[RevocationSupport(1)], peer=FOREIGN_HOME))
    assert len(world.agent.visitors()) == 2 * MAX_REMEMBERED
    world.hears(revocation(home=ZERO))
    assert len(world.removed()) == 2 * MAX_REMEMBERED
    assert len(world.agent._revocations._heeded) == MAX_REMEMBERED


def test_timestamps_are_compared_across_their_wrap() -> None:
    assert is_older(1, 2)
    assert not is_older(2, 1)
    assert not is_older(2, 2)
    assert is_older(0xFFFFFFFF, 3)
    assert not is_older(3, 0xFFFFFFFF)
    world = visited(timestamp=0xFFFF_FFF0)
    world.hears(revocation(identifier=5))
    assert world.removed()


BAD = {
    "no proof": (revocation(key=None), HOME_AGENT),
    "another key": (revocation(key=replace(FOREIGN_HOME, key=b"another")), HOME_AGENT),
    "another SPI": (revocation(key=replace(FOREIGN_HOME, spi=0x9999)), HOME_AGENT),
    "not a peer": (revocation(), X_HOME_AGENT),
    "from a foreign agent": (revocation(from_home_agent=False), HOME_AGENT),
    "another care-of address": (revocation(care_of=IPv4Address("198.51.100.9")), HOME_AGENT),
    "two proofs": (
        sign(revocation(), AuthenticationKind.FOREIGN_HOME, FOREIGN_HOME),
        HOME_AGENT,
    ),
    "cut": (revocation()[:23], HOME_AGENT),
}


@pytest.mark.parametrize("name", BAD)
def test_h64_bad_revocations_change_nothing_and_get_no_answer(name: str) -> None:
    world = visited()
    octets, source = BAD[name]
    world.hears(octets, source=source)
    assert not world.transmits()
    assert not world.removed()
    assert sum(n for one, n in world.agent.counters.items() if one.startswith("discarded")) == 1


def test_h64_revocation_of_an_unknown_binding_is_acknowledged_and_changes_nothing() -> None:
    world = visited()
    world.hears(revocation(home=IPv4Address("10.1.0.77")))
    assert acknowledged(world).home_address == IPv4Address("10.1.0.77")
    assert not world.removed()


def test_h64_what_was_not_agreed_on_is_not_revoked() -> None:
    world = World(peer_agents=PEERS)
    world.registers(peer=FOREIGN_HOME)
    world.hears(revocation())
    assert not world.removed()
    world = visited()
    world.agent.reconfigure(replace(world.policy, revocation=False), world.now)
    world.took()
    world.hears(revocation())
    assert not world.removed()
    assert not world.transmits()


def test_one_revocation_for_everything_of_a_home_agent() -> None:
    world = visited()
    world.registers(home_agent=X_HOME_AGENT, identification=3)
    world.hears(revocation(home=ZERO))
    assert world.removed() == [RemoveVisitor(HOME_AGENT, HOME)]
    assert acknowledged(world).home_address == ZERO


def acknowledge(identifier: int, *, inform: bool = False) -> bytes:
    octets = RevocationAcknowledgment(HOME, identifier, inform).serialize()
    return sign(octets, AuthenticationKind.FOREIGN_HOME, FOREIGN_HOME)


def test_ours_is_sent_until_it_is_acknowledged() -> None:
    world = visited()
    assert not world.agent.revoke(X_HOME_AGENT, HOME, world.now)
    assert world.agent.revoke(HOME_AGENT, HOME, world.now)
    world.took()
    assert world.removed()
    (sent,) = world.transmits()
    first = Revocation.parse(sent.message)
    assert first.home_address == HOME
    assert first.home_domain_address == HOME_AGENT
    assert first.foreign_domain_address == CARE_OF
    assert not first.from_home_agent
    assert first.inform
    assert first.identifier == (int(WALL_S + world.now) + 2_208_988_800) % 2**32
    (proof,) = first.authentications(AuthenticationKind.FOREIGN_HOME)
    assert verify(sent.message, proof, FOREIGN_HOME)
    world.passes(1.0)
    (sent,) = world.transmits()
    second = Revocation.parse(sent.message)
    assert second.identifier == first.identifier + 1, "each has its own (RFC 3543, 4.2.3.1)"
    (proof,) = second.authentications(AuthenticationKind.FOREIGN_HOME)
    assert verify(sent.message, proof, FOREIGN_HOME)
    world.hears(RevocationAcknowledgment(HOME, first.identifier).serialize())
    assert world.agent.counters["discarded_home_agent_authentication"] == 1
    world.hears(acknowledge(first.identifier - 1))
    assert world.agent.counters["discarded_acknowledgment"] == 1
    world.hears(acknowledge(first.identifier))
    assert world.agent.counters["revocations_acknowledged"] == 1
    world.passes(100)
    assert not world.transmits()
    world.hears(acknowledge(first.identifier))
    assert world.agent.counters["discarded_acknowledgment"] == 2


@pytest.mark.parametrize("agreed", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_h64_the_home_agent_decides_whether_the_node_is_told_of_ours(
    agreed: bool, wanted: bool
) -> None:
    world = visited(inform=agreed)
    world.agent.revoke(HOME_AGENT, HOME, world.now)
    world.took()
    assert len(world.advertisements()) == (0 if agreed else 1)
    (sent,) = world.transmits()
    identifier = Revocation.parse(sent.message).identifier
    world.hears(acknowledge(identifier, inform=wanted))
    told = world.advertisements()
    assert len(told) == (1 if agreed and wanted else 0)
    for one in told:
        assert AgentAdvertisement.parse(one.message).sequence == 0
        assert one.destination == HOME


def test_ours_is_given_up_after_a_while_and_the_node_is_told() -> None:
    world = visited()
    world.agent.revoke(HOME_AGENT, HOME, world.now)
    world.passes(100)
    assert len(world.transmits()) == 1 + 4
    (event,) = world.events("revocation_unacknowledged")
    assert str(HOME_AGENT) in event.text
    assert len(world.advertisements()) == 1
    assert world.agent.next_timer() is None


def test_ours_is_not_sent_after_the_binding_has_ended() -> None:
    world = visited()
    world.passes(598)
    world.agent.revoke(HOME_AGENT, HOME, world.now)
    world.passes(100)
    assert len(world.transmits()) == 2, "at 598 s and 599 s of 600 s"


def test_h64_a_node_without_address_of_its_own_does_not_speak_of_revocation() -> None:
    world = World(peer_agents=PEERS)
    support = [RevocationSupport(5)]
    world.asks(request(extensions=support))
    assert not world.transmits()
    assert world.agent.counters["discarded_revocation_support"] == 1
    own = IPv4Address("198.51.100.77")
    world.asks(request(flags=0x22, care_of=own, extensions=support), source=own)
    assert world.relayed()
    world.asks(request(identification=2, behind=support))
    assert world.relayed(), "behind what the home agent believes, it is only cut off"


def test_a_visitor_that_is_back_is_no_longer_revoked() -> None:
    world = visited()
    world.agent.revoke(HOME_AGENT, HOME, world.now)
    world.took()
    world.asks(request(identification=2))
    world.hears(reply(identification=2, peer=FOREIGN_HOME))
    world.passes(30)
    assert not world.transmits()


def test_nothing_is_sent_to_a_home_agent_that_did_not_agree() -> None:
    world = World(peer_agents=PEERS)
    world.registers(peer=FOREIGN_HOME)
    assert world.agent.revoke(HOME_AGENT, HOME, world.now)
    world.took()
    assert not world.transmits()
    assert world.removed()
    assert world.advertisements()

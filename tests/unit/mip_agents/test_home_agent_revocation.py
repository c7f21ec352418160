"""Registration revocation (RFC 3543) between home agent and foreign agents, both ways."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from home_agent_world import (
    CARE_OF,
    FA_KEY,
    FOREIGN_AGENT,
    HOME,
    HOME_AGENT,
    KEY,
    LAPTOP,
    OTHER_HOME_AGENT,
    UNSPECIFIED,
    Answers,
    Nodes,
    RevocationSupport,
    S,
    T,
    World,
    policy,
    trusting,
)

from gateway.domain.endpoint import Endpoint
from gateway.mip_agents import authentication
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.revocation import Revocation, RevocationAcknowledgment
from gateway.mip_agents.home_agent.revocation import MAX_TRIES
from gateway.mip_agents.outputs import RemoveBinding, Transmit
from gateway.mip_agents.policy import PeerAgent, SecurityAssociation

SECOND = IPv4Address("192.0.2.2")
PEERS = {one: PeerAgent(one, (FA_KEY,)) for one in (FOREIGN_AGENT, SECOND)}


def revoking(**changes: object) -> World:
    """A home agent with a binding by way of a foreign agent, revocation agreed on."""
    world = World(policy(peer_agents=PEERS, **changes))
    answers = by_agent(world)
    assert answers.code == 0
    return world


def by_agent(world: World, agent: IPv4Address = FOREIGN_AGENT, **wanted: object) -> Answers:
    support = RevocationSupport(int(world.wall), inform=True)
    wanted.setdefault("flags", T)
    return world.register(agent, care_of=agent, behind=[support], fa_key=FA_KEY, **wanted)


def sent(answers: Answers) -> list[tuple[Revocation, Transmit]]:
    return [
        (Revocation.parse(one.message), one) for one in answers.transmits if one.message[0] == 7
    ]


def revocation(
    world: World,
    key: SecurityAssociation = FA_KEY,
    kind: AuthenticationKind = AuthenticationKind.FOREIGN_HOME,
    **changes: object,
) -> bytes:
    plain = Revocation(HOME, HOME_AGENT, FOREIGN_AGENT, int(world.wall) + 1)
    return authentication.sign(replace(plain, **changes).serialize(), kind, key)  # type: ignore[arg-type]


def acknowledgment(message: Revocation, key: SecurityAssociation = FA_KEY) -> bytes:
    plain = RevocationAcknowledgment(message.home_address, message.identifier).serialize()
    return authentication.sign(plain, AuthenticationKind.FOREIGN_HOME, key)


def acknowledged(answers: Answers) -> list[RevocationAcknowledgment]:
    return [
        RevocationAcknowledgment.parse(one.message)
        for one in answers.transmits
        if one.message[0] == 15
    ]


def test_agreed_on_in_the_reply() -> None:
    world = World(policy(peer_agents=PEERS))
    reply = by_agent(world).reply
    support = reply.first(RevocationSupport)
    assert support is not None
    (by_node,) = reply.authentications(AuthenticationKind.MOBILE_HOME)
    (by_agents,) = reply.authentications(AuthenticationKind.FOREIGN_HOME)
    assert by_node.offset < support.offset < by_agents.offset
    assert support.timestamp == int(world.wall)


def test_not_agreed_on_without_key_or_by_policy() -> None:
    world = World(policy(peer_agents=PEERS, revocation=False))
    assert by_agent(world).reply.first(RevocationSupport) is None
    world = World()
    support = RevocationSupport(1)
    answers = world.register(FOREIGN_AGENT, care_of=FOREIGN_AGENT, flags=T, behind=[support])
    assert answers.code == 0
    assert answers.reply.first(RevocationSupport) is None
    assert world.agent.revoke(HOME, world.now)
    assert not sent(world.take())


def test_the_administrator_revokes() -> None:
    world = revoking()
    assert world.agent.revoke(HOME, world.now)
    answers = world.take()
    assert answers.removed == [RemoveBinding(HOME_AGENT, HOME)]
    ((message, transmit),) = sent(answers)
    assert (message.home_address, message.home_domain_address) == (HOME, HOME_AGENT)
    assert message.foreign_domain_address == FOREIGN_AGENT
    assert message.from_home_agent
    assert message.inform
    assert transmit.path.remote == Endpoint(FOREIGN_AGENT, 434)
    (proof,) = message.authentications(AuthenticationKind.FOREIGN_HOME)
    assert authentication.verify(transmit.message, proof, FA_KEY)
    world.send(acknowledgment(message), FOREIGN_AGENT)
    assert not world.pass_time(60).transmits


def test_it_is_sent_again_with_new_identifiers() -> None:
    world = revoking()
    world.agent.revoke(HOME, world.now)
    tries = [message for message, _ in sent(world.take())]
    while (timer := world.agent.next_timer()) is not None:
        tries += [message for message, _ in sent(world.pass_time(max(0.0, timer - world.now)))]
    assert len(tries) == MAX_TRIES
    identifiers = [one.identifier for one in tries]
    assert identifiers == sorted(set(identifiers))
    assert world.agent.counters["revocations_unacknowledged"] == 1


def test_an_acknowledgment_of_an_earlier_try_counts() -> None:
    world = revoking()
    world.agent.revoke(HOME, world.now)
    ((first, _),) = sent(world.take())
    assert sent(world.pass_time(1.5))
    world.send(acknowledgment(first), FOREIGN_AGENT)
    assert not sent(world.pass_time(30))


def test_no_revocation_beyond_the_lifetime() -> None:
    world = World(policy(peer_agents=PEERS))
    by_agent(world, lifetime=3)
    world.agent.revoke(HOME, world.now)
    tries = len(sent(world.take()))
    for _ in range(20):
        tries += len(sent(world.pass_time(0.5)))
    assert tries == 2


def test_h64_acknowledgments_that_are_nothing() -> None:
    world = revoking()
    world.agent.revoke(HOME, world.now)
    ((message, _),) = sent(world.take())
    wrong = replace(FA_KEY, key=b"not the agents' key")
    for octets, source in [
        (acknowledgment(message, wrong), FOREIGN_AGENT),
        (acknowledgment(message), SECOND),
        (acknowledgment(replace(message, identifier=message.identifier + 9)), FOREIGN_AGENT),
        (acknowledgment(replace(message, identifier=message.identifier - 1)), FOREIGN_AGENT),
        (acknowledgment(replace(message, home_address=UNSPECIFIED)), FOREIGN_AGENT),
        (acknowledgment(message)[:12], FOREIGN_AGENT),
        (acknowledgment(message)[:-1], FOREIGN_AGENT),
    ]:
        assert not world.send(octets, source).transmits
    assert world.agent.counters["discarded_revocation"] == 7
    assert sent(world.pass_time(1.5)), "it is still waited for"


def test_a_mobile_node_that_moves_leaves_its_old_agent() -> None:
    world = revoking()
    answers = by_agent(world, SECOND)
    ((message, transmit),) = sent(answers)
    assert message.foreign_domain_address == FOREIGN_AGENT
    assert not message.inform, "it knows, it moved"
    assert transmit.path.remote.address == FOREIGN_AGENT
    order = [one.message[0] for one in answers.transmits]
    assert order == [3, 7], "the reply comes first"


def test_back_before_the_old_agent_acknowledged() -> None:
    world = revoking()
    assert sent(by_agent(world, SECOND))
    ((message, _),) = sent(by_agent(world))
    assert message.foreign_domain_address == SECOND
    later = sent(world.pass_time(1.5))
    # A further try to the first agent would end what is new there.
    assert [one.foreign_domain_address for one, _ in later] == [SECOND]


def test_deregistered_at_home_tells_the_agent() -> None:
    world = revoking()
    answers = world.register(HOME, lifetime=0, care_of=HOME)
    ((message, _),) = sent(answers)
    assert message.foreign_domain_address == FOREIGN_AGENT
    world = revoking()
    answers = world.register(FOREIGN_AGENT, lifetime=0, care_of=FOREIGN_AGENT, flags=T)
    assert answers.removed
    assert not sent(answers), "the agent relayed it"


def test_expiry_tells_nobody() -> None:
    world = revoking()
    answers = world.pass_time(301)
    assert answers.removed
    assert not sent(answers)


def test_a_co_located_mobile_node_can_be_told() -> None:
    world = World()
    answers = world.register(port=4343, extensions=[RevocationSupport(5)])
    support = answers.reply.first(RevocationSupport)
    (proof,) = answers.reply.authentications(AuthenticationKind.MOBILE_HOME)
    assert support is not None
    assert support.offset < proof.offset
    world.agent.revoke(HOME, world.now)
    ((message, transmit),) = sent(world.take())
    assert transmit.path.remote == Endpoint(CARE_OF, 4343)
    (proof,) = message.authentications(AuthenticationKind.MOBILE_HOME)
    assert authentication.verify(transmit.message, proof, KEY)


# -- revoked by a foreign agent --------------------------------------------------------------------


def test_a_foreign_agent_revokes() -> None:
    world = revoking()
    octets = revocation(world, inform=True)
    answers = world.send(octets, FOREIGN_AGENT)
    assert answers.removed == [RemoveBinding(HOME_AGENT, HOME)]
    (acked,) = acknowledged(answers)
    assert (acked.home_address, acked.inform) == (HOME, True)
    assert acked.identifier == Revocation.parse(octets).identifier
    (transmit,) = answers.transmits
    (proof,) = acked.authentications(AuthenticationKind.FOREIGN_HOME)
    assert authentication.verify(transmit.message, proof, FA_KEY)
    assert answers.event.name == "registration_revoked"
    assert "foreign agent" in answers.event.text


def test_a_revocation_that_comes_again_is_acknowledged_again() -> None:
    world = revoking()
    octets = revocation(world)
    world.send(octets, FOREIGN_AGENT)
    again = world.send(octets, FOREIGN_AGENT)
    assert len(acknowledged(again)) == 1
    assert not again.removed


def test_h64_a_replayed_revocation_ends_nothing() -> None:
    world = revoking()
    octets = revocation(world)
    world.send(octets, FOREIGN_AGENT)
    world.pass_time(5)
    by_agent(world)
    assert not world.send(octets, FOREIGN_AGENT).removed
    assert world.bound
    # Also one that was never heeded: it is older than the registration.
    older = revocation(world, identifier=int(world.wall) - 2)
    assert not world.send(older, FOREIGN_AGENT).outputs[1:]
    assert world.bound


WRONG = replace(FA_KEY, key=b"not the agents' key")


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({"key": WRONG}, FOREIGN_AGENT),
        ({"key": replace(FA_KEY, spi=999)}, FOREIGN_AGENT),
        ({"key": KEY}, FOREIGN_AGENT),
        ({"kind": AuthenticationKind.MOBILE_HOME}, FOREIGN_AGENT),
        ({"from_home_agent": True}, FOREIGN_AGENT),
        ({"home_domain_address": OTHER_HOME_AGENT}, FOREIGN_AGENT),
        ({"home_address": IPv4Address("10.7.0.6")}, FOREIGN_AGENT),
        ({"foreign_domain_address": CARE_OF}, FOREIGN_AGENT),
        ({"foreign_domain_address": SECOND}, FOREIGN_AGENT),
        ({}, SECOND),
        ({"foreign_domain_address": SECOND}, SECOND),
        ({}, CARE_OF),
    ],
)
def test_h64_revocations_that_change_nothing(
    changes: dict[str, object], source: IPv4Address
) -> None:
    world = revoking()
    answers = world.send(revocation(world, **changes), source)  # type: ignore[arg-type]
    assert not answers.transmits
    assert not answers.removed
    assert world.bound == {str(HOME): (str(FOREIGN_AGENT),)}
    assert world.agent.counters["discarded_revocation"] == 1


def test_h64_revocations_cut_or_changed_anywhere() -> None:
    world = revoking()
    octets = revocation(world)
    for end in range(len(octets)):
        world.send(octets[:end], FOREIGN_AGENT)
    for position in range(1, len(octets)):
        changed = bytearray(octets)
        changed[position] ^= 0x40
        assert not world.send(bytes(changed), FOREIGN_AGENT).removed
    assert world.bound
    assert world.send(octets, FOREIGN_AGENT).removed


def test_h64_two_proofs_are_none() -> None:
    world = revoking()
    octets = revocation(world)
    twice = authentication.sign(octets, AuthenticationKind.FOREIGN_HOME, FA_KEY)
    assert not world.send(twice, FOREIGN_AGENT).removed


def test_h64_revocations_where_none_were_agreed_on() -> None:
    world = World(policy(**trusting()))
    world.register(FOREIGN_AGENT, care_of=FOREIGN_AGENT, flags=T, fa_key=FA_KEY)
    assert not world.send(revocation(world), FOREIGN_AGENT).removed
    world = revoking(revocation=False)
    assert not world.send(revocation(world), FOREIGN_AGENT).removed


def test_a_foreign_agent_gives_up_all_of_its_mobile_nodes() -> None:
    others: Sequence = [
        replace(LAPTOP, name=f"node{i}", home_address=IPv4Address(f"10.8.0.{i}")) for i in (10, 11)
    ]
    world = revoking(nodes=Nodes(LAPTOP, *others))
    by_agent(world, home=others[0].home_address)
    by_agent(world, SECOND, home=others[1].home_address)
    answers = world.send(revocation(world, home_address=UNSPECIFIED), FOREIGN_AGENT)
    assert len(answers.removed) == 2
    assert len(acknowledged(answers)) == 1
    assert set(world.bound) == {"10.8.0.11"}


def test_one_of_two_care_of_addresses_is_revoked() -> None:
    world = revoking()
    by_agent(world, SECOND, flags=S | T)
    answers = world.send(revocation(world), FOREIGN_AGENT)
    assert [one.remote for one in answers.set.tunnels] == [SECOND]
    assert world.bound == {str(HOME): (str(SECOND),)}


def test_many_unacknowledged_revocations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.mip_agents.home_agent.revocation.MAX_PENDING", 1)
    other = replace(LAPTOP, name="other", home_address=IPv4Address("10.8.0.10"))
    world = revoking(nodes=Nodes(LAPTOP, other))
    by_agent(world, home=other.home_address)
    for home in (HOME, other.home_address):
        assert home is not None
        world.agent.revoke(home, world.now)
    assert len(sent(world.take())) == 2, "each is sent once at least"
    assert len(sent(world.pass_time(1.5))) == 1

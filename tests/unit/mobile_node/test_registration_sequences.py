"""Whatever a node does in whatever order on whatever net: what is believed is true."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from registration_world import (
    BY_AGENT,
    CARE_OF,
    DIRECT,
    DIRECT_2,
    GATEWAY,
    HOME,
    HOME_AGENT,
    KEY,
    World,
    foreign_policy,
    home_policy,
    node_policy,
)

from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.codec.registration import RegistrationRequest
from gateway.mip_agents.policy import ReplayProtection
from gateway.mobile_node.registering.outcome import Accepted, Ended, Retransmission

AT_HOME = replace(DIRECT, source=HOME, care_of_address=HOME)
VIAS = (DIRECT, DIRECT_2, BY_AGENT)
Step = Callable[["Life"], None]


class Life:
    """A client that does anything, on a net that does anything, and a stranger who repeats."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        key = replace(KEY, replay=chance.choice(list(ReplayProtection)))
        self.world = world = World(
            node_policy(
                association=key,
                encapsulation=chance.choice(list(Encapsulation)),
                force_udp=chance.random() < 0.2,
                zero_overhead=chance.random() < 0.3,
                lifetime_s=chance.choice([30, 200, 1800]),
            ),
            home_policy(
                key,
                lifetime_s=chance.choice([20, 300, 3600]),
                encapsulations=frozenset({Encapsulation.IP_IP})
                if chance.random() < 0.5
                else frozenset(Encapsulation),
            ),
            foreign_policy(challenge=chance.random() < 0.5, lifetime_s=chance.choice([60, 1800])),
            nat=chance.random() < 0.3,
            clock_off_s=chance.choice([0.0, 0.0, -500.0, 10_000.0]),
            seed=seed,
        )
        self.reached: dict[int, bytes] = {}
        """Requests that the home agent has got, by the lower half of their identification."""
        receive = world.home.receive

        def note(message: bytes, *more: object) -> None:
            if message[0] == 1:
                low = RegistrationRequest.parse(message).identification & 0xFFFF_FFFF
                self.reached[low] = message
            receive(message, *more)  # type: ignore[arg-type]

        world.home.receive = note  # type: ignore[method-assign]
        self.told = 0

    def net(self, loss: float, slowest_s: float) -> None:
        chance = self.chance

        def way(_message: bytes) -> list[float]:
            copies = 0 if chance.random() < loss else 1 + (chance.random() < 0.1)
            return [chance.uniform(0.002, slowest_s) for _ in range(copies)]

        self.world.way.delays = way

    def plan(self) -> Retransmission:
        return Retransmission(0.5, 2.0, 4.0, self.chance.choice([None, 3.0, 20.0]))

    def step(self) -> None:
        world, client, chance = self.world, self.world.client, self.chance
        what = chance.randrange(10)
        if what <= 3:
            client.register(
                chance.choice(VIAS),
                world.now,
                retransmission=self.plan(),
                default_destination=chance.choice([None, GATEWAY]),
            )
        elif what == 4:
            client.renew(world.now, self.plan())
        elif what == 5:
            client.deregister(chance.choice((*VIAS, AT_HOME)), world.now, self.plan())
        elif what == 6:
            client.stop()
        elif what == 7:
            world.home.revoke(HOME, world.now)
        elif what == 8:
            self.net(chance.choice([0, 0.2, 0.8, 1.0]), chance.choice([0.02, 0.5, 4.0]))
        elif world.answers:
            for octets in chance.choices(world.answers, k=5):
                world.hear(octets, Endpoint(HOME_AGENT, 434))
        world.run(chance.choice([0.0, 0.05, 1.0, 10.0, 100.0]))
        self.check()

    def check(self) -> None:
        """Nothing is believed that the home agent did not say."""
        world = self.world
        for outcome in world.outcomes[self.told :]:
            if isinstance(outcome, Accepted):
                self.check_accepted(outcome)
            elif isinstance(outcome, Ended):
                assert outcome.tunnel.home_agent == HOME_AGENT
        self.told = len(world.outcomes)
        client = world.client
        assert client.registered is (client.via is not None) is (client.tunnel is not None)
        if client.expires_at is not None:
            assert client.expires_at > world.now - 1e-6
        if client.trying or client.registered:
            assert client.next_timer() is not None
        else:
            assert client.next_timer() is None

    def check_accepted(self, outcome: Accepted) -> None:
        """There was such a request, sent then, and it reached the home agent."""
        candidates = [
            RegistrationRequest.parse(message)
            for message, at in self.sent_at
            if at == outcome.sent_at
        ]
        assert any(
            one.identification & 0xFFFF_FFFF in self.reached
            and (one.lifetime_s == 0) is outcome.deregistered
            and one.care_of_address == outcome.via.care_of_address
            for one in candidates
        )

    @property
    def sent_at(self) -> list[tuple[bytes, float]]:
        return [
            (one.message, at)
            for one, at in zip(self.world.sent, self.world.sent_at, strict=True)
            if one.message[0] == 1
        ]


@pytest.mark.parametrize("seed", range(60))
def test_what_is_believed_is_what_the_home_agent_said(seed: int) -> None:
    life = Life(seed)
    for _ in range(40):
        life.step()
    # In the end, on a good net, it is registered where it wants to be.
    world = life.world
    life.net(0, 0.02)
    world.run(5)
    world.client.register(DIRECT, world.now, retransmission=Retransmission(0.5, 2, 4))
    world.run(10)
    life.check()
    assert world.client.via == DIRECT
    assert world.bindings == {str(HOME): (str(CARE_OF),)}
    view = world.home.binding(HOME, world.now)
    assert view is not None
    expires_at = world.client.expires_at
    assert expires_at is not None
    assert expires_at <= world.now + (view.expires_in_s or 1e9) + 1e-6
    assert not [one for one in world.denied if one.final]

"""Everybody at the door at once: whoever has the right credentials gets in, and nobody else."""

import pytest
from harness_v1 import device_v1
from harness_v2 import PSK, Host, Network, device_policy, established, make_engine
from hostile_clients import HONEST_NAMES, clients
from hostile_world import World

from gateway.domain.endpoint import Path
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.outputs import Transmit
from gateway.ike.policy import PeerAuth, V1Exchange

STRANGERS = [number for number, kind in enumerate(clients()) if kind.rogue]
NAMES = [f"{clients()[number].name} {number}" for number in STRANGERS]


@pytest.mark.parametrize("name", HONEST_NAMES)
def test_an_honest_client_gets_in_and_all_it_had_goes_with_it(name: str) -> None:
    world = World(1, (name,))
    world.device(name).engine.initiate(name, world.now)
    world.settle()
    world.check()
    assert [sa.connection for sa in established(world.gateway)] == [name]
    assert len(world.gateway.installed) == 1
    world.end()


@pytest.mark.parametrize("number", STRANGERS, ids=NAMES)
def test_h30_h31_h40_a_stranger_does_not_get_in(number: int) -> None:
    """Wrong keys, certificates and passwords, and proofs of another kind than is wanted."""
    world = World(1)
    stranger = world.devices[number]
    assert stranger.kind is not None
    name = stranger.kind.name
    honest = world.device(name)
    honest.engine.initiate(name, world.now)
    world.settle()
    before = established(world.gateway)
    assert len(before) == 1
    stranger.engine.initiate(name, world.now)
    world.settle()
    world.fire(200.0, deliver=True)
    world.check()
    # The one who claimed to be the honest client did not even end its session.
    assert [sa.spis for sa in established(world.gateway)] == [sa.spis for sa in before]
    assert not stranger.installed
    world.end()


def test_all_at_once() -> None:
    world = World(1)
    for party in world.devices:
        assert party.kind is not None
        party.engine.initiate(party.kind.name, world.now)
    world.settle(5000)
    world.check()
    assert sorted(sa.connection for sa in established(world.gateway)) == sorted(HONEST_NAMES)
    world.end()


def mirror_site(version: int, exchange: V1Exchange = V1Exchange.MAIN) -> Network:
    """A site that would also answer somebody of its own name: the key is the same both ways."""
    policy = device_policy if version == 2 else device_v1
    connection = policy(
        local_id=Identity.parse("ada@example.com"),
        remote_id=IdentityPattern.parse("*@example.com"),
        peer_auth=PeerAuth(preshared_key=PSK),
        request_inner_address=False,
        v1_exchange=exchange,
    )
    engine = make_engine([connection])
    return Network(Host(engine, "gateway"))


@pytest.mark.parametrize(
    ("version", "exchange"),
    [(2, V1Exchange.MAIN), (1, V1Exchange.MAIN), (1, V1Exchange.AGGRESSIVE)],
)
def test_nobody_is_logged_in_to_itself(version: int, exchange: V1Exchange) -> None:
    """All that an initiator sends comes back to it from where it was sent to."""
    network = mirror_site(version, exchange)
    engine = network.gateway.engine
    engine.initiate("office", network.now)
    for _ in range(20):
        for output in engine.take_outputs():
            if isinstance(output, Transmit):
                path = Path(output.path.local, output.path.remote)
                engine.receive(output.message, path, network.now)
    assert engine.counters["ike_sas_established"] == 0
    assert not engine.child_sas(network.now)
    assert engine.counters["internal_errors"] == 0

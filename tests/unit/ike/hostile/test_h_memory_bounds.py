"""What attempts that stop half-way cost, at every step of every kind: bounded, and given back."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest
from harness_v2 import GATEWAY, make_engine
from hostile_clients import HONEST_NAMES, Kind, clients
from hostile_world import World
from users_v2 import find_user

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.user_auth import EapQuestion
from gateway.ike.engine import IkeEngine
from gateway.ike.outputs import AskAboutUser, Transmit
from gateway.ike.policy import EngineSettings
from gateway.ike.v2.failing import MAX_LINGERING

LIMIT = 20
"""Half-open SAs of the gateway under test."""
ATTEMPTS = 34
MEASURED = 12
HALF_OPEN_OCTETS = 16_000
"""Of an attempt that stopped, whichever way and wherever: what the documentation promises.

EAP-TLS has an OpenSSL connection besides, of which Python knows nothing.
"""
KINDS = {kind.name: kind for kind in clients() if not kind.rogue}


def source(number: int) -> Endpoint:
    return Endpoint(ip_address(int(ip_address("203.0.112.0")) + number), 500)


def gateway(kind: Kind) -> IkeEngine:
    settings = EngineSettings(
        half_open_limit=LIMIT, cookie_threshold=10 * ATTEMPTS, half_open_per_source=LIMIT
    )
    return make_engine([kind.gateway], settings=settings, pools=World.pools(), find_user=find_user)


def attempt(engine: IkeEngine, kind: Kind, number: int, messages: int, world: World) -> bool:
    """A client that sends so many messages and no more; whether it had more to say."""
    device = make_engine([replace(kind.device, local=source(number))])
    device.initiate(kind.name, 0.0)
    left = messages
    for _ in range(40):
        for one in datagrams(device):
            if not left:
                device.close_all(0.0)
                return True
            left -= 1
            engine.receive(one, Path(GATEWAY, source(number)), 0.0)
            for answer in answers(engine, world):
                device.receive(answer, Path(source(number), GATEWAY), 0.0)
    return False


def datagrams(engine: IkeEngine) -> Iterator[bytes]:
    while True:
        found = [one.message for one in engine.take_outputs() if isinstance(one, Transmit)]
        if not found:
            return
        yield from found


def answers(engine: IkeEngine, world: World) -> Iterator[bytes]:
    while True:
        outputs = engine.take_outputs()
        if not outputs:
            return
        for output in outputs:
            if isinstance(output, Transmit):
                yield output.message
            elif isinstance(output, AskAboutUser):
                engine.user_answered(output.ticket, world.judge(output), 0.0)
                if isinstance(output.question, EapQuestion):
                    # The RADIUS server's memory is not the gateway's.
                    world.radius.questions.clear()


def steps(name: str) -> int:
    """After how many messages of the client its IKE SA is established at the gateway."""
    world = World()
    for messages in range(1, 20):
        engine = gateway(KINDS[name])
        attempt(engine, KINDS[name], 0, messages, world)
        if any(sa.established for sa in engine._core.sas.values()):
            return messages
    raise AssertionError(name)


@pytest.mark.parametrize("name", HONEST_NAMES)
def test_h20_attempts_that_stop_cost_a_bounded_amount_of_memory(name: str) -> None:
    kind, world = KINDS[name], World()
    last = steps(name)
    assert last >= 2
    for messages in range(1, last):
        engine = gateway(kind)
        core = engine._core
        attempt(engine, kind, 0, messages, world)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for number in range(1, MEASURED):
                attempt(engine, kind, number, messages, world)
            engine.take_outputs()
            used = (tracemalloc.get_traced_memory()[0] - before) / (MEASURED - 1)
        finally:
            tracemalloc.stop()
        assert used < HALF_OPEN_OCTETS, f"{used:.0f} octets after {messages} messages"
        # Far more attempts than there is room for.
        for number in range(MEASURED, ATTEMPTS):
            attempt(engine, kind, number, messages, world)
        assert len(core.half_open) <= LIMIT
        assert len(core.sas) <= LIMIT + MAX_LINGERING
        waiting = [sa for sa in core.sas.values() if not sa.closed]
        assert len(waiting) <= LIMIT, f"{len(waiting)} after {messages} messages"
        assert core.counters["internal_errors"] == 0
        for at in (31.0, 121.0, 200.0, 400.0):
            engine.handle_timer(at)
            engine.take_outputs()
        assert not core.sas
        assert not core.asked
        assert not core.timers
        assert not core.lingering
        assert len(core.half_open) == 0
        assert all(pool.in_use == 0 for pool in core.pools.values())

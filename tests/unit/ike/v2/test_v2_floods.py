"""Floods that are no forgeries: repetitions, and more key exchanges than we care to do."""

from ipaddress import ip_address

import pytest
from harness_v2 import (
    DEVICE,
    GATEWAY,
    Datagram,
    Network,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    make_engine,
    pair,
)
from users_v2 import device_of_user, find_user, gateway_of_users

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.engine import IkeEngine
from gateway.ike.outputs import Transmit
from gateway.ike.policy import EngineSettings
from gateway.ike.registry import ExchangeType, Flag
from gateway.ike.v2.window import REPEATS_PER_S

PATH = Path(GATEWAY, DEVICE)


def answers(engine: IkeEngine) -> int:
    return sum(isinstance(one, Transmit) for one in engine.take_outputs())


def last_from_device(network: Network, kind: ExchangeType) -> Datagram:
    """The last request of the device."""
    asked = [one for one in network.sent if one.sender == "device"]
    return [
        one for one in asked if one.message[18] == kind and not one.message[19] & Flag.RESPONSE
    ][-1]


def stalled(upto: int) -> Network:
    network = pair(gateway_of_users(), device_of_user(), find_user=find_user)
    network.impair = lambda datagram: [] if datagram.number >= upto else [datagram]
    return connect(network)


@pytest.mark.parametrize("upto", [2, 4, 6])
def test_a_flood_of_one_message_is_answered_at_a_bounded_rate(upto: int) -> None:
    network = stalled(upto)
    engine = network.gateway.engine
    kind = ExchangeType.IKE_SA_INIT if upto == 2 else ExchangeType.IKE_AUTH
    asked = [one for one in network.sent if one.sender == "device"][upto // 2 - 1]
    assert asked.message[18] == kind
    path = Path(GATEWAY, Endpoint(DEVICE.address, asked.path.local.port))
    for second in range(3):
        now = network.now + 1 + second
        for _ in range(1000):
            engine.receive(asked.message, path, now)
        assert answers(engine) == REPEATS_PER_S
    assert engine.counters["requests_repeated"] == 3000


def test_a_flood_on_an_established_sa() -> None:
    network = connected()
    asked = last_from_device(network, ExchangeType.IKE_AUTH)
    for _ in range(100):
        network.gateway.engine.receive(asked.message, PATH, network.now)
    assert answers(network.gateway.engine) == REPEATS_PER_S
    assert established(network.gateway)


def test_the_allowance_is_that_of_each_response() -> None:
    network = connected()
    for _ in range(100):
        asked = last_from_device(network, ExchangeType.IKE_AUTH)
        network.gateway.engine.receive(asked.message, PATH, network.now)
    network.pass_time(40)  # liveness checks
    asked = last_from_device(network, ExchangeType.INFORMATIONAL)
    network.gateway.engine.receive(asked.message, PATH, network.now)
    assert answers(network.gateway.engine) == 1


def test_key_exchanges_are_limited_once_cookies_are_demanded() -> None:
    settings = EngineSettings(cookie_threshold=5, key_exchanges_per_s=7)
    engine = make_engine([gateway_policy()], settings=settings)
    devices = []
    for number in range(40):
        device = make_engine([device_policy()])
        path = Path(GATEWAY, Endpoint(ip_address("198.51.100.9"), 2000 + number))
        device.initiate("office", 0.0)
        devices.append((device, path))

    def carry(now: float) -> None:
        for device, path in devices:
            for _ in range(2):
                for one in device.take_outputs():
                    if isinstance(one, Transmit) and one.message[18] == ExchangeType.IKE_SA_INIT:
                        engine.receive(one.message, path, now)
                for one in engine.take_outputs():
                    if isinstance(one, Transmit):
                        device.receive(one.message, Path(DEVICE, GATEWAY), now)

    carry(0.0)
    assert len(engine._core.half_open) == 5 + 7
    assert engine.counters["key_exchanges_put_off"] == 40 - 12
    # Those that were put off repeat their request, and get in.
    for second in range(1, 30):
        for device, _ in devices:
            device.handle_timer(float(second))
        carry(float(second))
    assert len(engine._core.half_open) == 40

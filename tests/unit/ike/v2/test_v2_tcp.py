"""Engines whose peers come by TCP: each sees the other at an endpoint of a relay (RFC 9329)."""

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from harness_v2 import (
    DEVICE,
    GATEWAY,
    Network,
    assert_consistent,
    connect,
    device_policy,
    established,
    gateway_policy,
    pair,
    sa_of,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.policy import EngineSettings, Feature

OURS = Endpoint(GATEWAY.address, 4500)
THEIRS = Endpoint(DEVICE.address, 4500)
GATEWAY_BY_TCP = Endpoint(ip_address("127.65.0.9"), 40_000)
DEVICE_BY_TCP = Endpoint(ip_address("127.70.1.2"), 40_001)
NEXT = Endpoint(ip_address("127.70.1.2"), 40_002)
ROAMED = Endpoint(ip_address("127.99.3.4"), 40_003)
PROOF = "esp icv, sequence 7"


def by_tcp(*, mobike: bool = True, settings: EngineSettings | None = None) -> Network:
    network = pair(
        gateway_policy(mobike=mobike, endpoint_update=Feature.OFF),
        device_policy(mobike=mobike, remote=GATEWAY_BY_TCP, local=THEIRS),
        settings=settings,
    )
    network.where |= {GATEWAY_BY_TCP.address: "gateway", DEVICE_BY_TCP.address: "device"}
    network.nat = {OURS: GATEWAY_BY_TCP, THEIRS: DEVICE_BY_TCP}
    return network


def reconnect(network: Network, there: Endpoint) -> None:
    network.nat[THEIRS] = there


def test_it_is_encapsulated_and_keeps_its_ports_and_needs_no_keepalives() -> None:
    network = connect(by_tcp())
    gateway, device = sa_of(network.gateway), sa_of(network.device)
    assert gateway.path == Path(OURS, DEVICE_BY_TCP)
    assert device.path == Path(THEIRS, GATEWAY_BY_TCP)
    for sa in (gateway, device):
        assert (sa.local_natted, sa.remote_natted, sa.encapsulate) == (False, True, True)
    assert_consistent(network)
    assert all(sa.udp_encapsulation for sa in network.gateway.sas.values())
    network.pass_time(200)
    assert not network.gateway.keepalives
    assert not network.device.keepalives
    assert network.gateway.engine.established_remotes() == {DEVICE_BY_TCP}


def liveness(network: Network) -> None:
    network.pass_time(sa_of(network.device).connection.liveness_s * 1.5)


def told(network: Network) -> None:
    sa = sa_of(network.device)
    network.device.engine.local_address_changed(sa.local_spi, THEIRS, network.now)
    network.run()


def rekeyed(network: Network) -> None:
    network.device.engine.rekey(sa_of(network.device).spis, network.now)
    network.run()


def esp(network: Network) -> None:
    (spi,) = network.gateway.sas
    remote = network.nat[THEIRS]
    network.gateway.engine.endpoint_seen(spi, remote, PROOF, network.now)
    network.run()


@pytest.mark.parametrize("there", [NEXT, ROAMED])
@pytest.mark.parametrize(
    ("speak", "mobike"),
    [
        (told, True),
        *((one, mobike) for one in (liveness, rekeyed, esp) for mobike in (True, False)),
    ],
)
def test_h35_second_connection_for_the_same_sa(
    speak: Callable[[Network], None], there: Endpoint, mobike: bool
) -> None:
    """Whatever is authentic moves everything to the newest connection, whatever is negotiated."""
    network = connect(by_tcp(mobike=mobike))
    network.where[there.address] = "device"
    reconnect(network, there)
    speak(network)
    assert sa_of(network.gateway).path == Path(OURS, there)
    assert [move.remote for move in network.gateway.moves[-1:]] == [there]
    assert all(move.udp_encapsulation for move in network.gateway.moves)
    assert len(network.gateway.named("endpoint_moved")) == 1
    assert established(network.gateway)
    assert established(network.device)


@pytest.mark.parametrize("where", ["127.0.0.1", "127.63.255.255", "127.128.0.1"])
def test_h33_other_addresses_of_loopback_are_nobodys(where: str) -> None:
    network = connect(by_tcp())
    reconnect(network, Endpoint(ip_address(where), 4500))
    esp(network)
    assert sa_of(network.gateway).path.remote == DEVICE_BY_TCP
    assert not network.gateway.moves


def test_a_device_changes_from_tcp_to_udp_with_mobike() -> None:
    """And what it tells about NATs by UDP counts again."""
    network = connect(by_tcp())
    sa = sa_of(network.device)
    sa.path = Path(THEIRS, OURS)
    network.nat.clear()
    told(network)
    assert sa_of(network.gateway).path == Path(OURS, THEIRS)
    moved = sa_of(network.gateway)
    assert (moved.local_natted, moved.remote_natted) == (False, False)


def test_h20_one_source_by_tcp_does_not_lock_out_another() -> None:
    """Half-open SAs count by the address that stands for the source."""
    network = by_tcp(settings=EngineSettings(half_open_limit=4, cookie_threshold=4))
    network.impair = lambda datagram: [] if datagram.sender == "gateway" else [datagram]
    for port in range(6):
        reconnect(network, Endpoint(DEVICE_BY_TCP.address, 50_000 + port))
        network.device.engine.initiate("office", network.now)
        network.pass_time(40)
    assert len(network.gateway.engine._core.half_open) <= 4
    network.impair = lambda datagram: [datagram]
    network.where[ROAMED.address] = "device"
    reconnect(network, ROAMED)
    network.pass_time(60)
    assert established(network.gateway)

"""Outer addresses of both IP versions: MOBIKE and endpoint update from one to the other."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from harness_v2 import (
    DEVICE,
    GATEWAY,
    Network,
    connect,
    device_policy,
    gateway_policy,
    pair,
    sa_of,
)

from gateway.domain.endpoint import Endpoint
from gateway.ike.outputs import ClientUp
from gateway.ike.policy import EngineSettings, Feature

GATEWAY6 = Endpoint(ip_address("2001:db8::1"), 4500)
DEVICE6 = Endpoint(ip_address("2001:db8:7::7"), 4500)
LISTEN = (GATEWAY.address, GATEWAY6.address)


def roaming(*, listen: tuple[object, ...] = LISTEN, **changes: object) -> Network:
    settings = EngineSettings(listen=listen)
    network = pair(gateway_policy(**changes), device_policy(**changes), settings=settings)
    network.where |= {GATEWAY6.address: "gateway", DEVICE6.address: "device"}
    return connect(network)


def our_spi(network: Network) -> bytes:
    (up,) = (one for one in network.device.log if isinstance(one, ClientUp))
    return up.ike_spi


def move(network: Network, local: Endpoint, **how: object) -> None:
    network.device.engine.local_address_changed(our_spi(network), local, network.now, **how)
    network.run()


@pytest.mark.parametrize("local", [DEVICE6])
def test_mobike_to_ipv6_and_back(local: Endpoint) -> None:
    network = roaming()
    move(network, local)
    for host, path in (
        (network.device, (DEVICE6, GATEWAY6)),
        (network.gateway, (GATEWAY6, DEVICE6)),
    ):
        sa = sa_of(host)
        assert (sa.path.local, sa.path.remote) == path
        assert (host.moves[-1].local, host.moves[-1].remote) == path
    assert network.gateway.engine.counters["mobike_updates"] == 1
    home = replace(DEVICE, port=4500)
    move(network, home)
    assert sa_of(network.gateway).path.remote == home
    assert sa_of(network.device).path.remote.address == GATEWAY.address
    network.pass_time(100)
    assert sa_of(network.gateway).path.remote == home


def test_who_does_not_know_our_other_address_stays_where_it_is() -> None:
    network = roaming(listen=())
    move(network, DEVICE6)
    assert not network.device.moves
    assert sa_of(network.device).path.remote.address == GATEWAY.address
    assert network.device.engine.counters["address_changes_ignored"]


@pytest.mark.parametrize("useless", ["::", "fe80::1", "::1"])
def test_only_useful_addresses_are_told(useless: str) -> None:
    network = roaming(listen=(GATEWAY.address, ip_address(useless)))
    state = sa_of(network.device).mobike_state
    assert state is None or not state.additional


def test_a_request_from_the_other_ip_version_moves_both_ends() -> None:
    """Endpoint update: the message itself says where the device is, and where it came to."""
    network = roaming(mobike=False, endpoint_update=Feature.ALLOWED)
    sa = sa_of(network.device)
    sa.path = replace(sa.path, local=DEVICE6, remote=GATEWAY6)
    from gateway.ike.v2 import informational

    informational.ask(network.device.engine._core, sa, network.now)
    network.run()
    moved = sa_of(network.gateway).path
    assert (moved.local, moved.remote) == (GATEWAY6, DEVICE6)
    assert (network.gateway.moves[-1].local, network.gateway.moves[-1].remote) == (
        GATEWAY6,
        DEVICE6,
    )

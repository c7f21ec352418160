"""Transport mode (RFC 7296 sections 1.3.1 and 2.23.1): the sides are the hosts, behind NATs too."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from harness_v2 import (
    DEVICE,
    GATEWAY,
    Network,
    assert_consistent,
    connect,
    connected,
    device_policy,
    gateway_policy,
    network_selector,
    pair,
    sa_of,
)

from gateway.domain.child_sa import Mode, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.ike.auth.identity import Identity
from gateway.ike.policy import Lifetimes
from gateway.ike.refusal import Refused
from gateway.ike.transport_mode import refuse_held
from gateway.ike.v2 import transport_mode

OWN = Endpoint(ip_address("10.0.0.7"), 500)
OUTSIDE = Endpoint(ip_address("198.51.100.99"), 40000)
SHORT = Lifetimes(child_rekey_s=100, jitter=0)
of_address = TrafficSelector.of_address


def gateway_host(**changes: object) -> object:
    return gateway_policy(pool=None, subnets=(), local_ts=(), mode=Mode.TRANSPORT, **changes)


def device_host(**changes: object) -> object:
    return device_policy(request_inner_address=False, mode=Mode.TRANSPORT, **changes)


def behind_nat(gateway: object, device: object) -> Network:
    network = pair(gateway, replace(device, local=OWN))
    network.where[OWN.address] = "device"
    network.nat = {OWN: OUTSIDE, replace(OWN, port=4500): replace(OUTSIDE, port=40001)}
    return connect(network)


def only_child(host: object) -> object:
    (child,) = host.sas.values()
    return child


def test_the_hosts_are_the_sides() -> None:
    network = connected(gateway_host(), device_host())
    child = only_child(network.gateway)
    assert child.mode is Mode.TRANSPORT
    assert child.local_ts == (of_address(GATEWAY.address),)
    assert child.remote_ts == (of_address(DEVICE.address),)
    assert_consistent(network)
    assert not sa_of(network.gateway).mobike


def test_behind_a_nat_each_side_sees_its_own_addresses() -> None:
    network = behind_nat(gateway_host(lifetimes=SHORT), device_host())
    for _ in range(2):
        ours, theirs = only_child(network.gateway), only_child(network.device)
        assert ours.udp_encapsulation
        assert ours.mode is theirs.mode is Mode.TRANSPORT
        assert ours.remote_ts == (of_address(OUTSIDE.address),)
        assert theirs.local_ts == (of_address(OWN.address),)
        assert theirs.remote_ts == (of_address(GATEWAY.address),)
        # The gateway's rekeying names what it sees; the device knows what is meant.
        network.pass_time(110)
    assert network.gateway.engine.counters["child_sas_rekeyed"] == 2


def test_protocol_and_ports_go_through_the_nat_as_well() -> None:
    network = behind_nat(gateway_host(), device_host())
    sa = sa_of(network.gateway)
    l2tp = TrafficSelector(OWN.address, OWN.address, 17, 1701, 1701)
    mine = TrafficSelector(GATEWAY.address, GATEWAY.address, 17, 1701, 1701)
    sides = transport_mode.Sides(sa, sa.connection, (l2tp,), (mine,))
    assert sides.theirs == (replace(l2tp, start=OUTSIDE.address, end=OUTSIDE.address),)
    assert sides.ours == (mine,)
    assert sides.told(sides.theirs) == (l2tp,)


def test_who_wants_a_tunnel_is_refused() -> None:
    tunnel = device_policy(request_inner_address=False, remote_ts=(of_address(GATEWAY.address),))
    network = connect(pair(gateway_host(), tunnel))
    assert not network.gateway.sas
    assert not network.gateway.grants
    (refused,) = network.gateway.named("handshake_failed")
    assert "tunnel mode" in refused.text


def test_a_gateway_without_it_makes_a_tunnel_that_the_device_does_not_want() -> None:
    gateway = gateway_policy(
        pool=None,
        local_ts=(of_address(GATEWAY.address),),
        remote_ts=(network_selector("198.51.100.0/24"),),
    )
    network = connect(pair(gateway, device_host()))
    assert not network.device.sas
    assert "tunnel mode" in network.device.named("handshake_failed")[0].text


def test_two_devices_behind_one_nat_are_kept_apart() -> None:
    network = behind_nat(gateway_host(), device_host())
    sa = sa_of(network.gateway)
    sa.peer_id = Identity.parse("eve@example.com")
    child = only_child(network.gateway)
    core = network.gateway.engine._core
    with pytest.raises(Refused, match="cannot be told apart"):
        refuse_held(core, sa, child.local_ts, child.remote_ts)


def test_packets_from_elsewhere_move_ports_but_not_the_host() -> None:
    network = behind_nat(gateway_host(), device_host())
    child = only_child(network.gateway)
    engine = network.gateway.engine
    other = Endpoint(ip_address("203.0.113.9"), 40001)
    engine.endpoint_seen(child.spi_in, other, "esp", network.now)
    network.run()
    assert not network.gateway.moves
    assert network.gateway.named("endpoint_move_refused")
    engine.endpoint_seen(child.spi_in, replace(OUTSIDE, port=41000), "esp", network.now)
    network.run()
    assert network.gateway.moves[0].remote == replace(OUTSIDE, port=41000)

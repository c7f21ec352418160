"""IKE SAs without a child SA (RFC 6023), both sides."""

from dataclasses import replace

import pytest
from harness_v2 import (
    Network,
    assert_consistent,
    connect,
    device_policy,
    established,
    gateway_policy,
    network_selector,
    pair,
    sa_of,
    site_policies,
)
from users_v2 import Stranger, device_of_user, gateway_of_users, log_in

from gateway.ike.codec import (
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)
from gateway.ike.core import CHILDLESS_S
from gateway.ike.registry import ExchangeType, NotifyType


def childless(**changes: object) -> Network:
    return connect(
        pair(gateway_policy(childless=True, **changes), device_policy(childless=True, **changes))
    )


def message_kinds(network: Network) -> list[int]:
    """Of the device's requests."""
    return [one.message[18] for one in network.sent if one.sender == "device"]


def without_child(network: Network) -> Network:
    """The gateway's child SA goes, the IKE SA stays."""
    for spi_in in list(network.gateway.sas):
        network.gateway.engine.child_expired(spi_in, hard=True, now=network.now)
    network.run()
    assert not network.gateway.sas
    assert not network.device.sas
    return network


def test_the_child_sa_has_an_exchange_of_its_own() -> None:
    network = childless()
    assert message_kinds(network) == [
        ExchangeType.IKE_SA_INIT,
        ExchangeType.IKE_AUTH,
        ExchangeType.CREATE_CHILD_SA,
    ]
    assert_consistent(network)
    (child,) = network.device.sas.values()
    assert [str(one.start) for one in child.local_ts] == ["10.9.0.1"]
    assert established(network.device)[0].inner_address == "10.9.0.1"


def test_between_networks_with_the_reqid_of_the_trap() -> None:
    gateway, device = site_policies(childless=True)
    network = pair(gateway, device)
    reqid = network.device.engine.reserve_reqid("office")
    network.device.engine.traffic_waiting(reqid, network.now)
    network.run()
    (child,) = network.device.sas.values()
    assert child.reqid == reqid
    assert_consistent(network)


def test_an_ike_sa_stays_without_a_child_sa() -> None:
    network = without_child(childless())
    network.pass_time(10 * CHILDLESS_S)
    assert len(established(network.gateway)) == len(established(network.device)) == 1
    reqid = network.device.engine.reserve_reqid("office")
    network.device.engine.traffic_waiting(reqid, network.now)
    network.run()
    assert_consistent(network)
    assert network.device.sas


def test_an_ike_sa_stays_when_the_child_sa_is_refused() -> None:
    gateway, device = site_policies(childless=True)
    network = connect(pair(replace(gateway, remote_ts=(network_selector("10.66.0.0/16"),)), device))
    network.pass_time(10 * CHILDLESS_S)
    assert established(network.gateway)
    assert not network.gateway.sas
    assert network.gateway.named("handshake_failed")


def test_a_gateway_that_wants_none_gets_a_child_sa() -> None:
    network = connect(pair(gateway_policy(), device_policy(childless=True)))
    assert network.gateway.sas
    assert_consistent(network)


def test_a_device_that_knows_nothing_of_it_gets_its_child_sa() -> None:
    network = connect(pair(gateway_policy(childless=True), device_policy()))
    assert network.gateway.sas
    network.pass_time(60)
    assert_consistent(network)


def test_with_eap() -> None:
    network = log_in(gateway_of_users(childless=True), device_of_user(childless=True))
    assert established(network.gateway)[0].user == "ada"
    assert_consistent(network)
    assert network.gateway.sessions[0].session.inner_address is not None


def test_ike_sas_without_child_are_rekeyed() -> None:
    network = without_child(childless())
    sa = sa_of(network.device)
    before = sa.spis
    network.pass_time(sa.connection.lifetimes.ike_rekey_s)
    assert established(network.gateway)[0].spis != before


SA, TSI, TSR = SecurityAssociation, TrafficSelectorsInitiator, TrafficSelectorsResponder


@pytest.mark.parametrize("without", [(SA,), (TSI,), (TSR,), (SA, TSI), (SA, TSR), (TSI, TSR)])
def test_half_of_a_child_sa_is_malformed(without: tuple[type, ...]) -> None:
    one = Stranger(pair(gateway_policy(childless=True), device_policy()))
    payloads = [payload for payload in one.first() if not isinstance(payload, without)]
    assert one.send(*payloads).error().type == NotifyType.INVALID_SYNTAX
    assert not established(one.network.gateway)


def test_without_being_asked_for_it_no_child_is_malformed() -> None:
    one = Stranger(pair(gateway_policy(), device_policy()))
    payloads = [payload for payload in one.first() if not isinstance(payload, (SA, TSI, TSR))]
    assert one.send(*payloads).error().type == NotifyType.INVALID_SYNTAX
    assert not established(one.network.gateway)


def test_another_connection_s_permission_does_not_count() -> None:
    other = gateway_policy(name="other", childless=True)
    network = pair(gateway_policy(), device_policy())
    network.gateway.engine.reconfigure([gateway_policy(), other], 0.0)
    one = Stranger(network)
    payloads = [payload for payload in one.first() if not isinstance(payload, (SA, TSI, TSR))]
    assert one.send(*payloads).error().type == NotifyType.INVALID_SYNTAX
    assert not established(network.gateway)


def test_a_child_that_is_deleted_leaves_the_ike_sa() -> None:
    network = connect(pair(gateway_policy(childless=True), device_policy()))
    (spi_in,) = network.gateway.sas
    network.gateway.engine.child_expired(spi_in, hard=True, now=network.now)
    network.pass_time(2)
    assert established(network.gateway)

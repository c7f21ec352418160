"""What the owner of a connection that we initiate is told, and how it drives it."""

from ipaddress import ip_address, ip_network

import pytest
from harness_v1 import device_v1, gateway_v1
from harness_v2 import (
    DEVICE,
    GATEWAY,
    PSK,
    Network,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    network_selector,
    pair,
    sa_of,
)

from gateway.domain.endpoint import Endpoint
from gateway.ike import client
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.outputs import ClientDown, ClientUp, MoveChildSa
from gateway.ike.policy import ConnectionPolicy, Feature, Lifetimes, PeerAuth

ELSEWHERE = Endpoint(ip_address("203.0.113.77"), 4500)
HOME = ip_address("10.44.0.9")
HOME_NET = (network_selector("10.44.0.0/24"),)
EVERYTHING = (network_selector("0.0.0.0/0"),)
ADVERTISEMENT = bytes(range(40))
VERSIONS = pytest.mark.parametrize("version", [1, 2])


def gateway_of(version: int, **changes: object) -> ConnectionPolicy:
    return gateway_v1(**changes) if version == 1 else gateway_policy(**changes)


def device_of(version: int, **changes: object) -> ConnectionPolicy:
    if version == 1:
        return device_v1(**{"remote_ts": (network_selector("10.1.0.0/16"),), **changes})
    return device_policy(**changes)


def told(network: Network) -> list[ClientUp | ClientDown]:
    return [one for one in network.device.log if isinstance(one, ClientUp | ClientDown)]


def vpn_fa_pair(version: int = 2, **device: object) -> Network:
    gateway = gateway_of(
        version,
        vpn_fa=Feature.ALLOWED,
        pool=None,
        local_ts=EVERYTHING,
        remote_ts=HOME_NET,
        fa_advertisement=ADVERTISEMENT,
    )
    changes = {
        "vpn_fa": Feature.ALLOWED,
        "home_address": HOME,
        "remote_ts": EVERYTHING,
        **device,
    }
    return pair(gateway, device_of(version, **changes))


@VERSIONS
def test_up_is_told_once_with_all_terms(version: int) -> None:
    network = connect(pair(gateway_of(version), device_of(version)))
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert up.connection == "office"
    assert up.ike_spi in network.device.engine._core.sas
    assert up.outer == DEVICE.address
    assert up.inner == ip_address("10.9.0.1")
    assert up.dns == (ip_address("10.1.0.53"),)
    assert up.subnets == (ip_network("10.1.0.0/16"),)
    assert up.domains == ("example.com",)
    assert up.mobike == (version == 2)
    assert up.endpoint_update
    assert not up.vpn_fa
    assert up.suite
    assert not [one for one in network.gateway.log if isinstance(one, ClientUp | ClientDown)]


@VERSIONS
def test_rekeying_is_not_told(version: int) -> None:
    short = Lifetimes(ike_rekey_s=100, child_rekey_s=40, jitter=0)
    network = connect(pair(gateway_of(version), device_of(version, lifetimes=short)))
    (up,) = told(network)
    network.pass_time(450)
    assert told(network) == [up]
    assert network.device.engine.counters["ike_sas_rekeyed"] >= 3
    assert network.device.engine.counters["child_sas_rekeyed"] >= 3


def test_a_new_login_is_told() -> None:
    gateway = gateway_policy(reauthenticate=True, lifetimes=Lifetimes(ike_rekey_s=100, jitter=0))
    network = connected(gateway)
    network.pass_time(150)
    first, second = told(network)
    assert isinstance(first, ClientUp)
    assert isinstance(second, ClientUp)
    assert first.ike_spi != second.ike_spi
    assert first.inner == second.inner


@VERSIONS
def test_another_advertisement_is_told(version: int) -> None:
    network = connect(vpn_fa_pair(version))
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert up.vpn_fa
    assert up.advertisement == ADVERTISEMENT
    core = network.device.engine._core
    sa = core.sas[up.ike_spi]
    client.tell(core, sa)
    sa.fa_advertisement = b"another"
    client.tell(core, sa)
    network.run()
    _, again = told(network)
    assert isinstance(again, ClientUp)
    assert again.advertisement == b"another"


@VERSIONS
def test_wrong_key_is_a_refusal(version: int) -> None:
    wrong = PresharedKey(b"an entirely different secret")
    auth = PeerAuth(preshared_key=wrong if version == 1 else PSK)
    device = device_of(version, local_credential=wrong, peer_auth=auth)
    network = connect(pair(gateway_of(version), device))
    network.pass_time(200)
    down = told(network)[0]
    assert isinstance(down, ClientDown)
    assert not down.was_up
    assert down.refused
    assert down.reason
    assert down.hint


@VERSIONS
def test_silence_is_no_refusal(version: int) -> None:
    network = pair(gateway_of(version), device_of(version))
    network.impair = lambda datagram: []
    connect(network)
    network.pass_time(100)
    down = told(network)[0]
    assert isinstance(down, ClientDown)
    assert not down.refused
    assert not down.was_up
    assert "4500" in down.hint


@VERSIONS
def test_refused_child_is_told_before_the_delete_is_answered(version: int) -> None:
    device = device_of(version, remote_ts=(network_selector("172.16.0.0/16"),))
    network = connect(pair(gateway_of(version), device))
    (down,) = told(network)[:1]
    assert isinstance(down, ClientDown)
    assert down.refused
    assert not down.was_up


@VERSIONS
def test_delete_of_the_peer_ends_a_session(version: int) -> None:
    network = connect(pair(gateway_of(version), device_of(version)))
    spis = network.gateway.engine.ike_sas(network.now)[0].spis
    network.gateway.engine.close_ike_sa(spis, "administrator", network.now)
    network.run()
    _, down = told(network)
    assert isinstance(down, ClientDown)
    assert down.was_up
    assert not down.refused
    network.pass_time(10)
    assert isinstance(told(network)[2], ClientUp)


@VERSIONS
def test_silent_peer_ends_a_session(version: int) -> None:
    network = connect(pair(gateway_of(version), device_of(version)))
    network.impair = lambda datagram: []
    network.pass_time(150)
    down = told(network)[1]
    assert isinstance(down, ClientDown)
    assert down.was_up
    assert not down.refused


@VERSIONS
def test_close_all_tells_nothing(version: int) -> None:
    network = connect(pair(gateway_of(version), device_of(version)))
    network.device.engine.close_all(network.now)
    network.run()
    assert len(told(network)) == 1


@VERSIONS
def test_abandoned_in_silence_and_begun_anew_at_once(version: int) -> None:
    network = connect(pair(gateway_of(version), device_of(version)))
    engine = network.device.engine
    engine.abandon("office", "another link", network.now)
    engine.initiate("office", network.now)
    network.run()
    first, second = told(network)
    assert isinstance(first, ClientUp)
    assert isinstance(second, ClientUp)
    assert len(established(network.device)) == len(established(network.gateway)) == 1
    assert len(network.device.sas) == len(network.gateway.sas) == 1
    engine.abandon("office", "done", network.now)
    network.run()
    network.pass_time(300)
    assert len(told(network)) == 2
    assert not established(network.gateway)


@VERSIONS
@pytest.mark.parametrize("hang", [0, 1, 2, 3])
def test_hanging_attempt_is_begun_anew_from_another_address(version: int, hang: int) -> None:
    """After so many datagrams everything is lost; then we are elsewhere."""
    network = pair(gateway_of(version), device_of(version))
    network.impair = lambda datagram: [datagram] if datagram.number < hang else []
    connect(network)
    network.pass_time(3)
    assert not told(network)
    network.impair = lambda datagram: [datagram]
    elsewhere = Endpoint(ELSEWHERE.address, 500)
    network.where[elsewhere.address] = "device"
    engine = network.device.engine
    engine.reconfigure([device_of(version, local=elsewhere)], network.now)
    engine.initiate("office", network.now)
    network.run()
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert up.outer == elsewhere.address


@VERSIONS
def test_begun_anew_while_the_delete_waits(version: int) -> None:
    """The request before the Delete hangs: nobody waits for it."""
    network = connect(pair(gateway_of(version), device_of(version)))
    engine = network.device.engine
    network.impair = lambda datagram: [] if datagram.sender == "device" else [datagram]
    network.pass_time(33)
    spis = next(one.spis for one in engine.ike_sas(network.now) if one.state == "established")
    assert engine.close_ike_sa(spis, "another link", network.now)
    network.impair = lambda datagram: [datagram]
    engine.initiate("office", network.now)
    network.run()
    *_, down, up = told(network)
    assert isinstance(down, ClientDown)
    assert isinstance(up, ClientUp)


def test_waiting_traffic_does_not_begin_anew() -> None:
    network = pair()
    engine = network.device.engine
    reqid = engine.reserve_reqid("office")
    network.impair = lambda datagram: []
    for _ in range(5):
        engine.traffic_waiting(reqid, network.now)
    network.run()
    assert len(network.sent) == 1


# -- the home address -----------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("inner", [False, True])
def test_home_address_is_our_side_where_the_gateway_knows_vpn_fa(version: int, inner: bool) -> None:
    network = connect(vpn_fa_pair(version, request_inner_address=inner))
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert up.vpn_fa
    assert up.inner == HOME
    assert up.advertisement == ADVERTISEMENT
    # Servers and networks come along where a configuration is asked for at all.
    assert up.dns == ((ip_address("10.1.0.53"),) if inner else ())
    (sa,) = network.device.sas.values()
    assert [one.start for one in sa.local_ts] == [HOME]
    assert sa.remote_ts == EVERYTHING
    (ours,) = network.gateway.sas.values()
    assert ours.vpn_fa


@VERSIONS
def test_without_the_vendor_id_an_inner_address_is_asked_for(version: int) -> None:
    device = device_of(version, vpn_fa=Feature.ALLOWED, home_address=HOME)
    network = connect(pair(gateway_of(version), device))
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert up.inner == ip_address("10.9.0.1")
    assert not up.vpn_fa


def test_vpn_fa_that_is_off_here_asks_for_an_inner_address() -> None:
    gateway = gateway_policy(vpn_fa=Feature.ALLOWED)
    network = connect(pair(gateway, device_policy(home_address=HOME)))
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert up.inner == ip_address("10.9.0.1")


@VERSIONS
def test_gateway_that_knows_vpn_fa_but_grants_none(version: int) -> None:
    """Its policy took it back between the vendor id and the child SA."""
    network = vpn_fa_pair(version)
    gateway = network.gateway.engine

    def withdraw(datagram):  # noqa: ANN001, ANN202
        if datagram.sender == "gateway":
            core = gateway._core
            for sa in core.sas.values():
                sa.peer_knows_vpn_fa = False
        return [datagram]

    network.impair = withdraw
    connect(network)
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert up.inner == HOME
    assert not up.vpn_fa


# -- moving ---------------------------------------------------------------------------------


def test_mobike_moves_the_sas_before_the_answer_and_again_when_asked() -> None:
    network = connected()
    engine = network.device.engine
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    network.where[ELSEWHERE.address] = "device"
    network.impair = lambda datagram: []
    engine.local_address_changed(up.ike_spi, ELSEWHERE, network.now)
    network.run()
    assert [move.local for move in network.device.moves] == [ELSEWHERE]
    network.pass_time(8)
    sent = len(network.sent)
    network.impair = lambda datagram: [datagram]
    engine.local_address_changed(up.ike_spi, ELSEWHERE, network.now)
    network.run()
    assert len(network.sent) > sent
    assert sa_of(network.gateway).path.remote == ELSEWHERE
    assert [move.local for move in network.device.moves] == [ELSEWHERE]


def test_mobike_after_rekeying_takes_the_spi_of_the_report() -> None:
    network = connected(device=device_policy(lifetimes=Lifetimes(ike_rekey_s=60, jitter=0)))
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    network.pass_time(200)
    assert sa_of(network.device).local_spi != up.ike_spi
    network.where[ELSEWHERE.address] = "device"
    network.device.engine.local_address_changed(up.ike_spi, ELSEWHERE, network.now)
    network.run()
    assert sa_of(network.gateway).path.remote == ELSEWHERE


def test_mobike_with_a_request_that_was_lost_on_the_old_link() -> None:
    """Its last try was near: it gets all of its time from the new address."""
    network = connected(gateway_policy(liveness_s=0))
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    network.impair = lambda datagram: []
    network.pass_time(85)
    assert established(network.device)
    assert sa_of(network.device).window.outstanding.tries >= 5
    network.where[ELSEWHERE.address] = "device"
    network.device.engine.local_address_changed(up.ike_spi, ELSEWHERE, network.now)
    network.run()
    network.pass_time(25)
    assert established(network.device)
    network.impair = lambda datagram: [datagram]
    network.pass_time(25)
    assert established(network.device)
    assert sa_of(network.gateway).path.remote == ELSEWHERE


@VERSIONS
def test_endpoint_update_moves_our_end_without_a_message_of_its_own(version: int) -> None:
    network = connect(pair(gateway_of(version), device_of(version, mobike=False)))
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert up.endpoint_update
    network.where[ELSEWHERE.address] = "device"
    assert network.device.engine.move_local(up.ike_spi, ELSEWHERE, network.now)
    network.collect()
    assert [(move.local, move.remote.address) for move in network.device.moves] == [
        (ELSEWHERE, GATEWAY.address)
    ]
    assert network.queue, "a liveness check leaves at once"
    network.run()
    (sa,) = [one for one in network.gateway.engine._core.sas.values() if one.established]
    assert sa.path.remote.address == ELSEWHERE.address
    assert [one for one in network.gateway.log if isinstance(one, MoveChildSa)]


@VERSIONS
def test_behind_a_nat_a_keepalive_goes_with_it(version: int) -> None:
    network = connect(
        pair(gateway_of(version), device_of(version, mobike=False, force_encapsulation=True))
    )
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert up.encapsulated
    network.where[ELSEWHERE.address] = "device"
    before = len(network.device.keepalives)
    assert network.device.engine.move_local(up.ike_spi, ELSEWHERE, network.now)
    network.run()
    assert [one.local for one in network.device.keepalives[before:]] == [ELSEWHERE]
    network.pass_time(25)
    assert len(network.device.keepalives) == before + 2


def test_nothing_moves_that_was_not_agreed_on() -> None:
    network = connected(gateway_policy(endpoint_update=Feature.OFF), device_policy(mobike=False))
    (up,) = told(network)
    assert isinstance(up, ClientUp)
    assert not up.endpoint_update
    assert not network.device.engine.move_local(up.ike_spi, ELSEWHERE, network.now)
    assert not network.device.engine.move_local(b"nobody..", ELSEWHERE, network.now)
    network.run()
    assert not network.device.moves

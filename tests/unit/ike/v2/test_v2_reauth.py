"""Reauthentication, make before break (RFC 4478), on both sides."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from certs_v2 import credential
from harness_v2 import (
    Network,
    assert_consistent,
    connected,
    device_policy,
    established,
    gateway_policy,
    sa_of,
    site_policies,
)
from users_v2 import RadiusServer, device_of_user, gateway_of_users, log_in

from gateway.domain.user_auth import Rejected
from gateway.ike import inner_address
from gateway.ike.codec import Notify
from gateway.ike.core import TimerKind
from gateway.ike.outputs import SessionClosed, SessionOpened
from gateway.ike.policy import Lifetimes, UserMethod
from gateway.ike.registry import NotifyType
from gateway.ike.v2 import reauthentication
from gateway.ike.v2.sa import IkeSa
from gateway.ike.v2.view import Payloads

SHORT = Lifetimes(ike_rekey_s=100, ike_over_s=40, jitter=0)


def renewing(**changes: object) -> Network:
    return connected(gateway_policy(), device_policy(reauthenticate=True, lifetimes=SHORT))


def test_a_new_login_replaces_the_old_one() -> None:
    network = renewing()
    (before,) = established(network.device)
    children = set(network.gateway.sas)
    network.pass_time(100)
    # Both stand for a moment: nothing on its way is lost.
    assert len(established(network.device)) == len(established(network.gateway)) == 2
    assert len(network.gateway.sas) == len(network.device.sas) == 2
    network.pass_time(5)
    (after,) = established(network.device)
    (theirs,) = established(network.gateway)
    assert after.spis == theirs.spis != before.spis
    assert after.inner_address == theirs.inner_address == before.inner_address
    assert_consistent(network)
    assert not children & set(network.gateway.sas)
    assert network.device.engine.counters["ike_sas_reauthenticated"] == 1
    assert network.device.engine.counters["ike_sas_rekeyed"] == 0
    assert network.gateway.engine._core.pools["road"].in_use == 1
    assert not network.device.named("ike_sa_closed")


def test_the_child_sa_keeps_its_reqid() -> None:
    network = renewing()
    (before,) = network.device.sas.values()
    network.pass_time(105)
    (after,) = network.device.sas.values()
    assert after.reqid == before.reqid
    assert after.spi_in != before.spi_in


def test_again_and_again() -> None:
    network = renewing()
    for _ in range(5):
        network.pass_time(105)
        assert_consistent(network)
        assert len(established(network.gateway)) == 1
    assert network.device.engine.counters["ike_sas_reauthenticated"] == 5
    core = network.device.engine._core
    assert len(core.sas) == 1
    assert len(core.of_peer(sa_of(network.device))) == 1


def test_between_networks() -> None:
    gateway, device = site_policies()
    network = connected(gateway, replace(device, reauthenticate=True, lifetimes=SHORT))
    network.pass_time(105)
    assert len(established(network.gateway)) == 1
    assert_consistent(network)


def test_the_old_sa_stays_while_the_gateway_refuses() -> None:
    network = log_in(
        gateway_of_users(UserMethod.EAP_RADIUS, backend="dc"),
        device_of_user(reauthenticate=True, lifetimes=SHORT),
        answer_user=RadiusServer(),
    )
    (before,) = established(network.device)
    network.answer_user = lambda asked: Rejected("not now")
    network.pass_time(101)
    assert [sa.spis for sa in established(network.device)] == [before.spis]
    assert network.device.sas
    network.answer_user = RadiusServer()
    network.pass_time(70)
    (after,) = established(network.device)
    assert after.spis != before.spis
    assert_consistent(network)


def test_the_old_sa_s_time_is_over_when_no_login_works() -> None:
    network = renewing()
    network.gateway.engine.reconfigure(
        [gateway_policy(local_credential=credential("gw.example.com"))], network.now
    )
    assert established(network.device)
    network.pass_time(139)
    assert established(network.device)
    network.pass_time(2)
    assert not established(network.device)
    assert not network.device.sas
    assert not network.gateway.sas


def test_the_gateway_goes_away_during_the_new_login() -> None:
    network = renewing()
    network.impair = lambda datagram: [] if datagram.sender == "gateway" else [datagram]
    network.pass_time(99)
    network.pass_time(300)
    network.impair = lambda datagram: [datagram]
    network.pass_time(200)
    assert_consistent(network)
    assert len(established(network.gateway)) == 1


def test_auth_lifetime_makes_the_device_log_in_again() -> None:
    network = connected(gateway_policy(reauthenticate=True, lifetimes=SHORT))
    (before,) = established(network.device)
    network.pass_time(89)
    assert established(network.device)[0].spis == before.spis
    network.pass_time(5)
    (after,) = established(network.device)
    assert after.spis != before.spis
    assert_consistent(network)
    assert network.device.engine.counters["ike_sas_reauthenticated"] == 1


def test_a_login_is_not_prolonged_by_rekeying() -> None:
    """RFC 4478: the lifetime is that of the login, not of the IKE SA."""
    gateway = gateway_policy(reauthenticate=True, lifetimes=SHORT)
    device = device_policy(lifetimes=Lifetimes(ike_rekey_s=30, jitter=0))
    network = connected(gateway, device)
    sa_of(network.device).login_again_at = None
    core = network.device.engine._core
    core.timers.cancel((TimerKind.REAUTHENTICATE, sa_of(network.device).local_spi))
    (before,) = established(network.gateway)
    network.pass_time(139)
    assert network.gateway.engine.counters["ike_sas_rekeyed"] == 4
    assert network.gateway.engine.counters["ike_sas_closed"] == 0
    network.pass_time(2)
    (closed,) = network.gateway.named("ike_sa_closed")
    assert closed.fields["reason"] == "its lifetime is over"
    assert before.spis != closed.fields["spis"]


def test_the_lifetime_is_carried_to_a_successor() -> None:
    gateway = gateway_policy(reauthenticate=True, lifetimes=SHORT)
    network = connected(gateway, device_policy(lifetimes=Lifetimes(ike_rekey_s=50, jitter=0)))
    network.pass_time(95)
    assert network.device.engine.counters["ike_sas_rekeyed"] >= 1
    assert network.device.engine.counters["ike_sas_reauthenticated"] == 1


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0" * 5])
def test_a_malformed_lifetime_says_nothing(data: bytes) -> None:
    network = connected()
    view = Payloads((Notify(NotifyType.AUTH_LIFETIME, data),))
    sa = sa_of(network.device)
    reauthentication.take_lifetime(network.device.engine._core, sa, view, network.now)
    assert sa.login_again_at is None


def test_a_lifetime_of_nothing_does_not_make_us_busy() -> None:
    network = connected()
    view = Payloads((Notify(NotifyType.AUTH_LIFETIME, bytes(4)),))
    sa = sa_of(network.device)
    reauthentication.take_lifetime(network.device.engine._core, sa, view, network.now)
    assert sa.login_again_at == network.now + 9


def test_only_the_initiator_logs_in_again() -> None:
    network = connected()
    view = Payloads((Notify(NotifyType.AUTH_LIFETIME, bytes(4)),))
    sa = sa_of(network.gateway)
    reauthentication.take_lifetime(network.gateway.engine._core, sa, view, network.now)
    assert sa.login_again_at is None


def test_a_session_ends_and_another_begins() -> None:
    network = log_in(
        gateway_of_users(),
        device_of_user(reauthenticate=True, lifetimes=SHORT),
    )
    network.pass_time(105)
    kinds = [type(one) for one in network.gateway.sessions]
    assert kinds == [SessionOpened, SessionOpened, SessionClosed]
    first, second, closed = network.gateway.sessions
    assert closed.session_id == first.session.session_id != second.session.session_id
    assert first.session.inner_address == second.session.inner_address


def test_radius_gives_the_same_address_to_the_same_device_only() -> None:

    address = ip_address("10.77.0.9")
    network = log_in(
        gateway_of_users(UserMethod.EAP_RADIUS, backend="dc"),
        device_of_user(reauthenticate=True, lifetimes=SHORT),
        answer_user=RadiusServer(inner_address=address),
    )
    network.pass_time(105)
    assert established(network.device)[0].inner_address == "10.77.0.9"
    core = network.gateway.engine._core
    assert core.framed == {address: sa_of(network.gateway).local_spi}


def test_h32_another_device_does_not_get_the_address_by_asking_for_it() -> None:
    """Same identity, same key, but not the same socket: it may not take the address over."""
    network = connected()
    core, older = network.gateway.engine._core, sa_of(network.gateway)
    address = older.inner_address
    elsewhere = replace(older.path, remote=replace(older.path.remote, port=4321))
    for path, same in ((elsewhere, False), (older.path, True)):
        newer = IkeSa(bytes(8), b"12345678", initiator=False, path=path, now=0.0)
        newer.peer_id, newer.local_id = older.peer_id, older.local_id
        newer.connection = older.connection
        inner_address.assign(core, newer, older.connection, {4}, [address])
        assert (newer.inner_address == address) is same
        assert (older.inner_address is None) is same


def test_a_connection_that_is_closed_during_the_new_login_stays_closed() -> None:
    network = renewing()
    network.impair = lambda datagram: [] if datagram.sender == "gateway" else [datagram]
    network.pass_time(100)
    core = network.device.engine._core
    assert len(core.sas) == 2
    (before,) = established(network.device)
    assert network.device.engine.close_ike_sa(before.spis, "by hand", network.now)
    network.impair = lambda datagram: [datagram]
    network.pass_time(100)
    assert not core.sas
    assert not network.gateway.sas

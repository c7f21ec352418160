"""A new phase 1 takes over: children, inner address and session live on, whoever begins."""

from dataclasses import replace

import pytest
from harness_v1 import (
    AGGRESSIVE,
    LOGIN,
    MAIN,
    USER,
    certificate_policies,
    device_v1,
    gateway_v1,
    only_sa,
    psk_pair,
    said,
    states,
)
from harness_v2 import PSK, Datagram, Host, Network, assert_consistent, connect, pair

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.user_auth import Accepted
from gateway.ike.core import TimerKind
from gateway.ike.outputs import SessionClosed, SessionOpened
from gateway.ike.policy import Lifetimes, PeerAuth, V1Exchange
from gateway.ike.v1 import renew
from gateway.ike.v1.sa import IkeSa, State

SHORT = Lifetimes(ike_rekey_s=600.0, ike_over_s=60.0, child_rekey_s=36_000.0, jitter=0.0)


def established(host: Host) -> list[IkeSa]:
    sas = host.engine._core.sas.values()
    return [sa for sa in sas if isinstance(sa, IkeSa) and sa.state is State.ESTABLISHED]


def renew_now(network: Network, host: Host) -> None:
    (sa,) = established(host)
    host.engine._core.timers.set((TimerKind.REKEY_IKE, sa.local_spi), network.now)


def assert_taken_over(network: Network, before: dict[str, str], spis_in: set[int]) -> None:
    """One SA each, another one than before, with the same children."""
    for host in network.hosts.values():
        (sa,) = established(host)
        assert sa.spis != before[host.name], said(network)
        assert len(sa.children) == 1
        assert host.engine.counters["ike_sas_rekeyed"] >= 1
        assert host.engine.counters.get("internal_errors", 0) == 0
        assert not host.named("ike_sa_closed"), said(network)
        assert len(host.named("ike_sa_established")) == 1
        for child in sa.children:
            assert host.engine._core.children[child] is sa
    assert set(network.gateway.sas) | set(network.device.sas) == spis_in
    assert_consistent(network)


def names(network: Network) -> dict[str, str]:
    return {host.name: established(host)[0].spis for host in network.hosts.values()}


def spis(network: Network) -> set[int]:
    return set(network.gateway.sas) | set(network.device.sas)


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
@pytest.mark.parametrize("who", ["device", "gateway"])
def test_either_side_renews(who: str, exchange: V1Exchange) -> None:
    network = connect(psk_pair(exchange))
    for _ in range(3):
        before, children = names(network), spis(network)
        inner = established(network.gateway)[0].inner_address
        renew_now(network, network.hosts[who])
        network.pass_time(renew.OLD_SA_S + 1)
        assert_taken_over(network, before, children)
        assert established(network.gateway)[0].inner_address == inner
        assert states(network.gateway) == states(network.device) == [State.ESTABLISHED]


def test_renewal_by_the_clock() -> None:
    network = connect(psk_pair(lifetimes=SHORT))
    before, children = names(network), spis(network)
    network.pass_time(640)
    assert_taken_over(network, before, children)
    assert network.device.engine.counters["handshakes_renewed"] == 1
    assert network.gateway.engine.counters.get("handshakes_renewed", 0) == 0


def test_responder_renews_what_the_initiator_left() -> None:
    network = connect(pair(gateway_v1(lifetimes=SHORT), device_v1()))
    before, children = names(network), spis(network)
    network.pass_time(655)
    assert_taken_over(network, before, children)
    assert network.gateway.engine.counters["handshakes_renewed"] == 1


@pytest.mark.parametrize("first", ["device", "gateway"])
def test_h25_crossing_renewals_end_with_one_sa(first: str) -> None:
    network = connect(psk_pair())
    before, children = names(network), spis(network)
    hosts = [network.hosts[first], *(h for n, h in network.hosts.items() if n != first)]
    for host in hosts:
        renew_now(network, host)
    network.pass_time(2 * renew.OLD_SA_S + 5)
    assert_taken_over(network, before, children)
    assert names(network)["gateway"] == names(network)["device"]
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED]


def test_h25_crossing_renewals_of_which_one_is_slow() -> None:
    for lost in range(12):
        network = connect(psk_pair())
        before, children = names(network), spis(network)
        start = len(network.sent)

        def lose(one: Datagram, at: int = start + lost) -> list[Datagram]:
            return [] if one.number == at else [one]

        network.impair = lose
        for host in network.hosts.values():
            renew_now(network, host)
        network.pass_time(2 * renew.OLD_SA_S + 5)
        assert_taken_over(network, before, children)
        assert names(network)["gateway"] == names(network)["device"], lost


def test_the_peer_deletes_an_sa_whose_successor_is_elsewhere() -> None:
    """The device logs in anew from another address, then deletes the old SA: the children stay."""
    network = connect(psk_pair())
    children = spis(network)
    moved = Endpoint(network.device.engine._core.connections["office"].local.address, 4711)  # type: ignore[union-attr]
    network.nat = {Endpoint(moved.address, 500): moved}
    renew_now(network, network.device)
    network.pass_time(renew.OLD_SA_S + 1)
    assert spis(network) == children, said(network)
    (ours,), (theirs,) = established(network.gateway), established(network.device)
    assert len(ours.children) == len(theirs.children) == 1
    for host in network.hosts.values():
        (move,) = host.moves
        assert (move.remote.port, move.udp_encapsulation) == (4500, True)
    assert ours.path.remote.port == 4500


def test_the_peer_deletes_the_first_of_two_logins() -> None:
    """The second login has children of its own: those of the first go with it."""
    network = connect(psk_pair())
    (first,) = established(network.device)
    core = network.device.engine._core
    core.connections["other"] = replace(core.connections["office"], name="other")
    original = network.impair
    network.device.engine.initiate("other", network.now)
    network.run()
    network.impair = original
    assert len(established(network.gateway)) == 1, "INITIAL-CONTACT"
    network.device.engine.close_ike_sa(first.spis, "enough", network.now)
    network.run()
    assert len(network.gateway.sas) == 1
    (lease,) = [one.inner_address for one in established(network.gateway)]
    assert lease is not None


def test_renewal_that_fails_leaves_the_old_sa() -> None:
    network = connect(psk_pair())
    before, children = names(network), spis(network)
    network.impair = lambda one: []
    renew_now(network, network.device)
    network.pass_time(20)
    network.impair = lambda one: [one]
    assert names(network) == before
    assert spis(network) == children


def test_users_log_in_again_and_keep_their_session() -> None:
    network = pair(
        gateway_v1(peer_auth=PeerAuth(preshared_key=PSK, user=USER)),
        device_v1(user_credential=LOGIN),
    )
    network.answer_user = lambda question: Accepted("ada")
    connect(network)
    assert [type(one) for one in network.gateway.sessions] == [SessionOpened], said(network)
    before, children = names(network), spis(network)
    renew_now(network, network.device)
    network.pass_time(renew.OLD_SA_S + 1)
    assert_taken_over(network, before, children)
    assert len(network.gateway.questions) == 2
    assert [type(one) for one in network.gateway.sessions] == [SessionOpened]
    network.device.engine.close_all(network.now)
    network.run()
    assert [type(one) for one in network.gateway.sessions] == [SessionOpened, SessionClosed]


def test_gateway_does_not_renew_where_users_log_in() -> None:
    network = pair(
        gateway_v1(peer_auth=PeerAuth(preshared_key=PSK, user=USER), lifetimes=SHORT),
        device_v1(user_credential=LOGIN),
    )
    network.answer_user = lambda question: Accepted("ada")
    connect(network)
    renew_now(network, network.gateway)
    network.pass_time(10)
    assert network.gateway.engine.counters.get("handshakes_renewed", 0) == 0
    network.pass_time(660)
    assert "its lifetime is over" in network.gateway.named("ike_sa_closed")[0].text


def test_initial_contact_of_a_group_leaves_other_users_alone() -> None:
    shared = PeerAuth(preshared_key=PSK, user=USER)
    network = pair(gateway_v1(peer_auth=shared), device_v1(user_credential=LOGIN))
    network.answer_user = lambda question: Accepted(question.question.user)
    connect(network)
    assert len(established(network.gateway)) == 1
    core = network.device.engine._core
    other = replace(
        core.connections["office"],
        name="other",
        user_credential=replace(LOGIN, name="bob"),
    )
    core.connections["other"] = other
    network.device.engine.initiate("other", network.now)
    network.run()
    assert len(established(network.gateway)) == 2, said(network)
    users = {sa.user.user for sa in established(network.gateway) if sa.user is not None}
    assert users == {"ada", "bob"}


def test_initial_contact_replaces_a_leftover_of_the_same_peer() -> None:
    network = connect(psk_pair())
    (old,) = established(network.gateway)
    core = network.device.engine._core
    for sa in list(core.sas.values()):
        for child in list(sa.children.values()):
            core.drop_child(sa, child)
        core.drop_sa(sa)
    network.device.sas.clear()
    network.device.engine.initiate("office", network.now)
    network.run()
    (new,) = established(network.gateway)
    assert new is not old
    assert len(network.gateway.sas) == 1
    assert "INITIAL-CONTACT" in network.gateway.named("ike_sa_closed")[0].text


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
def test_behind_a_nat(exchange: V1Exchange) -> None:
    network = psk_pair(exchange)
    inside = network.device.engine._core.connections["office"].local
    assert inside is not None
    network.nat = {
        inside: Endpoint(inside.address, 1025),
        Endpoint(inside.address, 4500): Endpoint(inside.address, 4511),
    }
    connect(network)
    for host in network.hosts.values():
        (sa,) = established(host)
        assert sa.encapsulate
        assert sa.path.local.port == 4500
        assert all(one.udp_encapsulation for one in host.sas.values())
    assert only_sa(network.device).local_natted
    assert not only_sa(network.device).remote_natted
    assert only_sa(network.gateway).remote_natted
    assert only_sa(network.gateway).path.remote.port == 4511


def test_forced_encapsulation() -> None:
    network = connect(pair(gateway_v1(force_encapsulation=True), device_v1()))
    for host in network.hosts.values():
        assert established(host)[0].encapsulate, said(network)
        assert all(one.udp_encapsulation for one in host.sas.values())


def test_certificates_renew_too() -> None:
    network = connect(pair(*certificate_policies("p256")))
    before, children = names(network), spis(network)
    renew_now(network, network.device)
    network.pass_time(renew.OLD_SA_S + 1)
    assert_taken_over(network, before, children)
    assert isinstance(network.sent[0].path, Path)

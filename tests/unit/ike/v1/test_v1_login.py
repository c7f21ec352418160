"""XAUTH and mode configuration between two engines: the right order, and every wrong one."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from harness_v1 import (
    AGGRESSIVE,
    LOGIN,
    MAIN,
    USER,
    device_v1,
    gateway_v1,
    hybrid_policies,
    only_sa,
    said,
    states,
)
from harness_v2 import (
    PSK,
    Datagram,
    Host,
    Network,
    assert_consistent,
    connect,
    network_selector,
    pair,
)
from rogue_v1 import inject

from gateway.domain.child_sa import ANY_IPV4, TrafficSelector
from gateway.domain.pools import AddressPool
from gateway.domain.user_auth import (
    Accepted,
    Answer,
    Challenged,
    PasswordQuestion,
    Rejected,
    Unavailable,
)
from gateway.ike.assigned import Assigned
from gateway.ike.auth.identity import IdentityPattern
from gateway.ike.core import Core
from gateway.ike.outputs import AskAboutUser, SessionClosed, SessionOpened
from gateway.ike.policy import (
    ConfigMode,
    ConnectionPolicy,
    Feature,
    PeerAuth,
    Profile,
    UserAuth,
    UserCredential,
    UserMethod,
    V1Exchange,
)
from gateway.ike.v1 import exchange, mode_config, quick_initiator, transaction, xauth
from gateway.ike.v1.codec import (
    Attribute,
    Configuration,
    ExchangeType,
    Identification,
    Nonce,
    Payload,
)
from gateway.ike.v1.codec.registry import CfgAttribute, CfgType, XauthStatus
from gateway.ike.v1.quick import Wanted
from gateway.ike.v1.sa import Evidence, IkeSa, State

ACCEPTED = Accepted("ada")


def knows(question: AskAboutUser) -> Answer:
    asked = question.question
    assert isinstance(asked, PasswordQuestion)
    if (asked.user, asked.password) == ("ada", b"lovelace"):
        return ACCEPTED
    return Rejected("wrong password")


def xauth_policies(
    phase1: V1Exchange = MAIN, **changes: object
) -> tuple[ConnectionPolicy, ConnectionPolicy]:
    """(gateway's, device's): a pre-shared key and then the user."""
    return (
        gateway_v1(
            **{
                "peer_auth": PeerAuth(preshared_key=PSK, user=USER),
                "v1_exchange": phase1,
                **changes,
            }
        ),
        device_v1(user_credential=LOGIN, v1_exchange=phase1, remote_ts=LAN),
    )


LAN = (network_selector("10.1.0.0/16"),)


def login(
    ours: ConnectionPolicy, theirs: ConnectionPolicy, answer: Answer | None = None
) -> Network:
    network = pair(ours, theirs)
    network.answer_user = (lambda question: answer) if answer is not None else knows
    return connect(network)


def assert_up(network: Network) -> None:
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)
    assert network.gateway.sas, said(network)
    assert_consistent(network)
    assert_no_faults(network)


def assert_down(network: Network) -> None:
    assert not network.gateway.sas
    assert not network.device.sas
    assert_no_faults(network)


def assert_no_faults(network: Network) -> None:
    for host in network.hosts.values():
        assert host.engine.counters.get("internal_errors", 0) == 0, said(network)


def failures(host: Host) -> list[str]:
    return [event.text for event in host.named("handshake_failed")]


def configuration(kind: CfgType, *attributes: Attribute) -> list[Payload]:
    return [Configuration(kind, attributes, 77)]


# -- mode configuration ---------------------------------------------------------------------


def test_pull() -> None:
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN)))
    assert_up(network)
    ours, theirs = only_sa(network.gateway), only_sa(network.device)
    assert ours.inner_address == theirs.inner_address == ip_address("10.9.0.1")
    assert ours.leases[0].pool == "road"
    (child,) = ours.children.values()
    assert child.remote_ts == (TrafficSelector.of_address(ip_address("10.9.0.1")),)
    assert isinstance(theirs.assigned, Assigned)
    assert theirs.assigned.dns == (ip_address("10.1.0.53"),)
    assert theirs.assigned.subnets == (ip_network("10.1.0.0/16"),)
    assert theirs.assigned.domains == ("example.com",)


def test_push() -> None:
    push = {"v1_config_mode": ConfigMode.PUSH}
    network = connect(pair(gateway_v1(**push), device_v1(remote_ts=LAN, **push)))
    assert_up(network)
    assert only_sa(network.device).inner_address == ip_address("10.9.0.1")
    assert isinstance(only_sa(network.device).assigned, Assigned)


def test_networks_of_the_gateway_where_the_device_names_none() -> None:
    lans = (ip_network("10.1.1.0/24"), ip_network("10.1.2.0/24"))
    network = connect(pair(gateway_v1(subnets=lans), device_v1()))
    assert_up(network)
    assert {child.remote_ts[0] for child in network.device.sas.values()} == {
        TrafficSelector.of_network(lan) for lan in lans
    }


def test_everything_through_the_tunnel() -> None:
    network = connect(pair(gateway_v1(local_ts=(ANY_IPV4,), subnets=()), device_v1()))
    assert_up(network)
    (child,) = only_sa(network.device).children.values()
    assert child.remote_ts == (ANY_IPV4,)


def test_address_comes_back_to_the_pool_and_to_its_owner() -> None:
    pool = AddressPool("road", ip_network("10.9.0.0/24"))
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN), pools={"road": pool}))
    assert pool.in_use == 1
    network.device.engine.close_all(network.now)
    network.run()
    assert pool.in_use == 0
    assert not network.gateway.engine._core.sas
    connect(network)
    assert only_sa(network.gateway).inner_address == ip_address("10.9.0.1")


def test_exhausted_pool_is_reported() -> None:
    pool = AddressPool("road", ip_network("10.9.0.0/31"))
    pool.lease("someone")
    pool.lease("someone else")
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN), pools={"road": pool}))
    assert_down(network)
    assert any("no free address" in text for text in failures(network.gateway))
    assert any("assigned no inner address" in text for text in failures(network.device))
    network.pass_time(60)
    assert pool.in_use == 2


def test_gateway_without_a_pool_gives_no_address() -> None:
    network = connect(pair(gateway_v1(pool=None), device_v1(remote_ts=LAN)))
    assert_down(network)
    assert any("has no pool" in text for text in failures(network.gateway))


@pytest.mark.parametrize("mine", ["0.0.0.0/0", "10.9.0.2/32", "10.9.0.0/24", "10.1.0.9/32"])
def test_device_with_a_lease_uses_its_address_only(mine: str) -> None:
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN)))
    device = only_sa(network.device)
    installed = network.gateway.engine.counters["child_sas_installed"]
    wanted = Wanted(network_selector(mine), LAN[0])
    quick_initiator.begin(network.device.engine._core, device, wanted, network.now)
    network.run()
    assert network.gateway.engine.counters["child_sas_installed"] == installed
    assert any(
        "let the client name its inner address 10.9.0.1" in text
        for text in failures(network.gateway)
    )


def test_quick_mode_without_configuration_is_refused_with_a_remedy() -> None:
    theirs = device_v1(
        request_inner_address=False, local_ts=(network_selector("10.9.0.5/32"),), remote_ts=LAN
    )
    network = connect(pair(gateway_v1(), theirs))
    assert_down(network)
    assert any("request a virtual address" in text for text in failures(network.gateway))


def test_h41_push_to_a_device_that_pulls_is_not_taken() -> None:
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN)))
    other = Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, ip_address("10.9.0.77").packed)
    assert inject(network, network.gateway, configuration(CfgType.SET, other)).answers == []
    assert only_sa(network.device).inner_address == ip_address("10.9.0.1")
    assert network.device.engine.counters["transactions_out_of_state"] == 1


def test_h41_push_twice_is_not_taken() -> None:
    push = {"v1_config_mode": ConfigMode.PUSH}
    network = connect(pair(gateway_v1(**push), device_v1(remote_ts=LAN, **push)))
    other = Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, ip_address("10.9.0.77").packed)
    assert inject(network, network.gateway, configuration(CfgType.SET, other)).answers == []
    assert only_sa(network.device).inner_address == ip_address("10.9.0.1")


def test_h41_the_device_neither_sets_nor_answers_what_nobody_asked() -> None:
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN)))
    address = Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, ip_address("10.9.0.77").packed)
    for kind in (CfgType.SET, CfgType.REPLY, CfgType.ACK):
        assert inject(network, network.device, configuration(kind, address)).answers == []
    assert only_sa(network.gateway).inner_address == ip_address("10.9.0.1")
    assert network.gateway.engine.counters["transactions_out_of_state"] == 3


def test_h41_the_gateway_asks_the_device_for_nothing() -> None:
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN)))
    asked = configuration(CfgType.REQUEST, Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS))
    assert inject(network, network.gateway, asked).answers == []


def test_asking_again_gives_the_same_address() -> None:
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN)))
    wanted = ip_address("10.9.0.99").packed
    asked = configuration(CfgType.REQUEST, Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, wanted))
    (answer,) = inject(network, network.device, asked).answers
    assert isinstance(answer, Configuration)
    assert answer.identifier == 77
    assert answer.get(CfgAttribute.INTERNAL_IP4_ADDRESS) == Attribute(
        CfgAttribute.INTERNAL_IP4_ADDRESS, ip_address("10.9.0.1").packed
    )


def test_h32_address_of_another_peer_is_not_given() -> None:
    pool = AddressPool("road", ip_network("10.9.0.0/24"))
    taken = pool.lease("bob", ip_address("10.9.0.7"))
    push = device_v1(remote_ts=LAN, v1_config_mode=ConfigMode.PUSH)
    network = connect(pair(gateway_v1(), push, pools={"road": pool}))
    asked = configuration(
        CfgType.REQUEST, Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, taken.packed)
    )
    (answer,) = inject(network, network.device, asked).answers
    assert isinstance(answer, Configuration)
    given = answer.get(CfgAttribute.INTERNAL_IP4_ADDRESS)
    assert given is not None
    assert given.octets == only_sa(network.gateway).inner_address.packed != taken.packed


@pytest.mark.parametrize(
    "attribute",
    [
        Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, b"\0\0\0"),
        Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, bytes(5)),
        Attribute(CfgAttribute.INTERNAL_IP4_DNS, bytes(16)),
    ],
)
def test_h32_malformed_addresses_change_nothing(attribute: Attribute) -> None:
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN)))
    assert inject(network, network.device, configuration(CfgType.REQUEST, attribute)).answers == []
    assert_up(network)


def test_unknown_attributes_are_passed_over() -> None:
    network = connect(pair(gateway_v1(), device_v1(remote_ts=LAN)))
    asked = configuration(
        CfgType.REQUEST, Attribute(0x7FFF, b"?" * 100), Attribute(CfgAttribute.INTERNAL_IP4_DNS)
    )
    (answer,) = inject(network, network.device, asked).answers
    assert isinstance(answer, Configuration)
    assert [one.type for one in answer.attributes][:1] == [CfgAttribute.INTERNAL_IP4_DNS]


# -- XAUTH ----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase1", [MAIN, AGGRESSIVE])
def test_xauth(phase1: V1Exchange) -> None:
    network = login(*xauth_policies(phase1))
    assert_up(network)
    sa = only_sa(network.gateway)
    assert sa.user == ACCEPTED
    assert sa.evidence & Evidence.USER
    assert sa.auth == "pre-shared key, XAUTH"
    (opened,) = network.gateway.sessions
    assert isinstance(opened, SessionOpened)
    assert (opened.session.user, opened.session.inner_address) == (
        "ada",
        ip_address("10.9.0.1"),
    )
    (event,) = network.gateway.named("ike_sa_established")
    assert event.fields["user"] == "ada"
    network.device.engine.close_all(network.now)
    network.run()
    assert isinstance(network.gateway.sessions[-1], SessionClosed)


@pytest.mark.parametrize("phase1", [MAIN, AGGRESSIVE])
def test_hybrid(phase1: V1Exchange) -> None:
    ours, theirs = hybrid_policies(phase1)
    network = login(ours, replace(theirs, remote_ts=LAN))
    assert_up(network)
    assert only_sa(network.gateway).auth == "user only, XAUTH"


def test_xauth_with_push() -> None:
    ours, theirs = xauth_policies(v1_config_mode=ConfigMode.PUSH)
    network = login(ours, replace(theirs, v1_config_mode=ConfigMode.PUSH))
    assert_up(network)


@pytest.mark.parametrize(
    "answer",
    [
        Rejected("no"),
        Unavailable("RADIUS does not answer"),
        Challenged(b"\1\2\0\4"),
        Accepted(""),
        Accepted("x" * 300),
    ],
)
def test_users_that_are_not_let_in(answer: Answer) -> None:
    network = login(*xauth_policies(), answer)
    assert_down(network)
    assert states(network.gateway) == states(network.device) == []
    assert any("XAUTH" in text for text in failures(network.gateway))
    assert any("refused user ada" in text for text in failures(network.device))
    assert not network.gateway.sessions
    assert not network.gateway.engine._core.asked


def test_wrong_password_ends_the_sa_and_is_not_shown() -> None:
    ours, theirs = xauth_policies()
    network = login(ours, replace(theirs, user_credential=UserCredential("ada", b"s3cr3t-typo")))
    assert_down(network)
    assert states(network.gateway) == []
    everything = " ".join(map(repr, [*network.gateway.log, *network.device.log]))
    assert "s3cr3t-typo" not in everything
    network.pass_time(30)
    assert not network.gateway.engine._core.sas


def test_user_that_the_connection_does_not_admit() -> None:
    user = UserAuth((UserMethod.XAUTH,), identities=IdentityPattern.parse("*@example.com"))
    ours, theirs = xauth_policies(peer_auth=PeerAuth(preshared_key=PSK, user=user))
    network = login(ours, theirs)
    assert_down(network)
    assert not network.gateway.questions
    assert any("may not log in" in text for text in failures(network.gateway))


def test_profile_of_the_users_group() -> None:
    profile = Profile("staff", frozenset({"staff"}), pool="staff", endpoint_update=Feature.OFF)
    ours, theirs = xauth_policies(profiles=(profile,), profile_required=True)
    pools = {
        "road": AddressPool("road", ip_network("10.9.0.0/24")),
        "staff": AddressPool("staff", ip_network("10.8.0.0/24")),
    }
    network = pair(ours, theirs, pools=pools)
    network.answer_user = lambda question: Accepted("ada", groups=("staff",))
    connect(network)
    assert_up(network)
    sa = only_sa(network.gateway)
    assert sa.inner_address == ip_address("10.8.0.1")
    assert sa.profile == "staff"
    (child,) = sa.children.values()
    assert child.endpoint_update is False
    network = login(ours, theirs, Accepted("ada", groups=("guests",)))
    assert_down(network)


def test_framed_address_and_session_time() -> None:
    answer = Accepted("ada", inner_address=ip_address("10.77.0.5"), session_timeout_s=100)
    network = login(*xauth_policies(pool=None), answer)
    assert_up(network)
    assert only_sa(network.device).inner_address == ip_address("10.77.0.5")
    network.pass_time(101)
    assert not network.gateway.sas
    assert not network.device.sas


def test_slow_backend_and_late_answers() -> None:
    network = pair(*xauth_policies())
    connect(network)
    (question,) = network.gateway.questions
    assert states(network.gateway) == [State.AUTHENTICATED]
    assert not network.gateway.sas
    network.pass_time(20)
    network.gateway.engine.user_answered(question.ticket, ACCEPTED, network.now)
    network.run()
    assert_up(network)
    network.gateway.engine.user_answered(question.ticket, Rejected("late"), network.now)
    network.gateway.engine.user_answered(12345, ACCEPTED, network.now)
    network.run()
    assert_up(network)


def test_answer_after_the_device_went_away() -> None:
    network = pair(*xauth_policies())
    connect(network)
    (question,) = network.gateway.questions
    network.device.engine.close_all(network.now)
    network.run()
    assert states(network.gateway) == []
    network.gateway.engine.user_answered(question.ticket, ACCEPTED, network.now)
    network.run()
    assert states(network.gateway) == []
    assert_no_faults(network)


def test_login_that_never_ends_is_forgotten() -> None:
    network = pair(*xauth_policies())
    connect(network)
    network.device.engine._core.wanted.clear()
    network.pass_time(200)
    assert states(network.gateway) == []
    assert not network.gateway.engine._core.asked


def test_device_without_credential_is_told_so() -> None:
    ours, theirs = xauth_policies()
    network = login(ours, replace(theirs, user_credential=None))
    network.pass_time(200)
    assert_down(network)


def test_push_inside_of_the_logins_last_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """As libreswan does it: the same message id, and the initialization vector that follows."""
    last: list[exchange.Phase2Exchange] = []
    real = xauth.SetStatus.take_answer

    def keep(
        self: xauth.SetStatus, core: Core, sa: IkeSa, answer: Configuration, now: float
    ) -> None:
        last.append(self)
        real(self, core, sa, answer, now)

    def start(
        self: mode_config.Push,
        core: Core,
        sa: IkeSa,
        kind: CfgType,
        attributes: Sequence[Attribute],
        now: float,
    ) -> None:
        self._type = kind
        self.message_id = last[0].message_id
        assert exchange.add(sa, self)
        self.iv = last[0].iv
        exchange.send(core, sa, self, [Configuration(kind, tuple(attributes), 9)], now)

    monkeypatch.setattr(xauth.SetStatus, "take_answer", keep)
    monkeypatch.setattr(mode_config.Push, "start", start)
    ours, theirs = xauth_policies(v1_config_mode=ConfigMode.PUSH)
    network = login(ours, replace(theirs, v1_config_mode=ConfigMode.PUSH))
    assert_up(network)
    assert only_sa(network.device).inner_address == ip_address("10.9.0.1")


# -- XAUTH, hostile -------------------------------------------------------------------------


def waiting_for_user() -> Network:
    """The device asked nothing of its user yet: it received no question."""
    network = pair(*xauth_policies())

    def impair(datagram: Datagram) -> list[Datagram]:
        if datagram.message[18] == ExchangeType.TRANSACTION and datagram.sender == "gateway":
            return []
        return [datagram]

    network.impair = impair
    connect(network)
    assert states(network.gateway) == [State.AUTHENTICATED]
    return network


OK = Attribute(CfgAttribute.XAUTH_STATUS, XauthStatus.OK)
NAME = Attribute(CfgAttribute.XAUTH_USER_NAME, b"ada")
PASSWORD = Attribute(CfgAttribute.XAUTH_USER_PASSWORD, b"lovelace")


@pytest.mark.parametrize(
    "payloads",
    [
        configuration(CfgType.REPLY, NAME, PASSWORD),
        configuration(CfgType.SET, OK),
        configuration(CfgType.ACK, OK),
        configuration(CfgType.REPLY, OK),
        configuration(CfgType.REQUEST, NAME, PASSWORD),
        configuration(CfgType.REQUEST, Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS)),
        configuration(CfgType.SET, Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, bytes(4))),
        configuration(CfgType.REPLY),
        [],
    ],
)
def test_h40_login_cannot_be_skipped(payloads: list[Payload]) -> None:
    """Reply before request, status set by the client, configuration before the login."""
    network = waiting_for_user()
    assert inject(network, network.device, payloads).answers == []
    assert states(network.gateway) == [State.AUTHENTICATED]
    sa = only_sa(network.gateway)
    assert not sa.evidence & Evidence.USER
    assert sa.inner_address is None
    assert not network.gateway.questions
    assert_no_faults(network)


def test_h15_quick_mode_before_the_login() -> None:
    network = waiting_for_user()
    payloads: list[Payload] = [Nonce(bytes(20)), Identification(4, bytes(8))]
    assert inject(network, network.device, payloads, ExchangeType.QUICK).answers == []
    assert states(network.gateway) == [State.AUTHENTICATED]
    assert not network.gateway.sas
    assert network.gateway.engine.counters["requests_out_of_state"] >= 1


def answering(
    monkeypatch: pytest.MonkeyPatch, attributes: tuple[Attribute, ...], kind: CfgType
) -> None:
    """Let the device answer the gateway's question in its own way."""
    real = transaction.answer

    def bad(
        core: Core,
        sa: IkeSa,
        arrival: exchange.Arrival,
        asked: Configuration,
        sending: Sequence[Attribute],
        now: float,
    ) -> bool:
        if asked.type != CfgType.REQUEST:
            return real(core, sa, arrival, asked, sending, now)
        with monkeypatch.context() as patch:
            patch.setitem(transaction._ANSWERS, CfgType.REQUEST, kind)
            return real(core, sa, arrival, asked, attributes, now)

    monkeypatch.setattr(transaction, "answer", bad)


@pytest.mark.parametrize(
    "attributes",
    [
        (),
        (NAME,),
        (PASSWORD,),
        (Attribute(CfgAttribute.XAUTH_USER_NAME), Attribute(CfgAttribute.XAUTH_USER_PASSWORD)),
        (NAME, Attribute(CfgAttribute.XAUTH_USER_PASSWORD)),
        (Attribute(CfgAttribute.XAUTH_USER_NAME, b"a" * 4000), PASSWORD),
        (NAME, Attribute(CfgAttribute.XAUTH_USER_PASSWORD, b"p" * 4000)),
        (Attribute(CfgAttribute.XAUTH_USER_NAME, b"\xff\xfe"), PASSWORD),
        (Attribute(CfgAttribute.XAUTH_USER_NAME, b"ada\nroot"), PASSWORD),
        (NAME, PASSWORD, OK),
        (NAME, PASSWORD, Attribute(CfgAttribute.XAUTH_TYPE, 2)),
    ],
)
def test_h40_empty_and_huge_answers_are_refused(
    attributes: tuple[Attribute, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, attributes, CfgType.REPLY)
    network = login(*xauth_policies())
    assert_down(network)
    assert states(network.gateway) == []
    assert not network.gateway.questions
    assert failures(network.gateway)
    assert all("\n" not in text for text in failures(network.gateway))


@pytest.mark.parametrize("kind", [CfgType.REQUEST, CfgType.SET, CfgType.ACK, 9])
def test_h40_wrong_type_in_answer_to_our_request(
    kind: CfgType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device answers the question with something else, the right password included."""
    answering(monkeypatch, (NAME, PASSWORD, OK), kind)
    network = login(*xauth_policies())
    assert states(network.gateway) == [State.AUTHENTICATED]
    assert not network.gateway.questions
    assert_down(network)


@pytest.mark.parametrize("kind", list(CfgType))
def test_h40_login_again_after_success_is_refused(kind: CfgType) -> None:
    network = login(*xauth_policies())
    before = len(network.gateway.questions)
    for attributes in ((NAME, PASSWORD), (OK,), (Attribute(CfgAttribute.XAUTH_STATUS, 0),)):
        assert inject(network, network.device, configuration(kind, *attributes)).answers == []
        assert inject(network, network.gateway, configuration(kind, *attributes)).answers == []
    assert len(network.gateway.questions) == before
    assert_up(network)


def test_h40_status_before_the_question_is_not_believed() -> None:
    """The gateway says "logged in" without having asked."""
    network = waiting_for_user()
    network.impair = lambda datagram: [datagram]
    sa = only_sa(network.gateway)
    sa.exchanges.clear()
    inject(network, network.gateway, configuration(CfgType.SET, OK))
    assert states(network.device) == [State.AUTHENTICATED]


def test_h40_gateway_that_asks_for_more_gets_nothing() -> None:
    network = waiting_for_user()
    network.impair = lambda datagram: [datagram]
    only_sa(network.gateway).exchanges.clear()
    (answer,) = inject(
        network,
        network.gateway,
        configuration(CfgType.REQUEST, NAME, Attribute(CfgAttribute.XAUTH_NEXT_PIN)),
    ).answers
    assert isinstance(answer, Configuration)
    assert answer.get(CfgAttribute.XAUTH_USER_PASSWORD) is None
    assert states(network.device) == []


@pytest.mark.parametrize("lost", range(6))
def test_login_with_a_lost_message(lost: int) -> None:
    network = pair(*xauth_policies())
    network.answer_user = knows
    count = 0

    def impair(datagram: Datagram) -> list[Datagram]:
        nonlocal count
        if datagram.message[18] != ExchangeType.TRANSACTION:
            return [datagram]
        count += 1
        return [] if count == lost + 1 else [datagram]

    network.impair = impair
    connect(network)
    network.pass_time(10)
    assert_up(network)


def test_login_with_everything_twice() -> None:
    network = pair(*xauth_policies())
    network.answer_user = knows
    network.impair = lambda datagram: [datagram, datagram]
    connect(network)
    assert_up(network)
    assert len(network.gateway.questions) == 1


def test_login_reflected() -> None:
    """Each side gets back what it sent, from the other side's address."""
    network = pair(*xauth_policies())
    network.answer_user = knows

    def impair(datagram: Datagram) -> list[Datagram]:
        path = datagram.path
        back = replace(datagram, path=type(path)(path.remote, path.local))
        return [datagram, back]

    network.impair = impair
    connect(network)
    assert_up(network)
    assert len(network.gateway.questions) == 1

"""Users that prove themselves by EAP inside IKE_AUTH (RFC 7296 section 2.16), both sides."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from certs_v2 import anchors, credential
from harness_v2 import (
    PSK,
    Host,
    Network,
    assert_consistent,
    connect,
    device_policy,
    established,
    gateway_policy,
    make_engine,
    network_selector,
    pair,
)
from users_v2 import (
    PASSWORD,
    RadiusServer,
    device_of_user,
    find_user,
    gateway_of_users,
    log_in,
    reasons,
)

from gateway.domain.pools import AddressPool
from gateway.domain.user_auth import (
    Accepted,
    Challenged,
    PasswordQuestion,
    Rejected,
    Unavailable,
)
from gateway.eap.packet import Code, EapPacket, EapType
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.outputs import SessionClosed, SessionOpened
from gateway.ike.policy import Lifetimes, PeerAuth, Profile, UserMethod
from gateway.ike.registry import ExchangeType
from gateway.ike.v2.eap_responder import USER_LOGIN_S

RADIUS = UserMethod.EAP_RADIUS


def assert_logged_in(network: Network, auth: str, user: str = "ada") -> None:
    texts = [event.text for host in network.hosts.values() for event in host.events]
    (theirs,) = established(network.gateway)
    assert (theirs.user, theirs.auth) == (user, auth), texts
    (mine,) = established(network.device)
    assert (mine.user, mine.auth) == ("", "certificate"), texts
    assert_consistent(network)


def assert_refused(network: Network) -> None:
    assert not established(network.gateway)
    assert not established(network.device)
    assert not network.gateway.sas
    assert not network.device.sas
    assert not network.gateway.sessions
    assert network.gateway.engine._core.pools["road"].in_use == 0


# -- every method -------------------------------------------------------------------------


def test_mschapv2() -> None:
    network = log_in()
    assert_logged_in(network, "EAP-MSCHAPv2")
    assert not network.gateway.questions
    (event,) = network.gateway.named("ike_sa_established")
    assert event.fields["user"] == "ada"
    assert event.fields["auth"] == "EAP-MSCHAPv2"


def test_gtc_asks_about_the_password() -> None:
    network = log_in(
        gateway_of_users(UserMethod.EAP_GTC, backend="staff"),
        answer_user=lambda asked: Accepted("ada", ("staff",)),
    )
    assert_logged_in(network, "EAP-GTC")
    (asked,) = network.gateway.questions
    question = asked.question
    assert isinstance(question, PasswordQuestion)
    assert (question.backend, question.user) == ("staff", "ada")
    assert question.password == PASSWORD.encode()
    assert question.asker.connection == "road"
    assert question.asker.remote.port == 4500
    assert PASSWORD not in repr(network.gateway.log)


def test_the_password_in_clear_is_not_for_a_gateway_with_a_shared_key() -> None:
    network = log_in(
        gateway_of_users(UserMethod.EAP_GTC, local_credential=PSK),
        device_of_user(peer_auth=PeerAuth(preshared_key=PSK)),
        answer_user=lambda asked: Accepted("ada"),
    )
    assert_refused(network)
    assert not network.gateway.questions


def test_mschapv2_with_a_gateway_that_has_a_shared_key() -> None:
    network = log_in(
        gateway_of_users(local_credential=PSK),
        device_of_user(peer_auth=PeerAuth(preshared_key=PSK)),
    )
    assert established(network.gateway)[0].auth == "EAP-MSCHAPv2"
    assert established(network.device)[0].auth == "pre-shared key"


def test_tls() -> None:
    network = log_in(
        gateway_of_users(UserMethod.EAP_TLS, anchors=anchors()),
        device_of_user("ada", certificate=True),
    )
    # The certificate's own name for the user is not what the user said, and they must agree.
    assert "not of ada" in reasons(network.gateway)[0]
    network = log_in(
        gateway_of_users(UserMethod.EAP_TLS, anchors=anchors()),
        device_of_tls_user(),
    )
    assert_logged_in(network, "EAP-TLS", "ada@example.com")


def device_of_tls_user(name: str = "Ada@example.com", **changes: object) -> object:
    connection = device_of_user("ada", certificate=True, **changes)
    login = connection.user_credential
    return replace(connection, user_credential=replace(login, name=name, password=b""))


def test_tls_with_a_certificate_of_another_authority() -> None:
    device = device_of_tls_user()
    foreign = credential("ada@example.com", issuer="Other CA")
    login = replace(device.user_credential, certificate=foreign)
    network = log_in(
        gateway_of_users(UserMethod.EAP_TLS, anchors=anchors()),
        replace(device, user_credential=login),
    )
    assert_refused(network)


def test_the_client_judges_the_certificate_in_tls_by_its_own_anchors() -> None:
    device = device_of_tls_user()
    login = replace(device.user_credential, anchors=anchors("Other CA"))
    network = log_in(
        gateway_of_users(UserMethod.EAP_TLS, anchors=anchors()),
        replace(device, user_credential=login),
    )
    assert_refused(network)


def test_the_second_method_when_the_device_does_not_know_the_first() -> None:
    network = log_in(
        gateway_of_users(UserMethod.EAP_TLS, UserMethod.EAP_MSCHAPV2, anchors=anchors())
    )
    assert_logged_in(network, "EAP-MSCHAPv2")


def test_radius() -> None:
    server = RadiusServer(groups=("engineers",), radius_class=(b"c1",))
    network = log_in(gateway_of_users(RADIUS, backend="dc"), answer_user=server)
    assert_logged_in(network, "EAP (RADIUS)")
    assert [question.state == b"" for question in server.questions] == [True, False, False]
    first = EapPacket.decode(server.questions[0].packet)
    assert (first.code, first.eap_type, first.data) == (Code.RESPONSE, EapType.IDENTITY, b"ada")
    assert {question.backend for question in server.questions} == {"dc"}
    (opened,) = network.gateway.sessions
    assert opened.session.radius_class == (b"c1",)
    assert opened.session.backend == "dc"


def test_radius_with_the_ike_identity_as_the_user() -> None:
    server = RadiusServer()
    connection = gateway_of_users(RADIUS, backend="dc", eap_identity=False, remote_id=anybody())
    device = device_of_user(local_id=Identity.parse("ada"))
    network = log_in(connection, device, answer_user=server)
    assert_logged_in(network, "EAP (RADIUS)")
    assert server.questions[0].user == "ada"
    # One exchange fewer: the server's first request came with our proof.
    asked = [one for one in network.sent if one.sender == "device"]
    assert len(asked) == 1 + 4


def anybody() -> IdentityPattern:
    return IdentityPattern.parse("*")


def test_radius_gives_the_inner_address() -> None:
    address = ip_address("10.77.0.9")
    network = log_in(
        gateway_of_users(RADIUS, backend="dc"), answer_user=RadiusServer(inner_address=address)
    )
    (opened,) = network.gateway.sessions
    assert opened.session.inner_address == address
    assert established(network.device)[0].inner_address == "10.77.0.9"


@pytest.mark.parametrize(
    ("name", "password", "reason"),
    [
        ("ada", "wrong", "user ada: wrong password"),
        ("nobody", "x", "user nobody: no such user"),
        ("oneway", "x", "user oneway: the password is stored one-way"),
    ],
)
def test_a_login_that_fails(name: str, password: str, reason: str) -> None:
    network = log_in(device=device_of_user(name, password))
    assert_refused(network)
    (said,) = reasons(network.gateway)
    assert said.startswith(reason)
    event = network.gateway.named("handshake_failed")[0]
    assert event.fields["step"] == "IKE_AUTH, EAP-MSCHAPv2"
    assert event.fields["remedy"]
    assert "wrong user name or password" in reasons(network.device)[0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Rejected("not on Sundays"), "not on Sundays"),
        (Unavailable("no RADIUS server answered"), "no RADIUS server answered"),
        (Accepted("ada", msk=b""), "without a key"),
        (Accepted("ada", msk=b"short"), "without a key"),
        (Challenged(b"\3\1\0\4", b"x"), "goes on with EAP-Success"),
        (Challenged(b"junk", b"x"), "bad EAP message"),
        (Challenged(b"", b"x"), "bad EAP message"),
    ],
)
def test_a_radius_server_that_does_not_help(answer: object, reason: str) -> None:
    network = log_in(gateway_of_users(RADIUS, backend="dc"), answer_user=lambda asked: answer)
    assert_refused(network)
    assert reason in reasons(network.gateway)[0]


# -- the server proves itself first -------------------------------------------------------


def said_before_farewell(network: Network) -> bool:
    """Whether the device said no more than IKE_SA_INIT, IKE_AUTH without any EAP, and good bye."""
    kinds = [one.message[18] for one in network.sent if one.sender == "device"]
    wanted = [ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH, ExchangeType.INFORMATIONAL]
    return kinds == wanted


def test_h31_nothing_is_said_of_the_user_to_a_server_that_has_not_proven_itself() -> None:
    """CVE-2015-4171: whoever can make us talk must not get credentials."""
    network = log_in(device=device_of_user(peer_auth=PeerAuth(anchors=anchors("Other CA"))))
    assert said_before_farewell(network)
    assert not established(network.device)
    assert not network.gateway.engine._core.sas
    assert "the peer gave up with AUTHENTICATION_FAILED" in reasons(network.gateway)[0]
    assert reasons(network.device)


def test_h31_nothing_is_said_to_a_server_with_the_wrong_name() -> None:
    network = log_in(
        gateway_of_users(
            local_credential=credential("evil.example.com"),
            local_id=Identity.parse("evil.example.com"),
        ),
        device_of_user(remote_id=IdentityPattern.parse("*.example.com")),
    )
    assert established(network.device)
    network = log_in(gateway_of_users(local_credential=credential("evil.example.com")))
    assert said_before_farewell(network)
    assert not established(network.device)


# -- who gets what ------------------------------------------------------------------------

ENGINEERS = Profile(
    "engineers",
    frozenset({"engineers"}),
    pool="lab",
    dns=(ip_address("10.2.0.53"),),
    local_ts=(network_selector("10.2.0.0/16"),),
)
STAFF = Profile("staff", frozenset({"staff", "guests"}))


def two_pools() -> dict[str, AddressPool]:
    return {
        "road": AddressPool("road", ip_network("10.9.0.0/24")),
        "lab": AddressPool("lab", ip_network("10.8.0.0/24")),
    }


def test_the_first_profile_that_fits() -> None:
    gateway = gateway_of_users(profiles=(ENGINEERS, STAFF))
    network = log_in(gateway, pools=two_pools())
    (theirs,) = established(network.gateway)
    assert theirs.profile == "engineers"
    assert theirs.inner_address == "10.8.0.1"
    (child,) = network.gateway.sas.values()
    assert child.local_ts == ENGINEERS.local_ts
    network = log_in(gateway, device_of_user("grace", "COBOL"), pools=two_pools())
    (theirs,) = established(network.gateway)
    assert (theirs.profile, theirs.inner_address) == ("staff", "10.9.0.1")


def test_a_profile_is_required() -> None:
    gateway = gateway_of_users(profiles=(ENGINEERS,), profile_required=True)
    network = log_in(gateway, device_of_user("grace", "COBOL"), pools=two_pools())
    assert_refused(network)
    assert "in no group that has a profile" in reasons(network.gateway)[0]


def test_users_that_may_not_log_in_here() -> None:
    gateway = gateway_of_users(identities=IdentityPattern.parse("grace"))
    network = log_in(gateway)
    assert_refused(network)
    assert "may not log in" in reasons(network.gateway)[0]
    assert established(log_in(gateway, device_of_user("grace", "COBOL")).gateway)


def test_the_connection_is_chosen_by_whether_the_peer_sends_auth() -> None:
    device_only = gateway_policy(name="devices", local_credential=credential("gw.example.com"))
    network = pair(device=device_of_user())
    network.hosts["gateway"] = Host(
        make_engine([device_only, gateway_of_users()], find_user=find_user), "gateway"
    )
    connect(network)
    assert established(network.gateway)[0].connection == "road"
    network = pair(device=device_policy(peer_auth=PeerAuth(anchors=anchors())))
    network.hosts["gateway"] = Host(
        make_engine([gateway_of_users(), device_only], find_user=find_user), "gateway"
    )
    connect(network)
    assert established(network.gateway)[0].connection == "devices"
    assert established(network.gateway)[0].auth == "pre-shared key"


# -- sessions -----------------------------------------------------------------------------


def test_a_session_is_carried_across_rekeying_and_closed_once() -> None:
    lives = Lifetimes(ike_rekey_s=100, jitter=0)
    network = log_in(gateway_of_users(lifetimes=lives))
    (opened,) = network.gateway.sessions
    assert isinstance(opened, SessionOpened)
    first = established(network.gateway)[0].spis
    assert opened.session.session_id == first
    network.pass_time(101)
    (theirs,) = established(network.gateway)
    assert theirs.spis != first
    assert (theirs.user, theirs.auth) == ("ada", "EAP-MSCHAPv2")
    assert network.gateway.sessions == [opened]
    network.gateway.engine.close_ike_sa(theirs.spis, "by hand", network.now)
    network.run()
    assert network.gateway.sessions == [opened, SessionClosed(first, "by hand")]


@pytest.mark.parametrize("rekeyed", [False, True])
def test_session_timeout_ends_it_with_a_delete(rekeyed: bool) -> None:
    lives = Lifetimes(ike_rekey_s=100 if rekeyed else 4000, jitter=0)
    network = log_in(
        gateway_of_users(RADIUS, backend="dc", lifetimes=lives),
        answer_user=RadiusServer(session_timeout_s=250.0),
    )
    network.pass_time(200)
    # The device logs in again in time, as AUTH_LIFETIME asks, and is refused.
    network.answer_user = lambda asked: Rejected("no more")
    network.pass_time(49)
    assert established(network.gateway)
    assert network.device.engine.counters["reauthentications"] == 1
    network.pass_time(2)
    assert not established(network.gateway)
    assert not established(network.device)
    assert not network.gateway.sas
    assert network.gateway.sessions[-1].reason == "the session time of its user is over"
    assert len(network.gateway.sessions) == 2


def test_initial_contact_replaces_the_same_user_s_sessions_only() -> None:
    """An IKE identity beside EAP is not proven: claiming another's must not end its session."""
    network = log_in()
    network.hosts["other"] = Host(make_engine([device_of_user("grace", "COBOL")]), "other")
    ada = established(network.gateway)[0].spis
    network.where[device_policy().local.address] = "other"
    connect_other(network)
    spis = {sa.spis: sa.user for sa in established(network.gateway)}
    assert sorted(spis.values()) == ["ada", "grace"]
    assert ada in spis
    network.hosts["other"] = Host(make_engine([device_of_user()]), "other")
    connect_other(network)
    spis = {sa.spis: sa.user for sa in established(network.gateway)}
    assert sorted(spis.values()) == ["ada", "grace"]
    assert ada not in spis


def connect_other(network: Network) -> None:
    network.hosts["other"].engine.initiate("office", network.now)
    network.run()


# -- waiting for an answer ----------------------------------------------------------------


def waiting() -> Network:
    """The gateway waits for a RADIUS server."""
    network = log_in(gateway_of_users(RADIUS, backend="dc"))
    assert len(network.gateway.questions) == 1
    return network


def test_repeated_requests_are_dropped_while_a_question_is_open() -> None:
    network = waiting()
    before = len([one for one in network.sent if one.sender == "gateway"])
    network.pass_time(5)
    assert len([one for one in network.sent if one.sender == "gateway"]) == before
    assert network.gateway.engine.counters["requests_repeated_while_held"] >= 2
    assert len(network.gateway.questions) == 1
    server = RadiusServer()
    network.answer_user = server
    (asked,) = network.gateway.questions
    network.gateway.engine.user_answered(asked.ticket, server(asked), network.now)
    network.run()
    assert_logged_in(network, "EAP (RADIUS)")


def test_an_answer_counts_once_and_not_too_late() -> None:
    network = waiting()
    (asked,) = network.gateway.questions
    engine = network.gateway.engine
    engine.user_answered(asked.ticket, Rejected("no"), network.now)
    engine.user_answered(asked.ticket, Accepted("ada", msk=bytes(64)), network.now)
    engine.user_answered(asked.ticket + 1, Accepted("ada", msk=bytes(64)), network.now)
    engine.ocsp_answered(asked.ticket, b"", network.now)
    network.run()
    assert_refused(network)
    assert engine.counters["answers_too_late"] == 3


def test_the_login_is_given_up_when_nobody_answers() -> None:
    network = waiting()
    (asked,) = network.gateway.questions
    network.impair = lambda datagram: []
    network.pass_time(USER_LOGIN_S - 1)
    core = network.gateway.engine._core
    assert len(core.sas) == len(core.half_open) == 1
    network.pass_time(2)
    assert not core.sas
    assert not core.asked
    assert len(core.half_open) == 0
    network.gateway.engine.user_answered(asked.ticket, Accepted("ada", msk=bytes(64)), network.now)
    assert not established(network.gateway)
    (said,) = reasons(network.gateway)
    assert said == "user ada: the peer did not go on"


def test_a_user_who_does_not_go_on_is_forgotten_sooner() -> None:
    network = pair(gateway_of_users(), device_of_user(), find_user=find_user)
    network.impair = lambda datagram: [] if datagram.number >= 4 else [datagram]
    connect(network)
    core = network.gateway.engine._core
    assert [sa.state_name for sa in core.sas.values()] == ["user login"]
    network.pass_time(31)
    assert not core.sas
    assert len(core.half_open) == 0


def test_why_it_failed_is_told_even_if_the_peer_leaves_before_the_end() -> None:
    network = pair(gateway_of_users(), device_of_user(password="x"), find_user=find_user)
    network.impair = lambda datagram: [] if datagram.number >= 8 else [datagram]
    connect(network)
    network.pass_time(40)
    assert "user ada: wrong password" in reasons(network.gateway)[0]


def test_guessing_passwords_is_slowed_down() -> None:
    network = pair(gateway_of_users(), device_of_user(password="x"), find_user=find_user)
    network.gateway.engine._core.failed_logins._per_minute = 3
    for _ in range(5):
        network.device.engine._core.wanted.clear()
        connect(network)
    said = reasons(network.gateway)
    assert [("too many logins" in one) for one in said] == [False] * 3 + [True] * 2
    network.pass_time(61)
    network.device.engine.reconfigure([device_of_user()], network.now)
    connect(network)
    assert established(network.gateway)


def test_large_offers_do_not_wait_for_a_user() -> None:
    many = tuple(network_selector(f"fd00:{n:x}::/32") for n in range(64))
    device = device_of_user(request_inner_address=False, local_ts=many, remote_ts=many)
    network = log_in(device=device)
    assert_refused(network)
    assert "octets" in reasons(network.gateway)[0]


def test_reconfiguration_removes_the_user_s_connection_during_its_login() -> None:
    network = waiting()
    (asked,) = network.gateway.questions
    network.gateway.engine.reconfigure([], network.now)
    network.gateway.engine.user_answered(asked.ticket, Accepted("ada", msk=bytes(64)), network.now)
    network.run()
    assert not established(network.gateway)
    assert not network.gateway.engine._core.sas


def test_logins_that_are_left_after_a_question_count_as_failed() -> None:
    network = waiting()
    failed = network.gateway.engine._core.failed_logins
    network.impair = lambda datagram: []
    network.pass_time(USER_LOGIN_S + 1)
    assert len(failed._failures) == 1

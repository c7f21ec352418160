"""Authentication that cannot be skipped: every message of EAP in IKE_AUTH out of its place.

Hostile input 31, in the IKE layer; the methods have tests of their own. The peer here has the
right keys of the IKE SA, as everybody has who sends an IKE_SA_INIT.
"""

import random
import tracemalloc
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from certs_v2 import credential
from harness_v2 import (
    DEVICE,
    GATEWAY,
    PSK,
    Network,
    connect,
    device_policy,
    established,
    gateway_policy,
    make_engine,
    pair,
)
from test_v2_hostile import state_of
from test_v2_mutations import mutate
from users_v2 import (
    PASSWORD,
    RadiusServer,
    Stranger,
    device_of_user,
    find_user,
    gateway_of_users,
    log_in,
    reasons,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.user_auth import Accepted
from gateway.eap.packet import Code, EapPacket, EapType
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.codec import (
    Authentication,
    Delete,
    Eap,
    IdInitiator,
    Notify,
    Payload,
)
from gateway.ike.half_open import MAX_FAILED_SOURCES, FailedLogins
from gateway.ike.outputs import Transmit
from gateway.ike.policy import EngineSettings, PeerAuth, UserMethod
from gateway.ike.registry import AuthMethod, ExchangeType, NotifyType, ProtocolId
from gateway.ike.v2 import eap_initiator, proof
from gateway.ike.v2.sa import State

SUCCESS = Eap(EapPacket(Code.SUCCESS, 1).encode())
FAILURE = Eap(EapPacket(Code.FAILURE, 1).encode())


def stranger(**changes: object) -> Stranger:
    network = pair(gateway_of_users(**changes), device_of_user(), find_user=find_user)
    return Stranger(network)


def assert_refused(one: Stranger) -> None:
    core = one.network.gateway.engine._core
    assert not established(one.network.gateway)
    assert not one.network.gateway.sas
    assert not core.children
    assert core.pools["road"].in_use == 0
    assert not one.network.gateway.sessions
    assert all(sa.state is State.CLOSED for sa in core.sas.values())
    assert core.counters["internal_errors"] == 0


def test_a_stranger_with_a_password_is_let_in() -> None:
    one = stranger()
    answer = one.send(one.auth(one.eap()))
    assert answer.get(Authentication) is not None
    assert established(one.network.gateway)[0].user == "ada"


def test_a_second_request_after_the_login_is_no_request_any_more() -> None:
    one = stranger()
    msk = one.eap()
    one.send(one.auth(msk))
    before = state_of(one.network.gateway.engine)
    for payloads in ([one.auth(msk)], [SUCCESS], one.first()):
        assert one.send(*payloads) is None
        one.message_id -= 1
    assert state_of(one.network.gateway.engine) == before


# -- instead of EAP -----------------------------------------------------------------------


def psk_auth(one: Stranger) -> Authentication:
    return proof.own_auth(one.sa, device_policy(), one.id)


INSTEAD: dict[str, Callable[[Stranger], list[Payload]]] = {
    "AUTH over nothing": lambda one: [Authentication(AuthMethod.SHARED_KEY, bytes(48))],
    "AUTH over an empty MSK, that is SK_pi": lambda one: [one.auth(b"")],
    "AUTH over a zero MSK": lambda one: [one.auth(bytes(64))],
    "AUTH with the device's shared key": lambda one: [psk_auth(one)],
    "EAP-Success": lambda one: [SUCCESS],
    "EAP-Failure": lambda one: [FAILURE],
    "EAP-Success and AUTH": lambda one: [SUCCESS, one.auth(b"")],
    "the first request again": lambda one: one.first(),
    "the first request again, with AUTH": lambda one: [*one.first(), one.auth(b"")],
    "nothing": lambda one: [],
    "an identity response to no request": lambda one: [
        Eap(EapPacket(Code.RESPONSE, 99, EapType.IDENTITY, b"ada").encode())
    ],
    "a request": lambda one: [Eap(EapPacket(Code.REQUEST, 1, EapType.IDENTITY, b"").encode())],
    "a notify": lambda one: [Notify(NotifyType.INITIAL_CONTACT)],
}


@pytest.mark.parametrize("what", INSTEAD)
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_h31_instead_of_the_next_message(what: str, steps: int) -> None:
    """After 0 to 3 good EAP responses (identity, MSCHAPv2 response, its success)."""
    one = stranger()
    view = one.send(*one.first())
    peer = eap_initiator.EapPeer(
        eap_initiator.Login("ada", (eap_initiator.EapMethod.MSCHAPV2,), PASSWORD.encode()),
        random.randbytes,
    )
    for _ in range(steps):
        view = one.send(Eap(peer.receive(view.need(Eap).data).send))
    answer = one.send(*INSTEAD[what](one))
    assert answer is not None
    assert answer.get(Authentication) is None
    assert_refused(one)
    assert one.send(one.auth(b"")) is None


@pytest.mark.parametrize("what", INSTEAD)
def test_h31_instead_of_a_first_request(what: str) -> None:
    one = stranger()
    answer = one.send(*INSTEAD[what](one))
    if what == "the first request again":
        assert answer.get(Eap) is not None
        assert not established(one.network.gateway)
    else:
        assert answer.get(Eap) is None
        assert_refused(one)


def test_h31_auth_is_bound_to_the_identity() -> None:
    """CVE-2023-26463 and its like: a proof for one identity is none for another."""
    one = stranger()
    msk = one.eap()
    answer = one.send(one.auth(msk, IdInitiator(one.id.id_type, b"grace@example.com")))
    assert answer.error().type == NotifyType.AUTHENTICATION_FAILED
    assert_refused(one)


def test_h31_another_identity_in_the_last_request_changes_nothing() -> None:
    one = stranger()
    msk = one.eap()
    one.send(IdInitiator(one.id.id_type, b"grace@example.com"), one.auth(msk))
    (theirs,) = established(one.network.gateway)
    assert theirs.peer == "ada@example.com"


def test_h31_another_method_number_in_auth() -> None:
    one = stranger()
    auth = one.auth(one.eap())
    one.send(Authentication(AuthMethod.DIGITAL_SIGNATURE, auth.data))
    assert_refused(one)


def test_h31_auth_over_sk_pi_where_there_is_an_msk() -> None:
    one = stranger()
    one.eap()
    one.send(one.auth(b""))
    assert_refused(one)


def test_h31_the_gateway_s_own_auth_reflected() -> None:
    one = stranger()
    view = one.send(*one.first())
    one.send(view.need(Authentication))
    assert_refused(one)


def test_h31_eap_goes_on_after_its_end() -> None:
    one = stranger()
    msk = one.eap()
    one.send(SUCCESS, one.auth(msk))
    assert_refused(one)
    one = stranger()
    one.eap()
    one.send(Eap(EapPacket(Code.RESPONSE, 1, EapType.IDENTITY, b"ada").encode()))
    assert_refused(one)


def test_h31_gtc_needs_an_accepted_password() -> None:
    network = pair(gateway_of_users(UserMethod.EAP_GTC), device_of_user(), find_user=find_user)
    one = Stranger(network)
    view = one.send(*one.first())
    identity = view.need(Eap).data[1]
    view = one.send(Eap(EapPacket(Code.RESPONSE, identity, EapType.IDENTITY, b"ada").encode()))
    request = view.need(Eap).data[1]
    password = Eap(EapPacket(Code.RESPONSE, request, EapType.GTC, b"x").encode())
    assert one.send(password) is None  # somebody is being asked
    one.message_id -= 1
    for payloads in ([one.auth(b"")], [SUCCESS], [password]):
        assert one.send(*payloads) is None
        one.message_id -= 1
    one.message_id += 1
    assert one.send(one.auth(b"")) is None
    assert not established(network.gateway)
    (asked,) = network.gateway.questions
    network.gateway.engine.user_answered(asked.ticket, Accepted("ada"), network.now)
    network.collect()
    one.message_id -= 0
    network.queue.clear()
    one.message_id = one.gateway_sa.window.expected - 1
    assert one.send(one.auth(b"")).get(Authentication) is not None
    assert established(network.gateway)[0].auth == "EAP-GTC"


def test_h31_radius_accepts_without_a_key() -> None:
    network = pair(
        gateway_of_users(UserMethod.EAP_RADIUS, backend="dc"), device_of_user(), find_user=find_user
    )
    network.answer_user = RadiusServer(msk=b"")
    one = Stranger(network)
    with pytest.raises(AssertionError):
        one.eap()
    assert_refused(one)


def test_h31_a_response_to_an_older_request_of_radius() -> None:
    network = pair(
        gateway_of_users(UserMethod.EAP_RADIUS, backend="dc"), device_of_user(), find_user=find_user
    )
    server = network.answer_user = RadiusServer()
    one = Stranger(network)
    view = one.send(*one.first())
    identifier = view.need(Eap).data[1]
    identity = EapPacket(Code.RESPONSE, identifier, EapType.IDENTITY, b"ada")
    one.send(Eap(identity.encode()))
    one.send(Eap(identity.encode()))
    assert_refused(one)
    assert len(server.questions) == 1


def test_h31_eap_where_nobody_asks_for_a_user() -> None:
    network = pair(gateway_policy(local_credential=credential("gw.example.com")), device_of_user())
    one = Stranger(network)
    answer = one.send(*one.first())
    assert answer.error().type == NotifyType.AUTHENTICATION_FAILED
    assert answer.get(Authentication) is None
    assert_refused(one)
    assert "wants EAP" in reasons(network.gateway)[0]


@pytest.mark.parametrize("user_first", [False, True])
def test_h31_device_and_user_are_both_asked_for(user_first: bool) -> None:
    """Without multiple authentication neither proof alone is enough."""
    user = gateway_of_users().peer_auth.user
    gateway = gateway_of_users(peer_auth=PeerAuth(preshared_key=PSK, user=user))
    device = device_of_user() if user_first else device_policy(peer_auth=device_of_user().peer_auth)
    network = log_in(gateway, device)
    assert not established(network.gateway)
    assert not network.gateway.sas


def test_only_xauth_is_no_eap() -> None:
    network = log_in(gateway_of_users(UserMethod.XAUTH))
    assert not established(network.gateway)
    assert "wants EAP" in reasons(network.gateway)[0]


def test_h15_other_exchanges_during_the_login() -> None:
    one = stranger()
    one.send(*one.first())
    for kind in (ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL):
        assert one.send(Notify(NotifyType.REKEY_SA), kind=kind) is None
        one.message_id -= 1
    assert [sa.state for sa in one.network.gateway.engine._core.sas.values()] == [State.USER_LOGIN]


@pytest.mark.parametrize(
    "payload", [Notify(NotifyType.AUTHENTICATION_FAILED), Delete(ProtocolId.IKE)]
)
def test_the_device_gives_up_and_says_why(payload: Payload) -> None:
    one = stranger()
    one.send(*one.first())
    assert one.send(payload, kind=ExchangeType.INFORMATIONAL) is not None
    assert not one.network.gateway.engine._core.sas
    assert "the peer gave up" in reasons(one.network.gateway)[0]


def test_every_message_twice_and_reflected_changes_nothing() -> None:
    network = pair(gateway_of_users(), device_of_user(), find_user=find_user)
    network.impair = lambda datagram: [datagram, datagram]
    connect(network)
    assert established(network.gateway)
    sent = list(network.sent)
    before = [state_of(host.engine) for host in network.hosts.values()]
    network.impair = lambda datagram: []
    for datagram in sent:
        if datagram.message[18] == ExchangeType.IKE_SA_INIT:
            continue
        # To whom it was for, again, and back to who sent it.
        network.gateway.engine.receive(datagram.message, Path(GATEWAY, DEVICE), network.now)
        network.device.engine.receive(datagram.message, Path(DEVICE, GATEWAY), network.now)
    network.run()
    assert [state_of(host.engine) for host in network.hosts.values()] == before
    assert network.gateway.engine.counters["internal_errors"] == 0
    assert network.device.engine.counters["internal_errors"] == 0


def test_messages_of_another_login_are_of_no_use() -> None:
    """All that one login sent, at every point of another."""
    first = log_in()
    for upto in range(2, 10, 2):
        network = pair(gateway_of_users(), device_of_user(), find_user=find_user)
        network.impair = lambda datagram, upto=upto: [] if datagram.number >= upto else [datagram]
        connect(network)
        before = state_of(network.gateway.engine)
        for datagram in first.sent:
            message = bytearray(datagram.message)
            if message[18] == ExchangeType.IKE_SA_INIT:
                continue
            (sa,) = network.gateway.engine._core.sas.values()
            message[:16] = sa.initiator_spi + sa.responder_spi
            network.gateway.engine.receive(bytes(message), Path(GATEWAY, DEVICE), network.now)
        assert state_of(network.gateway.engine) == before


# -- a gateway that is not what it should be ----------------------------------------------


class Impostor:
    """A gateway that answers what the test wants; its own proof is right."""

    def __init__(self, **changes: object) -> None:
        self.network = pair(gateway_of_users(**changes), device_of_user(), find_user=find_user)
        self.network.impair = self.impair
        self.script: list[list[Payload]] = []
        self.at = 0

    def impair(self, datagram: object) -> list[object]:
        if datagram.sender == "gateway" and datagram.message[18] == ExchangeType.IKE_AUTH:
            number = int.from_bytes(datagram.message[20:24], "big")
            if self.at and number >= self.at:
                if not self.script:
                    return []
                payloads = self.script.pop(0)
                datagram.message = self.seal(payloads, number)
        return [datagram]

    def seal(self, payloads: list[Payload], number: int) -> bytes:
        from gateway.ike.v2 import protect

        (message,) = protect.seal(
            self.sa,
            ExchangeType.IKE_AUTH,
            number,
            payloads,
            response=True,
            fragment_size=65000,
        )
        return message

    @property
    def sa(self) -> object:
        return self._sa

    def run(self, at: int, *script: list[Payload]) -> Network:
        self.at, self.script = at, list(script)
        network = self.network
        engine = network.gateway.engine
        taken = engine._core.add_sa

        def remember(sa: object) -> None:
            self._sa = sa
            taken(sa)

        engine._core.add_sa = remember
        keep = {}

        def cipher() -> None:
            # A refused SA forgets its keys; the impostor does not.
            sa = self._sa
            keep.setdefault("out", sa.cipher_out)
            sa.cipher_out = sa.cipher_out or keep["out"]

        inner = self.impair

        def impair(datagram: object) -> list[object]:
            if hasattr(self, "_sa"):
                cipher()
            return inner(datagram)

        network.impair = impair
        connect(network)
        return network


ODD_ANSWERS: dict[str, list[Payload]] = {
    "EAP-Success": [SUCCESS],
    "EAP-Failure": [FAILURE],
    "nothing": [],
    "an error": [Notify(NotifyType.AUTHENTICATION_FAILED)],
    "AUTH of nobody": [Authentication(AuthMethod.SHARED_KEY, bytes(48))],
    "EAP of a peer": [Eap(EapPacket(Code.RESPONSE, 7, EapType.IDENTITY, b"ada").encode())],
    "EAP cut": [Eap(b"\1\7\0\4")],
}


@pytest.mark.parametrize("what", ODD_ANSWERS)
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_h31_the_client_takes_nothing_in_the_wrong_place(what: str, at: int) -> None:
    """CVE-2021-45079: an early EAP-Success ends nothing, and AUTH must be over the MSK."""
    impostor = Impostor()
    network = impostor.run(at, ODD_ANSWERS[what])
    assert not established(network.device)
    assert not network.device.sas
    assert network.device.engine.counters["internal_errors"] == 0
    assert reasons(network.device)
    assert not impostor.script


def test_a_gateway_that_wants_no_eap() -> None:
    """It would let us in without asking who we are: then it is not the gateway we know."""
    network = log_in(
        gateway_policy(local_credential=credential("gw.example.com")),
        device_of_user(),
    )
    assert not established(network.device)


def test_the_client_without_user_credential_answers_no_eap() -> None:
    network = Impostor()
    network.network.device.engine.reconfigure(
        [device_policy(peer_auth=device_of_user().peer_auth)], 0.0
    )
    done = network.run(1, [Eap(EapPacket(Code.REQUEST, 1, EapType.IDENTITY).encode())])
    assert not established(done.device)


# -- mutations ----------------------------------------------------------------------------


@pytest.mark.parametrize("upto", [2, 4, 6, 8, 9])
def test_mutated_messages_during_a_login(upto: int) -> None:
    rng = random.Random(upto)
    network = pair(gateway_of_users(), device_of_user(), find_user=find_user)
    network.impair = lambda datagram: [] if datagram.number >= upto else [datagram]
    connect(network)
    hosts = ((network.gateway, Path(GATEWAY, DEVICE)), (network.device, Path(DEVICE, GATEWAY)))
    before = [state_of(host.engine) for host, _ in hosts]
    protected = [one.message for one in network.sent if one.message[18] == ExchangeType.IKE_AUTH]
    for message in protected:
        for _ in range(250):
            changed = mutate(message, rng)
            if changed in protected:
                continue
            for host, path in hosts:
                host.engine.receive(changed, path, network.now)
    assert [state_of(host.engine) for host, _ in hosts] == before
    for host, _ in hosts:
        assert host.engine.counters["internal_errors"] == 0


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_mutated_eap_from_a_peer_with_keys(steps: int) -> None:
    """The EAP packet, not the message around it: nothing raised, nobody let in."""
    rng = random.Random(steps)
    for _ in range(60):
        one = stranger()
        view = one.send(*one.first())
        peer = eap_initiator.EapPeer(
            eap_initiator.Login("ada", (eap_initiator.EapMethod.MSCHAPV2,), PASSWORD.encode()),
            random.randbytes,
        )
        for _ in range(steps):
            view = one.send(Eap(peer.receive(view.need(Eap).data).send))
        packet = peer.receive(view.need(Eap).data).send
        changed = bytearray(mutate(packet, rng))
        if len(changed) >= 4:
            changed[2:4] = len(changed).to_bytes(2, "big")
        one.send(Eap(bytes(changed)))
        assert not established(one.network.gateway)
        assert one.network.gateway.engine.counters["internal_errors"] == 0


# -- bounded ------------------------------------------------------------------------------

LOGIN_OCTETS = 10_000
"""What a login that somebody began and left costs, at most, with EAP-MSCHAPv2."""
LOGINS = 300


def test_logins_that_were_begun_cost_a_bounded_amount_of_memory() -> None:
    settings = EngineSettings(half_open_limit=LOGINS, cookie_threshold=10 * LOGINS)
    engine = make_engine([gateway_of_users()], settings=settings, find_user=find_user)

    def begin(number: int) -> None:
        device = make_engine([device_of_user()])
        device.initiate("office", 0.0)
        here = Endpoint(ip_address("198.51.100.7"), 1024 + number)
        path = Path(GATEWAY, here)
        for _ in range(3):
            messages = [one for one in device.take_outputs() if isinstance(one, Transmit)]
            for one in messages:
                engine.receive(one.message, path, 0.0)
            for answer in engine.take_outputs():
                if isinstance(answer, Transmit):
                    device.receive(answer.message, Path(DEVICE, GATEWAY), 0.0)

    begin(0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1, LOGINS):
            begin(number)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    core = engine._core
    assert {sa.state for sa in core.sas.values()} == {State.USER_LOGIN}
    assert len(core.sas) == len(core.half_open) == LOGINS
    assert used / (LOGINS - 1) < LOGIN_OCTETS, used / (LOGINS - 1)
    begin(LOGINS)
    assert len(core.sas) == LOGINS
    engine.handle_timer(200.0)
    assert not core.sas
    assert len(core.half_open) == 0
    assert not core.asked


def test_failed_logins_are_remembered_for_a_bounded_number_of_sources() -> None:
    failed = FailedLogins(2)
    for number in range(MAX_FAILED_SOURCES + 10):
        failed.failed(ip_address(number), 0.0)
    assert len(failed._failures) == MAX_FAILED_SOURCES
    here = ip_address("2001:db8::1")
    failed.failed(here, 0.0)
    assert failed.may_try(here, 0.0)
    failed.failed(ip_address("2001:db8::2"), 0.0)
    assert not failed.may_try(here, 0.0)
    assert failed.may_try(ip_address("2001:db8:0:1::1"), 0.0)
    assert failed.may_try(here, 31.0)


def test_many_users_behind_one_address_all_get_in() -> None:
    engine_failures = FailedLogins(30)
    assert all(engine_failures.may_try(DEVICE.address, float(n)) for n in range(1000))


def test_identities_that_are_no_names() -> None:
    gateway = gateway_of_users(eap_identity=False, remote_id=IdentityPattern.parse("*"))
    device = device_of_user(local_id=Identity.parse("192.0.2.77"))
    assert established(log_in(gateway, device).gateway)[0].user == "ada"

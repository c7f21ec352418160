"""The device proves itself, then its user (RFC 4739): neither proof replaces the other."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

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
    pair,
)
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

from gateway.eap.method import EapMethod
from gateway.eap.packet import Code, EapPacket, EapType
from gateway.eap.peer import EapPeer, Login
from gateway.ike.auth.identity import Identity
from gateway.ike.codec import Authentication, Eap, IdInitiator, Notify, Payload
from gateway.ike.policy import ConnectionPolicy, PeerAuth, Ppk, PpkPolicy, UserMethod
from gateway.ike.registry import IdType, NotifyType
from gateway.ike.v2.sa import State

ADA = IdInitiator(IdType.FQDN, b"ada")


def gateway(*, psk: bool = False, **changes: Any) -> ConnectionPolicy:
    methods = changes.pop("methods", (UserMethod.EAP_MSCHAPV2,))
    more = {name: changes.pop(name) for name in ("backend",) if name in changes}
    made = gateway_of_users(*methods, **more, **changes)
    of_peer = PeerAuth(user=made.peer_auth.user)
    of_peer = replace(of_peer, **({"preshared_key": PSK} if psk else {"anchors": anchors()}))
    return replace(made, peer_auth=of_peer)


def device(name: str = "ada", password: str = PASSWORD, **changes: Any) -> ConnectionPolicy:
    changes.setdefault("local_credential", credential("ada@example.com"))
    return device_of_user(name, password, device_too=True, **changes)


def assert_nobody(network: Network) -> None:
    assert not established(network.gateway)
    assert not established(network.device)
    assert not network.gateway.sas
    assert not network.gateway.sessions
    for host in network.hosts.values():
        assert host.engine.counters["internal_errors"] == 0


def test_certificate_and_password() -> None:
    network = log_in(gateway(), device())
    (theirs,) = established(network.gateway)
    assert theirs.auth == "certificate and EAP-MSCHAPv2"
    assert (theirs.user, theirs.peer) == ("ada", "ada@example.com")
    assert established(network.device)[0].auth == "certificate"
    assert_consistent(network)


def test_a_grant_says_whether_the_identity_is_proven() -> None:
    (both,) = log_in(gateway(), device()).gateway.grants.values()
    assert (both.peer, both.user, both.proven) == ("ada@example.com", "ada", True)
    (user_alone,) = log_in(gateway_of_users(), device_of_user()).gateway.grants.values()
    assert (user_alone.user, user_alone.proven) == ("ada", False)


def test_shared_key_and_radius() -> None:
    network = log_in(
        gateway(psk=True, methods=(UserMethod.EAP_RADIUS,), backend="dc"),
        device(local_credential=PSK),
        answer_user=RadiusServer(),
    )
    assert established(network.gateway)[0].auth == "pre-shared key and EAP (RADIUS)"
    assert_consistent(network)


def test_the_user_s_own_identity_may_be_its_name() -> None:
    network = log_in(gateway(eap_identity=False), device())
    assert established(network.gateway)[0].user == "ada"


@pytest.mark.parametrize("required", [False, True])
def test_with_ppk(required: bool) -> None:
    ppk = PpkPolicy((Ppk(b"moon", bytes(range(32))),), required)
    network = log_in(gateway(ppk=ppk), device(ppk=ppk))
    assert established(network.gateway)[0].auth == "certificate and EAP-MSCHAPv2 with PPK"
    assert_consistent(network)


def test_with_ppk_that_is_not_shared() -> None:
    ours = PpkPolicy((Ppk(b"moon", bytes(range(32))),))
    theirs = PpkPolicy((Ppk(b"sun", bytes(range(32))),))
    network = log_in(gateway(ppk=ours), device(ppk=theirs))
    assert established(network.gateway)[0].auth == "certificate and EAP-MSCHAPv2"
    assert_consistent(network)


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "wrong"},
        {"name": "nobody"},
        {"local_credential": credential("ada@example.com", issuer="Other CA")},
        {"local_credential": credential("grace@example.com")},
        {"local_credential": PSK},
    ],
)
def test_one_wrong_proof_is_enough(changes: dict[str, Any]) -> None:
    network = log_in(gateway(), device(**changes))
    assert_nobody(network)
    assert reasons(network.gateway)


def test_a_gateway_that_asks_for_no_second_proof() -> None:
    network = log_in(gateway_of_users(), device())
    network.pass_time(200)
    assert_nobody(network)
    assert "RFC 4739" in reasons(network.device)[0]


@pytest.mark.parametrize(
    "theirs",
    [
        device_of_user(),
        device_policy(
            local_credential=credential("ada@example.com"), peer_auth=PeerAuth(anchors=anchors())
        ),
    ],
)
def test_a_device_that_gives_one_proof_only(theirs: ConnectionPolicy) -> None:
    network = log_in(gateway(), theirs)
    assert_nobody(network)
    assert "RFC 4739" in network.gateway.named("handshake_failed")[0].fields["remedy"]


def test_the_connection_is_chosen_by_the_proofs() -> None:
    ours = [
        gateway_policy(
            name="device",
            local_credential=credential("gw.example.com"),
            peer_auth=PeerAuth(anchors=anchors()),
        ),
        replace(gateway_of_users(), name="user"),
        replace(gateway(), name="both"),
    ]
    only_device = device_policy(
        local_credential=credential("ada@example.com"), peer_auth=PeerAuth(anchors=anchors())
    )
    for theirs, name in ((only_device, "device"), (device_of_user(), "user"), (device(), "both")):
        for order in (ours, ours[::-1]):
            network = pair(device=theirs)
            network.hosts["gateway"] = Host(make_engine(order, find_user=find_user), "gateway")
            connect(network)
            assert established(network.gateway)[0].connection == name


# -- a peer that plays with it --------------------------------------------------------------


def stranger() -> Stranger:
    return Stranger(pair(gateway(), device(), find_user=find_user))


def proven(one: Stranger) -> Stranger:
    """The device has proven itself; nobody has asked for its user yet."""
    answer = one.send(*one.first())
    assert answer.get(Authentication) is not None
    assert answer.get(Eap) is None
    assert one.gateway_sa.state is State.USER_LOGIN
    assert not established(one.network.gateway)
    assert not one.network.gateway.sas
    return one


def run_eap(one: Stranger, claimed: IdInitiator = ADA) -> bytes:
    view = one.send(claimed)
    peer = EapPeer(Login("ada", (EapMethod.MSCHAPV2,), PASSWORD.encode()), one_random)
    while True:
        step = peer.receive(view.need(Eap).data)
        if step.msk:
            return step.msk
        view = one.send(Eap(step.send))


def one_random(octets: int) -> bytes:
    return bytes(range(octets))


def test_the_stranger_itself_gets_in() -> None:
    one = proven(stranger())
    msk = run_eap(one)
    assert one.send(one.auth(msk, ADA)).get(Authentication) is not None
    assert established(one.network.gateway)


INSTEAD: dict[str, Callable[[Stranger], list[Payload]]] = {
    "AUTH of the device again": lambda one: [
        payload for payload in one.first() if isinstance(payload, Authentication)
    ],
    "the first request again": lambda one: one.first(),
    "who the user is, and AUTH": lambda one: [ADA, one.auth(b"", ADA)],
    "AUTH over no MSK": lambda one: [one.auth(b"")],
    "EAP before who the user is": lambda one: [
        Eap(EapPacket(Code.RESPONSE, 1, EapType.IDENTITY, b"ada").encode())
    ],
    "EAP-Success": lambda one: [Eap(EapPacket(Code.SUCCESS, 1).encode())],
    "nothing": lambda one: [],
    "another proof announced": lambda one: [Notify(NotifyType.ANOTHER_AUTH_FOLLOWS)],
}


@pytest.mark.parametrize("what", INSTEAD)
def test_h31_instead_of_the_user(what: str) -> None:
    one = proven(stranger())
    answer = one.send(*INSTEAD[what](one))
    assert answer is None or answer.get(Authentication) is None
    assert not established(one.network.gateway)
    assert not one.network.gateway.sas
    assert one.network.gateway.engine.counters["internal_errors"] == 0
    assert one.gateway_sa.state is State.CLOSED


def test_h31_the_user_s_auth_is_bound_to_the_user_s_identity() -> None:
    for identity in (None, IdInitiator(IdType.FQDN, b"grace")):
        one = proven(stranger())
        msk = run_eap(one)
        one.send(one.auth(msk, identity))
        assert not established(one.network.gateway)


def test_h31_a_proof_that_is_announced_must_come() -> None:
    one = stranger()
    payloads = [
        payload
        for payload in one.first()
        if not (isinstance(payload, Notify) and payload.type == NotifyType.ANOTHER_AUTH_FOLLOWS)
    ]
    answer = one.send(*payloads)
    assert answer.error().type == NotifyType.AUTHENTICATION_FAILED
    assert not established(one.network.gateway)
    assert one.network.gateway.engine.counters["internal_errors"] == 0


def test_the_device_is_forgotten_when_its_user_does_not_come() -> None:
    one = proven(stranger())
    one.network.gateway.engine.handle_timer(one.network.now + 31)
    assert not one.network.gateway.engine._core.sas
    assert len(one.network.gateway.engine._core.half_open) == 0


def test_names_that_are_no_identities() -> None:
    network = log_in(gateway(eap_identity=False), device("a b", "x"))
    assert_nobody(network)
    assert Identity.parse("ada").data == ADA.data

"""An OCSP responder is asked before anybody is let in, on both sides and for users too."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from certs_v2 import authority, credential
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from harness_v2 import (
    NOW,
    Host,
    Network,
    assert_consistent,
    connect,
    device_policy,
    established,
    gateway_policy,
    pair,
)
from users_v2 import PASSWORD, Stranger, gateway_of_users, log_in, reasons

from gateway.ike.auth.credentials import TrustAnchors
from gateway.ike.auth.revocation import Revocation, RevocationMode, RevocationPolicy
from gateway.ike.codec import Authentication
from gateway.ike.outputs import AskOcsp
from gateway.ike.policy import PeerAuth, UserCredential, UserMethod
from gateway.ike.v2.ocsp_questions import PATIENCE_S

URL = "http://ocsp.example.com/"
GOOD = ocsp.OCSPCertStatus.GOOD
REVOKED = ocsp.OCSPCertStatus.REVOKED
UNKNOWN = ocsp.OCSPCertStatus.UNKNOWN


def asking(mode: RevocationMode = RevocationMode.REQUIRED) -> TrustAnchors:
    """Anchors that nobody has asked anything yet."""
    policy = RevocationPolicy(mode, ocsp_responder=URL)
    return TrustAnchors((authority()[0],), Revocation(policy))


def reply(asked: AskOcsp, status: ocsp.OCSPCertStatus, subject: x509.Certificate) -> bytes:
    """What the authority says of a certificate."""
    issuer, key = authority()
    assert asked.responder_url == URL
    request = ocsp.load_der_ocsp_request(asked.request_der)
    assert request.serial_number == subject.serial_number
    revoked = status is REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=subject,
        issuer=issuer,
        algorithm=hashes.SHA1(),
        cert_status=status,
        this_update=NOW - timedelta(hours=1),
        next_update=NOW + timedelta(days=1),
        revocation_time=NOW - timedelta(days=1) if revoked else None,
        revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def leaf(name: str) -> x509.Certificate:
    return credential(name).certificates[0]


def devices(ours: TrustAnchors | None = None, theirs: TrustAnchors | None = None) -> Network:
    """A device and a gateway with certificates; those with anchors given ask about the other."""
    plain = TrustAnchors((authority()[0],))
    gateway = gateway_policy(
        local_credential=credential("gw.example.com"), peer_auth=PeerAuth(anchors=ours or plain)
    )
    device = device_policy(
        local_credential=credential("ada@example.com"), peer_auth=PeerAuth(anchors=theirs or plain)
    )
    return connect(pair(gateway, device))


def answer(network: Network, host: Host, response: bytes | None) -> None:
    asked = host.ocsp_questions[-1]
    host.engine.ocsp_answered(asked.ticket, response, network.now)
    network.run()


SIDES = [("gateway", "ada@example.com"), ("device", "gw.example.com")]


def asked_by(side: str, mode: RevocationMode = RevocationMode.REQUIRED) -> tuple[Network, Host]:
    network = devices(**{"ours" if side == "gateway" else "theirs": asking(mode)})
    host = network.hosts[side]
    assert len(host.ocsp_questions) == 1
    assert not established(host)
    assert not host.sas
    return network, host


@pytest.mark.parametrize(("side", "name"), SIDES)
def test_a_good_certificate(side: str, name: str) -> None:
    network, host = asked_by(side)
    answer(network, host, reply(host.ocsp_questions[0], GOOD, leaf(name)))
    assert established(network.gateway)
    assert established(network.device)
    assert_consistent(network)
    assert len(host.ocsp_questions) == 1
    assert established(host)[0].auth == "certificate"


@pytest.mark.parametrize(("side", "name"), SIDES)
@pytest.mark.parametrize(
    ("status", "mode", "let_in"),
    [
        (REVOKED, RevocationMode.REQUIRED, False),
        (REVOKED, RevocationMode.WHEN_KNOWN, False),
        (UNKNOWN, RevocationMode.REQUIRED, False),
        (UNKNOWN, RevocationMode.WHEN_KNOWN, True),
    ],
)
def test_other_answers(
    side: str, name: str, status: ocsp.OCSPCertStatus, mode: RevocationMode, let_in: bool
) -> None:
    network, host = asked_by(side, mode)
    answer(network, host, reply(host.ocsp_questions[0], status, leaf(name)))
    assert bool(established(host)) is let_in
    if not let_in:
        assert "revoked" in reasons(host)[0]
        assert not host.sas


@pytest.mark.parametrize("side", ["gateway", "device"])
@pytest.mark.parametrize("response", [None, b"", b"junk"])
@pytest.mark.parametrize("required", [False, True])
def test_no_usable_answer(side: str, response: bytes | None, required: bool) -> None:
    mode = RevocationMode.REQUIRED if required else RevocationMode.WHEN_KNOWN
    network, host = asked_by(side, mode)
    answer(network, host, response)
    assert bool(established(host)) is not required
    assert host.named("ocsp_unanswered")
    assert len(host.ocsp_questions) == 1


def test_repetitions_are_dropped_meanwhile() -> None:
    network, host = asked_by("gateway")
    network.pass_time(4)
    assert len(host.ocsp_questions) == 1
    assert host.engine.counters["requests_repeated_while_held"] >= 1
    answer(network, host, reply(host.ocsp_questions[0], GOOD, leaf("ada@example.com")))
    assert established(network.device)


@pytest.mark.parametrize("side", ["gateway", "device"])
def test_nobody_ever_answers(side: str) -> None:
    network, host = asked_by(side)
    network.device.engine._core.wanted.clear()
    network.impair = lambda datagram: []
    network.pass_time(PATIENCE_S + 1)
    assert not host.engine._core.sas
    assert not host.engine._core.asked
    late = reply(host.ocsp_questions[0], GOOD, leaf(dict(SIDES)[side]))
    answer(network, host, late)
    assert not established(host)
    assert reasons(host) or side == "gateway"


@pytest.mark.parametrize("side", ["gateway", "device"])
def test_an_answer_to_the_wrong_question(side: str) -> None:
    """A user's answer to an OCSP ticket, or a second answer, changes nothing."""
    from gateway.domain.user_auth import Accepted

    network, host = asked_by(side)
    (asked,) = host.ocsp_questions
    host.engine.user_answered(asked.ticket, Accepted("ada", msk=bytes(64)), network.now)
    network.run()
    assert not established(host)
    host.engine.ocsp_answered(asked.ticket, None, network.now)
    network.run()
    assert not established(host)
    assert host.engine.counters["internal_errors"] == 0


def test_h29_nobody_without_the_key_makes_us_ask() -> None:
    network = pair(
        gateway_policy(peer_auth=PeerAuth(anchors=asking())),
        device_policy(local_credential=credential("ada@example.com")),
    )
    one = Stranger(network)
    payloads = [
        replace(payload, data=payload.data[:-1] + bytes([payload.data[-1] ^ 1]))
        if isinstance(payload, Authentication)
        else payload
        for payload in one.first()
    ]
    one.send(*payloads)
    assert not network.gateway.ocsp_questions
    assert not established(network.gateway)


def test_an_answer_is_good_for_the_next_login() -> None:
    network, host = asked_by("gateway")
    answer(network, host, reply(host.ocsp_questions[0], GOOD, leaf("ada@example.com")))
    (sa,) = established(network.device)
    network.device.engine.close_ike_sa(sa.spis, "test", network.now)
    network.run()
    connect(network)
    assert established(network.gateway)
    assert len(host.ocsp_questions) == 1


def tls_login(**more: Any) -> Network:
    name = "ada@example.com"
    plain = TrustAnchors((authority()[0],))
    login = UserCredential(name, b"", credential(name), plain)
    return log_in(
        gateway_of_users(UserMethod.EAP_TLS, anchors=asking()),
        device_policy(peer_auth=PeerAuth(anchors=plain), user_credential=login),
        **more,
    )


def test_the_certificate_of_a_user() -> None:
    network = tls_login()
    host = network.gateway
    assert len(host.ocsp_questions) == 1
    assert not established(network.device)
    answer(network, host, reply(host.ocsp_questions[0], GOOD, leaf("ada@example.com")))
    assert established(host)[0].auth == "EAP-TLS"
    assert_consistent(network)


@pytest.mark.parametrize(
    "make", [lambda asked: reply(asked, REVOKED, leaf("ada@example.com")), lambda asked: None]
)
def test_the_certificate_of_a_user_is_refused(
    make: Callable[[AskOcsp], bytes | None],
) -> None:
    network = tls_login()
    host = network.gateway
    answer(network, host, make(host.ocsp_questions[0]))
    assert not established(host)
    assert not established(network.device)
    assert "revoked" in reasons(host)[0]
    assert PASSWORD not in repr(host.log)

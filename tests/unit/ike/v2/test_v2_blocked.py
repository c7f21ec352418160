"""A blocked device stays out, whichever of its certificate's names it claims."""

from dataclasses import replace

import pytest
from certs_v2 import START, anchors, credential
from cryptography.hazmat.primitives.serialization import Encoding
from harness_v2 import Network, connect, connected, device_policy, gateway_policy, pair

from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.policy import PeerAuth
from gateway.ike.v2.user_certificate import UserCertificates


def blocking(*blocked: str, claimed: str, remote_id: str = "*") -> Network:
    """A device with a certificate for ada@example.com that claims another spelling or name."""
    auth = PeerAuth(anchors=anchors())
    device = device_policy(local_credential=credential("ada@example.com", "p256"), peer_auth=auth)
    network = pair(
        gateway=gateway_policy(
            local_credential=credential("gw.example.com", "p256"),
            peer_auth=auth,
            remote_id=IdentityPattern.parse(remote_id),
        ),
        device=replace(device, local_id=Identity.parse(claimed)),
    )

    def refusal(identity: str, _user: str) -> str | None:
        return "device ada is blocked" if identity in blocked else None

    network.gateway.engine.refuse_login = refusal
    return connect(network)


def subject() -> str:
    return str(Identity.of_subject(credential("ada@example.com", "p256").certificates[0]))


@pytest.mark.parametrize("claimed", ["ada@example.com", "ADA@Example.com", "subject"])
def test_no_name_of_a_blocked_certificate_logs_in(claimed: str) -> None:
    claimed = subject() if claimed == "subject" else claimed
    network = blocking("ada@example.com", claimed=claimed)
    (event,) = network.gateway.named("handshake_failed")
    assert "device ada is blocked" in str(event.fields["reason"])
    assert not network.gateway.engine.child_sas(0.0)


@pytest.mark.parametrize("claimed", ["ada@example.com", "ADA@Example.com", "subject"])
def test_each_of_them_logs_in_while_somebody_else_is_blocked(claimed: str) -> None:
    claimed = subject() if claimed == "subject" else claimed
    network = blocking("bob@example.com", claimed=claimed)
    assert not network.gateway.named("handshake_failed")
    assert network.gateway.engine.child_sas(0.0)


def test_sessions_are_found_in_any_spelling() -> None:
    engine = connected().gateway.engine
    assert engine.sessions_of("ada@example.com")
    assert engine.sessions_of("ADA@example.com") == engine.sessions_of("ada@example.com")
    assert not engine.sessions_of("bob@example.com")


@pytest.mark.parametrize("blocked", ["ada@example.com", "subject", "common name"])
def test_the_certificate_of_a_blocked_user_is_refused_by_each_of_its_names(blocked: str) -> None:
    leaf = credential("ada@example.com", "p256").certificates[0]
    names = {"subject": subject(), "common name": subject().removeprefix("CN=")}
    out = names.get(blocked, blocked)
    chain = (leaf.public_bytes(Encoding.DER),)

    def refusal(identity: str, _user: str) -> str | None:
        return "device ada is blocked" if identity == out else None

    assert UserCertificates(anchors(), lambda: START).check(chain, "ada@example.com") is None
    judged = UserCertificates(anchors(), lambda: START, refusal).check(chain, "ada@example.com")
    assert judged == "device ada is blocked"

"""Phase 1 between two engines: every method, both exchanges, NATs, losses."""

from dataclasses import replace

import pytest
from certs_v2 import credential
from harness_v1 import (
    AGGRESSIVE,
    FAST,
    MAIN,
    certificate_policies,
    device_v1,
    gateway_v1,
    hybrid_policies,
    only_sa,
    psk_pair,
    said,
    states,
)
from harness_v2 import Network, connect, pair

from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.policy import V1Exchange
from gateway.ike.v1.sa import Evidence, State

BOTH = [MAIN, AGGRESSIVE]
DONE = {State.ESTABLISHED, State.AUTHENTICATED}


def assert_same_keys(network: Network) -> None:
    ours, theirs = only_sa(network.gateway), only_sa(network.device)
    assert ours.keys == theirs.keys is not None
    assert ours.cipher_key == theirs.cipher_key != b""
    assert ours.spis == theirs.spis
    assert network.gateway.engine.counters.get("internal_errors", 0) == 0
    assert network.device.engine.counters.get("internal_errors", 0) == 0


@pytest.mark.parametrize("exchange", BOTH)
def test_pre_shared_key(exchange: V1Exchange) -> None:
    network = connect(psk_pair(exchange))
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)
    assert_same_keys(network)
    sa = only_sa(network.gateway)
    assert sa.peer_name == "ada@example.com"
    assert sa.evidence == Evidence.KEYS | Evidence.PEER_IDENTITY | Evidence.PEER_AUTH
    assert sa.auth == "pre-shared key"


@pytest.mark.parametrize("exchange", BOTH)
@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "p521"])
def test_certificates(kind: str, exchange: V1Exchange) -> None:
    network = connect(pair(*certificate_policies(kind, exchange)))
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)
    assert_same_keys(network)
    for host in network.hosts.values():
        assert only_sa(host).evidence & Evidence.PEER_CERTIFICATE


@pytest.mark.parametrize("exchange", BOTH)
def test_hybrid_leaves_the_initiator_unproven(exchange: V1Exchange) -> None:
    network = pair(*hybrid_policies(exchange))
    connect(network)
    assert only_sa(network.device).evidence & Evidence.PEER_CERTIFICATE, said(network)
    assert not only_sa(network.gateway).evidence & Evidence.PEER_AUTH
    assert states(network.gateway) == [State.AUTHENTICATED]


@pytest.mark.parametrize(
    "suite",
    [
        "aes256-sha512-modp2048",
        "aes192-sha384-ecp384",
        "aes128-sha1-modp1024",
        "3des-sha1-modp1536",
        "aes256-sha256-ecp521",
    ],
)
def test_suites(suite: str) -> None:
    network = connect(psk_pair(ike_offer=SuiteOffer.parse("ike", [suite])))
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)
    assert_same_keys(network)
    assert suite.replace("modp", "").split("-")[0] in only_sa(network.gateway).suite_name


def test_default_offers_of_both_sides_fit() -> None:
    network = connect(psk_pair(ike_offer=SuiteOffer.default_ike()))
    assert states(network.gateway) == [State.ESTABLISHED], said(network)


def test_our_order_decides() -> None:
    network = connect(
        pair(
            gateway_v1(ike_offer=SuiteOffer.parse("ike", ["aes256-sha256-ecp256"])),
            device_v1(
                ike_offer=SuiteOffer.parse("ike", ["aes128-sha1-modp1024", "aes256-sha256-ecp256"])
            ),
        )
    )
    assert only_sa(network.gateway).suite_name == "aes256-sha256-prfsha256-ecp256"


def test_no_common_suite_is_reported_with_both_sides() -> None:
    network = connect(
        pair(
            gateway_v1(ike_offer=SuiteOffer.parse("ike", ["aes256-sha256-ecp256"])),
            device_v1(ike_offer=SuiteOffer.parse("ike", ["aes128-sha1-modp1024"])),
        )
    )
    assert states(network.gateway) == []
    (event,) = network.gateway.named("handshake_failed")
    assert event.fields["step"] == "main mode message 1"
    assert "aes128-sha1-modp1024-psk" in event.text
    assert "aes256-prfsha256-sha256-ecp256" in event.text
    network.pass_time(200)
    event = network.device.named("handshake_failed")[0]
    assert "NO_PROPOSAL_CHOSEN" in event.text


def test_other_authentication_is_named() -> None:
    certified, _ = certificate_policies("rsa")
    network = connect(pair(certified, device_v1()))
    (event,) = network.gateway.named("handshake_failed")
    assert "authentication differs: theirs psk, ours rsa" in event.text
    assert FAST is not None


@pytest.mark.parametrize("exchange", BOTH)
def test_a_blocked_certificate_logs_in_by_none_of_its_names(exchange: V1Exchange) -> None:
    ours, theirs = certificate_policies("p256", exchange)
    subject = Identity.of_subject(credential("ada@example.com", "p256").certificates[0])
    network = pair(
        replace(ours, remote_id=IdentityPattern.parse("*")), replace(theirs, local_id=subject)
    )
    network.gateway.engine.refuse_login = lambda identity, _user: (
        "device ada is blocked" if identity == "ada@example.com" else None
    )
    connect(network)
    assert any("device ada is blocked" in line for line in said(network))
    assert not set(states(network.gateway)) & DONE

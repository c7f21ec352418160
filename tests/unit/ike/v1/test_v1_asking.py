"""Phase 1 that waits for an OCSP responder, and what the drafts add to it."""

import pytest
from certs_v2 import authority, credential
from harness_v1 import AGGRESSIVE, MAIN, device_v1, gateway_v1, psk_pair, said, states
from harness_v2 import Host, Network, connect, pair
from test_v2_ocsp import GOOD, REVOKED, asking, leaf, reply

from gateway.ike.auth.credentials import TrustAnchors
from gateway.ike.policy import Feature, PeerAuth, V1Exchange
from gateway.ike.v1.sa import IkeSa, State

SIDES = [("gateway", "ada@example.com"), ("device", "gw.example.com")]
BOTH = [MAIN, AGGRESSIVE]
ADVERTISEMENT = b"\x09\x10 an agent advertisement"


def asked_by(side: str, exchange: V1Exchange) -> tuple[Network, Host]:
    plain = TrustAnchors((authority()[0],))
    ours, theirs = (asking(), plain) if side == "gateway" else (plain, asking())
    network = connect(
        pair(
            gateway_v1(
                local_credential=credential("gw.example.com"),
                peer_auth=PeerAuth(anchors=ours),
                v1_exchange=exchange,
            ),
            device_v1(
                local_credential=credential("ada@example.com"),
                peer_auth=PeerAuth(anchors=theirs),
                v1_exchange=exchange,
            ),
        )
    )
    host = network.hosts[side]
    assert states(host) == [State.ASKED], said(network)
    assert len(host.ocsp_questions) == 1
    assert not host.sas
    return network, host


def answer(network: Network, host: Host, response: bytes | None) -> None:
    host.engine.ocsp_answered(host.ocsp_questions[-1].ticket, response, network.now)
    network.run()


@pytest.mark.parametrize("exchange", BOTH)
@pytest.mark.parametrize(("side", "name"), SIDES)
def test_good_certificates_go_on(side: str, name: str, exchange: V1Exchange) -> None:
    network, host = asked_by(side, exchange)
    answer(network, host, reply(host.ocsp_questions[0], GOOD, leaf(name)))
    network.pass_time(5)
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)
    assert network.gateway.sas
    assert network.device.sas


@pytest.mark.parametrize("exchange", BOTH)
@pytest.mark.parametrize(("side", "name"), SIDES)
def test_revoked_certificates_end_it(side: str, name: str, exchange: V1Exchange) -> None:
    network, host = asked_by(side, exchange)
    answer(network, host, reply(host.ocsp_questions[0], REVOKED, leaf(name)))
    assert not host.sas
    assert not [one for one in states(host) if one is State.ESTABLISHED]
    assert host.named("handshake_failed")[0].fields["step"] == "revocation check"


@pytest.mark.parametrize(("side", "name"), SIDES)
@pytest.mark.parametrize("response", [None, b"", b"garbage"])
def test_required_and_nobody_tells(side: str, name: str, response: bytes | None) -> None:
    network, host = asked_by(side, MAIN)
    answer(network, host, response)
    assert not host.sas
    assert host.named("handshake_failed")
    assert host.engine.counters.get("internal_errors", 0) == 0
    assert name


def test_an_answer_that_never_comes_ends_with_the_handshake() -> None:
    network, host = asked_by("gateway", MAIN)
    network.pass_time(35)
    assert State.ASKED not in states(host)
    assert not host.sas


@pytest.mark.parametrize("exchange", BOTH)
def test_agent_advertisement_reaches_who_knows_of_it(exchange: V1Exchange) -> None:
    for knows in (Feature.ALLOWED, Feature.OFF):
        network = pair(
            gateway_v1(
                v1_exchange=exchange, vpn_fa=Feature.ALLOWED, fa_advertisement=ADVERTISEMENT
            ),
            device_v1(v1_exchange=exchange, vpn_fa=knows),
        )
        connect(network)
        (sa,) = network.device.engine._core.sas.values()
        assert isinstance(sa, IkeSa)
        assert sa.fa_advertisement == (ADVERTISEMENT if knows is Feature.ALLOWED else b"")
        assert states(network.gateway) == [State.ESTABLISHED], said(network)


@pytest.mark.parametrize("exchange", BOTH)
def test_no_timer_is_ever_set_into_the_past(exchange: V1Exchange) -> None:
    """A timer that is due at once and changes nothing would keep the gateway busy for ever."""
    network = connect(psk_pair(exchange))
    network.impair = lambda one: []
    network.pass_time(200)
    for host in network.hosts.values():
        due = host.engine.next_timer()
        assert due is None or due > network.now

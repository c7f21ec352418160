"""Additional key exchanges: IKE_INTERMEDIATE and IKE_FOLLOWUP_KE (RFC 9242, RFC 9370)."""

from dataclasses import replace

import pytest
from harness_v2 import (
    Datagram,
    Network,
    assert_consistent,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    pair,
    sa_of,
)

from gateway.ike.codec import KeyExchange, Notify, parse_header
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.policy import Lifetimes
from gateway.ike.registry import DhGroup, ExchangeType, Flag, NotifyType
from gateway.ike.v2 import followup, intermediate, protect, rekey_ike
from gateway.ike.v2 import receive as dispatch
from gateway.ike.v2.sa import State

HYBRID = SuiteOffer.parse("ike", ["aes256gcm16-prfsha384-x25519-ke1_mlkem768"])
THREE = SuiteOffer.parse("ike", ["aes128-sha256-ecp256-ke1_mlkem768-ke3_x25519"])
CLASSIC = SuiteOffer.parse("ike", ["aes256gcm16-prfsha384-x25519"])
EITHER = SuiteOffer.parse("ike", ["aes256gcm16-prfsha384-x25519-ke1_mlkem768-ke1_none"])


def both(offer: SuiteOffer, other: SuiteOffer | None = None, **more: object) -> Network:
    return pair(
        gateway_policy(ike_offer=offer, **more), device_policy(ike_offer=other or offer, **more)
    )


def exchanges(network: Network) -> list[int]:
    return [parse_header(sent.message).exchange for sent in network.sent]


@pytest.mark.parametrize("offer", [HYBRID, THREE], ids=["one", "two"])
def test_every_method_takes_part(offer: SuiteOffer) -> None:
    network = connect(both(offer))
    assert established(network.gateway)
    assert established(network.device)
    assert_consistent(network)
    methods = sa_of(network.gateway).suite.additional
    done = sum(kind == ExchangeType.IKE_INTERMEDIATE for kind in exchanges(network))
    # Public values of ML-KEM are larger than a fragment, so it is more than two per method.
    assert done >= 2 * len(methods)
    assert network.gateway.engine.counters["additional_key_exchanges"] == len(methods)
    assert "ke1_mlkem768" in established(network.gateway)[0].suite


@pytest.mark.parametrize(
    ("ours", "theirs", "methods"),
    [
        (EITHER, EITHER, (DhGroup.ML_KEM_768,)),
        (EITHER, CLASSIC, ()),
        (CLASSIC, EITHER, ()),
        (HYBRID, EITHER, (DhGroup.ML_KEM_768,)),
    ],
)
def test_none_makes_it_the_peers_choice(
    ours: SuiteOffer, theirs: SuiteOffer, methods: tuple[DhGroup, ...]
) -> None:
    network = connect(both(ours, theirs))
    assert sa_of(network.gateway).suite.additional == methods
    assert_consistent(network)


@pytest.mark.parametrize(("ours", "theirs"), [(HYBRID, CLASSIC), (CLASSIC, HYBRID)])
def test_no_downgrade_to_classic(ours: SuiteOffer, theirs: SuiteOffer) -> None:
    network = connect(both(ours, theirs))
    network.pass_time(30)
    assert not established(network.gateway)
    (failed,) = network.gateway.named("handshake_failed")[:1]
    assert "additional key exchange 1 differs" in failed.fields["reason"]


def test_keys_differ_from_those_before() -> None:
    """The session keys are not those of IKE_SA_INIT, which a quantum computer could find."""
    network = both(HYBRID)
    seen: list[bytes] = []
    prepare = intermediate.prepare

    def note(sa: object) -> None:
        seen.append(sa.sk_d)  # type: ignore[attr-defined]
        prepare(sa)  # type: ignore[arg-type]

    intermediate.prepare = note
    try:
        connect(network)
    finally:
        intermediate.prepare = prepare
    assert len(seen) == 2
    assert seen[0] == seen[1] != sa_of(network.gateway).sk_d == sa_of(network.device).sk_d


def test_int_auth_by_hand() -> None:
    """RFC 9242 section 3.3.2, written out: header, SK header, payloads, without fragments."""
    network = both(HYBRID)
    octets: list[tuple[bytes, bytes]] = []
    plain = protect.plain_octets

    def note(sa, exchange_type, message_id, first, body, *, of_initiator, response):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        made = plain(
            sa,
            exchange_type,
            message_id,
            first,
            body,
            of_initiator=of_initiator,
            response=response,
        )
        flags = Flag.INITIATOR if of_initiator else Flag.RESPONSE
        expected = (
            sa.initiator_spi
            + sa.responder_spi
            + bytes([46, 0x20, 43, flags])
            + (1).to_bytes(4, "big")
            + (32 + len(body)).to_bytes(4, "big")
            + bytes([34, 0])
            + (4 + len(body)).to_bytes(2, "big")
            + body
        )
        octets.append((made, expected))
        return made

    protect.plain_octets = note  # type: ignore[assignment]
    try:
        connect(network)
    finally:
        protect.plain_octets = plain
    assert len(octets) == 4
    assert all(made == expected for made, expected in octets)


def test_a_changed_intermediate_message_breaks_authentication() -> None:
    """Whoever broke the first keys can change KE values, but not make AUTH fit."""
    network = both(HYBRID)
    receive = intermediate.receive_request

    def meddle(core, sa, request):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        first, body = request.view.inner
        request.view.inner = (first, body[:-1] + bytes([body[-1] ^ 1]))
        receive(core, sa, request)

    key = (State.HALF_OPEN, ExchangeType.IKE_INTERMEDIATE)
    dispatch._HANDLERS[key] = meddle
    try:
        connect(network)
        network.pass_time(60)
    finally:
        dispatch._HANDLERS[key] = receive
    assert not established(network.gateway)
    assert not network.gateway.sas


def test_ike_auth_before_the_additional_exchanges_is_dropped() -> None:
    network = both(HYBRID)
    core = network.device.engine._core
    original = intermediate.is_pending
    intermediate.is_pending = lambda sa: original(sa) and sa.local_spi not in core.sas  # type: ignore[assignment]
    try:
        connect(network)
    finally:
        intermediate.is_pending = original
    assert not established(network.gateway)
    assert network.gateway.engine.counters["requests_out_of_state"] >= 1


def test_wrong_method_or_value_ends_the_handshake() -> None:
    for wrong in (DhGroup.X25519, None):
        network = both(HYBRID)
        request = intermediate.IntermediateExchange.request

        def meddle(self, core, sa, now, wrong=wrong, request=request):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            (payload,) = request(self, core, sa, now)
            if wrong is not None:
                return [replace(payload, group=int(wrong))]
            return [KeyExchange(payload.group, payload.data[:-1])]

        intermediate.IntermediateExchange.request = meddle  # type: ignore[method-assign]
        try:
            connect(network)
            network.pass_time(60)
        finally:
            intermediate.IntermediateExchange.request = request  # type: ignore[method-assign]
        assert not established(network.gateway)
        assert not network.gateway.sas
        assert network.gateway.engine.counters["internal_errors"] == 0


def test_lost_and_repeated_messages() -> None:
    network = both(HYBRID)
    lost: set[int] = set()

    def impair(datagram: Datagram) -> list[Datagram]:
        header = parse_header(datagram.message)
        key = header.message_id * 2 + bool(header.is_response)
        if key not in lost and header.message_id:
            lost.add(key)
            return []
        return [datagram, datagram]

    network.impair = impair
    connect(network)
    network.pass_time(40)
    assert established(network.gateway)
    assert established(network.device)
    assert_consistent(network)


@pytest.mark.parametrize("who", ["device", "gateway"])
@pytest.mark.parametrize("offer", [HYBRID, THREE], ids=["one", "two"])
def test_rekeying_exchanges_them_again(who: str, offer: SuiteOffer) -> None:
    network = connect(both(offer))
    host = network.hosts[who]
    old = sa_of(network.gateway)
    rekey_ike.rekey_ike(host.engine._core, sa_of(host), network.now)
    network.run()
    new = sa_of(network.gateway)
    assert new.spis != old.spis
    assert new.spis == sa_of(network.device).spis
    assert new.sk_d == sa_of(network.device).sk_d
    assert ExchangeType.IKE_FOLLOWUP_KE in exchanges(network)
    assert_consistent(network)


def test_both_rekey_at_once() -> None:
    network = connected(
        gateway_policy(ike_offer=HYBRID, lifetimes=Lifetimes(ike_rekey_s=600, jitter=0.0)),
        device_policy(ike_offer=HYBRID, lifetimes=Lifetimes(ike_rekey_s=600, jitter=0.0)),
    )
    for host in network.hosts.values():
        rekey_ike.rekey_ike(host.engine._core, sa_of(host), network.now)
    network.pass_time(120)
    assert sa_of(network.gateway).spis == sa_of(network.device).spis
    assert_consistent(network)
    assert network.gateway.engine.counters["ike_sas_rekeyed"] >= 1


def test_a_followup_without_its_link_is_refused() -> None:
    network = connect(both(HYBRID))
    request = followup.FollowupKe.request

    def meddle(self, core, sa, now):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        first, _ = request(self, core, sa, now)
        return [first, Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, b"something else")]

    followup.FollowupKe.request = meddle  # type: ignore[method-assign]
    try:
        rekey_ike.rekey_ike(network.device.engine._core, sa_of(network.device), network.now)
        network.run()
    finally:
        followup.FollowupKe.request = request  # type: ignore[method-assign]
    assert network.gateway.engine.counters["followups_refused"] == 1
    assert established(network.gateway)
    network.pass_time(followup.FOLLOWUP_S + 60)
    assert sa_of(network.gateway).spis == sa_of(network.device).spis
    assert_consistent(network)


def test_a_followup_that_never_comes_is_forgotten() -> None:
    network = connect(both(HYBRID))
    network.impair = lambda datagram: (
        []
        if parse_header(datagram.message).exchange == ExchangeType.IKE_FOLLOWUP_KE
        else [datagram]
    )
    sa = sa_of(network.gateway)
    rekey_ike.rekey_ike(network.device.engine._core, sa_of(network.device), network.now)
    network.run()
    assert followup.is_waiting(sa, network.now)
    assert not followup.is_waiting(sa, network.now + followup.FOLLOWUP_S)
    assert sa.followup is None

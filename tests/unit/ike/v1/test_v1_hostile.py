"""Hostile inputs for phase 1 of IKEv1, by the numbers of the list of hostile inputs."""

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from certs_v2 import anchors, credential
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
from harness_v2 import DEVICE, GATEWAY, PSK, Datagram, Network, connect, pair

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto import dh
from gateway.ike.crypto.modp import PRIMES
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.first_line import V1_SHARE
from gateway.ike.policy import EngineSettings, PeerAuth, V1Exchange
from gateway.ike.registry import DhGroup
from gateway.ike.v1 import fragments, offers, receive, respond
from gateway.ike.v1.codec import (
    Attribute,
    ExchangeType,
    Flag,
    Hash,
    Identification,
    KeyExchange,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    Proposal,
    ProtocolId,
    SecurityAssociation,
    Transform,
    find,
    parse_message,
    parse_payloads,
    serialize_header,
    serialize_message,
    serialize_payloads,
)
from gateway.ike.v1.sa import AuthMethod, IkeSa, State

SOURCE = Endpoint(ip_address("203.0.113.9"), 500)
SPI_I, NO_SPI = b"initiate", bytes(8)
OFFER = offers.to_payload(FAST, AuthMethod.PRE_SHARED_KEY, 3600)
UP = {State.ESTABLISHED, State.AUTHENTICATED, State.REPLACED}


def alone(**changes: object) -> Network:
    """A gateway that a forger talks to."""
    return pair(gateway_v1(**changes))


def tell(network: Network, message: bytes, source: Endpoint = SOURCE) -> list[bytes]:
    """Let the gateway have a datagram; what it answers to that address."""
    before = len(network.sent)
    network.gateway.engine.receive(message, Path(GATEWAY, source), network.now)
    network.collect()
    network.queue.clear()
    return [one.message for one in network.sent[before:] if one.path.remote == source]


def first(
    payloads: list[Payload] | None = None,
    exchange: int = ExchangeType.IDENTITY_PROTECTION,
    spi_i: bytes = SPI_I,
    **header: int,
) -> bytes:
    return serialize_message(
        spi_i, NO_SPI, exchange=exchange, payloads=payloads or [OFFER], **header
    )


def no_harm(network: Network) -> None:
    """Nothing raised, nobody was let in."""
    for host in network.hosts.values():
        assert host.engine.counters.get("internal_errors", 0) == 0, said(network)
        assert not UP & set(states(host)), said(network)
        assert not host.sas


# -- 13, 14, 15: cookies, versions, order ------------------------------------------------------


@pytest.mark.parametrize(
    ("spi_i", "spi_r"),
    [(NO_SPI, NO_SPI), (NO_SPI, b"responds"), (SPI_I, b"responds"), (b"\xff" * 8, b"\xff" * 8)],
)
@pytest.mark.parametrize("exchange", [1, 2, 3, 4, 5, 6, 32, 33, 34, 35, 37, 240, 255])
def test_h13_cookies_that_nobody_gave(spi_i: bytes, spi_r: bytes, exchange: int) -> None:
    network = alone()
    message = serialize_message(spi_i, spi_r, exchange=exchange, payloads=[OFFER])
    if spi_i != NO_SPI and spi_r == NO_SPI:
        return
    assert tell(network, message) == []
    assert not network.gateway.engine._core.sas
    no_harm(network)


@pytest.mark.parametrize("version", [0x00, 0x1F, 0x10, 0x20, 0x2F, 0x30, 0xF0])
def test_h14_versions(version: int) -> None:
    network = alone()
    message = bytearray(first())
    message[17] = version
    tell(network, bytes(message))
    no_harm(network)
    assert len(network.gateway.engine._core.sas) == (version >> 4 == 1)


@pytest.mark.parametrize("kind", [33, 34, 35, 40, 41, 43, 46, 53, 0, 2, 3])
def test_h14_payloads_of_the_other_version(kind: int) -> None:
    network = alone()
    message = bytearray(first())
    message[16] = kind
    assert tell(network, bytes(message)) == []
    assert not network.gateway.engine._core.sas
    no_harm(network)


@pytest.mark.parametrize(
    "exchange",
    [ExchangeType.QUICK, ExchangeType.TRANSACTION, ExchangeType.INFORMATIONAL, ExchangeType.BASE],
)
@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
def test_h15_later_exchanges_before_phase_1_is_over(
    exchange: ExchangeType, encrypted: bool, after: int
) -> None:
    network = psk_pair()
    network.impair = lambda one: [one] if one.number < after else []
    connect(network)
    told = {State.MAIN_5_SENT, State.MAIN_1_SENT, State.MAIN_3_SENT}
    for host in network.hosts.values():
        for sa in list(host.engine._core.sas.values()):
            header = serialize_header(
                sa.initiator_spi, sa.responder_spi, 8, exchange, int(encrypted), 77, 28 + 64
            )
            peer = sa.path.remote
            before = (sa.state, sa.evidence)  # type: ignore[attr-defined]
            host.engine.receive(header + os.urandom(64), Path(sa.path.local, peer), network.now)
            assert (sa.state, sa.evidence) == before  # type: ignore[attr-defined]
            assert sa.state in told | {State.MAIN_2_SENT, State.MAIN_4_SENT} | UP  # type: ignore[attr-defined]
            assert host.engine.counters.get("internal_errors", 0) == 0


def test_h16_first_message_again_with_another_offer_is_another_sa() -> None:
    network = alone()
    assert tell(network, first())
    other = offers.to_payload(FAST, AuthMethod.PRE_SHARED_KEY, 1800)
    assert tell(network, first([other]))
    sas = list(network.gateway.engine._core.sas.values())
    assert len({sa.responder_spi for sa in sas}) == 2
    no_harm(network)


# -- 17: proposals -----------------------------------------------------------------------------


def transform(*attributes: tuple[int, int | bytes], number: int = 1, id_: int = 1) -> Transform:
    return Transform(number, id_, tuple(Attribute(kind, value) for kind, value in attributes))


GOOD: tuple[tuple[int, int | bytes], ...] = ((1, 7), (14, 128), (2, 4), (3, 1), (4, 19))


def offer(*transforms: Transform, protocol: int = 1, spi: bytes = b"") -> SecurityAssociation:
    return SecurityAssociation((Proposal(1, protocol, spi, transforms),))


def without(kind: int) -> tuple[tuple[int, int | bytes], ...]:
    return tuple(one for one in GOOD if one[0] != kind)


BAD_OFFERS = {
    "no transform": offer(),
    "no group": offer(transform(*without(4))),
    "no encryption": offer(transform(*without(1))),
    "no hash": offer(transform(*without(2))),
    "no authentication method": offer(transform(*without(3))),
    "no key length": offer(transform(*without(14))),
    "key length 0": offer(transform(*without(14), (14, 0))),
    "key length 7": offer(transform(*without(14), (14, 7))),
    "key length 65535": offer(transform(*without(14), (14, 65535))),
    "two key lengths": offer(transform(*GOOD, (14, 256))),
    "two groups": offer(transform(*GOOD, (4, 2))),
    "x25519": offer(transform(*without(4), (4, 31))),
    "private group": offer(transform(*without(4), (4, 1025))),
    "group 0": offer(transform(*without(4), (4, 0))),
    "a group of its own": offer(transform(*GOOD, (5, 1), (6, b"\x02" * 128))),
    "long value": offer(transform(*without(4), (4, b"\0" * 900 + b"\x13"))),
    "empty value": offer(transform(*without(4), (4, b""))),
    "its own prf": offer(transform(*GOOD, (13, 3))),
    "other transform": offer(transform(*GOOD, id_=2)),
    "esp": offer(transform(*GOOD), protocol=3, spi=b"spi!"),
    "no life at all": offer(transform(*GOOD, (11, 1), (12, 1))),
    "two proposals of which none is ours": SecurityAssociation(
        tuple(Proposal(n, 1, b"", (transform((1, 1)),)) for n in (1, 2))
    ),
}


@pytest.mark.parametrize("name", BAD_OFFERS)
def test_h17_proposals_that_mean_nothing(name: str) -> None:
    network = alone()
    answers = tell(network, first([BAD_OFFERS[name]]))
    assert not network.gateway.engine._core.sas
    for answer in answers:
        (notify,) = parse_message(answer).payloads
        assert isinstance(notify, Notify)
        assert notify.type == NotifyType.NO_PROPOSAL_CHOSEN
        assert len(answer) < 100
    no_harm(network)


def test_h17_one_good_transform_among_bad_ones_is_found() -> None:
    bad = [transform(*without(kind), number=kind) for kind in (1, 2, 4, 14)]
    network = alone()
    (answer,) = tell(network, first([offer(*bad, transform(*GOOD, number=9))]))
    chosen = find(parse_message(answer).payloads, SecurityAssociation)
    assert chosen is not None
    assert chosen.proposals[0].transforms[0].number == 9


def test_h17_an_answer_that_was_never_offered_is_not_taken() -> None:
    network = psk_pair()
    weak = offer(transform((1, 5), (2, 2), (3, 1), (4, 2)))

    def swap(one: Datagram) -> list[Datagram]:
        if one.sender == "gateway":
            parsed = parse_message(one.message)
            return [
                replace(
                    one,
                    message=serialize_message(
                        parsed.header.initiator_spi,
                        parsed.header.responder_spi,
                        exchange=2,
                        payloads=[weak],
                    ),
                )
            ]
        return [one]

    network.impair = swap
    connect(network)
    assert states(network.device) == [State.MAIN_1_SENT]
    network.pass_time(100)
    assert "unusable" in network.device.named("handshake_failed")[0].text


# -- 18, 19: key exchange and nonce ------------------------------------------------------------


def values(group: DhGroup) -> dict[str, bytes]:
    size = dh.PUBLIC_OCTETS[group]
    good = dh.generate(group).public
    found = {
        "empty": b"",
        "short": good[:-1],
        "long": good + b"\0",
        "zero": bytes(size),
        "one": bytes(size - 1) + b"\1",
        "ones": b"\xff" * size,
        "oversized": good * 8,
    }
    if group in PRIMES:
        prime = PRIMES[group]
        found |= {
            "p-1": (prime - 1).to_bytes(size, "big"),
            "p": prime.to_bytes(size, "big"),
            "p+1": (prime + 1).to_bytes(size, "big"),
        }
    else:
        found["off the curve"] = good[:-1] + bytes([good[-1] ^ 1])
    return found


@pytest.mark.parametrize("group", [DhGroup.ECP_256, DhGroup.MODP_1536])
@pytest.mark.parametrize("side", ["gateway", "device"])
@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
def test_h18_key_exchange_values(group: DhGroup, side: str, exchange: V1Exchange) -> None:
    name = "ecp256" if group is DhGroup.ECP_256 else "modp1536"
    suite = SuiteOffer.parse("ike", [f"aes128-sha256-{name}"])
    for value in values(group).values():
        network = psk_pair(exchange, ike_offer=suite)

        def swap(one: Datagram, value: bytes = value) -> list[Datagram]:
            header = parse_message_or_none(one.message)
            if header is None or one.sender == side:
                return [one]
            payloads = [
                KeyExchange(value) if isinstance(each, KeyExchange) else each for each in header[1]
            ]
            return [replace(one, message=rebuilt(one.message, payloads))]

        network.impair = swap
        connect(network)
        network.pass_time(5)
        no_harm(network)


def parse_message_or_none(message: bytes) -> tuple[object, tuple[Payload, ...]] | None:
    if message[19] & Flag.ENCRYPTION:
        return None
    parsed = parse_message(message)
    return parsed.header, parsed.payloads


def rebuilt(message: bytes, payloads: list[Payload]) -> bytes:
    first_type, body = serialize_payloads(payloads)
    head = bytearray(message[:28])
    head[16] = first_type
    struct.pack_into("!I", head, 24, 28 + len(body))
    return bytes(head) + body


@pytest.mark.parametrize("size", [0, 7, 257, 1000])
@pytest.mark.parametrize("side", ["gateway", "device"])
def test_h19_nonces(size: int, side: str) -> None:
    network = psk_pair()

    def swap(one: Datagram) -> list[Datagram]:
        parsed = parse_message_or_none(one.message)
        if parsed is None or one.sender == side:
            return [one]
        payloads = [Nonce(bytes(size)) if isinstance(p, Nonce) else p for p in parsed[1]]
        return [replace(one, message=rebuilt(one.message, payloads))]

    network.impair = swap
    connect(network)
    no_harm(network)


def test_h18_our_own_value_sent_back() -> None:
    network = psk_pair()
    mine: list[KeyExchange] = []

    def swap(one: Datagram) -> list[Datagram]:
        parsed = parse_message_or_none(one.message)
        if parsed is None:
            return [one]
        ke = find(parsed[1], KeyExchange)
        if ke is not None and one.sender == "device":
            mine.append(ke)
        if ke is None or one.sender != "gateway":
            return [one]
        payloads = [mine[0] if isinstance(p, KeyExchange) else p for p in parsed[1]]
        return [replace(one, message=rebuilt(one.message, payloads))]

    network.impair = swap
    connect(network)
    assert states(network.device) == [State.MAIN_3_SENT]
    no_harm(network)


# -- 20, 44: floods and amplification ----------------------------------------------------------


def test_h20_half_open_sas_are_bounded_per_source_and_in_all() -> None:
    settings = EngineSettings(half_open_limit=40, half_open_per_source=4)
    network = pair(gateway_v1(), device_v1(), settings=settings)
    for number in range(100):
        tell(network, first(spi_i=struct.pack("!Q", number + 1)))
    assert len(network.gateway.engine._core.sas) == 4
    for number in range(100):
        source = Endpoint(ip_address(f"203.0.113.{number + 10}"), 500)
        tell(network, first(spi_i=struct.pack("!Q", number + 1)), source)
    assert len(network.gateway.engine._core.sas) == 40 * V1_SHARE
    network.pass_time(40)
    assert not network.gateway.engine._core.sas
    assert len(network.gateway.engine._core.half_open) == 0
    connect(network)
    assert states(network.gateway) == [State.ESTABLISHED]


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
def test_h44_repeated_first_messages_get_few_answers(exchange: V1Exchange) -> None:
    network = psk_pair(exchange)
    network.impair = lambda one: []
    connect(network)
    message = network.sent[0].message
    network.impair = lambda one: [one]
    answers = [answer for _ in range(50) for answer in tell(network, message)]
    assert 1 <= len(answers) <= 1 + respond.MAX_REPEATED
    network.pass_time(25)
    sent = [one for one in network.sent if one.path.remote == SOURCE]
    assert len(sent) <= 1 + respond.MAX_REPEATED, "a responder sends nothing by itself"


def test_h44_answers_to_refused_offers_are_limited() -> None:
    network = alone()
    bad = BAD_OFFERS["no group"]
    answers = [
        answer
        for number in range(500)
        for answer in tell(network, first([bad], spi_i=struct.pack("!Q", number + 1)))
    ]
    assert len(answers) <= 20
    lines = [one for one in network.gateway.named("handshake_failed") if one.logged]
    assert len(lines) == 1


# -- 21: fragments -----------------------------------------------------------------------------


def fragment(sa: IkeSa, number: int, flags: int, piece: bytes, message: int = 1) -> bytes:
    payload = struct.pack("!BBHHBB", 0, 0, 8 + len(piece), message, number, flags) + piece
    head = serialize_header(
        sa.initiator_spi, sa.responder_spi, fragments.FRAGMENT, 2, 0, 0, 28 + len(payload)
    )
    return head + payload


def half_open() -> tuple[Network, IkeSa]:
    network = psk_pair()
    network.impair = lambda one: [one] if one.number < 4 else []
    connect(network)
    sa = only_sa(network.gateway)
    assert sa.state is State.MAIN_4_SENT
    return network, sa


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, 0, b"x")],
        [(33, 0, b"x")],
        [(255, 1, b"x")],
        [(1, 1, b"")],
        [(1, 1, b"x")],
        [(2, 1, b"x"), (3, 1, b"x")],
        [(5, 0, b"x"), (2, 1, b"x")],
        [(1, 0, b"x"), (1, 0, b"y")],
        [(n, 0, b"x" * 4000) for n in range(1, 33)],
        [(1, 1, b"\0" * 28)],
        [(2, 1, b"b" * 100), (1, 0, b"a" * 100)],
    ],
)
def test_h21_fragments(pieces: list[tuple[int, int, bytes]]) -> None:
    network, sa = half_open()
    for number, flags, piece in pieces:
        tell(network, fragment(sa, number, flags, piece), DEVICE)
    kept = sa.reassembly
    assert kept is None or kept._octets <= fragments.MAX_HALF_OPEN_OCTETS
    assert network.gateway.engine.counters.get("internal_errors", 0) == 0
    assert sa.state is State.MAIN_4_SENT


def test_h21_fragments_of_fragments_and_of_unknown_sas() -> None:
    network, sa = half_open()
    inner = fragment(sa, 1, 1, b"abc")
    tell(network, fragment(sa, 1, 1, inner), DEVICE)
    stranger = IkeSa(b"a" * 8, b"b" * 8, initiator=False, path=sa.path, now=0.0)
    for number in range(100):
        tell(network, fragment(stranger, 1, 0, b"x", number))
    assert network.gateway.engine.counters["fragments_refused"] == 100
    assert sa.state is State.MAIN_4_SENT


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
def test_h21_fragments_in_any_order_and_twice(exchange: V1Exchange) -> None:
    network = pair(*certificate_policies("rsa", exchange))
    waiting: list[Datagram] = []

    def shuffle(one: Datagram) -> list[Datagram]:
        if one.message[16] != fragments.FRAGMENT:
            return [one]
        waiting.append(one)
        if not struct.unpack_from("!B", one.message, 35)[0] & fragments.LAST:
            return []
        found = [*reversed(waiting), *waiting]
        waiting.clear()
        return found

    network.impair = shuffle
    for host in network.hosts.values():
        settings = replace(host.engine._core.settings, fragment_size=576)
        host.engine._core.settings = settings
    connect(network)
    assert any(one.message[16] == fragments.FRAGMENT for one in network.sent)
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)


# -- 23: what nobody vouches for ---------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", [1, 7, 14, 16, 18, 24, 24578, 36136])
def test_h23_unprotected_notifies_kill_nothing(after: int, kind: int) -> None:
    network = psk_pair()
    network.impair = lambda one: [one] if one.number < after else []
    connect(network)
    for host in network.hosts.values():
        for sa in list(host.engine._core.sas.values()):
            for message_id in (0, 9):
                message = serialize_message(
                    sa.initiator_spi,
                    sa.responder_spi,
                    exchange=ExchangeType.INFORMATIONAL,
                    payloads=[Notify(kind, b"", ProtocolId.ISAKMP)],
                    message_id=message_id,
                )
                host.engine.receive(message, sa.path, network.now)
    network.impair = lambda one: [one]
    network.pass_time(10)
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)


# -- 28, 29, 30: identities, certificates, proofs ----------------------------------------------


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
@pytest.mark.parametrize(
    "identity",
    ["eve@example.org", "ada.example.com", "192.0.2.77", "CN=ada", "keyid:ada@example.com"],
)
def test_h28_identities_that_the_connection_does_not_allow(
    identity: str, exchange: V1Exchange
) -> None:
    network = pair(
        gateway_v1(v1_exchange=exchange),
        device_v1(v1_exchange=exchange, local_id=Identity.parse(identity)),
    )
    connect(network)
    assert not UP & set(states(network.gateway)), said(network)
    assert not network.gateway.sas
    event = network.gateway.named("handshake_failed")[0]
    assert "no connection accepts the identity" in event.text
    assert network.gateway.engine.counters.get("internal_errors", 0) == 0


@pytest.mark.parametrize(
    ("protocol", "port", "fits"),
    [
        (0, 0, True),
        (17, 500, True),
        (17, 0, True),
        (17, 4500, True),
        (17, 53, False),
        (6, 500, False),
    ],
)
def test_h28_identities_of_another_protocol(protocol: int, port: int, fits: bool) -> None:
    network = alone()
    del network
    from gateway.ike.refusal import Refused
    from gateway.ike.v1 import proof

    claimed = Identification(2, b"ada.example.com", protocol, port)
    if fits:
        assert proof.peer_identity(claimed) == Identity(2, b"ada.example.com")
    else:
        with pytest.raises(Refused):
            proof.peer_identity(claimed)


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
def test_h29_certificate_of_another_authority(exchange: V1Exchange) -> None:
    ours, theirs = certificate_policies("rsa", exchange)
    stranger = credential("ada@example.com", "rsa", "Other CA")
    network = connect(pair(ours, replace(theirs, local_credential=stranger)))
    assert not UP & set(states(network.gateway)), said(network)
    assert network.gateway.named("handshake_failed")
    assert not network.gateway.sas
    assert not network.device.sas


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
def test_h29_responder_of_another_authority(exchange: V1Exchange) -> None:
    ours, theirs = certificate_policies("p256", exchange)
    stranger = credential("gw.example.com", "p256", "Other CA")
    network = connect(pair(replace(ours, local_credential=stranger), theirs))
    network.pass_time(120)
    assert not network.device.sas
    assert network.device.named("handshake_failed"), said(network)


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
def test_h29_certificate_of_somebody_else(exchange: V1Exchange) -> None:
    ours, theirs = certificate_policies("rsa", exchange)
    other = credential("bob@example.com", "rsa")
    network = connect(pair(ours, replace(theirs, local_credential=other)))
    assert not UP & set(states(network.gateway)), said(network)
    assert not network.gateway.sas


def test_h29_sha1_and_raw_hash_sizes_do_not_matter_but_the_key_does() -> None:
    ours, theirs = certificate_policies("rsa")
    network = connect(pair(ours, replace(theirs, peer_auth=PeerAuth(anchors=anchors("Other CA")))))
    network.pass_time(60)
    assert not network.device.sas
    assert network.device.named("handshake_failed")


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
def test_h30_wrong_key_proves_nothing(exchange: V1Exchange) -> None:
    wrong = PresharedKey(b"something else")
    network = pair(
        gateway_v1(v1_exchange=exchange),
        device_v1(
            v1_exchange=exchange, local_credential=wrong, peer_auth=PeerAuth(preshared_key=wrong)
        ),
    )
    connect(network)
    network.pass_time(120)
    no_harm(network)
    assert network.device.named("handshake_failed")
    if exchange is MAIN:
        event = network.gateway.named("handshake_failed")[0]
        assert event.fields["step"] == "main mode message 5"
        assert "pre-shared key is none of road" in event.text


@pytest.mark.parametrize("signature", [b"", b"\0", bytes(256), b"\xff" * 256, b"\1" * 1024])
@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_h30_signatures_that_fit_no_key(kind: str, signature: bytes) -> None:
    from gateway.ike.auth.methods import AuthenticationRefused
    from gateway.ike.v1 import signatures

    method = AuthMethod.RSA_SIGNATURES if kind == "rsa" else AuthMethod.ECDSA_SHA256_P256
    leaf = credential("ada@example.com", kind).certificates[0]
    for given in (signature, signature[:64].ljust(64, b"\0")):
        with pytest.raises(AuthenticationRefused):
            signatures.verify(leaf, method, b"h" * 32, given)


def test_h30_signature_with_a_digest_info_is_not_taken() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    from gateway.ike.auth.methods import AuthenticationRefused
    from gateway.ike.v1 import signatures

    mine = credential("ada@example.com", "rsa")
    signed = mine.signing_key.sign(b"h" * 32, padding.PKCS1v15(), hashes.SHA256())  # type: ignore[union-attr,call-arg,arg-type]
    with pytest.raises(AuthenticationRefused):
        signatures.verify(mine.certificates[0], AuthMethod.RSA_SIGNATURES, b"h" * 32, signed)
    fine = signatures.sign(mine, AuthMethod.RSA_SIGNATURES, b"h" * 32)
    signatures.verify(mine.certificates[0], AuthMethod.RSA_SIGNATURES, b"h" * 32, fine)


def test_h30_proofs_of_a_half_open_sa_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    network, sa = half_open()
    tried: list[bytes] = []
    tell_apart = receive.main_mode.receive_5
    monkeypatch.setitem(
        receive._SEALED,
        (State.MAIN_4_SENT, 2),
        lambda *args: (tried.append(args[2]), tell_apart(*args))[1],
    )
    for number in range(100):
        body = struct.pack("!I", number % 50) * 16
        head = serialize_header(sa.initiator_spi, sa.responder_spi, 5, 2, 1, 0, 28 + len(body))
        tell(network, head + body, DEVICE)
    assert len(tried) == receive.MAX_WRONG_PROOFS
    lines = [one for one in network.gateway.named("handshake_failed") if one.logged]
    assert len(lines) == 1
    assert sa.state is State.MAIN_4_SENT


# -- 36: aggressive mode -----------------------------------------------------------------------


def test_h36_aggressive_mode_is_off_unless_asked_for() -> None:
    network = connect(pair(gateway_v1(), device_v1(v1_exchange=AGGRESSIVE)))
    assert not network.gateway.engine._core.sas
    (event,) = network.gateway.named("handshake_failed")
    assert "wants aggressive mode, no connection allows it" in event.text
    for one in network.sent:
        if one.sender == "gateway":
            assert find(parse_message(one.message).payloads, Hash) is None


@pytest.mark.parametrize("kind", ["psk", "rsa", "hybrid"])
def test_h36_unknown_identities_get_the_same_kind_of_answer(kind: str) -> None:
    policies = {
        "psk": lambda: (gateway_v1(v1_exchange=AGGRESSIVE), device_v1(v1_exchange=AGGRESSIVE)),
        "rsa": lambda: certificate_policies("rsa", AGGRESSIVE),
        "hybrid": lambda: hybrid_policies(AGGRESSIVE),
    }[kind]
    shapes = []
    for identity in ("ada@example.com", "nobody@elsewhere.org"):
        ours, theirs = policies()
        network = pair(ours, replace(theirs, local_id=Identity.parse(identity)))
        network.impair = lambda one: [one] if one.number == 0 else []
        connect(network)
        message = b"".join(one.message for one in network.sent if one.sender == "gateway")
        answer = network.sent[1].message
        shapes.append(
            [(type(one).__name__, len(one.body())) for one in parse_message(answer).payloads]
            if answer[16] != fragments.FRAGMENT
            else len(message)
        )
    assert shapes[0] == shapes[1]


def test_h36_decoys_end_in_the_same_silence_as_wrong_keys() -> None:
    endings = []
    for identity in ("ada@example.com", "nobody@elsewhere.org"):
        network = pair(
            gateway_v1(v1_exchange=AGGRESSIVE),
            device_v1(v1_exchange=AGGRESSIVE, local_id=Identity.parse(identity)),
        )
        network.impair = lambda one: [one] if one.number == 0 else []
        connect(network)
        sa = only_sa(network.gateway)
        answers = []
        for flags in (0, 1):
            body = os.urandom(64) if flags else struct.pack("!BBH", 0, 0, 36) + bytes(32)
            head = serialize_header(
                sa.initiator_spi, sa.responder_spi, 8, 4, flags, 0, 28 + len(body)
            )
            answers += tell(network, head + body, DEVICE)
        endings.append((len(answers), sa.state))
        network.pass_time(40)
        assert not network.gateway.engine._core.sas
    assert endings[0] == endings[1] == (0, State.AGGRESSIVE_2_SENT)


def test_h36_cookies_of_a_refused_sa_are_dead() -> None:
    network = connect(pair(gateway_v1(), device_v1(local_id=Identity.parse("eve@example.org"))))
    assert not network.gateway.engine._core.sas
    before = len(network.sent)
    for one in list(network.sent):
        if one.sender == "device" and any(one.message[8:16]):
            network.gateway.engine.receive(one.message, Path(GATEWAY, DEVICE), network.now)
    network.collect()
    assert len(network.sent) == before
    assert not network.gateway.engine._core.sas


# -- 38, 39: DOI, situation, attributes ----------------------------------------------------------


@pytest.mark.parametrize(
    ("doi", "situation"),
    [(1, 0xFFFFFFFF), (0xFFFFFFFF, 1), (2, 1), (1, 0), (1, 3), (0xFFFFFFFF, 0xFFFFFFFF)],
)
def test_h38_other_domains_and_situations(doi: int, situation: int) -> None:
    network = alone()
    message = bytearray(first())
    struct.pack_into("!II", message, 32, doi, situation)
    tell(network, bytes(message))
    assert not network.gateway.engine._core.sas
    no_harm(network)


def test_h39_attribute_formats_and_lengths_flipped() -> None:
    network = alone()
    message = first()
    start = message.index(struct.pack("!HH", 0x8001, 7))
    for at in range(start, len(message)):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            changed = bytearray(message)
            changed[at] = value
            tell(network, bytes(changed))
    assert network.gateway.engine.counters.get("internal_errors", 0) == 0
    assert not UP & set(states(network.gateway))


# -- every message mutated, cut, reordered, reflected -------------------------------------------


POLICIES: dict[str, Callable[[], Network]] = {
    "psk-main": lambda: psk_pair(MAIN),
    "psk-aggressive": lambda: psk_pair(AGGRESSIVE),
    "p256-main": lambda: pair(*certificate_policies("p256", MAIN)),
    "p256-aggressive": lambda: pair(*certificate_policies("p256", AGGRESSIVE)),
    "hybrid-main": lambda: pair(*hybrid_policies(MAIN)),
    "hybrid-aggressive": lambda: pair(*hybrid_policies(AGGRESSIVE)),
}
LAST = {"main": 6, "aggressive": 3}


def number_of_messages(name: str) -> int:
    return LAST[name.split("-")[1]]


@pytest.mark.parametrize("name", POLICIES)
def test_h06_every_message_changed_in_many_places(name: str) -> None:
    """One message of the handshake is changed; the honest one never follows: nobody gets in."""
    for index in range(number_of_messages(name)):
        for step in range(12):
            network = POLICIES[name]()

            def change(one: Datagram, index: int = index, step: int = step) -> list[Datagram]:
                if one.number != index:
                    return [one]
                at = 28 + (len(one.message) - 28) * step // 12 if step else 20
                changed = bytearray(one.message)
                changed[at] ^= 1 << (step % 8)
                return [replace(one, message=bytes(changed))]

            network.impair = change
            connect(network)
            for host in network.hosts.values():
                assert host.engine.counters.get("internal_errors", 0) == 0, (index, step)
            ours, theirs = (
                {sa.spis: sa for sa in host.engine._core.sas.values() if isinstance(sa, IkeSa)}
                for host in network.hosts.values()
            )
            for spis in ours.keys() & theirs.keys():
                both = (ours[spis], theirs[spis])
                if all(sa.state is State.ESTABLISHED for sa in both):
                    assert both[0].keys == both[1].keys


@pytest.mark.parametrize("name", POLICIES)
def test_h05_every_message_cut_everywhere(name: str) -> None:
    network = POLICIES[name]()
    connect(network)
    messages = network.sent[: number_of_messages(name)]
    for one in messages:
        fresh = POLICIES[name]()
        fresh.impair = lambda datagram, one=one: [datagram] if datagram.number < one.number else []
        connect(fresh)
        host = fresh.gateway if one.sender == "device" else fresh.device
        for sa in list(host.engine._core.sas.values()):
            for size in range(0, len(one.message), 7):
                cut = bytearray(one.message[:size])
                if size >= 28:
                    cut[:8], cut[8:16] = sa.initiator_spi, sa.responder_spi
                    struct.pack_into("!I", cut, 24, size)
                host.engine.receive(bytes(cut), sa.path, fresh.now)
        assert host.engine.counters.get("internal_errors", 0) == 0
        assert not UP & set(states(host)) or one.number == 0


@pytest.mark.parametrize("name", POLICIES)
def test_messages_out_of_order_twice_and_reflected(name: str) -> None:
    network = POLICIES[name]()
    connect(network)
    count = number_of_messages(name)
    recorded = network.sent[:count]
    for stop in range(count):
        fresh = POLICIES[name]()
        fresh.impair = lambda one, stop=stop: [one] if one.number < stop else []
        connect(fresh)
        for host in fresh.hosts.values():
            before = states(host)
            sas = list(host.engine._core.sas.values())
            for one in recorded + list(fresh.sent):
                for sa in sas:
                    # Both what others sent, and our own messages, under this SA's cookies.
                    forged = sa.initiator_spi + sa.responder_spi + one.message[16:]
                    for _ in range(2):
                        if one in fresh.sent and one.sender != host.name:
                            continue
                        host.engine.receive(forged, sa.path, fresh.now)
            assert host.engine.counters.get("internal_errors", 0) == 0
            if not UP & set(before):
                assert not UP & set(states(host)), (stop, host.name, said(fresh))


@pytest.mark.parametrize("exchange", [MAIN, AGGRESSIVE])
@pytest.mark.parametrize("lost", range(6))
def test_any_one_lost_message_is_made_up_for(lost: int, exchange: V1Exchange) -> None:
    network = psk_pair(exchange)
    network.impair = lambda one: [] if one.number == lost else [one]
    connect(network)
    network.pass_time(8)
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)
    assert network.gateway.sas


def test_reflected_first_message_is_no_login() -> None:
    network = psk_pair()
    network.impair = lambda one: []
    connect(network)
    message = network.sent[0].message
    network.device.engine.receive(message, Path(DEVICE, SOURCE), network.now)
    assert network.device.engine.counters["messages_reflected"] == 1
    assert len(network.device.engine._core.sas) == 1


def test_parsers_of_the_harness_see_what_was_sent() -> None:
    parsed = parse_message(first())
    assert find(parsed.payloads, SecurityAssociation) == OFFER
    payloads, end = parse_payloads(parsed.header.next_payload, first()[28:])
    assert (len(payloads), end) == (1, len(first()) - 28)
    assert IdentityPattern.parse("*@example.com").matches(Identity.parse("ada@example.com"))
    assert PSK is not None

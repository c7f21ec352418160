"""Quick modes that must not work, and what a strange but honest one still gets."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from harness_v1 import device_v1, gateway_v1, only_sa, said, states
from harness_v2 import (
    DEVICE,
    GATEWAY,
    Datagram,
    Network,
    assert_consistent,
    connect,
    network_selector,
    pair,
)
from rogue_v1 import inject

from gateway.domain.endpoint import Path
from gateway.ike.crypto import dh
from gateway.ike.crypto.modp import PRIMES
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.registry import DhGroup
from gateway.ike.v1 import protect, quick_ids
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
    OriginalAddress,
    Payload,
    Proposal,
    ProtocolId,
    SecurityAssociation,
    Transform,
    UnknownPayload,
    VendorId,
    serialize_header,
    serialize_payloads,
)
from gateway.ike.v1.codec.registry import IdType
from gateway.ike.v1.sa import IkeSa, State

HERE = network_selector("10.1.0.0/16")
THERE = network_selector("10.2.0.0/16")
QUICK = ExchangeType.QUICK
SPI = b"\0\0\x40\1"
LIFE = (Attribute(1, 1), Attribute(2, 3600))
TUNNEL, CBC, SHA256 = Attribute(4, 1), Attribute(6, 256), Attribute(5, 5)
GOOD = (*LIFE, TUNNEL, SHA256, CBC)
NONCE = Nonce(b"n" * 20)
IDS = [quick_ids.from_selector(THERE), quick_ids.from_selector(HERE)]
MODP = int(DhGroup.MODP_2048)
WITH_GROUP = (*GOOD, Attribute(3, MODP))


def sa(*attributes: Attribute, spi: bytes = SPI, transform: int = 12) -> SecurityAssociation:
    return SecurityAssociation(
        (Proposal(1, ProtocolId.ESP, spi, (Transform(1, transform, attributes),)),)
    )


def up(offer: str = "aes256-sha256") -> Network:
    esp = SuiteOffer.parse("esp", [offer])
    network = connect(
        pair(
            gateway_v1(pool=None, local_ts=(HERE,), remote_ts=(THERE,), esp_offer=esp),
            device_v1(
                request_inner_address=False, local_ts=(THERE,), remote_ts=(HERE,), esp_offer=esp
            ),
        )
    )
    assert_up(network)
    return network


def assert_up(network: Network) -> None:
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)
    assert len(network.gateway.sas) == len(network.device.sas) == 1
    assert_consistent(network)
    for host in network.hosts.values():
        assert host.engine.counters.get("internal_errors", 0) == 0


def ask(network: Network, *payloads: Payload) -> list[Payload]:
    """What the gateway answers in quick mode to a first message of the device's."""
    return inject(network, network.device, payloads, QUICK).answers


def answers(network: Network, *payloads: Payload) -> bool:
    """Whether the gateway makes a child SA; the message 3 that is due never comes."""
    before = len(network.gateway.sas)
    core, device = network.device.engine._core, only_sa(network.device)
    sent = len(network.sent)
    inject(network, network.device, payloads, QUICK)
    del core, device
    quick = [
        one for one in network.sent[sent:] if one.sender == "gateway" and one.message[18] == QUICK
    ]
    made = len(network.gateway.sas) - before
    assert bool(quick) == bool(made)
    assert network.gateway.engine.counters.get("internal_errors", 0) == 0
    return bool(made)


def test_the_sample_itself_is_taken() -> None:
    network = up()
    assert answers(network, sa(*GOOD), NONCE, *IDS)
    network.pass_time(200)
    assert_up(network)


@pytest.mark.parametrize(
    "offered",
    [
        sa(*LIFE, TUNNEL, SHA256),
        sa(*LIFE, TUNNEL, SHA256, Attribute(6, 0)),
        sa(*LIFE, TUNNEL, SHA256, Attribute(6, 7)),
        sa(*LIFE, TUNNEL, SHA256, Attribute(6, 65535)),
        sa(*LIFE, TUNNEL, SHA256, CBC, Attribute(6, 128)),
        sa(*LIFE, TUNNEL, CBC),
        sa(*LIFE, SHA256, CBC),
        sa(*LIFE, Attribute(4, 2), SHA256, CBC),
        sa(*LIFE, Attribute(4, 3), SHA256, CBC),
        sa(*LIFE, Attribute(4, 61443), SHA256, CBC),
        sa(*LIFE, Attribute(4, 65535), SHA256, CBC),
        sa(*LIFE, TUNNEL, Attribute(5, 1), CBC),
        sa(*LIFE, TUNNEL, Attribute(5, bytes(9)), CBC),
        sa(Attribute(1, 1), Attribute(2, 1), TUNNEL, SHA256, CBC),
        sa(Attribute(1, 1), Attribute(2, 0), TUNNEL, SHA256, CBC),
        sa(*GOOD, Attribute(3, 1025)),
        sa(*GOOD, Attribute(3, 0)),
        sa(*GOOD, Attribute(3, 32768)),
        sa(*GOOD, Attribute(11, 7)),
        sa(*GOOD, Attribute(12, 1)),
        sa(*GOOD, Attribute(0x7FFF, b"?")),
        sa(*GOOD, Attribute(32202, 2)),
        sa(*GOOD, Attribute(32201, 1)),
        sa(*GOOD, transform=0),
        sa(*GOOD, transform=3),
        sa(*GOOD, transform=11),
        sa(*GOOD, transform=20),
        sa(*GOOD, transform=255),
        sa(),
        sa(*GOOD, spi=bytes(4)),
        sa(*GOOD, spi=b"\0\0\0\xff"),
        SecurityAssociation((Proposal(1, ProtocolId.ESP, SPI, ()),)),
        SecurityAssociation((Proposal(1, ProtocolId.AH, SPI, (Transform(1, 5, GOOD),)),)),
        SecurityAssociation((Proposal(1, ProtocolId.ISAKMP, b"", (Transform(1, 1, GOOD),)),)),
        SecurityAssociation((Proposal(1, 77, b"x" * 9, (Transform(1, 12, GOOD),)),)),
        SecurityAssociation(
            (
                Proposal(1, ProtocolId.ESP, SPI, (Transform(1, 12, GOOD),)),
                Proposal(1, ProtocolId.IPCOMP, b"\0\2", (Transform(1, 2, (TUNNEL,)),)),
            )
        ),
    ],
)
def test_h17_proposals_that_nobody_takes(offered: SecurityAssociation) -> None:
    network = up()
    assert not answers(network, offered, NONCE, *IDS)
    assert network.gateway.engine.counters["quick_modes_refused"] == 1
    (failure,) = network.gateway.named("handshake_failed")
    assert failure.fields["step"] == "quick mode"
    assert failure.fields["theirs"]
    assert_up(network)


def test_good_alternative_behind_bad_ones() -> None:
    network = up()
    bad = Proposal(1, ProtocolId.AH, SPI, (Transform(1, 5, GOOD),))
    bundle = (
        Proposal(2, ProtocolId.ESP, SPI, (Transform(1, 12, GOOD),)),
        Proposal(2, ProtocolId.IPCOMP, b"\0\2", (Transform(1, 2, (TUNNEL,)),)),
    )
    good = Proposal(3, ProtocolId.ESP, b"\1\1\1\1", (Transform(9, 3), Transform(4, 12, GOOD)))
    assert answers(network, SecurityAssociation((bad, *bundle, good)), NONCE, *IDS)
    made = list(network.gateway.sas.values())[-1]
    assert made.spi_out == 0x01010101


@pytest.mark.parametrize(
    "payloads",
    [
        [],
        [NONCE, *IDS],
        [sa(*GOOD), *IDS],
        [sa(*GOOD), NONCE, IDS[0]],
        [sa(*GOOD), NONCE, *IDS, IDS[0]],
        [KeyExchange(bytes(32)), NONCE],
        [Hash(bytes(32)), sa(*GOOD), NONCE, *IDS],
    ],
)
def test_h37_payloads_missing_or_too_many(payloads: list[Payload]) -> None:
    network = up()
    if payloads and isinstance(payloads[0], Hash):
        # A second HASH payload is a payload that is there twice.
        inject(network, network.device, payloads, QUICK)
    else:
        assert not answers(network, *payloads)
        assert network.gateway.named("handshake_failed")
    assert_up(network)


@pytest.mark.parametrize(
    "wrong",
    [
        Identification(IdType.FQDN, b"device.example.com"),
        Identification(IdType.USER_FQDN, b"ada@example.com"),
        Identification(IdType.DER_ASN1_DN, b"\x30\x80\xff"),
        Identification(IdType.KEY_ID, b"10.2.0.0/16"),
        Identification(0, bytes(4)),
        Identification(255, bytes(4)),
        Identification(IdType.IPV4_ADDR_SUBNET, bytes(4) + b"\xff\0\xff\0"),
        Identification(IdType.IPV4_ADDR_SUBNET, bytes(4) + b"\0\0\0\xff"),
        Identification(IdType.IPV4_ADDR_SUBNET, bytes(8)),
        Identification(IdType.IPV4_ADDR_RANGE, b"\x0a\2\0\2\x0a\2\0\1"),
        Identification(IdType.IPV4_ADDR_RANGE, b"\x0a\2\0\0\x0a\3\0\0"),
        Identification(IdType.IPV6_ADDR, bytes(16)),
    ],
)
def test_h28_identities_that_select_nothing_of_ours(wrong: Identification) -> None:
    network = up()
    assert not answers(network, sa(*GOOD), NONCE, wrong, IDS[1])
    assert not answers(network, sa(*GOOD), NONCE, IDS[0], wrong)
    assert network.gateway.engine.counters["quick_modes_refused"] == 2
    assert_up(network)


def test_host_bits_beside_the_mask_are_not_part_of_the_subnet() -> None:
    network = up()
    data = ip_address("10.2.9.9").packed + b"\xff\xff\0\0"
    odd = Identification(IdType.IPV4_ADDR_SUBNET, data)
    assert answers(network, sa(*GOOD), NONCE, odd, IDS[1])
    assert list(network.gateway.sas.values())[-1].remote_ts == (THERE,)


def test_without_identities_the_hosts_alone_are_meant() -> None:
    network = up()
    assert not answers(network, sa(*GOOD), NONCE)
    assert network.gateway.named("handshake_failed")


def public(number: int) -> KeyExchange:
    return KeyExchange(number.to_bytes(256, "big"))


@pytest.mark.parametrize(
    "theirs",
    [
        None,
        KeyExchange(b"\1"),
        KeyExchange(bytes(255)),
        KeyExchange(bytes(257)),
        public(0),
        public(1),
        public(PRIMES[DhGroup.MODP_2048] - 1),
        public(PRIMES[DhGroup.MODP_2048]),
        public(2**2048 - 1),
    ],
)
def test_h18_public_values_that_are_none(theirs: KeyExchange | None) -> None:
    network = up("aes256-sha256-modp2048")
    payloads: list[Payload] = [sa(*WITH_GROUP), NONCE, *([theirs] if theirs else []), *IDS]
    assert not answers(network, *payloads)
    assert network.gateway.engine.counters["quick_modes_refused"] == 1
    assert_up(network)


def test_h18_public_value_without_a_group() -> None:
    network = up()
    pair_ = dh.generate(MODP)
    assert not answers(network, sa(*GOOD), NONCE, KeyExchange(pair_.public), *IDS)
    assert_up(network)


def test_h18_no_pfs_where_it_is_required() -> None:
    network = up("aes256-sha256-modp2048")
    assert not answers(network, sa(*GOOD), NONCE, *IDS)


def test_payloads_that_do_not_belong_there_are_passed_over() -> None:
    network = up()
    extra: list[Payload] = [
        OriginalAddress(ip_address("192.0.2.77")),
        VendorId(b"who knows"),
        Notify(NotifyType.INITIAL_CONTACT),
        UnknownPayload(200, critical=True, data=b"?"),
        UnknownPayload(33, critical=True, data=bytes(40)),
    ]
    assert answers(network, sa(*GOOD), NONCE, *IDS, *extra)
    assert states(network.gateway) == [State.ESTABLISHED]


# -- authenticity ---------------------------------------------------------------------------


def _message(sa_: IkeSa, first: int, body: bytes, *, seal: bool = True) -> bytes:
    message_id = 0x0A0B0C0D
    if seal:
        body, _ = protect.encrypt(sa_, protect.first_iv(sa_, message_id), body)
    head = serialize_header(
        sa_.initiator_spi,
        sa_.responder_spi,
        first,
        QUICK,
        Flag.ENCRYPTION if seal else 0,
        message_id,
        28 + len(body),
    )
    return head + body


def no_hash(sa_: IkeSa, payloads: list[Payload]) -> bytes:
    return _message(sa_, *serialize_payloads(payloads))


def hash_last(sa_: IkeSa, payloads: list[Payload]) -> bytes:
    made = protect.phase2_hash(sa_, 0x0A0B0C0D, serialize_payloads(payloads)[1])
    return _message(sa_, *serialize_payloads([*payloads, Hash(made)]))


def hash_of_other_id(sa_: IkeSa, payloads: list[Payload]) -> bytes:
    made = protect.phase2_hash(sa_, 0x0A0B0C0E, serialize_payloads(payloads)[1])
    return _message(sa_, *serialize_payloads([Hash(made), *payloads]))


def hash_cut(sa_: IkeSa, payloads: list[Payload]) -> bytes:
    made = protect.phase2_hash(sa_, 0x0A0B0C0D, serialize_payloads(payloads)[1])
    return _message(sa_, *serialize_payloads([Hash(made[:16]), *payloads]))


def hash_of_less(sa_: IkeSa, payloads: list[Payload]) -> bytes:
    made = protect.phase2_hash(sa_, 0x0A0B0C0D, serialize_payloads(payloads[:-1])[1])
    return _message(sa_, *serialize_payloads([Hash(made), *payloads]))


def in_the_clear(sa_: IkeSa, payloads: list[Payload]) -> bytes:
    made = protect.phase2_hash(sa_, 0x0A0B0C0D, serialize_payloads(payloads)[1])
    return _message(sa_, *serialize_payloads([Hash(made), *payloads]), seal=False)


@pytest.mark.parametrize(
    "forge", [no_hash, hash_last, hash_of_other_id, hash_cut, hash_of_less, in_the_clear]
)
def test_h37_hash_missing_wrong_or_elsewhere(
    forge: Callable[[IkeSa, list[Payload]], bytes],
) -> None:
    network = up()
    sent = len(network.sent)
    message = forge(only_sa(network.device), [sa(*GOOD), NONCE, *IDS])
    network.gateway.engine.receive(message, Path(GATEWAY, DEVICE), network.now)
    network.run()
    assert len(network.sent) == sent
    assert len(network.gateway.sas) == 1
    assert not network.gateway.named("handshake_failed")
    assert_up(network)


def test_quick_mode_of_the_other_side_is_not_its_answer() -> None:
    """Message 1 of each side under the message id of the other's: neither is message 2."""
    network = up()
    sent: list[Datagram] = []

    def impair(datagram: Datagram) -> list[Datagram]:
        if datagram.message[18] == QUICK:
            sent.append(datagram)
            back = Path(datagram.path.remote, datagram.path.local)
            return [replace(datagram, path=back)]
        return [datagram]

    network.impair = impair
    (child,) = only_sa(network.device).children.values()
    network.device.engine.child_expired(child.spi_in, False, network.now)
    network.run()
    assert sent
    network.impair = lambda datagram: [datagram]
    network.pass_time(30)
    assert_up(network)


def test_commit_bit_is_ignored() -> None:
    def impair(datagram: Datagram) -> list[Datagram]:
        if datagram.message[18] != QUICK:
            return [datagram]
        message = bytearray(datagram.message)
        message[19] |= Flag.COMMIT
        return [replace(datagram, message=bytes(message))]

    network = pair(
        gateway_v1(pool=None, local_ts=(HERE,), remote_ts=(THERE,)),
        device_v1(request_inner_address=False, local_ts=(THERE,), remote_ts=(HERE,)),
    )
    network.impair = impair
    connect(network)
    assert_up(network)
    assert list(network.gateway.sending.values()) == [True]
    inject(
        network,
        network.gateway,
        [Notify(NotifyType.CONNECTED, protocol=ProtocolId.ESP)],
        ExchangeType.INFORMATIONAL,
    )
    assert_up(network)

"""Deletes, dead peer detection, notifies: authentic ones, old ones, and those of strangers."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from harness_v1 import device_v1, gateway_v1, only_sa, said, states
from harness_v2 import (
    DEVICE,
    GATEWAY,
    Datagram,
    Host,
    Network,
    assert_consistent,
    connect,
    make_engine,
    network_selector,
    pair,
)
from rogue_v1 import Rogue, inject

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.core import TimerKind
from gateway.ike.draft_features import PLAIN
from gateway.ike.policy import ConnectionPolicy, Lifetimes
from gateway.ike.v1 import exchange, protect, quick_ids
from gateway.ike.v1.codec import (
    Delete,
    ExchangeType,
    Flag,
    Hash,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    ProtocolId,
    serialize_header,
    serialize_message,
    serialize_payloads,
)
from gateway.ike.v1.dpd import DeadPeerDetection
from gateway.ike.v1.esp_offers import to_payload
from gateway.ike.v1.sa import IkeSa, State

HERE = (network_selector("10.1.0.0/16"),)
THERE = (network_selector("10.2.0.0/16"),)
INFORMATIONAL = ExchangeType.INFORMATIONAL


def site(**changes: object) -> tuple[ConnectionPolicy, ConnectionPolicy]:
    return (
        gateway_v1(pool=None, local_ts=HERE, remote_ts=THERE, **changes),
        device_v1(request_inner_address=False, local_ts=THERE, remote_ts=HERE, **changes),
    )


def up(**changes: object) -> Network:
    network = connect(pair(*site(**changes)))
    assert_up(network)
    return network


def assert_up(network: Network) -> None:
    assert states(network.gateway) == states(network.device) == [State.ESTABLISHED], said(network)
    assert len(network.gateway.sas) == len(network.device.sas) == 1
    assert_consistent(network)
    for host in network.hosts.values():
        assert host.engine.counters.get("internal_errors", 0) == 0


def from_device(network: Network, *payloads: Payload) -> None:
    inject(network, network.device, payloads, INFORMATIONAL)


def cookies(sa: IkeSa) -> bytes:
    return sa.initiator_spi + sa.responder_spi


# -- deletes --------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["gateway", "device"])
def test_delete_of_the_isakmp_sa_from_either_side(who: str) -> None:
    network = up()
    network.hosts[who].engine._core.wanted.clear()
    other = "device" if who == "gateway" else "gateway"
    network.hosts[other].engine._core.wanted.clear()
    network.hosts[who].engine.close_ike_sa(only_sa(network.hosts[who]).spis, "test", network.now)
    network.run()
    for host in network.hosts.values():
        assert not host.sas
        core = host.engine._core
        assert not core.sas
        assert not core.children
        assert not core.by_peer
        network.pass_time(100)
        assert not len(core.timers)
    assert network.gateway.named("ike_sa_closed")


@pytest.mark.parametrize("who", ["gateway", "device"])
def test_delete_of_a_child_sa_from_either_side(who: str) -> None:
    network = up()
    host = network.hosts[who]
    (child,) = only_sa(host).children.values()
    host.engine.child_refused(child.spi_in, "test", network.now)
    network.run()
    assert not network.gateway.sas
    assert not network.device.sas
    assert states(network.gateway) == [State.ESTABLISHED]
    network.pass_time(40)
    assert states(network.gateway) == [State.ESTABLISHED], "the device connects again"


def test_h24_deletes_twice_and_of_others() -> None:
    network = up()
    sa = only_sa(network.device)
    (child,) = sa.children.values()
    spi = child.spi_in.to_bytes(4, "big")
    out = child.spi_out.to_bytes(4, "big")
    for wrong in (
        Delete(ProtocolId.ESP, (b"\1\2\3\4",)),
        Delete(ProtocolId.ESP, (out,)),
        Delete(ProtocolId.AH, (spi,)),
        Delete(0, (spi,)),
        Delete(255, (spi,)),
        Delete(ProtocolId.ISAKMP, (bytes(16),)),
        Delete(ProtocolId.ISAKMP, (sa.responder_spi + sa.initiator_spi,)),
    ):
        from_device(network, wrong)
        assert len(network.gateway.sas) == 1
        assert states(network.gateway) == [State.ESTABLISHED]
    assert network.gateway.engine.counters["deletes_of_unknown_spi"] == 7
    from_device(network, Delete(ProtocolId.ESP, (spi, spi)), Delete(ProtocolId.ESP, (spi,)))
    assert not network.gateway.sas
    from_device(network, Delete(ProtocolId.ESP, (spi,)))
    assert network.gateway.engine.counters["deletes_of_unknown_spi"] == 8
    assert network.gateway.engine.counters.get("internal_errors", 0) == 0


def test_h24_delete_then_notifies_in_one_message() -> None:
    network = up()
    network.device.engine._core.wanted.clear()
    sa = only_sa(network.device)
    from_device(
        network,
        Delete(ProtocolId.ISAKMP, (cookies(sa), cookies(sa))),
        Delete(ProtocolId.ESP, (next(iter(sa.children)).to_bytes(4, "big"),)),
        Notify(NotifyType.R_U_THERE, b"\0\0\0\1", spi=cookies(sa)),
        Notify(NotifyType.INITIAL_CONTACT, spi=cookies(sa)),
        Notify(NotifyType.INVALID_SPI),
    )
    assert states(network.gateway) == []
    assert not network.gateway.sas
    assert network.gateway.engine.counters.get("internal_errors", 0) == 0


def two_devices() -> Network:
    network = pair(*site())
    other = replace(DEVICE, address=ip_address("198.51.100.8"))
    _, policy = site()
    policy = replace(policy, local=other, local_id=type(policy.local_id).parse("bob@example.com"))
    network.hosts["other"] = Host(make_engine([policy]), "other")
    network.where[other.address] = "other"
    connect(network)
    network.hosts["other"].engine.initiate("office", network.now)
    network.run()
    assert len(network.gateway.engine._core.sas) == 2
    return network


def test_h24_deletes_do_not_reach_another_peers_sas() -> None:
    network = two_devices()
    victim = only_sa(network.hosts["other"])
    (child,) = victim.children.values()
    from_device(
        network,
        Delete(ProtocolId.ISAKMP, (cookies(victim),)),
        Delete(ProtocolId.ESP, (child.spi_in.to_bytes(4, "big"),)),
        Notify(NotifyType.INITIAL_CONTACT, spi=cookies(victim)),
    )
    assert len(network.gateway.engine._core.sas) == 2
    assert len(network.gateway.sas) == 2


def test_initial_contact_ends_older_sas_of_the_same_peer() -> None:
    network = up()
    old = only_sa(network.gateway)
    network.device.engine = make_engine([site()[1]])
    network.device.sas.clear()
    network.device.sending.clear()
    connect(network)
    assert old.state is State.CLOSED
    assert_up(network)


# -- dead peer detection --------------------------------------------------------------------


def test_dpd_both_ways_and_only_when_silent() -> None:
    network = up(liveness_s=30.0)
    network.pass_time(200)
    assert_up(network)
    checks = sum(host.engine.counters["liveness_checks"] for host in network.hosts.values())
    # A question of one side is a sign of life for the other.
    assert 5 <= checks <= 14
    assert not any(host.engine.counters["retransmissions"] for host in network.hosts.values())


def test_dead_peer_is_noticed() -> None:
    network = up(liveness_s=30.0)
    network.device.engine._core.wanted.clear()
    network.impair = lambda datagram: []
    network.pass_time(60)
    assert states(network.gateway) == [State.ESTABLISHED]
    network.pass_time(100)
    for host in network.hosts.values():
        assert states(host) == []
        assert not host.sas
    assert any("dead peer detection" in text for text in said(network))


def test_lost_questions_are_asked_again_with_the_same_number() -> None:
    network = up(liveness_s=30.0)
    dropped: list[Datagram] = []

    def impair(datagram: Datagram) -> list[Datagram]:
        if datagram.message[18] == INFORMATIONAL and len(dropped) < 3:
            dropped.append(datagram)
            return []
        return [datagram]

    network.impair = impair
    network.pass_time(60)
    assert len(dropped) == 3
    assert_up(network)
    assert network.gateway.engine.counters["retransmissions_exhausted"] == 0


def test_esp_traffic_is_a_sign_of_life() -> None:
    ages: dict[int, float] = {}
    ours, theirs = site(liveness_s=30.0)
    network = pair(ours, theirs)
    network.gateway.engine._core.last_inbound = lambda spi_in: 1.0
    network.device.engine._core.last_inbound = lambda spi_in: 1.0
    connect(network)
    network.impair = lambda datagram: []
    network.pass_time(300)
    assert not ages
    assert states(network.gateway) == [State.ESTABLISHED]
    assert network.gateway.engine.counters["liveness_checks"] == 0


def test_no_dpd_without_the_vendor_id() -> None:
    network = up(liveness_s=30.0)
    for host in network.hosts.values():
        only_sa(host).peer.dpd = False
    network.impair = lambda datagram: []
    sent = len(network.sent)
    network.pass_time(200)
    assert len(network.sent) == sent
    assert states(network.gateway) == [State.ESTABLISHED]


def acknowledgements(network: Network) -> int:
    return sum(1 for one in network.sent if one.sender == "gateway")


def test_h42_replayed_sequence_numbers_are_not_answered() -> None:
    network = up()
    spi = cookies(only_sa(network.device))

    def ask(number: int, spi: bytes = spi) -> bool:
        before = acknowledgements(network)
        data = (number % 2**32).to_bytes(4, "big")
        from_device(network, Notify(NotifyType.R_U_THERE, data, spi=spi))
        return acknowledgements(network) > before

    assert ask(2**32 - 2)
    assert ask(2**32 - 1)
    assert ask(2**32 - 1), "asked again under another message id"
    assert ask(0), "it wraps"
    assert ask(5)
    assert not ask(4)
    assert not ask(2**32 - 1)
    assert not ask(6, bytes(16))
    assert ask(6)
    assert network.gateway.engine.counters["dpd_replayed"] == 2


@pytest.mark.parametrize("data", [b"", b"\0\0\1", bytes(5), bytes(4000)])
def test_h42_sequence_numbers_of_wrong_sizes(data: bytes) -> None:
    network = up()
    before = acknowledgements(network)
    from_device(network, Notify(NotifyType.R_U_THERE, data, spi=cookies(only_sa(network.device))))
    assert acknowledgements(network) == before


def test_h42_answers_that_nobody_asked_for() -> None:
    network = up(liveness_s=30.0)
    sa = only_sa(network.gateway)
    from_device(network, Notify(NotifyType.R_U_THERE_ACK, bytes(4), spi=cookies(sa)))
    assert network.gateway.engine.counters["dpd_ignored"] == 1
    network.impair = lambda datagram: []
    network.pass_time(31)
    assert isinstance(sa.dpd, DeadPeerDetection)
    assert sa.dpd.tries
    network.impair = lambda datagram: [datagram]
    wrong = ((sa.dpd.ours + 1) % 2**32).to_bytes(4, "big")
    from_device(network, Notify(NotifyType.R_U_THERE_ACK, wrong, spi=cookies(sa)))
    assert sa.dpd.tries


def test_h42_replayed_datagrams_change_nothing() -> None:
    network = up(liveness_s=30.0)
    network.pass_time(100)
    old = list(network.sent)
    sa = only_sa(network.gateway)
    seen = sa.last_inbound
    network.now += 5
    for datagram in old:
        network.deliver(datagram)
    network.queue.clear()
    network.collect()
    assert states(network.gateway) == [State.ESTABLISHED, State.MAIN_2_SENT]
    assert sa.last_inbound == seen
    network.queue.clear()
    network.pass_time(50)
    assert only_sa(network.gateway) is sa
    assert_up(network)


def test_answer_from_a_new_address_moves_the_peer() -> None:
    network = up(liveness_s=30.0)
    moved = Endpoint(ip_address("203.0.113.9"), 500)
    network.nat[DEVICE] = moved
    network.where[moved.address] = "device"
    network.pass_time(100)
    assert only_sa(network.gateway).path.remote == moved
    assert network.gateway.moves


# -- notifies -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [1, 4, 7, 11, 14, 16, 18, 24, 29, 8191, 16384, 24577, 65535])
def test_h23_authentic_notifies_alone_end_nothing(kind: int) -> None:
    network = up()
    from_device(network, Notify(kind, b"x" * 300, spi=cookies(only_sa(network.device))))
    from_device(network, *[Notify(kind)] * 100)
    assert_up(network)


def in_the_clear(sa: IkeSa, *payloads: Payload) -> bytes:
    return serialize_message(
        sa.initiator_spi,
        sa.responder_spi,
        exchange=INFORMATIONAL,
        payloads=payloads,
        message_id=0x01020304,
    )


def with_wrong_hash(sa: IkeSa, *payloads: Payload) -> bytes:
    first, body = serialize_payloads([Hash(bytes(32)), *payloads])
    sealed, _ = protect.encrypt(sa, protect.first_iv(sa, 0x01020304), body)
    return _sealed(sa, first, sealed)


def without_hash(sa: IkeSa, *payloads: Payload) -> bytes:
    first, body = serialize_payloads(payloads)
    sealed, _ = protect.encrypt(sa, protect.first_iv(sa, 0x01020304), body)
    return _sealed(sa, first, sealed)


def with_hash_behind(sa: IkeSa, *payloads: Payload) -> bytes:
    made = protect.phase2_hash(sa, 0x01020304, serialize_payloads(payloads)[1])
    first, body = serialize_payloads([*payloads, Hash(made)])
    sealed, _ = protect.encrypt(sa, protect.first_iv(sa, 0x01020304), body)
    return _sealed(sa, first, sealed)


def not_encrypted_though_it_says_so(sa: IkeSa, *payloads: Payload) -> bytes:
    first, body = serialize_payloads(payloads)
    return _sealed(sa, first, body + bytes(-len(body) % 16))


def _sealed(sa: IkeSa, first: int, body: bytes) -> bytes:
    head = serialize_header(
        sa.initiator_spi,
        sa.responder_spi,
        first,
        INFORMATIONAL,
        Flag.ENCRYPTION,
        0x01020304,
        28 + len(body),
    )
    return head + body


FORGERIES: list[Callable[..., bytes]] = [
    in_the_clear,
    with_wrong_hash,
    without_hash,
    with_hash_behind,
    not_encrypted_though_it_says_so,
]


@pytest.mark.parametrize("forge", FORGERIES)
def test_h23_unauthenticated_messages_change_nothing(forge: Callable[..., bytes]) -> None:
    network = up(liveness_s=0.0)
    sa = only_sa(network.gateway)
    mirrored = only_sa(network.device)
    (child,) = mirrored.children.values()
    sent = len(network.sent)
    for payload in (
        Delete(ProtocolId.ISAKMP, (cookies(sa),)),
        Delete(ProtocolId.ESP, (child.spi_in.to_bytes(4, "big"),)),
        Notify(NotifyType.R_U_THERE, b"\0\0\0\1", spi=cookies(sa)),
        Notify(NotifyType.INITIAL_CONTACT, spi=cookies(sa)),
        Notify(NotifyType.AUTHENTICATION_FAILED),
        Notify(NotifyType.PAYLOAD_MALFORMED),
    ):
        network.gateway.engine.receive(forge(mirrored, payload), Path(GATEWAY, DEVICE), network.now)
        network.run()
    assert len(network.sent) == sent
    assert sa.dpd is None
    assert_up(network)


def test_reflected_messages_change_nothing() -> None:
    network = up(liveness_s=30.0)
    network.pass_time(100)
    for datagram in list(network.sent):
        path = Path(datagram.path.remote, datagram.path.local)
        network.deliver(replace(datagram, path=path))
        network.run()
    assert_up(network)


def test_messages_of_sas_that_are_gone() -> None:
    network = up()
    network.pass_time(1)
    old = list(network.sent)
    network.device.engine.close_all(network.now)
    network.run()
    assert states(network.gateway) == []
    for datagram in old[4:]:
        network.deliver(datagram)
        network.run()
    assert not network.gateway.sas
    assert network.gateway.engine.counters.get("internal_errors", 0) == 0


# -- exchanges out of order -----------------------------------------------------------------


@pytest.mark.parametrize("kind", [0, 1, 3, 33, 34, 35, 36, 37, 240, 255])
def test_h14_other_exchange_types(kind: int) -> None:
    network = up()
    sa = only_sa(network.device)
    message = bytearray(without_hash(sa, Notify(NotifyType.R_U_THERE)))
    message[18] = kind
    network.gateway.engine.receive(bytes(message), Path(GATEWAY, DEVICE), network.now)
    network.run()
    assert_up(network)


def test_every_later_message_changed_in_every_octet() -> None:
    """One octet wrong: nothing raises, nothing is admitted, the SA lives on."""
    network = pair(*site(lifetimes=Lifetimes()))
    seen: list[Datagram] = []

    def impair(datagram: Datagram) -> list[Datagram]:
        kept = datagram.message[18] in (ExchangeType.QUICK, INFORMATIONAL)
        if not kept or len(seen) > 12:
            return [datagram]
        seen.append(datagram)
        changed = []
        for at in range(0, len(datagram.message), 3):
            message = bytearray(datagram.message)
            message[at] ^= 1 << (at % 8)
            changed.append(replace(datagram, message=bytes(message)))
            changed.append(replace(datagram, message=datagram.message[: at + 1]))
        return [*changed, datagram]

    network.impair = impair
    connect(network)
    assert_up(network)
    for host in network.hosts.values():
        host.engine._core.timers.set((TimerKind.LIVENESS, only_sa(host).local_spi), network.now + 1)
    network.pass_time(60)
    assert_up(network)


def test_h43_more_than_three_quick_modes_at_a_time() -> None:
    network = up()
    core, sa = network.device.engine._core, only_sa(network.device)
    assert sa.connection is not None
    for number in range(40):
        offer, _ = to_payload(sa, sa.connection, 0x10000 + number, None, PLAIN)
        ids = [quick_ids.from_selector(THERE[0]), quick_ids.from_selector(HERE[0])]
        rogue = Rogue(exchange.new_message_id(core, sa), initiator=True, now=network.now)
        rogue.iv = protect.first_iv(sa, rogue.message_id)
        rogue.sent = protect.seal(
            core,
            sa,
            rogue,
            [offer, Nonce(bytes(20)), *ids],
            exchange_type=ExchangeType.QUICK,
        )
        core.transmit(rogue.sent, sa.path)
    network.run()
    assert network.gateway.engine.counters["quick_modes_too_many"] == 37
    assert len(network.gateway.sas) == 1 + 3
    assert len(only_sa(network.gateway).exchanges) <= 8
    network.pass_time(200)
    assert len(network.gateway.sas) == 1
    assert list(network.gateway.sending.values()) == [True]

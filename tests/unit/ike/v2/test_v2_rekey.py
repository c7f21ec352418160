"""Rekeying of both SA kinds, its collisions, its refusals, deletes."""

import itertools

import pytest
from harness_v2 import (
    Host,
    Network,
    assert_consistent,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    make_engine,
    sa_of,
)

from gateway.ike.codec import Delete, Notify
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.outputs import RemoveChildSa
from gateway.ike.policy import Lifetimes
from gateway.ike.registry import NotifyType, ProtocolId
from gateway.ike.sa import ChildState
from gateway.ike.v2 import deleting, rekey, rekey_ike
from gateway.ike.v2.sa import State

SIDES = ("gateway", "device")
NEVER = Lifetimes(ike_rekey_s=1e9, child_rekey_s=1e9)


def quiet(**more: object) -> Network:
    """Connected, without rekeying on its own and without liveness checks."""
    options = {"lifetimes": NEVER, "liveness_s": 0, **more}
    return connected(gateway_policy(**options), device_policy(**options))


def core(host: Host):  # noqa: ANN201
    return host.engine._core


def only_child(host: Host):  # noqa: ANN201
    (child,) = sa_of(host).children.values()
    return child


def start_child_rekey(network: Network, side: str) -> None:
    host = network.hosts[side]
    rekey.rekey_child(core(host), sa_of(host), only_child(host), network.now)


def start_ike_rekey(network: Network, side: str) -> None:
    host = network.hosts[side]
    rekey_ike.rekey_ike(core(host), sa_of(host), network.now)


def check_one_of_each(network: Network) -> None:
    for host in network.hosts.values():
        assert len(core(host).sas) == 1, [sa.state for sa in core(host).sas.values()]
        assert len(host.sas) == 1
        assert all(host.sending.values())
        assert host.engine.counters["internal_errors"] == 0
        child = only_child(host)
        assert child.state is ChildState.INSTALLED
        assert child.replaced_by is None
    assert_consistent(network)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("pfs", ["aes256gcm16", "aes256gcm16-x25519", "aes128gcm16-ecp256"])
def test_child_rekey(side: str, pfs: str) -> None:
    network = quiet(esp_offer=SuiteOffer.parse("esp", [pfs]))
    (before,) = network.gateway.sas.values()
    start_child_rekey(network, side)
    network.run()
    network.pass_time(10)
    check_one_of_each(network)
    (after,) = network.gateway.sas.values()
    assert after.spi_in != before.spi_in
    assert after.reqid == before.reqid
    assert after.keys_in != before.keys_in
    assert (after.local_ts, after.remote_ts) == (before.local_ts, before.remote_ts)


@pytest.mark.parametrize("side", SIDES)
def test_no_packet_is_lost_while_rekeying(side: str) -> None:
    """At every moment what one side sends with, the other side receives with."""
    network = quiet()
    other = {"gateway": "device", "device": "gateway"}

    def check() -> None:
        for name, host in network.hosts.items():
            newest = [sa for sa in host.sas.values() if host.sending[sa.spi_in]][-1]
            receiving = {sa.spi_in for sa in network.hosts[other[name]].sas.values()}
            assert newest.spi_out in receiving

    start_child_rekey(network, side)
    while True:
        network.collect()
        if not network.queue:
            break
        network.deliver(network.queue.pop(0))
        network.collect()
        check()
    for _ in range(20):
        network.pass_time(1)
        check()


def test_old_inbound_sa_stays_a_little_after_the_delete() -> None:
    network = quiet()
    start_child_rekey(network, "device")
    network.run()
    assert len(network.gateway.sas) == 2
    network.pass_time(10)
    assert len(network.gateway.sas) == 1


def test_responder_sends_on_the_new_sa_only_after_the_delete_of_the_old() -> None:
    network = quiet()
    start_child_rekey(network, "device")
    network.collect()
    (request,) = network.queue
    network.queue = []
    network.deliver(request)
    network.collect()
    assert sorted(network.gateway.sending.values()) == [False, True]
    network.run()
    assert all(network.gateway.sending.values())


def test_responder_activates_by_itself_when_no_delete_comes() -> None:
    network = quiet()
    start_child_rekey(network, "device")
    network.impair = lambda d: [d] if d.sender == "gateway" or len(network.sent) < 6 else []
    network.run()
    network.pass_time(5)
    assert all(network.gateway.sending.values())


@pytest.mark.parametrize("attempt", range(6))
def test_h25_crossing_child_rekeys(attempt: int) -> None:
    network = quiet()
    for side in SIDES:
        start_child_rekey(network, side)
    network.run()
    network.pass_time(15)
    check_one_of_each(network)


@pytest.mark.parametrize(
    "lost", [{0}, {1}, {2}, {3}, {0, 1}, {2, 3}, {0, 3}, {1, 2}, {4}, {5}, {6}, {4, 5}, {2, 5, 6}]
)
def test_h25_crossing_child_rekeys_with_losses(lost: set[int]) -> None:
    for _ in range(3):
        network = quiet()
        base = len(network.sent)
        network.impair = lambda d, base=base: [] if d.number - base in lost else [d]
        for side in SIDES:
            start_child_rekey(network, side)
        network.run()
        network.pass_time(60)
        check_one_of_each(network)


@pytest.mark.parametrize("side", SIDES)
def test_ike_rekey(side: str) -> None:
    network = quiet()
    before = sa_of(network.gateway).spis
    start_ike_rekey(network, side)
    network.run()
    check_one_of_each(network)
    assert sa_of(network.gateway).spis != before
    assert sa_of(network.gateway).spis == sa_of(network.device).spis
    assert sa_of(network.gateway).inner_address is not None
    assert core(network.gateway).pools["road"].in_use == 1
    assert not network.gateway.named("ike_sa_closed")
    start_child_rekey(network, side)
    network.run()
    network.pass_time(10)
    check_one_of_each(network)
    network.device.engine.close_all(network.now)
    network.run()
    assert core(network.gateway).pools["road"].in_use == 0


@pytest.mark.parametrize("attempt", range(6))
def test_h25_crossing_ike_rekeys(attempt: int) -> None:
    network = quiet()
    for side in SIDES:
        start_ike_rekey(network, side)
    network.run()
    network.pass_time(40)
    check_one_of_each(network)
    assert sa_of(network.gateway).spis == sa_of(network.device).spis


@pytest.mark.parametrize(
    "lost", [{0}, {1}, {2}, {3}, {0, 1}, {2, 3}, {0, 3}, {1, 2}, {4}, {5}, {4, 5}, {2, 5, 6}]
)
def test_h25_crossing_ike_rekeys_with_losses(lost: set[int]) -> None:
    for _ in range(3):
        network = quiet()
        base = len(network.sent)
        network.impair = lambda d, base=base: [] if d.number - base in lost else [d]
        for side in SIDES:
            start_ike_rekey(network, side)
        network.run()
        network.pass_time(90)
        check_one_of_each(network)
        assert sa_of(network.gateway).spis == sa_of(network.device).spis


def test_h25_child_rekey_crosses_ike_rekey() -> None:
    for first, second in itertools.permutations(SIDES):
        network = quiet()
        start_child_rekey(network, first)
        start_ike_rekey(network, second)
        network.run()
        network.pass_time(120)
        check_one_of_each(network)


def test_h25_rekey_of_a_child_that_is_being_deleted() -> None:
    network = quiet()
    gateway, device = network.gateway, network.device
    deleting.delete_child(core(gateway), sa_of(gateway), only_child(gateway), "test", network.now)
    start_child_rekey(network, "device")
    network.run()
    network.pass_time(20)
    assert len(network.gateway.sas) == len(network.device.sas)
    assert device.engine.counters["internal_errors"] == 0


def test_h25_rekey_during_ike_delete() -> None:
    network = quiet()
    gateway = network.gateway
    start_child_rekey(network, "device")
    (spi,) = [sa.spis for sa in gateway.engine.ike_sas(0)]
    gateway.engine.close_ike_sa(spi, "test", network.now)
    network.run()
    assert not gateway.sas
    assert not core(gateway).sas
    assert not network.device.sas
    network.pass_time(60)
    assert len(established(gateway)) == 1


def test_unknown_child_is_answered_child_sa_not_found_and_replaced() -> None:
    network = quiet()
    gateway = network.gateway
    child = only_child(gateway)
    core(gateway).drop_child(sa_of(gateway), child)
    core(gateway).outputs.append(RemoveChildSa(child.spi_in))
    start_child_rekey(network, "device")
    network.run()
    assert gateway.engine.counters["rekeys_of_unknown_child"] == 1
    assert len(network.gateway.sas) == 1
    assert_consistent(network)


def test_invalid_ke_payload_in_create_child_sa() -> None:
    network = connected(
        gateway_policy(esp_offer=SuiteOffer.parse("esp", ["aes256gcm16-ecp256"]), lifetimes=NEVER),
        device_policy(
            esp_offer=SuiteOffer.parse("esp", ["aes256gcm16-x25519-ecp256"]), lifetimes=NEVER
        ),
    )
    start_child_rekey(network, "device")
    network.run()
    network.pass_time(10)
    check_one_of_each(network)
    assert network.device.engine.counters["create_child_refused"] == 1


def test_lifetimes_rekey_by_themselves_for_days() -> None:
    life = Lifetimes(ike_rekey_s=3000, child_rekey_s=700)
    network = connected(gateway_policy(lifetimes=life), device_policy(lifetimes=life))
    network.pass_time(86_400)
    for host in network.hosts.values():
        assert host.engine.counters["internal_errors"] == 0
        assert host.engine.counters["ike_sas_rekeyed"] > 20
        assert host.engine.counters["child_sas_rekeyed"] > 100
        assert len(core(host)._reqids) == 1
        assert len(core(host).timers) < 16
    assert len(established(network.gateway)) == 1


def test_soft_limit_rekeys_and_hard_limit_deletes() -> None:
    network = quiet()
    (spi,) = network.gateway.sas
    network.gateway.engine.child_expired(spi, hard=False, now=network.now)
    network.run()
    network.pass_time(10)
    check_one_of_each(network)
    (new,) = network.gateway.sas
    assert new != spi
    network.gateway.engine.child_expired(new, hard=True, now=network.now)
    network.run()
    assert not network.gateway.sas
    assert not network.device.sas
    network.gateway.engine.child_expired(0xDEAD, hard=True, now=network.now)


def test_temporary_failure_while_the_ike_sa_is_being_rekeyed() -> None:
    network = quiet()
    start_ike_rekey(network, "gateway")
    network.gateway.engine.take_outputs()
    start_child_rekey(network, "device")
    network.run()
    assert network.gateway.engine.counters["create_child_refused"] == 1
    network.pass_time(60)
    check_one_of_each(network)


def test_h24_delete_twice_and_delete_of_a_foreign_spi() -> None:
    network = quiet()
    device, gateway = network.device, network.gateway
    spi = only_child(device).spi_in.to_bytes(4, "big")

    class Deletes(deleting.exchange.Exchange):
        name = "deletes"
        exchange_type = 37

        def __init__(self, *payloads: object) -> None:
            self.payloads = list(payloads)

        def request(self, core: object, sa: object, now: float) -> list[object]:
            return self.payloads

        def response(self, core: object, sa: object, view: object, now: float) -> None:
            self.answer = view

    def send(*payloads: object) -> Deletes:
        one = Deletes(*payloads)
        deleting.exchange.begin(core(device), sa_of(device), one, network.now)
        network.run()
        return one

    foreign = send(Delete(ProtocolId.ESP, (b"\x12\x34\x56\x78",)))
    assert not foreign.answer.deletes
    assert len(gateway.sas) == 1
    for protocol, spis in ((0, ()), (255, ()), (ProtocolId.AH, (spi,))):
        assert not send(Delete(protocol, spis)).answer.deletes
        assert len(gateway.sas) == 1
    first = send(Delete(ProtocolId.ESP, (spi, spi)))
    assert len(first.answer.deletes[0].spis) == 1
    assert not gateway.sas
    again = send(Delete(ProtocolId.ESP, (spi,)))
    assert not again.answer.deletes
    assert established(gateway)
    # A Delete and a notify about the deleted SA in one message.
    send(Delete(ProtocolId.IKE), Notify(NotifyType.UPDATE_SA_ADDRESSES))
    assert not core(gateway).sas
    assert gateway.engine.counters["internal_errors"] == 0


def test_h25_create_child_sa_on_an_unestablished_sa_is_dropped() -> None:
    network = Network(
        Host(make_engine([gateway_policy()]), "gateway"),
        Host(make_engine([device_policy()]), "device"),
    )
    network.device.engine.initiate("office", network.now)
    network.impair = lambda d: [] if d.number > 1 else [d]
    network.run()
    (half_open,) = core(network.gateway).sas.values()
    assert half_open.state is State.HALF_OPEN
    (initiating,) = core(network.device).sas.values()
    # Keys are there, but nobody has proven anything: a rekey request must not count.
    initiating.state = State.ESTABLISHED
    network.impair = lambda d: [d]
    initiating.window.outstanding = None
    initiating.window.next_request = 1
    rekey_ike.rekey_ike(core(network.device), initiating, network.now)
    network.run()
    assert half_open.state is State.HALF_OPEN
    assert network.gateway.engine.counters["requests_out_of_state"] == 1
    assert len(core(network.gateway).sas) == 1


def test_more_children_than_allowed() -> None:
    network = quiet()
    for _ in range(20):
        rekey.create(core(network.device), sa_of(network.device), network.now)
        network.run()
    assert len(network.gateway.sas) == 16
    assert network.gateway.engine.counters["create_child_refused"] == 5
    assert_consistent(network)
    assert len({sa.reqid for sa in network.gateway.sas.values()}) == 16


def test_traffic_brings_a_connection_up_with_its_reserved_reqid() -> None:
    network = Network(
        Host(make_engine([gateway_policy()]), "gateway"),
        Host(make_engine([device_policy()]), "device"),
    )
    reqid = network.device.engine.reserve_reqid("office")
    network.device.engine.traffic_waiting(reqid, network.now)
    network.device.engine.traffic_waiting(reqid, network.now)
    network.device.engine.traffic_waiting(12345, network.now)
    network.run()
    (sa,) = network.device.sas.values()
    assert sa.reqid == reqid
    assert connect

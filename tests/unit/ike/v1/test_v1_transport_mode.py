"""Transport mode of IKEv1 (RFC 3947, 3948, 3193): whose addresses, who is refused, who is known."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest
from harness_v1 import device_v1, gateway_v1, only_sa, said, states
from harness_v2 import DEVICE, GATEWAY, Host, Network, assert_consistent, connect, make_engine, pair
from rogue_v1 import Rogue

from gateway.domain.child_sa import Mode, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.policy import Lifetimes
from gateway.ike.v1 import exchange, quick_initiator
from gateway.ike.v1.codec import (
    Attribute,
    ExchangeType,
    Identification,
    Nonce,
    OriginalAddress,
    Payload,
    Proposal,
    ProtocolId,
    SecurityAssociation,
    Transform,
)
from gateway.ike.v1.quick import Wanted
from gateway.ike.v1.sa import State

QUICK = ExchangeType.QUICK
OWN = Endpoint(ip_address("10.0.0.7"), 500)
OUTSIDE = Endpoint(ip_address("198.51.100.99"), 40000)
UDP, L2TP = 17, 1701
SHORT = Lifetimes(child_rekey_s=100, child_over_s=40, jitter=0)
OTHERS = Identity.parse("eve@example.com")


class RogueQuick(Rogue):
    """Message 1 of quick mode, and what comes back."""

    __slots__ = ()
    exchange_type = QUICK
    in_record = "rogue"


def hosts(**changes: object) -> Network:
    return pair(
        gateway_v1(pool=None, subnets=(), mode=Mode.TRANSPORT, **changes),
        device_v1(request_inner_address=False, mode=Mode.TRANSPORT),
    )


def behind_nat(network: Network) -> Network:
    network.device.engine._core.connections["office"] = replace(
        network.device.engine._core.connections["office"], local=OWN
    )
    network.where[OWN.address] = "device"
    network.nat = {OWN: OUTSIDE, replace(OWN, port=4500): replace(OUTSIDE, port=40001)}
    return network


def only_child(host: Host) -> object:
    (sa,) = host.sas.values()
    return sa


def refusals(host: Host) -> list[str]:
    return [event.text for event in host.events if event.name == "handshake_failed"]


def offer(mode: int) -> SecurityAssociation:
    attributes = (
        Attribute(1, 1),
        Attribute(2, 3600),
        Attribute(4, mode),
        Attribute(5, 5),
        Attribute(6, 256),
    )
    proposal = Proposal(1, ProtocolId.ESP, b"\x12\x34\x56\x78", (Transform(1, 12, attributes),))
    return SecurityAssociation((proposal,))


def host_id(address: str, *, protocol: int = UDP, port: int = L2TP) -> Identification:
    return Identification(1, IPv4Address(address).packed, protocol, port)


def ask(network: Network, mode: int, theirs: Identification, ours: Identification) -> list[Payload]:
    nonce = bytes(range(32))
    payloads = [offer(mode), Nonce(nonce), theirs, ours]
    core, sa = network.device.engine._core, only_sa(network.device)
    rogue = RogueQuick(exchange.new_message_id(core, sa), initiator=True, now=network.now)
    rogue.answers = []
    assert exchange.add(sa, rogue)
    exchange.send(core, sa, rogue, payloads, network.now)
    rogue.hash_prefix = nonce
    network.run()
    exchange.forget(core, sa, rogue)
    return rogue.answers


# -- what is agreed -------------------------------------------------------------------------


def test_the_hosts_are_the_selectors() -> None:
    network = connect(hosts())
    assert states(network.gateway) == [State.ESTABLISHED], said(network)
    child = only_child(network.gateway)
    assert child.mode is only_child(network.device).mode is Mode.TRANSPORT
    assert child.local_ts == (TrafficSelector.of_address(GATEWAY.address),)
    assert child.remote_ts == (TrafficSelector.of_address(DEVICE.address),)
    assert_consistent(network)


def test_behind_a_nat_each_side_has_the_addresses_that_it_sees() -> None:
    network = connect(behind_nat(hosts()))
    assert states(network.gateway) == [State.ESTABLISHED], said(network)
    ours, theirs = only_child(network.gateway), only_child(network.device)
    assert ours.udp_encapsulation
    assert ours.remote_ts == (TrafficSelector.of_address(OUTSIDE.address),)
    assert theirs.local_ts == (TrafficSelector.of_address(OWN.address),)
    assert ours.keys_in == theirs.keys_out


@pytest.mark.parametrize("natted", [False, True])
def test_rekeying_by_either_side_succeeds(natted: bool) -> None:
    network = hosts(lifetimes=SHORT)
    connect(behind_nat(network) if natted else network)
    first = only_child(network.gateway)
    network.pass_time(130)
    second = only_child(network.gateway)
    assert (second.reqid, second.local_ts, second.remote_ts, second.mode) == (
        first.reqid,
        first.local_ts,
        first.remote_ts,
        Mode.TRANSPORT,
    )
    assert second.spi_in != first.spi_in
    core, sa = network.device.engine._core, only_sa(network.device)
    (child,) = sa.children.values()
    wanted = Wanted(child.local_ts[0], child.remote_ts[0], old=child.spi_in)
    quick_initiator.begin(core, sa, wanted, network.now)
    network.pass_time(10)
    assert only_child(network.gateway).spi_in not in (first.spi_in, second.spi_in)
    assert not refusals(network.gateway)


def test_what_an_l2tp_client_behind_a_nat_says_is_answered_word_for_word() -> None:
    network = connect(behind_nat(hosts()))
    theirs, ours = host_id("10.0.0.7"), host_id("192.0.2.1")
    answers = ask(network, 4, theirs, ours)
    assert [one for one in answers if isinstance(one, Identification)] == [theirs, ours]
    originals = [one.address for one in answers if isinstance(one, OriginalAddress)]
    assert originals == [OUTSIDE.address, GATEWAY.address]
    (child,) = [one for one in network.gateway.sas.values() if one.remote_ts[0].protocol]
    assert child.remote_ts == (TrafficSelector(OUTSIDE.address, OUTSIDE.address, UDP, L2TP, L2TP),)
    assert child.local_ts == (TrafficSelector(GATEWAY.address, GATEWAY.address, UDP, L2TP, L2TP),)


def test_without_a_nat_nobody_speaks_of_original_addresses() -> None:
    network = connect(hosts())
    answers = ask(network, 2, host_id("198.51.100.7", port=0), host_id("192.0.2.1"))
    assert answers
    assert not [one for one in answers if isinstance(one, OriginalAddress)]


# -- what is not ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (host_id("10.0.0.7"), host_id("192.0.2.1")),
        (host_id("198.51.100.7"), host_id("10.1.0.1")),
        (Identification(4, bytes.fromhex("c6336400ffffff00")), host_id("192.0.2.1")),
        (Identification(4, bytes(8)), host_id("192.0.2.1")),
        (Identification(2, b"laptop.example.com"), host_id("192.0.2.1")),
        (Identification(5, bytes(15) + b"\1"), Identification(5, bytes(15) + b"\2")),
    ],
)
def test_sides_that_are_not_the_hosts_are_refused(
    theirs: Identification, ours: Identification
) -> None:
    network = connect(hosts())
    before = dict(network.gateway.sas)
    assert not ask(network, 2, theirs, ours)
    assert network.gateway.sas == before
    assert network.gateway.engine.counters["quick_modes_refused"] == 1
    assert not network.gateway.engine.counters["internal_errors"]


@pytest.mark.parametrize("mode", [1, 3, 61443, 4, 61444])
def test_other_modes_are_refused(mode: int) -> None:
    network = connect(hosts())
    assert not ask(network, mode, host_id("198.51.100.7"), host_id("192.0.2.1"))
    assert any("transport is needed" in text for text in refusals(network.gateway))


def test_transport_mode_is_refused_where_the_connection_has_tunnel_mode() -> None:
    network = connect(
        pair(
            gateway_v1(),
            device_v1(request_inner_address=False, mode=Mode.TRANSPORT),
        )
    )
    assert not network.gateway.sas
    assert refusals(network.gateway)


# -- two devices behind one NAT -------------------------------------------------------------


def second_device(network: Network, identity: str) -> Host:
    """Behind the same NAT, with a private address and ports of its own."""
    policy = device_v1(
        request_inner_address=False, mode=Mode.TRANSPORT, local_id=Identity.parse(identity)
    )
    there = Endpoint(ip_address("10.0.0.8"), 500)
    host = Host(make_engine([replace(policy, local=there)]), "second")
    network.hosts["second"] = host
    network.where[there.address] = "second"
    network.nat |= {
        there: replace(OUTSIDE, port=50000),
        replace(there, port=4500): replace(OUTSIDE, port=50001),
    }
    host.engine._core.trace = True
    host.engine.initiate("office", network.now)
    network.run()
    return host


def test_a_second_device_behind_the_nat_does_not_get_what_is_for_the_first() -> None:
    network = connect(behind_nat(hosts(remote_id=IdentityPattern.parse("*@example.com"))))
    first = only_child(network.gateway)
    second_device(network, "eve@example.com")
    assert only_child(network.gateway) == first
    assert any("cannot be told apart" in text for text in refusals(network.gateway))
    network.device.engine.close_all(network.now)
    network.run()
    network.pass_time(60)
    assert only_child(network.gateway).remote.port == 50001, said(network)


def test_the_same_device_that_comes_again_is_let_in() -> None:
    network = connect(behind_nat(hosts()))
    second_device(network, "ada@example.com")
    assert not refusals(network.gateway)
    assert any(one.remote.port == 50001 for one in network.gateway.sas.values())


def test_the_next_process_knows_who_has_what() -> None:
    network = connect(behind_nat(hosts()))
    host = network.gateway
    records = dict(host.records)
    host.engine = make_engine(list(host.engine._core.connections.values()))
    host.recorded_by = host.engine
    restored = host.engine.restore(records, network.now)
    (child,) = restored.children
    assert child.sa.mode is Mode.TRANSPORT
    local, remote = child.sa.local_ts, child.sa.remote_ts
    holders = host.engine._core.transport_hosts
    assert holders.other_holder(local, remote, OTHERS) == Identity.parse("ada@example.com")
    assert holders.other_holder(local, remote, Identity.parse("ada@example.com")) is None

"""MOBIKE, endpoint update, and what must not move anybody."""

from ipaddress import ip_address

import pytest
from harness_v2 import (
    DEVICE,
    GATEWAY,
    Host,
    Network,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    make_engine,
    pair,
    sa_of,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.codec import Notify
from gateway.ike.policy import EngineSettings, Feature
from gateway.ike.registry import ExchangeType, NotifyType
from gateway.ike.v2 import exchange, mobike, rekey

ELSEWHERE = Endpoint(ip_address("203.0.113.77"), 4500)
PROOF = "esp icv, sequence 7"


def core(host: Host):  # noqa: ANN201
    return host.engine._core


def move_device(network: Network, local: Endpoint = ELSEWHERE) -> None:
    network.where[local.address] = "device"
    network.device.engine.local_address_changed(sa_of(network.device).local_spi, local, network.now)


class Informational(exchange.Exchange):
    name = "test"
    exchange_type = ExchangeType.INFORMATIONAL

    def __init__(self, *payloads: Notify) -> None:
        self.payloads = list(payloads)
        self.answer = None

    def request(self, core, sa, now):  # noqa: ANN001, ANN201
        return self.payloads

    def response(self, core, sa, view, now):  # noqa: ANN001, ANN201
        self.answer = view


def ask(network: Network, *payloads: Notify) -> Informational:
    one = Informational(*payloads)
    exchange.begin(core(network.device), sa_of(network.device), one, network.now)
    network.run()
    return one


def moved(host: Host) -> list[dict[str, object]]:
    return [event.fields for event in host.named("endpoint_moved")]


def test_update_moves_everything_and_checks_the_way_back() -> None:
    network = connected()
    move_device(network)
    network.run()
    (sa,) = network.gateway.engine.ike_sas(network.now)
    assert sa.remote == str(ELSEWHERE)
    assert network.gateway.moves[-1].remote == ELSEWHERE
    assert network.device.moves[-1].local == ELSEWHERE
    (fields,) = moved(network.gateway)
    assert fields["old"] == "198.51.100.7:4500"
    assert fields["new"] == "203.0.113.77:4500"
    assert fields["proof"] == "MOBIKE update"
    assert {"connection", "peer"} <= fields.keys()
    cookies = [d for d in network.sent if d.sender == "gateway" and d.path.remote == ELSEWHERE]
    assert len(cookies) == 2
    assert sa.last_move["new"] == str(ELSEWHERE)


def test_nobody_at_the_new_address_moves_the_peer_back() -> None:
    network = connected()
    gateway = network.gateway
    # The request came from elsewhere once, and nothing reaches anybody there.
    first = len(network.sent)
    network.impair = lambda d: (
        []
        if d.path.remote == ELSEWHERE or (d.path.local == ELSEWHERE and d.number > first)
        else [d]
    )
    move_device(network)
    network.run()
    assert gateway.engine.ike_sas(0)[0].remote == str(ELSEWHERE)
    network.pass_time(10)
    assert gateway.engine.ike_sas(0)[0].remote == "198.51.100.7:4500"
    assert gateway.engine.counters["return_routability_failures"] == 1
    assert gateway.moves[-1].remote == Endpoint(DEVICE.address, 4500)
    assert established(gateway)


def test_return_routability_can_be_switched_off() -> None:
    network = connected(gateway_policy(return_routability=False))
    move_device(network)
    network.run()
    answers = [d for d in network.sent if d.sender == "gateway" and d.path.remote == ELSEWHERE]
    assert len(answers) == 1


def test_update_behind_a_nat_changes_the_encapsulation() -> None:
    network = connected()
    outside = Endpoint(ip_address("203.0.113.5"), 40000)
    network.nat[ELSEWHERE] = outside
    move_device(network)
    network.run()
    assert network.gateway.moves[-1].remote == outside
    assert network.gateway.moves[-1].udp_encapsulation
    assert network.device.moves[-1].udp_encapsulation
    # And back to where there is no NAT.
    move_device(network, Endpoint(DEVICE.address, 4500))
    network.run()
    assert not network.gateway.moves[-1].udp_encapsulation
    assert not network.device.moves[-1].udp_encapsulation


def test_the_device_notices_that_its_nat_mapping_changed() -> None:
    network = pair(device=device_policy(liveness_s=10.0), gateway=gateway_policy(liveness_s=0))
    inside = Endpoint(DEVICE.address, 4500)
    public = ip_address("203.0.113.5")
    network.nat = {DEVICE: Endpoint(public, 10500), inside: Endpoint(public, 14500)}
    connect(network)
    network.pass_time(25)
    network.nat[inside] = Endpoint(public, 15555)
    network.pass_time(25)
    assert network.gateway.engine.ike_sas(0)[0].remote == "203.0.113.5:15555"


def test_update_while_a_request_is_outstanding() -> None:
    network = connected()
    network.impair = lambda d: []
    rekey.rekey_child(
        core(network.device),
        sa_of(network.device),
        next(iter(sa_of(network.device).children.values())),
        network.now,
    )
    network.run()
    network.impair = lambda d: [d]
    move_device(network)
    network.run()
    network.pass_time(20)
    assert network.gateway.engine.ike_sas(0)[0].remote == str(ELSEWHERE)
    assert len(network.gateway.sas) == 1


def test_without_mobike_an_update_is_ignored() -> None:
    network = connected(gateway_policy(mobike=False, endpoint_update=Feature.OFF))
    sa_of(network.device).path = Path(ELSEWHERE, sa_of(network.device).path.remote)
    network.where[ELSEWHERE.address] = "device"
    answer = ask(network, Notify(NotifyType.UPDATE_SA_ADDRESSES)).answer
    assert answer is not None
    assert network.gateway.engine.ike_sas(0)[0].remote == "198.51.100.7:4500"
    assert not network.gateway.moves


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "10.9.0.17"]
)
def test_h33_impossible_addresses(address: str) -> None:
    network = connected()
    there = Endpoint(ip_address(address), 4500)
    sa_of(network.device).path = Path(there, sa_of(network.device).path.remote)
    ask(network, Notify(NotifyType.UPDATE_SA_ADDRESSES))
    (sa,) = network.gateway.engine.ike_sas(0)
    assert sa.remote == "198.51.100.7:4500"
    assert not network.gateway.moves
    assert len(network.gateway.named("endpoint_move_refused")) == 1
    spi = next(iter(network.gateway.sas))
    network.gateway.engine.endpoint_seen(spi, there, PROOF, network.now)
    network.run()
    assert not network.gateway.moves


def test_h33_a_hundred_additional_addresses_are_bounded() -> None:
    network = connected()
    addresses = [Notify(NotifyType.ADDITIONAL_IP4_ADDRESS, bytes([10, 0, 0, n])) for n in range(50)]
    ask(network, *addresses, Notify(NotifyType.ADDITIONAL_IP6_ADDRESS, b"short"))
    state = sa_of(network.gateway).mobike_state
    assert len(state.additional) == mobike.MAX_ADDITIONAL_ADDRESSES
    ask(network, Notify(NotifyType.NO_ADDITIONAL_ADDRESSES))
    assert state.additional == ()


@pytest.mark.parametrize("size", [0, 7, 65, 500])
def test_h33_cookie2_of_a_wrong_size_is_not_echoed(size: int) -> None:
    network = connected()
    answer = ask(network, Notify(NotifyType.COOKIE2, bytes(size))).answer
    assert not answer.notifies


def test_h33_cookie2_is_echoed() -> None:
    network = connected()
    answer = ask(network, Notify(NotifyType.COOKIE2, b"12345678")).answer
    assert answer.notify(NotifyType.COOKIE2).data == b"12345678"


def test_h33_wrong_cookie2_ends_the_sa() -> None:
    network = connected()
    original = mobike.answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mobike,
            "answer",
            lambda core, sa, view, path, now: (
                [Notify(NotifyType.COOKIE2, b"wrong" * 4)]
                if view.notify(NotifyType.COOKIE2)
                else original(core, sa, view, path, now)
            ),
        )
        move_device(network)
        network.run()
        network.pass_time(1)
    assert not network.gateway.sas
    assert "COOKIE2" in network.gateway.named("ike_sa_closed")[0].text


def test_h33_no_nats_allowed_that_does_not_match() -> None:
    network = connected()
    wrong = Notify(NotifyType.NO_NATS_ALLOWED, bytes(12))
    answer = ask(network, wrong, Notify(NotifyType.UPDATE_SA_ADDRESSES)).answer
    assert answer.notify(NotifyType.UNEXPECTED_NAT_DETECTED)
    assert not network.gateway.moves
    right = bytes([198, 51, 100, 7, 192, 0, 2, 1]) + (4500).to_bytes(2, "big") * 2
    answer = ask(network, Notify(NotifyType.NO_NATS_ALLOWED, right)).answer
    assert not answer.notify(NotifyType.UNEXPECTED_NAT_DETECTED)


def test_only_the_initiator_may_say_that_it_moved() -> None:
    network = connected()
    host = network.gateway
    exchange.begin(
        core(host),
        sa_of(host),
        Informational(Notify(NotifyType.UPDATE_SA_ADDRESSES)),
        network.now,
    )
    network.run()
    assert not network.device.moves


# -- endpoint update -------------------------------------------------------------------------


def seen(network: Network, remote: Endpoint, proof: str = PROOF) -> None:
    spi = next(iter(network.gateway.sas))
    network.gateway.engine.endpoint_seen(spi, remote, proof, network.now)
    network.run()


def test_endpoint_update_moves_ike_sa_and_every_child_sa() -> None:
    network = connected()
    rekey.create(core(network.device), sa_of(network.device), network.now)
    network.run()
    assert len(network.gateway.sas) == 2
    sent = len(network.sent)
    seen(network, Endpoint(ELSEWHERE.address, 0))
    assert {move.spi_in for move in network.gateway.moves} == set(network.gateway.sas)
    # Native ESP has no ports: those of IKE stay.
    assert network.gateway.engine.ike_sas(0)[0].remote == str(ELSEWHERE)
    assert len(network.sent) == sent
    (fields,) = moved(network.gateway)
    assert fields["proof"] == PROOF


def test_h50_port_only_change() -> None:
    network = pair()
    public = ip_address("203.0.113.5")
    network.nat = {
        DEVICE: Endpoint(public, 10500),
        Endpoint(DEVICE.address, 4500): Endpoint(public, 14500),
    }
    connect(network)
    seen(network, Endpoint(public, 20000), "esp-in-udp mapping")
    assert network.gateway.moves[-1].remote == Endpoint(public, 20000)
    assert network.gateway.moves[-1].udp_encapsulation
    seen(network, Endpoint(public, 20000), "esp-in-udp mapping")
    assert len(network.gateway.moves) == 1


def test_h48_a_stolen_packet_moves_it_and_the_next_moves_it_back() -> None:
    network = connected()
    victim = Endpoint(ip_address("203.0.113.200"), 4500)
    seen(network, victim)
    seen(network, Endpoint(DEVICE.address, 4500))
    assert [fields["new"] for fields in moved(network.gateway)] == [
        "203.0.113.200:4500",
        "198.51.100.7:4500",
    ]


def test_h47_two_addresses_that_alternate_are_limited() -> None:
    network = connected()
    for step in range(200):
        seen(network, Endpoint(ip_address(f"203.0.113.{1 + step % 2}"), 4500))
    limit = EngineSettings().max_moves_per_minute
    assert len(moved(network.gateway)) == limit
    assert network.gateway.engine.counters["endpoint_moves_refused"] > 80
    refused = network.gateway.named("endpoint_move_refused")
    assert len(refused) == 1
    assert "moves in a minute" in refused[0].text
    network.now += 60
    seen(network, ELSEWHERE)
    assert len(moved(network.gateway)) == limit + 1


def test_h49_not_while_we_are_behind_a_nat_ourselves() -> None:
    network = pair()
    outside = Endpoint(ip_address("203.0.113.9"), 500)
    floated = Endpoint(outside.address, 4500)
    network.where[outside.address] = "gateway"
    network.nat = {GATEWAY: outside, Endpoint(GATEWAY.address, 4500): floated}
    network.device.engine.reconfigure([device_policy(remote=outside)], network.now)
    connect(network)
    (sa,) = network.gateway.engine.ike_sas(0)
    assert sa.local_natted
    assert sa.encapsulated
    (child,) = network.gateway.sas.values()
    assert not child.follow_endpoint
    seen(network, ELSEWHERE)
    assert not network.gateway.moves
    assert "behind a NAT" in network.gateway.named("endpoint_move_refused")[0].text


def test_h51_update_while_a_rekey_is_in_flight() -> None:
    network = connected()
    sa = sa_of(network.device)
    rekey.rekey_child(core(network.device), sa, next(iter(sa.children.values())), network.now)
    network.collect()
    (request,) = network.queue
    network.queue = []
    network.deliver(request)
    network.gateway.engine.endpoint_seen(
        next(iter(sa_of(network.gateway).children)), ELSEWHERE, PROOF, network.now
    )
    network.run()
    network.pass_time(10)
    assert {move.spi_in for move in network.gateway.moves} >= set(network.gateway.sas)
    assert len(network.gateway.sas) == 1


def test_h52_an_address_of_another_client_is_fine() -> None:
    second = Endpoint(ip_address("198.51.100.8"), 500)
    network = connected()
    other = Host(
        make_engine([device_policy(local=second, local_id=_identity("bob@example.com"))]), "second"
    )
    network.hosts["second"] = other
    network.where[second.address] = "second"
    other.engine.initiate("office", network.now)
    network.run()
    first_spi, second_spi = network.gateway.sas
    network.gateway.engine.endpoint_seen(
        second_spi, Endpoint(DEVICE.address, 4500), PROOF, network.now
    )
    network.run()
    remotes = [sa.remote for sa in network.gateway.engine.ike_sas(0)]
    assert remotes == ["198.51.100.7:4500"] * 2
    assert network.gateway.moves[-1].spi_in == second_spi
    assert first_spi != second_spi


def _identity(text: str) -> object:
    from gateway.ike.auth.identity import Identity

    return Identity.parse(text)


def test_endpoint_update_switched_off() -> None:
    network = connected(gateway_policy(endpoint_update=Feature.OFF))
    (child,) = network.gateway.sas.values()
    assert not child.follow_endpoint
    seen(network, ELSEWHERE)
    assert not network.gateway.moves
    assert "endpoint_update" in network.gateway.named("endpoint_move_refused")[0].text


def test_an_unknown_spi_moves_nobody() -> None:
    network = connected()
    network.gateway.engine.endpoint_seen(0xABCDEF, ELSEWHERE, PROOF, network.now)
    network.run()
    assert not network.gateway.moves


def test_a_new_ike_request_from_elsewhere_moves_a_peer_without_mobike() -> None:
    network = connected(gateway_policy(mobike=False))
    sa_of(network.device).path = Path(ELSEWHERE, sa_of(network.device).path.remote)
    network.where[ELSEWHERE.address] = "device"
    ask(network)
    assert network.gateway.engine.ike_sas(0)[0].remote == str(ELSEWHERE)
    assert "IKE request" in str(moved(network.gateway)[0]["proof"])


def test_a_probe_from_elsewhere_moves_no_peer_with_mobike() -> None:
    network = connected()
    sa_of(network.device).path = Path(ELSEWHERE, sa_of(network.device).path.remote)
    network.where[ELSEWHERE.address] = "device"
    ask(network)
    assert network.gateway.engine.ike_sas(0)[0].remote == "198.51.100.7:4500"


def test_h45_replayed_ike_from_a_new_address_moves_nobody() -> None:
    network = connected(gateway_policy(mobike=False))
    ask(network)
    before = network.gateway.engine.ike_sas(network.now)
    for datagram in [d for d in network.sent if d.sender == "device"]:
        network.gateway.engine.receive(
            datagram.message, Path(datagram.path.remote, ELSEWHERE), network.now
        )
    network.gateway.engine.take_outputs()
    after = [sa for sa in network.gateway.engine.ike_sas(network.now) if sa.state == "established"]
    assert after == before
    assert not network.gateway.moves

"""The classic holes, over both versions: downgrades, confusion of SAs, versions, tickets."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from certs_v2 import anchors, credential
from harness_v1 import certificate_policies, device_v1, gateway_v1
from harness_v2 import (
    DEVICE,
    GATEWAY,
    Datagram,
    Network,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    make_engine,
    pair,
)
from hostile_clients import HONEST_NAMES, HYBRID_KE, PPK
from hostile_world import ELSEWHERE, World
from test_h_every_message import digest
from users_v2 import Stranger, device_of_user, find_user, gateway_of_users

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.user_auth import Accepted
from gateway.ike.codec import (
    Notify,
    VendorId,
    parse_header,
    parse_message,
    serialize_message,
)
from gateway.ike.codec.payload import Payload
from gateway.ike.engine import IkeEngine
from gateway.ike.outputs import Transmit
from gateway.ike.policy import ConnectionPolicy, Feature, PeerAuth, PpkPolicy
from gateway.ike.registry import ExchangeType, Flag, NotifyType

WITH_KEY = tuple(name for name in HONEST_NAMES if name in ("psk", "mschap", "main", "xauth"))


# -- SPIs and versions ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["psk", "mschap", "main", "xauth", "aggressive"])
@pytest.mark.parametrize("halfway", [False, True])
def test_h14_messages_of_the_other_version_for_an_sa(name: str, halfway: bool) -> None:
    """An SA's SPIs in a header of the other version, with every exchange type and flag."""
    world = World(1, (name,))
    world.device(name).engine.initiate(name, world.now)
    world.collect()
    for _ in range(3 if halfway else 400):
        if world.flights:
            world.deliver(world.flights.pop(0))
        elif world.questions and not halfway:
            world.answer(world.questions.pop(0))
    before = {party.name: digest(party) for party in world.parties.values()}
    for party in world.parties.values():
        for sa in list(party.engine._core.sas.values()):
            other = 0x20 if sa.version == 1 else 0x10
            path = Path(sa.path.local, sa.path.remote)
            for exchange_type in (*range(1, 8), 32, 33, *range(34, 45), 243, 255):
                for flags in (0, 1, 2, 4, 8, 0x20, 0x28, 0xFF):
                    head = sa.initiator_spi + sa.responder_spi + bytes([46, other])
                    head += bytes([exchange_type, flags]) + bytes(4)
                    party.engine.receive(head + (60).to_bytes(4, "big") + bytes(32), path, 1000.0)
            party.engine.take_outputs()
    assert {party.name: digest(party) for party in world.parties.values()} == before
    world.check()
    world.settle()
    assert len(established(world.gateway)) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("psk", "main"), ("main", "psk"), ("psk", "cert"), ("main", "aggressive")]
)
def test_h13_initiators_with_equal_spis(one: str, other: str) -> None:
    """Chosen by two clients independently, or by an enemy who saw the first one's."""
    world = World(1, (one, other))
    spi = b"same SPI"
    for name in (one, other):
        core = world.device(name).engine._core
        taken = core.random
        core.random = lambda size, taken=taken: spi if size == 8 else taken(size)
    for name in (one, other):
        world.device(name).engine.initiate(name, world.now)
        core = world.device(name).engine._core
        assert list(core.sas) == [spi]
    for _ in range(40):  # both at once, message by message
        world.collect()
        if world.flights:
            world.deliver(world.flights.pop(0))
    sas = world.gateway.engine.ike_sas(world.now)
    assert sorted(sa.connection for sa in sas if sa.state == "established") == sorted((one, other))
    assert len(world.gateway.installed) == 2
    world.check()


def test_h13_our_own_spi_as_the_initiators() -> None:
    """A client may not name an SA of the gateway's as its own."""
    network = connected()
    engine = network.gateway.engine
    (ours,) = engine._core.sas
    stranger = make_engine([device_policy()])
    stranger._core.random = lambda size: ours if size == 8 else bytes(range(size))
    stranger.initiate("office", network.now)
    (sent,) = [one for one in stranger.take_outputs() if isinstance(one, Transmit)]
    before = engine._core.sas[ours].window.expected
    engine.receive(sent.message, Path(GATEWAY, ELSEWHERE), network.now)
    network.collect()
    sa = engine._core.sas[ours]
    assert sa.established
    assert sa.window.expected == before
    assert sa.path.remote.address == DEVICE.address
    assert engine.counters["internal_errors"] == 0


# -- downgrades ---------------------------------------------------------------------------------


def rewrite(keep: Callable[[Payload], bool]) -> Callable[[Datagram], list[Datagram]]:
    """Somebody between who takes payloads out of IKE_SA_INIT, both ways."""

    def impair(datagram: Datagram) -> list[Datagram]:
        message = datagram.message
        if message[18] == ExchangeType.IKE_SA_INIT:
            header = parse_header(message)
            datagram.message = serialize_message(
                header.initiator_spi,
                header.responder_spi,
                exchange=header.exchange,
                flags=header.flags & (Flag.INITIATOR | Flag.RESPONSE),
                message_id=header.message_id,
                payloads=[one for one in parse_message(message, header).payloads if keep(one)],
            )
        return [datagram]

    return impair


def between(
    gateway: ConnectionPolicy, device: ConnectionPolicy, keep: Callable[[Payload], bool]
) -> Network:
    network = pair(gateway, device, find_user=find_user)
    network.impair = rewrite(keep)
    return connect(network)


def without(*types: int) -> Callable[[Payload], bool]:
    return lambda one: not (isinstance(one, Notify) and one.type in types)


def test_nothing_taken_out_is_a_connection() -> None:
    assert established(between(gateway_policy(), device_policy(), lambda one: True).gateway)


@pytest.mark.parametrize("required", [False, True])
def test_a_stripped_ppk_is_noticed(required: bool) -> None:
    """Both know a PPK; an enemy hides that from both (RFC 8784 leaves it to AUTH to notice)."""
    ppk = PpkPolicy((PPK,), required)
    network = between(gateway_policy(ppk=ppk), device_policy(ppk=ppk), without(NotifyType.USE_PPK))
    assert not established(network.gateway)
    assert not established(network.device)


@pytest.mark.parametrize("who", ["gateway", "device"])
def test_a_ppk_that_is_required_is_not_skipped(who: str) -> None:
    """By a peer that has everything else."""
    ppk = PpkPolicy((PPK,), required=True)
    gateway = gateway_policy(ppk=ppk if who == "gateway" else None)
    device = device_policy(ppk=ppk if who == "device" else None)
    network = connect(pair(gateway, device))
    assert not established(network.gateway)
    assert not established(network.device)
    assert not network.gateway.sas


def test_stripped_signature_hashes_fragmentation_or_nat_detection_are_noticed() -> None:
    for kind in (
        NotifyType.SIGNATURE_HASH_ALGORITHMS,
        NotifyType.IKEV2_FRAGMENTATION_SUPPORTED,
        NotifyType.NAT_DETECTION_SOURCE_IP,
    ):
        network = between(gateway_policy(), device_policy(), without(kind))
        assert not established(network.gateway)
        assert not established(network.device)


def test_stripped_additional_key_exchanges_are_noticed() -> None:
    network = between(
        gateway_policy(ike_offer=HYBRID_KE),
        device_policy(ike_offer=HYBRID_KE),
        without(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED),
    )
    assert not established(network.gateway)
    assert not established(network.device)


def test_stripped_vendor_ids_of_the_drafts_are_noticed_in_ikev2() -> None:
    features = {"endpoint_update": Feature.ALLOWED}
    network = between(
        gateway_policy(**features),
        device_policy(**features),
        lambda one: not isinstance(one, VendorId),
    )
    assert not established(network.gateway)


def without_vendor_ids(datagram: Datagram) -> list[Datagram]:
    """IKEv1 authenticates no vendor ids: they can be taken out unnoticed."""
    from gateway.ike.v1 import codec

    header = codec.parse_header(datagram.message)
    if not codec.is_encrypted(header):
        payloads = codec.parse_message(datagram.message, header).payloads
        datagram.message = codec.serialize_message(
            header.initiator_spi,
            header.responder_spi,
            exchange=header.exchange,
            payloads=[one for one in payloads if not isinstance(one, codec.VendorId)],
            message_id=header.message_id,
        )
    return [datagram]


@pytest.mark.parametrize("policy", [Feature.ALLOWED, Feature.REQUIRED])
def test_stripped_vendor_ids_of_the_drafts_in_ikev1_never_weaken_what_is_required(
    policy: Feature,
) -> None:
    network = pair(gateway_v1(endpoint_update=policy), device_v1(endpoint_update=policy))
    network.impair = without_vendor_ids
    connect(network)
    children = network.gateway.engine.child_sas(network.now)
    assert bool(children) is (policy is Feature.ALLOWED)
    assert network.gateway.engine.counters["internal_errors"] == 0


# -- whose session is it ------------------------------------------------------------------------


def test_initial_contact_of_a_shared_key_ends_no_session_of_a_certificate() -> None:
    """Everybody with the group's key may say that they are ada: that proves nothing about ada."""
    weak = gateway_policy(name="group")
    strong = gateway_policy(
        name="certificates",
        local_credential=credential("gw.example.com"),
        peer_auth=PeerAuth(anchors=anchors()),
    )
    ada = device_policy(
        local_credential=credential("ada@example.com"), peer_auth=PeerAuth(anchors=anchors())
    )
    network = pair(strong, ada)
    network.gateway.engine.reconfigure([strong, weak], network.now)
    connect(network)
    assert [sa.connection for sa in established(network.gateway)] == ["certificates"]
    impostor = make_engine([device_policy(local=Endpoint(ip_address("198.51.100.7"), 4711))])
    network.device.engine = impostor
    network.device.sas.clear()
    impostor.initiate("office", network.now)
    network.run()
    names = sorted(sa.connection for sa in established(network.gateway))
    assert names == ["certificates", "group"]


def test_h25_initial_contact_of_a_shared_key_in_ikev1() -> None:
    strong, ada = certificate_policies("rsa")
    strong, weak = replace(strong, name="certificates"), gateway_v1(name="group")
    network = pair(strong, ada)
    network.gateway.engine.reconfigure([strong, weak], network.now)
    connect(network)
    assert [sa.connection for sa in established(network.gateway)] == ["certificates"]
    impostor = make_engine([device_v1(local=Endpoint(ip_address("198.51.100.7"), 4711))])
    network.device.engine = impostor
    network.device.sas.clear()
    impostor.initiate("office", network.now)
    network.run()
    names = sorted(sa.connection for sa in established(network.gateway))
    assert names == ["certificates", "group"]


# -- questions and answers ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gtc", "radius", "xauth", "hybrid", "push"])
def test_an_answer_serves_the_login_that_asked_and_only_once(name: str) -> None:
    """A backend's Accepted, given again, late, and with tickets that are over or never were."""
    world = World(1, (name,))
    stranger = world.device(name, rogue=True)
    stranger.engine.initiate(name, world.now)
    world.collect()
    while world.flights:
        world.deliver(world.flights.pop(0))
    if not world.questions:
        pytest.fail("nobody was asked")
    pending = world.questions[0].ticket
    accepted = Accepted("ada", ("staff",), b"\3\1\0\4", bytes(64))
    for ticket in (0, -1, pending - 1, pending + 1, 10**9):
        world.gateway.engine.user_answered(ticket, accepted, world.now)
        world.gateway.engine.ocsp_answered(ticket, b"", world.now)
    world.collect()
    world.settle()
    assert not established(world.gateway)
    world.gateway.engine.user_answered(pending, accepted, world.now)
    world.settle()
    world.check()
    assert not established(world.gateway)
    world.end()


def test_a_ticket_of_a_user_is_none_of_a_certificate() -> None:
    """An OCSP answer for the ticket of a password admits nobody and harms nobody."""
    world = World(1, ("gtc",))
    world.device("gtc").engine.initiate("gtc", world.now)
    world.collect()
    while world.flights:
        world.deliver(world.flights.pop(0))
    (asked,) = world.questions
    world.gateway.engine.ocsp_answered(asked.ticket, b"\x30\x03\n\1\0", world.now)
    world.collect()
    world.check()
    assert not established(world.gateway)
    world.end()


# -- too early ------------------------------------------------------------------------------------


@pytest.mark.parametrize("upto", range(1, 9))
@pytest.mark.parametrize("name", ["psk", "mschap", "tls", "main", "aggressive", "hybrid", "xauth"])
def test_h25_nothing_is_done_for_a_half_open_sa(name: str, upto: int) -> None:
    """Rekeying, moving, child SAs and addresses of an SA that is not established: refused."""
    world = World(1, (name,))
    world.device(name).engine.initiate(name, world.now)
    world.collect()
    for _ in range(upto):
        if world.flights:
            world.deliver(world.flights.pop(0))
    engine: IkeEngine = world.gateway.engine
    for party in world.parties.values():
        for sa in list(party.engine._core.sas.values()):
            if sa.established:
                continue
            before = digest(party)
            assert not party.engine.rekey(sa.spis, world.now)
            assert not party.engine.rekey(sa.spis, world.now, children=True)
            party.engine.local_address_changed(sa.local_spi, ELSEWHERE, world.now)
            party.engine.endpoint_seen(1, ELSEWHERE, "ESP", world.now)
            after = digest(party)
            if sa.version == 2:
                assert after == before
            assert not party.installed
    world.collect()
    world.check()
    assert not engine._core.children or established(world.gateway)
    world.end()


def test_h33_mobike_and_create_child_sa_during_the_login() -> None:
    network = pair(gateway_of_users(), device_of_user(), find_user=find_user)
    one = Stranger(network)
    one.send(*one.first())
    before = (one.gateway_sa.path, one.gateway_sa.state, one.gateway_sa.window.expected)
    for payloads in (
        [Notify(NotifyType.UPDATE_SA_ADDRESSES)],
        [Notify(NotifyType.COOKIE2, bytes(16))],
        [Notify(NotifyType.REKEY_SA)],
    ):
        for kind in (ExchangeType.INFORMATIONAL, ExchangeType.CREATE_CHILD_SA):
            assert one.send(*payloads, kind=kind) is None
            one.message_id -= 1
    assert (one.gateway_sa.path, one.gateway_sa.state, one.gateway_sa.window.expected) == before
    assert not network.gateway.sas
    assert not network.gateway.moves

"""Floods of first messages: who gets through, who is asked for a cookie, what is dropped."""

import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.pools import AddressPool
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.codec import Nonce, Notify, parse_message, serialize_message
from gateway.ike.codec.payload import Payload
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.engine import IkeEngine
from gateway.ike.first_line import LEAST, Datagram, nonce_and_cookie
from gateway.ike.half_open import FIRST_MESSAGES_PER_S
from gateway.ike.outputs import Transmit
from gateway.ike.policy import ConnectionPolicy, EngineSettings, PeerAuth
from gateway.ike.registry import ExchangeType, Flag, NotifyType, PayloadType

GATEWAY = Endpoint(ip_address("192.0.2.1"), 500)
DEVICE = Endpoint(ip_address("198.51.100.7"), 500)
FLOODER = ip_address("203.0.113.4")
PSK = PresharedKey(b"one key for everybody")
ALWAYS = EngineSettings(cookie_threshold=0)


def gateway(settings: EngineSettings | None = None) -> IkeEngine:
    policy = ConnectionPolicy(
        name="road",
        local_id=Identity.parse("gw.example.com"),
        local_credential=PSK,
        remote_id=IdentityPattern.parse("*@example.com"),
        peer_auth=PeerAuth(preshared_key=PSK),
        ike_offer=SuiteOffer.default_ike(),
        esp_offer=SuiteOffer.default_esp(),
        local_ts=(TrafficSelector.of_network(ip_network("10.1.0.0/16")),),
        pool="road",
    )
    return engine_of(policy, settings)


def engine_of(policy: ConnectionPolicy, settings: EngineSettings | None = None) -> IkeEngine:

    return IkeEngine(
        settings or EngineSettings(),
        [policy],
        {"road": AddressPool("road", ip_network("10.9.0.0/16"))},
        random=os.urandom,
        wall_clock=lambda: datetime(2026, 6, 1, tzinfo=UTC),
    )


def device(local: Endpoint = DEVICE) -> IkeEngine:
    policy = ConnectionPolicy(
        name="office",
        local_id=Identity.parse(f"user{local.port}@example.com"),
        local_credential=PSK,
        remote_id=IdentityPattern.parse("gw.example.com"),
        peer_auth=PeerAuth(preshared_key=PSK),
        ike_offer=SuiteOffer.default_ike(),
        esp_offer=SuiteOffer.default_esp(),
        local_ts=(),
        remote=GATEWAY,
        local=local,
        request_inner_address=True,
    )
    return engine_of(policy)


def sent(engine: IkeEngine) -> list[bytes]:
    return [one.message for one in engine.take_outputs() if isinstance(one, Transmit)]


def first_message(engine: IkeEngine) -> bytes:
    engine.initiate("office", 0.0)
    (message,) = sent(engine)
    return message


def datagram(octets: bytes, source: Endpoint = DEVICE) -> Datagram:
    return (octets, (source.address.packed, source.port), source)


def pass_on(engine: IkeEngine, datagrams: Sequence[Datagram], now: float, share: float = 1) -> int:
    """What the sockets and their joint do; returns how many were answered at once."""
    kept, answers = engine.sort(datagrams, share, now)
    for octets, _, source in kept:
        engine.receive(octets, Path(GATEWAY, source), now)
    return len(answers)


def spoofed(count: int, seed: int = 0) -> list[Datagram]:
    """First messages of peers that nobody has heard of, each from another source."""
    message = first_message(device())
    return [
        datagram(
            struct.pack("!II", seed + 1, number) + message[8:],
            Endpoint(ip_address(0x10000000 + number), 500),
        )
        for number in range(count)
    ]


def converse(
    client: IkeEngine, server: IkeEngine, first: bytes, now: float, local: Endpoint = DEVICE
) -> int:
    """Carry messages between the two until nobody says anything; returns the rounds it took."""
    path = Path(local, GATEWAY)
    waiting = [first]
    for rounds in range(1, 10):
        kept, answers = server.sort([datagram(one, local) for one in waiting], 1.0, now)
        replies = [message for message, _ in answers]
        for octets, _, source in kept:
            server.receive(octets, Path(GATEWAY, source), now)
        replies += [
            one.message
            for one in server.take_outputs()
            if isinstance(one, Transmit) and one.path.remote == local
        ]
        for reply in replies:
            client.receive(reply, path, now)
        waiting = sent(client)
        if not waiting:
            return rounds
    raise AssertionError("they do not stop talking")


def established(engine: IkeEngine) -> int:
    return sum(sa.state == "established" for sa in engine.ike_sas(0.0))


# -- the demand ------------------------------------------------------------------------------


def test_h20_a_flood_is_answered_with_cookies_and_makes_nothing() -> None:
    engine = gateway()
    engine.trace = False
    threshold = EngineSettings().cookie_threshold
    pass_on(engine, spoofed(threshold), 0.0)
    assert len(engine.ike_sas(0.0)) == threshold
    engine.take_outputs()
    assert pass_on(engine, spoofed(500, seed=1), 0.1) == 500
    assert len(engine.ike_sas(0.0)) == threshold
    assert engine.counters["cookies_demanded"] == 500
    assert sum(isinstance(one, Transmit) for one in engine.take_outputs()) == 0


def test_the_demand_is_the_same_message_that_the_full_path_sends() -> None:
    engine = gateway(ALWAYS)
    message = first_message(device())
    _, ((quick, _),) = engine.sort([datagram(message)], 1.0, 5.0)
    engine.receive(message, Path(GATEWAY, DEVICE), 5.0)
    assert sent(engine) == [quick]
    parsed = parse_message(quick)
    assert parsed.header.initiator_spi == message[:8]
    assert parsed.header.responder_spi == bytes(8)
    assert parsed.header.exchange == ExchangeType.IKE_SA_INIT
    assert parsed.header.flags == Flag.RESPONSE
    (notify,) = parsed.payloads
    assert isinstance(notify, Notify)
    assert notify.type == NotifyType.COOKIE


def test_an_honest_client_connects_during_a_flood_with_one_round_trip_more() -> None:
    calm, flooded = gateway(), gateway()
    client = device()
    rounds = converse(client, calm, first_message(client), 0.0)
    pass_on(flooded, spoofed(300), 0.0)
    client = device()
    assert converse(client, flooded, first_message(client), 0.1) == rounds + 1
    assert established(flooded) == 1
    assert established(client) == 1


def test_a_flood_that_never_becomes_half_open_is_noticed_by_its_rate() -> None:
    engine = gateway()
    refused = [
        (octets[:29] + b"\x80" + octets[30:], source, sender)  # a critical flag, nothing else
        for octets, source, sender in spoofed(64)
    ]
    answered = sum(pass_on(engine, refused, 0.0) for _ in range(2 * FIRST_MESSAGES_PER_S // 64))
    assert answered >= FIRST_MESSAGES_PER_S // 2
    assert pass_on(engine, [datagram(first_message(device()))], 1.5) == 1
    assert pass_on(engine, [datagram(first_message(device()))], 4.0) == 0


def test_h20_a_flood_from_one_port_is_asked_before_it_is_read() -> None:
    engine = gateway()
    message = first_message(device())
    same = [datagram(struct.pack("!Q", number) + message[8:]) for number in range(1, 64)]
    pass_on(engine, same, 0.0)
    held = len(engine.ike_sas(0.0))
    assert held <= EngineSettings().half_open_per_source
    assert pass_on(engine, same, 0.1) == len(same)
    assert len(engine.ike_sas(0.0)) == held


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[:24] + struct.pack("!I", len(m) + 1) + m[28:],
        lambda m: m + b"\0",
        lambda m: m[:200],
        lambda m: m[:28],
        lambda m: m[:16] + b"\0" + m[17:],
        lambda m: m[:30] + b"\0\0" + m[32:],
        lambda m: m[:30] + b"\xff\xff" + m[32:],
    ],
)
def test_h19_what_has_no_nonce_gets_no_cookie(change: object) -> None:
    engine = gateway(ALWAYS)
    broken = change(first_message(device()))  # type: ignore[operator]
    assert pass_on(engine, [datagram(broken)], 0.0) == 0
    assert not sent(engine)
    assert not engine.ike_sas(0.0)


@pytest.mark.parametrize("size", [0, 15, 16, 256, 257])
def test_h19_nonce_sizes_at_the_first_look(size: int) -> None:
    payloads: list[Payload] = [
        Nonce(bytes(size)) if isinstance(one, Nonce) else one
        for one in parse_message(first_message(device())).payloads
    ]
    message = serialize_message(
        b"\1" * 8, bytes(8), exchange=34, flags=Flag.INITIATOR, message_id=0, payloads=payloads
    )
    assert pass_on(gateway(ALWAYS), [datagram(message)], 0.0) == (16 <= size <= 256)


@given(st.binary(max_size=400), st.integers(0, 3))
def test_the_first_look_takes_any_octets(octets: bytes, kind: int) -> None:
    engine = gateway(ALWAYS)
    head = (b"", b"\1" * 8, b"\1" * 8 + bytes(8), b"\1" * 8 + bytes(8) + b"\x28\x20\x22\x08")[kind]
    whole = head + octets
    if kind == 3:
        whole = head + bytes(4) + struct.pack("!I", len(whole) + 8) + octets
    kept, answers = engine.sort([datagram(whole)], 1.0, 0.0)
    assert len(kept) + len(answers) <= 1
    if len(whole) >= 28:
        nonce, _ = nonce_and_cookie(whole)
        assert len(nonce) <= 256


def test_a_chain_that_goes_nowhere_ends() -> None:
    loop = struct.pack("!BBH", PayloadType.VENDOR_ID, 0, 4) * 1000
    whole = b"\1" * 8 + bytes(8) + bytes((PayloadType.VENDOR_ID, 0x20, 34, 8)) + bytes(4)
    whole += struct.pack("!I", len(whole) + 4 + len(loop)) + loop
    assert nonce_and_cookie(whole) == (b"", b"")


# -- order and shares --------------------------------------------------------------------------


def test_sas_that_exist_come_first_then_cookies_then_the_rest() -> None:
    engine = gateway()
    client = device()
    converse(client, engine, first_message(client), 0.0)
    client.close_all(1.0)
    (farewell,) = sent(client)
    neighbour = device(Endpoint(DEVICE.address, 4444))
    request = first_message(neighbour)
    strict = gateway(ALWAYS)
    strict._core.cookies = engine._core.cookies
    _, ((demand, _),) = strict.sort([datagram(request, Endpoint(DEVICE.address, 4444))], 1.0, 1.0)
    neighbour.receive(demand, Path(Endpoint(DEVICE.address, 4444), GATEWAY), 1.0)
    (proof,) = sent(neighbour)
    pass_on(engine, spoofed(99), 1.0)
    stray = (b"\7" * 8 + b"\x99" * 8 + farewell[16:], *datagram(b"")[1:])
    mixed = [
        stray,
        *spoofed(8, seed=5),
        datagram(proof, Endpoint(DEVICE.address, 4444)),
        datagram(farewell),
    ]
    kept, answers = engine.sort(mixed, 1.0, 1.0)
    octets = [one[0] for one in kept]
    assert octets[0] == farewell
    assert octets.index(proof) == 1
    assert octets[-1] == stray[0]
    assert len(answers) == 7


def test_without_time_strangers_are_shed_but_never_peers_nor_cookies() -> None:
    engine = gateway(ALWAYS)
    client = device()
    converse(client, engine, first_message(client), 0.0)
    client.close_all(1.0)
    (farewell,) = sent(client)
    newcomer = device(Endpoint(DEVICE.address, 4444))
    request = datagram(first_message(newcomer), Endpoint(DEVICE.address, 4444))
    _, ((demand, _),) = engine.sort([request], 1.0, 1.0)
    newcomer.receive(demand, Path(Endpoint(DEVICE.address, 4444), GATEWAY), 1.0)
    (proof,) = sent(newcomer)
    batch = [*spoofed(61), datagram(proof, Endpoint(DEVICE.address, 4444)), datagram(farewell)]
    kept, answers = engine.sort(batch, 0.0, 1.0)
    assert [one[0] for one in kept] == [farewell, proof]
    assert len(answers) == LEAST
    assert engine.counters["first_messages_shed"] == 61 - LEAST


def test_what_belongs_to_no_sa_is_shed_too() -> None:
    engine = gateway()
    stray = [datagram(os.urandom(8) + b"\x99" * 8 + bytes(60)) for _ in range(64)]
    kept, _ = engine.sort(stray, 0.1, 0.0)
    assert len(kept) == 6
    assert engine.counters["messages_shed"] == 58


def test_a_flood_of_ikev1_first_messages_leaves_room_for_ikev2() -> None:
    settings = EngineSettings(half_open_limit=40)
    engine = gateway(settings)
    head = struct.pack("!8s8s4BII", b"\1" * 8, bytes(8), 1, 0x10, 2, 0, 0, 28)
    flood = [datagram(struct.pack("!Q", number) + head[8:]) for number in range(1, 65)]
    kept, answers = engine.sort(flood, 1.0, 0.0)
    assert len(kept) == 30
    assert not answers
    assert engine.counters["half_open_limit_reached"] == 34


# -- room --------------------------------------------------------------------------------------


def with_cookies(engine: IkeEngine, count: int, sources: Sequence[Endpoint], now: float) -> None:
    """First messages of somebody who does receive at these sources, and shows cookies."""
    message = first_message(device())
    for number in range(count):
        source = sources[number % len(sources)]
        own = struct.pack("!Q", 1000 + number) + message[8:]
        _, answers = engine.sort([datagram(own, source)], 1.0, now)
        for demand, _ in answers:
            (notify,) = parse_message(demand).payloads
            own = serialize_message(
                own[:8],
                bytes(8),
                exchange=ExchangeType.IKE_SA_INIT,
                flags=Flag.INITIATOR,
                message_id=0,
                payloads=[notify, *parse_message(own).payloads],
            )
        pass_on(engine, [datagram(own, source)], now)


def test_h20_one_cgnat_address_full_of_half_open_sas_does_not_lock_out_a_second_client() -> None:
    """The flooder receives what we send: cookies alone do not stop it."""
    settings = EngineSettings(half_open_limit=50, cookie_threshold=10, key_exchanges_per_s=1000)
    engine = gateway(settings)
    ports = [Endpoint(FLOODER, 1000 + number) for number in range(40)]
    with_cookies(engine, 200, ports, 0.0)
    assert len(engine.ike_sas(0.0)) == 50
    for local in (DEVICE, Endpoint(FLOODER, 7)):  # elsewhere, and behind the same address
        client = device(local)
        converse(client, engine, first_message(client), 0.1, local)
        assert established(client) == 1
    assert established(engine) == 2
    assert engine.counters["half_open_given_up"] >= 2
    assert len(engine._core.half_open) <= 50


def test_h20_a_client_alone_at_its_address_keeps_its_place() -> None:
    settings = EngineSettings(half_open_limit=50, cookie_threshold=10, key_exchanges_per_s=1000)
    engine = gateway(settings)
    slow = device()
    request = first_message(slow)
    engine.receive(request, Path(GATEWAY, DEVICE), 0.0)
    (answer,) = sent(engine)
    with_cookies(engine, 300, [Endpoint(FLOODER, 1000 + number) for number in range(60)], 0.0)
    slow.receive(answer, Path(DEVICE, GATEWAY), 0.1)
    (proof,) = sent(slow)
    engine.receive(proof, Path(GATEWAY, DEVICE), 0.1)
    assert established(engine) == 1


def test_half_open_counts_go_back_to_nothing() -> None:
    settings = replace(EngineSettings(), half_open_limit=20, cookie_threshold=5)
    engine = gateway(settings)
    with_cookies(engine, 100, [Endpoint(FLOODER, 1000 + number) for number in range(30)], 0.0)
    engine.handle_timer(31.0)
    limits = engine._core.half_open
    assert len(limits) == 0
    assert not limits._per_source
    assert not limits._per_address

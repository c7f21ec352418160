"""The numbered hostile inputs, as far as an IKE engine meets them."""

import os
import struct
from dataclasses import asdict, replace
from ipaddress import ip_address, ip_network

import pytest
from certs_v2 import anchors, credential
from harness_v2 import (
    DEVICE,
    GATEWAY,
    PSK,
    Datagram,
    Host,
    Network,
    assert_consistent,
    connect,
    connected,
    device_policy,
    established,
    gateway_policy,
    make_engine,
    network_selector,
    pair,
    sa_of,
    site_policies,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.pools import AddressPool
from gateway.ike.codec import (
    Authentication,
    Certificate,
    Configuration,
    ConfigurationAttribute,
    IdInitiator,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    Transform,
    UnknownPayload,
    parse_message,
    serialize_message,
)
from gateway.ike.codec import TrafficSelectorsInitiator as Tsi
from gateway.ike.engine import IkeEngine
from gateway.ike.half_open import Cookies
from gateway.ike.outputs import Event, Transmit
from gateway.ike.policy import EngineSettings, PeerAuth
from gateway.ike.registry import (
    AuthMethod,
    CertEncoding,
    CfgAttribute,
    CfgType,
    ExchangeType,
    Flag,
    IdType,
    NotifyType,
)
from gateway.ike.v2 import exchange, initiate, protect
from gateway.ike.v2.sa import State
from gateway.ike.v2.window import LAST_MESSAGE_ID

PATH = Path(GATEWAY, DEVICE)


def core(host: Host):  # noqa: ANN201
    return host.engine._core


def state_of(engine: IkeEngine, now: float = 0.0) -> list[dict[str, object]]:
    """Everything that a bad message must not change, for every IKE SA."""
    found = []
    for sa, snapshot in zip(engine._core.sas.values(), engine.ike_sas(now), strict=True):
        state = asdict(snapshot)
        state["window"] = (sa.window.expected, sa.window.next_request, sa.window.outstanding)
        state["evidence"] = sa.evidence
        state["inbound"] = sa.last_inbound
        found.append(state)
    return found + [asdict(child) for child in engine.child_sas(now)]


def first_request(network: Network) -> bytes:
    """The device's IKE_SA_INIT request, not delivered."""
    network.device.engine.initiate("office", network.now)
    network.collect()
    (datagram,) = network.queue
    network.queue = []
    return datagram.message


def init_message(
    payloads: list[Payload], *, spi: bytes = b"\x11" * 8, flags: int = Flag.INITIATOR
) -> bytes:
    return serialize_message(
        spi,
        bytes(8),
        exchange=ExchangeType.IKE_SA_INIT,
        flags=flags,
        message_id=0,
        payloads=payloads,
    )


def changed(message: bytes, change: object) -> bytes:
    """An IKE_SA_INIT request with other payloads."""
    payloads = list(parse_message(message).payloads)
    return init_message([one for old in payloads for one in change(old)], spi=message[:8])


def answers(engine: IkeEngine) -> list[bytes]:
    return [one.message for one in engine.take_outputs() if isinstance(one, Transmit)]


def notifies(message: bytes) -> list[int]:
    return [one.type for one in parse_message(message).payloads if isinstance(one, Notify)]


def deliver(network: Network, message: bytes, path: Path = PATH) -> list[bytes]:
    network.gateway.engine.receive(message, path, network.now)
    return answers(network.gateway.engine)


# -- generic ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(28))
def test_h01_h02_empty_and_short_datagrams(size: int) -> None:
    network = connected()
    before = state_of(network.gateway.engine)
    assert not deliver(network, os.urandom(size))
    assert state_of(network.gateway.engine) == before
    assert network.gateway.engine.counters["malformed_messages"] == 1


def test_h12_identities_do_not_break_log_lines() -> None:
    for data in (b"a\nb@example.com", b"\0@example.com", b"\xff\xfe@example.com", b"x" * 2000):
        network = pair()
        hostile = replace_payload(
            network,
            lambda p, data=data: (
                IdInitiator(IdType.RFC822_ADDR, data) if isinstance(p, IdInitiator) else p
            ),
        )
        connect(hostile)
        (event,) = network.gateway.named("handshake_failed")
        assert "\n" not in event.text
        assert "\0" not in event.text
        assert len(event.text) < 2000
        event.text.encode()


def replace_payload(network: Network, change: object) -> Network:
    """Let the device put other payloads into its IKE_AUTH request."""
    device = core(network.device)

    class Hostile(initiate.AuthExchange):
        def request(self, core, sa, now):  # noqa: ANN001, ANN202
            payloads = super().request(core, sa, now)
            return [one for one in map(change, payloads) if one is not None]

    original = exchange.begin

    def begin(core, sa, one, now):  # noqa: ANN001, ANN202
        if core is device and type(one) is initiate.AuthExchange:
            one = Hostile()
        original(core, sa, one, now)

    _PATCH.setattr(initiate.exchange, "begin", begin)
    return network


_PATCH = pytest.MonkeyPatch()


@pytest.fixture(autouse=True)
def _undo():  # noqa: ANN202
    yield
    _PATCH.undo()


# -- 13 to 20: IKE_SA_INIT -------------------------------------------------------------------


def test_h13_zero_and_wrong_spis() -> None:
    network = pair()
    request = bytearray(first_request(network))
    assert not deliver(network, bytes(8) + bytes(request[8:]))
    request[8:16] = b"\x22" * 8
    assert not deliver(network, bytes(request))
    assert not core(network.gateway).sas
    established_network = connected()
    before = state_of(established_network.gateway.engine)
    sa = sa_of(established_network.gateway)
    for spis in (
        (bytes(8), sa.responder_spi),
        (b"\x99" * 8, sa.responder_spi),
        (sa.initiator_spi, b"\x99" * 8),
        (sa.initiator_spi, bytes(8)),
        (sa.responder_spi, sa.initiator_spi),
    ):
        message = struct.pack("!8s8s4B2I", *spis, 46, 0x20, 37, 8, 2, 28 + 40)
        message += struct.pack("!BBH", 0, 0, 40) + bytes(36)
        deliver(established_network, message)
    assert state_of(established_network.gateway.engine) == before


def test_h14_other_versions() -> None:
    network = pair()
    request = bytearray(first_request(network))
    request[17] = 0x10
    assert not deliver(network, bytes(request))
    request[17] = 0x30
    (answer,) = deliver(network, bytes(request))
    assert notifies(answer) == [NotifyType.INVALID_MAJOR_VERSION]
    for _ in range(100):
        network.gateway.engine.receive(bytes(request), PATH, network.now)
    assert len(answers(network.gateway.engine)) < 11
    request[17] = 0x2F
    (answer,) = deliver(network, bytes(request))
    assert not notifies(answer) or NotifyType.INVALID_MAJOR_VERSION not in notifies(answer)
    assert len(core(network.gateway).sas) == 1


@pytest.mark.parametrize("kind", [1, 2, 4, 5, 10, 13, 20, 130])
def test_h14_payloads_of_ikev1_are_not_understood(kind: int) -> None:
    network = pair()
    request = first_request(network)
    payloads = list(parse_message(request).payloads)
    spiced = init_message([*payloads, UnknownPayload(kind, critical=False, data=bytes(8))])
    (answer,) = deliver(network, spiced)
    assert len(core(network.gateway).sas) == 1
    critical = init_message(
        [*payloads, UnknownPayload(kind, critical=True, data=bytes(8))], spi=b"\x33" * 8
    )
    (answer,) = deliver(network, critical)
    assert notifies(answer) == [NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD]
    assert parse_message(answer).payloads[0].data == bytes([kind])
    assert len(core(network.gateway).sas) == 1


@pytest.mark.parametrize(
    "kind", [ExchangeType.IKE_AUTH, ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL, 240]
)
def test_h15_exchanges_before_ike_sa_init_is_done(kind: int) -> None:
    network = pair()
    first_request(network)
    (initiating,) = core(network.device).sas.values()
    before = state_of(network.device.engine)
    message = struct.pack(
        "!8s8s4B2I", initiating.initiator_spi, bytes(8), 46, 0x20, kind, 0, 0, 28 + 40
    )
    message += struct.pack("!BBH", 0, 0, 40) + bytes(36)
    network.device.engine.receive(message, Path(DEVICE, GATEWAY), network.now)
    deliver(network, message[:19] + b"\x08" + message[20:])
    assert state_of(network.device.engine) == before
    assert not core(network.gateway).sas


def test_h16_replay_with_another_key_exchange_does_not_damage_the_first() -> None:
    network = pair()
    request = first_request(network)
    other = changed(
        request,
        lambda p: [KeyExchange(p.group, os.urandom(32))] if isinstance(p, KeyExchange) else [p],
    )
    spi = request[:8]
    other = spi + other[8:]
    (first_answer,) = deliver(network, request)
    (other_answer,) = deliver(network, other)
    (again,) = deliver(network, request)
    assert again == first_answer
    assert other_answer[8:16] != first_answer[8:16]
    network.device.engine.receive(first_answer, Path(DEVICE, GATEWAY), network.now)
    network.run()
    assert established(network.gateway)
    # A replay after the SA is established leaves it alone.
    before = state_of(network.gateway.engine)[:1]
    deliver(network, request)
    assert [s for s in state_of(network.gateway.engine) if s.get("state") == "established"] == [
        s for s in before if s["state"] == "established"
    ] or established(network.gateway)
    network.pass_time(31)
    assert len(core(network.gateway).sas) == 1


def test_h17_nonsense_proposals_are_refused_with_a_notify() -> None:
    gcm = Transform(1, 20, 256)
    prf, group, integ = Transform(2, 5), Transform(4, 31), Transform(3, 12)
    bad = [
        (),
        (gcm, prf),
        (gcm, group),
        (prf, group),
        (gcm, prf, integ, group),
        (Transform(1, 20, 0), prf, group),
        (Transform(1, 20, 7), prf, group),
        (Transform(1, 20, 65535), prf, group),
        (Transform(1, 20), prf, group),
        (Transform(1, 12, 256), prf, group),
        (Transform(1, 20, 256, understood=True), Transform(2, 1), group),
        (gcm, prf, Transform(4, 1025)),
        (gcm, prf, Transform(4, 0)),
        (Transform(1, 11), prf, integ, group),
    ]
    network = pair()
    request = first_request(network)
    for number, transforms in enumerate(bad):
        sa = SecurityAssociation((Proposal(1, 1, b"", transforms),))
        message = changed(
            request, lambda p, sa=sa: [sa if isinstance(p, SecurityAssociation) else p]
        )
        message = struct.pack("!Q", number + 1) + message[8:]
        (answer,) = deliver(network, message)
        assert notifies(answer) == [NotifyType.NO_PROPOSAL_CHOSEN], transforms
        assert not core(network.gateway).sas
    for protocol in (0, 2, 3, 255):
        spi = bytes(4) if protocol in (2, 3) else b""
        sa = SecurityAssociation((Proposal(1, protocol, spi, (gcm, prf, group)),))
        message = changed(
            request, lambda p, sa=sa: [sa if isinstance(p, SecurityAssociation) else p]
        )
        (answer,) = deliver(network, message)
        assert notifies(answer) == [NotifyType.NO_PROPOSAL_CHOSEN]
    assert not core(network.gateway).sas


@pytest.mark.parametrize(
    ("group", "data"),
    [
        (31, bytes(32)),
        (31, b"\1" + bytes(31)),
        (31, b"\xff" * 32),
        (31, b"\x05" * 31),
        (31, b"\x05" * 33),
        (19, bytes(64)),
        (19, b"\xff" * 64),
        (19, b"\x01" * 63),
        (14, bytes(256)),
        (14, bytes(255) + b"\1"),
        (14, b"\xff" * 256),
        (14, b"\x02" * 255),
    ],
)
def test_h18_key_exchange_values(group: int, data: bytes) -> None:
    from gateway.ike.crypto.proposals import SuiteOffer

    names = {31: "x25519", 19: "ecp256", 14: "modp2048"}
    offer = SuiteOffer.parse("ike", [f"aes128gcm16-prfsha256-{names[group]}"])
    network = pair(gateway_policy(ike_offer=offer), device_policy(ike_offer=offer))
    request = first_request(network)
    message = changed(
        request, lambda p: [KeyExchange(group, data)] if isinstance(p, KeyExchange) else [p]
    )
    found = deliver(network, message)
    if data == b"\xff" * 32:
        # The high bit is masked: this is a valid point (RFC 7748 section 5).
        return
    assert notifies(found[0]) == [NotifyType.INVALID_SYNTAX]
    assert not core(network.gateway).sas


@pytest.mark.parametrize("group", [0, 1, 2, 14, 1025, 40000, 65535])
def test_h18_group_mismatch_is_answered_with_ours(group: int) -> None:
    network = pair()
    request = first_request(network)
    message = changed(
        request, lambda p: [KeyExchange(group, bytes(64))] if isinstance(p, KeyExchange) else [p]
    )
    (answer,) = deliver(network, message)
    assert notifies(answer) == [NotifyType.INVALID_KE_PAYLOAD]
    assert parse_message(answer).payloads[0].data == b"\x00\x1f"
    assert not core(network.gateway).sas


@pytest.mark.parametrize("group", [b"", b"\0", b"\x04\x01", b"\0\0", b"\0\x1f", b"\0\x13\0"])
def test_h18_invalid_ke_payload_with_a_group_that_we_did_not_offer(group: bytes) -> None:
    network = pair()
    request = first_request(network)
    answer = serialize_message(
        request[:8],
        bytes(8),
        exchange=34,
        flags=Flag.RESPONSE,
        message_id=0,
        payloads=[Notify(NotifyType.INVALID_KE_PAYLOAD, group)],
    )
    for _ in range(50):
        network.device.engine.receive(answer, Path(DEVICE, GATEWAY), network.now)
    assert not answers(network.device.engine)
    assert len(core(network.device).sas) == 1


@pytest.mark.parametrize("size", [0, 15, 257])
def test_h19_nonce_sizes(size: int) -> None:
    network = pair()
    request = first_request(network)
    message = changed(request, lambda p: [Nonce(bytes(size))] if isinstance(p, Nonce) else [p])
    assert not deliver(network, message)
    assert not core(network.gateway).sas


def test_h19_missing_payloads() -> None:
    network = pair()
    request = first_request(network)
    for kind in (SecurityAssociation, KeyExchange, Nonce):
        message = changed(request, lambda p, kind=kind: [] if isinstance(p, kind) else [p])
        assert not deliver(network, message)
    doubled = changed(request, lambda p: [p, p] if isinstance(p, Nonce) else [p])
    assert not deliver(network, doubled)
    assert not core(network.gateway).sas


def demand(network: Network) -> tuple[bytes, bytes]:
    """(request, cookie) of a device that is asked for one."""
    request = first_request(network)
    (answer,) = deliver(network, request)
    assert notifies(answer) == [NotifyType.COOKIE]
    return request, parse_message(answer).payloads[0].data


def with_cookie(request: bytes, cookie: bytes, spi: bytes | None = None) -> bytes:
    payloads = [Notify(NotifyType.COOKIE, cookie), *parse_message(request).payloads]
    return init_message(payloads, spi=spi or request[:8])


def test_h20_cookies_that_are_not_ours_are_answered_with_another_demand() -> None:
    network = pair(settings=EngineSettings(cookie_threshold=0))
    request, cookie = demand(network)
    elsewhere = Path(GATEWAY, Endpoint(ip_address("203.0.113.4"), 500))
    other_port = Path(GATEWAY, Endpoint(DEVICE.address, 501))
    for wrong, path in (
        (with_cookie(request, b"x"), PATH),
        (with_cookie(request, b""), PATH),
        (with_cookie(request, bytes(64)), PATH),
        (with_cookie(request, bytes(2000)), PATH),
        (with_cookie(request, bytes(33)), PATH),
        (with_cookie(request, cookie[:-1] + bytes([cookie[-1] ^ 1])), PATH),
        (with_cookie(request, cookie, spi=b"\x77" * 8), PATH),
        (with_cookie(request, cookie), elsewhere),
        (with_cookie(request, cookie), other_port),
    ):
        (answer,) = deliver(network, wrong, path)
        assert notifies(answer) == [NotifyType.COOKIE]
        assert not core(network.gateway).sas
    (answer,) = deliver(network, with_cookie(request, cookie))
    assert len(core(network.gateway).sas) == 1


def test_h20_a_cookie_outlives_one_change_of_the_secret_not_two() -> None:
    cookies = Cookies(os.urandom)
    about = (b"nonce" * 4, b"\1" * 8, DEVICE)
    cookie = cookies.make(*about, 100.0)
    assert cookies.verify(cookie, *about, 100.0)
    assert cookies.verify(cookie, *about, 161.0)
    assert not cookies.verify(cookie, *about, 222.0)
    late = cookies.make(*about, 300.0)
    assert not cookies.verify(late, *about, 1000.0)
    for _ in range(300):
        cookies.make(*about, 1000.0)
    assert len(cookies._secrets) <= 2


def test_h20_a_flood_from_one_address_does_not_lock_out_its_neighbour() -> None:
    settings = EngineSettings(half_open_limit=500)
    network = pair(settings=settings)
    request = first_request(network)
    flooder = Path(GATEWAY, Endpoint(DEVICE.address, 6666))
    for number in range(1, 2000):
        deliver(network, struct.pack("!Q", number) + request[8:], flooder)
    assert len(core(network.gateway).half_open) <= settings.half_open_per_source
    (answer,) = deliver(network, request)
    assert len(answer) > 100


def test_h20_half_open_sas_are_bounded_and_go_away() -> None:
    settings = EngineSettings(half_open_limit=50, cookie_threshold=1000)
    network = pair(settings=settings)
    request = first_request(network)
    for number in range(1, 200):
        path = Path(GATEWAY, Endpoint(ip_address("203.0.113.4"), 1000 + number))
        deliver(network, struct.pack("!Q", number) + request[8:], path)
    assert len(core(network.gateway).sas) == 50
    assert network.gateway.engine.counters["half_open_limit_reached"] == 149
    network.gateway.engine.handle_timer(network.now + 31)
    assert not core(network.gateway).sas
    assert len(core(network.gateway).half_open) == 0


def test_an_endless_cookie_demand_is_not_followed() -> None:
    network = pair()
    request = first_request(network)
    for number in range(100):
        answer = serialize_message(
            request[:8],
            bytes(8),
            exchange=34,
            flags=Flag.RESPONSE,
            message_id=0,
            payloads=[Notify(NotifyType.COOKIE, bytes([number]) * 16)],
        )
        network.device.engine.receive(answer, Path(DEVICE, GATEWAY), network.now)
    assert len(answers(network.device.engine)) == initiate.MAX_RETRIES


# -- 21, 22: encrypted parts -----------------------------------------------------------------


def sealed(
    network: Network,
    pieces: list[tuple[bytes, tuple[int, int] | None]],
    *,
    message_id: int | None = None,
    first: int = 41,
) -> list[bytes]:
    """Messages of the device, authentic, with any fragment numbers."""
    from gateway.ike.codec import encrypted_prefix

    sa = sa_of(network.device)
    cipher = sa.cipher_out
    number = sa.window.next_request if message_id is None else message_id
    return [
        cipher.seal(
            encrypted_prefix(
                sa.initiator_spi,
                sa.responder_spi,
                exchange=ExchangeType.INFORMATIONAL,
                flags=Flag.INITIATOR,
                message_id=number,
                first_payload=first,
                sealed_octets=len(data) + cipher.overhead(len(data)),
                fragment=fragment,
            ),
            data,
        )
        for data, fragment in pieces
    ]


INNER = Notify(NotifyType.COOKIE2, b"12345678").serialize(0)


def test_h21_fragments_in_any_order() -> None:
    network = connected()
    one, two, three = sealed(
        network, [(INNER[:5], (1, 3)), (INNER[5:9], (2, 3)), (INNER[9:], (3, 3))]
    )
    assert not deliver(network, three)
    assert not deliver(network, one)
    assert not deliver(network, one)
    assert len(deliver(network, two)) == 1
    assert len(deliver(network, one)) == 1
    assert not deliver(network, two)
    assert established(network.gateway)


def test_h21_bad_fragment_numbers() -> None:
    network = connected()
    before = state_of(network.gateway.engine)
    for number, total in ((0, 2), (3, 2), (1, 0), (0, 0), (1, 65), (65535, 65535)):
        try:
            (message,) = sealed(network, [(INNER, (number, total))])
        except ValueError:
            continue
        assert not deliver(network, message)
    assert state_of(network.gateway.engine) == before
    assert sa_of(network.gateway).reassembly is None


def test_h21_total_that_changes() -> None:
    network = connected()
    first, late, larger = sealed(
        network, [(INNER[:5], (1, 3)), (b"late", (2, 2)), (INNER[:5], (1, 2))]
    )
    deliver(network, first)
    deliver(network, late)
    deliver(network, larger)
    assert sa_of(network.gateway).reassembly[False].total == 3
    anew = sealed(
        network,
        [(INNER[:4], (1, 4)), (INNER[4:8], (2, 4)), (INNER[8:10], (3, 4)), (INNER[10:], (4, 4))],
    )
    found = [answer for message in anew for answer in deliver(network, message)]
    assert len(found) == 1


def test_h21_duplicate_with_other_content_does_not_replace_the_first() -> None:
    network = connected()
    first, other, second = sealed(
        network, [(INNER[:5], (1, 2)), (bytes(5), (1, 2)), (INNER[5:], (2, 2))]
    )
    deliver(network, first)
    deliver(network, other)
    assert len(deliver(network, second)) == 1
    assert established(network.gateway)


def test_h21_fragment_and_unfragmented_copy() -> None:
    network = connected()
    first, whole, second = sealed(
        network, [(INNER[:5], (1, 2)), (INNER, None), (INNER[5:], (2, 2))]
    )
    deliver(network, first)
    assert len(deliver(network, whole)) == 1
    assert not deliver(network, second)
    assert sa_of(network.gateway).reassembly is None


def test_h21_icv_failure_of_one_fragment_loses_nothing() -> None:
    network = connected()
    first, second = sealed(network, [(INNER[:5], (1, 2)), (INNER[5:], (2, 2))])
    deliver(network, first)
    for at in range(28, len(second)):
        broken = second[:at] + bytes([second[at] ^ 0x80]) + second[at + 1 :]
        assert not deliver(network, broken)
    assert len(deliver(network, second)) == 1


def test_h21_never_completed_sets_are_bounded() -> None:
    network = connected()
    for message in sealed(network, [(bytes(1000), (n, 64)) for n in range(1, 64)]):
        deliver(network, message)
    have = sa_of(network.gateway).reassembly[False]
    assert have.octets == 63_000
    assert len(have.parts) == 63
    settings = EngineSettings(max_message_octets=3000)
    small = connected(settings=settings)
    for message in sealed(small, [(bytes(1000), (n, 64)) for n in range(1, 10)]):
        deliver(small, message)
    assert small.gateway.engine.counters["malformed_messages"] >= 1
    held = sa_of(small.gateway).reassembly
    assert held is None or held[False].octets <= 3000


def test_h21_fragments_where_none_were_negotiated() -> None:
    network = connected()
    sa_of(network.gateway).fragmentation = False
    (message,) = sealed(network, [(INNER, (1, 1))])
    assert not deliver(network, message)
    assert established(network.gateway)


def test_h21_thousands_of_inner_payloads() -> None:
    network = connected()
    vendor = struct.pack("!BBH", 43, 0, 4)
    (message,) = sealed(network, [(vendor * 10_000, None)], first=43)
    (answer,) = deliver(network, message)
    assert answer
    assert network.gateway.engine.counters["malformed_messages"] == 1


def test_h21_payloads_outside_of_the_encrypted_part() -> None:
    network = connected()
    before = state_of(network.gateway.engine)
    (message,) = sealed(network, [(INNER, None)])
    outer = Notify(NotifyType.UPDATE_SA_ADDRESSES).serialize(46)
    spiced = message[:16] + b"\x29" + message[17:24] + struct.pack("!I", len(message) + len(outer))
    spiced += outer + message[28:]
    assert not deliver(network, spiced)
    assert state_of(network.gateway.engine) == before


def test_h22_encrypted_part_cut_at_every_octet() -> None:
    network = connected()
    before = state_of(network.gateway.engine)
    (message,) = sealed(network, [(INNER, None)])
    for size in range(len(message)):
        cut = message[:24] + struct.pack("!I", size) + message[28:size]
        assert not deliver(network, cut[:size])
        if size >= 32:
            cut = cut[:30] + struct.pack("!H", size - 28) + cut[32:]
            assert not deliver(network, cut)
    assert state_of(network.gateway.engine) == before
    assert len(deliver(network, message)) == 1


def test_h22_empty_encrypted_part_is_a_liveness_check() -> None:
    network = connected()
    (message,) = sealed(network, [(b"", None)], first=0)
    assert len(deliver(network, message)) == 1
    assert established(network.gateway)


def test_malformed_but_authentic_ends_the_sa_with_invalid_syntax() -> None:
    network = connected()
    (message,) = sealed(network, [(b"\x29\0\0\x03", None)])
    assert len(deliver(network, message)) == 1
    network.run()
    assert not core(network.gateway).sas


def test_unknown_critical_payload_inside_is_answered_and_the_sa_stays() -> None:
    network = connected()
    inner = UnknownPayload(200, critical=True, data=b"x").serialize(0)
    (message,) = sealed(network, [(inner, None)], first=200)
    assert len(deliver(network, message)) == 1
    assert established(network.gateway)


# -- 23 to 26 --------------------------------------------------------------------------------

ERRORS = [int(kind) for kind in NotifyType if kind < 16384]


@pytest.mark.parametrize("kind", ERRORS)
def test_h23_unauthenticated_errors_kill_nothing(kind: int) -> None:
    network = pair()
    request = first_request(network)
    forged = serialize_message(
        request[:8],
        bytes(8),
        exchange=34,
        flags=Flag.RESPONSE,
        message_id=0,
        payloads=[Notify(kind, b"\0\x0e" if kind == NotifyType.INVALID_KE_PAYLOAD else b"")],
    )
    network.device.engine.receive(forged, Path(DEVICE, GATEWAY), network.now)
    network.device.engine.take_outputs()
    for answer in deliver(network, request):
        if kind == NotifyType.INVALID_KE_PAYLOAD:
            break
        network.device.engine.receive(answer, Path(DEVICE, GATEWAY), network.now)
    network.pass_time(5)
    assert established(network.device)
    # The same against an established SA, in both directions.
    sa = sa_of(network.gateway)
    before = state_of(network.gateway.engine)
    for flags in (Flag.INITIATOR, Flag.INITIATOR | Flag.RESPONSE, Flag.RESPONSE, Flag(0)):
        for exchange_type in (35, 36, 37):
            for message_id in (0, 1, 2):
                forged = serialize_message(
                    sa.initiator_spi,
                    sa.responder_spi,
                    exchange=exchange_type,
                    flags=flags,
                    message_id=message_id,
                    payloads=[Notify(kind)],
                )
                deliver(network, forged, Path(GATEWAY, sa.path.remote))
    assert state_of(network.gateway.engine) == before


def test_h23_the_hint_is_the_reason_when_nobody_else_answers() -> None:
    network = pair()
    request = first_request(network)
    forged = serialize_message(
        request[:8],
        bytes(8),
        exchange=34,
        flags=Flag.RESPONSE,
        message_id=0,
        payloads=[Notify(NotifyType.INVALID_SYNTAX)],
    )
    network.device.engine.receive(forged, Path(DEVICE, GATEWAY), network.now)
    network.impair = lambda d: []
    network.pass_time(150)
    assert "INVALID_SYNTAX" in network.device.named("handshake_failed")[0].text


def test_h26_message_ids_out_of_the_window() -> None:
    network = connected()
    before = state_of(network.gateway.engine)
    for message_id in (0, 3, 4, 1000, 2**31, 2**32 - 1):
        (message,) = sealed(network, [(INNER, None)], message_id=message_id)
        assert not deliver(network, message)
    assert state_of(network.gateway.engine) == before


def test_h26_repetition_gets_the_same_octets_and_another_one_nothing() -> None:
    network = connected()
    number = sa_of(network.device).window.next_request
    (message,) = sealed(network, [(INNER, None)], message_id=number)
    (answer,) = deliver(network, message)
    (again,) = deliver(network, message)
    assert again == answer
    (other,) = sealed(network, [(INNER, None)], message_id=number)
    assert other != message
    assert not deliver(network, other)
    assert network.gateway.engine.counters["requests_outside_window"] == 1


def test_h26_message_ids_are_never_wrapped() -> None:
    network = connected()
    for host, other in ((network.device, network.gateway), (network.gateway, network.device)):
        del other
        sa_of(host).window.next_request = LAST_MESSAGE_ID
    host = network.device
    from gateway.ike.v2 import informational

    exchange.begin(core(host), sa_of(host), informational.LivenessCheck(), network.now)
    network.collect()
    assert not core(host).sas
    assert "message ids" in host.named("ike_sa_closed")[0].text


# -- 27 to 34 --------------------------------------------------------------------------------


def auth_failure(network: Network) -> Event:
    (event,) = network.gateway.named("handshake_failed")
    assert network.gateway.engine.counters["internal_errors"] == 0
    return event


@pytest.mark.parametrize(
    "body",
    [
        b"\0\0\0\0",
        b"\1\0\0\0" + struct.pack("!BBHHH", 7, 0, 16, 0, 65535) + b"\x0a\0\0\2\x0a\0\0\1",
        b"\1\0\0\0" + struct.pack("!BBHHH", 7, 0, 15, 0, 65535) + b"\x0a\0\0\2\x0a\0\0",
        b"\1\0\0\0" + struct.pack("!BBHHH", 7, 0, 40, 0, 65535) + bytes(32),
        b"\1\0\0\0" + struct.pack("!BBHHH", 7, 6, 16, 90, 80) + bytes(8),
        b"\xff\0\0\0" + (struct.pack("!BBHHH", 7, 0, 16, 0, 65535) + bytes(8)) * 255,
        b"\2\0\0\0" + struct.pack("!BBHHH", 7, 0, 16, 0, 65535) + bytes(8),
    ],
)
def test_h27_malformed_selectors(body: bytes) -> None:
    class Raw(Tsi):
        def body(self) -> bytes:
            return body

    network = replace_payload(pair(), lambda p: Raw(p.selectors) if isinstance(p, Tsi) else p)
    connect(network)
    assert "malformed" in auth_failure(network).text
    assert not network.gateway.sas


def test_h27_narrowing_to_nothing_and_unknown_types() -> None:
    from gateway.ike.codec import UnknownSelector

    for selectors in (
        (UnknownSelector(9, 0, bytes(12)),),
        (network_selector("172.16.0.0/12"),),
        (network_selector("2001:db8::/32"),),
    ):
        network = replace_payload(
            pair(*site_policies()),
            lambda p, selectors=selectors: Tsi(selectors) if isinstance(p, Tsi) else p,
        )
        connect(network)
        assert "nothing in common" in auth_failure(network).text
        assert not network.gateway.sas
        _PATCH.undo()


def test_h27_many_selectors_are_bounded() -> None:
    many = tuple(network_selector(f"10.2.{n}.0/25") for n in range(64))
    gateway, device = site_policies()
    network = connected(gateway, replace(device, local_ts=many))
    (sa,) = network.gateway.sas.values()
    assert len(sa.remote_ts) == 32
    assert_consistent(network)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (IdType.FQDN, b"ada"),
        (IdType.DER_ASN1_DN, b"\x30\x80broken"),
        (IdType.DER_ASN1_DN, b""),
        (IdType.RFC822_ADDR, b'"ada@example.com"@evil.example'),
        (IdType.RFC822_ADDR, b"@example.com"),
        (IdType.RFC822_ADDR, b"a" * 300 + b"@example.org"),
        (IdType.KEY_ID, bytes(2000)),
        (0, b"x"),
        (4, b"\1\2\3\4"),
        (255, b"ada@example.com"),
    ],
)
def test_h28_identities_that_fit_no_connection(kind: int, data: bytes) -> None:
    network = replace_payload(
        pair(), lambda p: IdInitiator(kind, data) if isinstance(p, IdInitiator) else p
    )
    connect(network)
    assert "no connection accepts" in auth_failure(network).text
    assert not network.gateway.sas


@pytest.mark.parametrize("kind", [IdType.IPV4_ADDR, IdType.IPV6_ADDR])
def test_h28_address_identity_of_a_wrong_size(kind: int) -> None:
    network = replace_payload(
        pair(), lambda p: IdInitiator(kind, b"host.name") if isinstance(p, IdInitiator) else p
    )
    connect(network)
    assert "malformed" in auth_failure(network).text


def certificate_pair() -> Network:
    return pair(
        gateway_policy(
            local_credential=credential("gw.example.com"), peer_auth=PeerAuth(anchors=anchors())
        ),
        device_policy(
            local_credential=credential("ada@example.com"), peer_auth=PeerAuth(anchors=anchors())
        ),
    )


@pytest.mark.parametrize(
    "certificate",
    [
        Certificate(CertEncoding.X509_SIGNATURE, b"garbage"),
        Certificate(CertEncoding.X509_SIGNATURE, b"\x30\x82\xff\xff" + bytes(100)),
        Certificate(CertEncoding.X509_SIGNATURE, b"\x30" * 30_000),
        Certificate(CertEncoding.HASH_AND_URL, b"h" * 20 + b"http://198.51.100.1/cert"),
        Certificate(CertEncoding.CRL, b"\x30\x00"),
        None,
    ],
)
def test_h29_certificates_that_are_none(certificate: Certificate | None) -> None:
    network = replace_payload(
        certificate_pair(), lambda p: certificate if isinstance(p, Certificate) else p
    )
    connect(network)
    network.pass_time(0)
    assert auth_failure(network).fields["step"] == "IKE_AUTH"
    assert not network.gateway.sas


@pytest.mark.parametrize(
    ("method", "data"),
    [
        (AuthMethod.SHARED_KEY, bytes(32)),
        (AuthMethod.SHARED_KEY, bytes(1)),
        (0, bytes(32)),
        (3, bytes(32)),
        (AuthMethod.RSA_SIGNATURE, bytes(256)),
        (AuthMethod.ECDSA_SHA256_P256, bytes(64)),
        (AuthMethod.ECDSA_SHA256_P256, b"\xff" * 64),
        (AuthMethod.DIGITAL_SIGNATURE, b""),
        (AuthMethod.DIGITAL_SIGNATURE, b"\xff"),
        (AuthMethod.DIGITAL_SIGNATURE, b"\x0c" + bytes(80)),
        (255, bytes(32)),
    ],
)
@pytest.mark.parametrize("kind", ["psk", "certificate"])
def test_h30_proofs_that_prove_nothing(kind: str, method: int, data: bytes) -> None:
    network = replace_payload(
        pair() if kind == "psk" else certificate_pair(),
        lambda p: Authentication(method, data) if isinstance(p, Authentication) else p,
    )
    connect(network)
    event = auth_failure(network)
    assert event.fields["step"] == "IKE_AUTH"
    assert not network.gateway.sas
    assert not established(network.gateway)


def test_h30_no_auth_payload_is_a_wish_for_eap() -> None:
    network = replace_payload(pair(), lambda p: None if isinstance(p, Authentication) else p)
    connect(network)
    assert "EAP" in auth_failure(network).text


def test_h30_the_key_of_another_session_proves_nothing() -> None:
    first = pair()
    stolen: list[Payload] = []
    replace_payload(first, lambda p: stolen.append(p) or p if isinstance(p, Authentication) else p)
    connect(first)
    _PATCH.undo()
    network = replace_payload(pair(), lambda p: stolen[0] if isinstance(p, Authentication) else p)
    connect(network)
    assert "pre-shared key" in auth_failure(network).text


@pytest.mark.parametrize(
    "attributes",
    [
        ((CfgAttribute.INTERNAL_IP4_ADDRESS, b""), (31337, b"what"), (0, b"")),
        ((CfgAttribute.INTERNAL_IP4_ADDRESS, bytes(4)), (CfgAttribute.INTERNAL_IP4_DHCP, b"")),
        ((CfgAttribute.INTERNAL_IP4_ADDRESS, b"\x08\x08\x08\x08"),),
    ],
)
def test_h32_configuration_requests(attributes: tuple[tuple[int, bytes], ...]) -> None:
    request = Configuration(
        CfgType.REQUEST, tuple(ConfigurationAttribute(*one) for one in attributes)
    )
    network = replace_payload(pair(), lambda p: request if isinstance(p, Configuration) else p)
    connect(network)
    assert str(next(iter(network.gateway.sas.values())).remote_ts[0]) == "10.9.0.1/32"


@pytest.mark.parametrize("size", [3, 5])
def test_h32_address_of_a_wrong_length(size: int) -> None:
    bad = ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_ADDRESS, bytes(size))
    request = Configuration(CfgType.REQUEST, (bad,))
    network = replace_payload(pair(), lambda p: request if isinstance(p, Configuration) else p)
    connect(network)
    assert network.gateway.engine.counters["internal_errors"] == 0
    assert not established(network.gateway) or network.gateway.sas


def test_h32_an_address_that_somebody_else_holds() -> None:
    pools = {"road": AddressPool("road", ip_network("10.9.0.0/24"))}
    held = pools["road"].lease("bob@example.com")
    wanted = ConfigurationAttribute(CfgAttribute.INTERNAL_IP4_ADDRESS, held.packed)
    request = Configuration(CfgType.REQUEST, (wanted,))
    network = replace_payload(
        pair(pools=pools), lambda p: request if isinstance(p, Configuration) else p
    )
    connect(network)
    assert str(next(iter(network.gateway.sas.values())).remote_ts[0]) == "10.9.0.2/32"
    assert pools["road"].holder(held) == "bob@example.com"


@pytest.mark.parametrize("kind", [CfgType.REPLY, CfgType.SET, CfgType.ACK, 77])
def test_h32_other_configuration_types_assign_nothing(kind: int) -> None:
    request = Configuration(kind, ())
    network = replace_payload(pair(), lambda p: request if isinstance(p, Configuration) else p)
    connect(network)
    assert "asked for no inner address" in auth_failure(network).text


@pytest.mark.parametrize(
    "keep",
    [(), (NotifyType.NAT_DETECTION_SOURCE_IP,), (NotifyType.NAT_DETECTION_DESTINATION_IP,)],
)
def test_h34_nat_detection_absent_or_one_sided_means_no_nat(keep: tuple[int, ...]) -> None:
    network = pair()
    request = first_request(network)
    detection = (NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP)
    message = changed(
        request,
        lambda p: (
            [] if isinstance(p, Notify) and p.type in detection and p.type not in keep else [p]
        ),
    )
    (answer,) = deliver(network, message)
    assert not set(detection) & set(notifies(answer))
    (sa,) = core(network.gateway).sas.values()
    assert not sa.encapsulate


@pytest.mark.parametrize("data", [b"", bytes(19), bytes(20), bytes(21), bytes(500)])
def test_h34_wrong_nat_detection_hashes_mean_a_nat(data: bytes) -> None:
    network = pair()
    request = first_request(network)
    message = changed(
        request,
        lambda p: (
            [Notify(p.type, data)]
            if isinstance(p, Notify) and p.type == NotifyType.NAT_DETECTION_SOURCE_IP
            else [p]
        ),
    )
    deliver(network, message)
    (sa,) = core(network.gateway).sas.values()
    assert sa.remote_natted
    assert not sa.local_natted


def test_unknown_spi_is_answered_a_few_times_only() -> None:
    network = pair()
    message = struct.pack("!8s8s4B2I", b"\1" * 8, b"\2" * 8, 46, 0x20, 37, 8, 5, 28 + 40)
    message += struct.pack("!BBH", 0, 0, 40) + bytes(36)
    (answer,) = deliver(network, message)
    assert notifies(answer) == [NotifyType.INVALID_IKE_SPI]
    assert len(answer) <= len(message)
    found = [answer for _ in range(100) for answer in deliver(network, message)]
    assert len(found) < 10


def test_responses_from_elsewhere_do_not_disturb_an_initiator() -> None:
    network = pair()
    request = first_request(network)
    (answer,) = deliver(network, request)
    elsewhere = Path(DEVICE, Endpoint(ip_address("203.0.113.4"), 500))
    network.device.engine.receive(answer, elsewhere, network.now)
    (sa,) = core(network.device).sas.values()
    assert sa.state is State.INIT_SENT
    network.device.engine.receive(answer, Path(DEVICE, GATEWAY), network.now)
    network.run()
    assert established(network.device)


def test_an_internal_error_costs_one_message_only() -> None:
    network = connected()
    (message,) = sealed(network, [(INNER, None)])
    _PATCH.setattr(protect.Opened, "payloads", lambda self: 1 / 0)
    assert not deliver(network, message)
    _PATCH.undo()
    assert network.gateway.engine.counters["internal_errors"] == 1
    assert established(network.gateway)
    assert len(deliver(network, message)) == 1
    assert PSK
    assert Datagram
    assert Host
    assert make_engine

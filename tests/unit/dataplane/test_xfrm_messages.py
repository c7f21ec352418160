"""The fast encoder and decoder against the family as declared on pyroute2's classes."""

import struct
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.child import InstalledChild, kernel_reqid
from gateway.dataplane.kernel.xfrm import decode, encode, messages
from gateway.dataplane.kernel.xfrm.constants import (
    IF_ID,
    REQID_FIRST,
    REQID_LAST,
    REQID_SHARED,
    Direction,
    XfrmMessage,
)
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

SUITES = [
    EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=False),
    EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True),
    EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=True),
    EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256, esn=False),
    EspSuite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128, esn=True),
]


def child(suite: EspSuite, **changes: Any) -> InstalledChild:
    keys = EspKeys(bytes(range(36)), b"" if suite.encryption.is_aead else bytes(range(64)))
    fields: dict[str, Any] = {
        "spi_in": 0xC0FFEE01,
        "spi_out": 0xBEEF0002,
        "reqid": 5,
        "suite": suite,
        "keys_in": keys,
        "keys_out": keys,
        "local": Endpoint(ip_address("192.0.2.1"), 4500),
        "remote": Endpoint(ip_address("198.51.100.7"), 40123),
        "udp_encapsulation": True,
        "local_ts": (TrafficSelector.of_network(ip_network("10.1.0.0/16")),),
        "remote_ts": (TrafficSelector.of_address(ip_address("10.9.0.1")),),
    }
    return InstalledChild.of(ChildSa(**{**fields, **changes}))


def declared(octets: bytes) -> Any:
    kind = XfrmMessage(struct.unpack_from("=H", octets, 4)[0])
    message = messages.DECLARED[kind](octets)
    message.decode()
    return message


def encoded_again(octets: bytes) -> bytes:
    """Decode with the declared class, give every value to a new one, and encode that."""
    message = declared(octets)
    again = type(message)()
    for name, value in message.items():
        again[name] = value
    again["attrs"] = [(name, value) for name, value in message.get("attrs", [])]
    again.encode()
    return bytes(again.data)


def requests() -> list[bytes]:
    before = decode.State(
        ip_address("192.0.2.1"), 1, 50, ip_address("198.51.100.7"), 1, 1,
        encode.Consumed(1, 2, 3, 4), encode.ReplayState(5, 6, bytes(range(16))), None, 0, 0,
    )  # fmt: skip
    made = []
    for suite in SUITES:
        for changes in (
            {},
            {"udp_encapsulation": False},
            {"soft_bytes": 1, "hard_bytes": 2, "soft_packets": 3, "hard_packets": 4},
            {"replay_window": 1024},
            {"remote": Endpoint(ip_address("2001:db8::2"), 1), "local": Endpoint(
                ip_address("2001:db8::1"), 4500)},
        ):  # fmt: skip
            one = child(suite, **changes)
            made += [
                one.inbound_state(), one.outbound_state(), one.inbound_state(before),
                one.outbound_state(before), one.inbound_state(update=True),
                one.delete_inbound(), one.get_outbound(),
            ]  # fmt: skip
    selector = encode.Selector(
        ip_address("10.1.0.0"), 16, ip_address("10.9.0.1"), 32, 6, 80, 0xFFFF, 1024, 0xFC00
    )
    template = encode.Template(ip_address("192.0.2.1"), ip_address("198.51.100.7"), 77)
    made += [
        encode.policy(Direction.OUT, selector, template),
        encode.policy(Direction.IN, selector, template, if_id=False, priority=3),
        encode.delete_policy(Direction.FWD, selector),
        encode.delete_policy_index(1, 4711, IF_ID),
        encode.thresholds(0, 32),
        encode.thresholds(64, 128, version=6),
    ]
    return made


@pytest.mark.parametrize("octets", requests())
def test_every_request_equals_what_the_declared_class_encodes(octets: bytes) -> None:
    assert encoded_again(octets) == octets


def test_a_state_says_what_the_child_sa_says() -> None:
    one = child(SUITES[0])
    state = declared(one.inbound_state())
    assert state["id_spi"] == 0xC0FFEE01
    assert state["id_daddr"][:4] == ip_address("192.0.2.1").packed
    assert state["saddr"][:4] == ip_address("198.51.100.7").packed
    assert state["reqid"] == REQID_SHARED
    assert (state["sel_prefixlen_s"], state["sel_prefixlen_d"]) == (32, 16)
    assert state["sel_saddr"][:4] == ip_address("10.9.0.1").packed
    aead = state.get_attr("XFRMA_ALG_AEAD")
    assert aead["alg_name"].rstrip(b"\0") == b"rfc4106(gcm(aes))"
    assert (aead["alg_key_len"], aead["alg_icv_len"]) == (36 * 8, 128)
    encap = state.get_attr("XFRMA_ENCAP")
    assert (encap["encap_sport"], encap["encap_dport"]) == (40123, 4500)
    assert state.get_attr("XFRMA_IF_ID") == IF_ID
    replay = state.get_attr("XFRMA_REPLAY_ESN_VAL")
    assert (replay["replay_window"], replay["bmp_len"], len(replay["bmp"])) == (128, 4, 16)


def test_without_esn_an_sa_ends_before_its_sequence_numbers_wrap() -> None:
    state = declared(child(SUITES[0]).outbound_state())
    assert state["lft_hard_packet_limit"] < 1 << 32
    assert state["lft_soft_packet_limit"] < state["lft_hard_packet_limit"]
    assert declared(child(SUITES[1]).outbound_state())["lft_hard_packet_limit"] == (1 << 64) - 1


def test_an_outbound_sa_that_moves_skips_numbers_and_carries_counters() -> None:
    before = decode.State(
        ip_address("198.51.100.7"), 1, 50, ip_address("192.0.2.1"), 1, 1,
        encode.Consumed(1000, 10, 3, 4), encode.ReplayState((7 << 32) - 1), None, 0, 0,
    )  # fmt: skip
    state = declared(child(SUITES[1]).outbound_state(before))
    replay = state.get_attr("XFRMA_REPLAY_ESN_VAL")
    assert (replay["oseq_hi"] << 32) + replay["oseq"] == (7 << 32) + 15
    assert state.get_attr("XFRMA_LTIME_VAL")["bytes"] == 1000


def test_the_decoder_reads_what_the_declared_class_reads() -> None:
    one = child(SUITES[1])
    before = decode.State(
        ip_address("192.0.2.1"), 1, 50, ip_address("198.51.100.7"), 1, 1,
        encode.Consumed(1, 2, 3, 4), encode.ReplayState(0, 9 << 32 | 6, bytes(range(16))), None,
        0, 0,
    )  # fmt: skip
    octets = one.inbound_state(before)
    state = decode.state(octets[16:])
    assert state is not None
    assert state.spi == one.sa.spi_in
    assert state.source == one.remote.address
    assert state.destination == one.local.address
    assert state.if_id == IF_ID
    assert state.replay == before.replay
    assert state.reqid == REQID_SHARED


def test_a_mapping_event() -> None:
    message = messages.MappingMessage()
    message["id_daddr"] = ip_address("192.0.2.1").packed + bytes(12)
    message["id_spi"] = 0x1001
    message["id_family"] = 2
    message["id_proto"] = 50
    message["id_pad"] = message["old_saddr"] = b""
    message["reqid"] = 3
    message["new_saddr"] = ip_address("203.0.113.9").packed + bytes(12)
    message["new_sport"] = 31000
    message.encode()
    assert decode.event(XfrmMessage.MAPPING, bytes(message.data)[16:]) == decode.Mapping(
        0x1001, ip_address("192.0.2.1"), 3, Endpoint(ip_address("203.0.113.9"), 31000)
    )


def test_an_expire_event() -> None:
    state = child(SUITES[0]).inbound_state()[16 : 16 + decode.STATE_SIZE]
    event = decode.event(XfrmMessage.EXPIRE, state + b"\1" + bytes(7))
    assert event == decode.Expire(ip_address("192.0.2.1"), 0xC0FFEE01, REQID_SHARED, hard=True)


@given(st.sampled_from(list(XfrmMessage)), st.binary(max_size=400))
def test_h05_events_of_any_octets_never_raise(kind: XfrmMessage, body: bytes) -> None:
    decode.event(kind, body)
    decode.state(body)
    decode.policy(body)


@given(st.binary(max_size=120), st.integers(0, 231))
def test_h05_h08_cut_or_broken_attributes_never_raise(junk: bytes, cut: int) -> None:
    octets = child(SUITES[1]).inbound_state()[16:]
    decode.state(octets[: decode.STATE_SIZE] + junk)
    decode.state(octets[:cut])
    decode.event(XfrmMessage.ACQUIRE, bytes(280) + junk)


@given(st.integers(1, 1 << 32))
def test_reqids_stay_within_our_range_and_off_the_shared_one(reqid: int) -> None:
    assert REQID_FIRST < kernel_reqid(reqid) <= REQID_LAST

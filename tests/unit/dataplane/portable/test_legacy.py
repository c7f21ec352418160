"""What another version of ours has to be able to read."""

import json
from dataclasses import make_dataclass, replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.portable import messages
from gateway.dataplane.portable.esp.state import Carried, InboundState, OutboundState, SaState
from gateway.dataplane.portable.legacy import HELLO_OCTETS, SOCKET_NAME, Legacy
from gateway.dataplane.portable.plain import from_json, to_json
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.domain.child_sa import (
    ANY_IPV6,
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    Mode,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint
from gateway.domain.wire import WireError

SA = ChildSa(
    0xC0000001,
    0xC0000002,
    3,
    EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_256_128, esn=True),
    EspKeys(b"\0" * 32, b"\xff" * 32),
    EspKeys(b""),
    Endpoint(IPv4Address("192.0.2.1"), 4500),
    Endpoint(IPv6Address("2001:db8::1"), 0),
    udp_encapsulation=True,
    local_ts=(TrafficSelector.of_address(IPv4Address("10.0.0.1")), ANY_IPV6),
    remote_ts=(ANY_IPV6,),
    mode=Mode.TRANSPORT,
    soft_bytes=2**63,
)
LEGACY = Legacy(
    2,
    "gw0",
    (
        SaState(
            SA,
            sends=True,
            inbound=InboundState(2**33, 2**1000 + 1, Carried(1, 2, soft=True), 1.5),
            outbound=OutboundState(7, 2**60, 0x77),
            before_move=(5, None),
        ),
        SaState(SA, before_move=(5, 1e9)),
    ),
    (TunnelLink("mip-1", TunnelKind.L2TP, remote=IPv4Address("192.0.2.9"), cookie=b"abcd"),),
)


def test_what_is_left_is_read_again() -> None:
    assert from_json(Legacy, to_json([LEGACY])) == [LEGACY]


def test_unknown_fields_are_left_out_and_missing_ones_have_defaults() -> None:
    (value,) = json.loads(to_json([LEGACY]))
    value["of_a_later_version"] = {"anything": [1]}
    value["states"][0]["sa"]["of_a_later_version"] = 1
    del value["states"][0]["sa"]["zone"]
    del value["links"][0]["ttl"]
    assert from_json(Legacy, json.dumps([value]).encode()) == [LEGACY]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spi_in", "1"),
        ("spi_in", True),
        ("suite", {"encryption": "ROT13"}),
        ("keys_in", {"encryption": "xyz"}),
        ("local", {"address": "192.0.2.300", "port": 1}),
        ("local", None),
        ("local_ts", "ab"),
        ("soft_bytes", 1.5),
    ],
)
def test_what_cannot_be_read_is_left_out(name: str, value: object) -> None:
    plain = json.loads(to_json(LEGACY.states))
    plain[0]["sa"][name] = value
    assert from_json(SaState, json.dumps(plain).encode()) == [LEGACY.states[1]]


def test_a_field_without_a_default_has_to_be_there() -> None:
    one = make_dataclass("One", [("a", int)], frozen=True)
    assert from_json(one, b'[{}, {"a": 1}, 5, null, []]') == [one(1)]


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["workers", "states", "links", "sa", "interface"]),
                inner,
                max_size=3,
            )
        ),
    ).map(lambda value: json.dumps([value]).encode())
)
def test_nonsense_is_refused_or_left_out(octets: bytes) -> None:
    try:
        found = from_json(Legacy, octets)
    except WireError:
        return
    assert all(isinstance(one, Legacy) for one in found)


def test_what_no_version_may_change() -> None:
    assert len(messages.HELLO) == HELLO_OCTETS
    assert messages.HELLO.startswith(b"gwfw")
    assert messages.socket_name(3) == SOCKET_NAME.format(3)


def test_keys_are_not_in_texts() -> None:
    state = replace(LEGACY.states[0], sa=replace(SA, keys_in=EspKeys(b"secret")))
    assert "secret" not in repr(state)

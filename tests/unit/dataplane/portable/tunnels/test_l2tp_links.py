"""L2TPv3 sessions: what is on the wire, and what comes out of which session."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.tunnels.engine import TunnelEngine

SERVER, CLIENT = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
LINK = TunnelLink(
    "nar-l2tp-000102",
    TunnelKind.L2TP,
    local=SERVER,
    remote=CLIENT,
    local_port=64950,
    remote_port=1701,
    session=0x01020304,
    peer_session=0x0A0B0C0D,
    cookie=b"receives",
    peer_cookie=b"sends it",
    link_address=b"\x02NA\x01\x02\x03",
)
OTHER_END = replace(
    LINK,
    name="nb",
    local=CLIENT,
    remote=SERVER,
    local_port=1701,
    remote_port=64950,
    session=LINK.peer_session,
    peer_session=LINK.session,
    cookie=LINK.peer_cookie,
    peer_cookie=LINK.cookie,
)
INNER = with_checksum(
    b"\x45\x00\x00\x18\0\7\0\0\x3f\xfd\0\0\x0a\0\0\1\x0a\0\0\2abcd"
)  # fmt: skip


def engine(*links: TunnelLink) -> TunnelEngine:
    made = TunnelEngine()
    for link in links:
        assert made.set_tunnel(link) is None
    return made


def sent(link: TunnelLink, inner: bytes = INNER) -> bytes:
    made = engine(link)
    made.leaving(link.name, [(inner, 5)])
    [(outer, mark)] = made.sends
    assert mark == 5
    return with_checksum(outer)


def test_a_message_has_the_form_of_the_rfc() -> None:
    outer = sent(LINK)
    assert outer[12:20] == SERVER.packed + CLIENT.packed
    assert outer[9] == 17
    assert outer[20:].hex(" ", 2) == (
        "fdb6 06a5 0042 0000"  # UDP
        " 0003 0000 0a0b 0c0d"  # data message of version 3, peer's session
        f" {b'sends it'.hex(' ', 2)} 0000 0000"
        f" {LINK.link_address.hex(' ', 2)} {LINK.link_address.hex(' ', 2)} 0800 "
        + INNER.hex(" ", 2)
    )
    assert int.from_bytes(outer[2:4], "big") == len(outer)


def test_what_one_end_sends_comes_out_at_the_other() -> None:
    made = engine(LINK)
    made.arrived([(sent(OTHER_END), 0x4759)])
    assert made.delivers == [(LINK.name, INNER, 0x4759)]
    assert made.wanted() == (frozenset(), frozenset({64950}))


def test_sessions_with_one_port_and_one_peer_are_told_apart() -> None:
    second = replace(LINK, name="second", session=9, cookie=b"anothers")
    made = engine(LINK, second)
    made.arrived([(sent(replace(OTHER_END, peer_session=9, peer_cookie=b"anothers")), 0)])
    assert made.delivers == [("second", INNER, 0)]


@pytest.mark.parametrize(
    ("changed", "counter"),
    [
        (replace(OTHER_END, peer_cookie=b"guessed!"), "l2tp_cookie"),
        (replace(OTHER_END, peer_session=77), "no_link"),
        (replace(OTHER_END, local=IPv4Address("10.0.0.3")), "no_link"),
        (replace(OTHER_END, local_port=1702), "no_link"),
        (replace(OTHER_END, link_address=b"\2other"), "l2tp_frame"),
    ],
)
def test_what_is_of_no_session_comes_out_nowhere(changed: TunnelLink, counter: str) -> None:
    made = engine(LINK)
    made.arrived([(sent(changed), 0)])
    assert made.delivers == []
    assert made.counters[counter] == 1


def test_control_messages_and_broken_packets_come_out_nowhere() -> None:
    right = sent(OTHER_END)
    control = right[:28] + b"\xc8\x03" + right[30:]
    broken_inner = right[:-5] + b"\xff" + right[-4:]
    fragment = with_checksum(right[:6] + b"\x20\0" + right[8:])
    made = engine(LINK)
    made.arrived([(control, 0), (broken_inner, 0), (fragment, 0), (right[:60], 0)])
    assert made.delivers == []
    assert made.counters["l2tp_control"] == 1
    assert made.counters["malformed"] == 3


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        (replace(LINK, remote=None, sends=False), "both addresses"),
        (replace(LINK, session=0), "both session ids"),
        (replace(LINK, cookie=b"short"), "cookies of 8 octets"),
        (replace(LINK, link_address=b""), "Ethernet address"),
    ],
)
def test_a_link_that_lacks_something_is_refused(link: TunnelLink, reason: str) -> None:
    assert reason in (TunnelEngine().set_tunnel(link) or "")


def test_a_session_id_is_one_links() -> None:
    made = engine(LINK)
    assert LINK.name in (made.set_tunnel(replace(LINK, name="second")) or "")
    made.remove_tunnel(LINK.name)
    assert made.set_tunnel(replace(LINK, name="second")) is None


@given(st.binary(max_size=120), st.integers(0, 90), st.binary(max_size=4))
def test_nothing_that_arrives_raises(noise: bytes, at: int, change: bytes) -> None:
    right = sent(OTHER_END)
    made = engine(LINK)
    made.arrived([(noise, 0), (right[:at] + change + right[at + len(change) :], 0)])
    assert all(name == LINK.name for name, _, _ in made.delivers)

"""Messages as octets: what goes in comes out, and nothing but WireError for what is not ours."""

import contextlib
from dataclasses import make_dataclass
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.interface import (
    EndpointRejected,
    EndpointSeen,
    Refusal,
    SaExpired,
    TrafficWaiting,
    Usage,
)
from gateway.dataplane.portable import messages
from gateway.dataplane.portable.codec import (
    FRAME,
    MAX_OCTETS,
    decoded,
    encoded,
    fingerprint,
    framed,
)
from gateway.dataplane.portable.esp.state import Carried, InboundState, SaState
from gateway.dataplane.portable.forwarder import HeldSa, RefusedTunnel
from gateway.dataplane.portable.messages import Answer, Request
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.domain.child_sa import (
    ANY_IPV4,
    ANY_IPV6,
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    Mode,
)
from gateway.domain.endpoint import Endpoint
from gateway.domain.wire import WireError

V4, V6 = Endpoint(IPv4Address("192.0.2.1"), 4500), Endpoint(IPv6Address("2001:db8::1"), 0)
SA = ChildSa(
    spi_in=0xFFFFFFFF,
    spi_out=256,
    reqid=7,
    suite=EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256, esn=True),
    keys_in=EspKeys(b"k" * 32, b"i" * 64),
    keys_out=EspKeys(b""),
    local=V4,
    remote=V6,
    udp_encapsulation=True,
    local_ts=(ANY_IPV4, ANY_IPV6),
    remote_ts=(),
    mode=Mode.TRANSPORT,
    hard_bytes=2**64 - 1,
)
STATE = SaState(
    SA,
    sends=True,
    inbound=InboundState(2**40, 2**1023 - 1, Carried(5, 6, soft=True), 0.5),
    before_move=(3, None),
)
REQUESTS: list[object] = [
    messages.Commit(
        (
            messages.Install(SA, outbound=True, output_mark=0xFFFFFFFF),
            messages.Restore(STATE),
            messages.Activate(1),
            messages.Remove(0),
            messages.Move(1, V4, V6, udp_encapsulation=False),
            messages.Trap(SA),
            messages.Untrap(2),
            messages.SetTunnel(TunnelLink("mip-1", TunnelKind.GRE_UDP, mark=0, below=3)),
            messages.RemoveTunnel("mip-1"),
        )
    ),
    messages.Commit(()),
    messages.AskHeld(),
    messages.AskTunnels(),
    messages.AskUsage(5),
    messages.AskBeforeMove(5),
    messages.AskCounters(),
    messages.Watch(),
    messages.Bound(),
    messages.End(),
]
ANSWERS: list[object] = [
    messages.Welcome(1, 2, "gw0", 4711, marks=True),
    messages.Committed((Refusal(1, "größer"),), (RefusedTunnel("a", "b"),)),
    messages.Held((HeldSa(SA, outbound=True, soft_limit_reached=False),), more=True),
    messages.Tunnels((TunnelLink("a", TunnelKind.L2TP, cookie=b"1234"),)),
    messages.UsageNow(None),
    messages.UsageNow(Usage(1, 2, 3, 4, 0.5)),
    messages.BeforeMove((3, None)),
    messages.BeforeMove((3, 1e9)),
    messages.BeforeMove(None),
    messages.Counters((("replay", 3),)),
    messages.Events(
        (
            EndpointSeen(1, V6, "proof"),
            EndpointRejected(1, V4, "reason"),
            SaExpired(1, hard=False),
            TrafficWaiting(-1),
        )
    ),
    messages.Done(),
    messages.Wrong("no"),
]


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Request, one) for one in REQUESTS] + [(Answer, one) for one in ANSWERS],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_in_comes_out(kind: object, value: object) -> None:
    octets = encoded(kind, value)
    assert decoded(kind, octets) == value
    for end in range(len(octets)):
        with pytest.raises(WireError):
            decoded(kind, octets[:end])
    with pytest.raises(WireError):
        decoded(kind, octets + b"\0")


def test_every_message_has_a_sample() -> None:
    assert {type(one) for one in REQUESTS} == set(Request.__args__)
    assert {type(one) for one in ANSWERS} == set(Answer.__args__)


@given(st.binary(max_size=300))
def test_nonsense_is_refused(octets: bytes) -> None:
    for kind in (Request, Answer):
        try:
            decoded(kind, octets)
        except WireError:
            continue


@given(st.sampled_from(REQUESTS), st.data())
def test_a_changed_octet_is_refused_or_is_another_message(
    value: object, data: st.DataObject
) -> None:
    octets = bytearray(encoded(Request, value))
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        decoded(Request, bytes(octets))


def test_a_count_is_not_believed() -> None:
    octets = bytearray(encoded(Request, messages.Commit(())))
    octets[-4:] = b"\xff" * 4
    with pytest.raises(WireError):
        decoded(Request, bytes(octets))


def test_a_message_has_its_length_before_it_and_a_largest_size() -> None:
    octets = framed(Answer, messages.Wrong("no"))
    assert FRAME.unpack_from(octets)[0] == len(octets) - FRAME.size
    with pytest.raises(WireError):
        framed(Answer, messages.Wrong("x" * MAX_OCTETS))


def test_the_fingerprint_knows_every_field() -> None:
    one = make_dataclass("One", [("a", int)], frozen=True)
    other = make_dataclass("One", [("b", int)], frozen=True)
    more = make_dataclass("One", [("a", int), ("b", int)], frozen=True)
    prints = {fingerprint(kind) for kind in (one, other, more, one | None)}
    assert len(prints) == 4
    assert fingerprint(Request, Answer) == messages.VERSION


def test_unions_that_are_equal_look_the_same() -> None:
    assert encoded(int | str, 1) == encoded(str | int, 1)
    assert decoded(str | int, encoded(int | str, "a")) == "a"

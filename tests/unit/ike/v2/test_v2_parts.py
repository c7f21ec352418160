"""The parts of the engine on their own: narrowing, NAT detection, window, transitions, budget."""

from ipaddress import ip_address, ip_network
from types import SimpleNamespace

import pytest
from certs_v2 import anchors
from harness_v2 import DEVICE, GATEWAY, PSK, gateway_policy
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.endpoint import Endpoint, Path
from gateway.ike import selectors
from gateway.ike.endpoint_update import MoveBudget
from gateway.ike.policy import PeerAuth, UserAuth, UserMethod
from gateway.ike.v2 import nat
from gateway.ike.v2.sa import (
    ALL_EVIDENCE,
    TRANSITIONS,
    Evidence,
    IkeSa,
    IllegalTransition,
    State,
    required_evidence,
    transition,
)
from gateway.ike.v2.window import Window, retransmission_delay

CORE = SimpleNamespace(trace=False, touch=lambda sa: None)


def selector(start: int, size: int, protocol: int, port: int, ports: int) -> TrafficSelector:
    cls = ip_address
    return TrafficSelector(
        cls("10.0.0.0") + start, cls("10.0.0.0") + start + size, protocol, port, port + ports
    )


SELECTORS = st.lists(
    st.builds(
        selector,
        st.integers(0, 40),
        st.integers(0, 40),
        st.sampled_from((0, 6, 17)),
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    max_size=5,
)


def allows(many: object, address: int, protocol: int, port: int) -> bool:
    at = ip_address("10.0.0.0") + address
    return any(
        one.start <= at <= one.end
        and one.protocol in (0, protocol)
        and one.start_port <= port <= one.end_port
        for one in many
    )


@given(SELECTORS, SELECTORS, st.integers(0, 80), st.sampled_from((6, 17)), st.integers(0, 40))
def test_narrowing_allows_exactly_what_both_allow(
    offered: list[TrafficSelector],
    allowed: list[TrafficSelector],
    address: int,
    protocol: int,
    port: int,
) -> None:
    result = selectors.narrow(offered, allowed)
    both = allows(offered, address, protocol, port) and allows(allowed, address, protocol, port)
    assert allows(result, address, protocol, port) == both
    assert selectors.covers_all(allowed, result)
    for one in result:
        assert not any(other is not one and selectors.covers(other, one) for other in result)


def test_nat_detection_finds_the_side() -> None:
    path = Path(GATEWAY, DEVICE)
    spis = (b"\1" * 8, b"\2" * 8)
    right = [nat.detection_hash(*spis, end) for end in (DEVICE, GATEWAY)]
    wrong = [nat.detection_hash(*spis, Endpoint(ip_address("192.168.0.2"), 500))]
    assert nat.detect(*spis, path, right[:1], right[1:]) == (False, False)
    assert nat.detect(*spis, path, wrong, right[1:]) == (False, True)
    assert nat.detect(*spis, path, right[:1], wrong) == (True, False)
    assert nat.detect(*spis, path, wrong + right[:1], right[1:]) == (False, False)
    assert nat.detect(*spis, path, [], []) == (False, False)


def test_nat_detection_hash_is_that_of_the_rfc() -> None:
    from hashlib import sha1

    expected = sha1(b"\1" * 8 + b"\2" * 8 + bytes([192, 0, 2, 1]) + b"\x01\xf4").digest()
    assert nat.detection_hash(b"\1" * 8, b"\2" * 8, GATEWAY) == expected


def test_window() -> None:
    window = Window()
    assert not window.is_repeated(0, b"digest")
    window.answer(b"digest", (b"answer",))
    assert window.is_repeated(0, b"digest")
    assert not window.is_repeated(0, b"other")
    assert not window.is_repeated(1, b"digest")
    assert not window.awaits(0)


def test_retransmission_backs_off() -> None:
    delays = [retransmission_delay(n, 1.0, 2.0) for n in range(1, 5)]
    assert delays == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("start", State)
@pytest.mark.parametrize("end", State)
def test_only_the_table_s_transitions_happen(start: State, end: State) -> None:
    sa = IkeSa(b"\1" * 8, b"\2" * 8, initiator=False, path=Path(GATEWAY, DEVICE), now=0.0)
    sa.state = start
    sa.evidence = Evidence.KEYS | Evidence.INHERITED
    if end in TRANSITIONS[start]:
        transition(CORE, sa, end, "test")
        assert sa.state is end
    else:
        with pytest.raises(IllegalTransition):
            transition(CORE, sa, end, "test")
        assert sa.state is start


KNOWN_PEER = Evidence.KEYS | Evidence.PEER_IDENTITY
USER = UserAuth((UserMethod.EAP_MSCHAPV2,))


@pytest.mark.parametrize("bits", [bits for bits in range(64) if not bits & Evidence.INHERITED])
@pytest.mark.parametrize(
    ("peer_auth", "required"),
    [
        (PeerAuth(PSK), KNOWN_PEER | Evidence.PEER_AUTH),
        (PeerAuth(anchors=anchors()), KNOWN_PEER | Evidence.PEER_AUTH | Evidence.PEER_CERTIFICATE),
        (PeerAuth(user=USER), KNOWN_PEER | Evidence.USER),
        (PeerAuth(PSK, user=USER), KNOWN_PEER | Evidence.PEER_AUTH | Evidence.USER),
        (
            PeerAuth(anchors=anchors(), user=USER),
            KNOWN_PEER | Evidence.PEER_AUTH | Evidence.PEER_CERTIFICATE | Evidence.USER,
        ),
        (PeerAuth(), KNOWN_PEER | Evidence.PEER_AUTH | Evidence.PEER_CERTIFICATE),
        (None, ALL_EVIDENCE),
    ],
)
def test_no_session_without_all_evidence(
    bits: int, peer_auth: PeerAuth | None, required: Evidence
) -> None:
    sa = IkeSa(b"\1" * 8, b"\2" * 8, initiator=False, path=Path(GATEWAY, DEVICE), now=0.0)
    sa.state = State.HALF_OPEN
    if peer_auth is not None:
        sa.connection = gateway_policy(peer_auth=peer_auth)
    sa.evidence = Evidence(bits)
    assert required_evidence(sa) == required
    if sa.evidence & required == required:
        transition(CORE, sa, State.ESTABLISHED, "test")
    else:
        with pytest.raises(IllegalTransition, match="evidence"):
            transition(CORE, sa, State.ESTABLISHED, "test")


def test_move_budget_refills() -> None:
    budget = MoveBudget(2, 0.0)
    assert [budget.take(2, 0.0) for _ in range(3)] == [True, True, False]
    assert not budget.take(2, 29.0)
    assert budget.take(2, 31.0)
    assert ip_network

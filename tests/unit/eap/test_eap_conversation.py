"""Negotiation, order, bounds and hostile packets of whole conversations."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from eap_talk import (
    ALL,
    PASSWORD,
    USERS,
    Talk,
    judge,
    peer,
    seeded,
    server,
    talk,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.eap import peer as peer_side
from gateway.eap import server as server_side
from gateway.eap.method import EapMethod, Progress, Stage
from gateway.eap.packet import Code, EapPacket, EapType
from gateway.eap.peer import EapPeer, Login, PeerStep
from gateway.eap.server import EapServer, Offer, Outcome, Step

MSCHAPV2, TLS, GTC = EapMethod.MSCHAPV2, EapMethod.TLS, EapMethod.GTC


def response(gate_packet: bytes | None, eap_type: int, data: bytes, ahead: int = 0) -> bytes:
    identifier = (gate_packet or b"\0\0")[1] + ahead & 0xFF
    return EapPacket(Code.RESPONSE, identifier, eap_type, data).encode()


def request(identifier: int, eap_type: int, data: bytes = b"") -> bytes:
    return EapPacket(Code.REQUEST, identifier, eap_type, data).encode()


def refused(step: Step | PeerStep) -> bool:
    return step.outcome is Outcome.FAILURE and step.msk == b"" and bool(step.reason)


# Negotiation


@pytest.mark.parametrize("method", ALL)
def test_the_first_method_offered_is_used(method: EapMethod) -> None:
    offered = (method, *(one for one in ALL if one is not method))
    end = talk(server(*offered), peer(*ALL))
    assert end.server.outcome is end.peer.outcome is Outcome.SUCCESS
    assert end.server.method is end.peer.method is method


@pytest.mark.parametrize("wanted", ALL)
def test_a_nak_leads_to_a_method_that_both_have(wanted: EapMethod) -> None:
    end = talk(server(*ALL), peer(wanted))
    assert end.server.outcome is end.peer.outcome is Outcome.SUCCESS
    assert end.server.method is wanted


def test_the_servers_order_decides_among_the_methods_of_a_nak() -> None:
    gate = server(TLS, GTC, MSCHAPV2, ask_identity=False)
    step = gate.receive(response(gate.start(), EapType.NAK, b"\x1a\x06"))
    assert step.method is GTC


def test_without_a_common_method_both_say_so() -> None:
    end = talk(server(TLS), peer(MSCHAPV2))
    assert refused(end.server)
    assert refused(end.peer)
    assert "EAP-MSCHAPV2" in end.server.reason
    assert "EAP-TLS" in end.server.reason
    assert "EAP-TLS" in end.peer.reason
    assert end.server.remedy
    assert end.peer.remedy


def test_only_one_nak_is_taken() -> None:
    gate = server(MSCHAPV2, TLS, GTC, ask_identity=False)
    step = gate.receive(response(gate.start(), EapType.NAK, bytes((TLS.value,))))
    assert step.method is TLS
    assert refused(gate.receive(response(step.send, EapType.NAK, bytes((GTC.value,)))))


def test_the_identity_need_not_be_asked() -> None:
    end = talk(server(MSCHAPV2, ask_identity=False), peer(MSCHAPV2))
    assert end.to_peer[0][4] == 26
    assert end.server.outcome is Outcome.SUCCESS
    assert end.server.user == "alice"


def test_a_vendors_method_is_declined_in_its_own_form() -> None:
    device = peer(MSCHAPV2)
    vendors = EapPacket(Code.REQUEST, 3, EapType.EXPANDED, b"hello", 311, 33)
    said = device.receive(vendors.encode())
    answer = EapPacket.decode(said.send or b"")
    assert (answer.eap_type, answer.vendor, answer.vendor_type) == (254, 0, 3)
    assert answer.data == bytes.fromhex("fe0000000000001a")


def test_a_notification_is_acknowledged() -> None:
    said = peer(MSCHAPV2).receive(request(3, EapType.NOTIFICATION, b"Maintenance at six"))
    assert EapPacket.decode(said.send or b"") == EapPacket(Code.RESPONSE, 3, 2)


def test_identifiers_wrap_around() -> None:
    for first in (253, 254, 255):
        gate = EapServer(
            Offer((MSCHAPV2,), find_user=USERS.get),
            lambda size, first=first: bytes((first,)) * size,  # type: ignore[misc]
        )
        assert talk(gate, peer(MSCHAPV2)).server.outcome is Outcome.SUCCESS


@pytest.mark.parametrize(
    ("offer", "complaint"),
    [
        (lambda: Offer(()), "no EAP method"),
        (lambda: Offer((MSCHAPV2,)), "user base"),
        (lambda: Offer((TLS,)), "certificate"),
        (lambda: Login("alice", ()), "no EAP method"),
        (lambda: Login("", (MSCHAPV2,), b"x"), "1 to 253"),
        (lambda: Login("a" * 254, (MSCHAPV2,), b"x"), "1 to 253"),
        (lambda: Login("alice", (MSCHAPV2,)), "empty"),
        (lambda: Login("alice", (TLS,)), "certificate"),
    ],
)
def test_settings_that_cannot_work_are_refused(offer: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        offer()


def test_secrets_are_in_no_representation() -> None:
    end = talk(server(GTC), peer(GTC))
    shown = repr(end.server) + repr(end.peer) + repr(peer(GTC)._login)
    assert PASSWORD not in shown
    assert "Geheimnis" not in shown
    end = talk(server(MSCHAPV2), peer(MSCHAPV2))
    assert end.server.msk.hex() not in repr(end.server)
    assert str(end.server.msk)[2:-1] not in repr(end.server) + repr(end.peer)


# Repetition


@pytest.mark.parametrize("method", ALL)
def test_repeated_packets_get_the_same_answer_and_change_nothing(method: EapMethod) -> None:
    gate, device = server(method), peer(method)
    packet = gate.start()
    for _ in range(30):
        said = device.receive(packet)
        if said.send is None:
            break
        assert device.receive(packet) == said
        step = gate.receive(said.send)
        if step.outcome is Outcome.ASK:
            step = gate.answered(judge(step))
        elif step.outcome is Outcome.CONTINUE:
            assert gate.receive(said.send) == step
        packet = step.send or b""
    assert said.outcome is step.outcome is Outcome.SUCCESS
    assert said.msk == step.msk


@pytest.mark.parametrize("method", ALL)
def test_h31_after_the_end_nothing_is_said_or_admitted_again(method: EapMethod) -> None:
    gate, device = server(method), peer(method)
    end = talk(gate, device)
    assert end.server.outcome is end.peer.outcome is Outcome.SUCCESS
    for packet in end.to_server:
        assert refused(gate.receive(packet))
    for packet in end.to_peer:
        assert refused(device.receive(packet))


# The client's side of (31)


@pytest.mark.parametrize("method", ALL)
def test_h31_success_before_method_done(method: EapMethod) -> None:
    """CVE-2021-45079: EAP-Success at every moment before the method's own success."""
    for turn in range(len(sample(method).to_peer) - 1):
        _, device, packet = gate_after(method, turn)
        for answers in (False, True):
            if answers:
                _, device, packet = gate_after(method, turn)
                device.receive(packet)
                if device._phase is peer_side._Phase.DONE:
                    continue
            said = device.receive(EapPacket(Code.SUCCESS, device._identifier & 0xFF).encode())
            assert refused(said)
            assert "before the method's end" in said.reason


def test_h31_success_is_the_first_word_of_the_server() -> None:
    assert refused(peer(MSCHAPV2).receive(b"\x03\x00\x00\x04"))


def test_h31_success_with_no_msk() -> None:
    gate, device = server(MSCHAPV2), peer(MSCHAPV2)
    whole = talk(server(MSCHAPV2), peer(MSCHAPV2))
    for packet in whole.to_peer[:-1]:
        device.receive(packet)
    device._result = replace(device._result, msk=b"")
    assert refused(device.receive(whole.to_peer[-1]))
    gate.start()
    gate._begin(MSCHAPV2)
    for msk in (b"", bytes(32), bytes(65)):
        assert refused(gate._follow(Progress(Stage.DONE, user="alice", msk=msk)))


@pytest.mark.parametrize("method", ALL)
def test_h31_failure_then_success(method: EapMethod) -> None:
    whole = talk(server(method), peer(method))
    for turn in range(len(whole.to_peer)):
        device = peer(method)
        for packet in whole.to_peer[:turn]:
            device.receive(packet)
        identifier = device._identifier & 0xFF
        assert refused(device.receive(EapPacket(Code.FAILURE, identifier).encode()))
        assert refused(device.receive(EapPacket(Code.SUCCESS, identifier).encode()))
        assert refused(device.receive(whole.to_peer[-1]))


def test_h31_success_after_the_server_refused_the_password() -> None:
    whole = talk(server(MSCHAPV2), peer(MSCHAPV2, password=b"wrong"))
    device = peer(MSCHAPV2, password=b"wrong")
    for packet in whole.to_peer[:-1]:
        device.receive(packet)
    assert refused(device.receive(bytes((3,)) + whole.to_peer[-1][1:]))


def test_h31_success_after_the_client_refused_the_servers_certificate() -> None:
    gate, device = server(TLS), peer(TLS, check_certificate=lambda chain, user: "no")
    packet = gate.start()
    while (said := device.receive(packet)).send is not None:
        packet = gate.receive(said.send).send or b""
    assert refused(said)
    assert refused(device.receive(EapPacket(Code.SUCCESS, device._identifier).encode()))


def test_h31_identity_request_loop() -> None:
    device = peer(MSCHAPV2)
    said = [device.receive(request(number, EapType.IDENTITY)) for number in range(10)]
    answered = [one for one in said if one.send is not None]
    assert len(answered) == peer_side.MAX_IDENTITY_REQUESTS
    assert refused(said[-1])


@pytest.mark.parametrize(
    ("eap_type", "limit"),
    [(EapType.NOTIFICATION, peer_side.MAX_NOTIFICATIONS), (4, peer_side.MAX_NAKS)],
)
def test_h31_other_request_loops(eap_type: int, limit: int) -> None:
    device = peer(MSCHAPV2)
    said = [device.receive(request(number, eap_type)) for number in range(10)]
    assert sum(one.send is not None for one in said) == limit
    assert refused(said[-1])


def test_h31_the_same_request_forever_is_given_up() -> None:
    device = peer(MSCHAPV2)
    packet = request(1, EapType.IDENTITY)
    said = [device.receive(packet) for _ in range(200)]
    assert sum(one.send is not None for one in said) == server_side.MAX_ROUND_TRIPS
    assert refused(said[-1])


@pytest.mark.parametrize("method", ALL)
def test_h31_success_with_another_identifier(method: EapMethod) -> None:
    whole = talk(server(method), peer(method))
    device = peer(method)
    for packet in whole.to_peer[:-1]:
        device.receive(packet)
    identifier = whole.to_peer[-1][1] + 1 & 0xFF
    assert refused(device.receive(EapPacket(Code.SUCCESS, identifier).encode()))


@pytest.mark.parametrize("method", [MSCHAPV2, TLS])
@pytest.mark.parametrize("other", [1, 4, 6, 13, 26, 254])
def test_h31_the_server_switches_the_method_mid_way(method: EapMethod, other: int) -> None:
    if other == method.value:
        return
    whole = talk(server(method), peer(*ALL))
    for turn in range(2, len(whole.to_peer)):
        device = peer(*ALL)
        for packet in whole.to_peer[:turn]:
            device.receive(packet)
        data = bytes(20)
        assert refused(device.receive(request(99, other, data)))
        assert refused(device.receive(whole.to_peer[-1]))


def test_h31_packets_of_the_wrong_side() -> None:
    """A server that gets requests, a client that gets responses: reflected packets."""
    whole = talk(server(MSCHAPV2), peer(MSCHAPV2))
    for turn in range(len(whole.to_server)):
        gate, device = server(MSCHAPV2), peer(MSCHAPV2)
        gate.start()
        for packet in whole.to_server[:turn]:
            gate.receive(packet)
        for packet in whole.to_peer[:turn]:
            device.receive(packet)
        assert refused(gate.receive(whole.to_peer[turn]))
        assert refused(device.receive(whole.to_server[turn]))


# The server's side of (31)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("code", [Code.SUCCESS, Code.FAILURE])
def test_h31_the_client_declares_its_own_success(method: EapMethod, code: Code) -> None:
    whole = talk(server(method), peer(method))
    for turn in range(len(whole.to_server)):
        gate = server(method)
        identifier = gate.start()[1]
        for packet in whole.to_server[:turn]:
            identifier = (gate.receive(packet).send or packet)[1]
        assert refused(gate.receive(EapPacket(code, identifier).encode()))


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("shift", [1, 128, 255])
def test_h31_id_mismatch(method: EapMethod, shift: int) -> None:
    for turn in range(len(sample(method).to_server)):
        gate, device, packet = gate_after(method, turn)
        answer = device.receive(packet).send or b""
        wrong = answer[:1] + bytes((answer[1] + shift & 0xFF,)) + answer[2:]
        if wrong == gate._last_packet:
            continue  # a repeated acknowledgement of a fragment
        assert refused(gate.receive(wrong))
        assert refused(gate.receive(answer))  # no second chance


@pytest.mark.parametrize("method", [MSCHAPV2, TLS])
@pytest.mark.parametrize("other", [1, 2, 3, 6, 13, 26, 254, 255])
def test_h31_the_client_switches_the_method_mid_way(method: EapMethod, other: int) -> None:
    if other == method.value:
        return
    offered = (method, *(one for one in ALL if one is not method))
    for turn in range(2, len(sample(method).to_server)):
        gate, _, last = gate_after(method, turn, *offered)
        assert refused(gate.receive(response(last, other, bytes((6, 13, 26)) * 3)))


def test_h31_the_length_exceeds_the_payload() -> None:
    whole = talk(server(MSCHAPV2), peer(MSCHAPV2))
    for turn, packet in enumerate(whole.to_server):
        for change in (-1, 1, 0x4000):
            gate = server(MSCHAPV2)
            gate.start()
            for earlier in whole.to_server[:turn]:
                gate.receive(earlier)
            lie = packet[:2] + (len(packet) + change).to_bytes(2) + packet[4:]
            assert refused(gate.receive(lie))
    assert refused(peer(MSCHAPV2).receive(b"\x01\x00\xff\xff\x01"))


@pytest.mark.parametrize(
    "data",
    [
        b"\x40\x16\x03",  # a fragment with no total
        b"\xc0\x00\x10\x00\x00\x16\x03",  # 1 MB announced
        b"\x80\xff\xff\xff\xff\x16",
        b"\x20",  # a start by the client
        b"\x00",  # an acknowledgement of nothing
        b"",
        b"\x80\x00\x00\x00\x00",
        b"\xe0\x00\x00\x00\x05hello",
    ],
)
def test_h31_tls_flags_and_lengths(data: bytes) -> None:
    gate = server(TLS, ask_identity=False)
    start = gate.start()
    assert refused(gate.receive(response(start, 13, data)))
    device = peer(TLS)
    device.receive(start)
    if data not in (b"\x20", b"\x00"):  # a second start; an acknowledgement of a fragment
        assert refused(device.receive(request(start[1] + 1 & 0xFF, 13, data)))


def test_h31_fragments_without_end_are_given_up() -> None:
    gate = server(TLS, ask_identity=False)
    packet = gate.start()
    first = b"\xc0" + (65_536).to_bytes(4) + b"x" * 10
    step = gate.receive(response(packet, 13, first))
    turns = 0
    while step.outcome is Outcome.CONTINUE:
        turns += 1
        assert len(step.send or b"") == 6
        step = gate.receive(response(step.send, 13, b"\x40x"))
    assert turns == server_side.MAX_ROUND_TRIPS
    assert refused(step)


def test_h31_a_conversation_is_bounded_in_octets() -> None:
    gate = server(TLS, ask_identity=False)
    packet = gate.start()
    step = gate.receive(response(packet, 13, b"\xc0" + (65_536).to_bytes(4) + bytes(30_000)))
    assert step.outcome is Outcome.CONTINUE
    for _ in range(4):
        step = gate.receive(response(step.send, 13, b"\x40" + bytes(40_000)))
    assert refused(step)


def test_h31_answers_to_the_identity_request_that_are_none() -> None:
    for eap_type, data in (
        (3, b"\x1a"),
        (26, b"\x02"),
        (254, bytes(7)),
        (1, b"a\nb"),
        (1, b"x" * 254),
    ):
        gate = server(MSCHAPV2)
        assert refused(gate.receive(response(gate.start(), eap_type, data)))


def test_h31_no_packet_before_the_start_admits_anybody() -> None:
    whole = talk(server(MSCHAPV2), peer(MSCHAPV2))
    for packet in whole.to_server[1:]:
        assert refused(server(MSCHAPV2).receive(packet))
    assert refused(server(MSCHAPV2, ask_identity=False).receive(whole.to_server[-1]))


# Truncation and mutation of every message of every method

SAMPLES: dict[EapMethod, Talk] = {}


def sample(method: EapMethod) -> Talk:
    if method not in SAMPLES:
        SAMPLES[method] = talk(server(method), peer(method))
    return SAMPLES[method]


def gate_after(
    method: EapMethod, turns: int, *offered: EapMethod
) -> tuple[EapServer, EapPeer, bytes]:
    """Both sides in mid-conversation, and the packet the server would get next.

    Made anew for every attempt: TLS has randomness of its own, so packets cannot be replayed.
    """
    gate, device = server(*(offered or (method,))), peer(method)
    packet = gate.start()
    for _ in range(turns):
        step = gate.receive(device.receive(packet).send or b"")
        packet = step.send or packet
    return gate, device, packet


def allowed(step: Step | PeerStep) -> bool:
    """Nothing that a changed packet may bring about but going on, a question or the end."""
    return step.outcome is not Outcome.SUCCESS and step.msk == b""


@pytest.mark.parametrize("method", ALL)
def test_h31_every_message_cut_at_every_octet(method: EapMethod) -> None:
    turns = len(sample(method).to_server)
    for turn in range(turns):
        _, device, packet = gate_after(method, turn)
        whole = device.receive(packet).send or b""
        cuts = [*range(min(len(whole), 30)), *range(30, len(whole), 1 if len(whole) < 120 else 211)]
        for at in cuts:
            fresh_gate, fresh_device, fresh = (
                gate_after(method, turn) if method is TLS else (*_replay(method, turn), packet)
            )
            mine = fresh_device.receive(fresh).send or b""
            right = mine[:2] + at.to_bytes(2) + mine[4:at]  # a length that is that of the cut
            step = fresh_gate.receive(mine[:at] if at % 2 else right)
            assert allowed(step), (turn, at)


def _replay(method: EapMethod, turn: int) -> tuple[EapServer, EapPeer]:
    gate, device = server(method), peer(method)
    gate.start()
    for packet in sample(method).to_server[:turn]:
        gate.receive(packet)
    for packet in sample(method).to_peer[:turn]:
        device.receive(packet)
    return gate, device


@st.composite
def mutation(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    kind = draw(st.sampled_from(["flip", "cut", "grow", "splice", "zero", "data"]))
    where, much = draw(st.floats(0, 1)), draw(st.integers(1, 255))
    extra = draw(st.binary(min_size=1, max_size=40))

    def change(packet: bytes) -> bytes:
        at = min(int(where * len(packet)), max(len(packet) - 1, 0))
        match kind:
            case "flip":
                changed = packet[:at] + bytes((packet[at] ^ much,)) + packet[at + 1 :]
            case "cut":
                changed = packet[:at]
            case "grow":
                changed = packet + extra
            case "splice":
                changed = packet[:at] + extra + packet[at:]
            case "zero":
                changed = packet[:at] + bytes(len(packet) - at)
            case _:
                changed = packet[:5] + extra
        if much % 2 and len(changed) >= 4:  # half of them with a length that is right
            changed = changed[:2] + len(changed).to_bytes(2) + changed[4:]
        return changed

    return change


@pytest.mark.parametrize("method", [MSCHAPV2, GTC])
@given(data=st.data())
@settings(max_examples=200)
def test_h31_mutated_responses_admit_nobody(method: EapMethod, data: st.DataObject) -> None:
    whole = sample(method)
    turn = data.draw(st.integers(0, len(whole.to_server) - 1))
    packet = whole.to_server[turn]
    mutated = data.draw(mutation())(packet)
    gate, _ = _replay(method, turn)
    step = gate.receive(mutated)
    if mutated == packet or _means_the_same(method, turn, packet, mutated):
        return
    assert step.outcome is not Outcome.SUCCESS
    assert step.msk == b""
    if step.outcome is Outcome.FAILURE:
        for rest in whole.to_server[turn:]:
            assert refused(gate.receive(rest))


def _means_the_same(method: EapMethod, turn: int, packet: bytes, mutated: bytes) -> bool:
    """The acknowledgement at the end of MSCHAPv2: what follows its op-code has no meaning."""
    return method is MSCHAPV2 and turn == 2 and mutated[4:6] == packet[4:6]


@pytest.mark.parametrize("method", [MSCHAPV2, GTC])
@given(data=st.data())
@settings(max_examples=200)
def test_h31_mutated_requests_convince_nobody(method: EapMethod, data: st.DataObject) -> None:
    whole = sample(method)
    turn = data.draw(st.integers(0, len(whole.to_peer) - 1))
    packet = whole.to_peer[turn]
    mutated = data.draw(mutation())(packet)
    _, device = _replay(method, turn)
    said = device.receive(mutated)
    if mutated == packet:
        return
    assert allowed(said)
    if said.outcome is Outcome.FAILURE:
        assert refused(device.receive(whole.to_peer[-1]))


@given(data=st.data())
@settings(max_examples=60)
def test_h31_mutated_tls_admits_nobody(data: st.DataObject) -> None:
    turn = data.draw(st.integers(0, len(sample(TLS).to_server) - 1))
    change = data.draw(mutation())
    towards_server = data.draw(st.booleans())
    gate, device, packet = gate_after(TLS, turn)
    if not towards_server:
        mutated = change(packet)
        said = device.receive(mutated)
        assert allowed(said) or mutated == packet
        return
    answer = device.receive(packet).send or b""
    mutated = change(answer)
    step = gate.receive(mutated)
    acknowledges = len(answer) == 6 and mutated[:5] == answer[:5] and len(mutated) == 6
    if mutated != answer and not (acknowledges and not mutated[5] & 0xE0):
        assert allowed(step)


@given(st.lists(st.binary(max_size=80), max_size=6), st.sampled_from(ALL))
def test_h31_random_octets_admit_nobody(packets: list[bytes], method: EapMethod) -> None:
    gate, device = server(method), peer(method)
    gate.start()
    for packet in packets:
        assert allowed(gate.receive(packet))
        assert allowed(device.receive(packet))


@given(st.permutations(range(4)), st.sampled_from([MSCHAPV2, GTC]))
def test_h31_messages_in_any_other_order_admit_nobody(order: list[int], method: EapMethod) -> None:
    whole = sample(method)
    turns = [turn for turn in order if turn < len(whole.to_server)]
    if turns == sorted(turns):
        return
    gate, device = server(method), peer(method)
    gate.start()
    assert all(allowed(gate.receive(whole.to_server[turn])) for turn in turns)
    assert all(allowed(device.receive(whole.to_peer[turn])) for turn in turns)


def test_h31_messages_of_another_conversation_admit_nobody() -> None:
    """A recorded login, played to a server with its own challenge."""
    whole = talk(server(MSCHAPV2, seed="one"), peer(MSCHAPV2))
    gate = server(MSCHAPV2, seed="two")
    last = gate.start()
    for packet in whole.to_server:
        again = packet[:1] + last[1:2] + packet[2:]
        step = gate.receive(again)
        last = step.send or last
        assert allowed(step)
    assert refused(step)


def test_seeded_randomness_differs_by_seed() -> None:
    assert seeded("a")(16) != seeded("b")(16)

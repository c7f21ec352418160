"""MSCHAPv2: the published vectors, and both sides of the method."""

import hashlib

import pytest
from eap_talk import PASSWORD, USERS, peer, server, talk

from gateway.domain.user_auth import LocalUser
from gateway.domain.wire import WireError
from gateway.eap import mschapv2
from gateway.eap.md4 import md4
from gateway.eap.method import EapMethod, Stage
from gateway.eap.mschapv2 import Mschapv2Peer, Mschapv2Server
from gateway.eap.mschapv2_crypto import (
    challenge_hash,
    client_send_key,
    master_key,
    nt_password_hash,
    prove,
    server_send_key,
    without_domain,
)
from gateway.eap.server import Outcome

OURS = (EapMethod.MSCHAPV2,)

# RFC 2759 section 9.2
AUTHENTICATOR = bytes.fromhex("5b5d7c7d7b3f2f3e3c2c602132262628")
PEER = bytes.fromhex("21402324255e262a28295f2b3a337c7e")
NT_HASH = bytes.fromhex("44ebba8d5312b8d611474411f56989ae")
NT_RESPONSE = bytes.fromhex("82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df")


def test_the_vectors_of_rfc_2759() -> None:
    assert nt_password_hash("clientPass") == NT_HASH
    assert challenge_hash(PEER, AUTHENTICATOR, b"User").hex() == "d02e4386bce91226"
    proof = prove(NT_HASH, AUTHENTICATOR, PEER, b"User")
    assert proof.nt_response == NT_RESPONSE
    assert proof.authenticator_response.hex().upper() == "407A5589115FD0D6209F510FE9C04566932CDA56"


def test_the_vectors_of_rfc_3079() -> None:
    master = master_key(md4(NT_HASH), NT_RESPONSE)
    assert master.hex() == "fdece3717a8c838cb388e527ae3cdd31"
    assert server_send_key(master).hex() == "8b7cdc149b993a1ba118cb153f56dccb"


def test_the_msk_begins_with_what_the_server_receives_with() -> None:
    master = master_key(md4(NT_HASH), NT_RESPONSE)
    msk = prove(NT_HASH, AUTHENTICATOR, PEER, b"User").msk
    assert msk == client_send_key(master) + server_send_key(master) + bytes(32)


def test_the_domain_is_no_part_of_the_proof() -> None:
    assert without_domain(rb"CORP\alice") == b"alice"
    assert without_domain(b"alice") == b"alice"
    plain = prove(NT_HASH, AUTHENTICATOR, PEER, b"User")
    assert prove(NT_HASH, AUTHENTICATOR, PEER, rb"BIGCO\User") == plain


def test_a_login_succeeds_with_the_same_key_on_both_sides() -> None:
    end = talk(server(*OURS), peer(*OURS))
    assert end.server.outcome is Outcome.SUCCESS
    assert end.peer.outcome is Outcome.SUCCESS
    assert end.server.msk == end.peer.msk
    assert len(end.peer.msk) == 64
    assert (end.server.user, end.server.method) == ("alice", EapMethod.MSCHAPV2)


def test_the_messages_are_those_of_the_draft() -> None:
    end = talk(server(*OURS, name=b"vpn"), peer(*OURS))
    challenge = end.to_peer[1]
    assert challenge[4] == 26
    assert challenge[5] == 1  # Challenge
    assert challenge[6] == challenge[1]  # MS-CHAPv2-ID
    assert int.from_bytes(challenge[7:9]) == len(challenge) - 5  # MS-Length
    assert challenge[9] == 16
    assert challenge[26:] == b"vpn"
    response = end.to_server[1]
    assert response[5:7] == bytes((2, challenge[6]))
    assert response[9] == 49
    assert response[59:] == b"alice"
    assert end.to_peer[2][9:11] == b"S="
    assert end.to_server[2][4:] == b"\x1a\x03"  # strongSwan and Windows send no more
    assert end.to_peer[3][0] == 3


@pytest.mark.parametrize("name", ["alice", r"CORP\alice"])
def test_a_domain_in_front_of_the_name_finds_the_user(name: str) -> None:
    end = talk(server(*OURS), peer(*OURS, name=name))
    assert end.server.outcome is Outcome.SUCCESS
    assert end.server.user == "alice"


def test_a_user_whose_own_name_has_the_domain_comes_first() -> None:
    users = {**USERS, r"CORP\alice": LocalUser(r"CORP\alice", (), nt_password_hash("other"))}
    gate = server(*OURS, find_user=users.get)
    end = talk(gate, peer(*OURS, name=r"CORP\alice", password=b"other"))
    assert end.server.user == r"CORP\alice"


@pytest.mark.parametrize(
    ("name", "password", "reason"),
    [
        ("alice", "wrong", "wrong password"),
        ("nobody", PASSWORD, "no such user"),
        ("one-way", PASSWORD, "one-way"),
        ("CORP\\", PASSWORD, "no such user"),
    ],
)
def test_a_failed_login_says_why_to_the_administrator_only(
    name: str, password: str, reason: str
) -> None:
    end = talk(server(*OURS), peer(*OURS, name=name, password=password.encode()))
    assert end.server.outcome is Outcome.FAILURE
    assert reason in end.server.reason
    assert end.server.remedy
    assert end.server.user == name
    assert end.server.msk == b""
    told = end.to_peer[2][9:]
    assert told.startswith(b"E=691 R=0 C=")
    assert told.endswith(b" V=3 M=Authentication failed")
    assert end.to_server[2][4:] == b"\x1a\x04"
    assert end.to_peer[3][0] == 4


def test_the_reason_is_known_before_a_peer_leaves_without_a_word() -> None:
    gate, device = server(*OURS), peer(*OURS, password=b"wrong")
    challenge = gate.receive(device.receive(gate.start()).send or b"")
    step = gate.receive(device.receive(challenge.send or b"").send or b"")
    assert step.outcome is Outcome.CONTINUE
    assert "wrong password" in step.reason


def test_an_unknown_user_costs_the_same_computations_as_a_wrong_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(mschapv2, "prove", lambda *args: calls.append("prove") or prove(*args))
    shapes = []
    for name in ("alice", "nobody", "one-way"):
        calls.clear()
        end = talk(server(*OURS), peer(*OURS, name=name, password=b"wrong"))
        shapes.append((len(calls), [len(packet) for packet in end.to_peer]))
    assert shapes[0] == shapes[1] == shapes[2]


def test_the_client_refuses_a_server_that_does_not_know_the_password() -> None:
    gate = Mschapv2Server(USERS.get, bytes, b"liar")
    device = Mschapv2Peer("alice", PASSWORD.encode(), bytes)
    assert device.receive(gate.begin(1)).stage is Stage.GOING
    lie = b"S=" + hashlib.sha1(b"guess").hexdigest().upper().encode() + b" M=Welcome"
    said = device.receive(b"\x03\x01" + (len(lie) + 4).to_bytes(2) + lie)
    assert said.stage is Stage.FAILED
    assert "does not know" in said.reason


@pytest.mark.parametrize("tail", [b"", b" M=OK", b" M=Welcome2strongSwan\0", b"\0"])
def test_the_client_takes_the_success_messages_of_known_servers(tail: bytes) -> None:
    device = Mschapv2Peer("User", b"clientPass", lambda size: PEER)
    device.receive(b"\x01\x07\x00\x1a\x10" + AUTHENTICATOR + b"server")
    proof = b"S=407A5589115FD0D6209F510FE9C04566932CDA56"
    said = device.receive(b"\x03\x07\x00\x00" + proof + tail)
    assert said.stage is Stage.DONE
    assert said.data == b"\x03"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"M=OK",
        b"S=",
        b"S=407A5589115FD0D6209F510FE9C04566932CDA5",
        b"S=407A5589115FD0D6209F510FE9C04566932CDA56A",
        b"S=407A5589115FD0D6209F510FE9C04566932CDA5G",
        b" S=407A5589115FD0D6209F510FE9C04566932CDA56",
    ],
)
def test_h31_a_success_without_the_servers_proof_is_none(message: bytes) -> None:
    device = Mschapv2Peer("User", b"clientPass", lambda size: PEER)
    device.receive(b"\x01\x07\x00\x1a\x10" + AUTHENTICATOR + b"server")
    with pytest.raises(WireError):
        device.receive(b"\x03\x07\x00\x00" + message)


def test_h31_mschapv2_success_out_of_state_ends_the_client() -> None:
    """As in CVE-2015-8023, seen from the other side: success before the challenge."""
    device = Mschapv2Peer("User", b"clientPass", lambda size: PEER)
    proof = b"\x03\x07\x00\x2eS=407A5589115FD0D6209F510FE9C04566932CDA56"
    with pytest.raises(WireError, match="out of turn"):
        device.receive(proof)
    with pytest.raises(WireError, match="out of turn"):
        device.receive(b"\x01\x07\x00\x1a\x10" + AUTHENTICATOR + b"server")


def test_h31_mschapv2_success_out_of_state_ends_the_server() -> None:
    """CVE-2015-8023: the success op-code instead of a response."""
    gate = Mschapv2Server(USERS.get, bytes, b"")
    gate.begin(1)
    with pytest.raises(WireError, match="out of turn"):
        gate.receive(b"\x03")
    with pytest.raises(WireError, match="out of turn"):
        gate.receive(b"\x03")


def test_h31_mschapv2_success_after_a_wrong_password_is_a_failure() -> None:
    gate, device = server(*OURS), peer(*OURS, password=b"wrong")
    challenge = gate.receive(device.receive(gate.start()).send or b"")
    step = gate.receive(device.receive(challenge.send or b"").send or b"")
    assert step.send is not None
    claim = bytes((2, step.send[1], 0, 6, 26, 3))
    end = gate.receive(claim)
    assert end.outcome is Outcome.FAILURE
    assert end.msk == b""


def test_the_errors_of_other_servers_are_put_in_words() -> None:
    device = Mschapv2Peer("User", b"clientPass", lambda size: PEER)
    device.receive(b"\x01\x07\x00\x1a\x10" + AUTHENTICATOR + b"server")
    said = device.receive(b"\x04\x07\x00\x00E=648 R=0 C=00 V=3 M=No")
    assert (said.stage, said.data) == (Stage.GOING, b"\x04")
    assert "648" in said.reason
    assert "expired" in said.reason


@pytest.mark.parametrize("op_code", [1, 2, 3, 4, 7])
def test_h31_short_requests_end_the_client(op_code: int) -> None:
    """CVE-2025-62291: a Failure request shorter than its header."""
    for size in range(4):
        device = Mschapv2Peer("User", b"clientPass", lambda size: PEER)
        device.receive(b"\x01\x07\x00\x1a\x10" + AUTHENTICATOR + b"server")
        with pytest.raises(WireError):
            device.receive((bytes((op_code,)) + b"\x07\x00\x00")[:size])


def test_a_client_password_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        peer(*OURS, password=b"\xff")

"""EAP-GTC: the password asked, and judged by somebody else."""

import pytest
from eap_talk import PASSWORD, peer, server, talk

from gateway.domain.user_auth import Accepted, Answer, Challenged, Rejected, Unavailable
from gateway.eap.method import EapMethod
from gateway.eap.server import Outcome, Step

OURS = (EapMethod.GTC,)


def test_a_right_password_succeeds_without_a_key() -> None:
    end = talk(server(*OURS), peer(*OURS))
    assert end.server.outcome is end.peer.outcome is Outcome.SUCCESS
    assert end.server.user == "alice"
    assert end.server.msk == end.peer.msk == b""


def test_the_question_has_user_and_password_and_hides_it() -> None:
    asked: list[Step] = []

    def judge(step: Step) -> Answer:
        asked.append(step)
        return Accepted("alice@corp")

    end = talk(server(*OURS), peer(*OURS), judge)
    assert [(one.user, one.password) for one in asked] == [("alice", PASSWORD.encode())]
    assert "Geheimnis" not in repr(asked[0])
    assert end.server.user == "alice@corp"


@pytest.mark.parametrize(
    "answer",
    [Rejected("no such user"), Unavailable("the RADIUS servers are silent"), Challenged(b"x")],
)
def test_every_other_answer_is_a_failure(answer: Answer) -> None:
    end = talk(server(*OURS), peer(*OURS), lambda _: answer)
    assert end.server.outcome is end.peer.outcome is Outcome.FAILURE
    assert getattr(answer, "reason", "EAP challenge") in end.server.reason
    assert end.server.remedy


def asking(**offer: bool) -> tuple[object, bytes]:
    gate, device = server(*OURS, **offer), peer(*OURS)
    prompt = gate.receive(device.receive(gate.start()).send or b"")
    password = device.receive(prompt.send or b"").send or b""
    assert gate.receive(password).outcome is Outcome.ASK
    return gate, password


def test_a_repeated_password_is_not_asked_about_twice() -> None:
    gate, password = asking()
    again = gate.receive(password)  # type: ignore[attr-defined]
    assert (again.outcome, again.send) == (Outcome.CONTINUE, None)
    assert gate.answered(Accepted("alice")).outcome is Outcome.SUCCESS  # type: ignore[attr-defined]


def test_h31_going_on_before_the_answer_ends_the_conversation() -> None:
    gate, password = asking()
    other = password[:-1] + b"X"
    assert gate.receive(other).outcome is Outcome.FAILURE  # type: ignore[attr-defined]
    late = gate.answered(Accepted("alice"))  # type: ignore[attr-defined]
    assert late.outcome is Outcome.FAILURE


def test_h31_an_answer_without_a_question_admits_nobody() -> None:
    gate = server(*OURS)
    gate.start()
    assert gate.answered(Accepted("alice")).outcome is Outcome.FAILURE


def test_without_an_identity_the_user_given_by_ike_is_asked_about() -> None:
    end = talk(server(*OURS, ask_identity=False, user="alice@ike"), peer(*OURS))
    assert end.server.user == "alice@ike"
    assert end.server.outcome is Outcome.SUCCESS


def test_a_password_of_nobody_is_a_failure() -> None:
    end = talk(server(*OURS, ask_identity=False), peer(*OURS))
    assert end.server.outcome is Outcome.FAILURE
    assert "which user" in end.server.reason


@pytest.mark.parametrize("size", [0, 257])
def test_h31_passwords_are_bounded(size: int) -> None:
    gate, device = server(*OURS), peer(*OURS)
    prompt = gate.receive(device.receive(gate.start()).send or b"").send or b""
    answer = bytes((2, prompt[1])) + (5 + size).to_bytes(2) + b"\x06" + bytes(size)
    assert gate.receive(answer).outcome is Outcome.FAILURE


def test_the_client_gives_its_password_only_where_that_is_allowed() -> None:
    end = talk(server(*OURS), peer(EapMethod.MSCHAPV2))
    assert end.server.outcome is end.peer.outcome is Outcome.FAILURE
    assert PASSWORD.encode() not in b"".join(end.to_server)
    assert "EAP-MSCHAPV2" in end.server.reason


def test_h31_the_client_gives_its_password_once() -> None:
    device = peer(*OURS)
    assert device.receive(b"\x01\x05\x00\x06\x06?").send is not None
    again = device.receive(b"\x01\x06\x00\x06\x06?")
    assert (again.outcome, again.send) == (Outcome.FAILURE, None)

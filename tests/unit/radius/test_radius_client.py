"""The client in virtual time: failover, deadlines, stickiness, and answers that must not count."""

import itertools
import random
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from radius_server import (
    ASKER,
    ONE,
    SECRET,
    TWO,
    answer,
    attribute,
    attributes_of,
    eap,
    eap_attributes,
    mppe_keys,
    password_of,
    value_of,
)

from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import (
    Accepted,
    Challenged,
    EapQuestion,
    PasswordQuestion,
    Rejected,
    Unavailable,
)
from gateway.radius.client import Answered, RadiusClient
from gateway.radius.servers import Ignored, SendDatagram, ServerChanged
from gateway.radius.settings import GroupAttribute, RadiusServer, RadiusSettings

OTHER = b"another secret"
SETTINGS = RadiusSettings("office", (RadiusServer(ONE, SECRET), RadiusServer(TWO, OTHER)))
SECRETS = {ONE: SECRET, TWO: OTHER}
PASSWORD = PasswordQuestion("office", "anna", b"s\xc3\xbc\xc3\x9f", ASKER)
EAP = EapQuestion("office", "anna", eap(2, 5, b"\1anna"), b"", ASKER)


class Bench:
    """A client, its clock, and what it put out."""

    def __init__(self, settings: Any = SETTINGS) -> None:
        numbers = itertools.count(1)
        self.client = RadiusClient(settings, lambda size: next(numbers).to_bytes(size))
        self.now = 0.0
        self.sent = []
        self.answers = {}
        self.changes = []
        self.ignored = []

    def collect(self) -> Any:
        fresh = []
        for output in self.client.take_outputs():
            if isinstance(output, SendDatagram):
                fresh.append(output)
            elif isinstance(output, Answered):
                assert output.ticket not in self.answers
                self.answers[output.ticket] = output.answer
            elif isinstance(output, ServerChanged):
                if output.still:
                    continue
                self.changes.append((output.server, output.alive))
            else:
                assert isinstance(output, Ignored)
                self.ignored.append(output.reason)
        self.sent += fresh
        return fresh

    def ask(self, ticket: Any, question: Any) -> Any:
        self.client.ask(ticket, question, self.now)
        return self.collect()

    def run(self, until: Any) -> None:
        while (at := self.client.next_timer()) is not None and at <= until:
            self.now = at
            self.client.handle_timer(at)
            self.collect()
        self.now = until

    def give(self, sent: Any, data: Any, server: Any = None, slot: Any = None) -> Any:
        server = server or sent.server
        slot = sent.source_slot if slot is None else slot
        self.client.receive(data, server, slot, self.now)
        return self.collect()

    def accept(self, sent: Any, body: Any = b"") -> None:
        self.give(sent, answer(sent.data, 2, body, secret=SECRETS[sent.server]))


def test_a_password_question_on_the_wire() -> None:
    bench = Bench()
    (sent,) = bench.ask(1, PASSWORD)
    assert sent.server == ONE
    found = dict(attributes_of(sent.data))
    assert sent.data[0] == 1
    assert attributes_of(sent.data)[0][0] == 80
    assert found[1] == b"anna"
    assert password_of(sent.data) == PASSWORD.password
    assert found[4] == bytes((198, 51, 100, 1))
    assert found[6] == bytes((0, 0, 0, 2))
    assert found[30] == b"198.51.100.1"
    assert found[31] == b"203.0.113.7"
    assert found[32] == b"gateway"
    assert found[44] == found[87] == ASKER.session_id.encode()
    assert found[61] == bytes((0, 0, 0, 5))
    assert 79 not in found


def test_ipv6_addresses() -> None:
    local = Endpoint(ip_address("2001:db8::1"), 500)
    (sent,) = Bench().ask(1, replace(PASSWORD, asker=replace(ASKER, local=local)))
    assert value_of(sent.data, 95) == local.address.packed


def test_an_accept_with_everything() -> None:
    bench = Bench()
    (sent,) = bench.ask(1, PASSWORD)
    body = (
        attribute(1, b"anna@office")
        + attribute(8, bytes((10, 9, 0, 4)))
        + attribute(11, b"staff")
        + attribute(25, b"admins")
        + attribute(25, b"\xff\0opaque")
        + attribute(27, (3600).to_bytes(4))
        + attribute(85, (10).to_bytes(4))
    )
    bench.accept(sent, body)
    assert bench.answers[1] == Accepted(
        user="anna@office",
        groups=("staff", "admins"),
        inner_address=ip_address("10.9.0.4"),
        radius_class=(b"admins", b"\xff\0opaque"),
        session_timeout_s=3600,
        interim_interval_s=60.0,
    )
    assert bench.client.waiting == 0
    assert bench.client.next_timer() is None


def test_an_address_of_each_ip_version() -> None:
    both = ip_address("10.9.0.4"), ip_address("fd00:9::4")
    for sent_ones in (both, both[1:]):
        bench = Bench(SETTINGS)
        (sent,) = bench.ask(1, PASSWORD)
        kinds = {4: 8, 6: 168}
        bench.accept(sent, b"".join(attribute(kinds[a.version], a.packed) for a in sent_ones))
        assert bench.answers[1].inner_addresses == sent_ones


def test_which_attributes_are_groups_is_a_setting() -> None:
    bench = Bench(replace(SETTINGS, groups_from=(GroupAttribute.CLASS,)))
    (sent,) = bench.ask(1, PASSWORD)
    bench.accept(sent, attribute(11, b"staff") + attribute(25, b"admins"))
    assert bench.answers[1].groups == ("admins",)
    assert bench.answers[1].user == "anna"


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (attribute(6, (6).to_bytes(4)), "Service-Type 6"),
        (attribute(6, b"\2"), "has 1 octets"),
        (attribute(27, b"\0\0\1"), "has 3 octets"),
        (attribute(8, b"\n\0\0"), "Framed-IP-Address of 3"),
        (attribute(8, bytes(4)), "0.0.0.0"),
        (attribute(8, bytes((224, 0, 0, 1))), "224.0.0.1"),
        (attribute(168, bytes(3)), "Framed-IPv6-Address of 3"),
        (attribute(27, bytes(4)) * 2, "2 attributes of type 27"),
        (eap_attributes(eap(3, 5)), "answers a password with EAP"),
        (attribute(26, b"\0\0\1\x37\x10\x00"), "breaks its length"),
    ],
)
def test_accepts_that_let_nobody_in(body: Any, wrong: Any) -> None:
    bench = Bench()
    (sent,) = bench.ask(1, PASSWORD)
    bench.accept(sent, body)
    assert isinstance(bench.answers[1], Rejected)
    assert wrong in bench.answers[1].reason


@pytest.mark.parametrize("address", [b"\xff\xff\xff\xff", b"\xff\xff\xff\xfe"])
def test_addresses_that_mean_none(address: Any) -> None:
    bench = Bench()
    (sent,) = bench.ask(1, PASSWORD)
    bench.accept(sent, attribute(8, address))
    assert bench.answers[1].inner_address is None


def test_a_reject_says_what_the_server_said() -> None:
    bench = Bench()
    (sent,) = bench.ask(1, PASSWORD)
    bench.give(sent, answer(sent.data, 3, attribute(18, b"go\naway")))
    assert bench.answers[1] == Rejected('the RADIUS server rejects the user: "go?away"')


def test_a_challenge_to_a_password_is_a_rejection_with_a_reason() -> None:
    bench = Bench()
    (sent,) = bench.ask(1, PASSWORD)
    bench.give(sent, answer(sent.data, 11, attribute(18, b"Token?") + attribute(24, b"s")))
    assert isinstance(bench.answers[1], Rejected)
    assert "more than the password" in bench.answers[1].reason
    assert "Token?" in bench.answers[1].reason


# -- EAP -------------------------------------------------------------------------------------


def test_an_eap_conversation_keeps_its_server_and_gets_its_key() -> None:
    bench = Bench()
    (sent,) = bench.ask(1, EAP)
    bench.run(8.0)
    sent = bench.sent[-1]
    assert sent.server == TWO
    challenge = eap(1, 6, b"\x1a" + bytes(300))
    body = eap_attributes(challenge) + attribute(24, b"state-1")
    bench.give(sent, answer(sent.data, 11, body, secret=OTHER))
    got = bench.answers[1]
    assert isinstance(got, Challenged)
    assert got.eap == challenge
    bench.client.receive(b"", ONE, 0, bench.now)
    response = eap(2, 6, b"\x1a" + bytes(600))
    bench.run(100.0)
    (sent,) = bench.ask(2, replace(EAP, packet=response, state=got.state))
    assert sent.server == TWO
    assert value_of(sent.data, 24) == b"state-1"
    parts = [value for kind, value in attributes_of(sent.data) if kind == 79]
    assert [len(part) for part in parts] == [253, 253, 99]
    assert b"".join(parts) == response
    assert value_of(sent.data, 12) == (1400).to_bytes(4)
    keys = mppe_keys(sent.data, b"r" * 32, b"s" * 32, OTHER)
    bench.accept(sent, eap_attributes(eap(3, 6)) + keys)
    assert bench.answers[2] == Accepted("anna", eap=eap(3, 6), msk=b"r" * 32 + b"s" * 32)
    assert "r" * 32 not in repr(bench.answers[2])


def test_an_eap_conversation_does_not_change_the_server() -> None:
    bench = Bench()
    (sent,) = bench.ask(1, EAP)
    body = eap_attributes(eap(1, 6, b"\4")) + attribute(24, b"s")
    bench.give(sent, answer(sent.data, 11, body))
    bench.ask(2, replace(EAP, state=bench.answers[1].state))
    bench.run(60.0)
    assert {sent.server for sent in bench.sent} == {ONE}
    assert bench.answers[2] == Unavailable(f"no answer from RADIUS server {ONE}")


@pytest.mark.parametrize("state", [b"x", b"xxxxstate"])
def test_a_state_of_no_server_of_ours(state: Any) -> None:
    bench = Bench()
    assert bench.ask(1, replace(EAP, state=state)) == []
    assert isinstance(bench.answers[1], Unavailable)


@pytest.mark.parametrize(
    ("code", "body", "wrong"),
    [
        (2, b"", "without EAP-Success"),
        (2, eap_attributes(eap(4, 5)), "without EAP-Success"),
        (2, eap_attributes(eap(1, 5, b"\1")), "without EAP-Success"),
        (2, attribute(79, b"\3\5\0\5"), "another length"),
        (2, attribute(79, b"\3"), "another length"),
        (11, b"", "without an EAP request"),
        (11, eap_attributes(eap(3, 5)), "without an EAP request"),
        (11, eap_attributes(eap(1, 5, b"\1")) + attribute(24, b"a") * 2, "2 attributes"),
    ],
)
def test_h31_answers_that_break_eap(code: Any, body: Any, wrong: Any) -> None:
    bench = Bench()
    (sent,) = bench.ask(1, EAP)
    bench.give(sent, answer(sent.data, code, body))
    assert isinstance(bench.answers[1], Rejected)
    assert wrong in bench.answers[1].reason


def test_a_reject_carries_eap_failure_and_never_success() -> None:
    for code, expected in ((4, eap(4, 5)), (3, b"")):
        bench = Bench()
        (sent,) = bench.ask(1, EAP)
        bench.give(sent, answer(sent.data, 3, eap_attributes(eap(code, 5))))
        assert bench.answers[1] == Rejected("the RADIUS server rejects the user", expected)


# -- answers that must not count ---------------------------------------------------------------


def hostile(sent: Any) -> Any:
    good = answer(sent.data, 2)
    yield "another secret", answer(sent.data, 2, secret=b"guess"), ONE, 0
    yield "no message authenticator", answer(sent.data, 2, proof=False), ONE, 0
    yield "another identifier", answer(sent.data, 2, identifier=77), ONE, 0
    yield "another server", good, TWO, 0
    yield "an unknown server", good, Endpoint(ip_address("192.0.2.66"), 1812), 0
    yield "another port of it", good, Endpoint(ONE.address, 1813), 0
    yield "another socket", good, ONE, 1
    yield "no such socket", good, ONE, -1
    yield "a request", answer(sent.data, 1), ONE, 0
    yield "an accounting response", answer(sent.data, 5, proof=False), ONE, 0
    yield "our own request", sent.data, ONE, 0
    yield "cut off", good[:-1], ONE, 0
    yield "nothing", b"", ONE, 0
    yield "zero length attribute", answer(sent.data, 2, b"\x19\x00"), ONE, 0
    yield "length one attribute", answer(sent.data, 2, b"\x19\x01"), ONE, 0
    other = sent.data[:4] + b"q" * 16 + sent.data[20:]
    yield "to another request", answer(other, 2), ONE, 0


def test_hostile_datagrams_change_nothing() -> None:
    (sample,) = Bench().ask(1, PASSWORD)
    for index, (what, *_) in enumerate(hostile(sample)):
        bench = Bench()
        (sent,) = bench.ask(1, PASSWORD)
        timer = bench.client.next_timer()
        _, data, server, slot = list(hostile(sent))[index]
        bench.give(sent, data, server, slot)
        assert bench.answers == {}, what
        assert len(bench.ignored) == 1, what
        assert bench.client.next_timer() == timer
        bench.accept(sent)
        assert isinstance(bench.answers[1], Accepted), what


def test_what_was_wrong_with_the_answers_is_said_in_the_end() -> None:
    bench = Bench()
    (sent,) = bench.ask(1, PASSWORD)
    bench.give(sent, answer(sent.data, 2, proof=False))
    bench.run(20.0)
    assert isinstance(bench.answers[1], Unavailable)
    assert "no Message-Authenticator; let the server" in bench.answers[1].reason


def test_a_replayed_answer_does_not_count_for_the_next_request_of_this_identifier() -> None:
    bench = Bench()
    (first,) = bench.ask(1, PASSWORD)
    good = answer(first.data, 2)
    bench.give(first, good)
    bench.give(first, good)
    assert bench.ignored == ["answers no request (identifier 0)"]
    for ticket in range(2, 258):
        (sent,) = bench.ask(ticket, PASSWORD)
        bench.give(sent, good)
        assert ticket not in bench.answers
        bench.give(sent, answer(sent.data, 3))
    assert sent.data[1] == first.data[1]


@given(st.binary(max_size=120), st.integers(-1, 3))
def test_any_datagram_is_ignored(data: Any, slot: Any) -> None:
    bench = Bench()
    bench.ask(1, PASSWORD)
    bench.client.receive(data, ONE, slot, 0.0)
    bench.collect()
    assert bench.answers == {}


# -- time ------------------------------------------------------------------------------------


def test_retransmissions_are_the_same_octets_then_the_next_server_is_asked() -> None:
    bench = Bench()
    bench.ask(1, PASSWORD)
    bench.run(6.9)
    assert len(bench.sent) == 3
    assert len({sent.data for sent in bench.sent}) == 1
    bench.run(7.0)
    last = bench.sent[-1]
    assert last.server == TWO
    assert password_of(last.data, OTHER) == PASSWORD.password
    assert last.data[4:20] != bench.sent[0].data[4:20]
    assert bench.changes == [(ONE, False)]
    bench.give(bench.sent[0], answer(bench.sent[0].data, 2))
    assert bench.answers == {}
    bench.accept(last)
    assert isinstance(bench.answers[1], Accepted)


def test_a_dead_server_is_left_alone_and_tried_again_with_one_request() -> None:
    bench = Bench()
    bench.ask(1, PASSWORD)
    bench.run(7.0)
    bench.accept(bench.sent[-1])
    assert bench.client.dead_servers() == (ONE,)
    (sent,) = bench.ask(2, PASSWORD)
    assert sent.server == TWO
    bench.accept(sent)
    bench.run(7.0 + 60.0)
    (probe,) = bench.ask(3, PASSWORD)
    (other,) = bench.ask(4, PASSWORD)
    assert (probe.server, other.server) == (ONE, TWO)
    bench.accept(probe)
    assert bench.changes[-1] == (ONE, True)
    (sent,) = bench.ask(5, PASSWORD)
    assert sent.server == ONE


def test_one_lost_request_does_not_kill_a_server_that_answers_others() -> None:
    bench = Bench()
    bench.ask(1, PASSWORD)
    bench.run(5.0)
    (sent,) = bench.ask(2, PASSWORD)
    bench.accept(sent)
    bench.run(7.0)
    assert bench.sent[-1].server == TWO
    assert bench.client.dead_servers() == ()


def test_everybody_silent_is_unavailable_within_the_deadline() -> None:
    bench = Bench(replace(SETTINGS, deadline_s=10.0))
    bench.ask(1, PASSWORD)
    bench.run(9.99)
    assert bench.answers == {}
    bench.run(10.0)
    assert isinstance(bench.answers[1], Unavailable)
    assert str(ONE) in bench.answers[1].reason
    bench.run(500.0)
    assert bench.client.waiting == 0
    assert len(bench.sent) < 8


def test_with_every_server_dead_the_one_dead_for_longest_is_asked() -> None:
    bench = Bench()
    bench.ask(1, PASSWORD)
    bench.run(20.0)
    assert isinstance(bench.answers[1], Unavailable)
    assert set(bench.client.dead_servers()) == {ONE, TWO}
    (sent,) = bench.ask(2, PASSWORD)
    assert sent.server == ONE


def test_more_than_256_questions_use_another_port() -> None:
    bench = Bench()
    for ticket in range(600):
        bench.ask(ticket, PASSWORD)
    assert {(s.source_slot, s.data[1]) for s in bench.sent} == {
        (at // 256, at % 256) for at in range(600)
    }
    for sent in bench.sent[:600]:
        bench.accept(sent)
    assert all(isinstance(got, Accepted) for got in bench.answers.values())
    assert len(bench.answers) == 600


def test_the_number_of_questions_is_bounded() -> None:
    bench = Bench(replace(SETTINGS, max_waiting=2))
    for ticket in range(3):
        bench.ask(ticket, PASSWORD)
    assert bench.answers == {2: Unavailable("2 questions wait already")}


def test_identifiers_run_out_at_last() -> None:
    bench = Bench(replace(SETTINGS, max_waiting=10_000))
    for ticket in range(4097):
        bench.ask(ticket, PASSWORD)
    assert list(bench.answers) == [4096]
    assert "too many requests" in bench.answers[4096].reason


@pytest.mark.parametrize(
    ("question", "wrong"),
    [
        (replace(PASSWORD, user=""), "0 octets"),
        (replace(PASSWORD, user="x" * 254), "254 octets"),
        (replace(PASSWORD, user="\ud800"), "no Unicode text"),
        (replace(PASSWORD, password=b"x" * 129), "128 octets"),
        (replace(PASSWORD, password=b"secret\0"), "NUL"),
        (replace(EAP, packet=b"\2"), "EAP packet of 1"),
        (replace(EAP, packet=bytes(4096)), "4096 are allowed"),
    ],
)
def test_questions_that_radius_cannot_ask(question: Any, wrong: Any) -> None:
    bench = Bench()
    assert bench.ask(1, question) == []
    assert isinstance(bench.answers[1], Rejected)
    assert wrong in bench.answers[1].reason
    assert "secret" not in bench.answers[1].reason
    assert bench.client.next_timer() is None


def test_close_answers_everybody() -> None:
    bench = Bench()
    bench.ask(1, PASSWORD)
    bench.client.close("the gateway stops")
    bench.collect()
    assert bench.answers == {1: Unavailable("the gateway stops")}
    assert bench.client.next_timer() is None


def test_secrets_are_in_no_repr() -> None:
    bench = Bench()
    bench.ask(1, PASSWORD)
    shown = repr(SETTINGS) + repr(bench.client) + repr(PASSWORD) + repr(vars(bench.client))
    assert "xyzzy" not in repr(SETTINGS)
    assert "s\\xc3" not in shown


KINDS = st.sampled_from([1, 6, 8, 11, 18, 24, 25, 26, 27, 79, 85, 168]) | st.integers(1, 255)


@given(
    st.sampled_from([2, 3, 11]),
    st.lists(st.tuples(KINDS, st.binary(max_size=40)), max_size=8),
    st.sampled_from([PASSWORD, EAP]),
)
def test_whatever_a_server_answers_is_one_answer(code: Any, attributes: Any, question: Any) -> None:
    bench = Bench()
    (sent,) = bench.ask(1, question)
    body = b"".join(attribute(kind, value) for kind, value in attributes if kind != 80)
    bench.give(sent, answer(sent.data, code, body))
    got = bench.answers[1]
    assert code == 2 or not isinstance(got, Accepted)
    assert code == 11 or not isinstance(got, Challenged)
    assert bench.client.waiting == 0


def test_a_server_that_had_no_full_time_is_not_called_dead() -> None:
    bench = Bench(replace(SETTINGS, deadline_s=8.0))
    bench.ask(1, PASSWORD)
    bench.run(8.0)
    assert isinstance(bench.answers[1], Unavailable)
    assert bench.client.dead_servers() == (ONE,)


def test_a_refusal_by_icmp_asks_the_next_server_and_ends_nothing() -> None:
    bench = Bench()
    bench.ask(1, PASSWORD)
    bench.client.refused(ONE, 0.0)
    (sent,) = bench.collect()
    assert sent.server == TWO
    assert bench.changes == [(ONE, False)]
    bench.client.refused(TWO, 0.0)
    bench.client.refused(ONE, 0.0)
    assert bench.collect() == []
    bench.accept(sent)
    assert isinstance(bench.answers[1], Accepted)


def test_a_refusal_by_icmp_cuts_no_eap_conversation() -> None:
    bench = Bench()
    (sent,) = bench.ask(1, EAP)
    bench.give(sent, answer(sent.data, 11, eap_attributes(eap(1, 6, b"\4"))))
    bench.ask(2, replace(EAP, state=bench.answers[1].state))
    bench.client.refused(ONE, 0.0)
    assert bench.collect() == []
    bench.accept(bench.sent[-1], eap_attributes(eap(3, 6)))
    assert isinstance(bench.answers[2], Accepted)


@pytest.mark.parametrize("seed", range(12))
def test_every_question_gets_one_answer_whatever_the_network_does(seed: Any) -> None:
    """Datagrams are lost, late, doubled, damaged and out of order; servers come and go."""
    chance = random.Random(seed)
    settings = replace(SETTINGS, deadline_s=15.0, hold_s=5.0, tries=chance.randint(1, 4))
    bench = Bench(settings)
    asked, on_the_way, ticket = {}, [], 0
    for step in range(1500):
        bench.run(step * 0.05)
        if step < 1000 and chance.random() < 0.4:
            ticket += 1
            asked[ticket] = bench.now
            bench.ask(ticket, PASSWORD)
        for sent in bench.sent:
            up = (int(bench.now / 10) + (sent.server == ONE)) % 3 != 0
            for _ in range(chance.choice((0, 1, 1, 1, 2)) if up else 0):
                data = answer(sent.data, chance.choice((2, 3)), secret=SECRETS[sent.server])
                if chance.random() < 0.2:
                    data = data[:20] + bytes(3) + data[23:]
                on_the_way.append((bench.now + chance.random() * 3.0, sent, data))
        bench.sent.clear()
        chance.shuffle(on_the_way)
        for late in [one for one in on_the_way if one[0] <= bench.now]:
            on_the_way.remove(late)
            bench.give(late[1], late[2])
        for number, at in asked.items():
            assert number in bench.answers or bench.now <= at + settings.deadline_s
    assert bench.answers.keys() == asked.keys()
    assert {type(got) for got in bench.answers.values()} >= {Accepted, Rejected}
    assert bench.client.waiting == 0
    assert not any(len(flying) for flying in bench.client._flying.values())
    assert bench.client.next_timer() is None


def test_a_server_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        RadiusSettings("x", (RadiusServer(ONE, SECRET), RadiusServer(ONE, OTHER)))
    with pytest.raises(ValueError, match="no server"):
        RadiusSettings("x", ())

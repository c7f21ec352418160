"""The forwarder: who is asked, what is kept, what is refused, and what hostile messages cost."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st
from names_bed import CORP, FIRST, SECOND, asks, client, replies, rig, server

from gateway.names import forwarder as module
from gateway.names.cache import MAX_ANSWER_OCTETS, MEAN_ANSWER_OCTETS, Cache, Kept
from gateway.names.forwarder import GiveUp, Reply

A = "www.example.test. 300 IN A 198.51.100.7"
SOA = "example.test. 60 IN SOA ns.example.test. h.example.test. 1 3600 600 86400 30"


def test_asks_a_server_and_passes_its_answer_on() -> None:
    bed = rig()
    (ask,) = asks(bed.ask())
    assert ask.server == server(FIRST)
    assert not ask.tcp
    outputs = bed.answer(ask, A)
    assert GiveUp(ask.ticket) in outputs
    (reply,) = replies(outputs)
    assert reply.id == 4711
    assert reply.flags & dns.flags.RA
    assert str(reply.answer[0]) == A


def test_the_longest_domain_says_who_is_asked() -> None:
    bed = rig()
    found = {
        name: asks(bed.ask(name))[0].server.address
        for name in ("corp.test", "WWW.Corp.Test", "a.devices.corp.test", "mycorp.test", "test")
    }
    assert found == {
        "corp.test": CORP,
        "WWW.Corp.Test": CORP,
        "a.devices.corp.test": FIRST,
        "mycorp.test": FIRST,
        "test": FIRST,
    }


def test_without_servers_for_a_name_it_is_refused() -> None:
    (reply,) = replies(rig(servers=()).ask())
    assert reply.rcode() == dns.rcode.REFUSED


def test_h78_large_answers_do_not_get_all_memory() -> None:
    cache = Cache(100)
    kept = Kept(dns.rcode.NOERROR, False, ([], [], []), 0.0, 60.0)
    for n in range(100):
        cache.keep((f"n{n}", 1, False, False), kept, MAX_ANSWER_OCTETS)
    assert len(cache) == 100 * MEAN_ANSWER_OCTETS // MAX_ANSWER_OCTETS
    assert cache.find(("n99", 1, False, False), 1.0) is kept
    for n in range(300):
        cache.keep((f"n{n % 150}", 1, False, False), kept, 100)
    assert len(cache) == 100
    assert cache.find(("n149", 1, False, False), 61.0) is None
    assert len(cache) == 99


def test_h78_one_client_does_not_wait_for_more_than_its_share() -> None:
    bed = rig()
    for n in range(2 * module.MAX_PENDING_PER_CLIENT):
        bed.ask(f"n{n // 20}.example.test")
    assert bed.forwarder.counters["dropped"] == module.MAX_PENDING_PER_CLIENT


def test_answers_are_kept_with_their_age_taken_off() -> None:
    bed = rig()
    bed.answer(asks(bed.ask())[0], A)
    bed.now += 100
    outputs = bed.ask("WWW.example.test")
    assert not asks(outputs)
    assert [rrset.ttl for rrset in replies(outputs)[0].answer] == [200]
    bed.now += 201
    assert asks(bed.ask())


def test_absence_is_kept_as_long_as_the_soa_says() -> None:
    bed = rig()
    (ask,) = asks(bed.ask())
    (reply,) = replies(bed.answer(ask, rcode=dns.rcode.NXDOMAIN, authority=SOA))
    assert reply.rcode() == dns.rcode.NXDOMAIN
    bed.now += 29
    assert not asks(bed.ask())
    bed.now += 2
    assert asks(bed.ask())


def test_absence_without_soa_and_failures_are_not_kept() -> None:
    bed = rig()
    bed.answer(asks(bed.ask())[0], rcode=dns.rcode.NXDOMAIN)
    assert asks(bed.ask())


def test_names_of_devices_are_not_kept() -> None:
    bed = rig()
    (ask,) = asks(bed.ask("a.devices.corp.test"))
    bed.answer(ask, "a.devices.corp.test. 300 IN A 10.9.0.2")
    assert asks(bed.ask("a.devices.corp.test"))


def test_the_least_recently_used_answer_is_forgotten() -> None:
    bed = rig()
    for name in "abcd":
        bed.answer(asks(bed.ask(f"{name}.test"))[0], f"{name}.test. 300 IN A 198.51.100.7")
        bed.ask("a.test")
    assert bed.forwarder.cached == 3
    assert not asks(bed.ask("a.test"))
    assert asks(bed.ask("b.test"))


def test_who_asks_the_same_meanwhile_waits_for_the_same_answer() -> None:
    bed = rig()
    (ask,) = asks(bed.ask())
    assert not bed.ask(source="10.9.0.3")
    assert len(replies(bed.answer(ask, A))) == 2


def test_a_server_that_does_not_answer_is_followed_by_the_next() -> None:
    bed = rig()
    bed.ask()
    (again,) = asks(bed.pass_time(module.TRY_S))
    assert again.server == server(SECOND)
    (reply,) = replies(bed.answer(again, A))
    assert reply.answer


def test_nobody_answers_and_the_client_is_told() -> None:
    bed = rig()
    bed.ask()
    outputs = bed.pass_time(module.DEADLINE_S + 1)
    assert [one.rcode() for one in replies(outputs)] == [dns.rcode.SERVFAIL]
    assert bed.forwarder.next_timer() is None


def test_servers_that_failed_are_asked_last_for_a_while() -> None:
    bed = rig()
    for number in range(3):
        bed.ask(f"{number}.test")
        bed.answer(asks(bed.pass_time(module.TRY_S))[0], f"{number}.test. 1 IN A 198.51.100.7")
    assert asks(bed.ask("next.test"))[0].server == server(SECOND)
    bed.now += 60
    assert asks(bed.ask("later.test"))[0].server == server(FIRST)


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
def test_a_server_that_cannot_answer_is_followed_by_the_next(rcode: dns.rcode.Rcode) -> None:
    bed = rig()
    (ask,) = asks(bed.ask())
    (again,) = asks(bed.answer(ask, rcode=rcode))
    assert again.server == server(SECOND)


def test_long_answers_are_fetched_by_tcp_and_cut_for_who_asked_by_udp() -> None:
    bed = rig()
    (ask,) = asks(bed.ask(rdtype="TXT"))
    truncated = dns.message.make_response(dns.message.from_wire(ask.wire))
    truncated.flags |= dns.flags.TC
    bed.forwarder.answered(ask.ticket, truncated.to_wire(), bed.now)
    (by_tcp,) = asks(bed.forwarder.take_outputs())
    assert by_tcp.tcp
    assert by_tcp.server == ask.server
    text = " ".join(f'"{"x" * 200}"' for _ in range(10))
    (reply,) = replies(bed.answer(by_tcp, f"www.example.test. 300 IN TXT {text}"))
    assert reply.flags & dns.flags.TC
    assert not reply.answer
    (whole,) = replies(bed.ask(rdtype="TXT", tcp=True))
    assert not whole.flags & dns.flags.TC
    assert len(whole.to_wire(max_size=65_535)) > 2000


def test_without_edns_a_reply_has_at_most_512_octets() -> None:
    bed = rig()
    query = dns.message.make_query("www.example.test", "TXT", use_edns=False)
    (ask,) = asks(bed.ask(message=query))
    text = " ".join(f'"{"x" * 200}"' for _ in range(4))
    outputs = bed.answer(ask, f"www.example.test. 300 IN TXT {text}")
    (reply,) = (one for one in outputs if isinstance(one, Reply))
    assert len(reply.wire) <= 512
    assert dns.message.from_wire(reply.wire).flags & dns.flags.TC


def test_dnssec_passes() -> None:
    bed = rig()
    query = dns.message.make_query("www.example.test", "A", want_dnssec=True)
    query.flags |= dns.flags.CD
    (ask,) = asks(bed.ask(message=query))
    asked = dns.message.from_wire(ask.wire)
    assert asked.ednsflags & dns.flags.DO
    assert asked.flags & dns.flags.CD
    assert asks(bed.ask()), "who does not want DNSSEC has another answer"


@pytest.mark.parametrize(
    ("change", "rcode"),
    [
        ({"rdtype": "AXFR"}, dns.rcode.REFUSED),
        ({"rdclass": "CH"}, dns.rcode.REFUSED),
        ({"opcode": dns.opcode.UPDATE}, dns.rcode.NOTIMP),
        ({"opcode": dns.opcode.NOTIFY}, dns.rcode.NOTIMP),
        ({"edns": 1}, dns.rcode.BADVERS),
    ],
)
def test_what_is_no_plain_question_is_refused(
    change: dict[str, object], rcode: dns.rcode.Rcode
) -> None:
    bed = rig()
    query = dns.message.make_query(
        "corp.test", str(change.get("rdtype", "A")), str(change.get("rdclass", "IN"))
    )
    query.set_opcode(dns.opcode.Opcode(int(str(change.get("opcode", 0)))))
    if "edns" in change:
        query.use_edns(1)
    bed.forwarder.receive(query.to_wire(), client("10.9.0.2"), bed.now)
    outputs = bed.forwarder.take_outputs()
    assert not asks(outputs)
    (reply,) = (one for one in outputs if isinstance(one, Reply))
    assert dns.message.from_wire(reply.wire).rcode() == rcode


def test_answers_are_never_answered() -> None:
    bed = rig()
    wire = dns.message.make_response(dns.message.make_query("corp.test", "A")).to_wire()
    bed.forwarder.receive(wire, client("10.9.0.2"), bed.now)
    assert not bed.forwarder.take_outputs()


def test_an_answer_with_another_number_or_question_is_not_believed() -> None:
    bed = rig()
    (ask,) = asks(bed.ask())
    query = dns.message.from_wire(ask.wire)
    other_number = dns.message.make_response(query)
    other_number.id ^= 1
    other_question = dns.message.make_response(dns.message.make_query("evil.test", "A"))
    other_question.id = query.id
    for forged in (other_number, other_question):
        bed.forwarder.answered(ask.ticket, forged.to_wire(), bed.now)
        assert not bed.forwarder.take_outputs()
    assert bed.forwarder.counters["wrong_answers"] == 2
    assert replies(bed.answer(ask, A))[0].answer


def test_late_answers_are_not_believed() -> None:
    bed = rig()
    (ask,) = asks(bed.ask())
    bed.pass_time(module.TRY_S)
    assert not bed.answer(ask, A)


def test_one_client_cannot_take_all_room() -> None:
    bed = rig()
    for number in range(module.MAX_PENDING_PER_CLIENT + 50):
        bed.ask(f"{number}.test")
    assert bed.forwarder.counters["dropped"] == 50
    assert asks(bed.ask("other.test", source="10.9.0.3"))


def test_questions_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 10)
    bed = rig()
    for number in range(20):
        bed.ask(f"{number}.test", source=f"10.9.0.{number}")
    assert bed.forwarder.counters["dropped"] == 10
    bed.pass_time(module.DEADLINE_S + 1)
    assert asks(bed.ask("again.test"))


def test_other_settings_leave_questions_under_way_alone() -> None:
    bed = rig()
    (ask,) = asks(bed.ask())
    bed.forwarder.reconfigure(module.ForwarderSettings((SECOND,), (), 0))
    assert replies(bed.answer(ask, A))[0].answer
    (again,) = asks(bed.ask())
    assert again.server == server(SECOND)
    assert [one.endpoint for one in bed.forwarder.servers] == [server(SECOND)]


@given(st.binary(max_size=300))
def test_any_octets_of_a_client_are_survived(wire: bytes) -> None:
    bed = rig()
    bed.forwarder.receive(wire, client("10.9.0.2"), bed.now)
    for output in bed.forwarder.take_outputs():
        if isinstance(output, Reply):
            assert len(output.wire) <= 1232
            assert output.wire[2] & 0x80


@given(st.data())
def test_any_damage_to_a_question_or_an_answer_is_survived(data: st.DataObject) -> None:
    bed = rig()
    query = dns.message.make_query("www.example.test", "MX", want_dnssec=True)
    wire = bytearray(query.to_wire())
    wire[data.draw(st.integers(2, len(wire) - 1))] = data.draw(st.integers(0, 255))
    bed.forwarder.receive(bytes(wire), client("10.9.0.2"), bed.now)
    for ask in asks(bed.forwarder.take_outputs()):
        response = dns.message.make_response(dns.message.from_wire(ask.wire))
        damaged = bytearray(response.to_wire()) + data.draw(st.binary(max_size=40))
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        bed.forwarder.answered(ask.ticket, bytes(damaged), bed.now)
    bed.forwarder.take_outputs()
    bed.pass_time(module.DEADLINE_S + 1)
    assert bed.forwarder.next_timer() is None

"""Accounting in virtual time: order, retransmission with its delay, failover, bounds."""

import hashlib
import random
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from radius_server import ASKER, ONE, SECRET, TWO, answer, attributes_of, value_of

from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import Session
from gateway.radius.accounting import Record, Traffic, cause_of
from gateway.radius.accounting_client import AccountingClient, Lost
from gateway.radius.attributes import StatusType, TerminateCause
from gateway.radius.servers import Ignored, SendDatagram, ServerChanged
from gateway.radius.settings import RadiusServer, RadiusSettings

FIRST, SECOND = Endpoint(ONE.address, 1813), Endpoint(TWO.address, 1813)
SETTINGS = RadiusSettings(
    "office",
    (RadiusServer(ONE, SECRET, FIRST), RadiusServer(TWO, SECRET, SECOND)),
)
SESSION = Session(
    "s1",
    "office",
    "anna",
    "road",
    ASKER.local,
    ASKER.remote,
    ip_address("10.9.0.4"),
    (b"c1", b"c2"),
)


def record(
    status: Any = StatusType.START, session: Any = SESSION, at: Any = 0.0, **facts: Any
) -> Any:
    return Record(status, at, 1_700_000_000 + int(at), None, session, **facts)


class Bench:
    def __init__(self, settings: Any = SETTINGS) -> None:
        self.client = AccountingClient(settings)
        self.now = 0.0
        self.sent, self.changes, self.ignored, self.lost = [], [], [], []

    def collect(self) -> Any:
        fresh = []
        for output in self.client.take_outputs():
            if isinstance(output, SendDatagram):
                digest = output.data[:4] + bytes(16) + output.data[20:] + SECRET
                assert hashlib.md5(digest).digest() == output.data[4:20]
                fresh.append(output)
            elif isinstance(output, ServerChanged):
                if output.still:
                    continue
                self.changes.append((output.server, output.alive))
            elif isinstance(output, Ignored):
                self.ignored.append(output.reason)
            else:
                assert isinstance(output, Lost)
                self.lost.append(output)
        self.sent += fresh
        return fresh

    def add(self, made: Any) -> Any:
        self.client.add(made, self.now)
        return self.collect()

    def run(self, until: Any) -> None:
        while (at := self.client.next_timer()) is not None and at <= until:
            self.now = at
            self.client.handle_timer(at)
            self.collect()
        self.now = until

    def reply(self, sent: Any, **how: Any) -> Any:
        data = answer(sent.data, 5, proof=how.pop("proof", False), **how)
        self.client.receive(data, sent.server, sent.source_slot, self.now)
        return self.collect()


def statuses(sent: Any) -> Any:
    return [value_of(one.data, 40)[3] for one in sent]


def test_start_and_stop_on_the_wire() -> None:
    bench = Bench()
    (start,) = bench.add(record())
    found = attributes_of(start.data)
    assert start.data[0] == 4
    assert dict(found)[44] == b"s1"
    assert dict(found)[1] == b"anna"
    assert dict(found)[8] == bytes((10, 9, 0, 4))
    assert [value for kind, value in found if kind == 25] == [b"c1", b"c2"]
    assert dict(found)[41] == bytes(4)
    assert dict(found)[55] == (1_700_000_000).to_bytes(4)
    assert not {42, 43, 46, 49} & set(dict(found))
    bench.reply(start)
    traffic = Traffic(5 * 2**32 + 7, 11, 2**32 - 1, 13)
    (stop,) = bench.add(
        record(
            StatusType.STOP,
            traffic=traffic,
            session_time_s=99,
            cause=TerminateCause.USER_REQUEST,
        )
    )
    numbers = {k: int.from_bytes(v) for k, v in attributes_of(stop.data) if len(v) == 4}
    assert (numbers[42], numbers[52]) == (7, 5)
    assert (numbers[43], numbers[53]) == (2**32 - 1, 0)
    assert (numbers[47], numbers[48]) == (11, 13)
    assert numbers[46] == 99
    assert numbers[49] == 1
    bench.reply(stop, proof=True)
    assert bench.client.waiting == 0
    assert bench.client.next_timer() is None


def test_accounting_on_needs_no_session() -> None:
    (sent,) = Bench().add(Record(StatusType.ACCOUNTING_ON, 0.0, 5, ip_address("198.51.100.1")))
    assert value_of(sent.data, 40)[3] == 7
    assert value_of(sent.data, 32) == b"gateway"
    assert value_of(sent.data, 4) == bytes((198, 51, 100, 1))


def test_a_stop_waits_for_its_start() -> None:
    bench = Bench()
    (start,) = bench.add(record())
    assert bench.add(record(StatusType.STOP)) == []
    (other,) = bench.add(record(session=replace(SESSION, session_id="s2")))
    bench.reply(other)
    (stop,) = bench.reply(start)
    assert statuses([stop]) == [2]


def test_nothing_overtakes_accounting_on_and_off() -> None:
    bench = Bench()
    bench.add(Record(StatusType.ACCOUNTING_ON, 0.0, 5))
    assert bench.add(record()) == []
    assert bench.add(record(StatusType.STOP)) == []
    assert bench.add(Record(StatusType.ACCOUNTING_OFF, 0.0, 5)) == []
    assert bench.add(record(session=replace(SESSION, session_id="s2"))) == []
    while bench.client.waiting:
        bench.reply(bench.sent[-1])
    assert statuses(bench.sent) == [7, 1, 2, 8, 1]


def test_a_repetition_says_how_late_it_is_and_is_a_new_request() -> None:
    bench = Bench()
    bench.add(record())
    bench.run(3.5)
    delays = [int.from_bytes(value_of(one.data, 41)) for one in bench.sent]
    assert delays == [0, 1, 3]
    assert len({one.data[1] for one in bench.sent}) == 3
    assert len({value_of(one.data, 55) for one in bench.sent}) == 1
    bench.reply(bench.sent[0])
    assert bench.client.waiting == 0


def test_failover_and_revival() -> None:
    bench = Bench()
    bench.add(record())
    bench.run(7.0)
    assert bench.sent[-1].server == SECOND
    assert bench.changes == [(FIRST, False)]
    bench.reply(bench.sent[-1])
    bench.run(80.0)
    (sent,) = bench.add(record(StatusType.STOP, at=80.0))
    assert sent.server == FIRST
    bench.reply(sent)
    assert bench.changes[-1] == (FIRST, True)


def test_a_refusal_by_icmp_uses_the_next_server() -> None:
    bench = Bench()
    bench.add(record())
    bench.client.refused(FIRST, 0.0)
    (sent,) = bench.collect()
    assert sent.server == SECOND
    bench.client.refused(SECOND, 0.0)
    assert bench.collect() == []
    bench.reply(sent)
    assert bench.client.waiting == 0


def test_with_every_server_dead_records_wait_and_one_at_a_time_asks() -> None:
    bench = Bench()
    bench.add(record())
    bench.run(14.0)
    assert len(bench.changes) == 2
    for number in range(50):
        bench.add(record(session=replace(SESSION, session_id=f"n{number}"), at=14.0))
    before = len(bench.sent)
    bench.run(14.0 + 59.0)
    assert len(bench.sent) == before
    bench.run(14.0 + 60.0)
    (probe,) = bench.sent[before:]
    assert bench.client.waiting == 51
    fresh = bench.reply(probe)
    assert len(fresh) == 50
    for sent in fresh:
        bench.reply(sent)
    assert bench.client.waiting == 0
    assert bench.lost == []


def test_the_queue_is_bounded_and_interim_records_go_first() -> None:
    bench = Bench(replace(SETTINGS, accounting_max_waiting=2))
    for number in range(64):
        bench.add(record(session=replace(SESSION, session_id=f"n{number}")))
    bench.add(record(StatusType.INTERIM, session=replace(SESSION, session_id="n1")))
    bench.add(record(StatusType.STOP, session=replace(SESSION, session_id="n2")))
    bench.add(record(StatusType.STOP, session=replace(SESSION, session_id="n3")))
    assert len(bench.lost) == 1
    for sent in list(bench.sent):
        bench.reply(sent)
    assert statuses(bench.sent[64:]) == [2, 2]


def test_a_newer_interim_record_replaces_a_waiting_one() -> None:
    bench = Bench()
    (start,) = bench.add(record())
    bench.add(record(StatusType.INTERIM, traffic=Traffic(1)))
    bench.add(record(StatusType.INTERIM, traffic=Traffic(2)))
    (interim,) = bench.reply(start)
    assert int.from_bytes(value_of(interim.data, 42)) == 2
    assert bench.client.waiting == 1


def test_old_records_are_given_up() -> None:
    bench = Bench(replace(SETTINGS, accounting_keep_s=300.0))
    bench.add(record())
    bench.run(400.0)
    assert [lost.reason for lost in bench.lost] == ["no accounting server answered"]
    assert bench.client.waiting == 0
    assert bench.client.next_timer() is None


def test_hostile_answers_change_nothing() -> None:
    bench = Bench()
    (sent,) = bench.add(record())
    good = answer(sent.data, 5, proof=False)
    for data, server, slot in (
        (answer(sent.data, 5, secret=b"guess", proof=False), FIRST, 0),
        (answer(sent.data, 2), FIRST, 0),
        (answer(sent.data, 5, b"\x50\x12" + bytes(16), proof=False), FIRST, 0),
        (good, SECOND, 0),
        (good, FIRST, 1),
        (good, ONE, 0),
        (good[:-1], FIRST, 0),
        (answer(sent.data, 5, proof=False, identifier=200), FIRST, 0),
    ):
        bench.client.receive(data, server, slot, 0.0)
        bench.collect()
    assert len(bench.ignored) == 8
    assert bench.client.waiting == 1
    bench.reply(sent)
    bench.reply(sent)
    assert bench.client.waiting == 0
    assert len(bench.ignored) == 9


def test_without_accounting_servers_nothing_is_kept() -> None:
    bench = Bench(RadiusSettings("office", (RadiusServer(ONE, SECRET),)))
    assert bench.add(record()) == []
    assert not bench.client.enabled


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("the peer deleted it", TerminateCause.USER_REQUEST),
        ("peer does not answer (liveness check)", TerminateCause.LOST_CARRIER),
        ("the gateway stops", TerminateCause.NAS_REBOOT),
        ("connection road was changed", TerminateCause.ADMIN_RESET),
        ("malformed response from the peer: x", TerminateCause.NAS_ERROR),
        ("the session time of its user is over", TerminateCause.SESSION_TIMEOUT),
        ("whatever", TerminateCause.NAS_REQUEST),
    ],
)
def test_causes(reason: Any, cause: Any) -> None:
    assert cause_of(reason) is cause


@pytest.mark.parametrize("seed", range(8))
def test_every_record_arrives_in_order_whatever_the_network_does(seed: Any) -> None:
    chance = random.Random(seed)
    bench = Bench(replace(SETTINGS, hold_s=5.0, tries=chance.randint(1, 4)))
    on_the_way: list[Any] = []
    seen: dict[str, list[int]] = {}
    opened: list[str] = []
    for step in range(12_000):
        bench.run(step * 0.05)
        if step < 1500 and chance.random() < 0.3:
            if opened and chance.random() < 0.5:
                name = opened.pop(chance.randrange(len(opened)))
                session = replace(SESSION, session_id=name)
                bench.add(record(StatusType.STOP, session, at=bench.now))
            else:
                name = f"n{step}"
                opened.append(name)
                bench.add(record(session=replace(SESSION, session_id=name), at=bench.now))
        for sent in bench.sent:
            up = (int(bench.now / 20) + (sent.server == FIRST)) % 3 != 0
            if up and chance.random() < 0.8:
                seen.setdefault(value_of(sent.data, 44).decode(), []).append(
                    value_of(sent.data, 40)[3]
                )
                copies = chance.choice((0, 1, 1, 2))
                on_the_way += [(bench.now + chance.random() * 2.0, sent)] * copies
        bench.sent.clear()
        for late in [one for one in on_the_way if one[0] <= bench.now]:
            on_the_way.remove(late)
            bench.reply(late[1])
    assert bench.client.waiting == 0
    assert bench.lost == []
    assert len(seen) > 100
    for name, codes in seen.items():
        assert codes == sorted(codes), "a stop before its start"
        assert set(codes) == ({1} if name in opened else {1, 2})

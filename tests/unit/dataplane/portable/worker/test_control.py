"""The control socket of one process, with an engine that only answers."""

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.dataplane.interface import TrafficWaiting
from gateway.dataplane.portable import messages
from gateway.dataplane.portable.codec import FRAME, MAX_OCTETS, decoded, framed
from gateway.dataplane.portable.legacy import LEAVE
from gateway.dataplane.portable.messages import HELLO, Answer, Request, Welcome
from gateway.dataplane.portable.worker import control as control_module
from gateway.dataplane.portable.worker import poller as poller_module
from gateway.dataplane.portable.worker.control import Control, listening
from gateway.dataplane.portable.worker.poller import Poller

WELCOME = Welcome(0, 1, "gw0", 1, marks=True)


class Bed:
    def __init__(self, folder: Path) -> None:
        self.poller = Poller()
        self.folder = folder
        self.asked: list[Request] = []
        self.events = [TrafficWaiting(number) for number in range(300)]
        self.parts = 0
        self.left = 0
        self.cores: list[Core] = []
        self.control = Control(listening(folder, 0), self.poller, WELCOME, self.answers, self.leave)

    def answers(self, request: Request) -> Iterator[Answer | None]:
        self.asked.append(request)
        if isinstance(request, messages.Commit):
            for _ in range(self.parts):
                yield None
            yield messages.Committed((), ())
        elif isinstance(request, messages.AskHeld):
            yield messages.Held((), more=True)
            yield messages.Held((), more=False)
        elif isinstance(request, messages.AskUsage):
            raise KeyError(request.spi_in)
        else:
            yield messages.Counters((("asked", len(self.asked)),))

    def leave(self) -> bytes:
        self.left += 1
        return b"[]"

    def turns(self, count: int = 6) -> None:
        for _ in range(count):
            self.poller.turn(0)
            self.control.proceed()

    def connect(self, first: bytes = HELLO) -> "Core":
        self.cores.append(Core(self, first))
        return self.cores[-1]


class Core:
    def __init__(self, bed: Bed, first: bytes) -> None:
        self.bed = bed
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(bed.folder / "forwarder-0.sock"))
        self.sock.setblocking(False)
        self.send(first)

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)
        self.bed.turns()

    def ask(self, request: Request) -> None:
        self.send(framed(Request, request))

    def heard(self) -> bytes:
        octets = b""
        while select.select([self.sock], [], [], 0)[0]:
            got = self.sock.recv(1 << 20)
            if not got:
                break
            octets += got
            self.bed.turns(1)
        return octets

    def answers(self) -> list[Answer]:
        octets, found = self.heard(), []
        octets = octets.removeprefix(HELLO)
        while octets:
            size = FRAME.unpack_from(octets)[0]
            found.append(decoded(Answer, octets[FRAME.size : FRAME.size + size]))
            octets = octets[FRAME.size + size :]
        return found

    @property
    def closed(self) -> bool:
        self.bed.turns()
        try:
            while self.sock.recv(1 << 20):
                continue
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        return True


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path)
    yield made
    for core in made.cores:
        core.sock.close()
    made.control.close()
    made.poller.close()


@pytest.fixture
def core(bed: Bed) -> Core:
    return bed.connect()


def test_both_sides_say_their_version_and_the_process_who_it_is(core: Core) -> None:
    assert core.heard() == HELLO + framed(Answer, WELCOME)


STRANGER = b"gwfw" + bytes(8)


def test_another_version_is_told_ours_and_may_ask_what_is_left(bed: Bed) -> None:
    core = bed.connect(STRANGER)
    assert core.heard() == HELLO
    core.send(LEAVE[:3])
    core.send(LEAVE[3:])
    assert core.heard() == FRAME.pack(2) + b"[]"
    assert bed.left == 1


@pytest.mark.parametrize("said", [framed(Request, messages.End()), LEAVE[::-1], LEAVE * 2])
def test_another_version_may_ask_nothing_else(bed: Bed, said: bytes) -> None:
    core = bed.connect(STRANGER)
    core.send(said)
    with contextlib.suppress(OSError):
        core.send(bytes(16))
    assert core.closed
    assert bed.left == 0
    assert bed.asked == []
    assert not bed.control.ending


def test_who_is_no_forwarders_core_goes(bed: Bed) -> None:
    assert bed.connect(b"GET / HTTP/1.1\r\n\r\n").closed
    assert bed.control.deserted


def test_requests_are_answered_in_turn(core: Core) -> None:
    core.send(framed(Request, messages.AskCounters()) * 3)
    assert core.answers()[1:] == [messages.Counters((("asked", number),)) for number in (1, 2, 3)]


def test_octets_may_come_one_by_one(core: Core) -> None:
    for octet in framed(Request, messages.AskBeforeMove(5)):
        core.send(bytes((octet,)))
    assert core.bed.asked == [messages.AskBeforeMove(5)]


def test_an_answer_may_have_several_parts(core: Core) -> None:
    core.send(framed(Request, messages.AskHeld()) + framed(Request, messages.AskCounters()))
    assert core.answers()[1:] == [
        messages.Held((), more=True),
        messages.Held((), more=False),
        messages.Counters((("asked", 2),)),
    ]


def test_work_is_done_a_little_at_a_time(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "SLICE_S", -1)
    core.bed.parts = 3
    core.ask(messages.Commit(()))
    assert core.bed.control.busy
    monkeypatch.undo()
    core.bed.turns(1)
    assert not core.bed.control.busy
    assert core.answers()[1:] == [messages.Committed((), ())]


def test_nonsense_is_answered_and_the_connection_goes_on(core: Core) -> None:
    core.send(FRAME.pack(3) + b"\xff\xff\xff")
    core.ask(messages.AskCounters())
    _, wrong, counters = core.answers()
    assert isinstance(wrong, messages.Wrong)
    assert counters == messages.Counters((("asked", 1),))


def test_a_message_that_is_too_long_ends_the_connection(core: Core) -> None:
    core.send(FRAME.pack(MAX_OCTETS + 1))
    assert core.closed
    assert bool(core.bed.control.deserted)


def test_who_does_not_read_answers_gets_no_more_of_them(core: Core) -> None:
    request = framed(Request, messages.AskCounters())
    core.bed.turns()
    answer = len(framed(Answer, messages.Counters((("asked", 99999),))))
    count = 4 * (control_module._MAX_UNSENT // answer)
    sent = 0
    while sent < count * len(request):
        try:
            sent += core.sock.send((request * count)[sent:])
        except BlockingIOError:
            break
        core.bed.turns(2)
    core.bed.turns(50)
    assert len(core.bed.asked) < count
    # Reading them, it gets all of them.
    octets = b""
    while len(core.bed.asked) < sent // len(request):
        octets += core.heard()
        core.bed.turns()
    assert not core.closed


def test_events_go_where_they_are_watched_for_and_nowhere_else(bed: Bed, core: Core) -> None:
    def take(limit: int) -> messages.Events | None:
        taken, bed.events = bed.events[:limit], bed.events[limit:]
        return messages.Events(tuple(taken)) if taken else None

    bed.control.tell(take)
    assert core.answers() == [WELCOME]
    assert len(bed.events) == 300
    first = bed.connect()
    first.ask(messages.Watch())
    second = bed.connect()
    second.ask(messages.Watch())
    assert first.closed
    second.heard()
    bed.control.tell(take)
    bed.control.tell(take)
    events = [event for answer in second.answers() for event in answer.events]  # type: ignore[union-attr]
    assert events == [TrafficWaiting(number) for number in range(300)]
    assert core.answers() == []


def test_the_end_is_confirmed_before_it_comes(core: Core) -> None:
    core.ask(messages.End())
    assert core.bed.control.ending
    assert core.answers()[1:] == [messages.Done()]


def test_a_forwarder_that_is_bound_ends_with_its_core(core: Core) -> None:
    core.ask(messages.Bound())
    assert not core.bed.control.ending
    core.sock.close()
    core.bed.turns()
    assert core.bed.control.ending


def test_there_is_a_largest_number_of_connections(bed: Bed) -> None:
    cores = [bed.connect() for _ in range(control_module.MAX_CONNECTIONS)]
    assert bed.connect(b"").closed
    assert not cores[0].closed
    cores[0].sock.close()
    bed.turns()
    assert bed.connect().heard().startswith(HELLO)


def test_only_this_user_may_connect(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (bed.folder / "forwarder-0.sock").stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(os, "geteuid", lambda: -1)
    assert bed.connect(b"").closed


def test_a_fault_of_ours_costs_one_request(core: Core, capsys: pytest.CaptureFixture[str]) -> None:
    core.ask(messages.AskUsage(5))
    core.ask(messages.AskCounters())
    _, wrong, counters = core.answers()
    assert isinstance(wrong, messages.Wrong)
    assert counters == messages.Counters((("asked", 2),))
    assert core.bed.poller.faults == 1
    assert "KeyError: 5" in capsys.readouterr().err
    for _ in range(20):
        core.ask(messages.AskUsage(5))
    assert capsys.readouterr().err.count("KeyError: 5") == poller_module.MAX_TOLD - 1

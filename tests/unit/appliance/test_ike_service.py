"""The joint between engine, dataplane, sockets and log, in virtual time."""

from ipaddress import ip_address
from typing import Any

import pytest
from appliance_fakes import FakeClock, FakeDataplane, FakeEngine

from gateway.appliance.ike_service import MAX_ROUNDS, IkeService
from gateway.dataplane.interface import (
    EndpointRejected,
    EndpointSeen,
    Refusal,
    SaExpired,
    TrafficWaiting,
)
from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.outputs import (
    ActivateOutbound,
    Event,
    InstallChildSa,
    MoveChildSa,
    RemoveChildSa,
    Transmit,
    TransmitKeepalive,
)

LOCAL = Endpoint(ip_address("203.0.113.1"), 4500)
REMOTE = Endpoint(ip_address("192.0.2.7"), 4500)
PATH = Path(LOCAL, REMOTE)
SA = object()


class Bed:
    def __init__(self) -> None:
        self.journal = []
        self.engine = FakeEngine()
        self.dataplane = FakeDataplane(self.journal)
        self.clock = FakeClock()
        self.events = []
        self.failing = None
        self.service = IkeService(
            self.engine,
            self.dataplane,
            send=self.send,
            clock=self.clock,
            call_at=self.clock.call_at,
            emit=self.events.append,
        )

    def send(self, message: Any, path: Any, *, keepalive: Any = False) -> Any:
        self.journal.append(("keepalive" if keepalive else "send", message))
        return self.failing


@pytest.fixture
def bed() -> Any:
    return Bed()


def test_a_batch_is_one_commit_before_all_answers(bed: Any) -> None:
    bed.engine.reactions["receive"] = [InstallChildSa(SA)]
    bed.service.receive([(b"1", PATH), (b"2", PATH)])
    assert bed.journal == [
        ("install", SA, True),
        ("install", SA, True),
        ("commit",),
        ("send", b"re:1"),
        ("send", b"re:2"),
    ]


def test_messages_that_need_no_dataplane_cost_no_commit(bed: Any) -> None:
    bed.service.receive([(b"1", PATH)])
    assert bed.journal == [("send", b"re:1")]


def test_every_verb_reaches_the_dataplane_in_order(bed: Any) -> None:
    bed.engine.outputs = [
        InstallChildSa(SA, outbound=False),
        ActivateOutbound(1),
        MoveChildSa(2, LOCAL, REMOTE, True),
        RemoveChildSa(3),
        TransmitKeepalive(PATH),
    ]
    bed.service.flush()
    assert bed.journal == [
        ("install", SA, False),
        ("activate", 1),
        ("move", 2, REMOTE, True),
        ("remove", 3),
        ("commit",),
        ("keepalive", b"\xff"),
    ]


def test_a_refused_sa_goes_back_to_the_engine_and_its_answer_goes_out(bed: Any) -> None:
    bed.dataplane.refusals = [Refusal(7, "no such algorithm")]
    bed.engine.outputs = [InstallChildSa(SA), Transmit(b"response", PATH)]
    bed.engine.reactions["child_refused"] = [RemoveChildSa(7), Transmit(b"delete", PATH)]
    bed.service.flush()
    assert ("child_refused", 7, "no such algorithm") in bed.engine.calls
    assert bed.journal[-4:] == [
        ("send", b"response"),
        ("remove", 7),
        ("commit",),
        ("send", b"delete"),
    ]


def test_a_dataplane_that_refuses_for_ever_does_not_keep_us(bed: Any) -> None:
    def commit() -> Any:
        bed.journal.append(("commit",))
        return [Refusal(7, "no")]

    bed.dataplane.commit = commit
    bed.engine.reactions["child_refused"] = [RemoveChildSa(7)]
    bed.engine.outputs = [InstallChildSa(SA)]
    bed.service.flush()
    assert bed.journal.count(("commit",)) == MAX_ROUNDS


def test_dataplane_events_reach_the_engine_and_are_committed_even_without_outputs(bed: Any) -> None:
    bed.service.dataplane_events(
        [EndpointSeen(1, REMOTE, "mapping"), SaExpired(2, hard=True), TrafficWaiting(3)]
    )
    assert bed.engine.calls == [
        ("endpoint_seen", 1, REMOTE, "mapping"),
        ("child_expired", 2, True),
        ("traffic_waiting", 3),
    ]
    assert bed.journal == [("commit",)]  # packets that proved a move wait for it


def test_h45_a_packet_that_proves_nothing_is_an_event_and_moves_nothing(bed: Any) -> None:
    bed.service.dataplane_events([EndpointRejected(0xC0FFEE01, REMOTE, "replayed")])
    assert bed.engine.calls == []
    (event,) = bed.events
    assert event.name == "endpoint_rejected"
    assert event.fields == {
        "spi_in": "c0ffee01",
        "remote": "192.0.2.7:4500",
        "reason": "replayed",
    }
    assert bed.service.counters["endpoints_rejected"] == 1


def test_events_come_after_the_messages_of_their_round(bed: Any) -> None:
    event = Event("ike_sa_established", "text")
    bed.engine.outputs = [event, Transmit(b"x", PATH)]
    bed.service.flush()
    assert bed.events == [event]


def test_a_send_that_the_network_refuses_is_an_event_not_an_error(bed: Any) -> None:
    bed.failing = OSError(101, "Network is unreachable")
    bed.service.receive([(b"1", PATH)])
    assert bed.events[0].name == "send_failed"
    assert "Network is unreachable" in bed.events[0].text
    assert bed.service.counters["sends_refused"] == 1


def test_the_timer_fires_when_the_engine_wants_it(bed: Any) -> None:
    bed.engine.timer = 105.0
    bed.engine.reactions["handle_timer"] = [Transmit(b"again", PATH)]
    bed.service.flush()
    assert bed.clock.armed == [105.0]
    bed.clock.advance(5.0)
    assert ("handle_timer", 105.0) in bed.engine.calls
    assert bed.journal == [("send", b"again")]
    assert bed.clock.armed == []


def test_an_earlier_deadline_replaces_the_timer_and_a_later_one_does_not_move_it(bed: Any) -> None:
    bed.engine.timer = 110.0
    bed.service.flush()
    bed.engine.timer = 104.0
    bed.service.flush()
    assert bed.clock.armed == [104.0]
    bed.engine.timer = 120.0
    bed.service.flush()
    assert bed.clock.armed == [104.0]


def test_stopping_calls_the_timer_off(bed: Any) -> None:
    bed.engine.timer = 110.0
    bed.service.flush()
    bed.service.stop()
    assert bed.clock.armed == []

"""Why logins failed: one record for each kind, bounded, the newest first."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from gateway.appliance.failures import MAX_FAILURES, MAX_OF_ADDRESS, Failures
from gateway.domain.endpoint import Endpoint
from gateway.ike.outputs import Event, Severity

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def failed(remote: str = "198.51.100.7:500", **fields: object) -> Event:
    facts: dict[str, object] = {
        "peer": "ada@example.com",
        "remote": remote,
        "step": "IKE_AUTH",
        "reason": "the pre-shared key is not that of connection road",
        "remedy": "enter the same key on both sides",
        "connection": "road",
    }
    return Event("handshake_failed", "one line", Severity.WARNING, {**facts, **fields})


def test_equal_failures_are_one_record_with_a_count() -> None:
    failures = Failures(Clock())
    for port in (500, 1024, 4500):
        failures(failed(f"198.51.100.7:{port}"))
    (record,) = failures.find()
    assert (record.count, record.remote) == (3, "198.51.100.7:4500")
    assert record.first_at < record.last_at
    assert failures.total == 3


def test_the_newest_comes_first_and_cursors_sort_so() -> None:
    failures = Failures(Clock())
    for reason in ("a", "b", "c"):
        failures(failed(reason=reason))
    failures(failed(reason="a"))
    found = list(failures.find())
    assert [one.reason for one in found] == ["a", "c", "b"]
    assert [one.cursor for one in found] == sorted(one.cursor for one in found)
    assert len({one.id for one in found}) == 3


def test_those_that_the_log_leaves_out_are_recorded() -> None:
    failures = Failures(Clock())
    event = failed()
    failures(Event(event.name, event.text, event.severity, event.fields, logged=False))
    assert len(failures) == 1


def test_other_events_are_not() -> None:
    failures = Failures(Clock())
    failures(Event("ike_sa_established", "connected"))
    assert len(failures) == 0


def test_a_handshake_that_was_left_says_what_to_look_at() -> None:
    failures = Failures(Clock())
    failures(
        Event(
            "handshake_abandoned",
            "198.51.100.7:500 sent IKE_SA_INIT and then no valid IKE_AUTH within 30 s",
            Severity.DEBUG,
            {"remote": "198.51.100.7:500"},
        )
    )
    (record,) = failures.find()
    assert "4500" in record.remedy


def test_one_address_cannot_push_out_the_others() -> None:
    failures = Failures(Clock())
    failures(failed("203.0.113.9:500", peer="grace@example.com"))
    for number in range(5 * MAX_FAILURES):
        failures(failed(reason=f"wrong {number}"))
    assert len(failures) == 1 + MAX_OF_ADDRESS
    (kept,) = failures.find(who="GRACE")
    assert kept.peer == "grace@example.com"


def test_many_addresses_stay_bounded() -> None:
    failures = Failures(Clock())
    for number in range(3 * MAX_FAILURES):
        failures(failed(str(Endpoint(ip_address(0x0A000000 + number), 500))))
    assert len(failures) == MAX_FAILURES
    assert len(failures._of_address) == MAX_FAILURES
    assert next(failures.find()).remote == f"{ip_address(0x0A000000 + 3 * MAX_FAILURES - 1)}:500"


def test_filters() -> None:
    clock = Clock()
    failures = Failures(clock)
    failures(failed("198.51.100.7:500"))
    failures(failed(str(Endpoint(ip_address("2001:db8::7"), 4500)), peer="v6", connection="six"))
    assert [one.peer for one in failures.find(remote="2001:db8:0::7")] == ["v6"]
    assert [one.peer for one in failures.find(who="198.51.100.7")] == ["ada@example.com"]
    assert [one.peer for one in failures.find(connection="six")] == ["v6"]
    clock.now += timedelta(hours=1)
    failures(failed("192.0.2.1:500", peer="new"))
    assert [one.peer for one in failures.find(within_s=60)] == ["new"]


def test_long_texts_are_cut() -> None:
    failures = Failures(Clock())
    failures(failed(theirs="x" * 100_000))
    (record,) = failures.find()
    assert len(record.theirs) == 2000

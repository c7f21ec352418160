"""`gateway status`, `top`, `log`, `support`, `capture`, against a socket that answers."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from gateway_answers import Answers, page
from rich.console import Console

from gateway.cli import follow, observation_commands, status, support, top
from gateway.cli.failure import guarded
from gateway.control.client import ControlClient
from gateway.control.protocol import ControlError, ErrorCode

DEVICE = {
    "name": "laptop",
    "identity": "ann@example.com",
    "user": "ann\x1b[2J",
    "where": "outside",
    "mode": "vf",
    "outer": "198.51.100.7:4500",
    "inner_addresses": ["10.9.0.2"],
    "bytes_in": 2048,
    "bytes_out": 1024,
    "rate_in": 512.0,
    "rate_out": 0.0,
    "handovers": 3,
    "last_move": {"gap_ms": 180.4},
}
FAILURE = {
    "peer": "bob",
    "remote": "198.51.100.9:500",
    "count": 4,
    "reason": "user bob: wrong password",
    "remedy": "check the password of bob",
}
METRICS = """\
# HELP gateway_up 1 while the core answers.
# TYPE gateway_up gauge
gateway_up 1
gateway_sessions{connection="road"} 1
gateway_sessions{connection="branch"} 0
gateway_pool_addresses{pool="road"} 2
gateway_pool_addresses_used{pool="road"} 2
gateway_certificate_expiry_seconds{file="gw.pem",subject="CN=\\"gw\\", O=x"} 86400
gateway_traffic_bytes_total{connection="road",direction="in"} 1000
gateway_traffic_bytes_total{connection="road",direction="out"} 500
"""
STATUS = {
    "name": "gw.example.com",
    "version": "1.0",
    "uptime_s": 90,
    "pid": 7,
    "rss_kib": 2048,
    "listen": ["192.0.2.1:500"],
    "connections": ["road", "branch"],
    "api": {"state": "waiting", "listen": "127.0.0.1:8443"},
    "reloads": {"last_problems": ["gateway.toml: pools.x: wrong"]},
    "mobility": {"home_agents": {"inner": {"bindings": 5}}, "foreign_agents": {}},
}


def results(**changed: object) -> dict[str, object]:
    return {
        "status": STATUS,
        "devices": page(DEVICE),
        "topology": {"where": {"outside": 1, "offline": 2}, "modes": {"vf": 1}},
        "ike-failures": page(FAILURE),
        "registration-failures": page(),
        "metrics": {"text": METRICS, "content_type": "text/plain"},
        "store": {"state": "good", "reason": None},
        **changed,
    }


def test_status_says_what_is_up_what_is_wrong_and_what_to_do(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = results()
    assert status.status(answers.path, as_json=False, watch=False, everything=False) == 0
    text = capsys.readouterr().out
    for part in (
        "gw.example.com has a problem",
        "1 outside, 2 offline",
        "road: 1 sessions, branch: 0 sessions",
        "home agent inner",
        "5 bindings",
        "the configuration was refused",
        "the API does not run (waiting)",
        "certificate gw.pem expires in 1d",
        "pool road is used up",
        "make pools.road.network larger",
        "login of bob from 198.51.100.9:500 failed (4x)",
        "do: check the password of bob",
        "laptop",
        "gateway ike explain",
        "gateway support",
    ):
        assert part in text, part
    assert "\x1b[2J" not in text


def test_status_tells_of_the_store(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    broken = {**STATUS, "broken": ["devices/laptop"]}
    failing = {"state": "failing", "reason": "no space left on device"}
    answers.results = results(status=broken, store=failing)
    assert status.status(answers.path, as_json=False, watch=False, everything=False) == 0
    text = capsys.readouterr().out
    assert "the store is failing: no space left on device" in text
    assert "stored object devices/laptop does not fit" in text
    answers.results = results(store=ControlError(ErrorCode.REFUSED, "runs without a store"))
    assert status.status(answers.path, as_json=False, watch=False, everything=False) == 0
    assert "the store is not available: runs without a store" in capsys.readouterr().out


def test_status_of_a_gateway_that_is_well(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    well = {**STATUS, "api": {"state": "running"}, "reloads": {"last_problems": []}}
    answers.results = results(
        **{
            "status": well,
            "ike-failures": page(),
            "metrics": {"text": "gateway_up 1\n"},
            "devices": page(),
        }
    )
    assert status.status(answers.path, as_json=False, watch=False, everything=False) == 0
    text = capsys.readouterr().out
    assert "gw.example.com is up" in text
    assert "Wrong" not in text
    assert "gateway device add NAME" in text


def test_status_in_json_is_as_before(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers.results = {"status": {"version": "1"}, "ike-sas": page(), "child-sas": page()}
    assert status.status(answers.path, as_json=True, watch=False, everything=False) == 0
    assert json.loads(capsys.readouterr().out)["status"] == {"version": "1"}


def test_samples_are_read_back() -> None:
    found = status.samples(METRICS)
    assert found["gateway_sessions", ("road",)] == 1
    assert found["gateway_certificate_expiry_seconds", ("gw.pem", 'CN=\\"gw\\", O=x')] == 86400
    assert status.samples("nonsense\n{}\n# x\n") == {}


def test_top_is_plain_where_there_is_no_terminal(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = results()
    assert top.top(answers.path, once=False) == 0
    text = capsys.readouterr().out
    for part in ("laptop", "vf", "512 B", "2.0 KiB", "180 ms", "1 of 1 devices by traffic"):
        assert part in text
    assert "q: quit" not in text
    assert "\x1b" not in text


def test_keys_of_top_sort_filter_and_quit() -> None:
    choice = top.Choice()
    assert choice.key("s")
    assert choice.sort == top.SORTS[1]
    for _ in top.SORTS[1:]:
        choice.key("s")
    assert choice.sort == top.SORTS[0]
    assert choice.key("f")
    assert choice.where == top.FILTERS[1]
    assert choice.key("x")
    assert not choice.key("q")
    assert not choice.key("\x03")


def test_top_fits_the_terminal_and_counts_rates(answers: Answers) -> None:
    answers.results = results()
    out = Console(file=io.StringIO(), width=200)
    rates = top.Rates()
    first = rates.update(status.samples(METRICS), 10.0)
    assert first == {"in": 0.0, "out": 0.0}
    more = METRICS.replace("} 1000", "} 3000")
    assert rates.update(status.samples(more), 12.0) == {"in": 1000.0, "out": 0.0}
    with ControlClient(answers.path) as client:
        out.print(top.picture(client, top.Choice(), rates, lines=3, width=200, keys=True))
    limits = [args.get("limit") for op, args in answers.asked if op == "devices"]
    assert limits == [3]


@pytest.mark.parametrize("width", [60, 80, 120, 250])
def test_a_narrow_terminal_shows_fewer_columns_but_whole_words(
    answers: Answers, width: int
) -> None:
    answers.results = results()
    out = Console(file=io.StringIO(), width=width)
    with ControlClient(answers.path) as client:
        shown = top.picture(client, top.Choice(), top.Rates(), lines=3, width=width, keys=False)
        out.print(shown)
        out.print(status.status_view(status.look(client), width))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    rows = [line for line in text.splitlines() if line.startswith("laptop ")]
    assert len(rows) == 2
    for row in rows:
        for word in ("198.51.100.7:4500", "2.0 KiB", "1.0 KiB"):
            assert word in row
    assert ("10.9.0.2" in rows[0]) == (width >= 120)


ENTRY = {
    "id": "1",
    "at": "2026-01-01T10:00:00.000+00:00",
    "device": "laptop",
    "what": "moved",
    "session": "s1",
    "text": "moved\x1b[2J",
    "fields": {"new": "b"},
}


def test_log_prints_the_past_oldest_first(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = {**ENTRY, "id": "2", "text": "closed"}
    answers.results = {"device": DEVICE, "history": page(newer, ENTRY)}
    options: dict[str, Any] = {"live": False, "debug": False, "as_json": False}
    assert follow.follow(answers.path, None, "laptop", 3600, **options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["closed" in line for line in lines] == [False, True]
    assert "\x1b" not in lines[0]
    assert "[laptop s1]" in lines[0]
    assert answers.asked[-1] == ("history", {"device": "laptop", "since_s": 3600})
    options["as_json"] = True
    assert follow.follow(answers.path, "s1", None, None, **options) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["fields"] == {"new": "b", "device": "laptop", "session": "s1"}


def test_log_of_no_such_device(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers.results = {"device": ControlError(ErrorCode.NOT_FOUND, "there is no such device")}
    options: dict[str, Any] = {"live": False, "debug": False, "as_json": False}
    code = guarded(lambda: follow.follow(answers.path, None, "x", None, **options))
    assert code != 0
    assert "there is no such device" in capsys.readouterr().err


def test_which_events_concern_a_session_or_device() -> None:
    event = {"fields": {"device": "laptop", "session": "s1"}}
    assert follow.concerns(event, None, None)
    assert follow.concerns(event, "s1", "laptop")
    assert not follow.concerns(event, "s2", None)
    assert not follow.concerns({"fields": {}}, None, "laptop")


def piece(octets: bytes, following: int | None, offset: int = 0) -> dict[str, object]:
    return {
        "id": "a" * 16,
        "file_name": "../../evil/gateway-support-x.tar.gz",
        "offset": offset,
        "octets": len(octets),
        "content": base64.b64encode(octets).decode(),
        "next": following,
    }


def test_h78_the_bundle_is_written_here_for_its_owner_and_over_nothing(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answers.results = {"support": piece(b"abc", None)}
    assert support.support(answers.path, None) == 0
    file = tmp_path / "gateway-support-x.tar.gz"
    assert file.read_bytes() == b"abc"
    assert file.stat().st_mode & 0o777 == 0o600
    assert guarded(lambda: support.support(answers.path, None)) != 0
    assert file.read_bytes() == b"abc"
    other = tmp_path / "other"
    assert support.support(answers.path, other) == 0
    assert other.read_bytes() == b"abc"


def test_a_capture_is_fetched_and_removed(
    answers: Answers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = {
        "id": "a" * 16,
        "filter": ["outer x"],
        "packets": 3,
        "ended_by": "time",
        "state": "done",
    }
    answers.results = {
        "capture-start": view,
        "captures": page(view),
        "capture-read": piece(b"xyz", None),
        "capture-stop": view,
    }
    file = tmp_path / "x.pcapng"
    assert support.capture(answers.path, "laptop", file, seconds=5, megabytes=1) == 0
    assert file.read_bytes() == b"xyz"
    assert answers.asked[0] == (
        "capture-start",
        {"device": "laptop", "seconds": 5, "octets": 1024 * 1024},
    )
    assert answers.asked[-1] == ("capture-stop", {"id": "a" * 16, "remove": True})
    assert "3 packets" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("15m", 900), ("2h", 7200), ("7d", 604_800)])
def test_spans(text: str, seconds: int) -> None:
    assert observation_commands.span_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5", "5y", "-5m", "1 h", "9999999s"])
def test_spans_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        observation_commands.span_s(text)

"""`gateway leases`, `rules`, `redirects`, `napt`, `names`, `mtu`, `path-test`, against a socket."""

import json

import pytest
from gateway_answers import Answers, page
from typer.testing import CliRunner

from gateway.cli import remote_access
from gateway.cli.commands import app
from gateway.cli.failure import guarded
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode

LEASE = {
    "pool": "road",
    "address": "10.9.0.2",
    "state": "kept",
    "why": "kept for ann@example.com until tomorrow",
    "identity": "ann@example.com\x1b[2J",
    "user": None,
    "until": "2026-11-22T10:00:00.000Z",
}
RULE = {
    "name": "web",
    "in_force": False,
    "sessions": 3,
    "packets": 7,
    "bytes": 2048,
    "words": "allow to-inside tcp 443",
    "why": "profile staff",
}
TEST = {"allowed": False, "rule": "web", "why": "it allows other ports", "sessions": 0}
PATH = {
    "ok": False,
    "largest": 1300,
    "expected": 1400,
    "summary": "1400 octets do not arrive; set dataplane.mtu = 1300",
    "probes": [{"octets": 1400, "arrived": False, "rtt_ms": None, "detail": "no answer"}],
}
MTU = {
    "path": 1500,
    "steps": [{"what": "IPv4", "octets": 20, "left": 1480}],
    "effective": 1400,
    "mss_ipv4": 1360,
    "mss_ipv6": 1340,
    "published": ["MSS clamping"],
    "warnings": ["the path is smaller"],
}
NAMES = {
    "forwarder": {
        "state": "running",
        "detail": "since an hour",
        "listen": ["10.1.0.1"],
        "port": 53,
        "forward": [{"domains": [], "servers": ["10.1.0.53"], "answering": True}],
        "questions": 5,
        "from_cache": 2,
        "failures": 0,
    },
    "registration": {"state": "off", "detail": "not configured"},
    "items": [{"name": "phone.example.org", "addresses": ["10.9.0.2"], "state": "registered"}],
}
RECORDS = {
    "ok": False,
    "items": [{"record": "example.org. IN KX 10 gw.example.org.", "state": "missing", "found": []}],
    "advice": ["add the records above"],
}
REACHABILITY = {
    "pools": [{"pool": "road", "network": "10.9.0.0/24", "size": 254, "in_use": 2}],
    "items": [
        {
            "pool": "road",
            "state": "todo",
            "advertise": "route-hint",
            "detail": "enter a route",
            "routes": [{"command": "ip route add 10.9.0.0/24 via 10.1.0.1"}],
        }
    ],
}


def run(answers: Answers, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--socket", str(answers.path)])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("words", "operation", "result", "status", "parts"),
    [
        (("leases",), "leases", page(LEASE), 0, ("10.9.0.2", "kept for ann", "\\x1b[2J")),
        (("leases",), "leases", page(), 0, ("No address is held",)),
        (("leases", "routes"), "reachability", REACHABILITY, 0, ("ip route add", "254", "todo")),
        (
            ("leases", "release", "road", "10.9.0.2"),
            "lease-release",
            {"pool": "road", "address": "10.9.0.2", "identity": "ann"},
            0,
            ("10.9.0.2 is free; it was ann's",),
        ),
        (("rules",), "rule-counters", page(RULE), 0, ("web", "2.0 KiB", "tcp 443", "no")),
        (("rules", "test", "phone", "10.1.0.1"), "rule-test", TEST, 1, ("refused by rules.web",)),
        (
            ("rules", "test", "phone", "10.1.0.1"),
            "rule-test",
            {**TEST, "allowed": True, "rule": None, "sessions": 1},
            0,
            ("allowed: it allows",),
        ),
        (("names",), "names", NAMES, 0, ("phone.example.org", "all others: 10.1.0.53 (answering)")),
        (("names", "verify"), "names-verify", RECORDS, 1, ("IN KX", "missing", "add the records")),
        (("mtu", "phone"), "mtu", MTU, 0, ("1480", "MTU 1400", "MSS 1360", "warning: the path")),
        (("path-test", "phone"), "path-test", PATH, 1, ("no answer", "set dataplane.mtu")),
        (("redirects",), "redirects", page(), 0, ("gateway create redirects",)),
        (("napt",), "napt-sessions", page(), 0, ("No session",)),
    ],
)
def test_says_it_in_words_and_by_its_exit_status(
    answers: Answers,
    words: tuple[str, ...],
    operation: str,
    result: object,
    status: int,
    parts: tuple[str, ...],
) -> None:
    answers.results = {operation: result}
    found, text = run(answers, *words)
    assert found == status
    assert "\x1b[2J" not in text
    for part in parts:
        assert part in text


def test_redirects_and_napt_sessions_are_tables(answers: Answers) -> None:
    redirect = {
        "name": "camera",
        "protocol": "tcp",
        "address": None,
        "ports": "8080",
        "device": "camera-1",
        "state": "active",
        "leads_to": "10.9.0.2:80",
        "connections": 4,
        "bytes": 1024,
    }
    session = {"session": "a_b", "identity": "bob", "addresses": ["192.168.0.2"], "zone": 7}
    answers.results = {"redirects": page(redirect), "napt-sessions": page(session)}
    assert "* tcp 8080" in run(answers, "redirects")[1]
    assert "192.168.0.2" in run(answers, "napt")[1]


def test_rules_of_a_device(answers: Answers) -> None:
    usage = {"bytes_in": 1024, "bytes_out": 2048, "refused": 9}
    answers.results = {
        "rules-of": {
            "device": "phone",
            "connected": True,
            "addresses": ["10.9.0.2"],
            "rules": [RULE],
            "otherwise": {"to-inside": "nothing else"},
            "bandwidth_up_kbit_s": 5000,
            "bandwidth_down_kbit_s": None,
            "usage": usage,
        }
    }
    status, text = run(answers, "rules", "of", "phone")
    assert status == 0
    for part in (
        "profile staff",
        "otherwise to-inside: nothing else",
        "5000 kbit/s up",
        "9 packets",
    ):
        assert part in text
    assert "down" not in text


def test_the_past_is_bounded_unless_all_of_it_is_wanted(answers: Answers) -> None:
    entry = {"pool": "road", "address": "10.9.0.2", "identity": "ann"}
    answers.results = {"lease-history": page(*[entry] * 150)}
    few, everything = run(answers, "leases", "history"), run(answers, "leases", "history", "--all")
    assert few[1].count("ann") == remote_access.NEWEST
    assert everything[1].count("ann") == 150


def test_json_is_what_the_gateway_said(answers: Answers) -> None:
    answers.results = {"mtu": MTU, "leases": page(LEASE)}
    assert json.loads(run(answers, "mtu", "phone", "--json")[1]) == MTU
    assert json.loads(run(answers, "leases", "--json")[1]) == [LEASE]


@pytest.mark.parametrize("protocol", ["0", "256", "tpc", "-1", "6.0", "٦", ""])
def test_h78_a_protocol_that_is_none_is_named_with_what_is_allowed(
    answers: Answers, capsys: pytest.CaptureFixture[str], protocol: str
) -> None:
    flow = remote_access.Flow("to-inside", "10.1.0.1", protocol, 0)
    assert remote_access.rule_test(answers.path, "phone", flow, as_json=False) == 2
    assert "choose one of icmp, ipip, tcp" in capsys.readouterr().err
    assert answers.asked == []


def test_names_and_numbers_of_protocols_are_the_configurations() -> None:
    from gateway.config.remote_access_fields import PROTOCOLS

    assert remote_access.PROTOCOLS == PROTOCOLS


def test_what_the_gateway_refuses_is_one_line(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = {"mtu": ControlError(ErrorCode.NOT_FOUND, "device = phone: there is none")}
    assert guarded(lambda: remote_access.mtu(answers.path, "phone", as_json=False)) == 1
    assert capsys.readouterr().err == "gateway: device = phone: there is none\n"


def test_hostile_answers_do_not_break_the_views(answers: Answers) -> None:
    answers.results = {
        "names": {"forwarder": [], "registration": 7, "items": "x"},
        "mtu": {"steps": [7, None], "published": {"a": 1}},
        "reachability": {"pools": None, "items": [None]},
        "rules-of": {"rules": {}, "otherwise": [], "usage": "no"},
    }
    for words in (("names",), ("mtu", "x"), ("leases", "routes"), ("rules", "of", "x")):
        assert run(answers, *words)[0] == 0


def test_every_operation_of_remote_access_has_a_command() -> None:
    from gateway.control.remote_access_operations import REMOTE_ACCESS_OPERATIONS

    source = remote_access.__loader__.get_source(remote_access.__name__)  # type: ignore[attr-defined, union-attr]
    for operation in REMOTE_ACCESS_OPERATIONS:
        assert operation.name in OPERATIONS
        assert f'"{operation.name}"' in source

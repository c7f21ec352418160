"""NAR clients, leases and the audit as commands show them."""

import json

import pytest
from gateway_answers import Answers, page
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.cli.nar_views import AUDIT_SHOWN
from gateway.control.protocol import ControlError

LEASE_ID = "tcp,203.0.113.5,20010,198.51.100.7,443"
CLIENT = {
    "server": "soho",
    "client": "192.168.1.20",
    "port": 40001,
    "user": "ann\x1b[2J",
    "rule": "all",
    "state": "nar",
    "connected": True,
    "tls": True,
    "address": "203.0.113.5",
    "target": "198.51.100.7",
    "delivery": "ip-ip",
    "session": "90c1f2d30a774be5",
    "resumable": True,
    "leases": 3,
    "since": "2026-01-01T10:00:00.000+00:00",
    "expires_in_s": 500.5,
}
LEASE = {
    "id": LEASE_ID,
    "server": "soho",
    "protocol": "tcp",
    "address": "203.0.113.5",
    "value": "20010",
    "remote": "198.51.100.7",
    "remote_port": 443,
    "client": "192.168.1.20",
    "user": None,
    "rule": "all",
    "session": "90c1f2d30a774be5",
    "connected": True,
    "delivery": "translated",
    "client_port": 80,
    "peer": None,
    "since": "2026-01-01T10:00:00.000+00:00",
    "expires_in_s": None,
}
ENTRY = {
    **LEASE,
    "id": "000000000000002a",
    "until": "2026-01-01T11:00:00.000+00:00",
    "ended_by": "released",
}


def run(answers: Answers, *words: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["nar", *words, "--socket", str(answers.path)])
    assert done.exit_code == status, done.output
    return done.output


def test_clients(answers: Answers) -> None:
    lost = {**CLIENT, "state": "lost", "user": None, "tls": False, "port": None}
    answers.results["nar-clients"] = page(CLIENT, lost)
    text = run(answers, "clients", "--user", "ann")
    first, second = text.splitlines()[1:]
    assert "192.168.1.20" in first
    assert "ann\\x1b[2J" in first
    assert "2026-01-01 10:00:00" in first
    assert "8m 20s" in first
    assert "nar, TLS, renews" in first
    assert "198.51.100.7" in first
    assert "lost, may come back, renews" in second
    assert answers.asked[0][1]["user"] == "ann"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, "tcp 203.0.113.5:20010"),
        ({"protocol": "udp"}, "udp 203.0.113.5:20010"),
        ({"protocol": "icmp", "value": "49200"}, "icmp 203.0.113.5 id 49200"),
        ({"protocol": "esp", "value": "0x41f3a2c7"}, "esp 203.0.113.5 SPI 0x41f3a2c7"),
        ({"protocol": "gre", "value": "10.20.0.10"}, "gre 203.0.113.5 inner 10.20.0.10"),
    ],
)
def test_mappings(answers: Answers, change: dict[str, object], what: str) -> None:
    answers.results["nar-mappings"] = page({**LEASE, **change})
    text = run(answers, "mappings")
    assert what in text
    assert LEASE_ID in text
    assert "198.51.100.7:443" in text
    assert "192.168.1.20:80" in text


def test_a_lease_can_be_copied_from_a_narrow_terminal(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    answers.results["nar-mappings"] = page(LEASE)
    assert any(line.startswith(LEASE_ID) for line in run(answers, "mappings").splitlines())


def test_mappings_are_asked_for_by_filters(answers: Answers) -> None:
    answers.results["nar-mappings"] = page()
    options = {
        "client": "192.168.1.20",
        "user": "ann",
        "protocol": "esp",
        "address": "203.0.113.5",
        "value": "0x41f3a2c7",
        "server": "soho",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert run(answers, "mappings", *words) == "No lease.\n"
    asked = {name: value for name, value in answers.asked[0][1].items() if value is not None}
    assert asked == options


def test_the_audit(answers: Answers) -> None:
    still = {**ENTRY, "until": None, "ended_by": None}
    answers.results["nar-audit"] = page(ENTRY, still)
    text = run(answers, "audit", "--value", "20010", "--at", "2026-01-01T10:30:00Z")
    over, held = text.splitlines()[1:]
    assert "2026-01-01 11:00:00" in over
    assert over.rstrip().endswith("released")
    assert "still" in held
    assert answers.asked[0][1]["at"] == "2026-01-01T10:30:00Z"


def test_a_long_audit_ends_early(answers: Answers) -> None:
    answers.results["nar-audit"] = page(*[ENTRY] * (AUDIT_SHOWN + 1))
    text = run(answers, "audit")
    assert text.count("released") == AUDIT_SHOWN
    assert f"The newest {AUDIT_SHOWN}; all: --all" in text
    assert run(answers, "audit", "--all").count("released") == AUDIT_SHOWN + 1


@pytest.mark.parametrize(
    ("command", "op", "words"),
    [
        ("clients", "nar-clients", "No NAR client."),
        ("mappings", "nar-mappings", "No lease."),
        ("audit", "nar-audit", "Nothing is written down about it."),
    ],
)
def test_nothing(answers: Answers, command: str, op: str, words: str) -> None:
    answers.results[op] = page()
    assert run(answers, command) == f"{words}\n"
    assert json.loads(run(answers, command, "--json")) == []


def test_json_is_as_the_gateway_says_it(answers: Answers) -> None:
    answers.results["nar-mappings"] = page(LEASE)
    assert json.loads(run(answers, "mappings", "--json")) == [LEASE]


def test_ending(answers: Answers) -> None:
    answers.results["nar-end-lease"] = {"ended": LEASE_ID, "lease": "TCP 203.0.113.5:20010"}
    assert run(answers, "end", LEASE_ID) == "ended TCP 203.0.113.5:20010\n"
    answers.results["nar-end-client"] = {"ended": "192.168.1.20", "leases": 3}
    said = run(answers, "end", "192.168.1.20", "--server", "soho")
    assert said == "ended everything of 192.168.1.20: 3 leases\n"
    assert answers.asked[-1][1]["server"] == "soho"


def test_a_refusal_is_one_line(answers: Answers) -> None:
    answers.results["nar-audit"] = ControlError("refused", "nothing is written down here")
    assert "nothing is written down here" in run(answers, "audit", status=1)


def test_the_status_shows_the_first_of_them(answers: Answers) -> None:
    many = {**page(CLIENT), "total": 30}
    facts = {"version": "1", "nar": {"leases": 70_000}}
    answers.results.update(
        {
            "status": facts,
            "ike-sas": page(),
            "child-sas": page(),
            "nar-clients": many,
            "nar-mappings": page(LEASE),
        }
    )
    done = CliRunner().invoke(app, ["status", "--all", "--socket", str(answers.path)])
    assert done.exit_code == 0
    assert "nar.leases" in done.output
    assert "1 of 30; all: gateway nar clients" in done.output
    assert "tcp 203.0.113.5:20010" in done.output

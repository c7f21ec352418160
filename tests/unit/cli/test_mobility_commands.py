"""Bindings, visitors and denied registrations as commands show them."""

import json
import re

import pytest
from gateway_answers import Answers, page
from typer.testing import CliRunner

from gateway.cli import control
from gateway.cli.commands import app
from gateway.cli.failure import guarded
from gateway.cli.mobility import revoke_binding
from gateway.control.protocol import ControlError
from gateway.mip_agents.codec.advice import advice
from gateway.mip_agents.codec.codes import ReplyCode

CARE_OF = {
    "address": "192.0.2.7",
    "tunnel": "ip-ip in UDP to 192.0.2.7:49152",
    "flags": ["co_located", "reverse"],
    "lifetime_s": 1800,
    "expires_in_s": 1750.0,
    "nat": True,
    "via_foreign_agent": None,
}
BINDING = {
    "home_agent": "outside",
    "node": "ann\x1b[2J",
    "nai": "ann@example.com",
    "home_address": "10.20.0.10",
    "home_network": "roaming",
    "dynamic": True,
    "care_of_addresses": [CARE_OF, {**CARE_OF, "address": "192.0.2.8", "expires_in_s": None}],
    "lifetime_s": None,
    "registered_for_s": 50.0,
    "expires_in_s": None,
    "zero_overhead": "203.0.113.1",
    "registrations": 3,
    "last_code": 133,
}
VISITOR = {
    "foreign_agent": "hall",
    "home_address": "10.20.0.11",
    "home_agent": "10.20.0.1",
    "care_of_address": "10.4.0.1",
    "nai": None,
    "interface": "eth2",
    "link_address": "02:00:00:00:00:01",
    "tunnel": "gre to 10.20.0.1",
    "flags": ["reverse"],
    "lifetime_s": 60,
    "expires_in_s": 59.0,
    "installed": True,
    "registrations": 1,
    "last_code": 0,
}
NETWORK = {
    "name": "roaming",
    "network": "10.20.0.0/24",
    "interface": None,
    "home_agent": "inside",
    "home_agent_address": "10.20.0.1",
    "placement": "inside",
    "bindings": 4,
    "dynamic_addresses": 12,
    "dynamic_addresses_in_use": 5,
}
DENIED = {
    "id": "1",
    "first_at": "2026-01-01T10:00:00+00:00",
    "last_at": "2026-01-01T10:05:00+00:00",
    "count": 3,
    "node": "ann, ann@example.com",
    "source": "198.51.100.7:434",
    "agent": "outside",
    "denied_by": "home agent",
    "code": 131,
    "reason": "its authenticator is wrong",
    "remedy": "give both sides the same SPI, key and algorithm",
}


def told(answers: Answers, *words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--socket", str(answers.path)])
    assert result.exit_code == 0, result.output
    assert "\x1b[2J" not in result.output
    return result.output


def test_bindings_have_a_line_for_each_care_of_address(answers: Answers) -> None:
    answers.results = {"bindings": page(BINDING)}
    first, second = told(answers, "bindings", "ann", "--home-agent", "outside").splitlines()[1:3]
    for part in ("10.20.0.10", "192.0.2.7", "ip-ip in UDP to 192.0.2.7:49152", "29m 10s", "50s"):
        assert part in first
    for part in ("192.0.2.8", "never", "behind a NAT", "zero overhead to 203.0.113.1"):
        assert part in second
    assert "dynamic address" in first
    assert "last denied with code 133" in first
    assert answers.asked == [("bindings", {"node": "ann", "home_agent": "outside"})]


def test_visitors(answers: Answers) -> None:
    answers.results = {"visitors": page(VISITOR)}
    text = told(answers, "visitors", "--foreign-agent", "hall")
    for part in ("10.20.0.11", "eth2 02:00:00:00:00:01", "gre to 10.20.0.1", "59s", "yes"):
        assert part in text
    assert answers.asked == [("visitors", {"foreign_agent": "hall"})]


def test_home_networks(answers: Answers) -> None:
    answers.results = {"home-networks": page(NETWORK)}
    text = told(answers, "home-networks")
    for part in ("roaming", "virtual", "inside 10.20.0.1", "5 of 12"):
        assert part in text
    assert json.loads(told(answers, "home-networks", "--json")) == [NETWORK]


@pytest.mark.parametrize(
    ("command", "op", "said"),
    [
        ("bindings", "bindings", "No binding: nobody is away and registered."),
        ("visitors", "visitors", "No visitor."),
        ("home-networks", "home-networks", "No home network."),
        ("explain", "registration-failures", "No denied registration since the gateway started."),
    ],
)
def test_nothing(answers: Answers, command: str, op: str, said: str) -> None:
    answers.results = {op: page()}
    assert told(answers, command).strip() == said
    assert json.loads(told(answers, command, "--json")) == []


def test_revoke(answers: Answers) -> None:
    done = {"revoked": "10.20.0.10", "home_agent": "outside", "node": "ann"}
    answers.results = {"revoke-binding": done}
    assert told(answers, "binding", "revoke", "10.20.0.10") == (
        "revoked 10.20.0.10 (ann) at outside\n"
    )
    assert answers.asked == [("revoke-binding", {"home_address": "10.20.0.10"})]


def test_revoke_what_is_not_bound(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    error = ControlError("not-found", "there is no binding of 10.20.0.99", "home_address")
    answers.results = {"revoke-binding": error}
    assert guarded(lambda: revoke_binding(answers.path, "10.20.0.99", None)) == 1
    assert "there is no binding of 10.20.0.99" in capsys.readouterr().err


def test_explain_says_who_what_and_what_to_do(answers: Answers) -> None:
    answers.results = {"registration-failures": page(DENIED)}
    text = told(answers, "explain", "ann")
    for part in (
        "ann, ann@example.com from 198.51.100.7:434, denied by home agent outside",
        "3 times since 2026-01-01 10:00:00",
        "131, the mobile node could not prove itself",
        "its authenticator is wrong",
        "give both sides the same SPI, key and algorithm",
    ):
        assert part in text
    assert answers.asked == [("registration-failures", {"who": "ann"})]


def test_explain_shows_the_newest(answers: Answers) -> None:
    answers.results = {"registration-failures": page(*[DENIED] * 12)}
    assert "2 older ones: gateway explain --all" in told(answers, "explain")
    assert "older" not in told(answers, "explain", "--all")


@pytest.mark.parametrize("code", ReplyCode)
def test_every_code_is_explained_without_a_gateway(code: ReplyCode) -> None:
    result = CliRunner().invoke(app, ["explain", str(int(code))])
    assert result.exit_code == 0
    assert code.name.lower() in result.output
    assert code.text in " ".join(result.output.split())
    assert re.search(r"^  do +\S", result.output, re.MULTILINE)


@pytest.mark.parametrize("code", [9, 120, 200, 255])
def test_codes_that_nobody_has_defined(code: int) -> None:
    assert "not one of the RFCs'" in advice(code)
    result = CliRunner().invoke(app, ["explain", str(code), "--json"])
    assert json.loads(result.output)["name"] == "unknown"


def test_status_shows_bindings_and_visitors(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = {
        "status": {"mobility": {"home_agents": {"outside": {"bindings": 30}}}},
        "ike-sas": page(),
        "child-sas": page(),
        "bindings": {"items": [BINDING], "next": "0a14000a", "total": 30},
        "visitors": page(VISITOR),
    }
    assert control.status(answers.path, as_json=False, watch=False) == 0
    text = capsys.readouterr().out
    for part in (
        "mobility.home_agents.outside.bindings",
        "192.0.2.7",
        "1 of 30; all: gateway bindings",
        "gre to 10.20.0.1",
    ):
        assert part in text

"""The commands that ask a running gateway, against a socket that answers like one."""

import json
from pathlib import Path

import pytest
from gateway_answers import Answers, page

from gateway.cli import control
from gateway.cli.failure import guarded
from gateway.cli.output import duration, octets, printable
from gateway.control.protocol import ControlError

IKE_SA = {
    "id": "0123456789abcdef_fedcba9876543210",
    "connection": "staff",
    "state": "established",
    "remote_id": "ann@example.com\x1b[2J",
    "remote": "198.51.100.10:4500",
    "inner_addresses": ["10.83.112.1"],
    "suite": "aes256gcm16-prfsha256-x25519",
    "age_s": 3723.5,
    "last_move": {"age_s": 5.0, "old": "a:1", "new": "b:2", "proof": "esp icv, sequence 9"},
}
CHILD_SA = {
    "spi_in": "c0000001",
    "spi_out": "0d000002",
    "connection": "staff",
    "remote_id": "ann@example.com",
    "remote": "198.51.100.10:4500",
    "suite": "aes_gcm_16_256/esn",
    "encapsulation": "esp-in-udp",
    "local_ts": ["10.1.0.0/16"],
    "remote_ts": ["10.83.112.1/32"],
    "bytes_in": 1536,
    "packets_in": 3,
    "bytes_out": None,
    "packets_out": None,
    "age_s": 59,
    "last_move": None,
}


def test_status(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers.results = {
        "status": {"version": "1", "uptime_s": 90, "counters": {"ike": {"retransmits": 4}}},
        "ike-sas": page(IKE_SA),
        "child-sas": page(CHILD_SA),
    }
    assert control.status(answers.path, as_json=False, watch=False) == 0
    text = capsys.readouterr().out
    for part in (
        "1m 30s",
        "counters.ike.retransmits",
        IKE_SA["id"],
        "1h 2m",
        "5s ago: a:1 -> b:2 (esp icv, sequence 9)",
        "10.1.0.0/16 === 10.83.112.1/32",
        "1.5 KiB, 3",
        "esp-in-udp aes_gcm_16_256/esn",
    ):
        assert str(part) in text
    assert "\x1b[2J" not in text
    assert "\\x1b[2J" in text


def test_json(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers.results = {
        "status": {"version": "1"},
        "ike-sas": page(IKE_SA),
        "child-sas": page(CHILD_SA),
    }
    assert control.status(answers.path, as_json=True, watch=False) == 0
    body = json.loads(capsys.readouterr().out)
    assert body == {"status": {"version": "1"}, "ike_sas": [IKE_SA], "child_sas": [CHILD_SA]}


def test_lists_are_filtered_by_the_gateway(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = {"ike-sas": page(), "child-sas": page()}
    assert control.list_ike_sas(answers.path, "staff", as_json=False) == 0
    assert control.list_child_sas(answers.path, None, as_json=True) == 0
    assert answers.asked == [("ike-sas", {"connection": "staff"}), ("child-sas", {})]
    assert capsys.readouterr().out == "No IKE SA.\n[]\n"


def test_close(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers.results = {"close-ike-sa": {"closed": "x"}}
    assert control.close_ike_sa(answers.path, "x") == 0
    assert answers.asked == [("close-ike-sa", {"id": "x"})]
    assert capsys.readouterr().out == "closed x\n"


def test_refusal(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers.results = {"close-ike-sa": ControlError("not-found", "there is no IKE SA x", "id")}
    assert guarded(lambda: control.close_ike_sa(answers.path, "x")) == 1
    assert capsys.readouterr().err == "gateway: there is no IKE SA x\n"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"changes": []}, "no difference\n"),
        ({"changes": ["added connections.x (devices can use it at once)"]}, "added connections.x"),
        ({}, "reloaded\n"),
    ],
)
def test_reload(
    answers: Answers, capsys: pytest.CaptureFixture[str], result: object, said: str
) -> None:
    answers.results = {"reload": result}
    assert control.reload(answers.path) == 0
    assert capsys.readouterr().out.startswith(said)


def test_reload_of_a_bad_file(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers.results = {"reload": ControlError("refused", "g.toml: a = 1: b\ng.toml: c: d")}
    assert guarded(lambda: control.reload(answers.path)) == 1
    assert capsys.readouterr().err == "gateway: g.toml: a = 1: b\ngateway: g.toml: c: d\n"


def test_open(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers.results = {"initiate": {"initiated": "branch"}}
    assert control.initiate(answers.path, "branch") == 0
    assert "opening branch" in capsys.readouterr().out


def test_socket_of_a_configuration(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[gateway]\nruntime_dir = "run"\n')
    assert control.socket_of(None, config) == tmp_path / "run" / "control.sock"
    assert control.socket_of(tmp_path, config) == tmp_path
    assert control.socket_of(None, None) == control.DEFAULT_SOCKET


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (3600, "1h"), (90061, "1d 1h"), (None, "-"), (-1, "0s")],
)
def test_duration(value: object, text: str) -> None:
    assert duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1024, "1.0 KiB"), (2**50, "1024.0 TiB"), (None, "-")]
)
def test_octets(value: object, text: str) -> None:
    assert octets(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), ([], "-"), (True, "yes"), (["a", 1], "a 1"), ("a\n", "a\\x0a")]
)
def test_printable(value: object, text: str) -> None:
    assert printable(value) == text

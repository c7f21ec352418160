"""``gateway admin``, against a socket that answers like a gateway."""

import io
import json
import os
from types import SimpleNamespace
from typing import Any

import pytest
from gateway_answers import Answers, page

from gateway.cli import admin
from gateway.cli.passwords import PasswordNotGivenError
from gateway.control.client import ControlClient
from gateway.control.protocol import ControlError

TOKEN = {
    "id": "0" * 16,
    "name": "ci\x1b[2J",
    "role": "operator",
    "created_at": "2026-01-31T12:00:00.000Z",
    "created_by": "uid 0",
    "expires_at": None,
    "expired": False,
    "last_used_at": None,
    "last_used_from": None,
}
PERSON = {"name": "ann", "role": "admin", "version": 1, "created_at": "2026", "changed_at": "2026"}
ENTRY = {
    "id": "1",
    "at": "2026-01-31T12:00:00.000Z",
    "actor": "admin ann",
    "remote": "192.0.2.7",
    "action": "object-create",
    "target": "pools/\x1b[31mstaff",
    "outcome": "done",
    "before": None,
    "after": {},
    "detail": None,
}


def stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    data = io.BytesIO(text.encode())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=data, isatty=lambda: False))


def test_a_token_alone_is_printed_so_that_it_can_be_piped(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = {"token-create": {"token": "gw_secret", **TOKEN}}
    with ControlClient(answers.path) as client:
        assert admin.create_token(client, "ci", "operator", 2, as_json=False) == 0
    assert capsys.readouterr().out == "gw_secret\n"
    assert answers.asked[-1][1] == {
        "name": "ci",
        "role": "operator",
        "expires_in_s": 2 * 86_400,
    }


def test_lists_are_printed_without_control_characters(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.results = {
        "tokens": page(TOKEN),
        "administrators": page(PERSON),
        "audit": page(ENTRY),
    }
    nothing: dict[str, str | None] = {}
    with ControlClient(answers.path) as client:
        admin.list_tokens(client, as_json=False)
        admin.list_users(client, as_json=False)
        admin.show_audit(client, nothing, 10, as_json=False)
    text = capsys.readouterr().out
    for part in ("operator", "ann", "object-create", "192.0.2.7"):
        assert part in text
    assert "\x1b" not in text


def test_lists_come_as_json(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    answers.results = {"tokens": page(TOKEN), "audit": page(ENTRY), "administrators": page(PERSON)}
    with ControlClient(answers.path) as client:
        admin.list_tokens(client, as_json=True)
        assert json.loads(capsys.readouterr().out) == [TOKEN]
        admin.list_users(client, as_json=True)
        assert json.loads(capsys.readouterr().out) == [PERSON]
        admin.show_audit(client, {"who": "ann"}, 1, as_json=True)
        assert json.loads(capsys.readouterr().out) == [ENTRY]


def test_a_token_is_deleted_by_its_name_or_id(answers: Answers) -> None:
    answers.results = {"tokens": page({**TOKEN, "name": "ci"}), "token-delete": {"deleted": "x"}}
    with ControlClient(answers.path) as client:
        for which in ("ci", "0" * 16):
            admin.delete_token(client, which)
            assert answers.asked[-1][1] == {"id": "0" * 16}


def test_passwords_come_from_standard_input_and_are_not_printed(
    answers: Answers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.results = {
        "administrator-create": PERSON,
        "administrator-change": PERSON,
        "administrator-delete": {"deleted": "ann"},
    }
    with ControlClient(answers.path) as client:
        stdin(monkeypatch, "correct horse battery\n")
        admin.create_user(client, "ann", "admin", from_stdin=True)
        assert answers.asked[-1][1]["password"] == "correct horse battery"
        stdin(monkeypatch, "another password\n")
        admin.new_password(client, "ann", from_stdin=True)
        admin.new_role(client, "ann", "operator")
        assert answers.asked[-1][1] == {"name": "ann", "role": "operator"}
        admin.delete_user(client, "ann")
        stdin(monkeypatch, "")
        with pytest.raises(PasswordNotGivenError, match="--password-stdin"):
            admin.create_user(client, "ann", "admin", from_stdin=False)
    shown = capsys.readouterr().out
    assert "correct horse" not in shown
    assert "another password" not in shown


def test_the_code_is_printed_with_its_address_and_the_fingerprint(
    answers: Answers, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    made = {
        "code": "ABCDE-FGHJK",
        "url": "https://gateway.example.com:8443/#/setup?code=ABCDE-FGHJK",
        "expires_at": "2026-01-31T13:00:00.000Z",
        "certificate": str(certificate),
    }
    answers.results = {"setup-code": made}
    with ControlClient(answers.path) as client:
        admin.make_code(client, as_json=False)
        text = capsys.readouterr().out
        assert made["url"] in text
        assert "70:9E:80:C8" in text
        certificate.rename(tmp_path / "elsewhere.pem")
        certificate.symlink_to(tmp_path / "elsewhere.pem")
        admin.make_code(client, as_json=False)
        assert "fingerprint" not in capsys.readouterr().out
        certificate.unlink()
        os.mkfifo(certificate)
        admin.make_code(client, as_json=False)
        assert "fingerprint" not in capsys.readouterr().out
        certificate.unlink()
        admin.make_code(client, as_json=False)
        assert "fingerprint" not in capsys.readouterr().out


def test_what_the_gateway_refuses_is_said(answers: Answers) -> None:
    answers.results = {"token-create": ControlError("refused", "there is a token of this name")}
    with (
        ControlClient(answers.path) as client,
        pytest.raises(ControlError, match="of this name"),
    ):
        admin.create_token(client, "ci", "admin", None, as_json=False)

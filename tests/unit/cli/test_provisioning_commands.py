"""`gateway device` and `gateway ca` against a gateway that is made up."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from gateway.cli import provisioning
from gateway.cli.commands import app
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode

MADE = {
    "device": "laptop",
    "identity": "laptop@example.com",
    "link": "/d/" + "A" * 43,
    "url": "https://gw.example.com:8443/d/" + "A" * 43,
    "expires_at": 1_900_000_000.0,
}
ANSWERS: dict[str, Any] = {
    "provision": MADE,
    "device-bundle": MADE,
    "device-rotate": MADE,
    "device-revoke": {"revoked": ["1f"], "sessions_ended": 1},
    "device-block": {},
    "device-unblock": {},
    "link-take": {
        "file_name": "laptop.gateway-mn",
        "content": base64.b64encode(b"the bundle").decode(),
    },
    "objects": {
        "items": [{"name": "laptop", "document": {"identity": "laptop@example.com"}}],
        "next": None,
        "total": 1,
    },
    "certificates": {
        "items": [{"device": "laptop", "not_after": 1_900_000_000.0}],
        "next": None,
        "total": 1,
    },
    "ca": {
        "enabled": True,
        "pem": "PEM\n",
        "authorities": [{"title": "Example CA", "serial": "1", "has_key": True, "current": True}],
        "gateway": {"names": ["gw.example.com"], "not_after": 1_900_000_000.0},
    },
    "ca-create": {},
    "ca-import": {},
    "crl": {"pem": "CRL\n"},
}

Calls = list[tuple[str, dict[str, object]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """What was asked; each request is judged as the gateway judges it."""
    made: Calls = []

    class Client:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def call(self, op: str, **args: object) -> dict[str, object]:
            OPERATIONS[op].check(args)
            made.append((op, args))
            answer: dict[str, object] = ANSWERS[op]
            return answer

    monkeypatch.setattr(provisioning, "ControlClient", Client)
    return made


def run(*arguments: str) -> str:
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    return found.output


def test_a_device_is_added_and_its_link_shown(calls: Calls) -> None:
    text = run("device", "add", "laptop", "--platform", "apple", "--days", "30", "--user", "ann")
    assert "https://gw.example.com:8443/d/" in text
    ((operation, arguments),) = calls
    assert operation == "provision"
    assert arguments == {
        "name": "laptop",
        "platform": "apple",
        "user": "ann",
        "lifetime_days": 30,
    }


def test_a_bundle_is_written_for_its_owner_alone(calls: Calls, tmp_path: Path) -> None:
    run("device", "bundle", "laptop", "--out", str(tmp_path))
    file = tmp_path / "laptop.gateway-mn"
    assert file.read_bytes() == b"the bundle"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [operation for operation, _ in calls] == ["device-bundle", "link-take"]
    found = CliRunner().invoke(app, ["device", "bundle", "laptop", "--out", str(file)])
    assert found.exit_code != 0
    assert run("device", "rotate", "laptop", "--out", "-") == "the bundle"


def test_h78_a_file_name_of_the_gateway_stays_in_the_folder(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del calls
    evil = {**ANSWERS["link-take"], "file_name": "../../evil"}
    monkeypatch.setitem(ANSWERS, "link-take", evil)
    (tmp_path / "a" / "b").mkdir(parents=True)
    run("device", "add", "laptop", "--out", str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b" / "evil").exists()
    assert not (tmp_path / "evil").exists()


def test_a_request_is_sent_along(calls: Calls, tmp_path: Path) -> None:
    request = tmp_path / "laptop.csr"
    request.write_text("-----BEGIN CERTIFICATE REQUEST-----\n")
    run("device", "add", "laptop", "--platform", "strongswan", "--request", str(request))
    assert calls[0][1]["request"] == request.read_text()


def test_devices_are_listed_with_the_end_of_their_certificates(calls: Calls) -> None:
    text = run("device", "list")
    assert "laptop@example.com" in text
    assert "2030-03-17" in text
    assert json.loads(run("device", "list", "--json"))[0]["certificates"]
    assert calls


def test_devices_are_revoked_and_blocked(calls: Calls) -> None:
    assert "1 certificates revoked, 1 sessions ended" in run("device", "revoke", "laptop")
    assert "is blocked" in run("device", "block", "laptop")
    assert "no longer blocked" in run("device", "unblock", "laptop")
    assert [operation for operation, _ in calls] == [
        "device-revoke",
        "device-block",
        "device-unblock",
    ]


def test_the_ca_is_shown_made_and_taken(calls: Calls, tmp_path: Path) -> None:
    assert "Example CA" in run("ca", "show")
    assert run("ca", "show", "--pem") == "PEM\n"
    assert json.loads(run("ca", "show", "--json"))["enabled"]
    assert run("ca", "crl") == "CRL\n"
    run("ca", "create", "Example CA", "--algorithm", "ecdsa-p384")
    certificate = tmp_path / "ca.pem"
    certificate.write_text("PEM\n")
    run("ca", "import", str(certificate))
    assert ("ca-import", {"certificate": "PEM\n"}) in calls
    found = CliRunner().invoke(app, ["ca", "import", str(tmp_path / "none")])
    assert found.exit_code == 1


def test_a_refusal_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> dict[str, object]:
        raise ControlError(ErrorCode.INVALID, "identity: not of the form *@example.com", "identity")

    monkeypatch.setattr(provisioning, "ask", refuse)
    found = CliRunner().invoke(app, ["device", "add", "laptop"])
    assert found.exit_code == 1
    assert "not of the form" in found.output

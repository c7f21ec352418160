"""``gateway check``: its lines, its exit status, and a remedy wherever something is missing."""

import datetime
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.cli import check
from gateway.cli.certificate_checks import certificate_verdict
from gateway.cli.verdict import Verdict
from gateway.dataplane.kernel.probe import Capability

GOOD = Verdict("kernel", "ESP", "ok")
BAD = Verdict("kernel", "ESP", "missing", "no tunnels", "enable CONFIG_INET_ESP")
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
CONFIG = """
[ike]
listen = ["127.0.0.1"]
port = 41500
nat_port = 41501
[pools.staff]
network = "10.83.112.0/22"
[connections.staff]
local_auth = "psk"
remote_auth = "psk"
remote_id = "phone"
psk = "correct-horse-battery-staple"
pool = "staff"
local_subnets = ["10.1.0.0/16"]
[api]
enabled = false
"""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host where all is well, and a good configuration."""
    monkeypatch.setattr(check, "_kernel", lambda _: iter([GOOD]))
    monkeypatch.setattr(check, "privileges", lambda _: Verdict("host", "privileges", "ok"))
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.replace("[ike]", f'[gateway]\nruntime_dir = "{tmp_path}"\n[ike]'))
    config.chmod(0o600)
    return config


def test_ready(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.check(host, as_json=False) == 0
    text = capsys.readouterr().out
    assert "Ready: 0 missing, 0 to look at." in text
    assert "udp 127.0.0.1:41500" in text
    assert "pool staff 10.83.112.0/22" in text


def test_kernel_lacks(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "_kernel", lambda _: iter([BAD]))
    assert check.check(host, as_json=True) == 1
    body = json.loads(capsys.readouterr().out)
    assert body["ok"] is False
    assert [v for v in body["verdicts"] if v["state"] == "missing"] == [BAD.as_json()]
    assert check.check(None, as_json=False) == 1
    text = capsys.readouterr().out
    assert "enable CONFIG_INET_ESP" in text
    assert "Not ready: 1 missing" in text


def test_bad_configuration_does_not_hide_the_host(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write_text(CONFIG.replace("port = 41500", "port = 0"))
    assert check.check(host, as_json=False) == 78
    text = capsys.readouterr().out
    assert "ike.port" in text
    assert "allowed is 1 to 65535" in text
    assert "privileges" in text
    assert "The configuration cannot be used: 1 missing" in text


@pytest.mark.parametrize(
    "old_new",
    [
        ('pool = "staff"', 'pool = "none"'),
        ("41500", '"x"'),
        ("[ike]", "[iek]"),
        ("psk = ", "psk_file = "),
        ('["10.1.0.0/16"]', '["10.83.112.0/24"]'),
    ],
)
def test_every_missing_line_has_a_remedy(host: Path, old_new: tuple[str, str]) -> None:
    host.write_text(CONFIG.replace(*old_new))
    found, status = check.verdicts(host)
    missing = [verdict for verdict in found if verdict.state == "missing"]
    assert status == 78
    assert missing
    assert all(verdict.remedy and verdict.detail for verdict in missing)


def test_warnings_are_shown_and_allowed(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host.write_text(host.read_text().replace("10.83.112.0/22", "192.168.1.0/24"))
    assert check.check(host, as_json=False) == 0
    text = capsys.readouterr().out
    assert "home routers use" in text
    assert "Ready: 0 missing, 1 to look at." in text


def test_nothing_answers_where_no_gateway_runs(tmp_path: Path) -> None:
    assert check.gateway_runs(tmp_path / "none.sock") is False


@pytest.mark.parametrize(
    ("since", "until", "state", "detail"),
    [
        (-1, 365, "ok", "valid until 2031-01-01"),
        (-1, 29, "warn", "valid until 2030-01-30"),
        (-9, -1, "missing", "expired at 2029-12-31 00:00 UTC"),
        (1, 9, "missing", "valid only from 2030-01-02 00:00 UTC"),
    ],
)
def test_certificate(since: int, until: int, state: str, detail: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw\n.example.com")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW + datetime.timedelta(days=since))
        .not_valid_after(NOW + datetime.timedelta(days=until))
        .sign(key, hashes.SHA256())
    )
    verdict = certificate_verdict("CA", certificate, NOW)
    assert (verdict.state, verdict.detail) == (state, detail)
    assert verdict.name.isprintable()
    assert bool(verdict.remedy) is (state != "ok")


@pytest.mark.parametrize(
    ("ok", "required", "state", "detail"),
    [
        (True, True, "ok", ""),
        (True, False, "ok", ""),
        (False, True, "missing", "no tunnels (kernel: EPROTONOSUPPORT)"),
        (False, False, "warn", "no tunnels (kernel: EPROTONOSUPPORT)"),
    ],
)
def test_capability(ok: bool, required: bool, state: str, detail: str) -> None:
    refusal = "" if ok else "EPROTONOSUPPORT"
    verdict = check.of_capability(Capability("ESP", ok, required, "no tunnels", "mend", refusal))
    assert (verdict.state, verdict.detail) == (state, detail)
    assert verdict.remedy == ("" if ok else "mend")

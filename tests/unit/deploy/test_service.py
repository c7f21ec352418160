"""The service's files: what they allow, and that they agree with the code."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.domain import privileges

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_SETGID": privileges.CAP_SETGID,
    "CAP_SETUID": privileges.CAP_SETUID,
    "CAP_SETPCAP": privileges.CAP_SETPCAP,
    "CAP_NET_BIND_SERVICE": privileges.CAP_NET_BIND_SERVICE,
    "CAP_NET_ADMIN": privileges.CAP_NET_ADMIN,
    "CAP_NET_RAW": privileges.CAP_NET_RAW,
}


def settings(name: str) -> dict[str, list[str]]:
    """Every setting of a unit, with all its values."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "deploy" / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            found.setdefault(key, []).append(value)
    return found


def test_it_has_only_the_capabilities_that_it_needs() -> None:
    unit = settings("gateway.service")
    bounding = {name for value in unit["CapabilityBoundingSet"] for name in value.split()}
    ambient = {name for value in unit["AmbientCapabilities"] for name in value.split()}
    assert bounding == ambient == set(NUMBERS)
    kept = {name for name, number in NUMBERS.items() if number in privileges.CORE_CAPABILITIES}
    assert kept == {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"}


def test_it_runs_as_a_user_of_its_own_on_a_read_only_system() -> None:
    unit = settings("gateway.service")
    users = (ROOT / "deploy/debian/sysusers.conf").read_text()
    assert re.search(rf"^u {unit['User'][0]}\s", users, re.MULTILINE)
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["NoNewPrivileges"] == ["yes"]
    assert "ReadWritePaths" not in unit


@pytest.mark.parametrize("name", ["gateway.service", "gateway-mn.service"])
def test_systemd_finds_nothing_wrong_with_it(name: str, tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / name).read_text().replace("/usr/bin/gateway", "/bin/true")
    unit = re.sub(r"^Documentation=.*\n", "", unit, flags=re.MULTILINE)
    (tmp_path / name).write_text(unit)
    judged = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", tmp_path / name],
        capture_output=True,
        text=True,
        check=False,
    )
    about_it = [line for line in judged.stderr.splitlines() if name in line]
    assert about_it == []


def test_a_restart_hands_over_and_a_stop_says_goodbye() -> None:
    unit = settings("gateway.service")
    assert "--unless-restarting" in unit["ExecStop"][0]
    assert unit["RuntimeDirectoryPreserve"] == ["restart"]
    # The forwarder goes on meanwhile, and keeps what it needs of the unit's capabilities.
    assert unit["KillMode"] == ["process"]
    assert {f"CAP_{name}" for name in ("NET_ADMIN", "NET_RAW")} <= set(
        " ".join(unit["AmbientCapabilities"]).split()
    )
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "deploy/gateway.service")
    assert parser["Unit"]["ConditionPathExists"] == "/etc/gateway/gateway.toml"


def test_the_container_has_what_the_service_has() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    service = compose["services"]["gateway"]
    assert service["cap_drop"] == ["ALL"]
    added = {f"CAP_{name}" for name in service["cap_add"]}
    # The core is root there and reads what belongs to others by DAC_OVERRIDE.
    assert added == set(NUMBERS) | {"CAP_DAC_OVERRIDE"}
    assert service["read_only"] is True
    assert service["network_mode"] == "host"
    assert any(volume.endswith(":/run/gateway") for volume in service["volumes"])


def test_the_kinds_of_sockets_that_the_core_opens_are_allowed() -> None:
    elsewhere = {"lab", "cli", "mobile_host", "nar_host"}
    used: set[str] = set()
    for file in (ROOT / "gateway").rglob("*.py"):
        if file.relative_to(ROOT / "gateway").parts[0] not in elsewhere:
            used |= set(re.findall(r"\bAF_(?!UNSPEC\b)[A-Z0-9]+\b", file.read_text()))
    assert "AF_PACKET" in used
    allowed = {
        name
        for value in settings("gateway.service")["RestrictAddressFamilies"]
        for name in value.split()
    }
    assert used <= allowed

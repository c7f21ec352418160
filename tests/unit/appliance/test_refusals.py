"""What keeps the gateway from starting: one clear line and the right exit status."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.appliance.start import status_of
from gateway.control.server import SocketInUseError
from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.ike.socket_errors import PortInUseError
from gateway.lab.kernel import missing_features

CHECKOUT = Path(__file__).parents[3]
CONFIGURATION = """
[gateway]
name = "gw.example.com"
runtime_dir = "{folder}/run"
[ike]
listen = ["127.0.0.1"]
[dataplane]
kind = "kernel"
[api]
enabled = false
[pools.staff]
network = "10.83.0.0/24"
[connections.staff]
local_auth = "psk"
remote_auth = "psk"
psk = "a long enough shared secret"
remote_id = "alice@example.com"
pool = "staff"
local_subnets = ["10.1.0.0/24"]
"""


def run_gateway(folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """`gateway run`, behind the commands of ``before``."""
    config = folder / "gateway.toml"
    config.write_text(CONFIGURATION.format(folder=folder))
    config.chmod(0o600)
    argv = [*before, sys.executable, "-m", "gateway", "run", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, env=environment, timeout=60
    )


def test_without_capabilities_it_says_how_to_start_it(tmp_path: Path) -> None:
    capabilities = "--bounding-set=-net_admin,-net_raw,-net_bind_service"
    before = ["setpriv", capabilities, "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = run_gateway(tmp_path, *before)
    assert done.returncode == 77
    assert done.stderr.count("\n") == 1
    assert "start the gateway as root or by systemd" in done.stderr


def test_a_kernel_without_esp_is_named(tmp_path: Path) -> None:
    missing = missing_features()
    if os.geteuid() != 0 or not {"ESP", "xfrm interfaces", "nft queue"} & set(missing):
        # This kernel has everything; the verdict on what the dataplane then says is below.
        return
    done = run_gateway(tmp_path, "unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1
    assert "`gateway check` says what is missing" in done.stderr


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (
            DataplaneUnavailableError(errno.EOPNOTSUPP, "Unknown device type"),
            69,
            "Unknown device type; `gateway check` says what is missing",
        ),
        (
            DataplaneUnavailableError(errno.EPERM, "Operation not permitted"),
            77,
            "start the gateway as root",
        ),
        (PortInUseError("UDP port 500 of 192.0.2.1 is in use"), 71, "UDP port 500 of 192.0.2.1"),
        (SocketInUseError("another gateway answers at /run/x"), 71, "another gateway answers"),
        (OSError(errno.ENOSPC, "No space left on device", "/run/x"), 71, "/run/x: No space left"),
    ],
)
def test_each_failure_has_its_status(error: Exception, status: int, says: str) -> None:
    found = status_of(error)
    assert found is not None
    assert found[0] == status
    assert says in found[1]


def test_our_own_faults_are_not_disguised() -> None:
    assert status_of(ValueError("a bug")) is None

"""How long `gateway run` takes to be ready, and the floor under it.

``python -m bench.startup FILE`` measures on the running kernel and writes FILE. `make bench` does
that before it enters the test kernel, where each page fault and each file costs many times as
much as on a real one. A kernel without ESP gets as far as the dataplane: the control socket is
there by then, all imports are done and the configuration is read. What comes after that is then
only measured in the test kernel.
"""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 10
LONGEST_S = 60.0
POLL_S = 0.002
NATIVE = Path("build/startup.json")

FLOOR = (
    "import asyncio, cryptography.x509, cryptography.hazmat.primitives.ciphers.aead,"
    " pyroute2.netlink, pydantic, structlog"
)
"""The libraries that a gateway in Python cannot do without, imported and nothing else."""

CONFIGURATION = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"

[ike]
listen = ["127.0.0.1"]

[pools.road]
network = "10.9.0.0/24"

[connections.road]
local_auth = "psk"
remote_auth = "psk"
psk = "one long shared secret of the benchmarks"
remote_id = "device@example.com"
pool = "road"
local_subnets = ["10.1.0.0/24"]
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One start; times in seconds from the moment before the process was made."""

    control_s: float
    """Until its control socket was there."""
    ready_s: float | None
    """Until it said READY=1; None when it ended before."""
    processor_s: float
    """User and system time it had used by then."""


def start_once() -> Start:
    """Start a gateway in a network namespace of its own, and stop it again.

    Raises RuntimeError when it does not come as far as its control socket.
    """
    with tempfile.TemporaryDirectory(prefix="bench-startup-") as name, _notices(name) as notices:
        folder = Path(name)
        config = folder / "gateway.toml"
        config.touch(mode=0o600)
        config.write_text(CONFIGURATION.format(folder=folder))
        # The namespace is made before the clock starts: its shell waits for a line.
        script = 'ip link set lo up; echo; read -r go; exec "$@"'
        command = "from gateway.cli.app import main; main()"
        argv = ["unshare", "-n", "sh", "-c", script, "gateway", sys.executable, "-c", command]
        with (folder / "log").open("w") as log, subprocess.Popen(
            [*argv, "run", "--config", str(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            began = time.time()
            process.stdin.write(b"go\n")
            process.stdin.close()
            control, ready = _wait_ready(process, notices, folder / "control.sock", began)
            processor_s = _processor_s(process)
            process.send_signal(signal.SIGINT)
            process.wait(LONGEST_S)
        if control is not None:
            return Start(control - began, None if ready is None else ready - began, processor_s)
        raise RuntimeError(f"the gateway did not start: {(folder / 'log').read_text()}")


@contextlib.contextmanager
def _notices(folder: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{folder}/notify")
        sock.settimeout(POLL_S)
        yield sock


def _wait_ready(
    process: subprocess.Popen[bytes], notices: socket.socket, control: Path, began: float
) -> tuple[float | None, float | None]:
    """When the control socket was made, and when READY=1 came; None for what never happened."""
    made: float | None = None
    while time.time() - began < LONGEST_S:
        with contextlib.suppress(TimeoutError):
            if b"READY=1" in notices.recv(4096):
                return made or control.stat().st_ctime, time.time()
        if made is None:
            with contextlib.suppress(OSError):
                made = control.stat().st_ctime
        if _ended(process):
            return made, None
    raise RuntimeError(f"the gateway is not ready after {LONGEST_S:g} s")


def _stat(process: subprocess.Popen[bytes]) -> list[str]:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return _stat(process)[0] == "Z"  # not reaped yet, so that its times can still be read


def _processor_s(process: subprocess.Popen[bytes]) -> float:
    fields = _stat(process)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def floor_once() -> float:
    """Seconds until a process that only imports the libraries has ended."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", FLOOR], check=True)
    return time.monotonic() - began


def measure(rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Starts and floors in turns, after one of each that warms the page cache.

    Returns lists by name; `ready_s` is empty where the kernel does not carry a gateway.
    """
    start_once()
    floor_once()
    starts, floors = [], []
    for _ in range(rounds):
        starts.append(start_once())
        floors.append(floor_once())
    return {
        "control_s": [start.control_s for start in starts],
        "ready_s": [start.ready_s for start in starts if start.ready_s is not None],
        "after_control_s": [
            start.ready_s - start.control_s for start in starts if start.ready_s is not None
        ],
        "processor_s": [start.processor_s for start in starts],
        "floor_s": floors,
    }


def main(file: str) -> None:
    """Measure here and write the file."""
    found = measure()
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text(json.dumps(found))
    middle = {name: f"{statistics.median(values):.3f}" for name, values in found.items() if values}
    print(f"    start-up on the running kernel: {middle}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])

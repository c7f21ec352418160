"""What negotiating NAR leases costs: the real gateway, TCP, nftables, the audit on disk.

Clients and gateway share the test kernel's one processor.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.hosts import Hosts
from bench.measure import Bar, Result, spread
from gateway.control.client import ControlClient, ControlUnavailableError
from gateway.control.protocol import ControlError
from gateway.lab import netns
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import LabError, Process, wait_until

NA, NB, YB = "10.50.0.1", "203.0.113.1", "203.0.113.7"
READY_S = 60.0
CLIENTS, LEASES_OF_EACH = 100, 100
IDLE = 10_000
ROUNDS = 3
RATE_BAR = Bar(1_000, at_least=True)
MEMORY_BAR = Bar(2_048, at_least=False)

CONFIG = """
[gateway]
name = "n"
runtime_dir = "{folder}"
log_format = "json"
log_level = "warning"

[api]
enabled = false

[nar_settings]
state_dir = "{folder}/state"

[nar.bench]
listen = ["{na}"]
addresses = ["{nb}"]
client_interfaces = ["device"]
outside_interfaces = ["cn"]
trusted = ["10.50.0.0/16"]
max_connections_per_source = {idle}
grace_s = 1.0
idle_s = 600.0

[nar.bench.rules.all]
max_leases = {leases}
"""


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Leases per second, memory of each; then connections that hold nothing."""
    rates: list[float] = []
    octets: list[float] = []
    with TemporaryDirectory(prefix="bench-nar-") as folder, Hosts("bnl") as hosts:
        box = _start(hosts, Path(folder))
        for _ in range(ROUNDS):
            before = _resident(box)
            found = _load(hosts, CLIENTS, LEASES_OF_EACH, lambda: _resident(box))
            rates.append(found["leases"] / found["seconds"])
            octets.append((found["held"] - before) / found["leases"])
            say(f"{rates[-1]:.0f} leases per s, {octets[-1]:.0f} octets each")
            wait_until(lambda: _leases(Path(folder)) == 0, READY_S, "the end of all leases")
        before = _resident(box)
        idle = _load(hosts, IDLE, 0, lambda: _resident(box))
        each = (idle["held"] - before) / IDLE
        say(f"{IDLE} connections that hold nothing: {each:.0f} octets each")
    first = octets[0]  # later ones use what the first left
    return [
        Result(
            "nar_leases.rate", statistics.median(rates), "per s", RATE_BAR,
            {"clients": CLIENTS, "leases of each": LEASES_OF_EACH}, spread(rates),
        ),
        Result("nar_leases.memory", first, "octets", MEMORY_BAR, {}, spread(octets)),
        Result("nar_leases.idle_connection", each, "octets", None, {"connections": IDLE}),
    ]  # fmt: skip


def _start(hosts: Hosts, folder: Path) -> Process:
    hosts.make("device", "box", "cn")
    hosts.wire("device", "10.50.0.11/16", "box", f"{NA}/16")
    hosts.wire("box", f"{NB}/24", "cn", f"{YB}/24")
    hosts.ip("device", "route add local 10.50.1.0/24 dev lo")
    hosts.ip("box", "route add 10.50.1.0/24 via 10.50.0.11")
    config = folder / "gateway.toml"
    config.touch(mode=0o600)
    config.write_text(CONFIG.format(folder=folder, na=NA, nb=NB, idle=IDLE, leases=LEASES_OF_EACH))
    main = "from gateway.cli.app import main; main()"
    box = hosts.spawn("box", sys.executable, "-c", main, "run", "--config", str(config))

    def ready() -> bool:
        if not box.running():
            raise LabError(f"the gateway ended: {box.output()}")
        return (folder / "control.sock").exists() and _status(folder) is not None

    wait_until(ready, READY_S, "the gateway")
    return box


def _status(folder: Path) -> dict[str, object] | None:
    try:
        with ControlClient(folder / "control.sock") as client:
            return client.call("status")
    except (ControlUnavailableError, ControlError):
        return None


def _leases(folder: Path) -> int:
    found: Any = _status(folder)
    return int(found["nar"]["leases"]) if found else -1


def _resident(process: Process) -> int:
    """Octets of memory that a process holds."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def _load(hosts: Hosts, clients: int, leases: int, look: Callable[[], int]) -> dict[str, float]:
    """Negotiate; `held` is what `look` sees while everything is there."""
    argv = [sys.executable, "-m", "bench.nar_load", NA, YB]
    argv += ["--clients", str(clients), "--leases", str(leases)]
    with subprocess.Popen(
        netns.inside(hosts.name("device"), argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": CHECKOUT},
    ) as load:
        line = load.stdout.readline() if load.stdout is not None else ""
        if not line:
            raise LabError("the clients ended")
        found: dict[str, float] = json.loads(line)
        found["held"] = look()
        if load.stdin is not None:
            load.stdin.close()
    return found

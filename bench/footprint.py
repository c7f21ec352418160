"""Memory when idle, time until ready, and what a handshake writes into the log."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from bench import startup
from bench.bed import PSK, connect_device, fresh_lab, start_gateway
from bench.measure import Bar, Result, spread
from gateway.lab import plan
from gateway.lab.appliance import Appliance
from gateway.lab.processes import LabError, wait_until

HANDSHAKES = 10
DEVICES = 100
REQUESTS = 5
EVERYBODY_AT_ONCE = "half_open_per_source = 1000"
IKE_PROPOSAL = 'ike_proposals = ["aes128gcm16-prfsha256-x25519"]'
"""What the load offers."""
API_READY_S = 60.0
ROUNDS = 10


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Memory, start, log."""
    with fresh_lab("foot0") as lab:
        crowded = start_gateway(
            lab,
            api=True,
            remote_id="*@psk.bench",
            extra=IKE_PROPOSAL,
            esp="aes128gcm16",
            ike=EVERYBODY_AT_ONCE,
        )
        results = memory(crowded, say)
        crowded.stop()
    with fresh_lab("foot1") as lab:
        results.append(log_lines(start_gateway(lab), say))
    say("starting and stopping the gateway, and the floor under it")
    return [*results, ready(startup.measure(ROUNDS))]


def memory(gateway: Appliance, say: Callable[[str], None]) -> list[Result]:
    """Resident memory of both processes with a hundred devices, after the API was used."""

    def answers() -> bool:
        return ask(gateway, "/status") == "200"

    wait_until(answers, API_READY_S, "the API")
    api = int(gateway.call("status")["api"]["pid"])
    idle = {"core_idle_mb": resident_mb(gateway.pid), "api_idle_mb": resident_mb(api)}
    connect(gateway, DEVICES)
    say(f"{DEVICES} devices are connected")
    for _ in range(REQUESTS):
        for path in ("/devices?limit=200", "/topology", "/ike-sas?limit=200", "/status"):
            if ask(gateway, path) != "200":
                raise LabError(f"{path} is not answered")
    core, beside = resident_mb(gateway.pid), resident_mb(api)
    return [
        Result("footprint.core_rss", core, "MB", Bar(70, at_least=False), idle),
        Result(
            "footprint.core_and_api_rss", core + beside, "MB", Bar(150, at_least=False),
            {**idle, "api_mb": beside},
        ),
    ]  # fmt: skip


def ask(gateway: Appliance, path: str) -> str:
    """The status of one request to the REST interface."""
    token = (gateway.folder / "api-token").read_text().strip()
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "20"]
    argv += ["-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:8443/api/v1{path}"]
    return gateway.lab.run("gw", argv, check=False).stdout


def connect(gateway: Appliance, count: int) -> None:
    """That many devices log in, each with an address."""
    argv = [sys.executable, "-m", "bench.ike_load", str(plan.GATEWAY_OUTSIDE), "--psk", PSK]
    argv += ["--name", "gateway.example.com", "--count", str(count)]
    result = json.loads(gateway.lab.run("internet", argv, timeout_s=120).stdout)
    if result["failed"]:
        raise LabError(f"{result['failed']} of {count} devices failed: {result['reasons']}")


def resident_mb(pid: int) -> float:
    """VmRSS in MB (1,000,000 octets)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LabError(f"process {pid} has no memory")


def log_lines(gateway: Appliance, say: Callable[[str], None]) -> Result:
    """What is written from the first message until the tunnel carries packets."""
    counts = []
    device = None
    for number in range(HANDSHAKES):
        before = len(gateway.output().splitlines())
        if device is None:
            device = connect_device(gateway.lab)
        else:
            device.initiate("net")
        wait_until(
            lambda wanted=number + 1: len(gateway.events("ike_sa_established")) >= wanted,  # type: ignore[misc]
            10, "its line in the log",
        )  # fmt: skip
        counts.append(float(len(gateway.output().splitlines()) - before))
        device.terminate("gw")
        wait_until(lambda: not gateway.call("ike-sas")["total"], 10, "the end of the session")
    say(f"after {HANDSHAKES} handshakes the core has {resident_mb(gateway.pid):.1f} MB")
    return Result(
        "footprint.log_lines_per_handshake", max(counts), "lines", Bar(1, at_least=False),
        {"least": min(counts)}, f"lines {spread(counts)}",
    )  # fmt: skip


def ready(here: dict[str, list[float]]) -> Result:
    """Exec to READY=1.

    In the test kernel, the part until the control socket is taken from the running kernel when
    `make bench` has measured it there, and the rest from here, where it takes longer.
    """
    if not here["ready_s"]:
        raise LabError("this kernel does not carry a gateway: run it in the test kernel")
    baseline = {
        "here_s": median(here["ready_s"]),
        "here_imports_alone_s": median(here["floor_s"]),
        "here_processor_s": median(here["processor_s"]),
    }
    scatter = f"here: ready {spread(here['ready_s'])}, imports alone {spread(here['floor_s'])}"
    value = baseline["here_s"]
    native = native_start()
    if native is not None:
        value = median(native["ready_s"] or native["control_s"])
        if not native["ready_s"]:
            value += median(here["after_control_s"])
        baseline |= {
            "native_until_control_socket_s": median(native["control_s"]),
            "native_imports_alone_s": median(native["floor_s"]),
            "native_processor_s": median(native["processor_s"]),
            "here_after_control_socket_s": median(here["after_control_s"]),
        }
        scatter += (
            f"; on the running kernel: control socket {spread(native['control_s'])},"
            f" imports alone {spread(native['floor_s'])}; from there to ready, here:"
            f" {spread(here['after_control_s'])}"
        )
    return Result("footprint.ready", value, "s", Bar(1.5, at_least=False), baseline, scatter)


def native_start() -> dict[str, list[float]] | None:
    """What `make bench` measured outside the test kernel; None outside of it, and without."""
    in_test_kernel = "testkernel_run=" in Path("/proc/cmdline").read_text()
    if not in_test_kernel or not startup.NATIVE.exists():
        return None
    found: dict[str, list[float]] = json.loads(startup.NATIVE.read_text())
    return found

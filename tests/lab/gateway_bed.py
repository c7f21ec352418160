"""`gateway run` on the lab's gateway host, and a strongSwan device that connects to it."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.control.client import ControlClient
from gateway.lab import plan
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

READY_S = 30.0
PSK = "one long shared secret of the lab"

CONFIGURATION = """
[gateway]
name = "gateway.example.com"
runtime_dir = "{folder}"
log_format = "json"

[ike]
listen = ["{outside}"]

[pools.road]
network = "10.9.0.0/24"
dns = ["10.1.0.10"]

[connections.road]
local_auth = "psk"
remote_auth = "psk"
psk = "{psk}"
remote_id = "device@example.com"
pool = "road"
local_subnets = ["10.1.0.0/24"]
{extra}
"""

DEVICE = """
connections {{
  gw {{
    version = 2
    local_addrs = %any
    remote_addrs = {outside}
    vips = 0.0.0.0
    proposals = aes256gcm16-prfsha256-x25519
    encap = {encap}
    local {{
      auth = psk
      id = device@example.com
    }}
    remote {{
      auth = psk
      id = gateway.example.com
    }}
    children {{
      net {{
        remote_ts = 10.1.0.0/24
        esp_proposals = aes256gcm16
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    id-1 = gateway.example.com
    id-2 = device@example.com
    secret = "{psk}"
  }}
}}
"""


def device_configuration(*, encap: bool = False, psk: str = PSK) -> str:
    """swanctl.conf of the device."""
    return DEVICE.format(outside=plan.GATEWAY_OUTSIDE, encap="yes" if encap else "no", psk=psk)


class RunningGateway:
    """A `gateway run` in the lab."""

    def __init__(self, lab: Lab, *, extra: str = "", name: str = "gateway") -> None:
        self.lab = lab
        self.folder = lab.folder / name
        self.folder.mkdir()
        self.config = self.folder / "gateway.toml"
        self.name = name
        self.write(extra=extra)
        self.process: Process | None = None

    def write(self, *, extra: str = "", psk: str = PSK) -> None:
        """Write the configuration."""
        self.config.write_text(
            CONFIGURATION.format(
                folder=self.folder, outside=plan.GATEWAY_OUTSIDE, psk=psk, extra=extra
            )
        )
        self.config.chmod(0o600)

    def argv(self) -> list[str]:
        """The command."""
        main = "from gateway.cli.app import main; main()"
        return [sys.executable, "-c", main, "run", "--config", str(self.config)]

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = self.lab.spawn("gw", self.argv(), self.name, environment)

        def ready() -> bool:
            if not self.running():
                raise LabError(f"the gateway ended: {self.output()}")
            return '"event":"started"' in self.output()

        wait_until(ready, READY_S, "the gateway")

    def running(self) -> bool:
        return self.process is not None and self.process.running()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def output(self) -> str:
        return self.process.output() if self.process is not None else ""

    def log(self) -> list[dict[str, Any]]:
        """Its log lines."""
        lines = [line for line in self.output().splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == name]

    def client(self) -> ControlClient:
        return ControlClient(self.folder / "control.sock")

    def call(self, op: str, **args: object) -> dict[str, Any]:
        with self.client() as client:
            return client.call(op, **args)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ask it to end, and wait."""
        if self.running():
            self.signal(signal.SIGTERM)
            wait_until(lambda: not self.running(), timeout_s, "the gateway's end")


@contextlib.contextmanager
def gateway(lab: Lab, **options: Any) -> Iterator[RunningGateway]:
    """A gateway that ends with the block; a failing test shows its log."""
    running = RunningGateway(lab, **options)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        print(f"--- gateway\n{running.output()[-8000:]}")


def kernel_state(lab: Lab) -> dict[str, str]:
    """What a gateway may leave behind on its host."""
    state = {
        "states": lab.run("gw", ["ip", "xfrm", "state"]).stdout,
        "policies": lab.run("gw", ["ip", "xfrm", "policy"]).stdout,
        "links": lab.run("gw", ["ip", "-br", "link"]).stdout,
        "routes": lab.run("gw", ["ip", "route"]).stdout,
        "tables": lab.run("gw", ["nft", "list", "tables"]).stdout,
    }
    # Which interfaces there are, not the counters or the order of their flags.
    state["links"] = " ".join(sorted(line.split()[0] for line in state["links"].splitlines()))
    return state

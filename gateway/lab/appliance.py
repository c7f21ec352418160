"""Our own gateway on a host of the lab: `gateway run`, asked through its control socket."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gateway.control.client import ControlClient
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

READY_S = 30.0
STOP_S = 15.0


class Appliance:
    """A `gateway run` with the configuration file `self.config` in a folder of its own.

    Write the configuration, then `start`. `runtime_dir` has to be `self.folder` and
    `log_format` "json", or nothing can be read back.
    """

    def __init__(
        self, lab: Lab, *, name: str = "gateway", host: str = "gw", fresh: bool = False
    ) -> None:
        """`fresh` starts a new interpreter each time: for what measures starts and memory."""
        self.lab = lab
        self._fresh = fresh
        self.name = name
        self.host = host
        self.folder = lab.folder / name
        self.folder.mkdir()
        self.config = self.folder / "gateway.toml"
        self.process: Process | None = None
        self.ready_after_s = 0.0
        """From starting the process to its being ready."""

    def write_text(self, text: str) -> None:
        """Write the configuration, readable by its owner only."""
        self.config.touch(mode=0o600)
        self.config.write_text(text)

    def arguments(self) -> list[str]:
        """Of the command `gateway`."""
        return ["run", "--config", str(self.config)]

    def argv(self) -> list[str]:
        """The command."""
        main = "from gateway.cli.app import main; main()"
        return [sys.executable, "-c", main, *self.arguments()]

    def _spawn(self) -> Process:
        if self._fresh:
            return self.lab.spawn(self.host, self.argv(), self.name, {"PYTHONPATH": CHECKOUT})
        return self.lab.spawn_gateway(self.host, self.arguments(), self.name)

    def start(self) -> None:
        """Start it and return once it is ready; raises LabError with its log otherwise."""
        began = time.monotonic()
        self.process = self._spawn()

        def ready() -> bool:
            if not self.running():
                raise LabError(f"the gateway ended: {self.output()}")
            return '"event":"started"' in self.output()

        wait_until(ready, READY_S, "the gateway")
        self.ready_after_s = time.monotonic() - began

    def running(self) -> bool:
        """Whether its core is there."""
        return self.process is not None and self.process.running()

    @property
    def pid(self) -> int:
        """The core's process id; raises LabError when it was not started."""
        if self.process is None:
            raise LabError("the gateway was not started")
        return self.process.pid

    def output(self) -> str:
        """Everything it wrote."""
        return self.process.output() if self.process is not None else ""

    def log(self) -> list[dict[str, Any]]:
        """Its log lines."""
        lines = [line for line in self.output().splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one event."""
        return [line for line in self.log() if line["event"] == name]

    def client(self) -> ControlClient:
        """A connection to its control socket."""
        return ControlClient(self.folder / "control.sock")

    def call(self, op: str, **args: object) -> dict[str, Any]:
        """One question to its control socket."""
        with self.client() as client:
            return client.call(op, **args)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the core."""
        os.kill(self.pid, number)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Ask it to end, and wait."""
        if self.running():
            self.signal(signal.SIGTERM)
            wait_until(lambda: not self.running(), timeout_s, "the gateway's end")

    def processor_s(self) -> float:
        """User and system time that the core has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

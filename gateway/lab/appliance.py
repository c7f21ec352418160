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
from gateway.lab import planes
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

READY_S = 30.0
STOP_S = 15.0
INTERRUPT = signal.SIGINT
"""As Ctrl-C: peers are told."""


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
        lab.keeps(host, self.folder)
        self.config = self.folder / "gateway.toml"
        self.process: Process | None = None
        self._starts = 0
        self.checkout = CHECKOUT
        """Whose code a fresh interpreter runs."""
        self.ready_after_s = 0.0
        """From starting the process to its being ready."""

    def write_text(self, text: str) -> None:
        """Write the configuration, readable by its owner only, with a store of its own."""
        if "[store]" not in text:
            text += f'\n[store]\nstate_dir = "{self.folder}/state"\n'
        self.config.touch(mode=0o600)
        self.config.write_text(planes.with_kind(text))

    def arguments(self) -> list[str]:
        """Of the command `gateway`."""
        return ["run", "--config", str(self.config)]

    def argv(self) -> list[str]:
        """The command."""
        main = "from gateway.cli.app import main; main()"
        return [sys.executable, "-c", main, *self.arguments()]

    def _spawn(self) -> Process:
        name = self.name if self._starts == 1 else f"{self.name}-{self._starts}"
        if self._fresh:
            return self.lab.spawn(self.host, self.argv(), name, {"PYTHONPATH": self.checkout})
        return self.lab.spawn_gateway(self.host, self.arguments(), name)

    def start(self) -> None:
        """Start it and return once it is ready; raises LabError with its log otherwise."""
        began = time.monotonic()
        self._starts += 1
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
        """Everything it wrote since its last start."""
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

    def stop(self, timeout_s: float = STOP_S, number: int = INTERRUPT) -> None:
        """Ask it to say goodbye and end, and wait."""
        if self.running():
            os.kill(self.pid, number)
            wait_until(lambda: not self.running(), timeout_s, "the gateway's end")

    def hand_over(self, timeout_s: float = STOP_S) -> None:
        """End it as a service manager does that starts it again: its sessions go on."""
        self.stop(timeout_s, signal.SIGTERM)

    def kill(self) -> None:
        """End it without a warning, and wait."""
        if self.running():
            self.signal(signal.SIGKILL)
            wait_until(lambda: not self.running(), STOP_S, "the gateway's end")

    def processor_s(self) -> float:
        """User and system time that the core has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

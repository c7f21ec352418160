"""Starting the lab's Python programs on its hosts and reading the lines of JSON they write."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

CHECKOUT = str(Path(__file__).resolve().parents[2])
READY_S = 30.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A running program that writes a line of JSON per observation and a `result` at its end."""

    process: Process

    def lines(self) -> list[dict[str, Any]]:
        """Everything it has written so far."""
        lines = self.process.output().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def latest(self, key: str) -> Any:  # noqa: ANN401 - a JSON value
        """The newest value of `key`, None when it has not written one."""
        return next((line[key] for line in reversed(self.lines()) if key in line), None)

    def wait_for(self, key: str, at_least: float, timeout_s: float = 30.0) -> None:
        """Wait until the newest `key` is at least that; raises LabError when it does not come."""

        def reached() -> bool:
            if (self.latest(key) or 0) >= at_least:
                return True
            if not self.process.running():
                raise LabError(f"{self.process.name} ended: {self.process.output()[-2000:]}")
            return False

        wait_until(reached, timeout_s, f"{key} >= {at_least:g} from {self.process.name}")

    def result(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for its end and return its result."""
        self.process.wait(timeout_s)
        return self._last()

    def stop(self) -> dict[str, Any]:
        """End it now and return its result."""
        self.process.stop()
        return self._last()

    def _last(self) -> dict[str, Any]:
        results = [line for line in self.lines() if "result" in line]
        if results:
            return results[-1]
        raise LabError(
            f"{self.process.name} ended without a result: {self.process.output()[-2000:]}"
        )


def start(lab: Lab, host: str, module: str, arguments: Sequence[str], name: str) -> Measured:
    """Run `python -m gateway.lab.MODULE ARGUMENTS` on a host; NAME.log in the lab's folder."""
    argv = [sys.executable, "-m", f"gateway.lab.{module}", *arguments]
    return Measured(lab.spawn(host, argv, name, {"PYTHONPATH": CHECKOUT}))


def start_download(lab: Lab, url: str, *, host: str = "device", name: str = "download") -> Measured:
    """A download that goes on until `stop`; `wait_for("bytes", N)` waits for its progress."""
    return start(lab, host, "traffic", ["download", url], name)


def start_receiver(
    lab: Lab, host: str, bind: str, *, name: str = "receive", idle_s: float = 2.0
) -> Measured:
    """A receiver of a numbered stream at `bind` (HOST:PORT), ready when this returns."""
    receiver = start(lab, host, "traffic", ["receive", bind, "--idle", f"{idle_s:g}"], name)
    receiver.wait_for("ready", 1, READY_S)
    return receiver


def start_sender(
    lab: Lab, host: str, to: str, *, rate: float = 1000.0, seconds: float = 5.0, size: int = 200,
    name: str = "send",
) -> Measured:  # fmt: skip
    """A sender of numbered datagrams to `to` (HOST:PORT)."""
    pace = ["--rate", f"{rate:g}", "--seconds", f"{seconds:g}", "--size", str(size)]
    return start(lab, host, "traffic", ["send", to, *pace], name)

"""The product's own mobile node on a host of the lab: `gateway mn run`, and what it says."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Collection
from typing import Any

from gateway.control.client import MOBILE_NODE, ControlClient
from gateway.control.protocol import ControlError
from gateway.lab import planes
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

CONTROL_SOCKET = "control.sock"
STATUS = "node-status"
READY_S = 30.0
STOP_S = 15.0
POLL_S = 0.03


class MobileHost:
    """A `gateway mn run` with the profile `self.profile` in a folder of its own.

    `write` a profile, then `start`. Each start goes on with the state of the last one.
    """

    def __init__(self, lab: Lab, *, host: str = "device", name: str = "mobile-node") -> None:
        self.lab, self.host, self.name = lab, host, name
        self.folder = lab.folder / name
        self.folder.mkdir(exist_ok=True)
        lab.keeps(host, self.folder)
        self.profile = self.folder / "profile.toml"
        self.process: Process | None = None

    def write(self, make: Callable[..., str], **keys: object) -> None:
        """Write the profile that `make(folder, ...)` returns, readable by its owner only."""
        self.profile.touch(mode=0o600)
        self.profile.write_text(planes.with_kind(make(self.folder, **keys)))

    # -- the process -----------------------------------------------------------------------------

    def arguments(self) -> list[str]:
        """Of the command `gateway`."""
        return ["mn", "run", "--profile", str(self.profile)]

    def start(self) -> None:
        """Start it and return once it answers; raises LabError with its log otherwise."""
        self.process = self.lab.spawn_gateway(self.host, self.arguments(), self.name)

        def ready() -> bool:
            if not self.running():
                raise LabError(f"the mobile node ended: {self.output()[-3000:]}")
            return self._status() is not None

        wait_until(ready, READY_S, f"the mobile node: {self.output()[-1000:]}")

    def running(self) -> bool:
        """Whether it is there."""
        return self.process is not None and self.process.running()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.process is None:
            raise LabError("the mobile node was not started")
        self.process.signal(number)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self.signal(signal.SIGKILL)
        wait_until(lambda: not self.running(), STOP_S, "its end")

    def stop(self) -> None:
        """Ask it to end, and wait."""
        if self.running():
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            wait_until(lambda: not self.running(), STOP_S, "the mobile node's end")

    def output(self) -> str:
        """Everything it wrote."""
        return self.process.output() if self.process is not None else ""

    def log(self) -> list[dict[str, Any]]:
        """Its log lines."""
        lines = [line for line in self.output().splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines if line.endswith("}")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one event."""
        return [line for line in self.log() if line.get("event") == name]

    # -- what it says ----------------------------------------------------------------------------

    def call(self, op: str, **args: object) -> dict[str, Any]:
        """One question to its control socket."""
        with ControlClient(self.folder / CONTROL_SOCKET, service=MOBILE_NODE) as client:
            return client.call(op, **args)

    def status(self) -> dict[str, Any]:
        """See :class:`gateway.mobile_node.status.NodeStatus`; raises LabError when it is silent."""
        found = self._status()
        if found is None:
            raise LabError(f"the mobile node does not answer: {self.output()[-2000:]}")
        return found

    def mode(self) -> str:
        """The access mode now; empty when nobody answers."""
        found = self._status()
        return "" if found is None else str(found["mode"])

    def wait_for_mode(self, *modes: str, timeout_s: float = 25.0) -> dict[str, Any]:
        """Wait until it is in one of these modes, and return the status then.

        Raises LabError that says where it stayed, and why.
        """
        return self.wait_for(lambda found: found["mode"] in modes, modes, timeout_s)

    def wait_for(
        self,
        holds: Callable[[dict[str, Any]], bool],
        what: Collection[str] | str,
        timeout_s: float = 25.0,
    ) -> dict[str, Any]:
        """Wait until its status is as wanted, and return it."""
        end = time.monotonic() + timeout_s
        found = None
        while time.monotonic() < end:
            if not self.running():
                raise LabError(f"the mobile node ended: {self.output()[-3000:]}")
            found = self._status()
            if found is not None and holds(found):
                return found
            time.sleep(POLL_S)
        wanted = what if isinstance(what, str) else " or ".join(what)
        raise LabError(f"the mobile node waited {timeout_s:g} s for {wanted}: {_told(found)}")

    def _status(self) -> dict[str, Any] | None:
        try:
            return self.call(STATUS)
        except (ControlError, OSError):
            return None


def _told(found: dict[str, Any] | None) -> str:
    if found is None:
        return "it does not answer"
    layers = "; ".join(f"{one['name']} {one['state']}" for one in found["layers"])
    links = "; ".join(f"{one['interface']} {one['verdict']}" for one in found["interfaces"])
    last = " | ".join(found["last_events"][-6:])
    return f"{found['mode']} ({found['why']}). Layers: {layers}. Links: {links}. Last: {last}"

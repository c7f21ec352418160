"""The gateway as its service runs it: a user of its own with the unit's capabilities."""

import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateway_bed import RunningGateway, device_configuration

from gateway.lab import plan
from gateway.lab.measured import CHECKOUT
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

UNIT = Path(__file__).resolve().parents[2] / "deploy/gateway.service"
USER = 64_747
"""Nobody's number: the lab makes no users."""


def capabilities() -> str:
    """What the unit grants, in setpriv's words."""
    values = [
        line.partition("=")[2]
        for line in UNIT.read_text().splitlines()
        if line.startswith("AmbientCapabilities=")
    ]
    names = [name for value in values for name in value.split()]
    return ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names)


class Service(RunningGateway):
    """A `gateway run` that was never root."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, fresh=True)
        for name in ("site", "checkout"):
            (self.folder / name).mkdir()
        for path in (self.folder, self.config):
            os.chown(path, USER, USER)

    def argv(self) -> list[str]:
        """The libraries and the checkout, seen where this user may read them."""
        granted = capabilities()
        mounts = {
            sysconfig.get_path("purelib"): self.folder / "site",
            CHECKOUT: self.folder / "checkout",
        }
        shell = " && ".join(f"mount --bind {there} {here}" for there, here in mounts.items())
        become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        become += [f"--bounding-set=-all,{granted}", f"--inh-caps=-all,{granted}"]
        become += [f"--ambient-caps=-all,{granted}"]
        search = f"PYTHONPATH={self.folder / 'checkout'}:{self.folder / 'site'}"
        command = [os.path.realpath(sys.executable), *super().argv()[1:]]
        within = ["sh", "-c", f'{shell} && exec "$@"', "sh", *become, "env", search, *command]
        return ["unshare", "--mount", *within]


@pytest.fixture
def service(lab: Lab) -> Iterator[Service]:
    running = Service(lab)
    # Between its user and what it needs lie the folders of whoever runs the tests.
    opened = {path: path.stat().st_mode for path in (running.folder, *running.folder.parents)}
    for path, mode in opened.items():
        path.chmod(mode | 0o011)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        for path, mode in opened.items():
            path.chmod(mode)
        print(f"--- gateway\n{running.output()[-8000:]}")


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_a_device_connects_to_a_gateway_that_was_never_root(
    service: Service, lab: Lab, strongswan: Callable[..., StrongSwan]
) -> None:
    status = status_of(service.pid)
    assert status["Uid"].split() == [str(USER)] * 4
    kept = 1 << 10 | 1 << 12 | 1 << 13
    assert int(status["CapPrm"], 16) == kept
    assert int(status["CapBnd"], 16) & ~kept == 0
    assert int(status["CapAmb"], 16) == 0

    device = strongswan("device")
    device.load(device_configuration())
    device.initiate("net")
    argv = ["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2", str(plan.SERVER)]
    assert " 0% packet loss" in lab.run("device", argv, check=False).stdout
    assert len(service.call("ike-sas")["items"]) == 1

"""FRR announces the pools: a router of the intranet learns by OSPF where devices are."""

# clock: real
# planes: portable

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_bed import RunningGateway

from gateway.lab.processes import wait_until
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

DAEMONS = Path("/usr/lib/frr")
OSPF = """\
hostname {host}
interface {interface}
 ip ospf network point-to-point
 ip ospf hello-interval 1
 ip ospf dead-interval 4
router ospf
 ospf router-id {router}
 network 10.1.0.0/24 area 0
"""


@contextlib.contextmanager
def router(lab: Lab, host: str, interface: str, address: str, space: str) -> Iterator[None]:
    """zebra and ospfd on a host; ``space`` keeps their sockets apart from another host's."""
    folder = Path("/var/run/frr") / space
    folder.mkdir(parents=True, exist_ok=True)
    for one in {folder, folder.parent}:
        shutil.chown(one, "frr", "frr")
    configuration = lab.folder / f"{host}.ospf"
    configuration.write_text(OSPF.format(host=host, interface=interface, router=address))
    empty = lab.folder / "zebra.conf"
    empty.write_text("hostname zebra\n")
    for file in (configuration, empty):
        file.chmod(0o644)
    apart = ["-N", space] if space else []
    started = []
    try:
        for name, file in (("zebra", empty), ("ospfd", configuration)):
            argv = [str(DAEMONS / name), *apart, "-f", str(file), "-P", "0", "--log", "stdout"]
            started.append(lab.spawn(host, argv, f"{name}-{host}"))
        wait_until((folder / "ospfd.vty").exists, 20, f"ospfd on {host}")
        yield
    finally:
        apart = ["-N", space] if space else []
        for question in ("show running-config", "show ip route"):
            argv = ["vtysh", *apart, "-c", question]
            print(f"--- {host}: {lab.run(host, argv, check=False).stdout[-2000:]}")
        for one in reversed(started):
            print(f"--- {host}: {one.output()[-2000:]}")
            one.stop()


def routes(lab: Lab) -> list[str]:
    """What the server's kernel has of OSPF."""
    lines = lab.run("server", ["ip", "route", "show", "proto", "ospf"]).stdout.splitlines()
    return [line.split()[0] for line in lines if "via 10.1.0.1 " in line]


def reachability(running: RunningGateway) -> tuple[str, str]:
    (view,) = running.call("reachability")["items"]
    return view["state"], view["detail"]


@contextlib.contextmanager
def announcing(lab: Lab) -> Iterator[RunningGateway]:
    """A gateway whose pool is announced from its start on."""
    running = RunningGateway(lab)
    text = running.config.read_text()
    running.config.write_text(text.replace("dns = [", 'advertise = "frr"\ndns = ['))
    try:
        running.start()
        yield running
    finally:
        running.stop()
        print(f"--- gateway\n{running.output()[-8000:]}")


def test_a_router_of_the_intranet_learns_where_the_devices_are(lab: Lab) -> None:
    if not (DAEMONS / "ospfd").exists():
        pytest.skip("FRR is not installed")
    with (
        router(lab, "gw", "inside", "10.1.0.1", ""),
        router(lab, "server", "intranet", "10.1.0.10", f"t{os.getpid()}"),
        announcing(lab) as running,
    ):
        text = running.config.read_text()
        wait_until(lambda: routes(lab) == ["10.9.0.0/24"], 60, "the pool's route")
        told = "FRR announces it by: router ospf"
        wait_until(lambda: reachability(running) == ("ok", told), 20, "that it is seen so")
        other = text.replace("10.9.0.0/24", "10.8.0.0/24")
        running.config.write_text(other)
        running.call("reload")
        wait_until(lambda: routes(lab) == ["10.8.0.0/24"], 60, "the new pool's route")
        running.config.write_text(other.replace('advertise = "frr"', ""))
        running.call("reload")
        wait_until(lambda: not routes(lab), 60, "no route")
        assert reachability(running)[0] == "unknown"
        assert not running.events("reachability_failed")

"""Devices that keep their own addresses, at a running gateway: strongSwan behind two NATs.

    device   192.168.77.10 -- nat  --+
    device2  10.1.0.20     -- nat    +-- internet -- gw -- server 10.1.0.10
    device3  192.168.77.10 -- nat2 --+

device and device3 have the same address, device2 is in a network like the intranet.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, ClassVar

from gateway_bed import RunningGateway
from interop_bed import HEAD, device_file, psk_connection, table

from gateway.lab import plan
from gateway.lab.plan import _port
from gateway.lab.processes import Process, wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

DEVICES = ("device", "device2", "device3")
ADDRESS = {"device": "192.168.77.10", "device2": "10.1.0.20", "device3": "192.168.77.10"}
IDENTITY = {one: f"{one}@example.com" for one in DEVICES}
NAT2_PUBLIC = "192.0.2.82"
GATEWAY_INSIDE, SERVER = str(plan.GATEWAY_INSIDE), str(plan.SERVER)
SHOWN_SERVER = "10.99.0.10"

CONFIGURATION = (
    psk_connection(
        "one", remote_id=IDENTITY["device"], pool="", presence="napt", rules=["ftp", "sip", "web"]
    )
    + psk_connection(
        "two", remote_id=IDENTITY["device2"], pool="", presence="napt", translations=["lan"]
    )
    + psk_connection("three", remote_id=IDENTITY["device3"], pool="", presence="napt", napt="few")
    + psk_connection("four", remote_id="four@example.com")
    + table("napt.few", addresses=["10.1.0.40-10.1.0.43"], any_source=["10.1.0.0/24"])
    + table("translations.lan", network="10.1.0.0/24", shown_as="10.99.0.0/24")
    + table("redirects.ssh", ports=2222, device=IDENTITY["device3"], to_port=22)
    + table("rules.ftp", protocols=["tcp"], ports=[21], helper="ftp")
    + table("rules.sip", protocols=["udp"], ports=[5060], helper="sip")
    + table("rules.web", protocols=["tcp", "icmp"])
).replace('pool = ""\n', "")


class PresenceLab(Lab):
    hosts = (*plan.HOSTS, "nat2", "device2", "device3")
    wires = (
        *plan.WIRES,
        (_port("nat", "device2", "10.1.0.254/24"), _port("device2", "lan", "10.1.0.20/24")),
        (_port("internet", "nat2", "192.0.2.81/30"), _port("nat2", "uplink", "192.0.2.82/30")),
        (_port("nat2", "device3", "192.168.77.1/24"), _port("device3", "lan", "192.168.77.10/24")),
    )
    routers = frozenset({*plan.ROUTERS, "nat2"})
    routes: ClassVar[Any] = {
        **plan.ROUTES,
        "nat2": {"default": IPv4Address("192.0.2.81")},
        "device2": {"default": IPv4Address("10.1.0.254")},
        "device3": {"default": IPv4Address("192.168.77.1")},
    }


_NAT = """
table ip more_nat {
    chain post {
        type nat hook postrouting priority srcnat
        oifname uplink ip saddr { 10.1.0.0/24, 192.168.77.0/24 } masquerade
    }
}
"""


@dataclass(slots=True, repr=False)
class Bed:
    lab: PresenceLab
    gateway: RunningGateway
    swans: dict[str, StrongSwan]
    captures: int = 0

    def connect(self, host: str, **changes: Any) -> None:
        shown = "10.99.0.0/24" if host == "device2" else "10.1.0.0/24"
        options = {"device_id": IDENTITY[host], "vips": False, "remote_ts": shown, **changes}
        self.swans[host].load(device_file(**options))
        self.swans[host].initiate("net")

    def disconnect(self, host: str) -> None:
        self.swans[host].terminate("gw")
        wait_until(lambda: not self.swans[host].established(), 20, "no IKE SA")

    def ping(self, host: str, to: str = SERVER) -> bool:
        argv = ["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "3", to]
        return " 0% packet loss" in self.lab.run(host, argv, check=False).stdout

    def serve(self, host: str, code: str, *arguments: object, name: str) -> Process:
        argv = [sys.executable, "-u", "-c", code, *map(str, arguments)]
        process = self.lab.spawn(host, argv, name)
        wait_until(lambda: "ready" in process.output(), 20, f"{name}: {process.output()}")
        return process

    def ask(self, host: str, code: str, *arguments: object) -> Any:
        argv = [sys.executable, "-c", code, *map(str, arguments)]
        return json.loads(self.lab.run(host, argv).stdout.splitlines()[-1])

    @contextlib.contextmanager
    def captured(self, interface: str, only: str, count: int) -> Iterator[list[str]]:
        """Source and destination of the first packets that pass an interface of the gateway."""
        lines: list[str] = []
        argv = ["tcpdump", "-ntl", "--immediate-mode", "-c", str(count), "-i", interface, only]
        self.captures += 1
        process = self.lab.spawn("gw", argv, f"tcpdump-{self.captures}")
        wait_until(lambda: "listening" in process.output(), 20, "tcpdump")
        yield lines
        wait_until(lambda: not process.running(), 20, f"{count} packets")
        seen = (line for line in process.output().splitlines() if line.startswith("IP "))
        lines += (line.removeprefix("IP ").split(":")[0] for line in seen)


@contextlib.contextmanager
def presence() -> Iterator[Bed]:
    lab = PresenceLab(f"t{os.getpid()}-")
    lab.up(fresh=True, access="nat")
    try:
        for nat in ("nat", "nat2"):
            lab.nft(nat, _NAT)
        gateway = RunningGateway(lab)
        head = HEAD.format(
            folder=gateway.folder, outside=plan.GATEWAY_OUTSIDE, ike="", level="info"
        )
        gateway.write_text(head + CONFIGURATION)
        swans = {host: StrongSwan(lab, host) for host in DEVICES}
        try:
            gateway.start()
            for swan in swans.values():
                swan.start()
            yield Bed(lab, gateway, swans)
        finally:
            print(f"--- gateway\n{gateway.output()[-8000:]}")
            for swan in swans.values():
                print(f"--- charon\n{swan.log()[-1500:]}")
            gateway.stop()
    finally:
        lab.down()

"""What is not IP, by GRE through a tunnel: the device's Linux, strongSwan, and a link inside."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from dataplane_bed import wait_for
from frames_bed import IP, IPX, Ear, frame, send
from gateway_bed import RunningGateway, device_configuration

from gateway.lab import plan
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.kernel_peer("Ethernet frames in GRE are the kernel's business on either dataplane"),
]

BRIDGE = 'bridge = "plant"\n\n[bridges.plant]\ninterface = "lan0"\naddress = "10.1.0.1"\n'


@dataclass
class Bed:
    lab: Lab
    gateway: RunningGateway
    device: StrongSwan

    def ports(self) -> list[str]:
        """Of the gateway's bridges."""
        links = self.lab.run("gw", ["ip", "-br", "link", "show", "type", "gretap"]).stdout
        return [line for line in links.splitlines() if line.startswith("gwp")]

    def ear(self, host: str, interface: str) -> Ear:
        return Ear(self.lab.namespace(host), interface)

    def passes(self, text: bytes) -> None:
        """A frame that fills the link passes both ways."""
        one = frame(IPX, text.ljust(1500, b"."))
        self._passes(one, "device", "plant", self.ear("server", "lan"))
        self._passes(one, "server", "lan", self.ear("device", "plant"))

    def _passes(self, octets: bytes, host: str, interface: str, ear: Ear) -> None:
        # The first ones may come before a former port is gone from the bridge's memory.
        wait_for(lambda: self._arrives(host, interface, octets, ear), f"a frame from {host}")
        ear.close()

    def _arrives(self, host: str, interface: str, octets: bytes, ear: Ear) -> bool:
        send(self.lab.namespace(host), interface, octets)
        return ear.has(octets)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    lab = Lab(f"t{os.getpid()}-")
    lab.up(fresh=True)
    try:
        gateway = RunningGateway(lab, extra=BRIDGE)
        device = StrongSwan(lab, "device")
        peer = ["type", "veth", "peer", "name", "lan", "netns", lab.namespace("server")]
        lab.run("gw", ["ip", "link", "add", "lan0", *peer])
        lab.run("gw", ["ip", "link", "set", "lan0", "up"])
        lab.run("server", ["ip", "link", "set", "lan", "up"])
        try:
            gateway.start()
            device.start()
            device.load(device_configuration())
            yield Bed(lab, gateway, device)
        finally:
            print(f"--- gateway\n{gateway.output()[-6000:]}")
            print(f"--- charon\n{device.log()[-3000:]}")
            device.stop()
            gateway.stop()
    finally:
        lab.down()


def test_frames_pass_the_tunnel_while_the_device_is_in(bed: Bed) -> None:
    assert not bed.ports()
    bed.device.initiate("net")
    (port,) = bed.ports()
    assert port.startswith(f"gwp{int(plan.IPv4Address('10.9.0.1')):08x}")
    bed.lab.run(
        "device",
        ["ip", "link", "add", "plant", "type", "gretap", "local", "10.9.0.1",
         "remote", "10.1.0.1", "nopmtudisc", "ignore-df"],
    )  # fmt: skip
    bed.lab.run("device", ["ip", "link", "set", "plant", "mtu", "1500", "up"])
    wire = bed.lab.capture("gw", "outside", "wire", "ip proto 47 or esp")
    bed.passes(b"hello")
    ear, sneaky = bed.ear("server", "lan"), frame(IP, b"IP around the rules")
    send(bed.lab.namespace("device"), "plant", sneaky)
    bed.passes(b"after it")
    assert not ear.has(sneaky)
    ear.close()
    packets = wire.stop().read_bytes()
    assert packets
    assert b"hello...." not in packets


def test_the_next_process_keeps_it_and_a_reload_ends_it(bed: Bed) -> None:
    before = bed.ports()
    bed.gateway.hand_over()
    bed.passes(b"nobody is there")
    bed.gateway.start()
    bed.passes(b"the next one is")
    assert bed.ports() == before
    done = len(bed.gateway.events("reloaded"))
    bed.gateway.write()
    bed.gateway.signal(signal.SIGHUP)
    wait_until(lambda: len(bed.gateway.events("reloaded")) > done, 10, "the reload")
    assert not bed.ports()
    bed.gateway.write(extra=BRIDGE)
    bed.gateway.signal(signal.SIGHUP)
    wait_until(lambda: len(bed.gateway.events("reloaded")) > done + 1, 10, "the reload")
    bed.passes(b"again")
    bed.device.terminate("gw")
    wait_until(lambda: not bed.ports(), 10, "no port")
    assert not bed.gateway.events("internal_error")
    assert not bed.gateway.events("bridge_failed")


def test_a_start_without_bridges_removes_what_was_left(bed: Bed) -> None:
    bed.device.initiate("net")
    assert bed.ports()
    bed.gateway.hand_over()
    bed.gateway.write()
    bed.gateway.start()
    wait_until(lambda: not bed.ports(), 10, "no port")
    assert "gwbr" not in bed.lab.run("gw", ["ip", "-br", "link"]).stdout
    bed.gateway.hand_over()
    bed.gateway.write(extra=BRIDGE)
    bed.gateway.start()
    bed.passes(b"and back")
    bed.device.terminate("gw")


def test_stopping_leaves_nothing(bed: Bed) -> None:
    bed.device.initiate("net")
    assert bed.ports()
    bed.gateway.stop()
    assert "gwp" not in (links := bed.lab.run("gw", ["ip", "-br", "link"]).stdout)
    assert "gwbr" not in links
    assert "gateway" not in bed.lab.run("gw", ["nft", "list", "tables"]).stdout
    assert bed.lab.run("gw", ["ip", "-4", "-br", "addr", "show", "inside"]).stdout.split()[2:]

"""IKE and ESP by TCP, end to end, through a network that lets nothing but TCP pass (RFC 9329)."""

import json
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_bed import PSK, RunningGateway

from gateway.lab import plan
from gateway.lab.capture import dissect
from gateway.lab.measured import CHECKOUT, start_download
from gateway.lab.processes import Process, wait_until
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

DEVICE_ADDRESS = plan.ACCESSES["access1"].device.ip
TCP_ONLY = """
table inet tcp_only {
  chain forward {
    type filter hook forward priority 0
    meta l4proto { udp, esp, ah, ipip, gre } counter drop
  }
}
"""
CUT = """
table inet cut {
  chain forward {
    type filter hook forward priority -1
    meta l4proto tcp reject with tcp reset
  }
}
"""
LUA = Path(__file__).with_name("iketcp.lua")
DEVICE = """
[gateway]
name = "device@example.com"
runtime_dir = "{folder}"

[ike]
listen = ["{address}"]

[dataplane]
xfrm_interface = "tunnel0"

[connections.office]
local_auth = "psk"
remote_auth = "psk"
psk = "{psk}"
remote_id = "gateway.example.com"
remote = "{gateway}"
request_inner_address = true
remote_subnets = ["10.1.0.0/24"]
"""


class Device:
    """The device's side, started as a process on its host."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.folder = lab.folder / "tcp-device"
        self.folder.mkdir()
        text = DEVICE.format(
            folder=self.folder, address=DEVICE_ADDRESS, psk=PSK, gateway=plan.GATEWAY_OUTSIDE
        )
        (self.folder / "device.toml").touch(mode=0o600)
        (self.folder / "device.toml").write_text(text)
        self.process: Process | None = None

    def start(self) -> None:
        program = Path(__file__).with_name("tcp_device.py")
        argv = [sys.executable, str(program), str(self.folder)]
        self.process = self.lab.spawn("device", argv, "tcp-device", {"PYTHONPATH": CHECKOUT})

    def events(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / "events"
        lines = file.read_text().splitlines() if file.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [one for one in found if one["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> None:
        def there() -> bool:
            assert self.process is not None
            assert self.process.running(), self.process.output()
            return len(self.events(name)) >= count

        wait_until(there, 20, name)


@pytest.fixture
def running(lab: Lab) -> Iterator[RunningGateway]:
    made = RunningGateway(lab)
    outside = plan.GATEWAY_OUTSIDE
    text = made.config.read_text().replace(
        f'listen = ["{outside}"]', f'listen = ["{outside}"]\ntcp_listen = ["{outside}:4500"]'
    )
    made.write_text(text)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        print(f"--- gateway\n{made.output()[-6000:]}")


@pytest.fixture
def device(lab: Lab, running: RunningGateway) -> Iterator[Device]:
    lab.nft("access1", TCP_ONLY)
    made = Device(lab)
    try:
        yield made
    finally:
        if made.process is not None:
            made.process.stop()
            print(f"--- device\n{made.process.output()[-6000:]}")
        file = made.folder / "events"
        print(file.read_text()[-4000:] if file.exists() else "no events")


def ping(lab: Lab, count: int = 3) -> bool:
    argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "2", "-I", "10.9.0.1"]
    return " 0% packet loss" in lab.run("device", [*argv, str(plan.SERVER)], check=False).stdout


def connected(lab: Lab, device: Device) -> None:
    device.wait_for("ike_sa_established")
    lab.run("device", ["ip", "address", "replace", "10.9.0.1/32", "dev", "lo"])
    route = ["10.1.0.0/24", "dev", "tunnel0", "src", "10.9.0.1"]
    lab.run("device", ["ip", "route", "replace", *route])
    assert ping(lab)


def ike_sa(running: RunningGateway) -> dict[str, Any]:
    (found,) = running.call("ike-sas")["items"]
    return dict(found)


def forge(lab: Lab, source: str) -> None:
    """A datagram for the gateway's NAT port from ``source``, put on its own wire."""
    mac = json.loads(lab.run("gw", ["ip", "-j", "link", "show", "outside"]).stdout)[0]["address"]
    ike = bytes(4) + bytes(range(1, 9)) + bytes(8) + bytes((0, 0x20, 34, 8)) + bytes(4)
    ike += struct.pack("!I", 28)
    udp = struct.pack("!HHHH", 4500, 4500, 8 + len(ike), 0) + ike
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    header += socket.inet_aton(source) + plan.GATEWAY_OUTSIDE.packed
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    packet = bytes.fromhex(mac.replace(":", "")) + bytes(6) + b"\x08\x00" + header + udp
    program = (
        "import socket,sys;s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW);"
        "s.bind(('dmz',0));s.send(bytes.fromhex(sys.argv[1]))"
    )
    lab.run("internet", [sys.executable, "-S", "-c", program, packet.hex()])


def datagrams(running: RunningGateway) -> int:
    return int(running.call("status")["counters"]["sockets"]["datagrams_in"])


def test_h35_second_connection_for_the_same_sa_where_only_tcp_passes(
    lab: Lab, running: RunningGateway, device: Device
) -> None:
    """One story, for its start takes the longest."""
    capture = lab.capture("device", "access1", "tcp-only", "tcp port 4500")
    device.start()
    connected(lab, device)
    (up,) = device.events("tcp_up")
    assert up["text"] == "4500"  # 443 is refused
    ike = ike_sa(running)
    # The true address of the peer, not the one that stands for it on loopback.
    assert ike["remote"].startswith(f"{DEVICE_ADDRESS}:")
    assert ike["nat"] == {"local": False, "remote": True}
    (child,) = running.call("child-sas")["items"]
    assert child["encapsulation"] == "esp-in-udp"
    assert child["packets_in"] >= 3
    assert child["remote"] == ike["remote"]
    (line,) = running.events("ike_sa_established")
    assert line["remote"] == ike["remote"]
    assert "127." not in json.dumps(running.log())
    status = running.call("status")
    assert status["tcp"]["connections"] == 1
    tcp = status["counters"]["tcp"]
    assert tcp["messages_in"] >= 5
    assert tcp["messages_out"] >= 5
    assert not tcp["relay_dropped"]

    # Nobody outside can pose as the relay: the kernel drops what comes from loopback addresses.
    before = datagrams(running)
    standing_in = device.events("ike_sa_established")[0]["remote"].partition(":")[0]
    forge(lab, standing_in)
    forge(lab, "198.51.100.77")
    wait_until(lambda: datagrams(running) > before, 5, "the datagram that is no martian")
    assert datagrams(running) == before + 1

    pcap = capture.stop()
    # Nothing else was even tried.
    assert "counter packets 0 " in lab.run("access1", ["nft", "list", "ruleset"]).stdout
    fields = ["iketcp.prefix", "isakmp.exchangetype", "esp.spi"]
    judged = dissect(pcap, "iketcp", [*fields, "_ws.malformed"], lua=LUA)
    assert judged[0][0] == "IKETCP"
    assert not [row for row in judged if row[3]]
    exchanges = [row[1] for row in judged if row[1]]
    assert exchanges == ["34", "34", "35", "35"]
    spis = {spi for row in judged for spi in row[2].split(",") if spi}
    assert spis == {f"0x{child['spi_in']}", f"0x{child['spi_out']}"}
    go_on(lab, running, device)


def cut(lab: Lab, device: Device, number: int) -> None:
    """Break the connection and let the next one be made."""
    lab.nft("access1", CUT)
    lab.run("device", ["ping", "-n", "-c", "1", "-W", "1", str(plan.SERVER)], check=False)
    device.wait_for("tcp_down", number)
    lab.nft("access1", "delete table inet cut")
    device.wait_for("tcp_up", number + 1)


def go_on(lab: Lab, running: RunningGateway, device: Device) -> None:
    """The connection is cut: the next one takes the SAs over, and a TCP stream inside lives on."""
    before = ike_sa(running)
    stream = start_download(lab, f"http://{plan.SERVER}/stream?rate=400000")
    stream.wait_for("bytes", 100_000, 20)
    cut(lab, device, 1)
    wait_until(lambda: ike_sa(running)["remote"] != before["remote"], 20, "the move")
    assert ping(lab)
    after = ike_sa(running)
    assert after["id"] == before["id"]
    assert after["remote"].startswith(f"{DEVICE_ADDRESS}:")
    (moved,) = running.events("endpoint_moved")
    assert (moved["old"], moved["new"]) == (before["remote"], after["remote"])
    already = stream.latest("bytes")
    wait_until(lambda: stream.latest("bytes") > already + 50_000, 20, "more of the download")
    stream.stop()
    # When IKE says nothing, the next ESP packet moves everything.
    (device.folder / "silent").touch()
    cut(lab, device, 2)
    ping(lab, 1)
    wait_until(lambda: len(running.events("endpoint_moved")) == 2, 20, "the move by ESP")
    moved = running.events("endpoint_moved")[1]
    assert moved["proof"].startswith("esp")
    assert moved["new"] == ike_sa(running)["remote"]
    assert ping(lab)
    # IKE of the gateway's own goes the new way, too.
    running.call("rekey", id=after["id"])
    wait_until(lambda: running.events("ike_sa_rekeyed"), 20, "the new IKE SA")
    assert len(device.events("ike_sa_established")) == 1
    assert ping(lab)

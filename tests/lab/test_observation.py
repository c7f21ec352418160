"""A strongSwan device connects, moves and is recorded: the gateway agrees with the kernel."""

import base64
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_bed import CONFIGURATION, PSK, RunningGateway, device_configuration

from gateway.cli.output import octets
from gateway.control.client import ControlClient
from gateway.lab import plan
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import LabError, wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

WHO = "device@example.com"


class Bed:
    def __init__(self, lab: Lab, running: RunningGateway, swan: StrongSwan) -> None:
        self.lab, self.running, self.swan = lab, running, swan

    def ping(self, count: int = 3, size: int = 56) -> bool:
        argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.1", "-W", "2", "-s", str(size)]
        done = self.lab.run("device", [*argv, str(plan.SERVER)], check=False)
        return " 0% packet loss" in done.stdout

    @property
    def device(self) -> dict[str, Any]:
        (found,) = self.running.call("devices", q=WHO)["items"]
        return self.running.call("device", name=found["name"])

    def connect(self) -> None:
        if not self.swan.established():
            self.swan.initiate("net")
        assert self.ping(2)

    def kernel_octets(self) -> tuple[int, int]:
        """In and out, of the newest SAs of the device."""
        (child,) = self.device["child_sas"]
        found = []
        for spi in (child["spi_in"], child["spi_out"]):
            argv = ["ip", "-s", "xfrm", "state"]
            states = self.lab.run("gw", argv).stdout.split("\nsrc ")
            (state,) = [one for one in states if f"spi 0x{spi}" in one]
            found.append(int(re.search(r"lifetime current:\s+(\d+)\(bytes\)", state)[1]))
        return found[0], found[1]

    def metric(self, name: str) -> float:
        text = self.running.call("metrics")["text"]
        (line,) = [one for one in text.splitlines() if one.startswith(f"{name} ")]
        return float(line.rpartition(" ")[2])


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    lab = Lab("tobs-")
    lab.up(fresh=True)
    try:
        running = RunningGateway(lab)
        text = CONFIGURATION.format(
            folder=running.folder, outside=plan.GATEWAY_OUTSIDE, psk=PSK, extra=""
        )
        text += f'\n[store]\nstate_dir = "{running.folder}/state"\n'
        text += f'\n[devices.laptop]\nidentity = "{WHO}"\nnote = "lent to Ann"\n'
        running.write_text(text)
        swan = StrongSwan(lab, "device")
        try:
            running.start()
            swan.start()
            swan.load(device_configuration(encap=True))
            lab.move("access1")
            yield Bed(lab, running, swan)
        finally:
            swan.stop()
            running.stop()
            print(f"--- gateway\n{running.output()[-8000:]}")
    finally:
        lab.down()


def test_a_device_is_seen_where_it_is_and_counted_as_the_kernel_counts(bed: Bed) -> None:
    bed.connect()
    device = bed.device
    assert (device["name"], device["source"], device["where"]) == ("laptop", "file", "outside")
    assert device["mode"] == "v"
    assert device["outer"].startswith("198.51.100.10:")
    assert device["inner_addresses"] == ["10.9.0.1"]
    assert device["overhead_octets"] == 65
    assert device["path_mtu"]["inner"] == 1438
    assert device["layers"][0]["what"].startswith("ESP in UDP, aes_gcm_16_256")
    assert bed.ping(5, 1000)
    wait_until(lambda: bed.device["bytes_in"] == bed.kernel_octets()[0], 20, "the counters")
    device = bed.device
    assert (device["bytes_in"], device["bytes_out"]) == bed.kernel_octets()
    (child,) = device["child_sas"]
    assert child["bytes_in"] == device["bytes_in"]
    labels = 'connection="road",direction="in"'
    assert bed.metric(f"gateway_traffic_bytes_total{{{labels}}}") == device["bytes_in"]
    assert bed.metric('gateway_connection_up{connection="road"}') == 1
    assert bed.metric('gateway_sessions{connection="road"}') == 1
    assert bed.metric('gateway_pool_addresses_used{pool="road"}') == 1
    samples = bed.running.call("device-traffic", name="laptop", span="1h")["samples"]
    assert sum(one["bytes_in"] for one in samples) == device["bytes_in"]


def test_the_terminal_shows_the_same(bed: Bed) -> None:
    bed.connect()
    wait_until(lambda: bed.device["bytes_in"] == bed.kernel_octets()[0], 20, "the counters")
    device = bed.device

    def command(*words: str) -> str:
        socket = str(bed.running.folder / "control.sock")
        argv = [sys.executable, "-m", "gateway", *words, "--socket", socket]
        return bed.lab.run("gw", ["env", f"PYTHONPATH={CHECKOUT}", *argv]).stdout

    for text in (command("top", "--once"), command("status")):
        (line,) = [one for one in text.splitlines() if one.startswith("laptop ")]
        for word in (octets(device["bytes_in"]), octets(device["bytes_out"]), device["outer"]):
            assert word in line
    assert "1 outside" in command("status")


def test_the_mtu_is_what_the_path_carries(bed: Bed) -> None:
    """The largest packet that needs no fragment, and one octet more that does."""
    bed.connect()
    inner = bed.device["path_mtu"]["inner"]
    only = "src host 198.51.100.10 and ip[2:2] > 200"
    wire = bed.lab.capture("gw", "outside", "mtu", only)
    for size in (inner, inner + 1):
        argv = ["ping", "-n", "-q", "-c", "1", "-W", "1", "-s", str(size - 28), str(plan.SERVER)]
        bed.lab.run("device", argv, check=False)
    fields = ["-T", "fields", "-e", "ip.flags.mf", "-e", "ip.frag_offset"]
    shown = bed.lab.run("gw", ["tshark", "-r", str(wire.stop()), *fields]).stdout
    whole, *fragments = [line.split() for line in shown.splitlines()]
    assert whole[0] in {"0", "False"}
    assert fragments[0][0] in {"1", "True"}


def test_a_move_is_followed_and_its_gap_measured(bed: Bed) -> None:
    bed.connect()
    before = bed.device
    bed.lab.move("access2")
    wait_until(lambda: bed.ping(1), 30, "packets from the new address")
    wait_until(lambda: bed.device["outer"].startswith("203.0.113.10:"), 20, "the move")
    device = bed.device
    assert device["handovers"] == before["handovers"] + 1
    (move, *_) = device["moves"]
    assert move["old"].startswith("198.51.100.10:")
    assert move["new"].startswith("203.0.113.10:")
    assert move["proof"]
    assert move["gap_ms"] is not None
    assert move["gap_ms"] < 30_000
    assert bed.metric("gateway_handover_gap_seconds_count") == device["handovers"]

    def told() -> bool:
        items = bed.running.call("device-history", name="laptop")["items"]
        return [one["what"] for one in items[:2]] == ["moved", "connected"]

    wait_until(told, 20, "the history")
    entries = bed.running.call("device-history", name="laptop")["items"]
    assert entries[0]["session"] == entries[1]["session"] == device["sessions"][0]
    (event,) = bed.running.events("endpoint_moved")
    assert event["device"] == "laptop"
    assert event["session"] == device["sessions"][0]
    bed.lab.move("access1")
    wait_until(lambda: bed.ping(1), 30, "the way back")


def test_a_capture_has_the_device_s_packets_and_no_others(bed: Bed, tmp_path: Path) -> None:
    bed.connect()
    started = bed.running.call("capture-start", device="laptop", seconds=60)
    assert started["state"] == "running"
    assert bed.ping(4)
    noise = ["ping", "-n", "-q", "-c", "3", "-i", "0.1", str(plan.GATEWAY_OUTSIDE)]
    bed.lab.run("attacker", noise, check=False)
    wait_until(lambda: bed.running.call("captures")["items"][0]["packets"] >= 16, 10, "packets")
    done = bed.running.call("capture-stop", id=started["id"])
    assert (done["state"], done["ended_by"]) == ("done", "stopped")
    recorded, offset = b"", 0
    while offset is not None:
        piece = bed.running.call("capture-read", id=started["id"], offset=offset)
        recorded += base64.b64decode(piece["content"])
        offset = piece["next"]
    assert len(recorded) == done["octets"]
    file = tmp_path / "laptop.pcapng"
    file.write_bytes(recorded)
    fields = [
        "-T",
        "fields",
        "-E",
        "separator=;",
        "-e",
        "frame.interface_name",
        "-e",
        "_ws.col.Protocol",
    ]
    fields += ["-e", "ip.src", "-e", "ip.dst", "-e", "esp.spi"]
    shown = bed.lab.run("gw", ["tshark", "-n", "-r", str(file), *fields]).stdout
    rows = [line.split(";") for line in shown.splitlines()]
    assert len(rows) == done["packets"]
    assert {row[0] for row in rows} >= {"outside", "gw0"}
    by_esp = [row for row in rows if row[0] == "outside"]
    assert {row[1] for row in by_esp} <= {"ESP", "ISAKMP", "UDPENCAP"}
    assert sum(row[1] == "ESP" for row in by_esp) >= 8
    inside = [row for row in rows if row[0] == "gw0"]
    assert len(inside) >= 8
    assert all("10.9.0.1" in row[2:4] for row in inside)
    assert not any(str(plan.ATTACKER) in row[2:4] for row in rows)
    bed.running.call("capture-stop", id=started["id"], remove=True)
    assert bed.running.call("captures")["items"] == []
    assert not list((bed.running.folder / "state" / "captures").iterdir())


def test_a_failed_login_names_its_remedy_everywhere(bed: Bed) -> None:
    bed.swan.terminate("gw")
    wait_until(lambda: bed.device["where"] == "offline", 20, "the end of the session")
    bed.swan.load(device_configuration(psk="another secret than the gateway's"))
    with pytest.raises(LabError):
        bed.swan.initiate("net", timeout_s=8)
    wait_until(lambda: bed.device["failures"] > 0, 20, "the failure")
    device = bed.device
    assert device["where"] == "failed"
    assert device["recent_failures"][0]["remedy"]
    text = bed.running.call("metrics")["text"]
    assert 'reason="AUTHENTICATION_FAILED"' in text
    assert 'gateway_connection_up{connection="road"} 0' in text
    assert 'gateway_connection_configured{connection="road"} 1' in text
    bed.swan.load(device_configuration(encap=True))
    bed.connect()
    assert bed.device["where"] == "outside"


def test_a_support_bundle_has_the_state_and_no_key(bed: Bed, tmp_path: Path) -> None:
    bed.connect()
    packed, id_, offset = b"", None, 0
    while offset is not None:
        arguments = {} if id_ is None else {"id": id_, "offset": offset}
        with ControlClient(bed.running.folder / "control.sock", timeout_s=60.0) as client:
            piece = client.call("support", **arguments)
        id_, offset = piece["id"], piece["next"]
        packed += base64.b64decode(piece["content"])
    file = tmp_path / piece["file_name"]
    file.write_bytes(packed)
    shutil.unpack_archive(file, tmp_path / "out")
    (root,) = (tmp_path / "out").iterdir()
    texts = {
        str(one.relative_to(root)): one.read_text() for one in root.rglob("*") if one.is_file()
    }
    assert "proto esp" in texts["kernel/xfrm-states.txt"]
    keys = re.findall(r"0x[0-9a-f]{40,}", bed.lab.run("gw", ["ip", "xfrm", "state"]).stdout)
    assert keys
    for secret in (PSK, *keys):
        assert not [name for name, text in texts.items() if secret in text]
    assert WHO in texts["devices.json"]
    assert "gateway_up 1" in texts["metrics.txt"]


def test_a_restart_forgets_nothing_that_was_written(bed: Bed) -> None:
    bed.connect()
    before = len(bed.running.call("device-history", name="laptop", limit=200)["items"])
    bed.running.signal(signal.SIGINT)
    wait_until(lambda: not bed.running.running(), 15, "the end")
    bed.running.start()
    after = bed.running.call("device-history", name="laptop", limit=200)["items"]
    assert len(after) >= before
    days = bed.running.call("device-traffic", name="laptop", span="30d")["samples"]
    assert sum(one["bytes_in"] for one in days) > 0

"""What the demonstration does and measures: a device connects, and moves in three ways.

Every step raises LabError when what it promises does not happen; nothing here prints.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from gateway.lab import inject, plan, planes
from gateway.lab.appliance import Appliance
from gateway.lab.capture import Capture, judge, merge
from gateway.lab.measured import start_download, start_receiver, start_sender
from gateway.lab.pki import Authority
from gateway.lab.processes import LabError, wait_until
from gateway.lab.story_devices import Device, OwnDevice, StrongSwanDevice
from gateway.lab.story_settings import GATEWAY_TOML
from gateway.lab.topology import Lab

INNER = IPv4Address("10.9.0.1")
PAGE = f"http://{plan.SERVER}/"
RATE = 250
"""Datagrams per second, each way: a gap of 4 ms is the finest that can be seen."""
SIZE = 200
INNER_OCTETS = SIZE + 28
SETTLE_PACKETS = 250
LONGEST_S = 120.0
MOVED_ADDRESS = IPv4Address("198.51.100.77")
NON_ESP_MARKER = bytes(4)
PROTOCOL_UDP = 17


@dataclass(frozen=True, slots=True)
class Move:
    """What a change of address cost."""

    name: str
    gap_ms: float
    """Longest pause of the stream towards the device."""
    lost: int
    """Datagrams of that stream that never arrived, of `sent`."""
    sent: int
    ike_messages: int
    overhead_octets: int
    """What the wire carries beyond the inner packet of 228 octets."""
    proof: str
    """What convinced the gateway."""
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Attack:
    """What an attacker's packets changed and which counters show them."""

    forged: int
    replayed: int
    moved: bool


class Story:
    """The gateway and the device of the demonstration in a lab that is up."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.authority = Authority()
        self.gateway = Appliance(lab, fresh=True)
        self.device: Device = StrongSwanDevice(lab, self.authority)
        self._captures: list[Path] = []
        self._number = 0

    # -- chapters --------------------------------------------------------------------------

    def check(self) -> str:
        """`gateway check` on the gateway's host; returns its last line."""
        self._write_configuration()
        argv = [*self.gateway.argv()[:3], "check", "--config", str(self.gateway.config)]
        done = self.lab.run("gw", argv, check=False, timeout_s=120)
        if done.returncode:
            raise LabError(f"gateway check finds fault:\n{done.stdout}{done.stderr}")
        return done.stdout.strip().splitlines()[-1]

    def start(self) -> float:
        """Start gateway and strongSwan; seconds until the gateway was ready."""
        self.gateway.start()
        self.device.start()
        return self.gateway.ready_after_s

    def closed_without_tunnel(self) -> None:
        """The intranet's page must not load."""
        if self.page(patience_s=2):
            raise LabError("the intranet answers without a tunnel")

    def connect(self, *, mobike: bool) -> str:
        """Connect with a certificate and load the page; returns how long the handshake took."""
        began = time.monotonic()
        self.device.connect(mobike=mobike)
        took_ms = (time.monotonic() - began) * 1000
        if not self.page():
            raise LabError("the intranet's page does not load through the tunnel")
        (ike,) = self.gateway.call("ike-sas")["items"]
        child = self._child()
        return (
            f"{ike['remote_id']} at {ike['remote']} is {', '.join(ike['inner_addresses'])} inside,"
            f" {child['encapsulation']}, {child['suite']}, {took_ms:.0f} ms"
        )

    def disconnect(self) -> None:
        """The device says goodbye."""
        self.device.disconnect()
        wait_until(lambda: not self.gateway.call("ike-sas")["total"], 10, "the goodbye")

    def needs_another_device(self) -> bool:
        """Whether this one cannot send native ESP."""
        return isinstance(self.device, StrongSwanDevice) and self.device.user_space

    def change_device(self) -> None:
        """Our own gateway in its place, which has native ESP on every kernel."""
        self.device.stop()
        self.device = OwnDevice(self.lab, self.authority)
        self.device.start()

    def dataplane(self) -> str:
        """Which one the gateway has, and why."""
        told = self.gateway.call("status")["dataplane"]
        return f"{told['kind']}: {told['why']}"

    def move(self, name: str, act: Callable[[], object]) -> Move:
        """Measure a change of address while a download and a stream each way run."""
        before = self._child()
        capture = self._capture("ike-and-esp")
        download = start_download(self.lab, f"{PAGE}stream?rate=400000", name=self._new("download"))
        download.wait_for("bytes", 200_000)
        with self._streams() as streams:
            streams.received(SETTLE_PACKETS)
            bytes_before = download.latest("bytes")
            act()
            wait_until(lambda: self._child()["remote"] != before["remote"], 30, "the move")
            streams.received(2 * SETTLE_PACKETS)
            download.wait_for("bytes", bytes_before + 200_000)
            result = streams.result()
        error = download.stop()["error"]
        if error:
            raise LabError(f"the download broke: {error}")
        pcap = capture.stop()
        after = self._child()
        return Move(
            name=name,
            gap_ms=result["max_gap_ms"],
            lost=result["lost"],
            sent=streams.sent,
            ike_messages=ike_messages(pcap),
            overhead_octets=overhead(pcap),
            proof=(after["last_move"] or {}).get("proof", ""),
            old=before["remote"],
            new=after["remote"],
        )

    def change_access(self) -> None:
        """The device enters another access network, then leaves the one it was in."""
        self.lab.move("access2", make_before_break=True)

    def change_mapping(self) -> None:
        """The NAT in front of the device forgets it."""
        self.lab.remap_nat()

    def change_address(self) -> None:
        """The device's packets come from another address, and it does not know."""
        self.lab.rewrite_source(MOVED_ADDRESS)

    def attack(self) -> Attack:
        """Send a forged and a replayed packet from a third address; see that nothing moves."""
        capture = self._capture("stolen")
        if not self.page():
            raise LabError("the intranet's page does not load any more")
        stolen = inject.esp_packets(capture.stop(), plan.GATEWAY_OUTSIDE)[-1]
        replay = inject.with_source(stolen, plan.ATTACKER)
        forgery = inject.with_sequence(replay, inject.esp_sequence(stolen) + 1000)
        before, remote = self._rejected(), self._child()["remote"]
        inject.send(self.lab, "attacker", replay)
        inject.send(self.lab, "attacker", forgery)

        def seen() -> bool:
            now = self._rejected()
            return all(now[kind] > before[kind] for kind in ("late", "forged"))

        wait_until(seen, 10, "the gateway counts both packets")
        if not self.page():
            raise LabError("the attack broke the tunnel")
        after = self._rejected()
        return Attack(
            forged=after["forged"] - before["forged"],
            replayed=after["late"] - before["late"],
            moved=self._child()["remote"] != remote,
        )

    def malformed(self) -> int:
        """How many packets of all captures tshark objects to."""
        return len(judge(merge(self._captures, self.lab.folder / "all.pcap")))

    # -- means -----------------------------------------------------------------------------

    def page(self, patience_s: int = 10) -> bool:
        """Whether the intranet's page loads on the device."""
        argv = ["curl", "-s", "-m", str(patience_s), PAGE]
        return "You have reached" in self.lab.run("device", argv, check=False).stdout

    def _write_configuration(self) -> None:
        folder = self.gateway.folder
        self.authority.gateway().write(folder, "gateway")
        (folder / "ca.crt").write_bytes(self.authority.root.certificate_pem())
        self.gateway.write_text(GATEWAY_TOML.format(folder=folder, outside=plan.GATEWAY_OUTSIDE))

    def _child(self) -> dict[str, Any]:
        items: list[dict[str, Any]] = self.gateway.call("child-sas")["items"]
        if not items:
            raise LabError(f"the tunnel is gone:\n{self.gateway.output()[-2000:]}")
        return items[0]

    def _rejected(self) -> Counter[str]:
        return planes.rejected(self.gateway.call("status")["dataplane"]["counters"])

    def _new(self, name: str) -> str:
        self._number += 1
        return f"{name}-{self._number}"

    def _capture(self, name: str) -> Capture:
        capture = self.lab.capture("gw", "outside", self._new(name))
        self._captures.append(capture.path)
        return capture

    @contextmanager
    def _streams(self) -> Iterator[Streams]:
        """A stream each way through the tunnel."""
        streams = Streams(self.lab, self._new("stream"))
        try:
            yield streams
        finally:
            streams.stop()


class Streams:
    """Numbered datagrams from the server to the device, which is measured, and the other way."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._receiver = start_receiver(lab, "device", f"{INNER}:9000", name=f"{name}-down-in")
        senders = {
            "down": ("server", f"{INNER}:9000"),
            "up": ("device", f"{plan.SERVER}:9001"),
        }
        self._senders = [
            start_sender(
                lab, host, to, rate=RATE, seconds=LONGEST_S, size=SIZE, name=f"{name}-{way}"
            )
            for way, (host, to) in senders.items()
        ]
        self.sent = 0

    def received(self, more: int) -> None:
        """Wait until that many more datagrams have arrived."""
        now = self._receiver.latest("received") or 0
        self._receiver.wait_for("received", now + more)

    def stop(self) -> None:
        """End both; safe to call twice."""
        for sender in self._senders:
            sender.process.stop()

    def result(self) -> dict[str, Any]:
        """What the receiver saw, after the last datagram has had time to arrive."""
        self.sent = self._senders[0].stop()["sent"]
        self.stop()
        return self._receiver.result()


def ike_messages(pcap: Path) -> int:
    """How many IKE messages a capture holds."""
    count = 0
    for packet in inject.ip_packets(pcap):
        payload = packet[(packet[0] & 15) * 4 :]
        ports = {int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")}
        if packet[9] == PROTOCOL_UDP:
            count += 500 in ports or (4500 in ports and payload[8:12] == NON_ESP_MARKER)
    return count


def overhead(pcap: Path) -> int:
    """Octets beyond the inner packet of the stream, from the packets on the wire."""
    sizes = Counter(
        len(packet)
        for packet in inject.ip_packets(pcap)
        if packet[12:16] == plan.GATEWAY_OUTSIDE.packed
        and INNER_OCTETS < len(packet) < 2 * INNER_OCTETS
    )
    if not sizes:
        raise LabError(f"{pcap} holds no packet of the stream")
    return sizes.most_common(1)[0][0] - INNER_OCTETS

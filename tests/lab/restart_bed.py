"""A gateway that ends and starts again under a device's traffic, and what must stay as it was."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interop_bed import Bed, inner_address, interop

from gateway.lab import plan
from gateway.lab.capture import dissect
from gateway.lab.measured import CHECKOUT, start_receiver, start_sender
from gateway.lab.processes import wait_until

RATE = 100.0
WAYS = ("stop", "kill", "upgrade")


class Streams:
    """Numbered datagrams both ways, until :meth:`lost`."""

    _numbers = itertools.count(1)

    def __init__(self, bed: Bed, inner: str) -> None:
        lab, name = bed.lab, f"stream{next(self._numbers)}"
        server = f"{plan.SERVER}:9000"
        self.receivers = (
            start_receiver(lab, "server", server, name=f"{name}-up", idle_s=3),
            start_receiver(lab, "device", f"{inner}:9001", name=f"{name}-down", idle_s=3),
        )
        self.senders = (
            start_sender(lab, "device", server, rate=RATE, seconds=600, name=f"{name}-1"),
            start_sender(lab, "server", f"{inner}:9001", rate=RATE, seconds=600, name=f"{name}-2"),
        )
        for receiver in self.receivers:
            receiver.wait_for("received", 10)

    def lost(self) -> int:
        """Datagrams that did not arrive, of both directions."""
        missing = 0
        for sender, receiver in zip(self.senders, self.receivers, strict=True):
            sent, seen = sender.stop()["sent"], receiver.result()
            # Ended between sending and counting, a sender has sent one more than it says.
            missing += seen["lost"] + max(0, sent - seen["highest"] - 1)
        return missing


class RestartBed:
    """The bed of the interoperation tests, and ways to end its gateway."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.restarts = 0
        self._other = Path(bed.lab.folder) / "other"

    def end(self, how: str) -> None:
        """``stop``: as a service manager does; ``kill``: without a warning."""
        if how == "kill":
            self.bed.gateway.kill()
        else:
            self.bed.gateway.hand_over()

    def start(self, how: str = "") -> None:
        """The next process; with ``upgrade`` of another checkout, whose rules are others."""
        gateway = self.bed.gateway
        if how == "upgrade":
            gateway.checkout = self._other_checkout()
            gateway._fresh = True
        else:
            gateway.checkout, gateway._fresh = CHECKOUT, False
        gateway.start()
        self.restarts += 1

    def restart(self, how: str) -> dict[str, Any]:
        """End it and start it; the only IKE SA of the next process."""
        self.end("kill" if how == "kill" else "stop")
        self.start(how)
        (ike,) = self.bed.ike_sas()
        return ike

    def _other_checkout(self) -> str:
        if not self._other.exists():
            ignored = shutil.ignore_patterns("dashboard")
            shutil.copytree(f"{CHECKOUT}/gateway", self._other / "gateway", ignore=ignored)
            for rules in (self._other / "gateway/dataplane/kernel").rglob("ruleset.nft"):
                rules.write_text(rules.read_text() + "\n# another version\n")
        return str(self._other)

    def connect(self, **load: Any) -> str:
        """Let the device in; its inner address."""
        return inner_address(self.bed.connect(**load))

    def clean(self) -> bool:
        """Whether no tunnel of ours is in the gateway's kernel."""
        states = self.bed.lab.states("gw")
        policies = self.bed.lab.policies("gw")
        command = ["nft", "list", "set", "inet", "gateway", "our_spi"]
        known = self.bed.lab.run("gw", command, check=False).stdout  # the kernel dataplane's
        return "proto esp" not in states and "dir out" not in policies and "elements" not in known

    def rekey_works(self) -> None:
        """Both SAs are renewed by the device, with keys and message ids that go on."""
        bed = self.bed
        (child,) = bed.child_sas()
        bed.device.rekey(child="net")

        def renewed() -> bool:
            sas = bed.child_sas()
            return len(sas) == 1 and sas[0]["spi_in"] != child["spi_in"]

        wait_until(renewed, 20, "another child SA")
        (ike,) = bed.ike_sas()
        bed.device.rekey(ike="gw")
        wait_until(
            lambda: (
                [one["id"] for one in bed.ike_sas()] not in ([], [ike["id"]])
                and len(bed.ike_sas()) == 1
            ),
            20,
            "another IKE SA",
        )
        assert bed.ping()


def sequences_rise(pcap: Path) -> int:
    """Whether ESP sequence numbers of each SA only rise; how many packets there were."""
    rows = dissect(pcap, "esp", ["esp.spi", "esp.sequence"])
    highest: dict[str, int] = {}
    for spi, sequence in rows:
        number = int(sequence)
        assert number > highest.get(spi, 0), f"SA {spi}: {number} after {highest[spi]}"
        highest[spi] = number
    return len(rows)


@contextmanager
def restart_bed(connections: str, **options: str) -> Iterator[RestartBed]:
    """The bed; its gateway says goodbye at the end."""
    with interop(connections, **options) as bed:
        yield RestartBed(bed)

"""TCP through our tunnel against a static `ip xfrm` tunnel over the same wires.

Two labs stand side by side in one kernel. In one, `gateway run` and strongSwan as the device made
the tunnel; in the other, two states and three policies on either side were typed in, and nothing
else runs. Suite, inner addresses and TCP segment size are the same.

An iperf3 transfer runs in each lab all the time, but only one at once: the other one's sender is
stopped. They take turns of a fraction of a second, because on a shared machine the processor
time that a kernel gets changes from one second to the next by more than what is looked for here.
"""

import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from bench.bed import INNER, INTRANET, connect_device, fresh_lab, reaches, start_gateway
from bench.measure import Bar, Pairs, Result, alternate, error, quartiles
from gateway.lab import plan
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

PAIRS = 50
MOST_PAIRS = 300
ERROR = 0.012
"""Pairs are added, fifty at a time, until the median is as sure as this."""
TURN_S = 0.3
RAMP_S = 0.05
"""At the start of each turn, not counted: TCP gets going again."""
QUIET_S = 0.01
"""A sender that was stopped has nothing left on its way when this long nothing arrives."""
SEGMENT = 1360
"""What our gateway clamps to; the other tunnel gets the same, so packets have the same size."""
SUITE = "aes256gcm16"
KEY_OCTETS = 32 + 4  # and its salt
SPI_IN, SPI_OUT = 0x1001, 0x1002
WINDOW = 32


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Both directions with AES-256-GCM."""
    with fresh_lab("tput0") as ours, fresh_lab("tput1") as static:
        start_gateway(ours, esp=SUITE)
        connect_device(ours, esp=SUITE)
        type_in(static)
        servers = [start_server(lab) for lab in (ours, static)]
        results = []
        for download in (False, True):
            transfers = [
                Transfer.start(lab, server, download=download)
                for lab, server in zip((ours, static), servers, strict=True)
            ]
            results.append(compare(transfers[0], transfers[1], download, say))
            for transfer in transfers:
                transfer.end()
        return results


@dataclass(frozen=True, slots=True)
class Transfer:
    """An iperf3 transfer whose sender only runs in its turns."""

    client: Process
    sender: Process
    counter: tuple[Process, str]
    """A process where the receiving end of the tunnel is, and the interface of the ESP packets."""

    @classmethod
    def start(cls, lab: Lab, server: Process, *, download: bool) -> "Transfer":
        """Start it; its sender is stopped when this returns."""
        argv = ["iperf3", "-c", str(plan.SERVER), "-B", INNER, "-M", str(SEGMENT), "-t", "0"]
        name = "download" if download else "upload"
        client = lab.spawn("device", [*argv, "--forceflush", *(["-R"] if download else [])], name)
        if download:
            transfer = cls(client, server, (client, "access1"))
        else:
            host = lab.spawn("gw", ["sleep", "infinity"], "counted")
            transfer = cls(client, client, (host, "outside"))

        def flows() -> bool:
            if not client.running():
                raise LabError(f"iperf3 ended: {client.output()}")
            return transfer.octets() > 2_000_000 and "Mbits/sec" in client.output()

        wait_until(flows, 30, "iperf3's first megabytes")
        transfer.pause()
        return transfer

    def octets(self) -> int:
        """What came out of the wire at the receiving end of the tunnel so far, ESP included."""
        process, interface = self.counter
        lines = Path(f"/proc/{process.pid}/net/dev").read_text().splitlines()
        named = [line.partition(":")[2] for line in lines if line.strip().startswith(interface)]
        return int(named[0].split()[0]) if named else 0  # not yet in its namespace

    def pause(self) -> None:
        """Stop the sender, and wait until nothing of it is on its way."""
        self.sender.signal(signal.SIGSTOP)
        before = -1
        while before != (before := self.octets()):
            time.sleep(QUIET_S)

    def turn(self) -> float:
        """Run for a turn; returns Mbit/s on the wire."""
        self.sender.signal(signal.SIGCONT)
        time.sleep(RAMP_S)
        first, began = self.octets(), time.monotonic()
        time.sleep(TURN_S)
        last, ended = self.octets(), time.monotonic()
        self.pause()
        if last == first:
            raise LabError(f"nothing arrived in a turn: {self.client.output()[-500:]}")
        return (last - first) * 8 / (ended - began) / 1e6

    def end(self) -> None:
        """End the transfer; the server stays for the next one."""
        self.sender.signal(signal.SIGCONT)
        self.client.stop()


def compare(ours: Transfer, static: Transfer, download: bool, say: Callable[[str], None]) -> Result:
    """One direction."""
    for transfer in (ours, static):
        transfer.turn()

    pairs = Pairs([], [])
    while not pairs.ours or (len(pairs.ours) < MOST_PAIRS and error(pairs.ratios) > ERROR):
        more = alternate(ours.turn, static.turn, PAIRS, lambda _text: None)
        pairs = Pairs(pairs.ours + more.ours, pairs.theirs + more.theirs)
        say(f"{len(pairs.ours)} pairs: {quartiles(pairs.ratios)}")
    return Result(
        f"throughput.{'download' if download else 'upload'}",
        pairs.ratio,
        "of static",
        Bar(0.97, at_least=True),
        {
            "ours_mbit_s": statistics.median(pairs.ours),
            "static_ip_xfrm_mbit_s": statistics.median(pairs.theirs),
            "ratio_of_totals": sum(pairs.ours) / sum(pairs.theirs),
        },
        f"Mbit/s, {pairs.scatter}; ratios {quartiles(pairs.ratios)},"
        f" of totals {sum(pairs.ours) / sum(pairs.theirs):.3f}",
    )


def type_in(lab: Lab) -> None:
    """The static tunnel between device and gw, as an administrator would set it up."""
    device, gateway = plan.ACCESSES["access1"].device.ip, plan.GATEWAY_OUTSIDE
    keys = [f"0x{os.urandom(KEY_OCTETS).hex()}" for _ in range(2)]
    states = "\n".join(
        f"xfrm state add src {source} dst {destination} proto esp spi {spi:#x} reqid 1"
        f" mode tunnel replay-window {WINDOW} aead rfc4106(gcm(aes)) {key} 128"
        for source, destination, spi, key in (
            (device, gateway, SPI_IN, keys[0]),
            (gateway, device, SPI_OUT, keys[1]),
        )
    )
    up = _policies(f"{INNER}/32", INTRANET, device, gateway)
    down = _policies(INTRANET, f"{INNER}/32", gateway, device)
    batch = f"{states}\n{up['out']}\n{down['in']}\n{down['fwd']}\n"
    batch += f"address add {INNER}/32 dev access1\n"
    batch += f"route add {INTRANET} via {plan.ACCESSES['access1'].router} src {INNER}\n"
    lab.run("device", ["ip", "-batch", "-"], stdin=batch)
    batch = f"{states}\n{down['out']}\n{up['in']}\n{up['fwd']}\n"
    lab.run("gw", ["ip", "-batch", "-"], stdin=batch)
    if not reaches(lab):
        raise LabError("the static tunnel does not carry a packet")


def _policies(
    source: str, destination: str, outer_source: IPv4Address, outer_destination: IPv4Address
) -> dict[str, str]:
    return {
        direction: f"xfrm policy add src {source} dst {destination} dir {direction} tmpl"
        f" src {outer_source} dst {outer_destination} proto esp reqid 1 mode tunnel"
        for direction in ("in", "fwd", "out")
    }


def start_server(lab: Lab) -> Process:
    """iperf3's server on the intranet's server."""
    server = lab.spawn("server", ["iperf3", "-s", "-B", str(plan.SERVER), "--forceflush"], "iperf3")
    wait_until(lambda: "listening" in server.output(), 20, "iperf3's server")
    return server

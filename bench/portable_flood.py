"""Garbage for one session, as fast as a processor can send it, and what another one notices.

``python -m bench.portable_flood FROM TO SPI``: ESP in UDP that looks like the peer's until it is
checked. Runs until it is ended and then writes how many packets it sent per second.
"""

import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from types import FrameType

from bench.batches import Batch, ipv4_address
from bench.measure import Bar, Result
from bench.portable_beat import BEAT_S, Beat, beating
from bench.portable_ends import DEVICE, SPIS, Ours, joined
from gateway.lab import plan
from gateway.lab.measured import CHECKOUT

AT_ONCE = 64
OCTETS = 100
NAT_PORT = 4500
SPI_AT = 20 + 8
UNKNOWN = "unknown"
"""In place of an SPI: another one for each packet."""
ROUNDS = 3
LEAST_ARRIVING = 0.999
SEQUENCE = 0x40000000
"""Ahead of what the session has reached, so that each packet has to be checked."""


def flood(say: Callable[[str], None]) -> list[Result]:
    """One process, two sessions: one of them is flooded, the other one has 10 Mbit/s."""
    tunnel = Ours(udp=True, workers=1, clients=2)
    quiet = Beat.none()
    spis = {"known": hex(SPIS[1] + 1), "unknown": UNKNOWN}
    flooded = {kind: Beat.none() for kind in spis}
    sent: dict[str, list[float]] = {kind: [] for kind in spis}
    with joined("flood", tunnel, apart=False) as lab:
        for number in range(ROUNDS):
            quiet += beating(lab, BEAT_S)
            for kind, spi in spis.items():
                argv = [sys.executable, "-m", "bench.portable_flood"]
                argv += [str(DEVICE), str(plan.GATEWAY_OUTSIDE), spi]
                name = f"flood-{kind}-{number}"
                generator = lab.spawn("device", argv, name, {"PYTHONPATH": CHECKOUT})
                flooded[kind] += beating(lab, BEAT_S)
                generator.stop()
                sent[kind].append(json.loads(generator.output())["per_s"])
    say(f"quiet: {quiet}")
    for kind, beat in flooded.items():
        say(f"{kind} SPIs, {min(sent[kind]):.0f}/s: {beat}")
    return [_result(kind, beat, quiet, min(sent[kind])) for kind, beat in flooded.items()]


def _result(kind: str, flooded: Beat, quiet: Beat, per_s: float) -> Result:
    return Result(
        f"portable.flood.{kind}",
        flooded.arrived,
        "arrive",
        Bar(LEAST_ARRIVING, at_least=True),
        {
            "garbage_per_s": per_s,
            "median_ms": flooded.median_ms,
            "late_ms": flooded.late_ms,
            "quiet_arrived": quiet.arrived,
            "quiet_median_ms": quiet.median_ms,
            "quiet_late_ms": quiet.late_ms,
            "load_average": os.getloadavg()[0],
        },
    )


def packet(source: IPv4Address, to: IPv4Address, spi: int) -> bytes:
    """One of them; all are alike."""
    garbage = struct.pack("!II", spi, SEQUENCE) + os.urandom(OCTETS)
    udp = struct.pack("!4H", NAT_PORT, NAT_PORT, 8 + len(garbage), 0)
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 28 + len(garbage), 0, 0, 64, socket.IPPROTO_UDP, 0,
        source.packed, to.packed,
    )  # fmt: skip
    return header + udp + garbage


def main(source: str, to: str, spi: str) -> None:
    """Entry point."""
    sent = 0
    began = time.monotonic()

    def end(_number: int, _frame: FrameType | None) -> None:
        print(json.dumps({"per_s": sent / (time.monotonic() - began)}), flush=True)
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    octets = packet(IPv4Address(source), IPv4Address(to), 0 if spi == UNKNOWN else int(spi, 0))
    batch = Batch(octets, AT_ONCE, ipv4_address(IPv4Address(to).packed, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        while True:
            if spi == UNKNOWN:
                fresh = os.urandom(4 * AT_ONCE)
                for number in range(AT_ONCE):
                    at = number * len(octets) + SPI_AT
                    batch.octets[at : at + 4] = fresh[4 * number : 4 * number + 4]
            sent += batch.send(sock)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A generator of spoofed datagrams: each from another source, with other octets where told.

Run as ``python -m bench.spoofed``, inside the network namespace they come from; writes one JSON
object. Raw sockets and sendmmsg(2), so that most of its processor's time is the kernel's.
"""

import argparse
import contextlib
import json
import os
import socket
import struct
import time
from ipaddress import IPv4Address
from pathlib import Path

from bench.batches import Batch, ipv4_address

AT_ONCE = 64
IP_OCTETS, UDP_OCTETS = 20, 8
SOURCES = 16
"""The first octet of all sources: 16.0.0.0/8."""
RANDOM_OCTETS = 3 + 2 + 8 + 16
"""Of each datagram: source, port, initiator SPI, the beginning of the nonce."""


NICE = -20


def settle(processor: int) -> None:
    """Run on one processor, before what else the machine does: that is not what is measured."""
    os.sched_setaffinity(0, {processor})
    with contextlib.suppress(OSError):
        os.nice(NICE)
        # Where the kernel shares processors among sessions first, that alone does nothing.
        Path("/proc/self/autogroup").write_text(str(NICE))


class Spoofer:
    """Sends copies of one IKE message to ``to``, 64 at a time."""

    def __init__(self, message: bytes, nonce_at: int, to: IPv4Address, port: int) -> None:
        self._nonce_at = IP_OCTETS + UDP_OCTETS + nonce_at
        udp = struct.pack("!4H", 0, port, UDP_OCTETS + len(message), 0)
        ip = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, bytes(4), to.packed
        )
        packet = ip + udp + message
        self._size = len(packet)
        self._batch = Batch(packet, AT_ONCE, ipv4_address(to.packed, port))
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def send(self) -> int:
        """Send another 64; returns how many went."""
        octets, size, nonce_at = self._batch.octets, self._size, self._nonce_at
        fresh = os.urandom(RANDOM_OCTETS * AT_ONCE)
        at = source = 0
        for _ in range(AT_ONCE):
            octets[at + 12] = SOURCES
            octets[at + 13 : at + 16] = fresh[source : source + 3]
            octets[at + 20 : at + 22] = fresh[source + 3 : source + 5]
            octets[at + 28 : at + 36] = fresh[source + 5 : source + 13]
            octets[at + nonce_at : at + nonce_at + 16] = fresh[source + 13 : source + 29]
            at += size
            source += RANDOM_OCTETS
        return self._batch.send(self._sock)


def run(spoofer: Spoofer, per_s: float, seconds: float) -> dict[str, float]:
    """Send at a rate for a time."""
    sent = 0
    began, used = time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - began) < seconds:
        if sent < passed * per_s:
            sent += spoofer.send()
        else:
            time.sleep(0.0005)
    took = time.perf_counter() - began
    share = (time.process_time() - used) / took
    return {"sent": sent, "per_s": sent / took, "processor_share": share}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("to", type=IPv4Address)
    parser.add_argument("--message", required=True, help="hexadecimal")
    parser.add_argument("--nonce-at", type=int, required=True, help="offset of octets to change")
    parser.add_argument("--per-s", type=float, default=55_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--processor", type=int)
    given = parser.parse_args()
    if given.processor is not None:
        settle(given.processor)
    spoofer = Spoofer(bytes.fromhex(given.message), given.nonce_at, given.to, 500)
    print(json.dumps(run(spoofer, given.per_s, given.seconds)))


if __name__ == "__main__":
    main()

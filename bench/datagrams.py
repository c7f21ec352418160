"""Small datagrams as fast as they arrive, and datagrams at a steady rate with their delays.

``python -m bench.datagrams sink BIND FILE`` counts into FILE and acknowledges; ``source BIND TO``
keeps a window of them on the way, so that the slowest part sets the rate and nothing is lost in
queues. ``beat BIND TO SECONDS`` sends 10 Mbit/s; ``delays BIND`` writes at its end, as JSON, how
long each datagram took: ends on one machine have one clock.
"""

import contextlib
import json
import mmap
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from types import FrameType

from bench.batches import Batch

NUMBER = struct.Struct(">Q")
SMALL = 64
"""Octets of a small datagram, without its headers."""
WINDOW = 384
"""Below the 500 packets that a TUN interface queues."""
AT_ONCE = 32
LOST_S = 0.02
"""Without an acknowledgement for so long, what is on its way is taken for lost."""

SO_TIMESTAMPNS = 35
BEAT_OCTETS = 1250
BEAT_RATE = 1000.0
"""Together 10 Mbit/s."""


def sink(sock: socket.socket, file: str) -> None:
    """Count datagrams into a file of eight octets that is there, until the process is ended."""
    with Path(file).open("r+b") as opened, mmap.mmap(opened.fileno(), NUMBER.size) as counter:
        batch = Batch(bytes(SMALL), AT_ONCE)
        _, source = sock.recvfrom(SMALL)
        sock.connect(source)
        total = unacknowledged = 0
        print("counting", flush=True)
        while True:
            count = batch.receive(sock)
            total += count
            unacknowledged += count
            NUMBER.pack_into(counter, 0, total)
            if unacknowledged >= AT_ONCE:
                unacknowledged = 0
                newest = batch.octets[(count - 1) * SMALL : count * SMALL]
                with contextlib.suppress(OSError):
                    sock.send(newest[: NUMBER.size])


def source(sock: socket.socket) -> None:
    """Keep a window of datagrams on the way, until the process is ended."""
    batch = Batch(bytes(SMALL), AT_ONCE)
    waiting = select.poll()
    waiting.register(sock.fileno(), select.POLLIN)
    sent = acknowledged = 0
    while True:
        if sent - acknowledged <= WINDOW - AT_ONCE:
            for number in range(AT_ONCE):
                NUMBER.pack_into(batch.octets, number * SMALL, sent + number)
            batch.send(sock)
            sent += AT_ONCE
        elif not waiting.poll(LOST_S * 1000):
            acknowledged = sent
        with contextlib.suppress(OSError):
            while True:
                (newest,) = NUMBER.unpack(sock.recv(NUMBER.size, socket.MSG_DONTWAIT))
                acknowledged = max(acknowledged, newest + 1)


def beat(sock: socket.socket, seconds: float) -> None:
    """Send numbered datagrams at a steady rate; each has the time in it."""
    began = time.monotonic()
    for number in range(int(seconds * BEAT_RATE)):
        wait_s = began + number / BEAT_RATE - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        packed = NUMBER.pack(number) + NUMBER.pack(time.time_ns())
        with contextlib.suppress(OSError):
            sock.send(packed.ljust(BEAT_OCTETS, b"\0"))


def delays(sock: socket.socket) -> None:
    """Until SIGTERM; then write the delays in microseconds, by the kernel's time of arrival."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    found: list[float] = []

    def end(_number: int, _frame: FrameType | None) -> None:
        print(json.dumps(found), flush=True)
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    print("listening", flush=True)
    while True:
        data, ancillary, _, _ = sock.recvmsg(2048, 64)
        for _, _, value in ancillary:
            whole, nanos = struct.unpack("=qq", value)
            (left,) = NUMBER.unpack_from(data, NUMBER.size)
            found.append((whole * 1_000_000_000 + nanos - left) / 1000)


def address(text: str) -> tuple[str, int]:
    """HOST:PORT."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(role: str, bind: str, *rest: str) -> None:
    """Entry point."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(address(bind))
        if role in {"source", "beat"}:
            sock.connect(address(rest[0]))
        if role == "sink":
            sink(sock, rest[0])
        elif role == "source":
            source(sock)
        elif role == "beat":
            beat(sock, float(rest[1]))
        else:
            delays(sock)


if __name__ == "__main__":
    main(*sys.argv[1:])

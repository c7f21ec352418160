"""Measured traffic: a download and streams of numbered datagrams (`python -m gateway.lab.traffic`).

Each command runs on a host of the lab and writes lines of JSON: progress while it runs, the
result at the end, also when it is ended by a signal. Times are CLOCK_REALTIME in seconds, so
that they can be laid beside the time of a move; gaps come from the kernel's receive timestamps
where there are any, so a busy processor does not widen them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass, field
from types import FrameType
from urllib.parse import urlsplit

SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
STREAM = struct.Struct(">Qd")  # number of the datagram, time it was sent
PROGRESS_S = 0.1
NOTEWORTHY_GAP_S = 0.02
FIRST_S = 30.0
MAX_GAPS = 100


class _Ended(Exception):  # noqa: N818 - not an error
    """A signal asks for the result."""


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Ended


@dataclass(slots=True)
class Gaps:
    """Pauses between arrivals."""

    max_gap_ms: float = 0.0
    max_gap_at: float = 0.0
    """When the longest pause began."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """Begin and length in ms of every pause longer than 20 ms, the first hundred."""
    _last: float | None = None

    def arrival(self, now: float) -> None:
        """Something arrived."""
        if self._last is not None:
            gap_s = now - self._last
            if gap_s * 1000 > self.max_gap_ms:
                self.max_gap_ms, self.max_gap_at = gap_s * 1000, self._last
            if gap_s > NOTEWORTHY_GAP_S and len(self.gaps) < MAX_GAPS:
                self.gaps.append((self._last, gap_s * 1000))
        self._last = now

    def report(self) -> dict[str, object]:
        """JSON-able values."""
        return {"max_gap_ms": self.max_gap_ms, "max_gap_at": self.max_gap_at, "gaps": self.gaps}


@dataclass(slots=True)
class StreamCount:
    """Which datagrams of a numbered stream arrived."""

    received: int = 0
    duplicates: int = 0
    reordered: int = 0
    highest: int = -1
    first_at: float = 0.0
    last_at: float = 0.0
    _seen: set[int] = field(default_factory=set)

    def arrival(self, number: int, now: float) -> None:
        """Datagram `number` arrived."""
        if number in self._seen:
            self.duplicates += 1
            return
        self._seen.add(number)
        self.received += 1
        self.reordered += number < self.highest
        self.highest = max(self.highest, number)
        self.first_at = self.first_at or now
        self.last_at = now

    def report(self) -> dict[str, object]:
        """JSON-able values; `lost` counts up to the highest number seen."""
        values = asdict(self)
        del values["_seen"]
        missing = sorted(set(range(self.highest + 1)) - self._seen)
        return {**values, "lost": len(missing), "missing": missing[:MAX_GAPS]}


def _write(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def download(url: str, seconds: float | None) -> None:
    """Fetch `url` for `seconds` (until a signal without), with progress and gaps."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    gaps, total, shown = Gaps(), 0, 0.0
    started = time.time()
    error = None
    try:
        with socket.create_connection((host, port), timeout=30) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            while seconds is None or time.time() - started < seconds:
                data = connection.recv(1 << 16)
                now = time.time()
                if not data:
                    break
                total += len(data)
                gaps.arrival(now)
                if now - shown >= PROGRESS_S:
                    shown = now
                    _write(at=now, bytes=total)
    except OSError as problem:
        error = str(problem)
    except _Ended:
        pass
    _write(
        result="download", bytes=total, seconds=time.time() - started, error=error, **gaps.report()
    )


def send(to: tuple[str, int], rate: float, seconds: float, size: int) -> None:
    """Send numbered datagrams at `rate` per second."""
    filler = bytes(max(0, size - STREAM.size))
    count, refused = 0, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        started = time.monotonic()
        try:
            while (elapsed := time.monotonic() - started) < seconds:
                due = int(elapsed * rate) + 1
                while count < due:
                    try:
                        sock.sendto(STREAM.pack(count, time.time()) + filler, to)
                    except OSError:  # no route at the moment of a move: lost, and counted
                        refused += 1
                    count += 1
                time.sleep(max(0.0, started + count / rate - time.monotonic()))
        except _Ended:
            pass
    _write(result="send", sent=count, refused=refused)


def _receive(sock: socket.socket, idle_s: float, count: StreamCount, gaps: Gaps) -> None:
    """Take datagrams until none came for `idle_s` (`FIRST_S` for the first), or a signal."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    # What a busy processor makes us late for is not lost: the network's losses are meant.
    with contextlib.suppress(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    sock.settimeout(idle_s)
    shown = 0.0
    begun = time.monotonic()
    while True:
        try:
            data, ancillary, _, _ = sock.recvmsg(2048, 64)
        except TimeoutError:
            if count.received or time.monotonic() - begun > FIRST_S:
                return
            continue
        except ConnectionError:
            continue
        now = time.time()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(value) == 16:
                whole, nanos = struct.unpack("=qq", value)
                now = whole + nanos / 1e9
        if len(data) >= STREAM.size:
            count.arrival(STREAM.unpack_from(data)[0], now)
            gaps.arrival(now)
        if now - shown >= PROGRESS_S:
            shown = now
            _write(at=now, received=count.received)


def receive(bind: tuple[str, int], idle_s: float) -> None:
    """Receive a numbered stream."""
    count, gaps = StreamCount(), Gaps()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(bind)
        _write(ready=True)
        with contextlib.suppress(_Ended):
            _receive(sock, idle_s, count, gaps)
    _write(result="receive", **count.report(), **gaps.report())


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="measured traffic")
    commands = parser.add_subparsers(dest="command", required=True)
    each = commands.add_parser("download")
    each.add_argument("url")
    each.add_argument("--seconds", type=float)
    each = commands.add_parser("send")
    each.add_argument("to", type=_address, metavar="HOST:PORT")
    each.add_argument("--rate", type=float, default=1000.0)
    each.add_argument("--seconds", type=float, default=5.0)
    each.add_argument("--size", type=int, default=200)
    each = commands.add_parser("receive")
    each.add_argument("bind", type=_address, metavar="HOST:PORT")
    each.add_argument("--idle", type=float, default=2.0, metavar="SECONDS")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    match given.command:
        case "download":
            download(given.url, given.seconds)
        case "send":
            send(given.to, given.rate, given.seconds, given.size)
        case _:
            receive(given.bind, given.idle)


if __name__ == "__main__":
    main()

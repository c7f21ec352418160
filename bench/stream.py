"""One end of a two-way stream of numbered datagrams that remembers when each left and came.

``python -m bench.stream BIND TO FILE``: sends to TO between SIGUSR1 and SIGUSR2, receives always,
and writes FILE on SIGHUP. Arrival times are the kernel's, so a busy processor does not widen
them. It stands back behind the gateway, with which it would not share a processor in real life.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

SO_TIMESTAMPNS = 35
NUMBER = struct.Struct(">Q")
SIZE = 200
NICE = 10
RATE = 1000.0
IDLE_S = 0.02
MAX_BURST = 50
"""After a pause of the machine the stream does not make up for more than this many datagrams."""


@dataclass(slots=True)
class End:
    """What this end sent and received; times in seconds of CLOCK_REALTIME."""

    sock: socket.socket
    to: tuple[str, int]
    sent: list[float] = field(default_factory=list)
    """By number."""
    received: list[tuple[int, float]] = field(default_factory=list)
    sending: bool = False
    ended: bool = False
    asked: bool = False
    """Somebody wants to read what there is so far."""
    _next: float = 0.0

    def signalled(self, number: int, _frame: FrameType | None) -> None:
        """Signal handler."""
        # Signals that came together are handled together: one must not undo another.
        self.asked |= number == signal.SIGHUP
        self.ended |= number == signal.SIGTERM
        if number in {signal.SIGUSR1, signal.SIGUSR2}:
            self.sending = number == signal.SIGUSR1
            self._next = time.monotonic()

    def run(self, file: Path) -> None:
        """Until SIGTERM."""
        while not self.ended:
            # What arrives meanwhile waits, with its time: half as many wake-ups.
            wait_s = self._next - time.monotonic() if self.sending else IDLE_S
            if wait_s > 0:
                time.sleep(wait_s)
            self._send_due()
            self._receive()
            if self.asked:
                self.asked = False
                written = file.with_suffix(".new")
                written.write_text(json.dumps({"sent": self.sent, "received": self.received}))
                written.replace(file)

    def _send_due(self) -> None:
        now = time.monotonic()
        self._next = max(self._next, now - MAX_BURST / RATE)
        while self.sending and self._next <= now:
            number = NUMBER.pack(len(self.sent))
            self.sent.append(time.time())
            with contextlib.suppress(OSError):  # no route at the moment of a move: it is lost
                self.sock.sendto(number + bytes(SIZE - NUMBER.size), self.to)
            self._next += 1 / RATE

    def _receive(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self.sock.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about an earlier datagram
                continue
            at = time.time()
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    whole, nanos = struct.unpack("=qq", value)
                    at = whole + nanos / 1e9
            self.received.append((NUMBER.unpack_from(data)[0], at))


def address(text: str) -> tuple[str, int]:
    """HOST:PORT."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(bind: str, to: str, file: str) -> None:
    """Entry point."""
    os.nice(NICE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(address(bind))
        sock.setblocking(False)
        end = End(sock, address(to))
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, end.signalled)
        print("ready", flush=True)
        end.run(Path(file))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What tcpdump does for the lab, for who is root in a user namespace only: tcpdump gives up there.

`python -m gateway.lab.record INTERFACE FILE FILTER` writes a pcap file until it is ended. tcpdump
still compiles the filter. Said and asked as tcpdump does: that it listens, and on SIGUSR1 how many
packets it has seen.
"""

from __future__ import annotations

import ctypes
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ETH_P_ALL = 3
SO_ATTACH_FILTER = 26
LINK_ETHERNET = 1
MAX_FRAME = 1 << 18
INSTRUCTION = struct.Struct("=HBBI")


def needed() -> bool:
    """Whether tcpdump cannot take the user and the groups that it wants."""
    return Path("/proc/self/setgroups").read_text("ascii").strip() == "deny"


def main() -> None:
    """Entry point."""
    interface, path, *filtered = sys.argv[1:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as frames:
        frames.bind((interface, ETH_P_ALL))
        if filtered:
            _attach(frames, interface, filtered)
        _record(frames, Path(path))


def _attach(frames: socket.socket, interface: str, words: list[str]) -> None:
    """Let the kernel keep what a filter lets pass."""
    argv = ["tcpdump", "-ddd", "-i", interface, *words]
    listing = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\n")
    code = b"".join(INSTRUCTION.pack(*map(int, line.split())) for line in listing[1:] if line)
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(code) // INSTRUCTION.size, ctypes.addressof(kept))
    frames.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def _record(frames: socket.socket, path: Path) -> None:
    seen = 0
    readable, writable = socket.socketpair()
    writable.setblocking(False)
    signal.set_wakeup_fd(writable.fileno())
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with path.open("wb", buffering=0) as out:
        out.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, MAX_FRAME, LINK_ETHERNET))
        _say(f"listening on {frames.getsockname()[0]}")
        while True:
            ready, _, _ = select.select([frames, readable], [], [])
            if frames in ready:
                frame = frames.recv(MAX_FRAME)
                now = time.time_ns() // 1000
                head = struct.pack("=IIII", now // 10**6, now % 10**6, len(frame), len(frame))
                out.write(head + frame)
                seen += 1
            elif signal.SIGUSR1 not in readable.recv(64):
                return
            else:
                _say(f"{seen} packets captured, {seen} packets received by filter")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()

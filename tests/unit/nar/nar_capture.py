"""A TCP conversation as a capture, for tshark."""

import struct
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

from gateway.domain.checksum import internet_checksum

CLIENT, SERVER = IPv4Address("10.0.0.7"), IPv4Address("10.0.0.1")
CLIENT_PORT, SERVER_PORT = 40_000, 1080
LUA = Path(__file__).parents[2] / "lab" / "nar.lua"
_SYN, _ACK, _PUSH = 0x02, 0x10, 0x08


class Capture:
    """Octets of both directions, one segment per call."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / "capture.pcap"
        self._sequence = {True: 1000, False: 5000}
        self._frames: list[bytes] = []
        self._segment(True, b"", _SYN)
        self._segment(False, b"", _SYN | _ACK)

    def client(self, octets: bytes) -> "Capture":
        """From the client."""
        self._segment(True, octets, _ACK | _PUSH)
        return self

    def server(self, octets: bytes) -> "Capture":
        """From the server."""
        self._segment(False, octets, _ACK | _PUSH)
        return self

    def fields(self, *names: str, lua: bool = True, display_filter: str = "tcp") -> list[list[str]]:
        """These fields of every frame with octets in it."""
        pcap = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
        records = (struct.pack("<IIII", 1, 0, len(f), len(f)) + f for f in self._frames)
        self._path.write_bytes(pcap + b"".join(records))
        script = ["-X", f"lua_script:{LUA}"] if lua else []
        wanted = [word for name in names for word in ("-e", name)]
        which = f"tcp.len > 0 && ({display_filter})"
        run = subprocess.run(
            ["tshark", "-n", *script, "-r", str(self._path), "-Y", which, "-T", "fields", *wanted],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self._path.parent), "LC_ALL": "C.UTF-8"},
        )
        if "Lua" in run.stderr:
            raise AssertionError(run.stderr)
        return [line.split("\t") for line in run.stdout.splitlines()]

    def objections(self, *, lua: bool = True) -> list[str]:
        """What tshark finds wrong."""
        suspicious = "_ws.malformed || _ws.expert.severity == error"
        return [
            "; ".join(row)
            for row in self.fields("_ws.expert.message", lua=lua, display_filter=suspicious)
        ]

    def _segment(self, from_client: bool, octets: bytes, flags: int) -> None:
        ends = (CLIENT_PORT, SERVER_PORT) if from_client else (SERVER_PORT, CLIENT_PORT)
        here, there = self._sequence[from_client], self._sequence[not from_client]
        tcp = struct.pack("!HHIIBBHHH", *ends, here, there, 0x50, flags, 65535, 0, 0) + octets
        addresses = (CLIENT, SERVER) if from_client else (SERVER, CLIENT)
        source, destination = (address.packed for address in addresses)
        size = 20 + len(tcp)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 1, 0, 64, 6, 0, source, destination)
        checksum = internet_checksum(head).to_bytes(2, "big")
        self._frames.append(head[:10] + checksum + head[12:] + tcp)
        self._sequence[from_client] += len(octets) + (1 if flags & _SYN else 0)

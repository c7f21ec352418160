"""The IPv4 addresses of this host, asked of the kernel; no privilege is needed."""

import contextlib
import fcntl
import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path

_SIOCGIFADDR = 0x8915
_NAME_OCTETS = 16


def address_of(interface: str) -> IPv4Address | None:
    """The main address of an interface; None while it has none, or is not there."""
    asked = struct.pack("16s16x8x", interface.encode()[: _NAME_OCTETS - 1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, asked)
        except OSError:
            return None
    return IPv4Address(answer[20:24])


def addresses_in_use(net: Path = Path("/proc/self/net")) -> frozenset[IPv4Address]:
    """All local addresses: leaves of the local trie in ``fib_trie``."""
    found: set[IPv4Address] = set()
    with contextlib.suppress(OSError):
        address = ""
        for line in (net / "fib_trie").read_text().splitlines():
            word = line.strip()
            if word.startswith("|-- "):
                address = word.removeprefix("|-- ")
            elif word == "/32 host LOCAL":
                with contextlib.suppress(ValueError):
                    found.add(IPv4Address(address))
    return frozenset(found)

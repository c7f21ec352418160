"""What draft 000, section 4, asks of a remote host: it is no router, and it offers nothing.

Unsolicited packets are refused by the kernel switch; here is what that rests on: forwarding is off,
and the services that listen where others could reach them are named to the user.
"""

import contextlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.mobility.constants import FOU_PORT
from gateway.domain.mobility import MIP_PORT

MAX_LINES: Final = 4096
_LISTENING: Final = "0A"
_BOUND: Final = "07"
"""State of a UDP socket without a peer."""
_FORWARDING: Final = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
)
_TABLES: Final = (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp"))
OUR_PORTS: Final = frozenset(("udp", port) for port in (MIP_PORT, 500, 4500, FOU_PORT, 68, 546))
"""Of the node itself and of DHCP clients."""


@dataclass(frozen=True, slots=True, order=True)
class OpenService:
    """A socket that takes packets from other hosts."""

    protocol: str
    port: int
    address: str

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port} on {self.address}"


def open_services(root: Path = Path("/")) -> list[OpenService]:
    """Sockets of this host's network namespace that listen on more than loopback."""
    found: set[OpenService] = set()
    for table, protocol in _TABLES:
        try:
            with (root / "proc/net" / table).open() as file:
                lines = file.readlines(MAX_LINES * 160)[1 : MAX_LINES + 1]
        except OSError:
            continue
        for line in lines:
            service = _service(line, protocol)
            if service is not None:
                found.add(service)
    return sorted(found)


def _service(line: str, protocol: str) -> OpenService | None:
    fields = line.split()
    if len(fields) < 4 or fields[3] != (_LISTENING if protocol == "tcp" else _BOUND):
        return None
    host, _, port = fields[1].partition(":")
    try:
        address = _address(bytes.fromhex(host))
        number = int(port, 16)
    except ValueError:
        return None
    if address.is_loopback or (protocol, number) in OUR_PORTS:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None and mapped.is_loopback:
        return None
    return OpenService(protocol, number, str(mapped or address))


def _address(octets: bytes) -> IPv4Address | IPv6Address:
    """The kernel prints words in the host's order."""
    swapped = b"".join(octets[at : at + 4][::-1] for at in range(0, len(octets), 4))
    return IPv4Address(swapped) if len(swapped) == 4 else IPv6Address(swapped)


def forwards(root: Path = Path("/")) -> bool:
    """Whether this host passes packets of others on; the node's dataplane turns that off."""
    for name in _FORWARDING:
        with contextlib.suppress(OSError):
            if (root / "proc/sys" / name).read_text().strip() not in {"", "0"}:
                return True
    return False

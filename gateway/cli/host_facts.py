"""What a host says of itself: interfaces, default route, name servers."""

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from gateway.cli.interface_addresses import address_of
from gateway.dataplane.kernel.routes_in_use import Route, routes_in_use

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Host:
    """What this host says of itself."""

    name: str
    routes: tuple[Route, ...]
    default_interface: str | None
    name_servers: tuple[str, ...]
    address_of: Callable[[str], IPv4Address | None]

    @property
    def interfaces(self) -> list[str]:
        """Those with an IPv4 route."""
        found = dict.fromkeys(r.interface for r in self.routes if r.network.version == 4)
        if self.default_interface is not None:
            found[self.default_interface] = None
        return list(found)

    def networks_of(self, interface: str) -> list[IPv4Network]:
        """Networks behind an interface."""
        return [
            r.network
            for r in self.routes
            if r.interface == interface and isinstance(r.network, IPv4Network)
        ]


def look_around(net: Path = Path("/proc/self/net"), etc: Path = Path("/etc")) -> Host:
    """What this host has."""
    full = socket.getfqdn()
    name = full if "." in full and not full.startswith("localhost") else socket.gethostname()
    return Host(
        name if HOST_NAME.fullmatch(name) else "gateway",
        tuple(routes_in_use(net)),
        _default_interface(net),
        _name_servers(etc),
        address_of,
    )


def _default_interface(net: Path) -> str | None:
    try:
        lines = (net / "route").read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        columns = line.split()
        if len(columns) > 7 and columns[1] == "00000000" and columns[7] == "00000000":
            return columns[0]
    return None


def _name_servers(etc: Path) -> tuple[str, ...]:
    try:
        lines = (etc / "resolv.conf").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1])
            except ValueError:
                continue
            if not address.is_loopback:
                found.append(str(address))
    return tuple(found[:3])

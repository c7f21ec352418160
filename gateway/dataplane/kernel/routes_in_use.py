"""The routes in use, from ``/proc/net``; reading them needs no privilege."""

import contextlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from gateway.domain.child_sa import IpNetwork

_RTF_UP = 1
_RTF_REJECT = 0x200


@dataclass(frozen=True, slots=True)
class Route:
    """A destination and the interface it leaves by."""

    network: IpNetwork
    interface: str
    connected: bool = True
    """The network is on the interface's link; False: it is behind a router."""


def parse_ipv4(table: str) -> list[Route]:
    """Routes of ``/proc/net/route``, without those that refuse: little-endian hexadecimal words."""
    routes = []
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8 or int(columns[3], 16) & (_RTF_UP | _RTF_REJECT) != _RTF_UP:
            continue
        address = IPv4Address(bytes.fromhex(columns[1])[::-1])
        prefix = int(columns[7], 16).bit_count()
        network = IPv4Network((address, prefix), strict=False)
        routes.append(Route(network, columns[0], columns[2] == "00000000"))
    return routes


def parse_ipv6(table: str) -> list[Route]:
    """Routes of ``/proc/net/ipv6_route``, without those that refuse."""
    routes = []
    for line in table.splitlines():
        columns = line.split()
        if len(columns) < 10 or int(columns[8], 16) & _RTF_REJECT:
            continue
        address = IPv6Address(bytes.fromhex(columns[0]))
        network = IPv6Network((address, int(columns[1], 16)), strict=False)
        routes.append(Route(network, columns[9], not columns[4].strip("0")))
    return routes


def routes_in_use(net: Path = Path("/proc/self/net")) -> list[Route]:
    """All routes of the main tables except the default routes and those over loopback."""
    routes: list[Route] = []
    with contextlib.suppress(OSError):
        routes += parse_ipv4((net / "route").read_text())
    with contextlib.suppress(OSError):
        routes += parse_ipv6((net / "ipv6_route").read_text())
    return [r for r in routes if r.network.prefixlen and r.interface != "lo"]

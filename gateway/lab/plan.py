r"""The topology as data: hosts, wires between them, addresses (RFC 5737 and RFC 1918 ranges).

    device --- access1 --\
           --- access2 ----- internet --- gw --- server
           --- nat -------/      |
                              attacker

The three access networks belong to the device; it uses one of them, or two while it changes.
`nat` is a router that translates; the others route. `gw` is the gateway's host in the DMZ.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a wire: the host, the interface's name there, its address."""

    host: str
    interface: str
    address: IPv4Interface


@dataclass(frozen=True, slots=True)
class Access:
    """One way of the device into the internet; the interface on the device has the same name."""

    name: str
    device: IPv4Interface
    router: IPv4Address


HOSTS = ("internet", "access1", "access2", "nat", "gw", "server", "device", "attacker")

ACCESSES = {
    "access1": Access("access1", IPv4Interface("198.51.100.10/24"), IPv4Address("198.51.100.1")),
    "access2": Access("access2", IPv4Interface("203.0.113.10/24"), IPv4Address("203.0.113.1")),
    "nat": Access("nat", IPv4Interface("192.168.77.10/24"), IPv4Address("192.168.77.1")),
}

GATEWAY_OUTSIDE = IPv4Address("192.0.2.1")
GATEWAY_INSIDE = IPv4Address("10.1.0.1")
SERVER = IPv4Address("10.1.0.10")
ATTACKER = IPv4Address("192.0.2.194")
NAT_PUBLIC = tuple(IPv4Address(f"192.0.2.{last}") for last in (130, 131, 132, 133))
NAT_PORTS_PER_MAPPING = 1000
NAT_FIRST_PORT = 20000


def _port(host: str, interface: str, address: str) -> Port:
    return Port(host, interface, IPv4Interface(address))


WIRES: tuple[tuple[Port, Port], ...] = (
    (_port("internet", "dmz", "192.0.2.2/28"), _port("gw", "outside", "192.0.2.1/28")),
    (_port("gw", "inside", "10.1.0.1/24"), _port("server", "intranet", "10.1.0.10/24")),
    (_port("internet", "access1", "192.0.2.65/30"), _port("access1", "uplink", "192.0.2.66/30")),
    (_port("internet", "access2", "192.0.2.69/30"), _port("access2", "uplink", "192.0.2.70/30")),
    (_port("internet", "nat", "192.0.2.129/26"), _port("nat", "uplink", "192.0.2.130/26")),
    (
        _port("internet", "attacker", "192.0.2.193/26"),
        _port("attacker", "uplink", "192.0.2.194/26"),
    ),
    *(
        (
            Port("device", access.name, access.device),
            Port(access.name, "device", IPv4Interface((access.router, 24))),
        )
        for access in ACCESSES.values()
    ),
)

DEFAULT_ROUTES = {
    "gw": IPv4Address("192.0.2.2"),
    "server": GATEWAY_INSIDE,
    "access1": IPv4Address("192.0.2.65"),
    "access2": IPv4Address("192.0.2.69"),
    "nat": IPv4Address("192.0.2.129"),
    "attacker": IPv4Address("192.0.2.193"),
}

INTERNET_ROUTES = {
    "198.51.100.0/24": IPv4Address("192.0.2.66"),
    "203.0.113.0/24": IPv4Address("192.0.2.70"),
}

ROUTERS = frozenset({"internet", "access1", "access2", "nat", "gw"})

ROUTES: dict[str, dict[str, IPv4Address]] = {
    **{host: {"default": router} for host, router in DEFAULT_ROUTES.items()},
    "internet": INTERNET_ROUTES,
}
"""Of each host: network, or "default", to router."""

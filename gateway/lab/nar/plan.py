r"""The model of draft 004 section 2.1 as data, with the draft's names where it has some.

    x1 ----\                                                   /-- y   (Yb, two addresses)
    x2 ----- lan (a switch) --- n --- 203.0.113.0/24 --- internet -- ha  (home agent)
    legacy -/    Na 10.50.0.1     Nb 203.0.113.1               \-- o   (NAR client outside)
    mallory /                     a pool 203.0.113.16/29

Address space A is 10.50.0.0/24, which nobody outside has a route to: the assumption of mutual
non-routability (section 1.4). Hosts inside have a default route to N, which translated mode needs.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from gateway.lab.plan import Port

INSIDE = IPv4Network("10.50.0.0/24")
NA = IPv4Address("10.50.0.1")
"""N's address towards its clients; for the firewall case the shared address inside."""
X1 = IPv4Address("10.50.0.11")
X2 = IPv4Address("10.50.0.12")
LEGACY = IPv4Address("10.50.0.30")
"""A server inside that knows nothing of NAR."""
MALLORY = IPv4Address("10.50.0.66")
"""An attacker inside, on the same link as the clients."""

OUTSIDE = IPv4Network("203.0.113.0/24")
NB = IPv4Address("203.0.113.1")
NB_MOVED = IPv4Address("203.0.113.2")
"""What N's provider gives it after a while, when the address is dynamic."""
POOL = IPv4Network("203.0.113.16/29")
"""Routed to N; none of them is on an interface."""

Y = IPv4Address("198.51.100.7")
Y2 = IPv4Address("198.51.100.8")
"""The second address of the same host: it may answer from there (RFC 1123)."""
HOME_AGENT = IPv4Address("192.0.2.2")
HOME_NETWORK = IPv4Network("192.0.2.96/28")
"""Virtual, at the home agent."""
XB = IPv4Address("192.0.2.100")
"""The home address of a mobile node at `x1`."""
XB2 = IPv4Address("192.0.2.101")
O = IPv4Address("192.0.2.66")  # noqa: E741 - what the figure calls it
"""The client of the firewall case, section 1.2."""

NAR_PORT = 1080
TLS_PORT = 1081
FIREWALL_PORT = 1082

INSIDE_HOSTS = {"x1": X1, "x2": X2, "legacy": LEGACY, "mallory": MALLORY}
OUTSIDE_HOSTS = ("y", "ha", "o")
ADDRESSES = {**INSIDE_HOSTS, "n": NA, "y": Y, "ha": HOME_AGENT, "o": O}
"""Of each host, the one that it is known by."""
HOSTS = ("internet", "lan", "n", *INSIDE_HOSTS, *OUTSIDE_HOSTS)
ROUTERS = frozenset({"internet", "n", "ha"})

BRIDGE = "lan"
"""On `lan`: the switch."""
BRIDGE_PORTS = tuple(f"to-{host}" for host in (*INSIDE_HOSTS, "n"))
UNNUMBERED = IPv4Interface("0.0.0.0/32")


def _port(host: str, interface: str, address: str) -> Port:
    return Port(host, interface, IPv4Interface(address))


WIRES: tuple[tuple[Port, Port], ...] = (
    *(
        (Port("lan", f"to-{host}", UNNUMBERED), Port(host, "inside", IPv4Interface((address, 24))))
        for host, address in INSIDE_HOSTS.items()
    ),
    (Port("lan", "to-n", UNNUMBERED), _port("n", "inside", "10.50.0.1/24")),
    (_port("internet", "to-n", "203.0.113.254/24"), _port("n", "outside", "203.0.113.1/24")),
    (_port("internet", "to-y", "198.51.100.1/24"), _port("y", "uplink", "198.51.100.7/24")),
    (_port("internet", "to-ha", "192.0.2.1/30"), _port("ha", "uplink", "192.0.2.2/30")),
    (_port("internet", "to-o", "192.0.2.65/30"), _port("o", "uplink", "192.0.2.66/30")),
)

ROUTES: dict[str, dict[str, IPv4Address]] = {
    **{host: {"default": NA} for host in INSIDE_HOSTS},
    "n": {"default": IPv4Address("203.0.113.254")},
    "y": {"default": IPv4Address("198.51.100.1")},
    "ha": {"default": IPv4Address("192.0.2.1")},
    "o": {"default": IPv4Address("192.0.2.65")},
    "internet": {str(POOL): NB, str(HOME_NETWORK): HOME_AGENT},
}

r"""The topology of draft 001 section 2 as data: what only Mobile IPv4 needs is added to the lab's.

    device --- xfalink --- xfa --\                    /-- iha --- home --- neighbour
    device --- access1, ... ------- internet --- gw ---- core      \------ device
    device2 ---------------------/    |          |    \-- ifa --- ifalink --- device
                                     xha      server   \-- plain --- device

`iha` is the internal home agent on its physical home link, a bridge; `xha` has a virtual home
network. `plain` gives the device an address (mode c); on `ifalink` (mode f) and `xfalink` it has
none but its home address. The device is in one of these at a time, or in one of the lab's others.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from gateway.lab import plan
from gateway.lab.plan import Access, Port
from gateway.mip_agents.policy import SecurityAssociation

HOME_NETWORK = IPv4Network("10.2.0.0/24")
INSIDE_HOME_AGENT = IPv4Address("10.2.0.1")
INSIDE_HOME_ADDRESS = IPv4Address("10.2.0.50")
INSIDE_HOME_ADDRESS_2 = IPv4Address("10.2.0.51")
NEIGHBOUR = IPv4Address("10.2.0.20")

PLAIN_NETWORK = IPv4Network("10.3.0.0/24")
INSIDE_FOREIGN_AGENT = IPv4Address("10.4.0.1")
"""On its link; also its care-of address."""

OUTSIDE_HOME_AGENT = IPv4Address("192.0.2.78")
OUTSIDE_HOME_NETWORK = IPv4Network("192.0.2.96/28")
OUTSIDE_HOME_ADDRESS = IPv4Address("192.0.2.100")
OUTSIDE_HOME_ADDRESS_2 = IPv4Address("192.0.2.101")
OUTSIDE_FOREIGN_AGENT = IPv4Address("198.18.4.1")
"""On its link. It is routed, so it may be the care-of address; the uplink's address is another."""
OUTSIDE_FOREIGN_AGENT_UPLINK = IPv4Address("192.0.2.74")
DEVICE_2 = IPv4Address("192.0.2.82")

GATEWAY_HOME_AGENT = IPv4Address("192.0.2.4")
"""For an x-HA in the gateway's own box: a second address of its outside interface."""
VPN_CARE_OF_ADDRESS = IPv4Address("10.0.0.1")
"""VPN-CoA: the gateway's address on its link to the core (draft 001, appendix B.2)."""


def _association(spi: int) -> SecurityAssociation:
    return SecurityAssociation(spi, hashlib.sha256(f"lab {spi}".encode()).digest()[:16])


INSIDE_ASSOCIATION, INSIDE_ASSOCIATION_2 = _association(1001), _association(1002)
OUTSIDE_ASSOCIATION, OUTSIDE_ASSOCIATION_2 = _association(2001), _association(2002)

FOREIGN_LINKS = {
    "ifalink": INSIDE_FOREIGN_AGENT,
    "xfalink": OUTSIDE_FOREIGN_AGENT,
}
"""Links without addresses for the device, and the foreign agent of each."""

ACCESSES = {
    **plan.ACCESSES,
    "home": Access("home", IPv4Interface((INSIDE_HOME_ADDRESS, 24)), INSIDE_HOME_AGENT),
    "plain": Access("plain", IPv4Interface("10.3.0.50/24"), IPv4Address("10.3.0.1")),
}

EXTRA_HOSTS = ("core", "iha", "ifa", "neighbour", "xfa", "xha", "device2")
HOSTS = (*plan.HOSTS, *EXTRA_HOSTS)
ROUTERS = plan.ROUTERS | {"core", "iha", "ifa", "xfa", "xha"}

HOME_BRIDGE = "home"
"""On `iha`: the home link."""
HOME_BRIDGE_PORTS = ("port1", "port2")


def _port(host: str, interface: str, address: str) -> Port:
    return Port(host, interface, IPv4Interface(address))


UNNUMBERED = IPv4Interface("0.0.0.0/32")
"""Of ports that get no address: of the device, and those in a bridge."""

WIRES: tuple[tuple[Port, Port], ...] = (
    *plan.WIRES,
    (_port("gw", "core", "10.0.0.1/30"), _port("core", "gw", "10.0.0.2/30")),
    (_port("core", "iha", "10.0.0.5/30"), _port("iha", "uplink", "10.0.0.6/30")),
    (_port("core", "ifa", "10.0.0.9/30"), _port("ifa", "uplink", "10.0.0.10/30")),
    (Port("device", "plain", UNNUMBERED), _port("core", "plain", "10.3.0.1/24")),
    (Port("device", "ifalink", UNNUMBERED), _port("ifa", "visited", "10.4.0.1/24")),
    (Port("iha", "port1", UNNUMBERED), _port("neighbour", "home", "10.2.0.20/24")),
    (Port("iha", "port2", UNNUMBERED), Port("device", "home", UNNUMBERED)),
    (_port("internet", "xfa", "192.0.2.73/30"), _port("xfa", "uplink", "192.0.2.74/30")),
    (Port("device", "xfalink", UNNUMBERED), _port("xfa", "visited", "198.18.4.1/24")),
    (_port("internet", "xha", "192.0.2.77/30"), _port("xha", "uplink", "192.0.2.78/30")),
    (_port("internet", "device2", "192.0.2.81/30"), _port("device2", "uplink", "192.0.2.82/30")),
)

_CORE = IPv4Address("10.0.0.2")
ROUTES: dict[str, dict[str, IPv4Address]] = {
    **plan.ROUTES,
    "gw": {
        **plan.ROUTES["gw"],
        **{f"10.{net}.0.0/24": _CORE for net in (2, 3, 4)},
        "10.0.0.0/24": _CORE,
    },
    "core": {
        "default": IPv4Address("10.0.0.1"),
        "10.2.0.0/24": IPv4Address("10.0.0.6"),
        "10.4.0.0/24": IPv4Address("10.0.0.10"),
    },
    "iha": {"default": IPv4Address("10.0.0.5")},
    "ifa": {"default": IPv4Address("10.0.0.9")},
    "neighbour": {"default": INSIDE_HOME_AGENT},
    "xfa": {"default": IPv4Address("192.0.2.73")},
    "xha": {"default": IPv4Address("192.0.2.77")},
    "device2": {"default": IPv4Address("192.0.2.81")},
    "internet": {
        **plan.ROUTES["internet"],
        "198.18.4.0/24": OUTSIDE_FOREIGN_AGENT_UPLINK,
        str(OUTSIDE_HOME_NETWORK): OUTSIDE_HOME_AGENT,
    },
}

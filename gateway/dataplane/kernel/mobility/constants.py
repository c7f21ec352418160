"""Numbers and names by which the mobility dataplane knows what is its own.

Fwmarks are those of :mod:`gateway.dataplane.packet.marks`, and the two ranges below. No other
program on the machine may use 0x47570000 to 0x4757ffff as a fwmark, these route tables and
priorities, or these interface names.
"""

from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.packet import marks, tunnel_ports

TABLE: Final = "gateway_mobility"
"""The nftables table, family ip."""

DUMMY: Final = IPv4Address("192.0.0.8")
"""Where transmitting devices send to until the ruleset writes the true addresses: the IPv4 dummy
address (RFC 7600), which nobody has."""

RECEIVE_IP_IP: Final = "mob-in-ipip"
RECEIVE_GRE: Final = "mob-in-gre"
SEND_IP_IP: Final = "mob-ipip"
SEND_GRE: Final = "mob-gre"
SEND_UDP: Final = "mob-udp"
RECEIVING: Final = (RECEIVE_IP_IP, RECEIVE_GRE)
SENDING: Final = (SEND_IP_IP, SEND_GRE, SEND_UDP)
BACK: Final = "mob-back"
BACK_OUTSIDE: Final = "mob-back-out"
GIVING_BACK: Final = (BACK, BACK_OUTSIDE)
"""Of the portable dataplane: what user space has accepted comes out of them. The second is for
what came in by an outside interface, and counts as one."""
DEVICE_GROUP: Final = 0x4757
"""Marks interfaces as ours."""

FOU_PORT: Final = tunnel_ports.FOU_PORT

HOME_TABLE: Final = 0x4757
"""Home addresses that are away, virtual home networks, and the dummy address."""
DELIVER_TABLE: Final = 0x4758
"""Visitors on their links."""
REVERSE_TABLES: Final = range(0x4800, 0x4840)
"""One for each pair of transmitting device and packet size in use: a default route."""

DELIVER_PRIORITY: Final = 0x4757
REVERSE_PRIORITY: Final = 0x4758
HOME_PRIORITY: Final = 0x4759
"""Of the rules: before the main table (32766), after the local one (0)."""

SWITCHED: Final = 0x4757_0013
"""Rewritten towards a care-of address; its source is still to be written (appendix D)."""
RELAYED: Final = 0x4757_0014
"""For a private home agent behind a port of ours."""
HOME_OUTSIDE: Final = 0x4757_0015
"""As ``HOME``, from a tunnel that came in by an outside interface."""
REVERSE_MARKS: Final = range(0x4757_0100, 0x4757_0100 + len(REVERSE_TABLES))
"""What becomes of the mark ``REVERSE`` when the visitor is known: one for each reverse table."""

ROUTE_PROTOCOL: Final = 71
"""``proto`` of routes, rules and neighbours of ours."""

HOME: Final = marks.HOME
DELIVER: Final = marks.DELIVER
REVERSE: Final = marks.REVERSE

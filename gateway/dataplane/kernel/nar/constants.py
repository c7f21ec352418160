"""Numbers and names by which the NAR dataplane knows what is its own.

No other program on the machine may use 0x47590000 to 0x4759ffff as a fwmark, these route tables
and priorities, these interface names, or the addresses of 240.0.0.0/4 (reserved, RFC 1112: nobody
has them).
"""

from ipaddress import IPv4Address, IPv4Network
from typing import Final

from gateway.domain.nar import Delivery

TABLE: Final = "gateway_nar"
"""The nftables table, family ip."""

MARKS: Final = 0x4759_0000
"""The upper half of all our fwmarks."""
FROM_CLIENT: Final = 0x4759_0001
"""Came out of a client's tunnel, and the client has leased what it has as source."""
L2TP_MARKS: Final = range(0x4759_1000, 0x4759_2000)
OUT_MARKS: Final = range(0x4759_2000, 0x4759_3000)
"""From a client in translated mode: one for each lent address, which becomes the source."""
WITH_PORT: Final = 0x1000
"""Added to an out mark when the source port changes too."""
TRANSLATED_MARKS: Final = range(0x4759_4000, 0x4759_6000)
TO_PORT: Final = 0x2000
"""Added to a mark of translated delivery when the destination port changes too."""
IP_IP_MARKS: Final = range(0x4759_8000, 0x4759_C000)
GRE_MARKS: Final = range(0x4759_C000, 0x475A_0000)

CLIENT_MARKS: Final = {
    Delivery.IP_IP: IP_IP_MARKS,
    Delivery.GRE: GRE_MARKS,
    Delivery.L2TP: L2TP_MARKS,
    Delivery.TRANSLATED: TRANSLATED_MARKS,
}
"""A client has one mark for each delivery; the mark leads to its tunnel or address."""

SEND_IP_IP: Final = "nar-ipip"
SEND_GRE: Final = "nar-gre"
RECEIVE_IP_IP: Final = "nar-in-ipip"
RECEIVE_GRE: Final = "nar-in-gre"
NAME_PREFIX: Final = "nar-"
"""All our interfaces have it."""
SENDING: Final = (SEND_IP_IP, SEND_GRE)
RECEIVING: Final = (RECEIVE_IP_IP, RECEIVE_GRE)
L2TP_PREFIX: Final = "nar-l2tp-"
DEVICE_GROUP: Final = 0x4759
"""Marks interfaces as ours."""

REMOTE: Final = IPv4Address("240.0.0.1")
"""Where transmitting devices send to until the ruleset writes the client's address."""
LOCAL: Final = IPv4Address("240.0.0.2")
"""The address of our tunnel devices; the ruleset writes Na, or has written this in its place."""
DEVICE_ADDRESSES: Final = IPv4Network("240.0.0.0/30")
"""Both of them."""
ALIAS_PREFIXES: Final = range(0xF001, 0xFFFF)
"""Upper halves of aliases, see :mod:`.numbers`."""

IP_IP_TABLE: Final = 0x4770
GRE_TABLE: Final = 0x4771
L2TP_TABLE: Final = 0x4772
"""Where marks lead to: each client's packets to one device."""
DEVICE_TABLE: Final = 0x4773
"""The route of what transmitting devices send, until the ruleset has it routed again."""
TABLES: Final = (IP_IP_TABLE, GRE_TABLE, L2TP_TABLE, DEVICE_TABLE)

DEVICE_PRIORITY: Final = 0x4740
"""Before the others: what a forwarder sends for a device has the mark of what is in it."""
IP_IP_PRIORITY: Final = 0x4741
GRE_PRIORITY: Final = 0x4742
L2TP_PRIORITY: Final = 0x4743

ROUTE_PROTOCOL: Final = 72
"""``proto`` of routes and rules of ours."""

PREROUTING_PRIORITY: Final = -310
"""After fragments are put together (-400), before the connection tracker (-200) and everybody
else's raw chains (-300)."""

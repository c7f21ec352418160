"""Numbers and names by which NAR clients know what is their own on a host.

No other program on the machine may use these route tables and rule priorities, interfaces whose
names begin with ``narc-``.
"""

from typing import Final

PREFIX: Final = "narc-"
"""Of interfaces on the host, with the number of the session behind it."""
TUNNEL: Final = "narc-t"
"""Of tunnels, in the hub."""
HUB_END: Final = "narc-v"
"""Of sessions, in the hub, with the session's number behind it."""
INSIDE: Final = "nar0"
"""The only interface of a command's network namespace, besides ``lo``."""
ROUTE_PROTOCOL: Final = 72
"""``proto`` of our rules and routes."""

HOST_TABLES: Final = range(0x4778, 0x4780)
"""Where packets of a leased address go, one for each session that has it on this host."""
HOST_PRIORITIES: Final = range(0x4748, 0x4750)
"""Of the rules that lead there: before the main table (32766), after the local one (0)."""
MAX_HOST_SESSIONS: Final = len(HOST_TABLES)
MAX_RECORDS: Final = 250
"""Sessions on one host, those of commands included."""

HUB_TABLE: Final = "gateway_narc"
"""The nftables table of the hub, family ip."""
MARKS: Final = 0x4759_8000
"""Fwmarks, in the hub only: this plus the number of where a packet goes."""
TUNNEL_NUMBERS: Final = 0x400
"""Numbers from here on are tunnels, smaller ones are sessions."""

LINK_ADDRESS: Final = b"\x02\x4e\x41\x52\x00\x01"
"""Of both ends of every pair: nobody has to ask for it."""
HUB_ADDRESS: Final = "192.0.0.8"
"""The hub's own, as the source of ICMP errors (RFC 7600)."""
MIN_MTU: Final = 576

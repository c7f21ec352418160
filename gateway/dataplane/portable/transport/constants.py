"""Numbers by which it is known; no other program on the machine may use them."""

from typing import Final

TABLE: Final = "gateway_transport"
"""The nftables table, family inet."""
MARK: Final = 0x475A_0001
"""Fwmark of a packet for, or out of, a child SA in transport mode, while it is being routed."""
ROUTE_TABLE: Final = 0x4790
"""Into the tunnel interface; without it nowhere."""
PRIORITY: Final = 0x4790
"""Of the rule: before the main table (32766), after the local one (0)."""

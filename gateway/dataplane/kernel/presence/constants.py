"""Numbers and names by which this is known as ours; see :mod:`gateway.dataplane.packet.marks`.

No other program on the machine may use the fwmarks 0x47540000 to 0x4756ffff, this route table and
these priorities, or connection marks from 0x47550000 to 0x4755ffff.
"""

from typing import Final

from gateway.dataplane.packet import marks

TABLE: Final = "gateway_presence"
"""The nftables table, family inet."""
ROUTE_TABLE: Final = 0x4780
"""Its default routes lead into the tunnel."""
TO_DEVICE_PRIORITY: Final = 0x4780
"""Of the rule for what has the mark of a device, whatever its destination."""
FROM_DEVICE_PRIORITY: Final = 0x4781
"""Of the rule for the reverse path filter: the source of a device is in the tunnel."""
PRIORITIES: Final = range(TO_DEVICE_PRIORITY, FROM_DEVICE_PRIORITY + 1)
ANSWER: Final = marks.ANSWER
TO_DEVICE_MASK: Final = 0xFFFE_0000
"""Of ``TO_DEVICE`` and ``ANSWER``, which differ in one bit."""
HELPED_S: Final = 3600
ANY_SOURCE_S: Final = 180
HELPERS: Final = (
    "ftp",
    "sip",
    "irc",
    "tftp",
    "pptp",
    "RAS",
    "Q.931",
    "H.245",
)
"""Names of the kernel's helpers for protocols that announce further connections."""

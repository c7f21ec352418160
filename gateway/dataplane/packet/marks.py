"""The fwmarks of the dataplane: what a packet is, told to routing and to the ruleset.

A mark that a packet gets before it is decapsulated stays with the inner packet.
"""

from typing import Final

FROM_DEVICE: Final = 0x4756_0000
"""Plus a zone (:attr:`gateway.domain.child_sa.ChildSa.zone`): came out of the tunnel of that
session. Its inbound SA sets it."""
TO_DEVICE: Final = 0x4755_0000
"""Plus a zone: has to leave by the tunnel of that session. Also what conntrack remembers of its
connections, in both directions."""
ANSWER: Final = 0x4754_0000
"""As :data:`TO_DEVICE`, for a UDP answer that comes from another address than was asked; it
becomes that on its way out. Conntrack calls it new, and does not know the mark."""
ZONES: Final = 0xFFFF_0000
"""Mask of these three: what remains is the zone."""
RANGE: Final = 0x4757_0000
"""The upper half of all those below, of the mobility dataplane; no other program may use it."""
HOME: Final = 0x4757_0010
"""Came out of the tunnel of a binding of ours: routed by the main table."""
HOME_OUTSIDE: Final = 0x4757_0015
"""As :data:`HOME`, from a tunnel that came in by an outside interface."""
DELIVER: Final = 0x4757_0011
"""Came out of a home agent's tunnel for a visitor: routed to the visitor's link, or nowhere."""
REVERSE: Final = 0x4757_0012
"""From a visitor, for the tunnel to its home agent, wherever it is bound (RFC 3024)."""
SENT: Final = 0x4757_0020
"""Made by the slow path, plus how often it has been encapsulated: 1 to :data:`MAX_NESTING`."""
MAX_NESTING: Final = 4
"""A packet may travel in tunnels within tunnels of this box, but not in circles."""
SLOW: Final = 0x4757_0030
"""For the slow path, by a link whose other packets the forwarder encapsulates; plus what the mark
said otherwise: how often it has been encapsulated, or :data:`SLOW_REVERSE`. Only the portable
dataplane has it."""
SLOW_REVERSE: Final = SLOW + 8
"""As :data:`SLOW`, for the tunnel of the visitor that it comes from."""
SLOW_MASK: Final = 0xFFFF_FFF0
REVERSE_RANGE: Final = 0x4757_0100
"""The first of 256 marks that stand for ``REVERSE`` with the device and packet size chosen."""

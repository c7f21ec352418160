"""IP in IP (RFC 2003)."""

from typing import Final

from gateway.dataplane.packet.ipv4 import OuterHeader, checked_end

PROTOCOL: Final = 4
OVERHEAD_OCTETS: Final = 20


def encapsulate(outer: OuterHeader, inner: bytes, identification: int) -> bytes:
    """The packet in another one. Raises :class:`WireError` when it gets too long."""
    return outer.build(inner[1], len(inner), identification) + inner


def decapsulate(packet: bytes, start: int) -> bytes:
    """The packet that begins at ``start``, whole and with a right header; padding is cut off.

    Raises :class:`WireError`.
    """
    return packet[start : checked_end(packet, start)]

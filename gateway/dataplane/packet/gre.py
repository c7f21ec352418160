"""Generic routing encapsulation (RFC 2784, with the key and sequence number of RFC 2890)."""

from typing import Final

from gateway.dataplane.packet.ipv4 import OuterHeader, checked_end
from gateway.domain.checksum import internet_checksum
from gateway.domain.wire import WireError

PROTOCOL: Final = 47
HEADER: Final = bytes.fromhex("00000800")
"""Without any option, for IPv4: what we send."""
OVERHEAD_OCTETS: Final = 24
_CHECKSUM, _KEY, _SEQUENCE = 0x8000, 0x2000, 0x1000
_REFUSED = 0x4C07
"""Source routing (RFC 1701), reserved bits that mean more than we know, another version."""
_IPV4 = 0x0800


def encapsulate(outer: OuterHeader, inner: bytes, identification: int) -> bytes:
    """The packet in GRE in another one. Raises :class:`WireError` when it gets too long."""
    return outer.build(inner[1], 4 + len(inner), identification) + HEADER + inner


def decapsulate(packet: bytes, start: int, end: int) -> bytes:
    """The IPv4 packet in GRE at ``packet[start:end]``, whole and with a right header.

    A checksum is checked; keys and sequence numbers were never agreed on and are passed over.
    Raises :class:`WireError`.
    """
    if end - start < 4:
        raise WireError(f"GRE header cut short: {end - start} octets")
    flags = packet[start] << 8 | packet[start + 1]
    protocol = packet[start + 2] << 8 | packet[start + 3]
    if flags & _REFUSED:
        raise WireError(f"GRE flags and version 0x{flags:04x}")
    if protocol != _IPV4:
        raise WireError(f"GRE with protocol 0x{protocol:04x}, not IPv4")
    at = start + 4
    at += 4 if flags & _CHECKSUM else 0
    at += 4 if flags & _KEY else 0
    at += 4 if flags & _SEQUENCE else 0
    if at > end:
        raise WireError(f"GRE options cut short: {end - start} octets")
    if flags & _CHECKSUM and internet_checksum(packet[start:end]):
        raise WireError("GRE checksum is wrong")
    return packet[at : checked_end(packet[:end], at)]

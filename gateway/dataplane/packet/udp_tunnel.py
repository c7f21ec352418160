"""Tunnel data in UDP for the traversal of NATs (RFC 3519 section 3.3)."""

import struct
from typing import Final

from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import MIP_PORT
from gateway.domain.wire import WireError

PROTOCOL: Final = 17
TUNNEL_DATA: Final = 4
"""Type of the message; others on the port are signalling."""
OVERHEAD_OCTETS: Final = 12
"""UDP and tunnel data headers, without the IP header."""
_LAYOUT = struct.Struct("!HHHHBBH")


def header(remote_port: int, next_header: int, payload_octets: int) -> bytes:
    """UDP and tunnel data headers from our port 434.

    There is no UDP checksum: the packet inside has its own (RFC 3519 section 4.6).
    Raises :class:`WireError` when the datagram would be too long.
    """
    size = OVERHEAD_OCTETS + payload_octets
    if size > 0xFFFF - 20:
        raise WireError(f"UDP tunnel datagram of {size} octets")
    return _LAYOUT.pack(MIP_PORT, remote_port, size, 0, TUNNEL_DATA, next_header, 0)


def is_tunnel_data(packet: bytes, start: int) -> bool:
    """Whether the UDP header at ``start`` is for port 434 and a message of type 4 follows."""
    return (
        len(packet) > start + 8
        and packet[start + 8] == TUNNEL_DATA
        and packet[start + 2] << 8 | packet[start + 3] == MIP_PORT
    )


def parse(packet: bytes, start: int, end: int) -> tuple[int, int, int]:
    """Source port, next header, and where the datagram ends; the UDP header is at ``start``.

    What is tunnelled begins :data:`OVERHEAD_OCTETS` after ``start``. A UDP checksum that is there
    is checked. Raises :class:`WireError`.
    """
    if end - start < OVERHEAD_OCTETS:
        raise WireError(f"tunnel data header cut short: {end - start} octets")
    port, _, size, checksum, kind, next_header, _ = _LAYOUT.unpack_from(packet, start)
    if kind != TUNNEL_DATA:
        raise WireError(f"message type {kind}, not tunnel data")
    if not OVERHEAD_OCTETS <= size <= end - start:
        raise WireError(f"UDP length {size}, {end - start} octets there")
    if port == 0:
        raise WireError("UDP source port 0")
    if checksum:
        pseudo = packet[12:20] + struct.pack("!HH", PROTOCOL, size)
        if internet_checksum(pseudo + packet[start : start + size]):
            raise WireError("UDP checksum is wrong")
    return port, next_header, start + size

"""A UDP datagram with its IPv4 header (RFC 768), for what is sent and read below the sockets."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.dataplane.packet.ipv4 import parse_header
from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import Endpoint
from gateway.domain.wire import WireError

PROTOCOL = 17
HEADER_OCTETS = 8
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_PSEUDO = struct.Struct("!4s4sBBH")


@dataclass(frozen=True, slots=True)
class UdpDatagram:
    """What was in a packet."""

    source: Endpoint
    destination: Endpoint
    payload: bytes


def parse(packet: bytes) -> UdpDatagram:
    """Read a whole packet; raises :class:`WireError` for fragments and wrong lengths.

    The checksum is not looked at: on a virtual link it is not there yet.
    """
    header = parse_header(packet)
    if header.protocol != PROTOCOL or header.is_fragment:
        raise WireError("no whole UDP datagram")
    start = header.header_length
    if header.total_length < start + HEADER_OCTETS:
        raise WireError("UDP header cut short")
    source, destination, length, _ = _UDP.unpack_from(packet, start)
    if not HEADER_OCTETS <= length <= header.total_length - start:
        raise WireError(f"UDP length {length} in {header.total_length - start} octets")
    return UdpDatagram(
        Endpoint(header.source, source),
        Endpoint(header.destination, destination),
        packet[start + HEADER_OCTETS : start + length],
    )


def packet(source: Endpoint, destination: Endpoint, payload: bytes, *, ttl: int = 64) -> bytes:
    """The IPv4 packet that carries ``payload``, not to be fragmented further than need be.

    Raises:
        WireError: an address is not IPv4, or the payload too long.
    """
    size = HEADER_OCTETS + len(payload)
    if size > 0xFFFF - 20:
        raise WireError(f"UDP payload of {len(payload)} octets")
    ends = _ipv4(source).packed, _ipv4(destination).packed
    pseudo = _PSEUDO.pack(*ends, 0, PROTOCOL, size)
    bare = _UDP.pack(source.port, destination.port, size, 0)
    checksum = internet_checksum(pseudo + bare + payload) or 0xFFFF
    udp = _UDP.pack(source.port, destination.port, size, checksum)
    ip = _IP.pack(0x45, 0, 20 + size, 0, 0, ttl, PROTOCOL, 0, *ends)
    checksum = internet_checksum(ip)
    return _IP.pack(0x45, 0, 20 + size, 0, 0, ttl, PROTOCOL, checksum, *ends) + udp + payload


def _ipv4(endpoint: Endpoint) -> IPv4Address:
    if not isinstance(endpoint.address, IPv4Address):
        raise WireError(f"{endpoint.address} is no IPv4 address")
    return endpoint.address

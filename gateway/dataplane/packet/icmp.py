"""ICMP errors: made, read, and translated when the addresses of what they quote were switched.

RFC 792; when not to send one and how much to quote: RFC 1812 sections 4.3.2 and 5.2.7.
"""

import struct
from dataclasses import dataclass
from typing import Final

from gateway.dataplane.packet.address_switch import AddressSwitch
from gateway.dataplane.packet.ipv4 import parse_header, simple_header, with_checksum
from gateway.domain.checksum import internet_checksum
from gateway.domain.wire import WireError

PROTOCOL: Final = 1
DESTINATION_UNREACHABLE: Final = 3
SOURCE_QUENCH: Final = 4
REDIRECT: Final = 5
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12
NET_UNREACHABLE: Final = 0
HOST_UNREACHABLE: Final = 1
PROTOCOL_UNREACHABLE: Final = 2
PORT_UNREACHABLE: Final = 3
FRAGMENTATION_NEEDED: Final = 4
SOURCE_ROUTE_FAILED: Final = 5
ERRORS: Final = frozenset(
    (DESTINATION_UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM)
)
MAX_ERROR_OCTETS: Final = 576
"""An error quotes as much as fits."""
_INTERNETWORK_CONTROL = 0xC0
_HEADER = struct.Struct("!BBHHH")


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error as it was received."""

    type: int
    code: int
    mtu: int
    """Of the next hop; only told by :data:`FRAGMENTATION_NEEDED`, 0 by old routers."""
    quote: bytes
    """The packet that it is about, from its IP header on, mostly cut short."""


def is_error(packet: bytes) -> bool:
    """Whether it is a first fragment or whole, and an ICMP error."""
    if packet[9] != PROTOCOL or (packet[6] << 8 | packet[7]) & 0x1FFF:
        return False
    at = (packet[0] & 15) * 4
    return len(packet) > at and packet[at] in ERRORS


def parse_error(packet: bytes) -> IcmpError:
    """Read a whole IPv4 packet with an ICMP error in it, and check its checksum.

    The quote has a whole IP header and at least 8 octets of what followed, unless there were
    fewer. Raises :class:`WireError`.
    """
    header = parse_header(packet)
    if header.protocol != PROTOCOL or header.is_fragment:
        raise WireError("no whole ICMP message")
    message = packet[header.header_length : header.total_length]
    if len(message) < 8 + 20 + 8:
        raise WireError(f"ICMP error of {len(message)} octets")
    kind, code, _, _, mtu = _HEADER.unpack_from(message)
    if kind not in ERRORS:
        raise WireError(f"ICMP type {kind} is no error")
    if internet_checksum(message):
        raise WireError("ICMP checksum is wrong")
    quote = message[8:]
    length = (quote[0] & 15) * 4
    if quote[0] >> 4 != 4 or length < 20 or len(quote) < length + 8:
        raise WireError("ICMP error that quotes no IPv4 header with 8 octets behind")
    told = kind == DESTINATION_UNREACHABLE and code == FRAGMENTATION_NEEDED
    return IcmpError(kind, code, mtu if told else 0, quote)


def may_answer(packet: bytes) -> bool:
    """Whether an ICMP error may be sent about the packet (RFC 1812 section 4.3.2.7).

    Never about an ICMP error, a broadcast or multicast, a fragment but the first, or to a source
    that is no single host. Directed broadcasts of networks are for the caller to know.
    """
    source, destination = packet[12], packet[16]
    if source in (0, 127) or source >= 224 or destination >= 224 or destination in (0, 127):
        return False
    if (packet[6] << 8 | packet[7]) & 0x1FFF:
        return False
    if packet[9] == PROTOCOL:
        at = (packet[0] & 15) * 4
        return len(packet) > at and packet[at] not in ERRORS
    return True


def error(source: bytes, about: bytes, kind: int, code: int, mtu: int = 0) -> bytes | None:
    """An error about a packet, from the address ``source``; None if none may be sent."""
    if not may_answer(about):
        return None
    quote = about[: MAX_ERROR_OCTETS - 20 - _HEADER.size]
    message = _HEADER.pack(kind, code, 0, 0, mtu) + quote
    checksum = internet_checksum(message)
    message = _HEADER.pack(kind, code, checksum, 0, mtu) + quote
    tos = about[1] & 0x1E | _INTERNETWORK_CONTROL
    return simple_header(source, about[12:16], PROTOCOL, len(message), tos=tos) + message


def translated(packet: bytes, source: bytes, destination: bytes, quoted: AddressSwitch) -> bytes:
    """A whole error to and about other addresses: those before they were switched.

    Its checksum was right, as :func:`parse_error` has found.
    """
    length = (packet[0] & 15) * 4
    total = packet[2] << 8 | packet[3]
    quote = quoted.rewrite(packet[length + 8 : total])
    message = packet[length : length + 2] + b"\0\0" + packet[length + 4 : length + 8] + quote
    message = message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]
    return with_checksum(packet[:12] + source + destination + packet[20:length]) + message

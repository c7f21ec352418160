"""The IPv4 header (RFC 791)."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.domain.wire import WireError

_HEADER = struct.Struct("!BBHHHBBH4s4s")


@dataclass(frozen=True, slots=True)
class Ipv4Header:
    """What the dataplane reads of a header; lengths in octets."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    header_length: int
    total_length: int
    fragment_offset: int
    more_fragments: bool

    @property
    def is_fragment(self) -> bool:
        """Whether the packet is a part of a larger one."""
        return self.more_fragments or self.fragment_offset != 0


def parse_header(packet: bytes) -> Ipv4Header:
    """Read the header; raises :class:`WireError` when lengths do not fit the packet.

    The checksum is not looked at: the kernel has done it before a packet comes here.
    """
    if len(packet) < 20:
        raise WireError(f"IPv4 header cut short: {len(packet)} octets")
    first, _, total, _, fragment, _, protocol, _, source, destination = _HEADER.unpack_from(packet)
    if first >> 4 != 4:
        raise WireError(f"IP version {first >> 4}, 4 expected")
    header_length = (first & 15) * 4
    if header_length < 20 or total < header_length:
        raise WireError(f"IPv4 header length {header_length}, total length {total}")
    if total > len(packet):
        raise WireError(f"IPv4 total length {total}, {len(packet)} octets there")
    return Ipv4Header(
        IPv4Address(source),
        IPv4Address(destination),
        protocol,
        header_length,
        total,
        (fragment & 0x1FFF) * 8,
        bool(fragment & 0x2000),
    )

"""The IPv4 header (RFC 791)."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.checksum import internet_checksum, ones_sum, updated
from gateway.domain.wire import WireError

DONT_FRAGMENT: Final = 0x4000
MORE_FRAGMENTS: Final = 0x2000
OFFSET_MASK: Final = 0x1FFF
TUNNEL_TTL: Final = 64
"""Of the headers that we put around packets."""
_HEADER = struct.Struct("!BBHHHBBH4s4s")
_TUNNEL_HEADER = struct.Struct("!BBHHHBBH8s")


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


def checked_end(packet: bytes, start: int = 0) -> int:
    """Where the IPv4 packet at ``packet[start:]`` ends: its header is whole and its checksum right.

    Raises :class:`WireError`. For packets that no kernel has looked at, those inside of tunnels.
    """
    left = len(packet) - start
    if left < 20:
        raise WireError(f"inner IPv4 header cut short: {left} octets")
    first = packet[start]
    total = packet[start + 2] << 8 | packet[start + 3]
    length = (first & 15) * 4
    if first >> 4 != 4 or length < 20:
        raise WireError(f"inner packet of IP version {first >> 4}, header length {length}")
    if not length <= total <= left:
        raise WireError(f"inner total length {total}, header length {length}, {left} octets there")
    if int.from_bytes(packet[start : start + length], "big") % 0xFFFF:
        raise WireError("checksum of the inner IPv4 header is wrong")
    return start + total


def with_checksum(header: bytes) -> bytes:
    """The header, or a packet that starts with it, with its checksum made right."""
    length = (header[0] & 15) * 4
    bare = header[:10] + b"\0\0" + header[12:length]
    return bare[:10] + internet_checksum(bare).to_bytes(2, "big") + header[12:]


def decremented(packet: bytes) -> bytes:
    """With one less TTL, as a router sends it on. Raises :class:`WireError` when none is left."""
    if packet[8] <= 1:
        raise WireError("TTL exceeded")
    checksum = updated(packet[10] << 8 | packet[11], 0xFFFF - 0x0100)
    return (
        packet[:8] + bytes((packet[8] - 1, packet[9], checksum >> 8, checksum & 0xFF)) + packet[12:]
    )


def congestion_marked(packet: bytes) -> bytes | None:
    """With "congestion experienced", as the tunnel's header had it (RFC 6040 section 4.2).

    None when its sender does not know of ECN: then only the loss of the packet tells.
    """
    if not packet[1] & 3:
        return None
    if packet[1] & 3 == 3:
        return packet
    return with_checksum(packet[:1] + bytes((packet[1] | 3,)) + packet[2:])


class OuterHeader:
    """Makes the headers of one tunnel: all but a few fields are the same in each."""

    __slots__ = ("_ends", "_protocol", "_sum")

    def __init__(self, source: bytes, destination: bytes, protocol: int) -> None:
        self._ends = source + destination
        self._protocol = protocol
        self._sum = 0x4500 + (TUNNEL_TTL << 8 | protocol) + ones_sum(self._ends)

    def build(
        self, inner_tos: int, payload_octets: int, identification: int, flags: int = 0
    ) -> bytes:
        """A header without options; ``flags`` is :data:`DONT_FRAGMENT` or nothing.

        The inner type of service is copied (RFC 2003 section 3.1), a congestion mark becomes
        ECT(0) as in the full functionality of RFC 3168 section 9.1.1.
        Raises :class:`WireError` when it would be too long for a packet.
        """
        tos = inner_tos ^ 1 if inner_tos & 3 == 3 else inner_tos
        total = 20 + payload_octets
        if total > 0xFFFF:
            raise WireError(f"tunnel packet of {total} octets")
        checksum = self._sum + tos + total + identification + flags
        checksum = (checksum & 0xFFFF) + (checksum >> 16)
        checksum = ((checksum & 0xFFFF) + (checksum >> 16)) ^ 0xFFFF
        return _TUNNEL_HEADER.pack(
            0x45,
            tos,
            total,
            identification,
            flags,
            TUNNEL_TTL,
            self._protocol,
            checksum,
            self._ends,
        )


def simple_header(
    source: bytes, destination: bytes, protocol: int, payload_octets: int, *, tos: int = 0
) -> bytes:
    """A header of our own packets: no options, identification 0 with DF set (RFC 6864)."""
    return with_checksum(
        _HEADER.pack(
            0x45,
            tos,
            20 + payload_octets,
            0,
            DONT_FRAGMENT,
            TUNNEL_TTL,
            protocol,
            0,
            source,
            destination,
        )
    )


def build(
    source: IPv4Address,
    destination: IPv4Address,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = TUNNEL_TTL,
) -> bytes:
    """A packet of our own, not to be fragmented. Raises :class:`WireError` when it is too long."""
    total = 20 + len(payload)
    if total > 0xFFFF:
        raise WireError(f"IPv4 packet of {total} octets")
    head = _HEADER.pack(
        0x45, 0, total, 0, DONT_FRAGMENT, ttl, protocol, 0, source.packed, destination.packed
    )
    return with_checksum(head) + payload

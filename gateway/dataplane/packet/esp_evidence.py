"""Whether an ESP packet from a new outer address proves that its peer has moved there.

Draft 001 appendix C.3: the gateway "updates implicitly when a properly authenticated packet
arrives". Proof is a valid ICV under the SA's key and a sequence number above every one that the
kernel has seen: an old packet, replayed or merely late, says nothing about where the peer is now.
"""

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from gateway.dataplane.packet import esp, ipv4
from gateway.dataplane.packet.esp import EspCipher, IntegrityCheckError
from gateway.domain.endpoint import IpAddress
from gateway.domain.wire import WireError

IPPROTO_ESP: Final = 50
_IPV6_HEADER: Final = 40
_HALF = 1 << 31
_END = 1 << 64


@dataclass(frozen=True, slots=True)
class Proven:
    """The peer sent this just now; ``sequence`` is the full number (64 bits with ESN)."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Proves nothing.

    ``late`` means that the number is not above the highest; nothing else was looked at.
    """

    reason: str
    late: bool = False


@dataclass(frozen=True, slots=True)
class OuterEsp:
    """An IP packet with ESP in it, cut up."""

    source: IpAddress
    destination: IpAddress
    spi: int
    sequence_low: int
    esp: bytes


def parse(packet: bytes) -> OuterEsp:
    """Cut up an IP packet. Raises :class:`WireError` for what is no whole ESP packet.

    In IPv6, ESP has to follow the header itself: fragments and routing headers prove nothing.
    """
    if packet[:1] and packet[0] >> 4 == 6:
        return _parse6(packet)
    header = ipv4.parse_header(packet)
    if header.is_fragment:
        raise WireError("a fragment")
    if header.protocol != IPPROTO_ESP:
        raise WireError(f"protocol {header.protocol}, not ESP")
    content = packet[header.header_length : header.total_length]
    spi, sequence = esp.parse_header(content)
    return OuterEsp(header.source, header.destination, spi, sequence, content)


def _parse6(packet: bytes) -> OuterEsp:
    """RFC 8200 section 3."""
    if len(packet) < _IPV6_HEADER:
        raise WireError(f"IPv6 header cut short: {len(packet)} octets")
    if packet[6] != IPPROTO_ESP:
        raise WireError(f"next header {packet[6]}, not ESP")
    end = _IPV6_HEADER + int.from_bytes(packet[4:6], "big")
    if len(packet) < end:
        raise WireError(f"IPv6 packet of {end} octets, {len(packet)} there")
    content = packet[_IPV6_HEADER:end]
    spi, sequence = esp.parse_header(content)
    source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    return OuterEsp(source, destination, spi, sequence, content)


def full_sequence(low: int, highest: int, *, esn: bool) -> int | None:
    """The number that ``low`` stands for if it is above ``highest``, or None.

    With ESN a number far below the highest is taken as that of the next 2^32 (RFC 4304
    appendix A2); one less than 2^31 below is an old one.
    """
    if not esn:
        return low if low > highest else None
    candidate = highest & ~0xFFFFFFFF | low
    if candidate > highest:
        return candidate
    if highest - candidate < _HALF:
        return None
    candidate += 1 << 32
    return candidate if candidate < _END else None


def examine(outer: OuterEsp, cipher: EspCipher, highest: int, *, esn: bool) -> Proven | Rejected:
    """Judge a packet of the SA whose inbound ``cipher`` and ``highest`` number these are.

    The cheap check goes first, so that a replay costs no cryptography.
    """
    sequence = full_sequence(outer.sequence_low, highest, esn=esn)
    if sequence is None:
        return Rejected(
            f"sequence {outer.sequence_low} is not above {highest & 0xFFFFFFFF}", late=True
        )
    if len(outer.esp) < cipher.shortest:
        return Rejected(f"ESP packet of {len(outer.esp)} octets, {cipher.shortest} needed")
    try:
        cipher.verify(outer.esp, sequence)
    except IntegrityCheckError:
        return Rejected("integrity check failed")
    return Proven(sequence)

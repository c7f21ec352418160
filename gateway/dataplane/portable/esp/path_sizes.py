"""Packets that do not fit their tunnel: who sent them is told, as a router tells.

The kernel knows how large packets may be on the way to a peer: from its interface, from routes and
from the ICMP of routers. What may be cut up is sealed as it is, and the outer packet is cut up.
"""

import math
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from gateway.dataplane.packet import icmp
from gateway.dataplane.packet.ipv4 import TUNNEL_TTL
from gateway.dataplane.portable.esp.outbound import Outbound
from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import IpAddress
from gateway.domain.overhead import LEAST_MTU, tunnel_mtu
from gateway.domain.token_bucket import TokenBucket

BELIEVED_S: Final = 2.0
"""How long a path's MTU is believed before it is asked for again."""
ALWAYS_FITS: Final = 400
"""Octets that fit into the narrowest path that kernels believe in (``min_pmtu`` 552), whatever is
around them."""
ERRORS_PER_S: Final = 200.0
ERRORS_TO_ONE_PER_S: Final = 10.0
"""So that one host that does not listen leaves some for the others."""
MAX_TOLD: Final = 256
"""Hosts whose share is remembered."""
SEARCHES_PER_S: Final = 20.0
_DONT_FRAGMENT: Final = 0x40
_IPV6_HEADER: Final = 40
_ICMPV6: Final = 58
_PACKET_TOO_BIG: Final = 2
_FIRST_INFORMATIONAL: Final = 128
_MULTICAST: Final = 0xFF
_IPV6 = struct.Struct("!IHBB16s16s")
_MESSAGE = struct.Struct("!BBHI")


class Paths(Protocol):
    """Questions to the kernel. Nothing here raises."""

    def mtu(self, local: IpAddress, remote: IpAddress, mark: int) -> int:
        """Octets of the largest packet between addresses, with a fwmark; 0 when nobody knows."""

    def source(self, destination: IpAddress) -> bytes | None:
        """The address of ours that packets to an address have; None when there is no way."""


class PathSizes:
    """Looks up limits when they are needed and not yet known, and makes ICMP errors."""

    def __init__(self, paths: Paths | None) -> None:
        self._paths = paths
        self._errors = TokenBucket(ERRORS_PER_S, ERRORS_PER_S)
        self._shares: dict[bytes, TokenBucket] = {}
        self._searches = TokenBucket(SEARCHES_PER_S, SEARCHES_PER_S)

    def look_up(self, sender: Outbound, mark: int, now: float) -> None:
        """Give the SA its limit for some time. That is a question to the kernel."""
        if self._paths is None or sender.transport:
            sender.limit_until = math.inf
            return
        sender.limit_until = now + BELIEVED_S
        remote = sender.remote.address
        link = self._paths.mtu(sender.local, remote, mark)
        sender.limit = (
            tunnel_mtu(sender.suite, remote, udp=sender.udp, link=link) if link else sender.NO_LIMIT
        )

    def may_search(self, now: float) -> bool:
        """Whether all SAs may be looked at for one whose path is narrower now."""
        return self._searches.take(now)

    def narrowed(self, sender: Outbound, now: float) -> bool:
        """Look its limit up at once; whether it is lower than was believed."""
        before = sender.limit
        self.look_up(sender, sender.mark or 0, now)
        return sender.limit < before

    def fits(self, packet: bytes, version: int, limit: int) -> bool:
        """Whether it may be sealed all the same: it is short enough or may be cut up."""
        if len(packet) <= limit:
            return True
        if version == 4:
            return not packet[6] & _DONT_FRAGMENT
        return len(packet) <= LEAST_MTU[6]

    def error(self, packet: bytes, version: int, limit: int, now: float) -> bytes | None:
        """What its sender is told; None if nothing may be."""
        to = packet[12:16] if version == 4 else packet[8:24]
        if self._paths is None or not self._may_tell(to, now):
            return None
        if version == 4:
            source = self._paths.source(IPv4Address(packet[12:16]))
            if source is None:
                return None
            kind, code = icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED
            return icmp.error(source, packet, kind, code, limit)
        source = self._paths.source(IPv6Address(packet[8:24]))
        return None if source is None else _too_big(source, packet, max(limit, LEAST_MTU[6]))

    def _may_tell(self, host: bytes, now: float) -> bool:
        share = self._shares.pop(host, None) or TokenBucket(
            ERRORS_TO_ONE_PER_S, ERRORS_TO_ONE_PER_S
        )
        if len(self._shares) >= MAX_TOLD:
            del self._shares[next(iter(self._shares))]
        self._shares[host] = share
        return share.take(now) and self._errors.take(now)


def _too_big(source: bytes, about: bytes, limit: int) -> bytes | None:
    """RFC 4443 section 3.2. Not about errors, and not to what is no single host (section 2.4)."""
    to = about[8:24]
    if to[0] == _MULTICAST or about[24] == _MULTICAST or not any(to):
        return None
    if about[6] == _ICMPV6 and about[_IPV6_HEADER] < _FIRST_INFORMATIONAL:
        return None
    quote = about[: LEAST_MTU[6] - _IPV6_HEADER - _MESSAGE.size]
    message = _MESSAGE.pack(_PACKET_TOO_BIG, 0, 0, limit) + quote
    pseudo = source + to + len(message).to_bytes(4, "big") + _ICMPV6.to_bytes(4, "big")
    checksum = internet_checksum(pseudo + message)
    header = _IPV6.pack(0x60000000, len(message), _ICMPV6, TUNNEL_TTL, source, to)
    return header + message[:2] + checksum.to_bytes(2, "big") + message[4:]

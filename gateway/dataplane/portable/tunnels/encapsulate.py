"""What a packet of a tunnel link looks like on the wire.

Outer headers are as Linux' tunnel devices with ``tos inherit`` make them: the inner type of
service, with a congestion mark as ECT(0) (RFC 6040 section 4.1, "compatibility" is not used).
Identification and header checksum are left to the kernel.
"""

import struct
from collections.abc import Callable
from typing import Final

from gateway.dataplane.packet import gre, ip_ip, minimal, udp_tunnel
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.tunnels.l2tp import L2tpEncapsulation
from gateway.domain.wire import WireError

Encapsulate = Callable[[bytes], bytes]
"""The whole outer packet. Raises :class:`WireError` when it gets too long."""

_HEAD = struct.Struct("!BBHHHBBH8s")
_UDP = struct.Struct("!HHHH")
_IP_OCTETS: Final = 20
_UDP_OCTETS: Final = 8
_DONT_FRAGMENT_HIGH: Final = 0x40
_NOBODY: Final = bytes(4)


def ends_of(link: TunnelLink) -> bytes:
    """Source and destination of what it sends; a source of 0.0.0.0 is for the kernel to choose."""
    local = _NOBODY if link.local is None else link.local.packed
    return local + (_NOBODY if link.remote is None else link.remote.packed)


class PlainEncapsulation:
    """A constant header between the outer IP header and the packet, or none: IP-in-IP and GRE."""

    __slots__ = ("_before", "_copies_df", "_ends", "_extra", "_protocol", "_ttl")

    def __init__(self, link: TunnelLink, protocol: int, before: bytes = b"") -> None:
        self._ends = ends_of(link)
        self._protocol = protocol
        self._before = before
        self._extra = _IP_OCTETS + len(before)
        self._ttl = link.ttl
        self._copies_df = link.copies_dont_fragment

    def __call__(self, inner: bytes) -> bytes:
        """See :data:`Encapsulate`."""
        return self._outer(inner, self._extra + len(inner)) + self._before + inner

    def _outer(self, inner: bytes, total: int) -> bytes:
        if total > 0xFFFF:
            raise WireError(f"tunnel packet of {total} octets")
        tos = inner[1]
        if tos & 3 == 3:
            tos ^= 1
        flags = (inner[6] & _DONT_FRAGMENT_HIGH) << 8 if self._copies_df else 0
        return _HEAD.pack(0x45, tos, total, 0, flags, self._ttl, self._protocol, 0, self._ends)


class UdpEncapsulation(PlainEncapsulation):
    """UDP around a constant header and the packet.

    There is no UDP checksum: what is inside has its own (RFC 3519 section 4.6, RFC 8086 section
    6.1 over IPv4).
    """

    __slots__ = ("_ports",)

    def __init__(self, link: TunnelLink, before: bytes) -> None:
        super().__init__(link, udp_tunnel.PROTOCOL, before)
        self._extra += _UDP_OCTETS
        self._ports = (link.local_port, link.remote_port)

    def __call__(self, inner: bytes) -> bytes:
        """See :data:`Encapsulate`."""
        total = self._extra + len(inner)
        outer = self._outer(inner, total)
        return outer + _UDP.pack(*self._ports, total - _IP_OCTETS, 0) + self._before + inner


class MinimalEncapsulation:
    """RFC 2004: the packet's own header with other addresses; fragments travel in IP-in-IP."""

    __slots__ = ("_ends", "_fallback")

    def __init__(self, link: TunnelLink) -> None:
        self._ends = ends_of(link)
        self._fallback = PlainEncapsulation(link, ip_ip.PROTOCOL)

    def __call__(self, inner: bytes) -> bytes:
        """See :data:`Encapsulate`."""
        if minimal.is_possible(inner):
            return minimal.encapsulate(inner, self._ends)
        return self._fallback(inner)


def encapsulation_of(link: TunnelLink) -> Encapsulate:
    """What the link does to packets."""
    if link.kind is TunnelKind.IP_IP:
        return PlainEncapsulation(link, ip_ip.PROTOCOL)
    if link.kind is TunnelKind.GRE:
        return PlainEncapsulation(link, gre.PROTOCOL, gre.HEADER)
    if link.kind is TunnelKind.MINIMAL:
        return MinimalEncapsulation(link)
    if link.kind is TunnelKind.GRE_UDP:
        return UdpEncapsulation(link, gre.HEADER)
    if link.kind is TunnelKind.L2TP:
        return L2tpEncapsulation(link)
    return UdpEncapsulation(link, bytes((udp_tunnel.TUNNEL_DATA, ip_ip.PROTOCOL, 0, 0)))

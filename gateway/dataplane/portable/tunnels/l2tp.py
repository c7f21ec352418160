"""Static L2TPv3 sessions in UDP, as Linux' l2tp and l2tp_eth have them (RFC 3931).

Of a data message: version and reserved bits, session id, cookie of 8 octets, the default
L2-specific sublayer without sequence numbers (section 4.6), an Ethernet frame. Both ends use one
Ethernet address, and there is IPv4 in the frames and nothing else.
"""

import struct
from hmac import compare_digest
from typing import Final

from gateway.dataplane.packet import ipv4
from gateway.dataplane.portable.tunnel_link import TunnelLink
from gateway.dataplane.portable.tunnels.open import NotOpenedError
from gateway.domain.wire import WireError

COOKIE_OCTETS: Final = 8
OVERHEAD: Final = 8 + 8 + COOKIE_OCTETS + 4 + 14
"""Octets of UDP, session header, sublayer and Ethernet."""

_UDP: Final = 17
_IP_OCTETS: Final = 20
_UDP_OCTETS: Final = 8
_NOT_WHOLE: Final = 0x3FFF
_VERSION: Final = 3
_CONTROL: Final = 0x8000
"""The T bit: a control message (section 3.2.1)."""
_IPV4: Final = b"\x08\x00"
_NO_SUBLAYER: Final = bytes(4)
_ADDRESS_OCTETS: Final = 6
_HEAD = struct.Struct("!BBHHHBBH8s")
_MESSAGE = struct.Struct("!HHHHHHI")
"""Ports, length and checksum of UDP, version, reserved bits, session id."""


def problem(link: TunnelLink) -> str | None:
    """Why a link of this kind cannot be, or None."""
    if link.local is None or link.remote is None or not (link.local_port and link.remote_port):
        return "L2TP needs both addresses and both ports"
    if not (link.session and link.peer_session):
        return "L2TP needs both session ids"
    if {len(link.cookie), len(link.peer_cookie)} != {COOKIE_OCTETS}:
        return f"L2TP needs cookies of {COOKIE_OCTETS} octets"
    if len(link.link_address) != _ADDRESS_OCTETS:
        return "L2TP needs an Ethernet address"
    return None


class L2tpEncapsulation:
    """See :data:`gateway.dataplane.portable.tunnels.encapsulate.Encapsulate`.

    No UDP checksum: what is inside has its own.
    """

    __slots__ = ("_before", "_ends", "_link")

    def __init__(self, link: TunnelLink) -> None:
        if link.local is None or link.remote is None:
            raise ValueError("no addresses")
        self._link = link
        self._ends = link.local.packed + link.remote.packed
        self._before = link.peer_cookie + _NO_SUBLAYER + link.link_address * 2 + _IPV4

    def __call__(self, inner: bytes) -> bytes:
        """The whole outer packet. Raises :class:`WireError` when it gets too long."""
        link = self._link
        size = OVERHEAD + len(inner)
        if size > 0xFFFF - _IP_OCTETS:
            raise WireError(f"L2TP message of {size} octets")
        total = _IP_OCTETS + size
        outer = _HEAD.pack(0x45, 0, total, 0, 0, link.ttl, _UDP, 0, self._ends)
        ports = link.local_port, link.remote_port
        message = _MESSAGE.pack(*ports, size, 0, _VERSION, 0, link.peer_session)
        return outer + message + self._before + inner


class L2tpEnds:
    """The receiving sessions, by their ids."""

    def __init__(self) -> None:
        self._links: dict[int, TunnelLink] = {}
        self.ports: frozenset[int] = frozenset()
        """UDP ports that they are reached at."""

    def is_for(self, outer: bytes) -> bool:
        """Whether a packet may be of a session. Anything may be in it."""
        if not self.ports or len(outer) < _IP_OCTETS + _UDP_OCTETS or outer[9] != _UDP:
            return False
        start = (outer[0] & 15) * 4
        return int.from_bytes(outer[start + 2 : start + 4], "big") in self.ports

    def owner(self, link: TunnelLink) -> str | None:
        """Who has this session id."""
        there = self._links.get(link.session)
        return None if there is None else there.name

    def add(self, link: TunnelLink) -> None:
        """Its frames come out of it from now on."""
        self._links[link.session] = link
        self._count_ports()

    def discard(self, link: TunnelLink) -> None:
        """Reverse of :meth:`add`; nothing if it was not there."""
        if self.owner(link) == link.name:
            del self._links[link.session]
            self._count_ports()

    def _count_ports(self) -> None:
        self.ports = frozenset(link.local_port for link in self._links.values())

    def open(self, outer: bytes) -> tuple[str, bytes]:
        """The link and the inner packet, whole and with a right header.

        Raises :class:`NotOpenedError` for what is of no session, :class:`WireError` for broken
        ones. Nothing is told apart by how long it takes to find a cookie wrong.
        """
        start = (outer[0] & 15) * 4
        end = outer[2] << 8 | outer[3]
        if not _IP_OCTETS <= start <= end <= len(outer) or end - start < OVERHEAD:
            raise WireError("L2TP message cut short")
        if int.from_bytes(outer[6:8], "big") & _NOT_WHOLE:
            raise WireError("a fragment of an L2TP message")
        sport, dport, size, _, version, _, session = _MESSAGE.unpack_from(outer, start)
        if version & _CONTROL or version & 15 != _VERSION:
            raise NotOpenedError("l2tp_control")
        link = self._links.get(session)
        if link is None or (sport, dport) != (link.remote_port, link.local_port):
            raise NotOpenedError("no_link")
        if outer[12:20] != _packed(link):
            raise NotOpenedError("no_link")
        at = start + _MESSAGE.size
        if not compare_digest(outer[at : at + COOKIE_OCTETS], link.cookie):
            raise NotOpenedError("l2tp_cookie")
        if not OVERHEAD <= size <= end - start:
            raise WireError(f"UDP length {size}, {end - start} octets there")
        frame = at + COOKIE_OCTETS + len(_NO_SUBLAYER)
        kind = frame + 2 * _ADDRESS_OCTETS
        mine = outer[frame : frame + _ADDRESS_OCTETS] == link.link_address
        if not mine or outer[kind : kind + 2] != _IPV4:
            raise NotOpenedError("l2tp_frame")
        packet = outer[: start + size]
        return link.name, packet[kind + 2 : ipv4.checked_end(packet, kind + 2)]


def _packed(link: TunnelLink) -> bytes:
    """Source and destination of what arrives; both are there, see :func:`problem`."""
    ends = (link.remote, link.local)
    return b"".join(one.packed for one in ends if one is not None)

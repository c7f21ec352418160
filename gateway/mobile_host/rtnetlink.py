"""What rtnetlink says of links, addresses, default routes and neighbours, as plain values.

Layouts: ``linux/rtnetlink.h``, ``linux/if_link.h``, ``linux/if_addr.h``, ``linux/neighbour.h``.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import Final

from gateway.dataplane.kernel.netlink import attributes

NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DELETE_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR, DELETE_NEIGHBOUR, GET_NEIGHBOUR = 28, 29, 30
GROUPS: Final = (1, 3, 5, 7)
"""RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE."""

_AF_INET = 2
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_NEXT_HOP = struct.Struct("=HBBi")
_U32 = struct.Struct("=I")
_WIRELESS = struct.Struct("=HH")
_SCANNED = 0x8B19
"""SIOCGIWSCAN."""
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_OPERSTATE_TESTING, _OPERSTATE_DORMANT = 4, 5
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER = 1, 3, 10
_IFLA_WIRELESS, _IFLA_OPERSTATE, _IFLA_LINKINFO = 11, 16, 18
_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_SECONDARY = 0x1
_SCOPE_UNIVERSE, _SCOPE_SITE = 0, 200
_RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE = 4, 5, 6, 9, 15
_TABLE_MAIN, _RTN_UNICAST = 254, 1
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_FAILED, _NUD_INCOMPLETE = 0x20, 0x01
MAX_NEXT_HOPS: Final = 64

ROUTES: Final = (GET_ROUTE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0))
LINKS: Final = (GET_LINK, _LINK.pack(0, 0, 0, 0, 0))
DUMPS: Final = (
    LINKS,
    (GET_ADDRESS, _ADDRESS.pack(_AF_INET, 0, 0, 0, 0)),
    ROUTES,
    (GET_NEIGHBOUR, _NEIGHBOUR.pack(_AF_INET, 0, 0, 0, 0)),
)


@dataclass(frozen=True, slots=True)
class LinkNews:
    """An interface as it is now, or that it is gone."""

    index: int
    name: str
    carrier: bool
    kind: str
    """"" of hardware; "veth", "xfrm", "bridge" ..."""
    loopback: bool
    master: int
    """The index of the bridge or bond that it is a port of, or 0."""
    link_address: bytes
    wireless: bool
    """The message tells of the radio: another access point, or none."""
    gone: bool


@dataclass(frozen=True, slots=True)
class AddressNews:
    """An IPv4 address of an interface, or that it is gone."""

    index: int
    address: IPv4Interface
    secondary: bool
    gone: bool


@dataclass(frozen=True, slots=True)
class RouteNews:
    """A default route of the main table, or that it is gone."""

    index: int
    router: IPv4Address | None
    metric: int
    gone: bool


@dataclass(frozen=True, slots=True)
class NeighbourNews:
    """The link-layer address of a station, empty when it is not known (any more)."""

    index: int
    address: IPv4Address
    link_address: bytes


News = LinkNews | AddressNews | RouteNews | NeighbourNews


def news(kind: int, body: bytes) -> Iterator[News]:
    """What one message says; nothing when it is of another family, table or scope."""
    if kind in {NEW_LINK, DELETE_LINK} and len(body) >= _LINK.size:
        yield _link(kind, body)
    elif kind in {NEW_ADDRESS, DELETE_ADDRESS} and len(body) >= _ADDRESS.size:
        yield from _address(kind, body)
    elif kind in {NEW_ROUTE, DELETE_ROUTE} and len(body) >= _ROUTE.size:
        yield from _default_routes(kind, body)
    elif kind in {NEW_NEIGHBOUR, DELETE_NEIGHBOUR} and len(body) >= _NEIGHBOUR.size:
        yield from _neighbour(kind, body)


def _link(kind: int, body: bytes) -> LinkNews:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = attributes(body, _LINK.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""), 0)
    state = (found.get(_IFLA_OPERSTATE) or b"\0")[0]
    up = bool(flags & _IFF_UP and flags & _IFF_LOWER_UP)
    return LinkNews(
        index,
        _text(found.get(_IFLA_IFNAME, b"")),
        # "Down" beside a lower layer that is up is old: the state follows it within a second.
        up and state not in {_OPERSTATE_TESTING, _OPERSTATE_DORMANT},
        _text(info.get(_INFO_KIND, b"")),
        bool(flags & _IFF_LOOPBACK),
        _u32(found.get(_IFLA_MASTER, b"")),
        found.get(_IFLA_ADDRESS, b""),
        _radio_moved(found.get(_IFLA_WIRELESS, b"")),
        kind == DELETE_LINK,
    )


def _radio_moved(event: bytes) -> bool:
    """Whether ``struct iw_event`` tells of more than a finished scan, which comes every minute."""
    if len(event) < _WIRELESS.size:
        return False
    _, command = _WIRELESS.unpack_from(event)
    return bool(command != _SCANNED)


def _address(kind: int, body: bytes) -> Iterator[AddressNews]:
    family, length, flags, scope, index = _ADDRESS.unpack_from(body)
    found = attributes(body, _ADDRESS.size)
    octets = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or b""
    if family != _AF_INET or len(octets) != 4 or length > 32:
        return
    if scope not in {_SCOPE_UNIVERSE, _SCOPE_SITE}:
        return
    flags |= _u32(found.get(_IFA_FLAGS, b""))
    address = IPv4Interface((octets, length))
    yield AddressNews(index, address, bool(flags & _IFA_F_SECONDARY), kind == DELETE_ADDRESS)


def _default_routes(kind: int, body: bytes) -> Iterator[RouteNews]:
    family, length, _, _, table, _, _, route_type, _ = _ROUTE.unpack_from(body)
    found = attributes(body, _ROUTE.size)
    table = _u32(found.get(_RTA_TABLE, b"")) or table
    if (family, length, table, route_type) != (_AF_INET, 0, _TABLE_MAIN, _RTN_UNICAST):
        return
    metric, gone = _u32(found.get(_RTA_PRIORITY, b"")), kind == DELETE_ROUTE
    hops = [(_u32(found.get(_RTA_OIF, b"")), found.get(_RTA_GATEWAY, b""))]
    hops += _next_hops(found.get(_RTA_MULTIPATH, b""))
    for index, router in hops:
        if index:
            yield RouteNews(index, IPv4Address(router) if len(router) == 4 else None, metric, gone)


def _next_hops(octets: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    offset = 0
    while offset + _NEXT_HOP.size <= len(octets) and len(found) < MAX_NEXT_HOPS:
        size, _, _, index = _NEXT_HOP.unpack_from(octets, offset)
        if size < _NEXT_HOP.size or offset + size > len(octets):
            break
        inner = attributes(octets, offset + _NEXT_HOP.size, offset + size)
        found.append((index, inner.get(_RTA_GATEWAY, b"")))
        offset += size + 3 & ~3
    return found


def _neighbour(kind: int, body: bytes) -> Iterator[NeighbourNews]:
    family, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
    found = attributes(body, _NEIGHBOUR.size)
    octets = found.get(_NDA_DST, b"")
    if family != _AF_INET or len(octets) != 4:
        return
    known = kind == NEW_NEIGHBOUR and not state & (_NUD_FAILED | _NUD_INCOMPLETE)
    link_address = found.get(_NDA_LLADDR, b"") if known else b""
    yield NeighbourNews(index, IPv4Address(octets), link_address)


def _u32(octets: bytes) -> int:
    return int(_U32.unpack(octets)[0]) if len(octets) == 4 else 0


def _text(octets: bytes) -> str:
    return octets.rstrip(b"\0").decode("utf-8", "replace")

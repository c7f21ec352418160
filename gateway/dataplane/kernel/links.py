"""The xfrm interface and its routes (rtnetlink), as far as the dataplane needs them.

Written directly instead of through pyroute2's IPRoute: loading that costs 12 MB and 0.1 s of the
core's budget for four messages.
"""

import errno
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    request,
)
from gateway.dataplane.kernel.xfrm.constants import IF_ID
from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress

ROUTE_PROTOCOL: Final = 71
"""``proto`` of the routes that this gateway owns; no daemon in iproute2's list uses it."""

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 3, 4, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_XFRM_IF_ID = 1, 2, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_RTNH_F_ONLINK = 4
_IFF_UP = 1
_AF_INET = 2
_RT_TABLE_MAIN, _RTN_UNICAST, _RTN_UNREACHABLE = 254, 1, 7
_LAST_METRIC = 0xFFFFFFFF
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_INFO = struct.Struct("=BxHiII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Link:
    """An interface; ``if_id`` is None unless it is an xfrm interface."""

    index: int
    name: str
    kind: str
    if_id: int | None


ONLINK: Final[dict[int, IpAddress]] = {
    4: IPv4Address("192.0.0.8"),
    6: IPv6Address("fe80::1"),
}
"""Next hops of routes to an Ethernet device behind which nobody has an address: the dummy address
of RFC 7600, and a link-local one. Without, each destination is a neighbour of its own there, and
neighbour tables are small."""


class Links:
    """Interfaces and routes of this network namespace."""

    def __init__(self, *, onlink: bool = False) -> None:
        """Routes that are ``onlink`` go to one neighbour: see :data:`ONLINK`."""
        self._onlink = onlink
        self._socket = NetlinkSocket(NETLINK_ROUTE)

    def close(self) -> None:
        """Close the socket; what was made stays."""
        self._socket.close()

    def find(self, name: str) -> Link | None:
        """The interface of this name."""
        body = _INFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        refusals, answers = self._socket.transact([request(_RTM_GETLINK, 0, body)])
        if refusals:
            if refusals[0].errno == errno.ENODEV:
                return None
            raise NetlinkError(f"interface {name}", refusals[0])
        for _, kind, answer in answers:
            if kind == _RTM_NEWLINK:
                return _link(name, answer)
        return None

    def add_xfrm_interface(self, name: str, mtu: int) -> int:
        """Make the interface, set it up and return its index. Raises :class:`NetlinkError`."""
        body = (
            _INFO.pack(0, 0, 0, _IFF_UP, _IFF_UP)
            + attribute(_IFLA_IFNAME, name.encode() + b"\0")
            + attribute(_IFLA_MTU, _U32.pack(mtu))
            + nested(
                _IFLA_LINKINFO,
                attribute(_IFLA_INFO_KIND, b"xfrm"),
                nested(_IFLA_INFO_DATA, attribute(_IFLA_XFRM_IF_ID, _U32.pack(IF_ID))),
            )
        )
        self._socket.check(
            f"xfrm interface {name}", [request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)]
        )
        link = self.find(name)
        if link is None:
            raise OSError(errno.ENODEV, f"xfrm interface {name} vanished")
        return link.index

    def keep(self, index: int, mtu: int) -> None:
        """Set an interface up that is there, with this MTU. Raises :class:`NetlinkError`."""
        body = _INFO.pack(0, 0, index, _IFF_UP, _IFF_UP) + attribute(_IFLA_MTU, _U32.pack(mtu))
        self._socket.check("tunnel interface", [request(_RTM_NEWLINK, 0, body)])

    def own_routes(self, index: int) -> set[IpNetwork]:
        """Networks that have routes of ours to interface ``index``. Raises OSError."""
        return self._own(_RTN_UNICAST, _RTA_OIF, index)

    def own_barriers(self) -> set[IpNetwork]:
        """Networks that have a barrier: see :meth:`add_barrier`. Raises OSError."""
        return self._own(_RTN_UNREACHABLE, _RTA_PRIORITY, _LAST_METRIC)

    def _own(self, wanted: int, attribute_type: int, value: int) -> set[IpNetwork]:
        found: set[IpNetwork] = set()
        for _, body in self._socket.dump(_RTM_GETROUTE, _ROUTE.pack(*9 * (0,))):
            family, bits, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
            if (table, protocol, kind) != (_RT_TABLE_MAIN, ROUTE_PROTOCOL, wanted):
                continue
            values = attributes(body, _ROUTE.size)
            if values.get(attribute_type) == _U32.pack(value):
                version4 = family == _AF_INET
                octets = values.get(_RTA_DST, bytes(4 if version4 else 16))
                found.add((IPv4Network if version4 else IPv6Network)((octets, bits)))
        return found

    def delete(self, index: int) -> None:
        """Delete an interface; routes through it go with it. It may be gone already."""
        self._socket.check(
            "interface", [request(_RTM_DELLINK, 0, _INFO.pack(0, 0, index, 0, 0))], errno.ENODEV
        )

    def add_route(self, network: IpNetwork, index: int) -> None:
        """Send ``network`` to interface ``index``. Raises OSError, also when there is a route."""
        made = request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, self._route(network, index))
        refusals, _ = self._socket.transact([made])
        if not refusals:
            return
        if refusals[0].errno == errno.EEXIST:
            # Somebody else's: it is not ours to replace.
            text = f"another route to {network} is there: remove it, or choose another network"
            raise OSError(errno.EEXIST, text)
        raise NetlinkError(f"route {network}", refusals[0])

    def delete_route(self, network: IpNetwork, index: int) -> None:
        """Reverse of :meth:`add_route`; the route may be gone already."""
        gone = request(_RTM_DELROUTE, 0, self._route(network, index))
        self._socket.check(f"route {network}", [gone], errno.ESRCH)

    def add_barrier(self, network: IpNetwork) -> None:
        """Make ``network`` unreachable where it has no other route. It may be so already.

        The kernel removes the routes of an interface that is set down or deleted; then this one
        counts, and nothing for the tunnels leaves by the default route in the clear.
        """
        made = request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _barrier(network))
        self._socket.check(f"unreachable route {network}", [made], errno.EEXIST)

    def delete_barrier(self, network: IpNetwork) -> None:
        """Reverse of :meth:`add_barrier`; it may be gone already."""
        gone = request(_RTM_DELROUTE, 0, _barrier(network))
        self._socket.check(f"unreachable route {network}", [gone], errno.ESRCH)

    def _route(self, network: IpNetwork, index: int) -> bytes:
        linked = network.version == 4 and not self._onlink
        scope = _RT_SCOPE_LINK if linked else _RT_SCOPE_UNIVERSE
        flags = _RTNH_F_ONLINK if self._onlink else 0
        body = _towards(network, _RTN_UNICAST, scope, flags)
        if self._onlink:
            body += attribute(_RTA_GATEWAY, ONLINK[network.version].packed)
        return body + attribute(_RTA_OIF, _U32.pack(index))


def _towards(network: IpNetwork, kind: int, scope: int, flags: int) -> bytes:
    """How every route of ours begins."""
    family = 2 if network.version == 4 else 10
    head = _ROUTE.pack(
        family, network.prefixlen, 0, 0, _RT_TABLE_MAIN, ROUTE_PROTOCOL, scope, kind, flags
    )
    return head + attribute(_RTA_DST, network.network_address.packed)


def _barrier(network: IpNetwork) -> bytes:
    body = _towards(network, _RTN_UNREACHABLE, _RT_SCOPE_UNIVERSE, 0)
    return body + attribute(_RTA_PRIORITY, _U32.pack(_LAST_METRIC))


def _link(name: str, body: bytes) -> Link:
    _, _, index, _, _ = _INFO.unpack_from(body)
    info = attributes(attributes(body, _INFO.size).get(_IFLA_LINKINFO, b""), 0)
    kind = info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
    if_id = None
    if kind == "xfrm":
        value = attributes(info.get(_IFLA_INFO_DATA, b""), 0).get(_IFLA_XFRM_IF_ID, b"")
        if_id = _U32.unpack(value)[0] if len(value) == 4 else None
    return Link(index, name, kind, if_id)

"""rtnetlink requests for the devices, addresses, routes and rules of NAR clients.

Layouts: ``linux/if_link.h``, ``linux/if_tunnel.h``, ``linux/veth.h``, ``linux/rtnetlink.h``,
``linux/fib_rules.h``. IPv4 only, as NAR is.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    request,
)
from gateway.domain.nar import Delivery
from gateway.nar_host.constants import LINK_ADDRESS, ROUTE_PROTOCOL

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IPTUN_LOCAL, _IPTUN_REMOTE, _IPTUN_TTL, _IPTUN_PMTUDISC = 2, 3, 4, 10
_GRE_LOCAL, _GRE_REMOTE, _GRE_TTL, _GRE_PMTUDISC, _GRE_IGNORE_DF = 6, 7, 8, 10, 19
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_OIF, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 4, 6, 8, 15
_RTAX_LOCK, _RTAX_MTU = 1, 2
_FRA_SRC, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 2, 6, 10, 15, 16, 21
_AF_INET: Final = 2
_UNIVERSE, _LINK = 0, 253
_UNICAST, _BLACKHOLE = 1, 6
_LAST: Final = 0xFFFF_FFFF
"""The worst metric."""
_UP, _NO_ARP = 0x01, 0x80
_TTL: Final = b"\x40"
EXAMPLE_ENDS: Final = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
"""Of a tunnel that is only tried (RFC 5737)."""
LOOPBACK: Final = 1
"""Index of ``lo`` in every network namespace."""
_INFO = struct.Struct("=BxHiII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ADDRESS = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")


def _u32(value: int) -> bytes:
    return _U32.pack(value)


def _name(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def tunnel(
    name: str, delivery: Delivery, local: IPv4Address, remote: IPv4Address, mtu: int
) -> bytes:
    """Make an IP-in-IP or GRE device; it is down. EEXIST: there is one between these addresses."""
    data: tuple[bytes, ...]
    if delivery is Delivery.GRE:
        kind = b"gre"
        data = (
            attribute(_GRE_LOCAL, local.packed),
            attribute(_GRE_REMOTE, remote.packed),
            attribute(_GRE_TTL, _TTL),
            attribute(_GRE_PMTUDISC, b"\0"),
            attribute(_GRE_IGNORE_DF, b"\1"),
        )
    else:
        kind = b"ipip"
        data = (
            attribute(_IPTUN_LOCAL, local.packed),
            attribute(_IPTUN_REMOTE, remote.packed),
            attribute(_IPTUN_TTL, _TTL),
            attribute(_IPTUN_PMTUDISC, b"\0"),
        )
    body = _INFO.pack(0, 0, 0, 0, 0) + _name(name) + attribute(_IFLA_MTU, _u32(mtu))
    body += nested(_IFLA_LINKINFO, attribute(_INFO_KIND, kind), nested(_INFO_DATA, *data))
    return request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def pair(name: str, mtu: int, peer_name: str, peer_namespace: int) -> bytes:
    """Make two interfaces that are one link, down, the other end in another namespace.

    Both have one link-layer address and ask nobody for any: what goes in comes out.
    """
    flags = _NO_ARP
    common = attribute(_IFLA_ADDRESS, LINK_ADDRESS) + attribute(_IFLA_MTU, _u32(mtu))
    peer = _INFO.pack(0, 0, 0, flags, flags) + _name(peer_name) + common
    peer += attribute(_IFLA_NET_NS_FD, _u32(peer_namespace))
    body = _INFO.pack(0, 0, 0, flags, flags) + _name(name) + common
    body += nested(
        _IFLA_LINKINFO,
        attribute(_INFO_KIND, b"veth"),
        nested(_INFO_DATA, attribute(_VETH_PEER, peer)),
    )
    return request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def move(index: int, namespace: int) -> bytes:
    """Give a device to another network namespace."""
    body = _INFO.pack(0, 0, index, 0, 0) + attribute(_IFLA_NET_NS_FD, _u32(namespace))
    return request(_RTM_NEWLINK, 0, body)


def set_up(index: int, *, arp: bool = True) -> bytes:
    """Set a device up."""
    flags = _UP if arp else _UP | _NO_ARP
    return request(_RTM_NEWLINK, 0, _INFO.pack(0, 0, index, flags, flags))


def configure(index: int, mtu: int, link_address: bytes) -> bytes:
    """Give an Ethernet device its MTU and its link-layer address."""
    body = _INFO.pack(0, 0, index, 0, 0) + attribute(_IFLA_MTU, _u32(mtu))
    return request(_RTM_NEWLINK, 0, body + attribute(_IFLA_ADDRESS, link_address))


def delete(index: int) -> bytes:
    """Delete a device; ENODEV when it is gone."""
    return request(_RTM_DELLINK, 0, _INFO.pack(0, 0, index, 0, 0))


def links(route: NetlinkSocket) -> dict[str, int]:
    """Indexes by name. Raises OSError."""
    found = {}
    for kind, body in route.dump(_RTM_GETLINK, _INFO.pack(0, 0, 0, 0, 0)):
        if kind == _RTM_NEWLINK:
            values = attributes(body, _INFO.size)
            name = values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
            found[name] = int(_INFO.unpack_from(body)[2])
    return found


def _address(index: int, address: IPv4Address) -> bytes:
    return (
        _ADDRESS.pack(_AF_INET, 32, 0, _UNIVERSE, index)
        + attribute(_IFA_ADDRESS, address.packed)
        + attribute(_IFA_LOCAL, address.packed)
    )


def add_address(index: int, address: IPv4Address) -> bytes:
    """EEXIST when it is there."""
    return request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _address(index, address))


def delete_address(index: int, address: IPv4Address) -> bytes:
    """EADDRNOTAVAIL when it is not there."""
    return request(_RTM_DELADDR, 0, _address(index, address))


def addresses(route: NetlinkSocket) -> Iterator[tuple[int, IPv4Address]]:
    """(Index, address) of every IPv4 address. Raises OSError."""
    for _, body in route.dump(_RTM_GETADDR, _ADDRESS.pack(_AF_INET, 0, 0, 0, 0)):
        local = attributes(body, _ADDRESS.size).get(_IFA_LOCAL, b"")
        if len(local) == 4:
            yield int(_ADDRESS.unpack_from(body)[4]), IPv4Address(local)


def default_route(table: int, index: int, mtu: int = 0) -> bytes:
    """Everything of a table goes to a device; replaces the one that was there.

    ``mtu`` is what fits, in octets; 0: what the device says.
    """
    short = table if table < 256 else 0
    body = _ROUTE.pack(_AF_INET, 0, 0, 0, short, ROUTE_PROTOCOL, _LINK, _UNICAST, 0)
    body += attribute(_RTA_TABLE, _u32(table)) + attribute(_RTA_OIF, _u32(index))
    if mtu:
        locked = attribute(_RTAX_LOCK, _u32(1 << _RTAX_MTU))
        body += nested(_RTA_METRICS, locked, attribute(_RTAX_MTU, _u32(mtu)))
    return request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def no_other_way(table: int) -> bytes:
    """What no device of a table takes ends there, and does not leave by the main table."""
    return request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _blackhole(table))


def delete_no_other_way(table: int) -> bytes:
    """ESRCH when it is not there."""
    return request(_RTM_DELROUTE, 0, _blackhole(table))


def _blackhole(table: int) -> bytes:
    body = _ROUTE.pack(_AF_INET, 0, 0, 0, 0, ROUTE_PROTOCOL, _UNIVERSE, _BLACKHOLE, 0)
    return body + attribute(_RTA_TABLE, _u32(table)) + attribute(_RTA_PRIORITY, _u32(_LAST))


@dataclass(frozen=True, slots=True)
class Rule:
    """Which packets look up ``table``: those of a source, or those with a mark."""

    priority: int
    table: int
    source: IPv4Address | None = None
    mark: int = 0

    def _body(self) -> bytes:
        prefix = 0 if self.source is None else 32
        body = _ROUTE.pack(_AF_INET, 0, prefix, 0, 0, 0, 0, _UNICAST, 0)
        body += attribute(_FRA_PRIORITY, _u32(self.priority))
        body += attribute(_FRA_TABLE, _u32(self.table))
        body += attribute(_FRA_PROTOCOL, bytes([ROUTE_PROTOCOL]))
        if self.source is not None:
            body += attribute(_FRA_SRC, self.source.packed)
        if self.mark:
            body += attribute(_FRA_FWMARK, _u32(self.mark))
            body += attribute(_FRA_FWMASK, _u32(0xFFFF_FFFF))
        return body

    def add(self) -> bytes:
        """EEXIST when it is there."""
        return request(_RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, self._body())

    def delete(self) -> bytes:
        """ENOENT when it is not there."""
        return request(_RTM_DELRULE, 0, self._body())


def rules(route: NetlinkSocket) -> set[Rule]:
    """Our rules. Raises OSError."""
    found = set()
    for _, body in route.dump(_RTM_GETRULE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        values = attributes(body, _ROUTE.size)
        if values.get(_FRA_PROTOCOL) != bytes([ROUTE_PROTOCOL]):
            continue
        source = values.get(_FRA_SRC, b"")
        found.add(
            Rule(
                _number(values, _FRA_PRIORITY),
                _number(values, _FRA_TABLE),
                IPv4Address(source) if len(source) == 4 else None,
                _number(values, _FRA_FWMARK),
            )
        )
    return found


def _number(values: dict[int, bytes], kind: int) -> int:
    value = values.get(kind, b"")
    return int(_U32.unpack(value)[0]) if len(value) == 4 else 0

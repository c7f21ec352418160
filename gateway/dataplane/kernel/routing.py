"""Routes, rules, addresses and neighbours as rtnetlink requests, compared and listed by value.

Layouts: ``linux/rtnetlink.h``, ``linux/fib_rules.h``, ``linux/if_addr.h``. IPv4 only: it serves the
mobile node.
"""

import fcntl
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from gateway.dataplane.kernel.links import ROUTE_PROTOCOL
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

_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_AF_INET = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 7, 8, 15
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_ONLINK: Final = 4
_UNICAST: Final = 1
_SCOPE_NOWHERE: Final = 255
_SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254
_FRA_DST, _FRA_PRIORITY, _FRA_FWMARK, _FRA_SUPPRESS_PREFIX, _FRA_TABLE = 1, 6, 10, 14, 15
_FRA_FWMASK, _FRA_PROTOCOL, _FRA_IP_PROTO, _FRA_SPORT, _FRA_DPORT = 16, 21, 22, 23, 24
_TO_TABLE: Final = 1
_INVERT: Final = 2
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_RT_PRIORITY = 1, 2, 8, 9
_OURS: Final = 0x4758
"""Metric of the route that an address of ours does not have: by it leftovers are found."""
_IFA_F_NOPREFIXROUTE: Final = 0x200
_ROUTE = struct.Struct("=BBBBBBBBI")
_ADDRESS = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")
_PORTS = struct.Struct("=HH")
_WHOLE_MARK: Final = 0xFFFF_FFFF
_SIOCGIFMTU: Final = 0x8921
_IFREQ = struct.Struct("=16si20x")

EVERYTHING: Final = IPv4Network("0.0.0.0/0")


def u32(value: int) -> bytes:
    """In host order."""
    return _U32.pack(value)


def _number(values: dict[int, bytes], kind: int) -> int:
    value = values.get(kind, b"")
    return _U32.unpack(value)[0] if len(value) == 4 else 0


@dataclass(frozen=True, slots=True)
class Route:
    """A route of ours in one of our tables; (table, network) tells routes apart."""

    table: int
    network: IPv4Network
    device: int
    """Interface index."""
    gateway: IPv4Address | None = None
    """Next hop; on the link, whatever addresses we have there."""
    source: IPv4Address | None = None
    """For packets that have none yet."""
    mtu: int = 0
    """Octets; 0 is the device's."""
    segment: int = 0
    """The TCP segment size to announce, octets; 0 is derived from the MTU."""

    @property
    def key(self) -> tuple[int, IPv4Network]:
        """What one route excludes another by."""
        return self.table, self.network

    def set(self) -> bytes:
        """Add it, replacing the one with its key."""
        scope = SCOPE_LINK if self.gateway is None else _SCOPE_UNIVERSE
        flags = _ONLINK if self.gateway is not None else 0
        body = _ROUTE.pack(
            _AF_INET, self.network.prefixlen, 0, 0, 0, ROUTE_PROTOCOL, scope, _UNICAST, flags
        )
        body += attribute(_RTA_TABLE, u32(self.table))
        if self.network.prefixlen:
            body += attribute(_RTA_DST, self.network.network_address.packed)
        body += attribute(_RTA_OIF, u32(self.device))
        if self.gateway is not None:
            body += attribute(_RTA_GATEWAY, self.gateway.packed)
        if self.source is not None:
            body += attribute(_RTA_PREFSRC, self.source.packed)
        metrics = []
        if self.mtu:
            metrics.append(attribute(_RTAX_MTU, u32(self.mtu)))
        if self.segment:
            metrics.append(attribute(_RTAX_ADVMSS, u32(self.segment)))
        if metrics:
            body += nested(_RTA_METRICS, *metrics)
        return request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def delete_route(key: tuple[int, IPv4Network]) -> bytes:
    """ESRCH when there is none."""
    table, network = key
    body = _ROUTE.pack(_AF_INET, network.prefixlen, 0, 0, 0, ROUTE_PROTOCOL, _SCOPE_NOWHERE, 0, 0)
    body += attribute(_RTA_TABLE, u32(table))
    if network.prefixlen:
        body += attribute(_RTA_DST, network.network_address.packed)
    return request(_DELROUTE, 0, body)


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy routing rule: which packets look up ``table``."""

    priority: int
    table: int
    mark: int = 0
    """Fwmark; 0 asks for none."""
    mask: int = _WHOLE_MARK
    invert: bool = False
    """Packets that do not match."""
    no_default: bool = False
    """A default route of the table does not count."""
    destination: IPv4Network | None = None
    udp_ports: tuple[int, int] | None = None
    """(source, destination)."""

    def _body(self) -> bytes:
        destination = self.destination
        body = _ROUTE.pack(
            _AF_INET,
            destination.prefixlen if destination else 0,
            0,
            0,
            self.table if self.table < 256 else 0,
            0,
            0,
            _TO_TABLE,
            _INVERT if self.invert else 0,
        )
        body += attribute(_FRA_PRIORITY, u32(self.priority))
        body += attribute(_FRA_TABLE, u32(self.table))
        body += attribute(_FRA_PROTOCOL, bytes([ROUTE_PROTOCOL]))
        if destination:
            body += attribute(_FRA_DST, destination.network_address.packed)
        if self.mark:
            body += attribute(_FRA_FWMARK, u32(self.mark))
            body += attribute(_FRA_FWMASK, u32(self.mask))
        if self.no_default:
            body += attribute(_FRA_SUPPRESS_PREFIX, u32(0))
        if self.udp_ports:
            body += attribute(_FRA_IP_PROTO, b"\x11")
            source, port = self.udp_ports
            body += attribute(_FRA_SPORT, _PORTS.pack(source, source))
            body += attribute(_FRA_DPORT, _PORTS.pack(port, port))
        return body

    def add(self) -> bytes:
        """EEXIST when it is there."""
        return request(_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, self._body())

    def delete(self) -> bytes:
        """ENOENT when it is not there."""
        return request(_DELRULE, 0, self._body())


@dataclass(frozen=True, slots=True)
class Address:
    """An address of ours on an interface, without a route to its network."""

    device: int
    """Interface index."""
    address: IPv4Address
    prefix: int = 32
    scope: int = SCOPE_HOST
    """Of host scope it is never chosen as the source of anything, and with arp_ignore 3 no
    neighbour is told of it."""

    def _body(self) -> bytes:
        return (
            _ADDRESS.pack(_AF_INET, self.prefix, 0, self.scope, self.device)
            + attribute(_IFA_ADDRESS, self.address.packed)
            + attribute(_IFA_LOCAL, self.address.packed)
        )

    def add(self) -> bytes:
        """EEXIST when the interface has it."""
        body = self._body() + attribute(_IFA_FLAGS, u32(_IFA_F_NOPREFIXROUTE))
        body += attribute(_IFA_RT_PRIORITY, u32(_OURS))
        return request(_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)

    def delete(self) -> bytes:
        """EADDRNOTAVAIL when it is not there."""
        return request(_DELADDR, 0, self._body())


def addresses(route: NetlinkSocket, *, ours: bool = False) -> Iterator[Address]:
    """All IPv4 addresses of the namespace, or those made by :meth:`Address.add`. Raises OSError."""
    for _, body in route.dump(_GETADDR, _ADDRESS.pack(_AF_INET, 0, 0, 0, 0)):
        _, prefix, _, scope, device = _ADDRESS.unpack_from(body)
        values = attributes(body, _ADDRESS.size)
        local = values.get(_IFA_LOCAL, b"")
        if ours and _number(values, _IFA_RT_PRIORITY) != _OURS:
            continue
        if len(local) == 4:
            yield Address(device, IPv4Address(local), prefix, scope)


def own_routes(route: NetlinkSocket, tables: tuple[int, ...]) -> Iterator[tuple[int, IPv4Network]]:
    """Keys of our routes in ``tables``. Raises OSError."""
    for _, body in route.dump(_GETROUTE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        _, prefix, _, _, _, protocol, _, _, _ = _ROUTE.unpack_from(body)
        values = attributes(body, _ROUTE.size)
        table = _number(values, _RTA_TABLE)
        if protocol == ROUTE_PROTOCOL and table in tables:
            network = values.get(_RTA_DST, bytes(4))
            yield table, IPv4Network((network, prefix))


def delete_rules(route: NetlinkSocket, priorities: range) -> Iterator[bytes]:
    """Requests that delete our rules with these priorities. Raises OSError."""
    for _, body in route.dump(_GETRULE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        values = attributes(body, _ROUTE.size)
        ours = values.get(_FRA_PROTOCOL) == bytes([ROUTE_PROTOCOL])
        if ours and _number(values, _FRA_PRIORITY) in priorities:
            # The kernel compares what is named: the rule as it is listed names all of itself.
            again = bytearray(body)
            if _number(values, _FRA_TABLE) >= 256:
                again[4] = 0
            yield request(_DELRULE, 0, bytes(again))


def mtu(interface: str) -> int:
    """Of an interface, in octets; 0 when there is none of that name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = _IFREQ.pack(interface.encode()[:15], 0)
        try:
            answer: bytes = fcntl.ioctl(any_socket, _SIOCGIFMTU, asked)
        except OSError:
            return 0
    return int(_IFREQ.unpack(answer)[1])

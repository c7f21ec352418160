"""Routes of members into the tunnel by fwmark, and addresses that the gateway answers for.

Layouts: ``linux/rtnetlink.h``, ``linux/fib_rules.h``. Both IP versions.
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.links import ROUTE_PROTOCOL
from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkSocket,
    attribute,
    attributes,
    request,
)
from gateway.dataplane.kernel.presence.constants import (
    FROM_DEVICE_PRIORITY,
    ROUTE_TABLE,
    TO_DEVICE_MASK,
    TO_DEVICE_PRIORITY,
)
from gateway.dataplane.packet import marks
from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress

_NEWADDR, _GETADDR = 20, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_FAMILIES: Final = {4: 2, 6: 10}
_RTA_DST, _RTA_OIF, _RTA_TABLE = 1, 4, 15
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = (
    3,
    6,
    10,
    15,
    16,
    21,
)
_UNICAST, _LOCAL, _TO_TABLE = 1, 2, 1
_LOCAL_TABLE: Final = 255
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST, _SCOPE_NOWHERE = 0, 253, 254, 255
_LOOPBACK: Final = 1
"""The interface index of ``lo``, in every network namespace."""
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=BBBBBBBBI")
_ADDRESS = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def _rule(version: int, priority: int, mark: int, mask: int, interface: bytes = b"") -> bytes:
    body = _HEADER.pack(_FAMILIES[version], 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
    body += _u32(_FRA_PRIORITY, priority) + _u32(_FRA_TABLE, ROUTE_TABLE)
    body += attribute(_FRA_PROTOCOL, bytes([ROUTE_PROTOCOL]))
    body += _u32(_FRA_FWMARK, mark) + _u32(_FRA_FWMASK, mask)
    return body + attribute(_FRA_IIFNAME, interface) if interface else body


def _rules(version: int) -> list[bytes]:
    return [
        _rule(version, TO_DEVICE_PRIORITY, marks.ANSWER, TO_DEVICE_MASK),
        _rule(version, FROM_DEVICE_PRIORITY, marks.FROM_DEVICE, marks.ZONES, b"lo\0"),
    ]


def _route(network: IpNetwork, *, table: int, kind: int, scope: int, interface: int) -> bytes:
    short = table if table < 256 else 0
    body = _HEADER.pack(
        _FAMILIES[network.version], network.prefixlen, 0, 0, short, ROUTE_PROTOCOL, scope, kind, 0
    )
    body += _u32(_RTA_TABLE, table)
    if network.prefixlen:
        body += attribute(_RTA_DST, network.network_address.packed)
    return body + _u32(_RTA_OIF, interface) if interface else body


def _local(network: IpNetwork) -> bytes:
    return _route(network, table=_LOCAL_TABLE, kind=_LOCAL, scope=_SCOPE_HOST, interface=_LOOPBACK)


class Routes:
    """In this network namespace. Methods raise OSError."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_ROUTE)

    def close(self) -> None:
        """Close the socket; what was made stays."""
        self._socket.close()

    def build(self, tunnel: str) -> None:
        """Marked packets go into the tunnel, and what comes out of it passes the reverse filter."""
        interface = socket.if_nametoindex(tunnel)
        for version, everything in ((4, "0.0.0.0/0"), (6, "::/0")):
            rules = [request(_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, body) for body in _rules(version)]
            route = _route(
                ip_network(everything),
                table=ROUTE_TABLE,
                kind=_UNICAST,
                scope=_SCOPE_LINK if version == 4 else _SCOPE_UNIVERSE,
                interface=interface,
            )
            route = request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route)
            absent = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES) if version == 6 else ()
            self._socket.check("rules of marks", [*rules, route], errno.EEXIST, *absent)
        _turn_on(f"ipv4/conf/{tunnel}/src_valid_mark")

    def forward_ipv6(self) -> None:
        """Turn on IPv6 routing between interfaces; it stays on."""
        _turn_on("ipv6/conf/all/forwarding")

    def clear(self) -> None:
        """Remove all of it."""
        requests = [request(_DELRULE, 0, body) for version in (4, 6) for body in _rules(version)]
        requests += [
            request(_DELROUTE, 0, _route(
                ip_network(everything),
                table=ROUTE_TABLE,
                kind=_UNICAST,
                scope=_SCOPE_NOWHERE,
                interface=0,
            ))
            for everything in ("0.0.0.0/0", "::/0")
        ]  # fmt: skip
        self._socket.transact(requests)  # some of it may be gone
        self.set_local(())

    def set_local(self, networks: Iterable[IpNetwork]) -> None:
        """Answer for exactly these networks, besides the addresses that interfaces have."""
        own = self.addresses()
        wanted = {
            one for one in networks if one.num_addresses > 1 or one.network_address not in own
        }
        there = set(self._own_local())
        added = [
            request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _local(one)) for one in wanted - there
        ]
        gone = [request(_DELROUTE, 0, _local(one)) for one in there - wanted]
        self._socket.check("addresses of ours", [*added, *gone], errno.ESRCH)

    def _own_local(self) -> Iterator[IpNetwork]:
        for version, family in _FAMILIES.items():
            asked = _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for _, body in self._socket.dump(_GETROUTE, asked):
                _, prefix, _, _, table, protocol, _, kind, _ = _HEADER.unpack_from(body)
                if (table, protocol, kind) == (_LOCAL_TABLE, ROUTE_PROTOCOL, _LOCAL):
                    octets = attributes(body, _HEADER.size).get(_RTA_DST)
                    if octets is not None and len(octets) == (4 if version == 4 else 16):
                        yield ip_network((octets, prefix))

    def addresses(self) -> set[IpAddress]:
        """All addresses of all interfaces."""
        found: set[IpAddress] = set()
        for family in _FAMILIES.values():
            for _, body in self._socket.dump(_GETADDR, _ADDRESS.pack(family, 0, 0, 0, 0)):
                values = attributes(body, _ADDRESS.size)
                octets = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS) or b""
                if len(octets) in (4, 16):
                    found.add(ip_address(octets))
        return found


def _turn_on(name: str) -> None:
    switch = Path("/proc/sys/net", name)
    if switch.read_text("ascii").strip() == "0":
        switch.write_text("1", "ascii")

"""Route tables, rules and addresses of the NAR dataplane, as rtnetlink requests.

Layouts: ``linux/rtnetlink.h``, ``linux/fib_rules.h``, ``linux/if_addr.h``. Everything carries
:data:`constants.ROUTE_PROTOCOL`, by which leftovers are found.
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from gateway.dataplane.kernel.nar import constants
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

_NEWADDR, _NEWROUTE, _DELROUTE, _GETROUTE = 20, 24, 25, 26
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_AF_INET = 2
_IFA_LOCAL = 2
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 1, 4, 6, 8, 15
_RTAX_LOCK, _RTAX_MTU = 1, 2
_UNICAST, _BLACKHOLE = 1, 6
_SCOPE_LINK, _SCOPE_NOWHERE = 253, 255
_FRA_DST, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 1, 6, 10, 15, 16, 21
_TO_TABLE = 1
_ROUTE = struct.Struct("=BBBBBBBBI")
_ADDRESS = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")
_LOCKED_MTU: Final = attribute(_RTAX_LOCK, _U32.pack(1 << _RTAX_MTU))
_LAST: Final = 1000
"""Metric of the blackhole behind a table's routes."""

EVERYTHING: Final = IPv4Network("0.0.0.0/0")


def _route(table: int, network: IPv4Network, kind: int, scope: int) -> bytes:
    return (
        _ROUTE.pack(_AF_INET, network.prefixlen, 0, 0, 0, constants.ROUTE_PROTOCOL, scope, kind, 0)
        + attribute(_RTA_TABLE, _U32.pack(table))
        + attribute(_RTA_DST, network.network_address.packed)
    )


def set_route(table: int, network: IPv4Network, device: int, mtu: int = 0) -> bytes:
    """Route ``network`` to ``device``, replacing what was there.

    With ``mtu`` (octets, locked) longer packets are fragmented, or answered where DF is set.
    """
    body = _route(table, network, _UNICAST, _SCOPE_LINK) + attribute(_RTA_OIF, _U32.pack(device))
    if mtu:
        body += nested(_RTA_METRICS, _LOCKED_MTU, attribute(_RTAX_MTU, _U32.pack(mtu)))
    return request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def delete_route(table: int, network: IPv4Network) -> bytes:
    """Reverse of :func:`set_route`; ESRCH when there is none."""
    body = _ROUTE.pack(
        _AF_INET, network.prefixlen, 0, 0, 0, constants.ROUTE_PROTOCOL, _SCOPE_NOWHERE, 0, 0
    )
    body += attribute(_RTA_TABLE, _U32.pack(table))
    return request(_DELROUTE, 0, body + attribute(_RTA_DST, network.network_address.packed))


def set_blackhole(table: int) -> bytes:
    """What has no route in ``table`` goes nowhere, least of all by the main table."""
    body = _route(table, EVERYTHING, _BLACKHOLE, 0)
    body += attribute(_RTA_PRIORITY, _U32.pack(_LAST))
    return request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def _rule(priority: int, table: int, *more: bytes, prefix: int = 0) -> bytes:
    return (
        _ROUTE.pack(_AF_INET, prefix, 0, 0, 0, 0, 0, _TO_TABLE, 0)
        + attribute(_FRA_PRIORITY, _U32.pack(priority))
        + attribute(_FRA_TABLE, _U32.pack(table))
        + attribute(_FRA_PROTOCOL, bytes([constants.ROUTE_PROTOCOL]))
        + b"".join(more)
    )


def add_mark_rule(priority: int, table: int, marks: range) -> bytes:
    """Look ``table`` up for packets with one of ``marks``; EEXIST when the rule is there."""
    mask = 0xFFFF_FFFF - (len(marks) - 1)
    return request(
        _NEWRULE,
        NLM_F_CREATE | NLM_F_EXCL,
        _rule(
            priority,
            table,
            attribute(_FRA_FWMARK, _U32.pack(marks[0])),
            attribute(_FRA_FWMASK, _U32.pack(mask)),
        ),
    )


def add_address_rule(priority: int, table: int, address: IPv4Address) -> bytes:
    """Look ``table`` up for packets to ``address``; EEXIST when the rule is there."""
    body = _rule(priority, table, attribute(_FRA_DST, address.packed), prefix=32)
    return request(_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, body)


def set_address(address: IPv4Address, device: int) -> bytes:
    """An address of scope link: never chosen as the source of anything."""
    body = _ADDRESS.pack(_AF_INET, 32, 0, _SCOPE_LINK, device)
    return request(
        _NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body + attribute(_IFA_LOCAL, address.packed)
    )


def _number(values: dict[int, bytes], kind: int) -> int:
    value = values.get(kind, b"")
    if len(value) == 1:
        return value[0]
    return int(_U32.unpack(value)[0]) if len(value) == 4 else 0


def old_rules(route: NetlinkSocket) -> Iterator[bytes]:
    """Requests that delete our rules."""
    for _, body in route.dump(_GETRULE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        values = attributes(body, _ROUTE.size)
        table = _number(values, _FRA_TABLE)
        if _number(values, _FRA_PROTOCOL) == constants.ROUTE_PROTOCOL and table in constants.TABLES:
            yield request(_DELRULE, 0, body)


def old_routes(route: NetlinkSocket) -> dict[tuple[int, IPv4Network], bytes]:
    """Requests that delete our routes, by table and destination; blackholes are left out."""
    found = {}
    for _, body in route.dump(_GETROUTE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        _, prefix, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(body)
        values = attributes(body, _ROUTE.size)
        table = _number(values, _RTA_TABLE)
        if protocol != constants.ROUTE_PROTOCOL or table not in constants.TABLES:
            continue
        network = IPv4Network((values.get(_RTA_DST, bytes(4)), prefix))
        if kind == _UNICAST:
            found[table, network] = delete_route(table, network)
    return found


def delete_blackholes() -> list[bytes]:
    """Reverse of :func:`set_blackhole` for all tables; ESRCH when there is none."""
    found = []
    for table in constants.TABLES:
        body = _ROUTE.pack(
            _AF_INET, 0, 0, 0, 0, constants.ROUTE_PROTOCOL, _SCOPE_NOWHERE, _BLACKHOLE, 0
        )
        body += attribute(_RTA_TABLE, _U32.pack(table))
        found.append(request(_DELROUTE, 0, body + attribute(_RTA_PRIORITY, _U32.pack(_LAST))))
    return found

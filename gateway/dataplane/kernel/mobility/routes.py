"""Route tables, rules and neighbours of the mobility dataplane, as rtnetlink requests.

Layouts: ``linux/rtnetlink.h``, ``linux/fib_rules.h``, ``linux/neighbour.h``. Everything carries
:data:`constants.ROUTE_PROTOCOL`, by which leftovers are found.

Home addresses that are away have a table of their own, looked up before the main one: nothing in
the main table is ours to replace, and clearing is emptying a table.
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from gateway.dataplane.kernel.mobility import constants
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

_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWADDR, _IFA_LOCAL = 20, 2
_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_AF_INET = 2
_RTA_DST, _RTA_OIF, _RTA_METRICS, _RTA_TABLE = 1, 4, 8, 15
_RTAX_LOCK, _RTAX_MTU = 1, 2
_UNICAST, _BLACKHOLE, _UNREACHABLE = 1, 6, 7
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_FRA_DST, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 1, 6, 10, 15, 16, 21
_TO_TABLE = 1
_NDA_DST, _NDA_LLADDR, _NDA_PROTOCOL = 1, 2, 12
_PERMANENT = 0x80
_PROXY = 0x08
_ROUTE = struct.Struct("=BBBBBBBBI")
_ADDRESS = struct.Struct("=BBBBI")
_NEIGHBOUR = struct.Struct("=BxHiHBB")
_U32 = struct.Struct("=I")
_LOCKED_MTU: Final = attribute(_RTAX_LOCK, _U32.pack(1 << _RTAX_MTU))


def _route(
    table: int, network: IPv4Network, kind: int, *, device: int = 0, mtu: int = 0, scope: int = 0
) -> bytes:
    body = (
        _ROUTE.pack(_AF_INET, network.prefixlen, 0, 0, 0, constants.ROUTE_PROTOCOL, scope, kind, 0)
        + attribute(_RTA_TABLE, _U32.pack(table))
        + attribute(_RTA_DST, network.network_address.packed)
    )
    if device:
        body += attribute(_RTA_OIF, _U32.pack(device))
    if mtu:
        body += nested(_RTA_METRICS, _LOCKED_MTU, attribute(_RTAX_MTU, _U32.pack(mtu)))
    return body


_EVERYTHING: Final = IPv4Network("0.0.0.0/0")


def set_host(table: int, address: IPv4Address, device: int, mtu: int = 0) -> bytes:
    """Route one address to ``device``, replacing what was there.

    With ``mtu`` (octets, locked) longer packets are fragmented, or answered where DF is set.
    """
    body = _route(table, IPv4Network(address), _UNICAST, device=device, mtu=mtu, scope=_SCOPE_LINK)
    return request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def delete_host(table: int, address: IPv4Address) -> bytes:
    """Reverse of :func:`set_host`; ESRCH when there is none."""
    body = _ROUTE.pack(_AF_INET, 32, 0, 0, 0, constants.ROUTE_PROTOCOL, 255, 0, 0)
    return request(
        _DELROUTE,
        0,
        body + attribute(_RTA_TABLE, _U32.pack(table)) + attribute(_RTA_DST, address.packed),
    )


def set_unreachable(network: IPv4Network) -> bytes:
    """A virtual home network: who is not bound is nowhere."""
    body = _route(constants.HOME_TABLE, network, _UNREACHABLE)
    return request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def delete_unreachable(network: IPv4Network) -> bytes:
    """Reverse of :func:`set_unreachable`."""
    return request(_DELROUTE, 0, _route(constants.HOME_TABLE, network, _UNREACHABLE))


def set_default(table: int, device: int, mtu: int) -> bytes:
    """Everything in ``table`` goes to ``device``."""
    body = _route(table, _EVERYTHING, _UNICAST, device=device, mtu=mtu, scope=_SCOPE_LINK)
    return request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def set_blackhole(table: int) -> bytes:
    """What has no route in ``table`` goes nowhere."""
    return request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _route(table, _EVERYTHING, _BLACKHOLE))


def delete_default(table: int) -> bytes:
    """Reverse of :func:`set_default`."""
    body = _ROUTE.pack(_AF_INET, 0, 0, 0, 0, constants.ROUTE_PROTOCOL, 255, 0, 0)
    return request(_DELROUTE, 0, body + attribute(_RTA_TABLE, _U32.pack(table)))


def _rule(priority: int, table: int, mark: int) -> bytes:
    body = (
        _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
        + attribute(_FRA_PRIORITY, _U32.pack(priority))
        + attribute(_FRA_TABLE, _U32.pack(table))
        + attribute(_FRA_PROTOCOL, bytes([constants.ROUTE_PROTOCOL]))
    )
    if mark:
        body += attribute(_FRA_FWMARK, _U32.pack(mark))
        body += attribute(_FRA_FWMASK, _U32.pack(0xFFFFFFFF))
    return body


def add_rule(priority: int, table: int, mark: int = 0) -> bytes:
    """Look ``table`` up for packets with ``mark`` (0: for all); EEXIST when that is so already."""
    return request(_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _rule(priority, table, mark))


def add_rule_to(destination: IPv4Address, priority: int, table: int) -> bytes:
    """Look ``table`` up for packets to one address; EEXIST when that is so already."""
    body = bytearray(_rule(priority, table, 0) + attribute(_FRA_DST, destination.packed))
    body[1] = 32
    return request(_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, bytes(body))


def delete_rule(priority: int, table: int, mark: int = 0) -> bytes:
    """Reverse of :func:`add_rule`; ENOENT when there is none."""
    return request(_DELRULE, 0, _rule(priority, table, mark))


def _neighbour(address: IPv4Address, device: int, state: int, flags: int) -> bytes:
    return (
        _NEIGHBOUR.pack(_AF_INET, 0, device, state, flags, 0)
        + attribute(_NDA_DST, address.packed)
        + attribute(_NDA_PROTOCOL, bytes([constants.ROUTE_PROTOCOL]))
    )


def set_neighbour(address: IPv4Address, device: int, link_address: bytes) -> bytes:
    """A visitor's link-layer address: it must not be asked for (RFC 5944 section 4.6)."""
    body = _neighbour(address, device, _PERMANENT, 0) + attribute(_NDA_LLADDR, link_address)
    return request(_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body)


def delete_neighbour(address: IPv4Address, device: int) -> bytes:
    """Reverse of :func:`set_neighbour`; ENOENT when there is none."""
    return request(_DELNEIGH, 0, _neighbour(address, device, 0, 0))


def set_proxy(address: IPv4Address, device: int) -> bytes:
    """Answer ARP requests for ``address`` on ``device`` (RFC 5944 section 4.6)."""
    return request(
        _NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, _neighbour(address, device, _PERMANENT, _PROXY)
    )


def delete_proxy(address: IPv4Address, device: int) -> bytes:
    """Reverse of :func:`set_proxy`; ENOENT when there is none."""
    return request(_DELNEIGH, 0, _neighbour(address, device, 0, _PROXY))


def set_address(address: IPv4Address, device: int) -> bytes:
    """An address of scope link: never chosen as the source of anything."""
    body = _ADDRESS.pack(_AF_INET, 32, 0, _SCOPE_LINK, device)
    body += attribute(_IFA_LOCAL, address.packed)
    return request(_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body)


Entry = tuple[str, int, IPv4Address]
"""``"route"`` and its table, or ``"neighbour"`` or ``"proxy"`` and the interface; the address."""


def own_entries(route: NetlinkSocket) -> dict[Entry, bytes]:
    """Routes to home addresses, neighbours and proxy entries of ours, with what deletes them."""
    found: dict[Entry, bytes] = {}
    tables = {constants.HOME_TABLE, constants.DELIVER_TABLE}
    for _, body in route.dump(_GETROUTE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        _, prefix, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(body)
        values = attributes(body, _ROUTE.size)
        table = _number(values, _RTA_TABLE)
        if (protocol, prefix, kind) == (constants.ROUTE_PROTOCOL, 32, _UNICAST) and table in tables:
            address = IPv4Address(values.get(_RTA_DST, bytes(4)))
            if address != constants.DUMMY:
                found["route", table, address] = delete_host(table, address)
    for name, flags in (("neighbour", 0), ("proxy", _PROXY)):
        asked = _NEIGHBOUR.pack(_AF_INET, 0, 0, 0, flags, 0)
        for _, body in route.dump(_GETNEIGH, asked):
            device = _NEIGHBOUR.unpack_from(body)[2]
            values = attributes(body, _NEIGHBOUR.size)
            if _number(values, _NDA_PROTOCOL) == constants.ROUTE_PROTOCOL:
                address = IPv4Address(values.get(_NDA_DST, bytes(4)))
                gone = request(_DELNEIGH, 0, _neighbour(address, device, 0, flags))
                found[name, device, address] = gone
    return found


def own_unreachable(route: NetlinkSocket) -> set[IPv4Network]:
    """Virtual home networks that have a route of ours."""
    found = set()
    for _, body in route.dump(_GETROUTE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        _, prefix, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(body)
        values = attributes(body, _ROUTE.size)
        if (protocol, kind) != (constants.ROUTE_PROTOCOL, _UNREACHABLE):
            continue
        if _number(values, _RTA_TABLE) == constants.HOME_TABLE:
            found.add(IPv4Network((values.get(_RTA_DST, bytes(4)), prefix)))
    return found


def reverse_tables(route: NetlinkSocket) -> dict[int, tuple[int, int]]:
    """Transmitting device and packet size of each reverse table that has a default route."""
    found = {}
    for _, body in route.dump(_GETROUTE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        _, prefix, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(body)
        values = attributes(body, _ROUTE.size)
        table = _number(values, _RTA_TABLE)
        if (protocol, prefix, kind) != (constants.ROUTE_PROTOCOL, 0, _UNICAST):
            continue
        if table in constants.REVERSE_TABLES:
            metrics = attributes(values.get(_RTA_METRICS, b""), 0)
            found[table] = _number(values, _RTA_OIF), _number(metrics, _RTAX_MTU)
    return found


def leftovers(route: NetlinkSocket) -> list[bytes]:
    """Requests that delete rules, routes and neighbours of an earlier run."""
    return [*_old_rules(route), *_old_routes(route), *_old_neighbours(route)]


def _number(values: dict[int, bytes], kind: int) -> int:
    value = values.get(kind, b"")
    return int.from_bytes(value, "little" if _LITTLE else "big")


_LITTLE: Final = struct.pack("=H", 1) == b"\1\0"


def _old_rules(route: NetlinkSocket) -> Iterator[bytes]:
    ours = {constants.HOME_TABLE, constants.DELIVER_TABLE, *constants.REVERSE_TABLES}
    for _, body in route.dump(_GETRULE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        values = attributes(body, _ROUTE.size)
        table = _number(values, _FRA_TABLE)
        if _number(values, _FRA_PROTOCOL) == constants.ROUTE_PROTOCOL and table in ours:
            mark = _number(values, _FRA_FWMARK)
            yield delete_rule(_number(values, _FRA_PRIORITY), table, mark)


def _old_routes(route: NetlinkSocket) -> Iterator[bytes]:
    ours = {constants.HOME_TABLE, constants.DELIVER_TABLE, *constants.REVERSE_TABLES}
    for _, body in route.dump(_GETROUTE, _ROUTE.pack(_AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        _, prefix, _, _, _, protocol, _, _, _ = _ROUTE.unpack_from(body)
        values = attributes(body, _ROUTE.size)
        table = _number(values, _RTA_TABLE)
        if protocol != constants.ROUTE_PROTOCOL or table not in ours:
            continue
        again = _ROUTE.pack(_AF_INET, prefix, 0, 0, 0, protocol, 255, 0, 0)
        again += attribute(_RTA_TABLE, _U32.pack(table))
        if prefix:
            again += attribute(_RTA_DST, values.get(_RTA_DST, bytes(4)))
        yield request(_DELROUTE, 0, again)


def _old_neighbours(route: NetlinkSocket) -> Iterator[bytes]:
    for flags in (0, _PROXY):
        asked = _NEIGHBOUR.pack(_AF_INET, 0, 0, 0, flags, 0)
        for _, body in route.dump(_GETNEIGH, asked):
            device = _NEIGHBOUR.unpack_from(body)[2]
            values = attributes(body, _NEIGHBOUR.size)
            if _number(values, _NDA_PROTOCOL) != constants.ROUTE_PROTOCOL:
                continue
            address = IPv4Address(values.get(_NDA_DST, bytes(4)))
            yield request(_DELNEIGH, 0, _neighbour(address, device, 0, flags))

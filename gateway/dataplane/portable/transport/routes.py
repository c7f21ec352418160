"""The way of marked packets into the tunnel interface, and nowhere while there is none.

Layouts: ``linux/rtnetlink.h``, ``linux/fib_rules.h``. Both IP versions.
"""

import contextlib
import errno
import socket
import struct
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
    request,
)
from gateway.dataplane.portable.transport import constants

_NEWROUTE, _DELROUTE, _NEWRULE, _DELRULE = 24, 25, 32, 33
_FAMILIES: Final = {4: 2, 6: 10}
_RTA_OIF, _RTA_PRIORITY, _RTA_TABLE = 4, 6, 15
_FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_PROTOCOL = 6, 10, 15, 21
_UNICAST, _UNREACHABLE, _TO_TABLE = 1, 7, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_LAST_RESORT: Final = 0x7FFF_FFFF
"""Metric of the route that leads nowhere: after any other one."""
_HEADER = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES)


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def _rule(version: int) -> bytes:
    body = _HEADER.pack(_FAMILIES[version], 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
    body += _u32(_FRA_PRIORITY, constants.PRIORITY) + _u32(_FRA_TABLE, constants.ROUTE_TABLE)
    body += attribute(_FRA_PROTOCOL, bytes([ROUTE_PROTOCOL]))
    return body + _u32(_FRA_FWMARK, constants.MARK)


def _route(version: int, *, interface: int) -> bytes:
    """The default route into an interface, or with none the one that leads nowhere."""
    kind = _UNICAST if interface else _UNREACHABLE
    scope = _SCOPE_LINK if version == 4 and interface else _SCOPE_UNIVERSE
    body = _HEADER.pack(_FAMILIES[version], 0, 0, 0, 0, ROUTE_PROTOCOL, scope, kind, 0)
    body += _u32(_RTA_TABLE, constants.ROUTE_TABLE)
    return body + (_u32(_RTA_OIF, interface) if interface else _u32(_RTA_PRIORITY, _LAST_RESORT))


def build(tunnel: str) -> None:
    """Make rules and routes; those that are there are fine. Raises OSError."""
    interface = socket.if_nametoindex(tunnel)
    with contextlib.closing(NetlinkSocket(NETLINK_ROUTE)) as route:
        for version in (4, 6):
            wanted = [request(_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _rule(version))]
            wanted += [
                request(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _route(version, interface=one))
                for one in (0, interface)
            ]
            absent = _NO_IPV6 if version == 6 else ()
            route.check("routes of transport mode", wanted, errno.EEXIST, *absent)
    # The reverse path filter then finds the same way for what comes out.
    Path(f"/proc/sys/net/ipv4/conf/{tunnel}/src_valid_mark").write_text("1", "ascii")


def clear() -> None:
    """Remove all of it, as far as it is there. Raises OSError without netlink."""
    with contextlib.closing(NetlinkSocket(NETLINK_ROUTE)) as route:
        requests = [request(_DELRULE, 0, _rule(version)) for version in (4, 6)]
        for version in (4, 6):
            body = _HEADER.pack(_FAMILIES[version], 0, 0, 0, 0, 0, 255, 0, 0)
            body += _u32(_RTA_TABLE, constants.ROUTE_TABLE)
            requests += [request(_DELROUTE, 0, body)] * 2
        route.transact(requests)

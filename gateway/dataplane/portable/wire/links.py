"""Pairs of virtual Ethernet devices that stand for the interfaces that a kernel does not have.

The near end has the name that rules and routes know; the stack sends and receives there. The far
end belongs to the forwarder. What comes in at the far end, the stack ignores: its Ethernet
addresses are the near end's own.
"""

import contextlib
import errno
import socket
import struct
import zlib
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkError,
    NetlinkSocket,
    attribute,
    nested,
    request,
)
from gateway.dataplane.portable.wire.joining import join_received, leave_whole
from gateway.dataplane.portable.wire.names import FAR_END

NAME_OCTETS: Final = 15
"""Longest name of an interface (``IFNAMSIZ``)."""
FAR_MTU: Final = 65535
"""So that only the near end's MTU says what fits."""
NEAR_ADDRESS: Final = b"\2gw\0\0\1"
"""Ethernet address of every near end: the forwarder need not ask for it."""

_SUFFIX = FAR_END
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_GROUP = (
    1,
    3,
    4,
    18,
    26,
    27,
)
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_AF_INET6, _ADDR_GEN_MODE, _GEN_MODE_NONE = 10, 8, b"\1"
_IFF_UP, _IFF_NOARP, _IFF_MULTICAST = 0x1, 0x80, 0x1000
_INFO = struct.Struct("=BxHiII")
_U32 = struct.Struct("=I")
_PACKET_INTERFACE = 4
"""Column of ``/proc/net/packet``."""


def peer_name(name: str) -> str:
    """The far end's name. A long name is cut, and a hash tells it from others cut alike."""
    if len(name) + len(_SUFFIX) <= NAME_OCTETS:
        return name + _SUFFIX
    return f"{name[:4]}{zlib.crc32(name.encode()):08x}{_SUFFIX}"


def make_pair(name: str, mtu: int, group: int = 0) -> int:
    """Make the pair, set both ends up and return the near end's index.

    ``mtu`` and the interface group ``group`` are those of the near end.
    Raises OSError, :class:`NetlinkError` when the kernel refuses or the name is taken.
    """
    with contextlib.closing(NetlinkSocket(NETLINK_ROUTE)) as route:
        near = attribute(_IFLA_MTU, _U32.pack(mtu)) + attribute(_IFLA_GROUP, _U32.pack(group))
        far = _ends(0) + _named(peer_name(name)) + attribute(_IFLA_MTU, _U32.pack(FAR_MTU))
        info = nested(
            _IFLA_LINKINFO,
            attribute(_INFO_KIND, b"veth"),
            nested(_INFO_DATA, attribute(_VETH_PEER, far)),
        )
        near += attribute(_IFLA_ADDRESS, NEAR_ADDRESS)
        body = _ends(0) + _named(name) + near + info
        made = request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)
        route.check(f"link pair {name}", [made])
        try:
            for end in (peer_name(name), name):
                without_autoconf(route, end)
                leave_whole(end)
            for end in (peer_name(name), name):
                up = _INFO.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _named(end)
                route.check(f"link pair {name}", [request(_RTM_NEWLINK, 0, up)])
            join_received(name)
            return socket.if_nametoindex(name)
        except OSError:
            delete(name)
            raise


def delete(name: str) -> None:
    """Delete both ends; routes through them go as well. They may be gone already."""
    with contextlib.closing(NetlinkSocket(NETLINK_ROUTE)) as route:
        body = _INFO.pack(0, 0, 0, 0, 0) + _named(name)
        route.check(f"link pair {name}", [request(_RTM_DELLINK, 0, body)], errno.ENODEV)


def exists(name: str) -> bool:
    """Whether both ends of the pair are there."""
    try:
        return bool(socket.if_nametoindex(name) and socket.if_nametoindex(peer_name(name)))
    except OSError:
        return False


def served(name: str) -> bool:
    """Whether somebody listens at the far end of the pair; so it is taken where nobody tells."""
    try:
        far = str(socket.if_nametoindex(peer_name(name)))
        # Of the thread's own network namespace; /proc/net is that of the process.
        lines = Path("/proc/thread-self/net/packet").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return True
    return any(words[_PACKET_INTERFACE] == far for words in map(str.split, lines[1:]))


def set_mtu(name: str, mtu: int) -> None:
    """Give the near end another MTU. Raises :class:`NetlinkError`."""
    with contextlib.closing(NetlinkSocket(NETLINK_ROUTE)) as route:
        body = _INFO.pack(0, 0, 0, 0, 0) + _named(name) + attribute(_IFLA_MTU, _U32.pack(mtu))
        route.check(f"MTU of {name}", [request(_RTM_NEWLINK, 0, body)])


def _ends(index: int) -> bytes:
    # Without IFF_MULTICAST the kernel reports no group memberships there, as on xfrm interfaces.
    return _INFO.pack(0, 0, index, _IFF_NOARP, _IFF_NOARP | _IFF_MULTICAST)


def _named(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def without_autoconf(route: NetlinkSocket, name: str) -> None:
    """Give an interface that is down no IPv6 address of its own. Raises :class:`NetlinkError`."""
    mode = nested(_AF_INET6, attribute(_ADDR_GEN_MODE, _GEN_MODE_NONE))
    body = _INFO.pack(0, 0, 0, 0, 0) + _named(name) + nested(_IFLA_AF_SPEC, mode)
    refusals, _ = route.transact([request(_RTM_NEWLINK, 0, body)])
    # A kernel without IPv6 has nothing to configure.
    if refusals and refusals[0].errno not in {errno.EAFNOSUPPORT, errno.EOPNOTSUPP}:
        raise NetlinkError(f"interface {name}", refusals[0])

"""Connections that the kernel forgets: ctnetlink (``linux/netfilter/nfnetlink_conntrack.h``)."""

import errno
import struct

from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NetlinkError,
    NetlinkSocket,
    attribute,
    request,
)

_DELETE = 1 << 8 | 2
_CTA_MARK, _CTA_MARK_MASK = 8, 21
_GENERIC = struct.pack("!BBH", 0, 0, 0)
_U32 = struct.Struct("!I")


class Connections:
    """In this network namespace."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def forget(self, marks: list[int], mask: int = 0xFFFF_FFFF) -> None:
        """Delete the connections with these marks. Raises OSError."""
        requests = [
            request(
                _DELETE,
                0,
                _GENERIC
                + attribute(_CTA_MARK, _U32.pack(mark))
                + attribute(_CTA_MARK_MASK, _U32.pack(mask)),
            )
            for mark in marks
        ]
        for refusal in self._socket.transact(requests)[0]:
            if refusal.errno != errno.ENOENT:
                raise NetlinkError("forgetting connections", refusal)

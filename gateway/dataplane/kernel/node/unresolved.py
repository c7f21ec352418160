"""Packets that wait for a neighbour's link-layer address: they have passed the switch already.

When a link changes behind its plug they would go to whoever answers there, seconds after their
permit has ended. Layout: ``linux/neighbour.h``.
"""

import socket
import struct
from typing import Final

from gateway.dataplane.kernel.netlink import NetlinkSocket, attribute, attributes, request

_DELNEIGH, _GETNEIGH = 29, 30
_NDA_DST: Final = 1
_INCOMPLETE: Final = 0x01
_AF_INET: Final = 2
_NEIGHBOUR = struct.Struct("=BxHiHBB")


def drop(route: NetlinkSocket, interface: str) -> None:
    """Drop what waits for neighbours on a link; who is known already stays known.

    Raises OSError, but for an interface that is gone.
    """
    try:
        index = socket.if_nametoindex(interface)
    except OSError:
        return
    gone = [
        request(_DELNEIGH, 0, _NEIGHBOUR.pack(_AF_INET, 0, index, 0, 0, 0) + address)
        for address in _unresolved(route, index)
    ]
    if gone:
        route.transact(gone)  # some may be known by now, and have sent what waited


def _unresolved(route: NetlinkSocket, index: int) -> list[bytes]:
    found = []
    for _, body in route.dump(_GETNEIGH, _NEIGHBOUR.pack(_AF_INET, 0, 0, 0, 0, 0)):
        _, _, device, state, _, _ = _NEIGHBOUR.unpack_from(body)
        if device == index and state == _INCOMPLETE:
            address = attributes(body, _NEIGHBOUR.size).get(_NDA_DST, b"")
            found.append(attribute(_NDA_DST, address))
    return found

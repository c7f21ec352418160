"""Multicast groups that mobile nodes away from home want from their home links.

The kernel joins them: it programs the interface and answers the queriers of the link, so that
switches that watch IGMP send the groups here.
"""

import contextlib
import socket
import struct
from typing import Final

from gateway.dataplane.packet.home_links import GroupChange

PER_SOCKET: Final = 20
"""What ``net.ipv4.igmp_max_memberships`` allows unless it was changed."""
_REQUEST = struct.Struct("=4s4si")


class GroupMemberships:
    """Sockets that are members and never read."""

    def __init__(self) -> None:
        self._sockets: list[tuple[socket.socket, set[tuple[int, bytes]]]] = []

    def apply(self, change: GroupChange) -> bool:
        """Join or leave; whether the kernel did."""
        key = (change.device, change.group)
        request = _REQUEST.pack(change.group, bytes(4), change.device)
        if not change.joined:
            for place, (one, groups) in enumerate(self._sockets):
                if key in groups:
                    groups.discard(key)
                    with contextlib.suppress(OSError):
                        one.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, request)
                    if not groups:
                        one.close()
                        del self._sockets[place]
                    break
            return True
        try:
            one, groups = self._with_room()
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError:
            return False
        groups.add(key)
        return True

    def _with_room(self) -> tuple[socket.socket, set[tuple[int, bytes]]]:
        for entry in self._sockets:
            if len(entry[1]) < PER_SOCKET:
                return entry
        made = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM), set[tuple[int, bytes]]())
        self._sockets.append(made)
        return made

    def close(self) -> None:
        """Leave all."""
        for one, _ in self._sockets:
            one.close()
        self._sockets.clear()

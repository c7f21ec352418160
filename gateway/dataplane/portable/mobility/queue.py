"""What user space decides about: logged packets, and those that only it can encapsulate.

The latter are routed to a transmitting link and marked by the ruleset; the forwarder leaves them
alone, and they are read here from the same far end: whole, with checksums, as they would leave.
"""

import fcntl
import select
import socket
import struct
from collections.abc import Collection, Sequence
from typing import Final

from gateway.dataplane.kernel.nfqueue import (
    LOCAL_OUT,
    POSTROUTING,
    PREROUTING,
    Conclusion,
    Waiting,
)
from gateway.dataplane.packet import marks
from gateway.dataplane.portable.logged_queue import LoggedQueue
from gateway.dataplane.portable.ways_back import WaysBack
from gateway.dataplane.portable.wire import filters
from gateway.dataplane.portable.wire.links import peer_name

_ETH_P_ALL: Final = 3
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_SO_RCVMARK, _SO_MARK = 75, 36
_RECEIVE_OCTETS: Final = 4 << 20
_SIOCGIFNAME: Final = 0x8910
_REQUEST = struct.Struct("=16si20x")
_U32 = struct.Struct("=I")
_SKF_AD_MARK: Final = 0xFFFF_F000 + 20
_SLOW_ONLY: Final = (
    (0x20, 0, 0, _SKF_AD_MARK),
    (0x54, 0, 0, marks.SLOW_MASK),
    (0x15, 0, 1, marks.SLOW),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)
"""Classic BPF: load the mark, mask it, compare, take or leave."""


class SlowLinks:
    """The far ends of transmitting links. Raises OSError from the constructor."""

    def __init__(self, names: Sequence[str]) -> None:
        self.sockets: list[socket.socket] = []
        try:
            for name in names:
                self._open(name)
        except OSError:
            self.close()
            raise

    def _open(self, name: str) -> None:
        made = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        self.sockets.append(made)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVMARK, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_OCTETS)
        made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        filters.attach(made, _SLOW_ONLY)
        made.bind((peer_name(name), _ETH_P_ALL))

    def receive(self, limit: int) -> list[Waiting]:
        """Up to ``limit`` packets of each link, with the marks that they had before."""
        found: list[Waiting] = []
        for one in self.sockets:
            for _ in range(limit):
                try:
                    octets, told, _, _ = one.recvmsg(0xFFFF, socket.CMSG_SPACE(_U32.size))
                except OSError:
                    break
                if len(octets) >= 20 and octets[0] >> 4 == 4:
                    found.append((0, POSTROUTING, _mark_before(told), 0, octets))
        return found

    def close(self) -> None:
        """Close the sockets."""
        for one in self.sockets:
            one.close()


def _mark_before(told: Sequence[tuple[int, int, bytes]]) -> int:
    for level, kind, data in told:
        if (level, kind) == (socket.SOL_SOCKET, _SO_MARK) and len(data) >= _U32.size:
            mark: int = _U32.unpack_from(data)[0]
            if mark == marks.SLOW_REVERSE:
                return marks.REVERSE
            return marks.SENT + mark - marks.SLOW if mark > marks.SLOW else 0
    return 0


class BySide:
    """Gives back what came from outside by an interface that counts as outside.

    Made in the network namespace that it works in; owns the two ways.
    """

    def __init__(self, inside: WaysBack, outside: WaysBack, names: Collection[str]) -> None:
        self._inside, self._outside = inside, outside
        self.outside_interfaces = names
        """By name: they may be made anew."""
        self._probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def give_back(self, hook: int, device: int, octets: bytes, mark: int) -> None:
        """See :class:`gateway.dataplane.portable.logged_queue.GivesBack`."""
        if hook != PREROUTING:
            # Only what this host sends is looked at any later.
            self._inside.give_back(LOCAL_OUT, device, octets, mark)
        elif self._name(device) in self.outside_interfaces:
            self._outside.give_back(hook, device, octets, mark)
        else:
            self._inside.give_back(hook, device, octets, mark)

    def use(self, names: Collection[str]) -> None:
        """Other interfaces may be outside now, and have other names and sizes."""
        self.outside_interfaces = names
        self._inside.forget()
        self._outside.forget()

    def _name(self, device: int) -> str:
        try:
            answer = fcntl.ioctl(self._probe, _SIOCGIFNAME, _REQUEST.pack(b"", device))
        except OSError:
            return ""
        name: bytes = _REQUEST.unpack(answer)[0]
        return name.rstrip(b"\0").decode("utf-8", "replace")

    def close(self) -> None:
        """Close both ways."""
        self._probe.close()
        self._inside.close()
        self._outside.close()


class MobilityQueue:
    """Implements :class:`gateway.dataplane.kernel.mobility.means.PacketQueue`; owns its parts."""

    def __init__(self, logged: LoggedQueue, slow: SlowLinks, back: BySide) -> None:
        self._logged, self._slow, self.back = logged, slow, back
        self._epoll = select.epoll()
        for descriptor in (logged.fileno(), *(one.fileno() for one in slow.sockets)):
            self._epoll.register(descriptor, select.EPOLLIN)

    @property
    def overruns(self) -> int:
        """Times that packets were lost before they could be read."""
        return self._logged.overruns

    def fileno(self) -> int:
        """For selectors."""
        return self._epoll.fileno()

    def receive(self, limit: int) -> list[Waiting]:
        """Packets that wait, of each source in order."""
        return self._logged.receive(limit) + self._slow.receive(limit)

    def conclude(self, conclusions: list[Conclusion]) -> bool:
        """Decide about packets of one :meth:`receive`. Those of links are never accepted.

        They have no binding any more: the kernel's own tunnel devices drop them as well.
        """
        return self._logged.conclude(conclusions)

    def close(self) -> None:
        """What waits is dropped."""
        self._epoll.close()
        self._logged.close()
        self._slow.close()
        self.back.close()

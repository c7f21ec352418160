"""How packets that user space has decided about get back into the stack, where they were taken.

Rules log and drop a packet, user space decides, and what it accepts begins its way again. Rules
have to know that it was decided about, and must not be told so by anybody else:

- Before routing: a packet that came in by a link pair of ours comes out of that pair once more, so
  whatever asks for the interface finds the same one. Others come out of a pair made for this. The
  Ethernet source is :attr:`WaysBack.judged`, which nobody knows but the rules.
- What this host sends goes out by a raw socket with a priority of its own, for which a process
  needs CAP_NET_ADMIN.
"""

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from gateway.dataplane.kernel.nfqueue import LOCAL_OUT
from gateway.dataplane.portable.wire.links import NAME_OCTETS, NEAR_ADDRESS, peer_name
from gateway.dataplane.portable.wire.pieces import pieces

_LOCAL_ADDRESS: Final = 0x02
"""The bit of Ethernet addresses that nobody was assigned; the lowest bit is not set."""
_SO_PRIORITY, _SO_MARK = 12, 36
_ETH_P_IP: Final = 0x0800
_SIOCGIFNAME, _SIOCGIFMTU, _SIOCGIFHWADDR, _SIOCGIFINDEX = 0x8910, 0x8921, 0x8927, 0x8933
_BY_INDEX = struct.Struct("=16si20x")
_BY_NAME = struct.Struct("=16s24x")
_U32 = struct.Struct("=I")
_SEND_BUFFER: Final = 1 << 20
_LARGEST: Final = 0xFFFF
_MAX_KNOWN: Final = 4096


def in_rules(priority: int) -> str:
    """As nftables writes what ``meta priority`` is compared with."""
    return f"{priority >> 16:x}:{priority & 0xFFFF:x}"


class WaysBack:
    """Implements :class:`gateway.dataplane.portable.logged_queue.GivesBack`.

    Everything stays in the network namespace of its making. Raises OSError from the constructor
    when there may be no such sockets.
    """

    def __init__(
        self, back: str, priority: int, *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """``back`` is the pair for what came in by no pair of ours; it need not be there yet."""
        first, *rest = random(6)
        self.judged = bytes((first & 0xFC | _LOCAL_ADDRESS, *rest))
        """Ethernet source of what begins its way again."""
        self._head = NEAR_ADDRESS + self.judged + _ETH_P_IP.to_bytes(2, "big")
        self._back = peer_name(back), _LARGEST
        self._known: dict[int, tuple[str, int]] = {}
        """Where to write, and the largest packet, by index of the interface that brought it."""
        with contextlib.ExitStack() as undo:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._links = undo.enter_context(socket.socket(socket.AF_PACKET, kind, 0))
            self._out = undo.enter_context(socket.socket(socket.AF_INET, kind, socket.IPPROTO_RAW))
            self._out.setsockopt(socket.SOL_SOCKET, _SO_PRIORITY, priority)
            self._out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for one in (self._links, self._out):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            undo.pop_all()

    @property
    def judged_in_rules(self) -> str:
        """:attr:`judged` as nftables writes it."""
        return self.judged.hex(":")

    def close(self) -> None:
        """Close the sockets; the pairs stay."""
        self._links.close()
        self._out.close()

    def give_back(self, hook: int, device: int, octets: bytes, mark: int) -> None:
        """See :meth:`GivesBack.give_back`. IPv4 packets only."""
        if hook == LOCAL_OUT:
            where = socket.inet_ntoa(octets[16:20]), 0
            self._out.sendmsg([octets], _marked(mark), 0, where)
            return
        name, limit = self._way(device)
        cut = [octets] if len(octets) <= limit else pieces(octets, limit)
        for one in cut:
            # The kernel drops what is longer than the MTU of the end that it comes out of.
            self._links.sendmsg([self._head, one], _marked(mark), 0, (name, _ETH_P_IP))

    def _way(self, device: int) -> tuple[str, int]:
        found = self._known.get(device)
        if found is None:
            found = self._pair_of(device) or self._back
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[device] = found
        return found

    def forget(self) -> None:
        """Interfaces may have other names or sizes."""
        self._known.clear()

    def _pair_of(self, device: int) -> tuple[str, int] | None:
        """The far end of a pair of ours with this near end, and the near end's MTU."""
        try:
            answer = self._ask(_SIOCGIFNAME, _BY_INDEX.pack(b"", device))
            name = answer[:16].split(b"\0")[0].decode("ascii")
            address = self._ask(_SIOCGIFHWADDR, _named(name))[18:24]
            far = peer_name(name)
            self._ask(_SIOCGIFINDEX, _named(far))
            mtu = int(_U32.unpack_from(self._ask(_SIOCGIFMTU, _named(name)), 16)[0])
        except (OSError, UnicodeDecodeError):
            return None
        return (far, mtu) if address == NEAR_ADDRESS else None

    def _ask(self, what: int, about: bytes) -> bytes:
        return fcntl.ioctl(self._out, what, about)


def _named(name: str) -> bytes:
    return _BY_NAME.pack(name.encode()[:NAME_OCTETS])


def _marked(mark: int) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, _SO_MARK, _U32.pack(mark))]

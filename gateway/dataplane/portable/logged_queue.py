"""What :class:`gateway.dataplane.kernel.nfqueue.Queue` is, on kernels without a packet queue.

Rules log a packet whole to a netlink group and drop it (``linux/netfilter/nfnetlink_log.h``). What
is accepted is given back to the stack as another packet: at the beginning of its way, as the rules
that logged it have to know (:class:`GivesBack`). What is dropped is gone already.

A packet that no verdict ever changes is better copied: it is logged with the prefix :data:`COPY`
and goes on by itself.
"""

import errno
import itertools
import re
import struct
import sys
from typing import Final, Protocol

from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NetlinkSocket,
    attribute,
    request,
)
from gateway.dataplane.kernel.nfqueue import DROP, Conclusion, QueuedPacket, Waiting
from gateway.dataplane.packet.whole import whole

COPY: Final = "copy"
"""Prefix of logged packets that go on by themselves."""

_PACKET = 4 << 8 | 0
_CONFIG = 4 << 8 | 1
_CFG_CMD, _CFG_MODE, _CFG_QTHRESH = 1, 2, 5
_CMD_BIND = 1
_COPY_PACKET = 2
_COPY_OCTETS: Final = 0xFE00
"""As much as fits one receive with everything that is told about a packet."""
_PACKET_HDR, _MARK, _IN_DEVICE, _PAYLOAD, _PREFIX = 1, 2, 4, 9, 10
_GENERIC = struct.Struct("!BBH")
_MODE = struct.Struct("!IBx")
_U32 = struct.Struct("!I")
_ATTRIBUTE = struct.Struct("=HH")
_PACKET_KIND = _PACKET.to_bytes(2, sys.byteorder)
_SHORTEST: Final = 20
_COPY_WIRE = COPY.encode() + b"\0"
_QUEUE_STATEMENT = re.compile(r"\bqueue num (\d+)(?: bypass)?(?=\s)")


def as_logged(rules: str) -> str:
    """The rules with every queue statement replaced: what it queues is logged and dropped.

    The group has the queue's number. Unlike a queue with ``bypass``, nothing passes while nobody
    listens.
    """
    return _QUEUE_STATEMENT.sub(r"log group \1 drop", rules)


def copied(group: int) -> str:
    """The statements for what is never changed: it is logged and accepted."""
    return f'log group {group} prefix "{COPY}" accept'


class GivesBack(Protocol):
    """How accepted packets get back into the stack."""

    def give_back(self, hook: int, device: int, octets: bytes, mark: int) -> None:
        """Of a packet that was logged at ``hook`` and came in by ``device`` (0: made here).

        Raises OSError when it cannot be done now.
        """


class LoggedQueue:
    """Listens to one group. Raises OSError when another process does."""

    def __init__(
        self, group: int, length: int, back: GivesBack, *, receive_buffer: int = 0
    ) -> None:
        """``length`` is how many packets may be without a verdict, the oldest of more are gone."""
        self._back = back
        self._length = length
        self._numbers = itertools.count(1)
        self._held: dict[int, tuple[int, int, bytes, int]] = {}
        self.overruns = 0
        """Times the socket buffer was full; the kernel dropped what did not fit."""
        self.not_given_back = 0
        """Accepted packets that the stack did not take."""
        size = receive_buffer or max(1 << 22, length << 11)
        self._socket = NetlinkSocket(NETLINK_NETFILTER, receive_buffer=size)
        try:
            for what in (
                attribute(_CFG_CMD, bytes((_CMD_BIND,))),
                attribute(_CFG_MODE, _MODE.pack(_COPY_OCTETS, _COPY_PACKET))
                + attribute(_CFG_QTHRESH, _U32.pack(1)),
            ):
                body = _GENERIC.pack(0, 0, group) + what
                self._socket.check(f"nft log group {group}", [request(_CONFIG, 0, body)])
        except OSError as error:
            self._socket.close()
            if error.errno == errno.EPERM:
                # Whoever may not change nftables at all has failed before.
                text = f"nft log group {group}: another process listens to it"
                raise OSError(errno.EBUSY, text) from error
            raise

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more: what has no verdict is gone."""
        self._held.clear()
        self._socket.close()

    def receive(self, limit: int) -> list[Waiting]:
        """Packets that wait, in order: up to ``limit`` logged ones, some of which are several."""
        datagrams, overrun = self._socket.read_datagrams(limit)
        self.overruns += overrun
        packets: list[Waiting] = []
        for datagram in datagrams:
            start, end = 0, len(datagram)
            while start + 20 <= end:
                size = int.from_bytes(datagram[start : start + 4], sys.byteorder)
                if size < 20 or start + size > end:
                    break
                if datagram[start + 4 : start + 6] == _PACKET_KIND:
                    self._take(datagram, start + 20, start + size, packets)
                start += size + 3 & ~3
        while len(self._held) > self._length:
            del self._held[next(iter(self._held))]
        return packets

    def _take(self, datagram: bytes, at: int, end: int, packets: list[Waiting]) -> None:
        hook, mark, device, octets, is_copy = _logged(datagram, at, end)
        if len(octets) < _SHORTEST:
            return
        for one in whole(octets) if octets[0] >> 4 == 4 else [octets]:
            number = next(self._numbers)
            if not is_copy:
                self._held[number] = hook, device, one, mark
            packets.append((number, hook, mark, device, one))

    def conclude(self, conclusions: list[Conclusion]) -> bool:
        """Decide about packets of one :meth:`receive`; whether the stack took what was accepted.

        Whatever was logged before and never decided about is dropped.
        """
        taken = True
        for number, verdict, octets, mark in conclusions:
            held = self._held.pop(number, None)
            if held is not None and verdict != DROP:
                taken &= self._accept(held, octets, mark)
        self._held.clear()
        return taken

    def _accept(self, held: tuple[int, int, bytes, int], octets: bytes | None, mark: int) -> bool:
        hook, device, old_octets, old_mark = held
        try:
            self._back.give_back(
                hook, device, old_octets if octets is None else octets, mark or old_mark
            )
        except OSError:
            self.not_given_back += 1
            return False
        return True

    def read(self, limit: int) -> list[QueuedPacket]:
        """Like :meth:`receive`, for packets that are decided about one by one, later."""
        return [QueuedPacket(number, octets) for number, *_, octets in self.receive(limit)]

    def decide(self, verdicts: list[tuple[int, int]]) -> None:
        """Of packets of any :meth:`read`: ``(number, ACCEPT or DROP)``. One gone is no error."""
        for number, verdict in verdicts:
            held = self._held.pop(number, None)
            if held is not None and verdict != DROP:
                self._accept(held, None, 0)


def _logged(datagram: bytes, at: int, end: int) -> tuple[int, int, int, bytes, bool]:
    """Hook, mark, device and octets of one packet message, and whether it is a copy."""
    hook = mark = device = 0
    octets = b""
    is_copy = False
    while at + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(datagram, at)
        if size < 4 or at + size > end:
            break
        if kind == _PAYLOAD:
            octets = datagram[at + 4 : at + size]
        elif kind == _PACKET_HDR and size >= 7:
            hook = datagram[at + 6]
        elif kind == _MARK and size >= 8:
            mark = _U32.unpack_from(datagram, at + 4)[0]
        elif kind == _IN_DEVICE and size >= 8:
            device = _U32.unpack_from(datagram, at + 4)[0]
        elif kind == _PREFIX:
            is_copy = datagram[at + 4 : at + size] == _COPY_WIRE
        at += size + 3 & ~3
    return hook, mark, device, octets, is_copy

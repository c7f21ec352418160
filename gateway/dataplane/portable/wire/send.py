"""What goes to the wire: whole packets by raw sockets.

Their headers are ours. The kernel routes them by destination, source and mark, and asks its rules
for what this host sends.
"""

import contextlib
import errno
import socket
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Final

from gateway.dataplane.portable.packets import Outer
from gateway.dataplane.portable.wire import filters
from gateway.dataplane.portable.wire.batches import (
    BATCH,
    SO_MARK,
    SendBatch,
    column,
    control_message,
)
from gateway.dataplane.portable.wire.pieces import pieces
from gateway.dataplane.portable.wire.sockets import with_buffers

SEND_OCTETS: Final = 8 << 20

_SOL_IPV6 = 41
_IPV6_HDRINCL, _IPV6_PKTINFO, _IPV6_MTU = 36, 50, 24
_IP_PKTINFO, _IP_MTU = 8, 14
_SOCKADDR_IN = struct.Struct("@H2x4s8x")
_SOCKADDR_IN6 = struct.Struct("@H2xI16sI")
_BELOW = struct.Struct("@i8s")
_U32 = struct.Struct("@I")


class RawSender:
    """Sends whole packets of both versions. Raises OSError from the constructor."""

    def __init__(self, *, by_source: bool, narrowed: Callable[[bytes], bool] | None = None) -> None:
        """``by_source``: the source decides about the route as well, and must be this host's.

        Otherwise rules may write it, when the route is known.

        ``narrowed`` is told the destination of an IPv4 packet that is too long and must not be
        fragmented, and says whether who made it has learned from that. It is dropped then.
        """
        self.counters: dict[str, int] = {}
        self._version4 = _sender(socket.AF_INET)
        note = control_message(socket.IPPROTO_IP, _IP_PKTINFO, bytes(12)) if by_source else b""
        self._batch4 = SendBatch(name_octets=_SOCKADDR_IN.size, note=note)
        self._batch4.names[:] = _SOCKADDR_IN.pack(socket.AF_INET, bytes(4)) * BATCH
        self._to4 = column(self._batch4.names, _SOCKADDR_IN.size, 4, "I")
        self._from4: memoryview | None = None
        if by_source:
            row = self._batch4.note_octets
            self._from4 = column(self._batch4.notes, row, self._batch4.note_at + 4, "I")
        self._version6: socket.socket | None = None
        with contextlib.suppress(OSError):
            self._version6 = _sender(socket.AF_INET6)
        note = control_message(_SOL_IPV6, _IPV6_PKTINFO, bytes(20)) if by_source else b""
        self._batch6 = SendBatch(name_octets=_SOCKADDR_IN6.size, note=note)
        name = _SOCKADDR_IN6.pack(socket.AF_INET6, 0, bytes(16), 0)
        self._batch6.names[:] = name * BATCH
        self._by_source = by_source
        self._narrowed = narrowed

    def close(self) -> None:
        """Close the sockets."""
        self._version4.close()
        if self._version6 is not None:
            self._version6.close()

    def send(self, packets: Sequence[Outer]) -> None:
        """Send in order, as far as packets of one version go."""
        version4 = [one for one in packets if one[0][0] >> 4 == 4]
        for start in range(0, len(version4), BATCH):
            self._send4(version4[start : start + BATCH])
        if len(version4) < len(packets):
            version6 = [one for one in packets if one[0][0] >> 4 == 6]
            for start in range(0, len(version6), BATCH):
                self._send6(version6[start : start + BATCH])

    def send_below(self, packets: Sequence[tuple[bytes, int, int]]) -> None:
        """Send each IPv4 packet by the interface of an index, whatever routes say of others."""
        for packet, mark, below in packets:
            notes = [
                (socket.SOL_SOCKET, SO_MARK, _U32.pack(mark)),
                (socket.IPPROTO_IP, _IP_PKTINFO, _BELOW.pack(below, bytes(8))),
            ]
            to = socket.inet_ntop(socket.AF_INET, packet[16:20]), 0
            try:
                self._version4.sendmsg([packet], notes, 0, to)
            except OSError as error:
                self._count(_ERRORS.get(error.errno or 0, "send_errors"))

    def _send4(self, packets: Sequence[Outer]) -> None:
        octets = [packet for packet, _ in packets]
        self._to4[: len(octets)] = array("I", b"".join([packet[16:20] for packet in octets]))
        if self._from4 is not None:
            sources = array("I", b"".join([packet[12:16] for packet in octets]))
            self._from4[: len(octets)] = sources
        marks = [mark for _, mark in packets]
        sent, error = self._batch4.send(self._version4.fileno(), octets, marks)
        if error:
            self._stopped(packets, sent, error, self._send4, self._cut4)

    def _send6(self, packets: Sequence[Outer]) -> None:
        if self._version6 is None:
            self._count("send_no_ipv6", len(packets))
            return
        octets = [packet for packet, _ in packets]
        names = self._batch6.names
        for at, packet in enumerate(octets):
            start = at * _SOCKADDR_IN6.size + 8
            names[start : start + 16] = packet[24:40]
            if self._by_source:
                start = at * self._batch6.note_octets + self._batch6.note_at
                self._batch6.notes[start : start + 16] = packet[8:24]
        marks = [mark for _, mark in packets]
        sent, error = self._batch6.send(self._version6.fileno(), octets, marks)
        if error:
            self._stopped(packets, sent, error, self._send6, self._cut6)

    def _stopped(
        self,
        packets: Sequence[Outer],
        sent: int,
        error: int,
        again: Callable[[Sequence[Outer]], None],
        cut: Callable[[bytes, int], None],
    ) -> None:
        """One packet did not go out; the others must not wait for it."""
        if error == errno.EMSGSIZE:
            cut(*packets[sent])
        elif error in {errno.EAGAIN, errno.ENOBUFS}:
            self._count("send_buffer_full", len(packets) - sent)
            return
        else:
            self._count(_ERRORS.get(error, "send_errors"))
        if sent + 1 < len(packets):
            again(packets[sent + 1 :])

    def _cut4(self, packet: bytes, mark: int) -> None:
        if packet[6] & 0x40 and self._narrowed is not None and self._narrowed(packet[16:20]):
            self._count("send_narrowed")
            return
        source = packet[12:16] if self._by_source else b""
        cut = pieces(packet, _route_mtu(socket.AF_INET, source, packet[16:20], mark))
        if len(cut) < 2:
            self._count("send_too_long")
            return
        for start in range(0, len(cut), BATCH):
            self._send4([(piece, mark) for piece in cut[start : start + BATCH]])

    def _cut6(self, packet: bytes, mark: int) -> None:
        source = packet[8:24] if self._by_source else b""
        cut = pieces(packet, _route_mtu(socket.AF_INET6, source, packet[24:40], mark))
        if len(cut) < 2:
            self._count("send_too_long")
            return
        for start in range(0, len(cut), BATCH):
            self._send6([(piece, mark) for piece in cut[start : start + BATCH]])

    def _count(self, what: str, packets: int = 1) -> None:
        self.counters[what] = self.counters.get(what, 0) + packets


_ERRORS: Final = {
    errno.ENETUNREACH: "send_no_route",
    errno.EHOSTUNREACH: "send_no_route",
    errno.ENETDOWN: "send_no_route",
    errno.EINVAL: "send_no_address",
    errno.EPERM: "send_forbidden",
}
"""EINVAL: the source is no address of this host any more. EPERM: a rule for what this host sends
dropped the packet."""


def _sender(family: int) -> socket.socket:
    made = socket.socket(
        family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW
    )
    try:
        filters.attach(made, filters.NOTHING)
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        else:
            made.setsockopt(_SOL_IPV6, _IPV6_HDRINCL, 1)
        with_buffers(made, 0, SEND_OCTETS)
    except OSError:
        made.close()
        raise
    return made


def _route_mtu(family: int, source: bytes, destination: bytes, mark: int) -> int:
    """What fits on the way to an address; asked only for packets that did not fit.

    Without ``source``, for one that is written when the route is known.
    """
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            if mark:
                asking.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
            if source:
                asking.bind((socket.inet_ntop(family, source), 0))
            asking.connect((socket.inet_ntop(family, destination), 9))
            if family == socket.AF_INET:
                return asking.getsockopt(socket.IPPROTO_IP, _IP_MTU)
            return asking.getsockopt(_SOL_IPV6, _IPV6_MTU)
        except OSError:
            return 1280

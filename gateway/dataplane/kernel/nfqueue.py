"""One NFQUEUE over netlink: packets in, verdicts out (``linux/netfilter/nfnetlink_queue.h``).

The NetfilterQueue binding decides about a packet inside its callback; here a packet is held
until the SA has moved, and verdicts of a batch go out in one send. :meth:`Queue.receive` and
:meth:`Queue.conclude` are for tens of thousands of packets per second: plain tuples, no objects.
"""

import contextlib
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.dataplane.kernel.netlink import (
    BATCH_OCTETS,
    NETLINK_NETFILTER,
    NLM_F_REQUEST,
    NetlinkSocket,
    attribute,
    attributes,
    messages,
    request,
)

ACCEPT: Final = 1
DROP: Final = 0

PREROUTING: Final = 0
LOCAL_OUT: Final = 3
POSTROUTING: Final = 4
"""Hooks, as a packet of :meth:`Queue.receive` tells where it waits."""

Waiting = tuple[int, int, int, int, bytes]
"""Number, hook, mark, index of the interface it came in by (0: made here), octets."""
Conclusion = tuple[int, int, bytes | None, int]
"""Number, verdict, new octets or None to leave them, new mark or 0 to leave it."""

_PACKET = 3 << 8 | 0
_VERDICT = 3 << 8 | 1
_CONFIG = 3 << 8 | 2
_VERDICT_BATCH = 3 << 8 | 3
_CFG_CMD, _CFG_PARAMS, _CFG_QUEUE_MAXLEN = 1, 2, 3
_CMD_BIND = 1
_COPY_PACKET = 2
_PACKET_HDR, _VERDICT_HDR, _MARK, _IN_DEVICE, _PAYLOAD = 1, 2, 3, 5, 10
_GENERIC = struct.Struct("!BBH")
_PARAMS = struct.Struct("!IB")
_COMMAND = struct.Struct("!BxH")
_VERDICT_LAYOUT = struct.Struct("!II")
_U32 = struct.Struct("!I")
_HEAD = struct.Struct("=IHHIIHHHH")
"""Netlink header, family and version, queue number in network order, verdict attribute."""
_ATTRIBUTE = struct.Struct("=HH")
_PACKET_KIND = _PACKET.to_bytes(2, sys.byteorder)
_MARK_HEAD = _ATTRIBUTE.pack(8, _MARK)


@dataclass(frozen=True, slots=True)
class QueuedPacket:
    """A packet that waits for its verdict; ``octets`` start with the IP header."""

    number: int
    octets: bytes


class PacketQueue(Protocol):
    """What user space decides about, and how it says so."""

    overruns: int
    """Times packets were lost because nobody read them in time."""

    def fileno(self) -> int:
        """For selectors."""

    def receive(self, limit: int) -> list[Waiting]:
        """Up to about ``limit`` packets that wait, in order."""

    def conclude(self, conclusions: list[Conclusion]) -> bool:
        """Decide about packets of one :meth:`receive`; False: some verdicts were lost."""

    def close(self) -> None:
        """What waits is dropped."""


class Queue:
    """Bound to one queue number. Raises :class:`NetlinkError` when another process has it."""

    def __init__(self, number: int, length: int, *, receive_buffer: int = 0) -> None:
        self._number = number
        self._number_wire = socket.htons(number)
        # The kernel counts 2 kB and more for each packet that waits to be read.
        size = receive_buffer or max(1 << 21, length << 11)
        self._socket = NetlinkSocket(NETLINK_NETFILTER, receive_buffer=size)
        self.overruns = 0
        """Times the socket buffer was full; the kernel dropped what did not fit."""
        try:
            for what in (
                attribute(_CFG_CMD, _COMMAND.pack(_CMD_BIND, 0)),
                attribute(_CFG_PARAMS, _PARAMS.pack(0xFFFF, _COPY_PACKET))
                + attribute(_CFG_QUEUE_MAXLEN, _U32.pack(length)),
            ):
                body = _GENERIC.pack(0, 0, number) + what
                self._socket.check(f"nft queue {number}", [request(_CONFIG, 0, body)])
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Unbind: waiting packets are dropped."""
        self._socket.close()

    def read(self, limit: int) -> list[QueuedPacket]:
        """Up to about ``limit`` packets that wait."""
        datagrams, overrun = self._socket.read_datagrams(limit)
        self.overruns += overrun
        packets = []
        for datagram in datagrams:
            for kind, _, _, _, body in messages(datagram):
                if kind != _PACKET:
                    continue
                found = attributes(body, 4)
                header = found.get(_PACKET_HDR, b"")
                if len(header) >= 4:
                    packets.append(
                        QueuedPacket(_U32.unpack_from(header)[0], found.get(_PAYLOAD, b""))
                    )
        return packets

    def decide(self, verdicts: list[tuple[int, int]]) -> None:
        """Send ``(packet number, ACCEPT or DROP)`` in one call. A packet gone is no error."""
        if verdicts:
            prefix = _GENERIC.pack(0, 0, self._number)
            self._socket.send(
                b"".join(
                    request(
                        _VERDICT,
                        0,
                        prefix + attribute(_VERDICT_HDR, _VERDICT_LAYOUT.pack(verdict, number)),
                    )
                    for number, verdict in verdicts
                )
            )

    def receive(self, limit: int) -> list[Waiting]:
        """Up to about ``limit`` packets that wait, in order."""
        datagrams, overrun = self._socket.read_datagrams(limit)
        self.overruns += overrun
        packets: list[Waiting] = []
        for datagram in datagrams:
            end = len(datagram)
            start = 0
            while start + 20 <= end:
                size = int.from_bytes(datagram[start : start + 4], sys.byteorder)
                if size < 20 or start + size > end:
                    break
                if datagram[start + 4 : start + 6] == _PACKET_KIND:
                    found = _waiting(datagram, start + 20, start + size)
                    if found is not None:
                        packets.append(found)
                start += size + 3 & ~3
        return packets

    def conclude(self, conclusions: list[Conclusion]) -> bool:
        """Decide about packets of one :meth:`receive`; whether the kernel took it.

        All that are dropped go with one message, and with them whatever was queued before and
        never decided about. Where memory lacks, everything is dropped: nothing is held.
        """
        if not conclusions:
            return True
        parts: list[bytes] = []
        size = 0
        dropped = False
        try:
            for number, verdict, octets, mark in conclusions:
                if verdict == DROP:
                    dropped = True
                    continue
                message = self._conclusion(number, verdict, octets, mark)
                if size + len(message) > BATCH_OCTETS and parts:
                    self._socket.send(b"".join(parts))
                    parts, size = [], 0
                parts.append(message)
                size += len(message)
            if parts:
                self._socket.send(b"".join(parts))
            if dropped:
                self._drop_up_to(conclusions[-1][0])
        except OSError:
            with contextlib.suppress(OSError):
                self._drop_up_to(conclusions[-1][0])
            return False
        return True

    def _drop_up_to(self, number: int) -> None:
        self._socket.send(
            _HEAD.pack(32, _VERDICT_BATCH, NLM_F_REQUEST, 0, 0, 0, self._number_wire, 12, 2)
            + _VERDICT_LAYOUT.pack(DROP, number)
        )

    def _conclusion(self, number: int, verdict: int, octets: bytes | None, mark: int) -> bytes:
        body = _VERDICT_LAYOUT.pack(verdict, number)
        if mark:
            body += _MARK_HEAD + mark.to_bytes(4, "big")
        if octets is not None:
            length = len(octets)
            body += _ATTRIBUTE.pack(4 + length, _PAYLOAD) + octets + b"\0" * (-length & 3)
        return (
            _HEAD.pack(
                24 + len(body),
                _VERDICT,
                NLM_F_REQUEST,
                0,
                0,
                0,
                self._number_wire,
                12,
                _VERDICT_HDR,
            )
            + body
        )


def _waiting(datagram: bytes, at: int, end: int) -> Waiting | None:
    """The attributes of one packet message; None for one that lacks its head."""
    number = -1
    hook = mark = device = 0
    octets = b""
    while at + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(datagram, at)
        if size < 4 or at + size > end:
            break
        if kind == _PAYLOAD:
            octets = datagram[at + 4 : at + size]
        elif kind == _PACKET_HDR and size >= 11:
            number = _U32.unpack_from(datagram, at + 4)[0]
            hook = datagram[at + 10]
        elif kind == _MARK and size >= 8:
            mark = _U32.unpack_from(datagram, at + 4)[0]
        elif kind == _IN_DEVICE and size >= 8:
            device = _U32.unpack_from(datagram, at + 4)[0]
        at += size + 3 & ~3
    return (number, hook, mark, device, octets) if number >= 0 else None

"""A link of ours: a packet socket on the far end of a pair, with fwmarks both ways."""

import errno
import fcntl
import socket
import struct
from collections.abc import Sequence
from typing import Final

from gateway.dataplane.portable.wire import filters
from gateway.dataplane.portable.wire.batches import (
    BATCH,
    LARGEST,
    ReceiveBatch,
    SendBatch,
)
from gateway.dataplane.portable.wire.links import NEAR_ADDRESS, peer_name
from gateway.dataplane.portable.wire.pieces import pieces
from gateway.dataplane.portable.wire.sockets import with_buffers, with_marks

RECEIVE_OCTETS: Final = 8 << 20
SEND_OCTETS: Final = 4 << 20

_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
_SOL_PACKET = 263
_PACKET_FANOUT, _PACKET_FANOUT_DATA, _PACKET_IGNORE_OUTGOING = 18, 22, 23
_FANOUT_BPF, _FANOUT_IGNORE_OUTGOING = 6, 0x4000
_SIOCGIFMTU = 0x8921
_IFREQ_MTU = struct.Struct("@16si20x")
_MARKED = b"\2g"
"""Before a mark it makes an Ethernet address: the kernel joins packets only of the same two, and
packets of two zones must not be joined."""
_HEADER = struct.Struct("!6s2sIH")
_MAX_HEADS = 4096
_GONE = frozenset((errno.ENODEV, errno.ENXIO, errno.ENETDOWN))


class VethLink:
    """One end, for one process of the forwarder. Raises OSError from the constructor."""

    def __init__(self, name: str, receive: ReceiveBatch, *, group: int | None = None) -> None:
        """Open the far end of the pair ``name``.

        ``group`` is the same 16-bit number for all processes that share the link: each gets
        what :func:`filters.by_destination` gives it, by the order in which they came.
        """
        self.name = name
        self.unsent = 0
        """Packets that did not go out: no memory, the link is down, or they fit in no way."""
        self._receive = receive
        self._far = socket.if_nametoindex(peer_name(name))
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        try:
            with_buffers(self._socket, RECEIVE_OCTETS, 0)
            self._marked = with_marks(self._socket)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            filters.attach(self._socket, filters.ONLY_IP)
            self._socket.bind((peer_name(name), _ETH_P_ALL))
            if group is not None:
                self._share(group)
            self._mtu = self._ask_mtu()
            self._sending = _sender(peer_name(name))
        except OSError:
            self._socket.close()
            raise
        self._send = SendBatch(name_octets=0)
        self._heads: dict[tuple[int, bool], bytes] = {}

    def _share(self, group: int) -> None:
        # The first kind spares the kernel a copy of each packet that leaves, for the filter.
        for kind in (_FANOUT_BPF | _FANOUT_IGNORE_OUTGOING, _FANOUT_BPF):
            try:
                self._socket.setsockopt(_SOL_PACKET, _PACKET_FANOUT, group | kind << 16)
                break
            except OSError as error:
                if kind == _FANOUT_BPF or error.errno != errno.EINVAL:
                    raise
        program = filters.by_destination()
        filters.attach(self._socket, program, _SOL_PACKET, _PACKET_FANOUT_DATA)

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the sockets; the pair stays."""
        self._socket.close()
        self._sending.close()

    @property
    def gone(self) -> bool:
        """Whether the pair was deleted."""
        try:
            return socket.if_nametoindex(peer_name(self.name)) != self._far
        except OSError:
            return True

    def receive(self) -> list[tuple[bytes, int]]:
        """A batch of what the stack sent into the near end. Raises OSError when it is down."""
        return self._receive.receive(self._socket.fileno(), marked=self._marked)

    def send(self, packets: Sequence[tuple[bytes, int]]) -> None:
        """Let packets come out of the near end, with their marks."""
        for start in range(0, len(packets), BATCH):
            self._send_batch(packets[start : start + BATCH])

    def _send_batch(self, packets: Sequence[tuple[bytes, int]]) -> None:
        if max(len(packet) for packet, _ in packets) > self._mtu:
            packets = self._fitting(packets)
            if len(packets) > BATCH:
                self.send(packets)
                return
        octets = [packet for packet, _ in packets]
        marks = [mark for _, mark in packets]
        heads = [self._head(mark, packet[0] < 0x60) for packet, mark in packets]
        sent, error = self._send.send(self._sending.fileno(), octets, marks, heads)
        if error:
            # The socket's buffer is full, or one packet is unwanted: a link would drop it as well.
            self.unsent += 1
            if error not in _GONE and sent + 1 < len(packets):
                self._send_batch(packets[sent + 1 :])

    def _head(self, mark: int, version4: bool) -> bytes:
        head = self._heads.get((mark, version4))
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            kind = _ETH_P_IP if version4 else _ETH_P_IPV6
            head = self._heads[mark, version4] = _HEADER.pack(NEAR_ADDRESS, _MARKED, mark, kind)
        return head

    def _fitting(self, packets: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        """The kernel drops what is longer than the MTU of the end that it comes out of."""
        self._mtu = self._ask_mtu()
        fitting: list[tuple[bytes, int]] = []
        for packet, mark in packets:
            if len(packet) <= self._mtu:
                fitting.append((packet, mark))
                continue
            cut = pieces(packet, self._mtu)
            self.unsent += not cut
            fitting.extend((piece, mark) for piece in cut)
        return fitting

    def _ask_mtu(self) -> int:
        asked = _IFREQ_MTU.pack(self.name.encode(), 0)
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFMTU, asked)
        except OSError:
            # The near end is in another network namespace.
            return LARGEST
        return int(_IFREQ_MTU.unpack(answer)[1])


def _sender(far: str) -> socket.socket:
    """It hears nothing, and writes Ethernet headers itself."""
    made = socket.socket(
        socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
    )
    try:
        with_buffers(made, 0, SEND_OCTETS)
        made.bind((far, 0))
    except OSError:
        made.close()
        raise
    return made

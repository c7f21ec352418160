"""One NFQUEUE over netlink: packets in, verdicts out (``linux/netfilter/nfnetlink_queue.h``).

The NetfilterQueue binding decides about a packet inside its callback; here a packet is held
until the SA has moved, and verdicts of a batch go out in one send.
"""

import struct
from dataclasses import dataclass
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NetlinkSocket,
    attribute,
    attributes,
    messages,
    request,
)

ACCEPT: Final = 1
DROP: Final = 0

_PACKET = 3 << 8 | 0
_VERDICT = 3 << 8 | 1
_CONFIG = 3 << 8 | 2
_CFG_CMD, _CFG_PARAMS, _CFG_QUEUE_MAXLEN = 1, 2, 3
_CMD_BIND = 1
_COPY_PACKET = 2
_PACKET_HDR, _VERDICT_HDR, _PAYLOAD = 1, 2, 10
_GENERIC = struct.Struct("!BBH")
_PARAMS = struct.Struct("!IB")
_COMMAND = struct.Struct("!BxH")
_VERDICT_LAYOUT = struct.Struct("!II")
_U32 = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class QueuedPacket:
    """A packet that waits for its verdict; ``octets`` start with the IP header."""

    number: int
    octets: bytes


class Queue:
    """Bound to one queue number. Raises :class:`NetlinkError` when another process has it."""

    def __init__(self, number: int, length: int, *, receive_buffer: int = 1 << 21) -> None:
        self._number = number
        self._socket = NetlinkSocket(NETLINK_NETFILTER, receive_buffer=receive_buffer)
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

"""What the wire brings: raw sockets for ESP, ESP in UDP and whatever tunnels ask for.

The kernel has checked the headers, put fragments together and asked its rules.
"""

import socket
import struct
from typing import Any, Final

from gateway.dataplane.portable.packets import Outer
from gateway.dataplane.portable.wire import filters
from gateway.dataplane.portable.wire.batches import BATCH, ReceiveBatch, control_message
from gateway.dataplane.portable.wire.sockets import with_buffers, with_marks

RECEIVE_OCTETS: Final = 8 << 20

_SOL_IPV6: Final = 41
_RECVPKTINFO, _PKTINFO, _RECVHOPLIMIT, _HOPLIMIT, _RECVTCLASS, _TCLASS = 49, 50, 51, 52, 66, 67
_SOCKADDR_OCTETS = 28
_HEADER = struct.Struct("!IHBB16s16s")
_NOTES = struct.Struct("@Lii16si0LLiii0LLiii0L")
"""The kernel's control messages behind the mark: to which address and interface, hop limit, traffic
class; each after its length, level and type. They come in this order."""
_KINDS = (_SOL_IPV6, _PKTINFO, _SOL_IPV6, _HOPLIMIT, _SOL_IPV6, _TCLASS)
_MARK_OCTETS = len(control_message(0, 0, bytes(4)))
_ROW = _MARK_OCTETS + _NOTES.size


class Batches:
    """What is needed to read many packets at once, for all sockets of a process."""

    def __init__(self) -> None:
        self.plain = ReceiveBatch()
        """For links and IPv4."""
        self.version6 = ReceiveBatch(name_octets=_SOCKADDR_OCTETS, control_octets=_ROW)


class RawReceiver:
    """One raw socket. Raises OSError from the constructor."""

    def __init__(
        self,
        version: int,
        protocol: int,
        program: filters.Program,
        batches: Batches,
        *,
        most: int = BATCH,
        room: int = RECEIVE_OCTETS,
    ) -> None:
        """``most`` packets are read at once, and ``room`` octets of them may wait."""
        self._version = version
        self._most = most
        self._protocol = protocol
        self._batches = batches
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._socket = socket.socket(
            family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
        )
        try:
            filters.attach(self._socket, program)
            with_buffers(self._socket, room, 0)
            self._marked = with_marks(self._socket)
            if version == 6:
                for option in (_RECVPKTINFO, _RECVHOPLIMIT, _RECVTCLASS):
                    self._socket.setsockopt(_SOL_IPV6, option, 1)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def change(self, program: filters.Program) -> None:
        """Listen to something else. Raises OSError."""
        filters.attach(self._socket, program)

    def receive(self) -> list[Outer]:
        """A batch of whole packets. Raises OSError when the kernel says something else."""
        fd = self._socket.fileno()
        if self._version == 4:
            return self._batches.plain.receive(fd, marked=self._marked, most=self._most)
        batch = self._batches.version6
        payloads = batch.receive(fd, marked=self._marked, most=self._most)
        if not payloads:
            return []
        names = bytes(batch.names[: len(payloads) * _SOCKADDR_OCTETS])
        at = _MARK_OCTETS if self._marked else 0
        notes = bytes(batch.controls[: len(payloads) * _ROW])
        found: list[Outer] = []
        for number, (payload, mark) in enumerate(payloads):
            head = self._header(
                len(payload),
                names[number * _SOCKADDR_OCTETS + 8 : number * _SOCKADDR_OCTETS + 24],
                _NOTES.unpack_from(notes, number * _ROW + at),
            )
            if head:
                found.append((head + payload, mark))
        return found

    def _header(self, octets: int, source: bytes, notes: tuple[Any, ...]) -> bytes:
        """The IPv6 header, which the kernel has taken off; nothing when it did not say enough."""
        if notes[1:3] + notes[6:8] + notes[10:12] != _KINDS:
            return b""
        first = 6 << 28 | (notes[12] & 0xFF) << 20
        ends = source, notes[3]
        return _HEADER.pack(first, octets & 0xFFFF, self._protocol, notes[8] & 0xFF, *ends)

"""Packets for another process of the forwarder, many in one datagram."""

import contextlib
import socket
import struct
from collections.abc import Sequence
from typing import Final

from gateway.dataplane.portable.packets import Inner
from gateway.dataplane.portable.wire.sockets import with_buffers

BUFFER_OCTETS: Final = 8 << 20
_DATAGRAM_OCTETS: Final = 128 << 10
_HEAD = struct.Struct("=II")


class Handover:
    """Each process reads one socket, and writes to those of all others."""

    def __init__(self, workers: int) -> None:
        """Before the processes part. Raises OSError."""
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        for _ in range(workers if workers > 1 else 0):
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            reading, writing = socket.socketpair(socket.AF_UNIX, kind)
            with_buffers(writing, 0, BUFFER_OCTETS)
            self._pairs.append((reading, writing))
        self.lost = 0
        """Packets that the other process had no room for."""

    def fileno(self, worker: int) -> int:
        """Of the socket that this process reads; -1 when there is nobody else."""
        return self._pairs[worker][0].fileno() if self._pairs else -1

    def send(self, handovers: Sequence[tuple[int, bytes, int]]) -> None:
        """Hand packets to their owners: each is a process, a packet and its mark."""
        for owner in {one[0] for one in handovers}:
            parts: list[bytes] = []
            size = 0
            for to, packet, mark in handovers:
                if to != owner:
                    continue
                if size + len(packet) > _DATAGRAM_OCTETS:
                    self._write(owner, parts)
                    parts, size = [], 0
                parts += (_HEAD.pack(len(packet), mark), packet)
                size += len(packet) + _HEAD.size
            self._write(owner, parts)

    def _write(self, owner: int, parts: list[bytes]) -> None:
        try:
            self._pairs[owner][1].send(b"".join(parts))
        except (OSError, IndexError):
            # Its queue is full: a packet queue of a device would drop them too.
            self.lost += len(parts) // 2

    def receive(self, worker: int) -> list[Inner]:
        """What others handed over: one datagram."""
        found: list[Inner] = []
        with contextlib.suppress(BlockingIOError):
            octets = self._pairs[worker][0].recv(2 * _DATAGRAM_OCTETS)
            at = 0
            while at + _HEAD.size <= len(octets):
                size, mark = _HEAD.unpack_from(octets, at)
                at += _HEAD.size
                found.append((octets[at : at + size], mark))
                at += size
        return found

    def close(self) -> None:
        """Close all sockets."""
        for pair in self._pairs:
            for sock in pair:
                sock.close()

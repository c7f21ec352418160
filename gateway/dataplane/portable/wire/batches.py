"""Many packets in one system call: ``recvmmsg`` and ``sendmmsg`` with arrays made once.

Nothing is allocated for a packet but the packet itself. The kernel writes lengths and marks into
arrays that are read with a stride, which costs less than an attribute of a ctypes structure.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
from array import array
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any, Final

BATCH: Final = 64
"""Packets of one system call: beyond that the calls cost little, and others wait longer."""
LARGEST: Final = 65535 + 40
"""Octets of the longest packet."""

SO_MARK: Final = 36
SO_RCVMARK: Final = 75
"""Since Linux 5.19: received packets tell their fwmark."""

_STRIDE = 65536 + 4096 + 33 * 64
"""Between slots for packets. Pages that no packet reached cost no memory; not a power of two, or
all packets would share the same few lines of the processor's cache."""
_WORD = struct.calcsize("@L")


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Header(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("message", _Message), ("octets", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg, _recvmmsg = _libc.sendmmsg, _libc.recvmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_recvmmsg.argtypes = (*_sendmmsg.argtypes, ctypes.c_void_p)

_CONTROL_HEAD = struct.Struct("@Lii")
_CONTROL_OCTETS = 2 * _CONTROL_HEAD.size
"""Of one control message with an int, with its padding, at most."""


class ReceiveBatch:
    """Reads packets with their marks. One serves many sockets, one after the other."""

    def __init__(self, *, name_octets: int = 0, control_octets: int = _CONTROL_OCTETS) -> None:
        """With room for the sender's ``sockaddr``, and for control messages beyond the mark."""
        slots = BATCH
        self._memory = mmap.mmap(-1, slots * _STRIDE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._anchor = ctypes.c_char.from_buffer(self._memory)
        start = ctypes.addressof(self._anchor)
        self._starts = range(0, slots * _STRIDE, _STRIDE)
        controls = (ctypes.c_char * (slots * control_octets))()
        names = (ctypes.c_char * (slots * name_octets))()
        self.controls, self.names = memoryview(controls).cast("B"), memoryview(names).cast("B")
        """What the kernel wrote of each packet, one after the other."""
        self._vectors = (_Vector * slots)()
        self._headers = (_Header * slots)()
        for number in range(slots):
            self._vectors[number] = _Vector(start + self._starts[number], LARGEST)
            self._headers[number].message = _Message(
                name=ctypes.addressof(names) + number * name_octets,
                name_length=name_octets,
                vectors=ctypes.addressof(self._vectors) + number * ctypes.sizeof(_Vector),
                vector_count=1,
                control=ctypes.addressof(controls) + number * control_octets,
                control_length=control_octets,
            )
        self._at = ctypes.addressof(self._headers)
        self._whole = memoryview(self._headers).cast("B")
        self._fresh = bytes(self._whole)
        self._lengths = column(self._headers, ctypes.sizeof(_Header), _Header.octets.offset, "I")
        self._marks = column(controls, control_octets, _CONTROL_HEAD.size, "I")

    def receive(
        self, fd: int, *, marked: bool = True, most: int = BATCH
    ) -> list[tuple[bytes, int]]:
        """What waits at a socket, at most a batch.

        ``marked`` sockets have :data:`SO_RCVMARK` set; of others the mark is 0.
        Raises OSError for anything but an empty socket.
        """
        # The kernel puts what it wrote in the place of what there was room for.
        self._whole[:] = self._fresh
        count = _recvmmsg(fd, self._at, most, socket.MSG_DONTWAIT, None)
        if count <= 0:
            code = ctypes.get_errno()
            if not count or code in {errno.EAGAIN, errno.EINTR}:
                return []
            raise OSError(code, os.strerror(code))
        memory = self._memory
        lengths = self._lengths[:count].tolist()
        marks = self._marks[:count].tolist() if marked else [0] * count
        return [
            (memory[start : start + length], mark)
            for start, length, mark in zip(self._starts, lengths, marks, strict=False)
        ]


class SendBatch:
    """Sends packets with their marks; names of destinations are the owner's to write."""

    def __init__(self, *, name_octets: int, note: bytes = b"") -> None:
        """Without names the socket has to know where to.

        ``note`` is another control message of each packet, its padding included.
        """
        slots = BATCH
        self._vectors = (_Vector * slots)()
        self._headers = (_Header * slots)()
        mark = control_message(socket.SOL_SOCKET, SO_MARK, bytes(4))
        row = len(mark + note)
        self._controls = ctypes.create_string_buffer((mark + note) * slots)
        self.notes = memoryview(self._controls).cast("B")
        """Control messages, :attr:`note_octets` of each packet; the value of its ``note`` begins
        :attr:`note_at` octets after their start."""
        self.note_octets = row
        self.note_at = len(mark) + _CONTROL_HEAD.size
        table = (ctypes.c_char * (slots * name_octets))()
        self.names = memoryview(table).cast("B")
        """The destinations' ``sockaddr``, one after the other."""
        names = ctypes.addressof(table)
        for number in range(slots):
            self._headers[number].message = _Message(
                name=names + number * name_octets,
                name_length=name_octets,
                vectors=ctypes.addressof(self._vectors) + number * ctypes.sizeof(_Vector),
                vector_count=1,
                control=ctypes.addressof(self._controls) + number * row,
                control_length=row,
            )
        self._at = ctypes.addressof(self._headers)
        size = ctypes.sizeof(_Vector)
        self._bases = column(self._vectors, size, 0, "L")
        self._lengths = column(self._vectors, size, _WORD, "L")
        self._marks = column(self._controls, row, _CONTROL_HEAD.size, "I")

    def send(
        self, fd: int, packets: Sequence[bytes], marks: Sequence[int], heads: Sequence[bytes] = ()
    ) -> tuple[int, int]:
        """Send up to a batch of packets: how many went, and the errno that stopped them or 0.

        ``heads``, all of one length, go before each of them.
        """
        count = len(packets)
        if heads:
            more = len(heads[0])
            lengths = [len(packet) + more for packet in packets]
            joined = bytearray().join(chain.from_iterable(zip(heads, packets, strict=True)))
        else:
            lengths = [len(packet) for packet in packets]
            joined = bytearray().join(packets)
        start = ctypes.addressof(ctypes.c_char.from_buffer(joined)) if joined else 0
        starts = array("L", accumulate(lengths, initial=start))
        starts.pop()
        self._bases[:count] = starts
        self._lengths[:count] = array("L", lengths)
        self._marks[:count] = array("I", marks)
        sent = 0
        while sent < count:
            done = _sendmmsg(
                fd, self._at + sent * ctypes.sizeof(_Header), count - sent, socket.MSG_DONTWAIT
            )
            if done <= 0:
                code = ctypes.get_errno()
                if code != errno.EINTR:
                    return sent, code
                continue
            sent += done
        return sent, 0


def control_message(level: int, kind: int, value: bytes) -> bytes:
    """A control message with its padding (``CMSG_SPACE``)."""
    head = _CONTROL_HEAD.pack(_CONTROL_HEAD.size + len(value), level, kind)
    return head + value + bytes(-len(value) % _WORD)


def column(
    table: Any,  # noqa: ANN401 an array
    row: int,
    offset: int,
    kind: str,
    rows: int = BATCH,
) -> memoryview:
    """One field of all rows of a table, to be read and written as a whole."""
    size = struct.calcsize("@" + kind)
    fields: Any = memoryview(table).cast("B")[: row * rows]
    whole: memoryview = fields.cast(kind)[offset // size :: row // size]
    return whole

"""sendmmsg(2) and recvmmsg(2) over buffers of equal size: a generator should cost little."""

import ctypes
import socket
import struct

MSG_WAITFORONE = 0x10000
HEADER_OCTETS = 64
"""Of ``struct mmsghdr``."""


class Vector(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Vector)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Counted(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("header", Header), ("octets", ctypes.c_uint))


_libc = ctypes.CDLL(None, use_errno=True)


class Batch:
    """As many buffers as there are copies of ``octets``, one after the other in :attr:`octets`."""

    def __init__(self, octets: bytes, count: int, to: bytes = b"") -> None:
        """``to`` is a ``struct sockaddr``; none for a connected socket."""
        self.count = count
        self.octets = bytearray(octets * count)
        self._buffer = (ctypes.c_char * len(self.octets)).from_buffer(self.octets)
        self._to = ctypes.create_string_buffer(to, max(len(to), 1))
        base = ctypes.addressof(self._buffer)
        self._vectors = (Vector * count)()
        self._headers = (Counted * count)()
        for number in range(count):
            self._vectors[number] = Vector(base + number * len(octets), len(octets))
            self._headers[number].header = Header(
                name=ctypes.addressof(self._to) if to else None,
                namelen=len(to),
                iov=ctypes.pointer(self._vectors[number]),
                iovlen=1,
            )

    def send(self, sock: socket.socket, count: int | None = None) -> int:
        """Send the first ones, all unless told; returns how many went."""
        most = self.count if count is None else count
        return max(int(_libc.sendmmsg(sock.fileno(), self._headers, most, 0)), 0)

    def receive(self, sock: socket.socket) -> int:
        """Wait for one datagram and take what is there; returns how many."""
        received = _libc.recvmmsg(sock.fileno(), self._headers, self.count, MSG_WAITFORONE, None)
        return max(int(received), 0)


def ipv4_address(address: bytes, port: int) -> bytes:
    """``struct sockaddr_in``."""
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, address)

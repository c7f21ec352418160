"""What the sockets of the forwarder have in common."""

import contextlib
import errno
import socket

from gateway.dataplane.portable.wire.batches import SO_RCVMARK

_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


def with_buffers(sock: socket.socket, receive_octets: int, send_octets: int) -> None:
    """Give a socket room for bursts, as much as this process may."""
    for forced, plain, octets in (
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_octets),
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF, send_octets),
    ):
        if octets:
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, octets)
            except PermissionError:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, plain, octets)


def with_marks(sock: socket.socket) -> bool:
    """Ask for the marks of what is received; whether the kernel (5.19 or later) tells them."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return False
    return True


def marks_are_told() -> bool:
    """Whether the kernel tells the marks of received packets. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        return with_marks(sock)

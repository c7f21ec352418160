"""What the sockets of the forwarder have in common."""

import contextlib
import socket

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

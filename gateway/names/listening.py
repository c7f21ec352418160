"""Sockets that the core binds, for it may, and the process of names answers on."""

import os
import socket
from typing import Final

from gateway.domain.endpoint import IpAddress

_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78


def listening_sockets(addresses: tuple[IpAddress, ...], port: int) -> list[socket.socket]:
    """A UDP and a TCP socket for each address; it need not be on an interface yet.

    Raises OSError that names the address, with none of them left open.
    """
    found: list[socket.socket] = []
    try:
        for address in addresses:
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                found.append(sock := socket.socket(family, kind | socket.SOCK_NONBLOCK))
                _prepare(sock, family)
                try:
                    sock.bind((str(address), port))
                except OSError as error:
                    what = f"{os.strerror(error.errno or 0)}: {address} port {port}"
                    raise OSError(error.errno, what) from None
                if kind == socket.SOCK_STREAM:
                    sock.listen(64)
    except OSError:
        for sock in found:
            sock.close()
        raise
    return found


def _prepare(sock: socket.socket, family: socket.AddressFamily) -> None:
    if sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)

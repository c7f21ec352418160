"""Sockets that the core binds, for it may, and the process of names answers on."""

import os
import socket
from typing import Final

from gateway.domain.endpoint import IpAddress

_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78


class Doors:
    """The sockets that the forwarder answers on."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[IpAddress, int], list[socket.socket]] = {}

    def open(self, addresses: tuple[IpAddress, ...], port: int) -> bool:
        """Listen there and nowhere else; whether that is another place than before.

        Sockets of places that stay are the same ones. Raises OSError that names the address, with
        everything as it was.
        """
        wanted = {(address, port) for address in addresses}
        fresh: dict[tuple[IpAddress, int], list[socket.socket]] = {}
        try:
            for place in wanted - self._sockets.keys():
                fresh[place] = listening_sockets((place[0],), port)
        except OSError:
            for sockets in fresh.values():
                _close(sockets)
            raise
        gone = self._sockets.keys() - wanted
        for place in gone:
            _close(self._sockets.pop(place))
        self._sockets |= fresh
        return bool(gone or fresh)

    def descriptors(self) -> list[int]:
        """For the process that answers."""
        return [one.fileno() for sockets in self._sockets.values() for one in sockets]

    def close(self) -> None:
        """Close all."""
        self.open((), 0)


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
        _close(found)
        raise
    return found


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _prepare(sock: socket.socket, family: socket.AddressFamily) -> None:
    if sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)

"""BIND of the plain proxy: one connection from outside, from where the client expects it."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection
from typing import Final

from gateway.appliance.nar.dialing import DialError, bound, endpoint_of, keep_alive
from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.nar.codec.numbers import Reply

WAIT_S: Final = 120.0
MAX_STRANGERS: Final = 64
"""Connections from elsewhere that are turned away before we give up."""


class BindListener:
    """A listening socket for one connection. Raises OSError from the constructor."""

    def __init__(
        self,
        address: IpAddress,
        expected: Collection[IpAddress],
        leased: Callable[[int], bool],
    ) -> None:
        """``expected`` are who may connect; empty: anybody."""
        self._expected = frozenset(expected)
        self._socket = bound(socket.SOCK_STREAM, address, leased)
        try:
            self._socket.listen(4)
        except OSError:
            self._socket.close()
            raise
        self.endpoint: Endpoint = endpoint_of(self._socket.getsockname())

    async def accept(self, deadline_s: float = WAIT_S) -> tuple[socket.socket, Endpoint]:
        """The connection and who it is. Raises :class:`DialError`; closes the listener."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline_s):
                for _ in range(MAX_STRANGERS):
                    sock, name = await loop.sock_accept(self._socket)
                    source = endpoint_of(name)
                    if not self._expected or source.address in self._expected:
                        with contextlib.suppress(OSError):
                            keep_alive(sock)
                        return sock, source
                    sock.close()
        except TimeoutError:
            raise DialError(Reply.TTL_EXPIRED, f"nobody connected in {deadline_s:g} s") from None
        except OSError as error:
            raise DialError(Reply.GENERAL_FAILURE, error.strerror or str(error)) from error
        finally:
            self._socket.close()
        raise DialError(Reply.NOT_ALLOWED, f"{MAX_STRANGERS} connections came from elsewhere")

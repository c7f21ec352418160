"""The ports of one NAR server: taken early, opened when the server can serve."""

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Iterable
from functools import partial
from typing import Final

from gateway.appliance.nar.connection import NarConnection, Owner
from gateway.appliance.nar.dialing import endpoint_of, family_of, keep_alive
from gateway.appliance.nar.plan import NarServerPlan
from gateway.appliance.nar.tls import server_context
from gateway.domain.endpoint import Endpoint
from gateway.ike.socket_errors import TransportDeniedError, TransportError

BACKLOG: Final = 1024
ACCEPTED_PER_TURN: Final = 64
"""Then others get their turn: IKE does not wait for a crowd of NAR clients."""
SPARE_DESCRIPTORS: Final = 256
"""For everything else that the gateway does."""


class NarListenError(TransportError):
    """A port cannot be had, or a certificate not be used. Its text says why and what to do."""


class NarListenDeniedError(NarListenError, TransportDeniedError):
    """A port needs privileges that we do not have."""


class Listener:
    """The sockets of one server. Raises :class:`NarListenError` from the constructor."""

    def __init__(self, plan: NarServerPlan) -> None:
        self._name = plan.policy.name
        self._context: ssl.SSLContext | None = None
        self._sockets: dict[Endpoint, socket.socket] = {}
        self._secure: dict[Endpoint, bool] = {}
        """Whether TLS is spoken there."""
        self._servers: dict[Endpoint, asyncio.Server] = {}
        self._owner: Owner | None = None
        try:
            self._use(plan)
        except BaseException:
            self.close()
            raise

    def _use(self, plan: NarServerPlan) -> None:
        """Take the ports that are new, leave those that are not wanted any more."""
        context = None
        if plan.tls is not None:
            try:
                context = server_context(plan.tls)
            except OSError as error:  # ssl.SSLError is one
                why = getattr(error, "reason", None) or error.strerror or str(error)
                raise NarListenError(
                    f"nar.{self._name}: the certificate {plan.tls.certificate} with the key"
                    f" {plan.tls.private_key} cannot be used: {why}"
                ) from error
        if plan.tls_listen and context is None:
            raise NarListenError(f"nar.{self._name}: tls_listen needs certificate and private_key")
        wanted = dict.fromkeys(plan.listen, False) | dict.fromkeys(plan.tls_listen, True)
        fresh: dict[Endpoint, socket.socket] = {}
        try:
            for where in wanted.keys() - self._sockets.keys():
                fresh[where] = _bound(where, self._name)
        except BaseException:
            for sock in fresh.values():
                sock.close()
            raise
        self._context, self._secure = context, wanted
        for where in [one for one in self._sockets if one not in wanted]:
            self._leave(where)
        self._sockets |= fresh

    def _leave(self, where: Endpoint) -> None:
        server = self._servers.pop(where, None)
        if server is not None:
            server.close()
        self._sockets.pop(where).close()

    @property
    def listening(self) -> list[Endpoint]:
        """Where clients can connect to now."""
        return [endpoint_of(self._sockets[where].getsockname()) for where in self._servers]

    async def start(self, owner: Owner) -> None:
        """Accept; connections are ``owner``'s. Raises OSError."""
        self._owner = owner
        loop = asyncio.get_running_loop()
        for where, sock in list(self._sockets.items()):
            if where not in self._servers:
                make = partial(self._connection, where, owner)
                # So many are accepted at a time; more may wait in the kernel.
                server = await loop.create_server(make, sock=sock, backlog=ACCEPTED_PER_TURN)
                sock.listen(BACKLOG)
                self._servers[where] = server

    def _connection(self, where: Endpoint, owner: Owner) -> NarConnection:
        return NarConnection(owner, self._context if self._secure.get(where) else None)

    async def reload(self, plan: NarServerPlan) -> None:
        """Use other ports and another certificate for new connections.

        Raises :class:`NarListenError`; everything stays as it was then.
        """
        self._use(plan)
        if self._owner is not None:
            await self.start(self._owner)

    def close(self) -> None:
        """Accept no more; connections stay."""
        for server in self._servers.values():
            server.close()
        for sock in self._sockets.values():
            sock.close()
        self._servers.clear()
        self._sockets.clear()


def _bound(where: Endpoint, name: str) -> socket.socket:
    sock = socket.socket(family_of(where.address), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if where.address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        keep_alive(sock)  # accepted sockets inherit it
        sock.bind((str(where.address), where.port))
    except OSError as error:
        sock.close()
        denied = error.errno in {errno.EPERM, errno.EACCES}
        kind = NarListenDeniedError if denied else NarListenError
        raise kind(_why(error, where, name)) from error
    return sock


def _why(error: OSError, where: Endpoint, name: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"nar.{name}: TCP port {where.port} of {where.address} is in use: stop what listens"
            f" there (`ss -tlpn sport = :{where.port}` names it) or choose another port"
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return (
            f"nar.{name}: TCP port {where.port} needs CAP_NET_BIND_SERVICE: start the gateway as"
            " root or by systemd"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"nar.{name}: no interface has the address {where.address}: configure it, or correct"
            " listen"
        )
    return f"nar.{name}: cannot listen on TCP {where}: {error.strerror}"


def descriptors_for(connections: Iterable[int]) -> tuple[int, int]:
    """How many connections all servers may have together, and how many they want.

    Raises the process's soft limit of open files as far as it may be.
    """
    wanted = sum(connections)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A relay of the plain proxy has two.
    needed = 2 * wanted + SPARE_DESCRIPTORS
    if soft < needed and soft != resource.RLIM_INFINITY:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted, wanted
    return max(min(wanted, (soft - SPARE_DESCRIPTORS) * 3 // 4), 1), wanted

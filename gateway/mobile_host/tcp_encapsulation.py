"""The device's side of TCP encapsulation: one tunnel to the gateway by TCP (RFC 9329).

The IKE initiator sends to an endpoint on loopback that stands for the gateway, the kernel sends
its ESP there as well; see :mod:`gateway.ike.tcp_relay`.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from gateway.domain.endpoint import TCP_PEERS, Endpoint
from gateway.ike.tcp_relay import COUNTERS, RelaySocket, TcpConnection

CONNECT_S = 8.0
"""For one port: a network that drops what it does not like never says so."""
ANSWER_S = 12.0
"""From a connection to the first message of the gateway's: some web server may have the port."""
SO_MARK = 36
SO_BINDTODEVICE = 25


class TcpTunnelError(Exception):
    """No port of the gateway could be reached by TCP. Its text says what happened at each."""


class TcpTunnel:
    """IKE and ESP to one gateway, over one TCP connection at a time.

    The endpoint that stands for the gateway stays the same over all connections, so IKE and child
    SAs live on when one breaks and :meth:`open` makes the next. After that send something
    authentic, an IKE request is best: it is what brings the gateway to the new connection, which
    it ends after some seconds of silence. A port where nobody spoke the protocol is tried last.
    """

    def __init__(
        self,
        gateway: IPv4Address,
        ports: Sequence[int],
        *,
        interface: str | None,
        mark: int,
        on_down: Callable[[str], None],
        nat_port: int = 4500,
        connect_s: float = CONNECT_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        """``on_down`` is told why an open connection is over, unless :meth:`close` ended it.

        ``interface`` and ``mark`` (0 for none) bind the TCP sockets, ``nat_port`` is that of our
        own IKE sockets.
        """
        if not ports:
            raise ValueError("no port to try")
        self._gateway = gateway
        self._ports = list(ports)
        self._interface = interface
        self._mark = mark
        self._on_down = on_down
        self._nat_port = nat_port
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._patience: asyncio.TimerHandle | None = None
        self._relay: RelaySocket | None = None
        self._connection: TcpConnection | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self.port: int | None = None
        """The gateway's, of the connection that is open."""
        self.counters = dict.fromkeys(COUNTERS, 0)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and self._connection.open

    @property
    def endpoint(self) -> Endpoint | None:
        """What stands for the gateway; None before the first :meth:`open`."""
        return None if self._relay is None else self._relay.endpoint

    async def open(self, *, interface: str | None = None) -> Endpoint:
        """Connect, trying the ports in their order; returns what stands for the gateway.

        Does nothing while a connection is open. ``interface`` replaces the one given before.
        Raises :class:`TcpTunnelError`, and OSError where this host has no loopback.
        """
        async with self._opening:
            if interface is not None:
                self._interface = interface
            if self._relay is None:
                self._relay = _relay_socket(self._nat_port)
            relay = self._relay
            if not self.is_open:
                self._connection = await self._connect(relay)
            return relay.endpoint

    async def _connect(self, relay: RelaySocket) -> TcpConnection:
        loop = asyncio.get_running_loop()
        wrong: list[str] = []
        for port in tuple(self._ports):
            connection = TcpConnection(
                loop, self.counters, accepted=False, relay=relay, ended=self._ended
            )
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                sock.setblocking(False)
                self._bind(sock)
                async with asyncio.timeout(self._connect_s):
                    await loop.sock_connect(sock, (str(self._gateway), port))
                await loop.create_connection(lambda made=connection: made, sock=sock)  # type: ignore[misc]
            except TimeoutError:
                sock.close()
                wrong.append(f"port {port}: no answer in {self._connect_s:g} s")
            except OSError as error:
                sock.close()
                why = os.strerror(error.errno) if error.errno else str(error)
                wrong.append(f"port {port}: {why}")
            except BaseException:
                sock.close()
                raise
            else:
                if self._closed:
                    connection.end("closed meanwhile")
                    raise TcpTunnelError("the tunnel was closed")
                self.port = port
                self._wait_for_an_answer(connection)
                return connection
        raise TcpTunnelError(f"no TCP connection to {self._gateway}: {'; '.join(wrong)}")

    def _bind(self, sock: socket.socket) -> None:
        if self._mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self._mark)
        if self._interface is not None:
            name = self._interface.encode() + b"\0"
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, name)

    def _wait_for_an_answer(self, connection: TcpConnection) -> None:
        def judge() -> None:
            if not connection.open or connection.heard:
                return
            if connection.asked:
                connection.end(f"nobody answered on port {self.port}")
            else:
                self._wait_for_an_answer(connection)

        self._patience = asyncio.get_running_loop().call_later(self._answer_s, judge)

    def _ended(self, connection: TcpConnection, why: str, _broken: bool) -> None:
        if connection is self._connection:
            self._forget(connection)
            if not self._closed:
                self._on_down(why)

    def _forget(self, connection: TcpConnection) -> None:
        if self.port in self._ports and not connection.heard:
            self._ports.remove(self.port)
            self._ports.append(self.port)
        self._connection = None
        self.port = None
        if self._patience is not None:
            self._patience.cancel()

    def drop(self, why: str = "given up") -> None:
        """End the connection, without telling ``on_down``; :meth:`open` makes another."""
        connection = self._connection
        if connection is not None:
            self._forget(connection)
            connection.end(why)

    def close(self) -> None:
        """End it for good; what waits to be sent still goes out if it can."""
        self._closed = True
        connection = self._connection
        if connection is not None:
            self._forget(connection)
            connection.end("closed", gently=True)
        if self._relay is not None:
            self._relay.close()
            self._relay = None


def _relay_socket(nat_port: int) -> RelaySocket:
    """A relay socket at any address of those that stand for TCP peers."""
    room = TCP_PEERS.num_addresses - 2
    address = TCP_PEERS[1 + int.from_bytes(os.urandom(4), "big") % room]
    return RelaySocket(address, engine_port=nat_port)

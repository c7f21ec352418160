"""The forwarder's sockets: towards devices by UDP and TCP, towards servers from a new port each."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Hashable
from ipaddress import ip_address
from typing import Final

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.names.forwarder import MAX_QUERY_OCTETS, Ask, Client, Forwarder, GiveUp, Reply

MAX_OCTETS: Final = 65_535
DATAGRAMS_AT_ONCE: Final = 64
MAX_CONNECTIONS: Final = 100
MAX_CONNECTIONS_PER_CLIENT: Final = 10
IDLE_S: Final = 10.0
WRITE_BUFFER: Final = 262_144


class Serving:
    """Drives a :class:`Forwarder`."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._loop = asyncio.get_running_loop()
        self._udp: list[socket.socket] = []
        self._listeners: list[asyncio.Server] = []
        self._connections: dict[int, asyncio.StreamWriter] = {}
        self._per_client: Counter[IpAddress] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asks: dict[int, socket.socket | asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, descriptors: list[int]) -> None:
        """Answer on these sockets, bound already, and on no others."""
        await self.stop_listening()
        for descriptor in descriptors:
            sock = socket.socket(fileno=descriptor)
            sock.setblocking(False)
            if sock.type == socket.SOCK_DGRAM:
                self._udp.append(sock)
                self._loop.add_reader(sock.fileno(), self._datagrams, sock)
            else:
                self._listeners.append(
                    await asyncio.start_server(self._connected, sock=sock, backlog=64)
                )

    async def stop_listening(self) -> None:
        """Close the sockets towards devices."""
        for sock in self._udp:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._udp.clear()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    # -- devices ---------------------------------------------------------------------------

    def _datagrams(self, sock: socket.socket) -> None:
        now = self._loop.time()
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                wire, source = sock.recvfrom(MAX_QUERY_OCTETS + 1)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of an earlier reply
            if source[1]:  # port 0 cannot be answered
                client = Client(_address(source[0]), (sock.fileno(), source))
                self._forwarder.receive(wire, client, now)
        self.carry_out()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = writer.get_extra_info("peername")
        address = _address(name[0]) if name else None
        crowded = len(self._connections) >= MAX_CONNECTIONS
        if address is None or crowded or self._per_client[address] >= MAX_CONNECTIONS_PER_CLIENT:
            writer.close()
            return
        number = id(writer)
        self._connections[number] = writer
        self._per_client[address] += 1
        writer.transport.set_write_buffer_limits(WRITE_BUFFER)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._converse(reader, Client(address, number, tcp=True))
        finally:
            del self._connections[number]
            self._per_client[address] -= 1
            if not self._per_client[address]:
                del self._per_client[address]
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, client: Client) -> None:
        writer = self._connections[int(str(client.way))]
        while True:
            async with asyncio.timeout(IDLE_S):
                length = int.from_bytes(await reader.readexactly(2))
                if not 0 < length <= MAX_QUERY_OCTETS:
                    return
                wire = await reader.readexactly(length)
            self._forwarder.receive(wire, client, self._loop.time())
            self.carry_out()
            async with asyncio.timeout(IDLE_S):
                await writer.drain()  # who reads no answers asks no more questions

    # -- outputs ---------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Do what the forwarder wants."""
        for output in self._forwarder.take_outputs():
            match output:
                case Reply(client, wire):
                    self._reply(client.way, wire)
                case Ask(ticket, server, wire, tcp):
                    if tcp:
                        self._ask_by_tcp(ticket, server, wire)
                    else:
                        self._ask_by_udp(ticket, server, wire)
                case GiveUp(ticket):
                    self._give_up(ticket)
        self._set_timer()

    def _reply(self, way: Hashable, wire: bytes) -> None:
        if isinstance(way, tuple):
            descriptor, source = way
            for sock in self._udp:
                if sock.fileno() == descriptor:
                    with contextlib.suppress(OSError):
                        sock.sendto(wire, source)
            return
        writer = self._connections.get(int(str(way)))
        if writer is not None and not writer.is_closing():
            if writer.transport.get_write_buffer_size() > WRITE_BUFFER:
                writer.transport.abort()
            else:
                writer.write(len(wire).to_bytes(2) + wire)

    def _ask_by_udp(self, ticket: int, server: Endpoint, wire: bytes) -> None:
        family = socket.AF_INET6 if server.address.version == 6 else socket.AF_INET
        sock = None
        try:
            # Connected: the kernel drops what others send, and chooses a port at random.
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.connect((str(server.address), server.port))
            sock.send(wire)
        except OSError:
            if sock is not None:
                sock.close()
            self._loop.call_soon(self._failed, ticket)
            return
        self._asks[ticket] = sock
        self._loop.add_reader(sock.fileno(), self._answered, ticket, sock)

    def _answered(self, ticket: int, sock: socket.socket) -> None:
        try:
            wire = sock.recv(MAX_OCTETS)
        except BlockingIOError:
            return
        except OSError:
            self._failed(ticket)
            return
        self._forwarder.answered(ticket, wire, self._loop.time())
        self.carry_out()

    def _failed(self, ticket: int) -> None:
        self._forwarder.failed(ticket, self._loop.time())
        self.carry_out()

    def _ask_by_tcp(self, ticket: int, server: Endpoint, wire: bytes) -> None:
        async def ask() -> None:
            found = b""
            writer = None
            try:
                reader, writer = await asyncio.open_connection(str(server.address), server.port)
                writer.write(len(wire).to_bytes(2) + wire)
                found = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            except (OSError, asyncio.IncompleteReadError):
                found = b""
            finally:
                if writer is not None:
                    writer.close()
            if found:
                self._forwarder.answered(ticket, found, self._loop.time())
            else:
                self._forwarder.failed(ticket, self._loop.time())
            self.carry_out()

        task = self._loop.create_task(ask())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._asks[ticket] = task

    def _give_up(self, ticket: int) -> None:
        ask = self._asks.pop(ticket, None)
        if isinstance(ask, asyncio.Task):
            if ask is not asyncio.current_task():
                ask.cancel()
        elif ask is not None:
            self._loop.remove_reader(ask.fileno())
            ask.close()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self._forwarder.next_timer()
        if when is not None:
            self._timer = self._loop.call_at(when, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._forwarder.handle_timer(self._loop.time())
        self.carry_out()


def _address(text: str) -> IpAddress:
    return ip_address(text.partition("%")[0])

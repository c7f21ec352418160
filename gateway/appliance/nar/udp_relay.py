"""UDP ASSOCIATE of the plain proxy: datagrams of one client, only from it and only back to it.

What the relay lets in comes from addresses that the client has sent to. It lives as long as its
TCP connection (RFC 1928 section 7).
"""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol, cast

from gateway.appliance.nar.dialing import bound, endpoint_of
from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.wire import WireError
from gateway.nar.codec.datagram import RelayDatagram

MAX_CORRESPONDENTS: Final = 1024
"""Addresses that may answer; the one that was used least recently goes first."""
MAX_NAMES: Final = 64
MAX_LOOKUPS: Final = 8
"""Datagrams of one client that wait for a name."""
NAME_S: Final = 60.0
_ANY: Final[dict[int, IpAddress]] = {4: IPv4Address(0), 6: IPv6Address(0)}

MayRelay = Callable[[IpAddress, int], bool]


class Resolving(Protocol):
    """:class:`gateway.appliance.nar.resolver.NameResolver`."""

    def ask(self, name: str, ipv6: bool, answered: Callable[[Sequence[IpAddress]], None]) -> None:
        """``answered`` gets the addresses, later."""


class Leaving(Protocol):
    """The client's TCP connection."""

    def close(self, why: str) -> None:
        """End it."""


class _Side(asyncio.DatagramProtocol):
    """One socket of a relay."""

    def __init__(self, take: Callable[[bytes, Endpoint], None]) -> None:
        self._take = take
        self._transport: asyncio.DatagramTransport | None = None
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        self._take(data, endpoint_of(addr))

    def pause_writing(self) -> None:
        """The kernel does not take what we send: more is dropped, as networks do."""
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def error_received(self, exc: Exception) -> None:
        """ICMP about what was sent: UDP is not told."""

    def send(self, data: bytes, to: Endpoint) -> bool:
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if self._full:
            return False
        transport.sendto(data, (str(to.address), to.port))
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class UdpRelay:
    """Both sides; the partner of the TCP connection, whose octets mean nothing here."""

    def __init__(
        self,
        client: Endpoint,
        *,
        may_relay: MayRelay,
        is_own: Callable[[IpAddress], bool],
        leased: Callable[[int], bool],
        resolver: Resolving,
        clock: Callable[[], float],
    ) -> None:
        """``client`` is where datagrams come from; port 0: the first one tells."""
        self._client = client
        self._may_relay, self._is_own, self._leased = may_relay, is_own, leased
        self._resolver, self._clock = resolver, clock
        self._inside = _Side(self._from_client)
        self._outside: dict[int, _Side] = {}
        self._known: OrderedDict[IpAddress, bool] = OrderedDict()
        """Addresses that the client sent to, or wanted to: whether it may."""
        self._names: OrderedDict[str, tuple[float, IpAddress]] = OrderedDict()
        self._lookups = 0
        self._opening: asyncio.Task[None] | None = None
        self._connection: Leaving | None = None
        self._closed = False
        self.heard_at = clock()
        self.counters = dict.fromkeys(("relayed", "returned", "dropped"), 0)

    async def open(self, local: IpAddress) -> Endpoint:
        """Where the client sends to, on our address that it knows. Raises OSError."""
        loop = asyncio.get_running_loop()
        inside = bound(socket.SOCK_DGRAM, local, self._leased)
        try:
            where = endpoint_of(inside.getsockname())
            await loop.create_datagram_endpoint(lambda: self._inside, sock=inside)
            outside = bound(socket.SOCK_DGRAM, _ANY[4], self._leased)
        except BaseException:
            inside.close()
            self._inside.close()
            raise
        self._outside[4] = _Side(self._from_outside)
        await loop.create_datagram_endpoint(lambda: self._outside[4], sock=outside)
        if self._closed:  # the client left meanwhile
            self.client_gone(False)
        return where

    def join(self, connection: Leaving) -> None:
        """The TCP connection that keeps it open."""
        self._connection = connection

    # -- datagrams -------------------------------------------------------------------------

    def _from_client(self, data: bytes, source: Endpoint) -> None:
        if source.address != self._client.address:
            self.counters["dropped"] += 1
            return
        try:
            datagram = RelayDatagram.parse(data)
        except WireError:
            self.counters["dropped"] += 1
            return
        if self._client.port == 0:
            self._client = source
        if source != self._client or datagram.fragment or datagram.port == 0:
            self.counters["dropped"] += 1
            return
        self.heard_at = self._clock()
        target = datagram.address
        if isinstance(target, str):
            self._by_name(target.lower(), datagram.port, datagram.data)
        else:
            self._to_outside(target, datagram.port, datagram.data)

    def _by_name(self, name: str, port: int, data: bytes) -> None:
        found = self._names.get(name)
        if found is not None and self._clock() - found[0] < NAME_S:
            self._to_outside(found[1], port, data)
            return
        if self._lookups >= MAX_LOOKUPS:
            self.counters["dropped"] += 1
            return

        def answered(addresses: Sequence[IpAddress]) -> None:
            self._lookups -= 1
            for address in addresses:
                if not self._closed and self._allowed(address, port):
                    self._names[name] = (self._clock(), address)
                    if len(self._names) > MAX_NAMES:
                        self._names.popitem(last=False)
                    self._to_outside(address, port, data)
                    return
            self.counters["dropped"] += 1

        self._lookups += 1
        self._resolver.ask(name, True, answered)

    def _allowed(self, address: IpAddress, port: int) -> bool:
        return self._may_relay(address, port) and not self._is_ours(address)

    def _is_ours(self, address: IpAddress) -> bool:
        known = self._known.get(address)
        if known is None:
            known = self._known[address] = self._is_own(address)
            if len(self._known) > MAX_CORRESPONDENTS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(address)
        return known

    def _to_outside(self, address: IpAddress, port: int, data: bytes) -> None:
        if not self._allowed(address, port):
            self.counters["dropped"] += 1
            return
        side = self._outside.get(address.version)
        if side is None:
            side = self._outside[6] = _Side(self._from_outside)
            self._opening = asyncio.get_running_loop().create_task(self._open_ipv6(side))
        sent = side.send(data, Endpoint(address, port))
        self.counters["relayed" if sent else "dropped"] += 1

    async def _open_ipv6(self, side: _Side) -> None:
        try:
            sock = bound(socket.SOCK_DGRAM, _ANY[6], self._leased)
        except OSError:
            return
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: side, sock=sock)
        if self._closed:
            side.close()

    def _from_outside(self, data: bytes, source: Endpoint) -> None:
        if self._known.get(source.address) is not False or self._client.port == 0:
            self.counters["dropped"] += 1
            return
        self.heard_at = self._clock()
        try:
            octets = RelayDatagram(source.address, source.port, data).to_octets()
        except WireError:
            return
        sent = self._inside.send(octets, self._client)
        self.counters["returned" if sent else "dropped"] += 1

    # -- the TCP connection ------------------------------------------------------------------

    def forward(self, data: bytes) -> None:
        """Octets on the TCP connection mean nothing."""

    def forward_eof(self) -> None:
        """The client closed its TCP connection: this relay ends with it."""
        if self._connection is not None:
            self._connection.close("the client ended its UDP association")

    def slow_down(self, wait: bool) -> None:
        """Nothing flows that way."""

    def client_gone(self, broken: bool) -> None:  # noqa: ARG002 - a partner's
        """Close all sockets."""
        self._closed = True
        self._inside.close()
        for side in self._outside.values():
            side.close()

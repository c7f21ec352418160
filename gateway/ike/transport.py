"""The IKE sockets: UDP 500 and 4500 of each local address, without any protocol knowledge.

The NAT port carries ESP as well (RFC 3948): others take it there (:mod:`.transport_esp`), and this
adapter strips and adds the non-ESP marker of the IKE messages beside it. Where the kernel does
IPsec both sockets bypass its policies, so IKE never travels inside a tunnel of its own making.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from gateway.domain.endpoint import Endpoint, IpAddress, Path
from gateway.ike import transport_esp
from gateway.ike.socket_errors import bind_error, setup_error
from gateway.ike.transport_esp import EspInUdp

Batch = list[tuple[bytes, Path]]
SocketAddress = tuple[str, int]
Sender = tuple[Any, ...]
"""As the socket gives it; on a wildcard socket with our own address, packed, beside it."""
Received = tuple[bytes, tuple[bytes, int], Sender]
"""A message, its source (packed address, port), and the sender as the socket names it."""
Sort = Callable[[Sequence[Received], float], tuple[list[Received], list[tuple[bytes, Received]]]]
"""Takes what was read at once and the share of strangers there is time for; gives what goes on,
in order, and answers with what they answer."""

NON_ESP_MARKER = b"\0\0\0\0"
KEEPALIVE = b"\xff"

DATAGRAMS_PER_WAKE_UP = 64
"""One socket never keeps the others waiting for longer than this many datagrams that go on."""
READINGS_PER_WAKE_UP = 4
"""Of so many datagrams each, as long as next to nothing of them goes on: a flood."""
PATIENCE = 128
"""Wake-ups in a row that leave the socket full before strangers get less of our time: more than
its buffer holds, so that a pause of ours alone is caught up with."""
LEAST_SHARE = 0.02
MAX_PATHS = 4096
"""Address pairs remembered per socket; the cache starts anew beyond."""
RECEIVE_BUFFER_OCTETS = 16 * 1024 * 1024
"""A quarter of a second of a flood, so that our pauses cost nobody's message."""
MAX_DATAGRAM_OCTETS = 65_535

IP_PKTINFO = 8
IPV6_RECVPKTINFO = 49
IPV6_PKTINFO = 50
IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
PMTUDISC_DONT = 0
SO_RCVBUFFORCE = 33
SO_MARK = 36

_PKTINFO4 = struct.Struct("=i4s4s")
_PKTINFO6 = struct.Struct("=16sI")


class IkeSocket:
    """One bound UDP socket, with the paths of the peers heard on it."""

    __slots__ = ("_family", "_local", "_paths", "_wildcard", "full", "nat", "port", "share", "sock")

    def __init__(
        self,
        address: IpAddress,
        port: int,
        *,
        nat: bool,
        esp: EspInUdp,
        mark: int = 0,
        held: socket.socket | None = None,
    ) -> None:
        """``held`` is the same socket of an earlier process, whose dataplane may be another."""
        self._family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._wildcard = address.is_unspecified
        self.nat = nat
        if held is not None:
            self.sock = held
            self.sock.setblocking(False)
            self._settle(Endpoint(address, port), esp, held=True)
        else:
            self.sock = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                if mark:
                    self.sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
                self._prepare(address, port, esp)
            except BaseException:
                self.sock.close()
                raise
        self.port: int = self.sock.getsockname()[1]
        self._local = Endpoint(address, self.port)
        self._paths: dict[object, Path] = {}
        self.full = 0
        """Wake-ups in a row after which more was waiting."""
        self.share = 1.0
        """Of strangers' messages that there is time for."""

    def _settle(self, where: Endpoint, esp: EspInUdp, *, held: bool) -> None:
        try:
            if held and esp is not EspInUdp.NONE:
                transport_esp.release(self.sock)
            transport_esp.settle(self.sock, esp, nat=self.nat)
        except OSError as error:
            raise setup_error(error, where) from error

    def _prepare(self, address: IpAddress, port: int, esp: EspInUdp) -> None:
        sock = self.sock
        sock.setblocking(False)
        six = self._family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        if six:
            sock.setsockopt(level, socket.IPV6_V6ONLY, 1)
        if self._wildcard:
            sock.setsockopt(level, IPV6_RECVPKTINFO if six else IP_PKTINFO, 1)
        # Large unfragmented IKE messages may be fragmented by IP rather than lost on a small MTU.
        sock.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, PMTUDISC_DONT)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)
        where = Endpoint(address, port)
        self._settle(where, esp, held=False)
        try:
            sock.bind((str(address), port))
        except OSError as error:
            raise bind_error(error, where) from error

    def read(self, count: Callable[[str], None]) -> tuple[list[Received], bool]:
        """What waits, up to the bound, and whether more may wait.

        What is no IKE message is counted and dropped.
        """
        found: list[Received] = []
        nat, wildcard, family = self.nat, self._wildcard, self._family
        receive = self._receive_any if wildcard else self._receive_bound
        pack = socket.inet_pton
        for _ in range(DATAGRAMS_PER_WAKE_UP):
            try:
                data, sender = receive()
            except BlockingIOError:
                return found, False
            except OSError:
                count("receive_errors")
                continue
            if nat:
                if not data.startswith(NON_ESP_MARKER):
                    count("keepalives" if data == KEEPALIVE else "not_ike")
                    continue
                data = data[4:]
            address = sender[0] if wildcard else sender
            host = address[0]
            if len(address) > 2 and "%" in host:
                host = host.partition("%")[0]
            found.append((data, (pack(family, host), address[1]), sender))
        return found, True

    def path(self, sender: Sender) -> Path:
        """The path that a message came on."""
        path = self._paths.get(sender)
        return path if path is not None else self._new_path(sender)

    def answer(self, message: bytes, sender: Sender) -> bool:
        """Send a message back to where another one came from; whether the network took it."""
        if self.nat:
            message = NON_ESP_MARKER + message
        try:
            if self._wildcard:
                control = self.destination(self._new_path(sender, keep=False))[1]
                self.sock.sendmsg((message,), control, 0, sender[0])
            else:
                self.sock.sendto(message, sender)
        except OSError:
            return False
        return True

    def note_load(self, *, full: bool) -> None:
        """Adapt the share of strangers: less while we cannot keep up, more when we can."""
        self.full = self.full + 1 if full else 0
        if self.full > PATIENCE:
            self.share = max(self.share * 0.95, LEAST_SHARE)
        elif not full and self.share < 1.0:
            self.share = min(self.share + 0.05, 1.0)

    def _receive_bound(self) -> tuple[bytes, Sender]:
        return self.sock.recvfrom(MAX_DATAGRAM_OCTETS)

    def _receive_any(self) -> tuple[bytes, Sender]:
        data, control, _flags, sender = self.sock.recvmsg(MAX_DATAGRAM_OCTETS, 128)
        for level, kind, value in control:
            if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                return data, (sender, value[4:8])
            if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
                return data, (sender, value[:16])
        return data, (sender, self._local.address.packed)

    def _new_path(self, sender: Sender, *, keep: bool = True) -> Path:
        local, remote = self._local, sender
        if self._wildcard:
            remote, octets = sender
            local = Endpoint(ip_address(octets), self.port)
        host = str(remote[0]).partition("%")[0]
        path = Path(local, Endpoint(ip_address(host), int(remote[1])))
        if keep:
            if len(self._paths) >= MAX_PATHS:
                self._paths.clear()
            self._paths[sender] = path
        return path

    def destination(self, path: Path) -> tuple[SocketAddress, list[tuple[int, int, bytes]]]:
        """The socket address of the peer, and what fixes our source address where we listen on any.

        Link-local IPv6 peers are not reachable this way; no remote access comes from there.
        """
        address = (str(path.remote.address), path.remote.port)
        local = path.local.address
        if not self._wildcard or local.is_unspecified:
            return address, []
        if isinstance(local, IPv4Address):
            info = _PKTINFO4.pack(0, local.packed, bytes(4))
            return address, [(socket.IPPROTO_IP, IP_PKTINFO, info)]
        return address, [(socket.IPPROTO_IPV6, IPV6_PKTINFO, _PKTINFO6.pack(local.packed, 0))]


class IkeSockets:
    """All IKE sockets of the gateway.

    ``addresses`` may hold ``0.0.0.0`` or ``::``; the local address of each message is then the
    one it was sent to.
    """

    def __init__(
        self,
        addresses: Sequence[IPv4Address | IPv6Address],
        *,
        ike_port: int = 500,
        nat_port: int = 4500,
        esp: EspInUdp = EspInUdp.KERNEL,
        mark: int = 0,
        held: Sequence[socket.socket] = (),
    ) -> None:
        """Bind them all; raises TransportError.

        ``mark`` is the firewall mark of what they send; ESP in UDP has its SA's. ``held`` are
        sockets of an earlier process: those that fit are used, the others closed.
        """
        known = _by_place(held)
        self._receive: Callable[[Batch], None] | None = None
        self._sort: Sort | None = None
        self.counters = dict.fromkeys(
            ("datagrams_in", "datagrams_out", "keepalives", "not_ike", "receive_errors"), 0
        )
        self.counters["send_errors"] = 0
        self._sockets: list[IkeSocket] = []
        self._by_local: dict[Endpoint, IkeSocket] = {}
        self._any: dict[tuple[int, int], IkeSocket] = {}
        self._routes: dict[Path, tuple[IkeSocket, SocketAddress, list[tuple[int, int, bytes]]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            for address in addresses:
                for port, nat in ((ike_port, False), (nat_port, True)):
                    before = known.pop((address, port), None)
                    opened = IkeSocket(address, port, nat=nat, esp=esp, mark=mark, held=before)
                    self._add(opened, address)
        except BaseException:
            self.close()
            raise
        finally:
            for unwanted in known.values():
                unwanted.close()

    @property
    def sockets(self) -> list[socket.socket]:
        """All of them, to be held for the next process."""
        return [opened.sock for opened in self._sockets]

    def _add(self, opened: IkeSocket, address: IpAddress) -> None:
        self._sockets.append(opened)
        self._by_local[Endpoint(address, opened.port)] = opened
        if address.is_unspecified:
            self._any[address.version, opened.port] = opened

    @property
    def local_endpoints(self) -> list[Endpoint]:
        """Where we listen."""
        return list(self._by_local)

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        receive: Callable[[Batch], None],
        sort: Sort | None = None,
    ) -> None:
        """Begin to listen; ``receive`` gets the messages of one wake-up, without marker.

        ``sort`` sees them before anything is made of them, and says which go on.
        """
        self._loop, self._receive, self._sort = loop, receive, sort
        for opened in self._sockets:
            loop.add_reader(opened.sock.fileno(), self._readable, opened)

    def _count(self, name: str) -> None:
        self.counters[name] += 1

    def _readable(self, opened: IkeSocket) -> None:
        batch: list[Received] = []
        full = True
        for _ in range(READINGS_PER_WAKE_UP):
            received, full = opened.read(self._count)
            self.counters["datagrams_in"] += len(received)
            if received and self._sort is not None:
                received = self._sorted(opened, self._sort, received)
            batch += received
            if not full or len(batch) >= DATAGRAMS_PER_WAKE_UP // 4:
                break
        opened.note_load(full=full)
        if batch and self._receive is not None:
            self._receive([(message, opened.path(sender)) for message, _, sender in batch])

    def _sorted(self, opened: IkeSocket, sort: Sort, received: list[Received]) -> list[Received]:
        kept, answers = sort(received, opened.share)
        sent = 0
        for message, (_, _, sender) in answers:
            sent += opened.answer(message, sender)
        self.counters["datagrams_out"] += sent
        self.counters["send_errors"] += len(answers) - sent
        return kept

    def send(self, message: bytes, path: Path, *, keepalive: bool = False) -> OSError | None:
        """Send an IKE message; what the network refused is counted and returned, never raised.

        A lost message is the protocol's everyday case: it is retransmitted.
        """
        route = self._routes.get(path)
        if route is None:
            route = self._new_route(path)
            if route is None:
                self.counters["send_errors"] += 1
                return OSError(errno.EADDRNOTAVAIL, f"no IKE socket has the address {path.local}")
        opened, address, control = route
        if opened.nat and not keepalive:
            message = NON_ESP_MARKER + message
        try:
            if control:
                opened.sock.sendmsg((message,), control, 0, address)
            else:
                opened.sock.sendto(message, address)
        except OSError as error:
            self.counters["send_errors"] += 1
            return error
        self.counters["datagrams_out"] += 1
        return None

    def _new_route(
        self, path: Path
    ) -> tuple[IkeSocket, SocketAddress, list[tuple[int, int, bytes]]] | None:
        opened = self._by_local.get(path.local)
        if opened is None:
            opened = self._any.get((path.local.address.version, path.local.port))
        if opened is None and path.local.address.is_unspecified:
            opened = self._first(path.local)
        if opened is None:
            return None
        if len(self._routes) >= MAX_PATHS:
            self._routes.clear()
        route = (opened, *opened.destination(path))
        self._routes[path] = route
        return route

    def _first(self, local: Endpoint) -> IkeSocket | None:
        """A socket for those to whom our address is all the same."""
        for endpoint, opened in self._by_local.items():
            if (endpoint.address.version, endpoint.port) == (local.address.version, local.port):
                return opened
        return None

    def close(self) -> None:
        """Stop listening and close."""
        for opened in self._sockets:
            if self._loop is not None:
                self._loop.remove_reader(opened.sock.fileno())
            opened.sock.close()
        self._sockets.clear()
        self._by_local.clear()
        self._any.clear()
        self._routes.clear()


def _by_place(held: Sequence[socket.socket]) -> dict[tuple[IpAddress, int], socket.socket]:
    """Address and port of each; what is none of that is closed."""
    known: dict[tuple[IpAddress, int], socket.socket] = {}
    for one in held:
        try:
            host, port = one.getsockname()[:2]
            place = ip_address(host.partition("%")[0]), int(port)
        except (OSError, ValueError):
            one.close()
            continue
        if place in known:
            one.close()
        else:
            known[place] = one
    return known

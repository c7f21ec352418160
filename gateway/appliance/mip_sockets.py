"""UDP port 434: registrations and revocations of the mobility agents, no protocol knowledge.

One socket hears everything that is addressed to this box, broadcasts of home networks included
(dynamic home agent discovery); each datagram comes with the address it was sent to and the
interface it came in by.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.mobility import MIP_PORT

DATAGRAMS_PER_WAKE_UP: Final = 128
MAX_OCTETS: Final = 4096
"""Longer than any registration with all its extensions."""
RECEIVE_BUFFER_OCTETS: Final = 8 * 1024 * 1024
"""Ten thousand mobile nodes register at once after an outage."""
_IP_PKTINFO = 8
_IP_RECVERR = 11
_FROM_ICMP, _ICMP_UNREACHABLE = 2, 3
_ERROR = struct.Struct("=IBBB")
_SO_RCVBUFFORCE = 33
_SO_PRIORITY_CONTROL = 6
_PKTINFO = struct.Struct("=i4s4s")
_ANY = bytes(4)

Datagram = tuple[bytes, Path, int]
"""A message, its path (local is where it was sent to) and the index of the interface."""


class MipSocketError(Exception):
    """The socket cannot be had. Its text says why and what to do."""


class MipSockets:
    """The socket, in and out."""

    def __init__(self, port: int = MIP_PORT, address: str = "0.0.0.0") -> None:  # noqa: S104
        self.counters = dict.fromkeys(
            ("datagrams_in", "datagrams_out", "receive_errors", "send_errors"), 0
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._locals: dict[bytes, Endpoint] = {}
        self._unreachable: Callable[[IPv4Address, int], None] | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._prepare(address, port)
        except OSError as error:
            self._socket.close()
            raise MipSocketError(_why(error, port)) from error
        self.port: int = self._socket.getsockname()[1]

    def _prepare(self, address: str, port: int) -> None:
        sock = self._socket
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _SO_PRIORITY_CONTROL)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)
        sock.bind((address, port))

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        receive: Callable[[list[Datagram]], None],
        unreachable: Callable[[IPv4Address, int], None] | None = None,
    ) -> None:
        """Give what comes to ``receive``, all of one wake-up at once.

        ``unreachable`` hears of addresses that ICMP says cannot be reached, with its code.
        """
        self._loop, self._unreachable = loop, unreachable
        loop.add_reader(self._socket.fileno(), self._readable, receive)

    def stop(self) -> None:
        """Read no more."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None

    def close(self) -> None:
        """Stop and close."""
        self.stop()
        self._socket.close()

    def _readable(self, receive: Callable[[list[Datagram]], None]) -> None:
        self._read_errors()
        batch = self.read()
        if batch:
            receive(batch)

    def read(self) -> list[Datagram]:
        """What waits, up to the bound."""
        found: list[Datagram] = []
        take = self._socket.recvmsg
        for _ in range(DATAGRAMS_PER_WAKE_UP):
            try:
                data, control, _, (host, port) = take(MAX_OCTETS, 64)
            except BlockingIOError:
                break
            except OSError:
                # An ICMP error about something that was sent.
                self.counters["receive_errors"] += 1
                continue
            index, destination = 0, _ANY
            for level, kind, value in control:
                if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                    index, _, destination = _PKTINFO.unpack(value)
            local = self._locals.get(destination) or self._local(destination)
            found.append((data, Path(local, Endpoint(IPv4Address(host), port)), index))
        self.counters["datagrams_in"] += len(found)
        return found

    def _read_errors(self) -> None:
        """ICMP errors about what was sent; unread, they would keep waking us."""
        for _ in range(DATAGRAMS_PER_WAKE_UP):
            try:
                _, control, _, address = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            self.counters["receive_errors"] += 1
            for level, kind, value in control:
                if level != socket.IPPROTO_IP or kind != _IP_RECVERR or len(value) < _ERROR.size:
                    continue
                _, origin, icmp_type, icmp_code = _ERROR.unpack_from(value)
                if (origin, icmp_type) == (_FROM_ICMP, _ICMP_UNREACHABLE) and self._unreachable:
                    self._unreachable(IPv4Address(address[0]), icmp_code)

    def _local(self, destination: bytes) -> Endpoint:
        # Only addresses of this box and broadcasts get here: there are few.
        return self._locals.setdefault(destination, Endpoint(IPv4Address(destination), self.port))

    def send(self, message: bytes, path: Path, interface: int = 0) -> OSError | None:
        """Send from ``path.local``, by an interface if that is given; or return why not."""
        info = _PKTINFO.pack(interface, path.local.address.packed, _ANY)
        try:
            self._socket.sendmsg(
                (message,),
                ((socket.IPPROTO_IP, _IP_PKTINFO, info),),
                0,
                (str(path.remote.address), path.remote.port),
            )
        except OSError as error:
            self.counters["send_errors"] += 1
            return error
        self.counters["datagrams_out"] += 1
        return None


def _why(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"UDP port {port} is in use: stop the other Mobile IP daemon"
            f" (`ss -ulpn sport = :{port}` names it)"
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return f"UDP port {port} needs CAP_NET_BIND_SERVICE: start as root or by systemd"
    return f"cannot listen on UDP port {port}: {error.strerror}"

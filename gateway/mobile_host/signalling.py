"""UDP port 434 of the mobile node: one socket for each link, and one inside the VPN.

Of a link, everything is read by its :class:`LinkListener`: a reply may be addressed to a home
address that the host does not have there, from an agent that routing would expect elsewhere. The
link's UDP socket sends, and its being there keeps the kernel from calling the port unreachable.

The one inside the VPN is not bound to the VPN's interface: an ESP packet belongs to the socket of
what it carries, and would be bound as well. It is its mark that leads inside.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Collection
from ipaddress import IPv4Address
from typing import Final, Protocol

from gateway.dataplane.kernel.packet_socket import (
    MAX_OCTETS,
    PACKETS_PER_WAKE_UP,
    attach_filter,
)
from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import MIP_PORT
from gateway.mobile_host.link_listener import (
    TUNNEL_DATA,
    FromLink,
    LinkListener,
)

_IP_TOS, _IP_TRANSPARENT, _IP_PKTINFO, _SO_MARK = 1, 19, 8, 36
_NOWHERE = IPv4Address(0)
_CS6: Final = 0xC0
"""Network control, so that a full queue of the user's does not starve a proof."""
_PKTINFO = struct.Struct("=i4s4s")
_DROP_ALL = ((0x06, 0, 0, 0),)


class Receiver(Protocol):
    """Who hears of what came: :class:`gateway.mobile_host.node_service.NodeService`."""

    def registration(self, message: bytes, interface: str | None, source: Endpoint) -> None:
        """A message to port 434; interface None: through the VPN."""

    def advertisement(
        self, interface: str, source: IPv4Address, link_address: bytes, octets: bytes
    ) -> None:
        """An ICMP router advertisement of a station of the link."""


class RegistrationSocket:
    """UDP port 434 of one interface. Raises OSError from the constructor."""

    def __init__(self, interface: str, mark: int, *, inner: bool) -> None:
        """``inner``: reads as well, and is led to the interface by its mark alone."""
        self._index = socket.if_nametoindex(interface)
        self._socket = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        sock = self._socket
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if inner:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            else:
                name = interface.encode() + b"\0"
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
                attach_filter(sock, _DROP_ALL)
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            sock.setsockopt(socket.IPPROTO_IP, _IP_TOS, _CS6)
            sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
            sock.bind(("0.0.0.0", MIP_PORT))  # noqa: S104 - others are told apart
        except OSError:
            sock.close()
            raise

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, message: bytes, source: IPv4Address, destination: IPv4Address) -> OSError | None:
        """Send, or return why not."""
        info = _PKTINFO.pack(0, source.packed, bytes(4))
        try:
            self._socket.sendmsg(
                (message,),
                ((socket.IPPROTO_IP, _IP_PKTINFO, info),),
                0,
                (str(destination), MIP_PORT),
            )
        except OSError as error:
            return error
        return None

    def read(self, count: Callable[[str], None]) -> list[tuple[bytes, Endpoint]]:
        """Messages that wait, up to a bound, with their sources."""
        found = []
        for _ in range(PACKETS_PER_WAKE_UP):
            try:
                data, control, _, (host, port) = self._socket.recvmsg(MAX_OCTETS, 64)
            except BlockingIOError:
                break
            except OSError:
                count("receive_errors")
                continue
            if data and data[0] != TUNNEL_DATA and self._came_inside(control):
                found.append((data, Endpoint(IPv4Address(host), port)))
        return found

    def _came_inside(self, control: list[tuple[int, int, bytes]]) -> bool:
        """Whether it came through our interface: this socket hears of all that have no other."""
        for level, kind, value in control:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                return bool(_PKTINFO.unpack(value)[0] == self._index)
        return False


class Signalling:
    """All sockets of port 434."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receiver: Receiver,
        *,
        link_mark: int,
        inner_mark: int,
    ) -> None:
        self._loop = loop
        self._receiver = receiver
        self._link_mark, self._inner_mark = link_mark, inner_mark
        self._links: dict[str, tuple[int, RegistrationSocket, LinkListener]] = {}
        self._inner: RegistrationSocket | None = None
        self.counters = dict.fromkeys(
            ("messages_in", "advertisements_in", "messages_out", "malformed"), 0
        )
        self.counters |= dict.fromkeys(("receive_errors", "send_errors"), 0)

    def _count(self, name: str) -> None:
        self.counters[name] += 1

    def open_inner(self, interface: str) -> None:
        """Listen inside the VPN, too. Raises OSError."""
        self._inner = RegistrationSocket(interface, self._inner_mark, inner=True)
        self._loop.add_reader(self._inner.fileno(), self._inner_readable)

    def use_links(self, indices: dict[str, int]) -> dict[str, OSError]:
        """Listen on these links (name and number) and on no others; what failed, by name."""
        for name in [n for n, (i, _, _) in self._links.items() if indices.get(n) != i]:
            self._leave(name)
        failed: dict[str, OSError] = {}
        for name, index in indices.items():
            if name in self._links:
                continue
            try:
                self._join(name, index)
            except OSError as error:
                failed[name] = error
        return failed

    @property
    def links(self) -> Collection[str]:
        """Names of the links that are listened to."""
        return self._links.keys()

    def _join(self, name: str, index: int) -> None:
        listener = LinkListener(name)
        try:
            sender = RegistrationSocket(name, self._link_mark, inner=False)
        except OSError:
            listener.close()
            raise
        self._links[name] = index, sender, listener
        self._loop.add_reader(listener.fileno(), self._link_readable, listener)

    def _leave(self, name: str) -> None:
        _, sender, listener = self._links.pop(name)
        self._loop.remove_reader(listener.fileno())
        listener.close()
        sender.close()

    def _link_readable(self, listener: LinkListener) -> None:
        for packet in listener.read(self._count):
            self._from_link(listener.interface, packet)

    def _from_link(self, interface: str, packet: FromLink) -> None:
        if packet.message:
            self.counters["messages_in"] += 1
            self._receiver.registration(packet.message, interface, packet.source)
        else:
            self.counters["advertisements_in"] += 1
            self._receiver.advertisement(
                interface, packet.source_address, packet.link_address, packet.advertisement
            )

    def _inner_readable(self) -> None:
        if self._inner is None:
            return
        for message, source in self._inner.read(self._count):
            self.counters["messages_in"] += 1
            self._receiver.registration(message, None, source)

    def send(
        self,
        message: bytes,
        interface: str | None,
        source: IPv4Address,
        destination: IPv4Address,
        link_address: bytes = b"",
    ) -> OSError | None:
        """Send a registration message, or return why not; see ``TransmitRegistration``."""
        failed = self._send(message, interface, source, destination, link_address)
        self._count("messages_out" if failed is None else "send_errors")
        return failed

    def _send(
        self,
        message: bytes,
        interface: str | None,
        source: IPv4Address,
        destination: IPv4Address,
        link_address: bytes,
    ) -> OSError | None:
        if interface is None:
            if self._inner is None:
                return OSError(19, "the VPN's interface is not there")
            return self._inner.send(message, source, destination)
        found = self._links.get(interface)
        if found is None:
            return OSError(19, f"no link {interface}")
        _, sender, listener = found
        if link_address:
            return listener.send(message, source, destination, link_address)
        return sender.send(message, source, destination)

    def solicit(self, interface: str, source: IPv4Address | None) -> OSError | None:
        """Ask for agent advertisements on a link, or return why not."""
        found = self._links.get(interface)
        if found is None:
            return OSError(19, f"no link {interface}")
        return found[2].solicit(source if source is not None else _NOWHERE)

    def close(self) -> None:
        """Leave all links."""
        for name in list(self._links):
            self._leave(name)
        if self._inner is not None:
            self._loop.remove_reader(self._inner.fileno())
            self._inner.close()
            self._inner = None

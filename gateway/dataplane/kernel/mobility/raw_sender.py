"""Sends whole IPv4 packets, each with its fwmark, as they are routed or on a given link."""

import errno
import fcntl
import socket
import struct
from typing import Final

from gateway.dataplane.packet.outbound import Send

_SO_MARK: Final = 36
_IP_MTU: Final = 14
_IP_PKTINFO: Final = 8
_SIOCGIFINDEX: Final = 0x8933
_INTERFACE_REQUEST = struct.Struct("=16si20x")
_PACKET_INFO = struct.Struct("=i4s4s")
_SEND_BUFFER: Final = 1 << 20


class PacketTooLongError(OSError):
    """The packet does not fit the link; ``mtu`` does."""

    def __init__(self, mtu: int) -> None:
        super().__init__(errno.EMSGSIZE, f"longer than {mtu} octets")
        self.mtu = mtu


class RawSender:
    """One socket for each mark in use. Raises OSError when there may be no raw sockets."""

    def __init__(self, marks: range) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        """Asks for routes and interfaces; it stays in the network namespace of its making."""
        try:
            self._probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for mark in marks:
                self._open(mark)
        except OSError:
            self.close()
            raise

    def _open(self, mark: int) -> socket.socket:
        made = socket.socket(
            socket.AF_INET,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.IPPROTO_RAW,
        )
        self._sockets[mark] = made
        made.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        return made

    def send(self, packet: Send) -> None:
        """Raises :class:`PacketTooLongError`, or OSError when it cannot be sent now."""
        octets = packet.octets
        one = self._sockets.get(packet.mark) or self._open(packet.mark)
        where = (socket.inet_ntoa(octets[16:20]), 0)
        try:
            if packet.device:
                info = _PACKET_INFO.pack(packet.device, bytes(4), bytes(4))
                one.sendmsg([octets], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, where)
            else:
                one.sendto(octets, where)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            raise PacketTooLongError(self._mtu(packet)) from error

    def _mtu(self, packet: Send) -> int:
        """Of the route that the packet would take. Raises OSError when there is none."""
        self._probe.setsockopt(socket.SOL_SOCKET, _SO_MARK, packet.mark)
        self._probe.connect((socket.inet_ntoa(packet.octets[16:20]), 1))
        return self._probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)

    def interface_index(self, name: str) -> int:
        """0 for one that is not there."""
        request = _INTERFACE_REQUEST.pack(name.encode()[:15], 0)
        try:
            answer = fcntl.ioctl(self._probe, _SIOCGIFINDEX, request)
        except OSError:
            return 0
        index: int = _INTERFACE_REQUEST.unpack(answer)[1]
        return index

    def close(self) -> None:
        """Close all sockets."""
        self._probe.close()
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()

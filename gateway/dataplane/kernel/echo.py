"""ICMP echo requests of given sizes that nobody may fragment, through one interface only.

RFC 792, 4443; error queue and path MTU discovery: ip(7), ipv6(7), raw(7).
"""

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import IpAddress

HEADERS: Final = {4: 28, 6: 48}
"""Octets of a probe before its filling, by IP version: IP and ICMP headers."""
_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}
_SO_MARK: Final = 36
_MTU_DISCOVER: Final = {4: 10, 6: 23}
_PROBE: Final = 3
"""Never fragment, and do not believe what ICMP said before."""
_RECVERR: Final = {4: 11, 6: 25}
_IPV6_DONTFRAG: Final = 62
_ICMPV6_FILTER: Final = 1
_MSG_ERRQUEUE: Final = 0x2000
_ECHO = struct.Struct("!BBHHH")
_FAMILY = struct.Struct("=H")
_ERROR = struct.Struct("=IBBBxII")
"""``struct sock_extended_err``: errno, origin, type, code, info, data."""
_SOCKADDR: Final = {2: (4, 8), 10: (8, 24)}
"""Where the address is in a ``sockaddr``, by family."""
_MAX_READ: Final = 64


@dataclass(frozen=True, slots=True)
class Answered:
    """The reply to a request came, from the address that was asked."""

    sequence: int


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Somebody on the way, or this host, said that a request does not fit."""

    sequence: int
    """0 where the quote does not show it."""
    said_by: str
    """An address; empty for this host."""
    mtu: int


class EchoSocket:
    """Sends requests to one address and reads what comes back. Needs CAP_NET_RAW."""

    def __init__(
        self,
        source: IpAddress,
        destination: IpAddress,
        interface: str,
        *,
        identifier: int,
        secret: bytes,
        mark: int = 0,
    ) -> None:
        """``secret`` is in every request, and proves that a reply answers one. Raises OSError."""
        self.version = destination.version
        self._destination, self._identifier, self._secret = destination, identifier, secret
        four = self.version == 4
        family = socket.AF_INET if four else socket.AF_INET6
        protocol = socket.IPPROTO_ICMP if four else socket.IPPROTO_ICMPV6
        level = socket.IPPROTO_IP if four else socket.IPPROTO_IPV6
        self._level = level
        self.sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self.sock.setblocking(False)
            # A packet that left by another way would test that one, outside of the tunnel.
            device = interface.encode() + b"\0"
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            if mark:
                self.sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            self.sock.setsockopt(level, _MTU_DISCOVER[self.version], _PROBE)
            self.sock.setsockopt(level, _RECVERR[self.version], 1)
            if not four:
                self.sock.setsockopt(level, _IPV6_DONTFRAG, 1)
                only = bytearray(b"\xff" * 32)
                only[_REPLY[6] // 8] &= ~(1 << _REPLY[6] % 8) & 0xFF
                self.sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, bytes(only))
            self.sock.bind((str(source), 0))
            self.sock.connect((str(destination), 0))
        except BaseException:
            self.sock.close()
            raise

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    def send(self, octets: int, sequence: int) -> TooLarge | None:
        """Send a request, an IP packet of ``octets``. Raises OSError, but not for its size."""
        filling = max(0, octets - HEADERS[self.version] - len(self._secret))
        body = self._secret + bytes(filling)
        kind = _REQUEST[self.version]
        header = _ECHO.pack(kind, 0, 0, self._identifier, sequence)
        if self.version == 4:
            checksum = internet_checksum(header + body)
            header = _ECHO.pack(kind, 0, checksum, self._identifier, sequence)
        try:
            self.sock.send(header + body)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return TooLarge(sequence, "", 0)
            raise
        return None

    def read(self) -> Iterator[Answered | TooLarge]:
        """What has come, a bounded amount of it. Never raises for what somebody sent."""
        for _ in range(_MAX_READ):
            found = self._error()
            if found is False:
                break
            if isinstance(found, TooLarge):
                yield found
        for _ in range(_MAX_READ):
            try:
                data = self.sock.recv(65_535)
            except BlockingIOError:
                return
            except OSError:
                continue  # an error that the queue has told already
            answer = self._reply(data)
            if answer is not None:
                yield answer

    def _reply(self, data: bytes) -> Answered | None:
        at = (data[0] & 15) * 4 if self.version == 4 and data else 0
        if len(data) < at + _ECHO.size + len(self._secret):
            return None
        kind, _, _, identifier, sequence = _ECHO.unpack_from(data, at)
        secret = data[at + _ECHO.size :][: len(self._secret)]
        mine = (_REPLY[self.version], self._identifier, self._secret)
        return Answered(sequence) if (kind, identifier, secret) == mine else None

    def _error(self) -> TooLarge | bool:
        """The next of the error queue; False when there is none, True for one that says nothing."""
        try:
            quote, control, _, _ = self.sock.recvmsg(512, 512, _MSG_ERRQUEUE)
        except OSError:
            return False
        for level, kind, value in control:
            if (level, kind) != (self._level, _RECVERR[self.version]) or len(value) < _ERROR.size:
                continue
            number, _, _, _, mtu, _ = _ERROR.unpack_from(value)
            if number == errno.EMSGSIZE:
                return TooLarge(self._quoted(quote), _offender(value[_ERROR.size :]), mtu)
        return True

    def _quoted(self, quote: bytes) -> int:
        if len(quote) < _ECHO.size:
            return 0
        kind, _, _, identifier, sequence = _ECHO.unpack_from(quote)
        mine = kind == _REQUEST[self.version] and identifier == self._identifier
        return int(sequence) if mine else 0


def _offender(sockaddr: bytes) -> str:
    """The address in a ``sockaddr``; empty when there is none."""
    if len(sockaddr) < 2:
        return ""
    begin, end = _SOCKADDR.get(_FAMILY.unpack_from(sockaddr)[0], (0, 0))
    if not end or len(sockaddr) < end:
        return ""
    return str(ip_address(sockaddr[begin:end]))

"""A NAR client made of a socket and the formats of RFC 1928, RFC 1929 and draft 004, section 3.

It shares no code with the product's codec, says what it is told to say, also what nobody may say,
and reads exactly what the formats promise. What it does with packets is in
:mod:`gateway.lab.nar.presence`.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Self

from gateway.lab import netns
from gateway.lab.nar import plan
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

PATIENCE_S = 10.0
CONNECT, BIND, UDP_ASSOCIATE, NAR_MODE = 1, 2, 3, 0x80
ICMP_ASSOCIATE, IPSEC_ASSOCIATE, TUNNEL_ASSOCIATE = 0x81, 0x82, 0x83
SESSION, RENEW, RELEASE, L2TP_ASSOCIATE, NOTICE = 0x90, 0x91, 0x92, 0x93, 0x94
TRANSLATED, GRE, L2TP, LEASES = 0x01, 0x02, 0x04, 0x80
SUCCEEDED, GENERAL_FAILURE, NOT_ALLOWED = 0, 1, 2
COMMAND_UNKNOWN, ADDRESS_TYPE_UNKNOWN = 7, 8
ANY = IPv4Address(0)
ESP, AH, IP_IP, GRE_PROTOCOL = 50, 51, 4, 47
TCP, UDP, ICMP = 6, 17, 1


class ConnectionEndedError(LabError):
    """The server closed the connection where an answer was due."""


@dataclass(frozen=True, slots=True)
class SocksReply:
    """The reply to a command with version 5; `flags` is the octet called RSV."""

    reply: int
    flags: int
    address: IPv4Address
    port: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What the server said unasked."""

    reason: int
    address: IPv4Address
    tuple: bytes


@dataclass(frozen=True, slots=True)
class L2tpIds:
    """A session as the client sees it: what it receives, then what it sends."""

    reply: int
    tunnel_id: int
    peer_tunnel_id: int
    session_id: int
    peer_session_id: int
    cookie: bytes
    peer_cookie: bytes


def address_field(target: object) -> bytes:
    """ATYP and address: of an IPv4 address, or a name given as bytes."""
    if isinstance(target, bytes):
        return b"\x03" + bytes([len(target)]) + target
    return b"\x01" + IPv4Address(str(target)).packed


def tuple_field(
    protocol: int, value: int, remote: IPv4Address = ANY, remote_port: int = 0
) -> bytes:
    """TUPLE of the extension: 12 octets."""
    return struct.pack(">BBH4sI", protocol, 0, remote_port, remote.packed, value)


class RawClient:
    """One control connection from a host of the lab.

    Raises LabError where the server is silent too long, ConnectionEndedError where it hangs up.
    """

    def __init__(
        self,
        lab: Lab,
        host: str,
        server: tuple[object, int] = (plan.NA, plan.NAR_PORT),
        *,
        source: object = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.notices: list[Notice] = []
        self.token = b""
        """Of the last session that the server granted."""
        self._waiting = b""
        sock = netns.socket_in(lab.namespace(host), socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            sock.bind((str(source), 0))
        try:
            sock.connect((str(server[0]), server[1]))
            self.socket = tls.wrap_socket(sock) if tls is not None else sock
        except OSError as error:
            sock.close()
            raise LabError(f"{host}: no connection to {server[0]}:{server[1]}: {error}") from None
        self.local = self.socket.getsockname()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- octets ------------------------------------------------------------------------------------

    def send(self, data: bytes, *, pieces: bool = False) -> None:
        """Send octets; with `pieces` each in a segment of its own."""
        try:
            for piece in [data[at : at + 1] for at in range(len(data))] if pieces else [data]:
                self.socket.sendall(piece)
        except OSError as error:
            raise ConnectionEndedError(f"the server does not listen any more: {error}") from None

    def read(self, octets: int, timeout_s: float = PATIENCE_S) -> bytes:
        """Exactly so many octets."""
        end = time.monotonic() + timeout_s
        while len(self._waiting) < octets:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                part = self.socket.recv(65536)
            except TimeoutError:
                got = self._waiting.hex(" ")
                raise LabError(
                    f"the server owes {octets} octets for {timeout_s:g} s: {got}"
                ) from None
            except OSError as error:
                raise ConnectionEndedError(f"reset by the server: {error}") from None
            if not part:
                got = self._waiting.hex(" ")
                raise ConnectionEndedError(f"closed by the server after {got!r}")
            self._waiting += part
        found, self._waiting = self._waiting[:octets], self._waiting[octets:]
        return found

    def ends(self, timeout_s: float = PATIENCE_S) -> bytes:
        """What still comes until the server hangs up; raises LabError when it does not."""
        rest = b""
        end = time.monotonic() + timeout_s
        while True:
            try:
                rest += self.read(1, max(0.01, end - time.monotonic()))
            except ConnectionEndedError:
                return rest

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes and nobody hangs up for so long."""
        return not self._waiting and not select.select([self.socket], [], [], seconds)[0]

    def half_close(self) -> None:
        """Say that nothing more will come from here."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def reset(self) -> None:
        """Be gone without a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # -- RFC 1928 and 1929 -------------------------------------------------------------------------

    def hello(self, *methods: int) -> int:
        """Offer methods (none: method 0); the one that the server takes."""
        offered = bytes(methods) if methods else b"\x00"
        self.send(bytes([5, len(offered)]) + offered)
        version, method = self.read(2)
        if version != 5:
            raise LabError(f"the server answered with version {version}")
        return method

    def login(self, user: bytes, password: bytes) -> int:
        """Username and password; 0 is yes."""
        self.send(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
        version, status = self.read(2)
        if version != 1:
            raise LabError(f"the sub-negotiation was answered with version {version}")
        return status

    def command(self, number: int, target: object = ANY, port: int = 0, flags: int = 0) -> None:
        """Send a command of version 5."""
        self.send(bytes([5, number, flags]) + address_field(target) + struct.pack(">H", port))

    def reply(self) -> SocksReply:
        """The reply to a command of version 5."""
        while True:
            version, reply = self.read(2)
            if version == 1 and reply == NOTICE:
                self._notice()
                continue
            break
        flags, kind = self.read(2)
        if version != 5 or kind != 1:
            raise LabError(f"a reply of version {version} with an address of type {kind}")
        address, port = struct.unpack(">4sH", self.read(6))
        return SocksReply(reply, flags, IPv4Address(address), port)

    def ask(self, number: int, target: object = ANY, port: int = 0, flags: int = 0) -> SocksReply:
        """A command of version 5 and its reply."""
        self.command(number, target, port, flags)
        return self.reply()

    # -- the draft's commands, and the extension ---------------------------------------------------

    def nar_mode(self, target: object = plan.Y, flags: int = LEASES) -> SocksReply:
        """NAR-MODE."""
        return self.ask(NAR_MODE, target, 0, flags)

    def icmp(self, identifier: int = 0) -> tuple[int, int]:
        """ICMP-ASSOCIATE: the reply's code and the identifier."""
        return self._nar(ICMP_ASSOCIATE, struct.pack(">H", identifier), ">H")[:2]

    def ipsec(self, protocol: int = ESP, spi: int = 0) -> tuple[int, int, int]:
        """IPSEC-ASSOCIATE: the reply's code, protocol and SPI."""
        return self._nar(IPSEC_ASSOCIATE, struct.pack(">BI", protocol, spi), ">BI")

    def tunnel(self, inner: object, protocol: int = IP_IP) -> tuple[int, IPv4Address, int]:
        """TUNNEL-ASSOCIATE: the reply's code, inner address and protocol."""
        body = address_field(inner) + bytes([protocol])
        code, kind, address, answered = self._nar(TUNNEL_ASSOCIATE, body, ">B4sB")
        if kind not in {0, 1}:
            raise LabError(f"an inner address of type {kind}")
        return code, IPv4Address(address), answered

    def session(self, token: bytes = bytes(16)) -> tuple[int, bytes, int, int]:
        """SESSION: the reply's code, token, lease time and grace time in seconds."""
        answer = self._nar(SESSION, token, ">16sII")
        self.token = answer[1]
        return answer

    def renew(self) -> tuple[int, int]:
        """RENEW: the reply's code and the lease time in seconds."""
        return self._nar(RENEW, b"", ">I")

    def release(self, which: bytes = bytes(12)) -> tuple[int, bytes]:
        """RELEASE a tuple (or everything): the reply's code and the tuple."""
        return self._nar(RELEASE, which, ">12s")

    def l2tp(self) -> L2tpIds:
        """L2TP-ASSOCIATE."""
        return L2tpIds(*self._nar(L2TP_ASSOCIATE, b"", ">IIII8s8s"))

    def notice(self, timeout_s: float = PATIENCE_S) -> Notice:
        """The next thing that the server says unasked."""
        if not self.notices:
            head = self.read(2, timeout_s)
            if head != bytes([1, NOTICE]):
                raise LabError(f"no notice but {head.hex(' ')}")
            self._notice()
        return self.notices.pop(0)

    def _notice(self) -> None:
        reason, _, address, which = struct.unpack(">BB4s12s", self.read(18))
        self.notices.append(Notice(reason, IPv4Address(address), which))

    def _nar(self, command: int, body: bytes, answer: str) -> tuple[Any, ...]:
        self.send(bytes([1, command]) + body)
        while True:
            version, code = self.read(2)
            if version == 1 and code == NOTICE:
                self._notice()
                continue
            if version != 1:
                raise LabError(f"a NAR command was answered with version {version}")
            return (code, *struct.unpack(answer, self.read(struct.calcsize(answer))))


def leasing(
    lab: Lab,
    host: str,
    target: object = plan.Y,
    flags: int = LEASES,
    *,
    server: tuple[object, int] = (plan.NA, plan.NAR_PORT),
    user: tuple[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> tuple[RawClient, SocksReply]:
    """A client in NAR mode, without or with login; raises LabError when the server refuses."""
    client = RawClient(lab, host, server, tls=tls)
    try:
        method = client.hello(0 if user is None else 2)
        if user is not None and method == 2 and client.login(user[0].encode(), user[1].encode()):
            raise LabError(f"{host}: the server does not take {user[0]}'s password")
        if method not in {0, 2}:
            raise LabError(f"{host}: the server takes none of the offered methods ({method})")
        mode = client.nar_mode(target, flags)
        if mode.reply:
            raise LabError(f"{host}: NAR-MODE {target} was answered with {mode.reply}")
        if mode.flags & LEASES:
            code = client.session()[0]
            if code:
                raise LabError(f"{host}: SESSION was answered with {code}")
    except BaseException:
        with contextlib.suppress(OSError):
            client.close()
        raise
    return client, mode

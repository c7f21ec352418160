"""Finds out whether a captive portal is in the way (draft 002, section 4.2.6).

The node proves nothing to the portal and trusts it with nothing: one plain request for a page that
holds nothing, marked so that the switch lets it pass, bound to its link, with a deadline. What
comes back is read up to a few hundred octets; a redirect is reported, never followed.
"""

import asyncio
import contextlib
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final
from urllib.parse import urlsplit

from gateway.domain.wire import WireError
from gateway.mobile_host.name_question import MAX_OCTETS, addresses, question
from gateway.mobile_node.inputs import Portal

CONNECT_S: Final = 4.0
ANSWER_S: Final = 4.0
NAME_S: Final = 2.0
HEAD_OCTETS: Final = 2048
"""Of the answer: status line and the headers that matter come first."""
NO_CONTENT: Final = 204
NETWORK_AUTHENTICATION_REQUIRED: Final = 511
"""RFC 6585 section 6."""
MAX_SERVERS: Final = 3
DNS_PORT: Final = 53
_SO_MARK = 36
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_LOCATION = re.compile(rb"\r?\nlocation:[ \t]*([^\r\n]{1,1024})", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe found."""

    verdict: Portal
    text: str
    """One sentence."""
    redirect_host: str = ""
    """Where the portal wants browsers to go; not trustworthy, checked for its characters only."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """What is asked for: a URL that answers 204, or without one the gateway's own address."""

    url: str | None
    gateway: IPv4Address | None


class PortalProbe:
    """Probes one link at a time each. Never raises."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mark: int,
        *,
        http_port: int = 80,
        tls_port: int = 443,
        connect_s: float = CONNECT_S,
    ) -> None:
        self._loop = loop
        self._mark = mark
        self._ports = http_port, tls_port
        self._connect_s = connect_s
        self.counters = dict.fromkeys(("probes", "captive"), 0)

    async def probe(
        self, interface: str, target: ProbeTarget, name_servers: Sequence[IPv4Address]
    ) -> Found:
        """Ask once."""
        self.counters["probes"] += 1
        try:
            if target.url is not None:
                found = await self._by_url(interface, target.url, name_servers)
            elif target.gateway is not None:
                found = await self._by_gateway(interface, target.gateway)
            else:
                found = Found(Portal.UNKNOWN, "there is nothing to ask: set network.portal_probe")
        except (OSError, TimeoutError) as error:
            found = Found(Portal.SILENT, f"nobody answers: {error.strerror or 'not in time'}")
        except ValueError as error:
            found = Found(Portal.UNKNOWN, str(error))
        self.counters["captive"] += found.verdict is Portal.CAPTIVE
        return found

    async def _by_url(self, interface: str, url: str, servers: Sequence[IPv4Address]) -> Found:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or self._ports[0]
        try:
            address = IPv4Address(host)
        except ValueError:
            named = await self.resolve(interface, host, servers)
            if named is None:
                return Found(Portal.SILENT, f"no name server of the link knows {host}")
            address = named[0]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = await self._get(interface, address, port, host, path)
        return judge(head, host, expected=NO_CONTENT)

    async def _by_gateway(self, interface: str, gateway: IPv4Address) -> Found:
        """The gateway has no page; a portal answers in its place, the gateway's host refuses."""
        http, tls = self._ports
        try:
            head = await self._get(interface, gateway, http, str(gateway), "/")
        except ConnectionRefusedError:
            return Found(Portal.OPEN, f"{gateway} refuses port {http}: no portal answers for it")
        except (OSError, TimeoutError):
            return await self._by_tls_port(interface, gateway, tls)
        return judge(head, str(gateway), expected=None)

    async def _by_tls_port(self, interface: str, gateway: IPv4Address, port: int) -> Found:
        with contextlib.suppress(ConnectionRefusedError):
            (await self.connect(interface, gateway, port)).close()
        return Found(Portal.OPEN, f"{gateway} answers on port {port}")

    async def _get(
        self, interface: str, address: IPv4Address, port: int, host: str, path: str
    ) -> bytes:
        sock = await self.connect(interface, address, port)
        with sock:
            request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            async with asyncio.timeout(ANSWER_S):
                await self._loop.sock_sendall(sock, request.encode("ascii", "replace"))
                head = b""
                while len(head) < HEAD_OCTETS and b"\r\n\r\n" not in head:
                    more = await self._loop.sock_recv(sock, HEAD_OCTETS - len(head))
                    if not more:
                        break
                    head += more
        return head

    async def connect(self, interface: str, address: IPv4Address, port: int) -> socket.socket:
        """A connection through a link, past the switch. Raises OSError, TimeoutError."""
        sock = self._socket(interface, socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(self._connect_s):
                await self._loop.sock_connect(sock, (str(address), port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _socket(self, interface: str, kind: socket.SocketKind) -> socket.socket:
        sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if interface:
                name = interface.encode() + b"\0"
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
            if self._mark:
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
        except OSError:
            sock.close()
            raise
        return sock

    async def resolve(
        self, interface: str, name: str, servers: Sequence[IPv4Address]
    ) -> list[IPv4Address] | None:
        """Ask name servers on a link for a name; None when none of them knows it.

        Raises ValueError for what is no host name.
        """
        asked = question(name, secrets.randbits(16))
        for server in servers[:MAX_SERVERS]:
            try:
                found = await self._ask(interface, asked, server)
            except (OSError, TimeoutError):
                continue
            if found:
                return found
        return None

    async def _ask(self, interface: str, asked: bytes, server: IPv4Address) -> list[IPv4Address]:
        with self._socket(interface, socket.SOCK_DGRAM) as sock:
            async with asyncio.timeout(NAME_S):
                await self._loop.sock_connect(sock, (str(server), DNS_PORT))
                await self._loop.sock_sendall(sock, asked)
                while True:
                    answer = await self._loop.sock_recv(sock, MAX_OCTETS)
                    try:
                        return addresses(answer, asked)
                    except WireError:
                        continue  # a stranger's; the right one may still come


def judge(head: bytes, host: str, *, expected: int | None) -> Found:
    """What the beginning of an HTTP answer says; ``expected`` is the status of an open network."""
    match = _STATUS.match(head)
    if match is None:
        if not head:
            return Found(Portal.SILENT, f"{host} closes the connection without an answer")
        return Found(Portal.UNKNOWN, f"what answers for {host} does not speak HTTP")
    status = int(match[1])
    where = _redirect_host(head)
    if status == expected:
        return Found(Portal.OPEN, f"{host} answers as expected")
    if status == NETWORK_AUTHENTICATION_REQUIRED:
        return Found(Portal.CAPTIVE, "the network asks for a login (status 511)", where)
    if 300 <= status < 400:
        if expected is None and where in {"", host}:
            return Found(Portal.OPEN, f"{host} answers itself")
        text = f"a portal redirects {host} to {where or 'an unreadable address'}"
        return Found(Portal.CAPTIVE, text, where)
    if expected is None:
        return Found(Portal.OPEN, f"{host} answers with status {status}")
    text = f"something else than {host} answers: status {status} instead of {expected}"
    return Found(Portal.CAPTIVE, text)


def _redirect_host(head: bytes) -> str:
    match = _LOCATION.search(head)
    if match is None:
        return ""
    try:
        host = urlsplit(match[1].decode("ascii", "replace").strip()).hostname or ""
    except ValueError:
        return ""
    return host if _HOST.fullmatch(host) else ""

"""Name service for a command: its questions go to this host's own name servers.

They may be in this host's network only, or on its loopback, and the command has few ports. So a
relay answers on the loopback of the command's namespace and asks from this one.
"""

import asyncio
import contextlib
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from gateway.nar_host import netns

LISTEN: Final = "127.0.0.53"
DNS_PORT: Final = 53
ANSWER_S: Final = 5.0
MAX_QUESTIONS: Final = 64
"""At a time; more are dropped, and asked again by who wants to know."""
_MAX_OCTETS: Final = 65535
_HOST_FILE: Final = Path("/etc/resolv.conf")


def host_servers(path: Path = _HOST_FILE) -> list[str]:
    """Name servers of this host, in their order."""
    found = []
    for words in _lines(path):
        if words[0] == "nameserver" and len(words) > 1:
            with contextlib.suppress(ValueError):
                found.append(str(ip_address(words[1].partition("%")[0])))
    return found


def resolver_file(path: Path = _HOST_FILE) -> str:
    """A resolv.conf that leads to the relay, with this host's search list and options."""
    kept = [
        " ".join(words) for words in _lines(path) if words[0] in ("search", "domain", "options")
    ]
    return "\n".join([f"nameserver {LISTEN}", *kept, ""])


def _lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return []
    return [words for words in (line.split() for line in text.splitlines()) if words]


class DnsRelay:
    """Answers inside a namespace, by UDP and TCP."""

    def __init__(self, servers: list[str]) -> None:
        self._servers = servers
        self._transport: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, namespace: int) -> None:
        """Listen on its loopback. Raises OSError."""
        udp, tcp = netns.made_in(namespace, _sockets)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Questions(self), sock=udp)
        self._tcp = await asyncio.start_server(self._stream, sock=tcp)

    def close(self) -> None:
        """Stop."""
        if self._transport is not None:
            self._transport.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in self._tasks:
            task.cancel()

    def question(self, data: bytes, source: tuple[str, int]) -> None:
        """One came by UDP."""
        if len(self._tasks) >= MAX_QUESTIONS:
            return
        task = asyncio.get_running_loop().create_task(self._answer(data, source))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, source: tuple[str, int]) -> None:
        for server in self._servers:
            answer = await _ask(server, data)
            if answer is not None:
                if self._transport is not None:
                    self._transport.sendto(answer, source)
                return

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for server in self._servers:
            try:
                async with asyncio.timeout(ANSWER_S):
                    there, back = await asyncio.open_connection(server, DNS_PORT)
            except (OSError, TimeoutError):
                continue
            with contextlib.suppress(OSError):
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
            back.close()
            break
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _ask(server: str, data: bytes) -> bytes | None:
    """What a name server answers, from a socket of its own for this question."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()
    try:
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Answer(answer), remote_addr=(server, DNS_PORT)
        )
    except OSError:
        return None
    try:
        transport.sendto(data)
        async with asyncio.timeout(ANSWER_S):
            return await answer
    except (OSError, TimeoutError):
        return None
    finally:
        transport.close()


def _sockets() -> tuple[socket.socket, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        for one in (udp, tcp):
            one.setblocking(False)
            one.bind((LISTEN, DNS_PORT))
    except OSError:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


class _Questions(asyncio.DatagramProtocol):
    def __init__(self, relay: DnsRelay) -> None:
        self._relay = relay

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._relay.question(data, addr)


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, answer: "asyncio.Future[bytes]") -> None:
        self._answer = answer

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        if not self._answer.done() and len(data) <= _MAX_OCTETS:
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)

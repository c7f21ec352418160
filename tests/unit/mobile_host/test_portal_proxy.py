"""The way to a captive portal's page: where it leads, for whom, and what it costs."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mobile_host import portal_proxy
from gateway.mobile_host.loopback_peer import uid_of
from gateway.mobile_host.portal_proxy import LOOPBACK, Outlet, PortalProxy, is_own_address
from gateway.mobile_host.proxy_request import (
    HEAD_OCTETS,
    ProxyRequest,
    RequestRefusedError,
    parse,
    reply_head,
)

PORTAL = IPv4Address("192.0.2.9")
HERE = os.getuid()


# -- requests -------------------------------------------------------------------------------------


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join((line, *headers, "", "")).encode("latin-1")


def test_an_absolute_address_becomes_one_request() -> None:
    found = parse(
        head(
            "POST http://Login.Hotel.example:8080/pay?room=7 HTTP/1.1",
            "Host: elsewhere.example",
            "Cookie: a=b",
            "Connection: keep-alive, X-Mine",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic secret",
            "Keep-Alive: 5",
            "X-Mine: 1",
            "Expect: 100-continue",
            "Content-Length: 12",
        )
    )
    to_server = head(
        "POST /pay?room=7 HTTP/1.1",
        "Host: Login.Hotel.example:8080",
        "Cookie: a=b",
        "Content-Length: 12",
        "Connection: close",
    )
    assert found == ProxyRequest("login.hotel.example", 8080, False, to_server, 12)


def test_connect() -> None:
    assert parse(head("CONNECT login.example:443 HTTP/1.1")) == ProxyRequest(
        "login.example", 443, tunnel=True
    )


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("GET http://a.example HTTP/1.1", b"/"),
        ("GET HTTP://a.example?x HTTP/1.0", b"/?x"),
        ("GET http://a.example//b HTTP/1.1", b"//b"),
    ],
)
def test_paths(line: str, path: bytes) -> None:
    assert parse(head(line)).head.startswith(b"GET " + path + b" HTTP/1.1\r\nHost: a.example\r\n")


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("GET / HTTP/1.1", ("Host: 127.0.0.1:4711",), 400),
        ("POST /x HTTP/1.1", ("Content-Length: 3",), 400),
        ("GET https://a.example/ HTTP/1.1", (), 400),
        ("GET ftp://a.example/ HTTP/1.1", (), 400),
        ("GET http://me:secret@a.example/ HTTP/1.1", (), 400),
        ("GET http://[::1]/ HTTP/1.1", (), 400),
        ("GET http://a.example/ HTTP/2.0", (), 400),
        ("GET  http://a.example/ HTTP/1.1", (), 400),
        ("GET http://a.example/\x01 HTTP/1.1", (), 400),
        ("GET http://a.example:22/ HTTP/1.1", (), 403),
        ("GET http://a.example:99999/ HTTP/1.1", (), 403),
        ("CONNECT a.example HTTP/1.1", (), 400),
        ("CONNECT a.example:25 HTTP/1.1", (), 403),
        ("CONNECT http://a.example:443 HTTP/1.1", (), 400),
        ("GET http://a.example/ HTTP/1.1", ("A: b", " folded"), 400),
        ("GET http://a.example/ HTTP/1.1", ("A : b",), 400),
        ("GET http://a.example/ HTTP/1.1", ("A: b\nHost: c",), 400),
        ("GET http://a.example/ HTTP/1.1", ("A: b\rc",), 400),
        ("GET http://a.example/ HTTP/1.1", ("A: b",) * 129, 400),
        ("POST http://a.example/ HTTP/1.1", ("Transfer-Encoding: chunked",), 411),
        ("POST http://a.example/ HTTP/1.1", ("Content-Length: 3", "Content-Length: 4"), 400),
        ("POST http://a.example/ HTTP/1.1", ("Content-Length: +3",), 400),
        ("POST http://a.example/ HTTP/1.1", ("Content-Length: 3, 3",), 400),
    ],
)
def test_refused_requests(line: str, headers: tuple[str, ...], status: int) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        parse(head(line, *headers))
    assert refused.value.status == status


@given(st.binary(max_size=300))
def test_any_octets_are_a_request_or_refused(octets: bytes) -> None:
    with contextlib.suppress(RequestRefusedError):
        parse(octets)
    with contextlib.suppress(RequestRefusedError):
        reply_head(octets)


def test_an_answer_ends_the_connection() -> None:
    given_head = head("HTTP/1.1 200 OK", "Connection: keep-alive", "Proxy-Authenticate: x", "A: b")
    assert reply_head(given_head) == head("HTTP/1.1 200 OK", "A: b", "Connection: close")
    assert reply_head(b"HTTP/1.0 302 Found\nLocation: http://a/\n\n") == head(
        "HTTP/1.0 302 Found", "Location: http://a/", "Connection: close"
    )
    assert reply_head(head("HTTP/1.1 103 Early Hints", "Link: x")) is None


# -- whose connection -----------------------------------------------------------------------------


def test_the_owner_of_a_connection_over_loopback() -> None:
    with (
        socket.create_server((LOOPBACK, 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, peer = listener.accept()
        with accepted:
            assert uid_of(peer, accepted.getsockname()) == HERE
            client.close()
            # What nobody owns any more would count as root's.
            assert uid_of(peer, accepted.getsockname()) is None


@pytest.mark.parametrize("text", ["", "one\n", "  0: 0100007F:0001 0100007F:0002 01 broken\n"])
def test_an_unreadable_table_vouches_for_nobody(tmp_path: Path, text: str) -> None:
    table = tmp_path / "tcp"
    assert uid_of((LOOPBACK, 1), (LOOPBACK, 2), table) is None
    table.write_text(text)
    assert uid_of((LOOPBACK, 1), (LOOPBACK, 2), table) is None


def test_own_addresses() -> None:
    assert is_own_address(IPv4Address(LOOPBACK))
    assert not is_own_address(PORTAL)


# -- the proxy ------------------------------------------------------------------------------------


@dataclass
class World:
    """One proxy, and a server that stands for every place it is let to."""

    port: int
    proxy: PortalProxy
    reached: list[tuple[IPv4Address, int]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)

    async def say(self, octets: bytes) -> bytes:
        """What comes back until the end."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        writer.write(octets)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


async def passes(holds: Callable[[], bool]) -> None:
    """Let the loop turn until it is so."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


Serve = Callable[[World, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NAMES: dict[str, list[IPv4Address]] = {
    "login.example": [PORTAL],
    "rebound.example": [IPv4Address(LOOPBACK)],
    "second.example": [PORTAL, IPv4Address("10.0.0.1")],
}


async def page(world: World, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    world.heard.append(await reader.readuntil(b"\r\n\r\n"))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nlogin")
    await writer.drain()


@contextlib.asynccontextmanager
async def running(
    serve: Serve = page,
    *,
    uid: int = HERE,
    forbidden: Collection[IPv4Address] = (),
    head_s: float = 20.0,
    idle_s: float = 60.0,
) -> AsyncIterator[World]:
    loop = asyncio.get_running_loop()
    world: World

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await serve(world, reader, writer)
        writer.close()

    far = await asyncio.start_server(served, LOOPBACK, 0)

    async def connect(address: IPv4Address, port: int) -> socket.socket:
        world.reached.append((address, port))
        if address != PORTAL:
            raise ConnectionRefusedError(111, "Connection refused")
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, far.sockets[0].getsockname())
        return sock

    async def resolve(name: str) -> list[IPv4Address] | None:
        world.asked.append(name)
        if ".." in name:
            raise ValueError(f"{name!r} is no host name")
        return NAMES.get(name)

    outlet = Outlet(resolve, connect, lambda: forbidden)
    proxy = PortalProxy(loop, outlet, uid, head_s=head_s, idle_s=idle_s)
    world = World(proxy.open(), proxy)
    async with far:
        try:
            yield world
        finally:
            proxy.close()


def test_a_page_is_fetched_by_the_links_names() -> None:
    async def run() -> None:
        async with running() as world:
            answer = await world.say(head("GET http://login.example/pay HTTP/1.1", "Host: x"))
            assert (
                answer
                == head("HTTP/1.1 200 OK", "Content-Length: 5", "Connection: close") + b"login"
            )
            assert (world.asked, world.reached) == (["login.example"], [(PORTAL, 80)])
            assert world.heard[0].startswith(b"GET /pay HTTP/1.1\r\nHost: login.example\r\n")

    asyncio.run(run())


def test_a_tunnel_carries_octets_both_ways() -> None:
    async def echo(_: World, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(100):
            writer.write(octets.upper())

    async def run() -> None:
        async with running(echo) as world:
            reader, writer = await asyncio.open_connection(LOOPBACK, world.port)
            writer.write(head("CONNECT login.example:443 HTTP/1.1") + b"early")
            expected = head("HTTP/1.1 200 Connection established") + b"EARLY"
            assert await reader.readexactly(len(expected)) == expected
            writer.write(b" late")
            writer.write_eof()
            assert await reader.read() == b" LATE"
            writer.close()
            assert world.reached == [(PORTAL, 443)]

    asyncio.run(run())


def test_a_body_ends_where_it_says_and_nothing_follows_it() -> None:
    heard = b""

    async def take(_: World, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(8)
        writer.write(head("HTTP/1.1 100 Continue") + head("HTTP/1.1 204 Thanks"))
        await writer.drain()
        # Until the proxy goes: nothing more may come.
        heard += await reader.read()

    async def run() -> None:
        async with running(take) as world:
            reader, writer = await asyncio.open_connection(LOOPBACK, world.port)
            first = head("POST http://login.example/ HTTP/1.1", "Content-Length: 8") + b"room=101"
            writer.write(first + head("GET http://second.example/ HTTP/1.1", "Cookie: secret"))
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer == head("HTTP/1.1 204 Thanks", "Connection: close")
            writer.close()
            while world.proxy._tasks:
                await asyncio.wait(world.proxy._tasks)
            assert world.reached == [(PORTAL, 80)]

    asyncio.run(run())
    assert heard.endswith(b"room=101")


@pytest.mark.parametrize(
    "where",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "224.0.0.251",
        "255.255.255.255",
        "203.0.113.1",
        "rebound.example",
    ],
)
@pytest.mark.parametrize("line", ["GET http://{}/ HTTP/1.1", "CONNECT {}:443 HTTP/1.1"])
def test_it_leads_to_no_own_address_and_not_to_the_gateway(where: str, line: str) -> None:
    async def run() -> None:
        async with running(forbidden=[IPv4Address("203.0.113.1")]) as world:
            answer = await world.say(head(line.format(where)))
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert world.reached == []

    asyncio.run(run())


def test_an_address_of_an_interface_is_no_portal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with running() as world:
            monkeypatch.setattr(world.proxy, "_is_own", lambda address: address == PORTAL)
            answer = await world.say(head("GET http://login.example/ HTTP/1.1"))
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert world.reached == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://nobody.example/ HTTP/1.1", HTTPStatus.BAD_GATEWAY),
        ("GET http://a..b/ HTTP/1.1", HTTPStatus.BAD_REQUEST),
        ("GET http://10.0.0.1/ HTTP/1.1", HTTPStatus.BAD_GATEWAY),
        ("GET / HTTP/1.1", HTTPStatus.BAD_REQUEST),
    ],
)
def test_what_fails_is_said_in_the_browser(line: str, status: HTTPStatus) -> None:
    async def run() -> None:
        async with running() as world:
            answer = await world.say(head(line, "Host: 127.0.0.1"))
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert world.heard == []

    asyncio.run(run())


def test_another_users_processes_are_not_served() -> None:
    async def run() -> None:
        async with running(uid=HERE + 1) as world:
            assert await world.say(head("GET http://login.example/ HTTP/1.1")) == b""
            assert world.proxy.counters["strangers"] == 1
            assert world.reached == []

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n\r\n", b"x" * 100_000, b"", b"HTTP/1.1 200 OK\r\nno end"]
)
def test_a_hostile_server_costs_one_page(answer: bytes) -> None:
    async def talk(_: World, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async def run() -> None:
        async with running(talk) as world:
            found = await world.say(head("GET http://login.example/ HTTP/1.1"))
            assert found.startswith(b"HTTP/1.1 502 ")
            assert len(found) < 500

    asyncio.run(run())


def test_a_head_without_end_is_cut_off() -> None:
    async def run() -> None:
        async with running() as world:
            answer = await world.say(
                b"GET http://login.example/ HTTP/1.1\r\nA: " + b"x" * HEAD_OCTETS
            )
            assert answer.startswith(b"HTTP/1.1 431 ")
            assert world.reached == []

    asyncio.run(run())


def test_whoever_says_nothing_is_cut_off() -> None:
    async def mute(_: World, reader: asyncio.StreamReader, _w: asyncio.StreamWriter) -> None:
        await reader.read()
        await reader.read()

    async def run() -> None:
        async with running(mute, head_s=0.05, idle_s=0.05) as world:
            assert await world.say(b"GET http://login") == b""
            assert await world.say(head("GET http://login.example/ HTTP/1.1")) == b""
            found = await world.say(head("CONNECT login.example:443 HTTP/1.1"))
            assert found == head("HTTP/1.1 200 Connection established")

    asyncio.run(run())


def test_connections_are_bounded_and_a_free_place_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portal_proxy, "MAX_CONNECTIONS", 2)

    async def run() -> None:
        async with running() as world:
            idle = [await asyncio.open_connection(LOOPBACK, world.port) for _ in range(2)]
            third = asyncio.ensure_future(world.say(head("GET http://login.example/ HTTP/1.1")))
            await passes(lambda: world.proxy.counters["connections"] >= 2)
            for _ in range(20):
                await asyncio.sleep(0)
            assert world.proxy.counters["connections"] == 2
            assert not third.done()
            idle[0][1].close()
            assert (await third).endswith(b"login")
            idle[1][1].close()

    asyncio.run(run())


def test_a_reader_that_stalls_keeps_no_more_than_the_buffers() -> None:
    sent = 0

    async def flood(_: World, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head("HTTP/1.1 200 OK"))
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                writer.write(bytes(1 << 16))
                async with asyncio.timeout(0.3):
                    await writer.drain()
                sent += 1 << 16
        writer.transport.abort()

    async def run() -> None:
        async with running(flood, idle_s=5.0) as world:
            reader, writer = await asyncio.open_connection(LOOPBACK, world.port, limit=1024)
            writer.write(head("GET http://login.example/ HTTP/1.1"))
            await reader.readuntil(b"\r\n\r\n")
            while world.proxy._tasks:
                await asyncio.wait(world.proxy._tasks)
            writer.transport.abort()

    asyncio.run(run())
    assert sent < 32 << 20  # sockets of loopback hold some megabytes themselves


def test_closing_ends_everything() -> None:
    async def run() -> None:
        async with running() as world:
            reader, writer = await asyncio.open_connection(LOOPBACK, world.port)
            writer.write(b"GET ")
            await passes(lambda: world.proxy.counters["connections"] > 0)
            world.proxy.close()
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(LOOPBACK, world.port)

    asyncio.run(run())

"""The probe for captive portals: what it asks, what it believes, and what it never does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import IPv4Address

import pytest

from gateway.mobile_host.portal import Found, PortalProbe, ProbeTarget, judge
from gateway.mobile_node.inputs import Portal

LOOPBACK = IPv4Address("127.0.0.1")


@pytest.mark.parametrize(
    ("head", "verdict", "redirect"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", Portal.OPEN, ""),
        (b"HTTP/1.1 204\r\n\r\n", Portal.OPEN, ""),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", Portal.CAPTIVE, ""),
        (
            b"HTTP/1.0 302 Found\r\nX: y\r\nLocation: http://login.hotel.example/?id=1\r\n\r\n",
            Portal.CAPTIVE,
            "login.hotel.example",
        ),
        (
            b"HTTP/1.1 511 Network Authentication Required\r\nLocation: http://a.b/\r\n",
            Portal.CAPTIVE,
            "a.b",
        ),
        (b"HTTP/1.1 307 x\r\nLocation: http://a\x1b[2Jb/\r\n\r\n", Portal.CAPTIVE, ""),
        (b"HTTP/1.1 307 x\r\nLocation: http://[::broken/\r\n\r\n", Portal.CAPTIVE, ""),
        (b"SSH-2.0-x\r\n", Portal.UNKNOWN, ""),
        (b"HTTP/1.1 9999 x\r\n", Portal.UNKNOWN, ""),
        (b"", Portal.SILENT, ""),
    ],
)
def test_answers_to_the_probe_url(head: bytes, verdict: Portal, redirect: str) -> None:
    found = judge(head, "probe.example", expected=204)
    assert (found.verdict, found.redirect_host) == (verdict, redirect)


@pytest.mark.parametrize(
    ("head", "verdict"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", Portal.OPEN),
        (b"HTTP/1.1 301 x\r\nLocation: https://192.0.2.1/\r\n\r\n", Portal.OPEN),
        (b"HTTP/1.1 302 x\r\nLocation: http://portal.example/\r\n\r\n", Portal.CAPTIVE),
        (b"HTTP/1.1 511 x\r\n\r\n", Portal.CAPTIVE),
    ],
)
def test_answers_in_the_gateways_name(head: bytes, verdict: Portal) -> None:
    assert judge(head, "192.0.2.1", expected=None).verdict is verdict


@contextlib.asynccontextmanager
async def server(answer: bytes, heard: list[bytes]) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        with contextlib.suppress(ConnectionError):
            writer.write(answer)
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, str(LOOPBACK), 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def probe(answer: bytes, path: str = "/generate_204") -> tuple[Found, list[bytes]]:
    heard: list[bytes] = []

    async def run() -> Found:
        async with server(answer, heard) as port:
            asker = PortalProbe(asyncio.get_running_loop(), 0)
            target = ProbeTarget(f"http://{LOOPBACK}:{port}{path}", None)
            return await asker.probe("", target, ())

    return asyncio.run(run()), heard


def test_one_plain_request_without_anything_of_the_users() -> None:
    found, heard = probe(b"HTTP/1.1 204 No Content\r\n\r\n", "/x?y=1")
    assert found.verdict is Portal.OPEN
    assert heard == [b"GET /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"]


def test_a_redirect_is_reported_and_not_followed() -> None:
    found, heard = probe(b"HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:1/login\r\n\r\n")
    assert found.verdict is Portal.CAPTIVE
    assert found.redirect_host == "127.0.0.1"
    assert len(heard) == 1


def test_an_endless_answer_is_cut_off() -> None:
    found, _ = probe(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2_000_000)
    assert found.verdict is Portal.CAPTIVE


def test_nobody_listens() -> None:
    async def run() -> Found:
        async with server(b"", []) as port:
            pass
        asker = PortalProbe(asyncio.get_running_loop(), 0)
        return await asker.probe("", ProbeTarget(f"http://{LOOPBACK}:{port}/", None), ())

    assert asyncio.run(run()).verdict is Portal.SILENT


def test_without_a_url_the_gateways_own_address_is_asked() -> None:
    async def run(*, listens: bool) -> Found:
        answer = b"HTTP/1.1 302 F\r\nLocation: http://hotel.example/\r\n\r\n"
        async with server(answer, []) as port:
            http = port if listens else 1
            asker = PortalProbe(asyncio.get_running_loop(), 0, http_port=http)
            return await asker.probe("", ProbeTarget(None, LOOPBACK), ())

    assert asyncio.run(run(listens=True)).redirect_host == "hotel.example"
    assert asyncio.run(run(listens=False)).verdict is Portal.OPEN


def test_nothing_to_ask() -> None:
    async def run() -> Found:
        asker = PortalProbe(asyncio.get_running_loop(), 0)
        return await asker.probe("", ProbeTarget(None, None), ())

    assert asyncio.run(run()).verdict is Portal.UNKNOWN


def test_a_name_that_no_server_of_the_link_knows() -> None:
    async def run() -> Found:
        asker = PortalProbe(asyncio.get_running_loop(), 0)
        return await asker.probe("", ProbeTarget("http://probe.example/", None), ())

    found = asyncio.run(run())
    assert found.verdict is Portal.SILENT
    assert "probe.example" in found.text

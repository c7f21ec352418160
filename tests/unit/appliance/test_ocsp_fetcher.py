"""Questions to OCSP responders over HTTP, with a responder of our own on loopback."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest

from gateway.appliance import revocation
from gateway.appliance.revocation import OcspFetcher
from gateway.ike.outputs import AskOcsp, Event

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n"


class Responder:
    """Answers every request with what it is told to; keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.open = self.most = 0
        self.go = asyncio.Event()
        self.go.set()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/ocsp?x=1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.go.set()
        self.server.close()
        await self.server.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            header = await reader.readuntil(b"\r\n\r\n")
            length = int(header.lower().partition(b"content-length:")[2].split()[0])
            self.requests.append(header + await reader.readexactly(length))
            await self.go.wait()
            writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
            await writer.drain()
        except OSError:
            pass
        finally:
            self.open -= 1
            writer.close()


class Asking:
    """A fetcher, its answers and its events."""

    def __init__(self) -> None:
        self.answers: dict[int, bytes | None] = {}
        self.events: list[Event] = []
        self.changed = asyncio.Event()
        self.fetcher = OcspFetcher(self.take, self.events.append)

    def take(self, ticket: int, answer: bytes | None) -> None:
        assert ticket not in self.answers, "answered twice"
        self.answers[ticket] = answer
        self.changed.set()

    async def all(self, count: int) -> dict[int, bytes | None]:
        async with asyncio.timeout(20):
            while len(self.answers) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.answers

    async def one(self, url: str, request: bytes = b"question") -> bytes | None:
        ticket = len(self.answers)
        self.fetcher.ask(AskOcsp(ticket, url, request))
        assert ticket not in self.answers, "answered within ask"
        return (await self.all(ticket + 1))[ticket]


def run(scenario: Callable[[Responder, Asking], Awaitable[None]], *answers: bytes) -> None:
    async def go() -> None:
        async with Responder(*answers) as responder:
            asking = Asking()
            await scenario(responder, asking)
            await asking.fetcher.close()

    asyncio.run(go())


def test_a_question_and_its_answer() -> None:
    async def scenario(responder: Responder, asking: Asking) -> None:
        assert await asking.one(responder.url, b"\x30\x00q") == b"\x30\x01\xff"
        header, _, body = responder.requests[0].partition(b"\r\n\r\n")
        lines = header.split(b"\r\n")
        assert lines[0] == b"POST /ocsp?x=1 HTTP/1.0"
        assert b"Content-Type: application/ocsp-request" in lines
        assert b"Host: " + responder.url.split("/")[2].encode() in lines
        assert body == b"\x30\x00q"
        assert asking.events == []

    run(scenario, OK + b"Content-Length: 3\r\n\r\n\x30\x01\xff")


def test_a_body_that_ends_with_the_connection() -> None:
    async def scenario(responder: Responder, asking: Asking) -> None:
        assert await asking.one(responder.url) == b"x" * 65_536

    run(scenario, OK + b"\r\n" + b"x" * 65_536)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-x\r\n\r\n", "does not speak HTTP/1"),
        (b"HTTP/1.1\r\n\r\n", "does not speak HTTP/1"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", "HTTP status 302"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "HTTP status 500"),
        (OK + b"Content-Length: 65537\r\n\r\n", "has 65537 octets, allowed are 65536"),
        (OK + b"Content-Length: -1\r\n\r\n", "broken Content-Length"),
        (OK + b"Content-Length: \xb2\r\n\r\n", "broken Content-Length"),
        (OK + b"Content-Length: 9\r\n\r\nshort", "cut short"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "in chunks"),
        (OK + b"\r\n" + b"x" * 65_537, "more than 65536 octets"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, "HTTP header is too long"),
    ],
)
def test_h29_answers_of_a_hostile_web_server(answer: bytes, reason: str) -> None:
    async def scenario(responder: Responder, asking: Asking) -> None:
        assert await asking.one(responder.url) is None
        (event,) = asking.events
        assert event.name == "ocsp_responder_silent"
        assert reason in event.text
        assert event.fields["responder"] == responder.url

    run(scenario, answer)


def test_equal_questions_share_one_answer() -> None:
    async def scenario(responder: Responder, asking: Asking) -> None:
        responder.go.clear()
        for ticket in range(5):
            asking.fetcher.ask(AskOcsp(ticket, responder.url, b"same"))
        asking.fetcher.ask(AskOcsp(5, responder.url, b"other"))
        responder.go.set()
        assert await asking.all(6) == dict.fromkeys(range(6), b"yes")
        assert len(responder.requests) == 2
        await asking.one(responder.url, b"same")
        assert len(responder.requests) == 3

    run(scenario, OK + b"\r\nyes")


def test_few_at_once_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "MAX_WAITING", 8)

    async def scenario(responder: Responder, asking: Asking) -> None:
        responder.go.clear()
        for ticket in range(10):
            asking.fetcher.ask(AskOcsp(ticket, responder.url, b"%d" % ticket))
        assert asking.answers == {}
        assert await asking.all(2) == {8: None, 9: None}
        responder.go.set()
        answers = await asking.all(10)
        assert [answers[ticket] for ticket in range(8)] == [b"yes"] * 8
        assert responder.most <= revocation.MAX_AT_ONCE

    run(scenario, OK + b"\r\nyes")


def test_no_answer_in_time_and_who_waits_for_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "DEADLINE_S", 0.05)

    async def scenario(responder: Responder, asking: Asking) -> None:
        responder.go.clear()
        for ticket in range(6):
            asking.fetcher.ask(AskOcsp(ticket, responder.url, b"%d" % ticket))
        assert await asking.all(6) == dict.fromkeys(range(6))
        assert len(asking.events) == 1

    run(scenario, OK + b"\r\nyes")


def test_silence_and_return_are_said_once() -> None:
    async def scenario(responder: Responder, asking: Asking) -> None:
        for wanted in (None, None, b"yes", b"yes"):
            assert await asking.one(responder.url) == wanted
        names = [event.name for event in asking.events]
        assert names == ["ocsp_responder_silent", "ocsp_responder_back"]

    no = b"HTTP/1.1 503 Busy\r\n\r\n"
    run(scenario, no, no, OK + b"\r\nyes")


def test_nobody_listens() -> None:
    async def scenario(responder: Responder, asking: Asking) -> None:
        responder.server.close()
        await responder.server.wait_closed()
        assert await asking.one(responder.url) is None
        assert "does not answer" in asking.events[0].text

    run(scenario, b"")


def test_closing_answers_nobody() -> None:
    async def scenario(responder: Responder, asking: Asking) -> None:
        responder.go.clear()
        asking.fetcher.ask(AskOcsp(0, responder.url, b"x"))
        await asyncio.sleep(0)
        await asking.fetcher.close()
        assert asking.answers == {}

    run(scenario, OK + b"\r\nyes")


def test_tls_needs_a_certificate_that_is_trusted() -> None:
    async def scenario(responder: Responder, asking: Asking) -> None:
        url: Any = responder.url.replace("http:", "https:")
        assert await asking.one(url) is None

    run(scenario, OK + b"\r\nyes")

"""Puts the engine's questions to OCSP responders: HTTP POST (RFC 6960 appendix A), nothing else."""

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from gateway.ike.auth.identity import escape
from gateway.ike.auth.ocsp import MAX_ANSWER_OCTETS
from gateway.ike.outputs import AskOcsp, Event, Severity

DEADLINE_S = 5.0
"""From the question to the answer, waiting for one's turn included: a handshake waits."""
MAX_AT_ONCE = 4
MAX_WAITING = 256
"""Different questions under way or waiting; more get no answer at once."""
MAX_HEADER_OCTETS = 16_384


class OcspFetcher:
    """Every ticket is answered exactly once, by :meth:`ask`'s caller's loop, never within it."""

    def __init__(
        self, answered: Callable[[int, bytes | None], None], emit: Callable[[Event], None]
    ) -> None:
        """``answered`` gets the ticket and the response's octets, None if none came."""
        self._answered = answered
        self._emit = emit
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._waiting: dict[tuple[str, bytes], list[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: set[str] = set()

    def ask(self, question: AskOcsp) -> None:
        """Ask; equal questions under way share one answer."""
        key = (question.responder_url, question.request_der)
        if key in self._waiting:
            self._waiting[key].append(question.ticket)
            return
        if len(self._waiting) >= MAX_WAITING:
            asyncio.get_running_loop().call_soon(self._answered, question.ticket, None)
            return
        self._waiting[key] = [question.ticket]
        task = asyncio.get_running_loop().create_task(self._fetch(*key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is under way; nobody is answered any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._waiting.clear()

    async def _fetch(self, url: str, request: bytes) -> None:
        answer: bytes | None = None
        try:
            async with asyncio.timeout(DEADLINE_S), self._turns:
                answer = await post(url, request)
        except TimeoutError:
            self._note(url, f"no answer within {DEADLINE_S:.0f} s")
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._note(url, escape(why, 160))
        else:
            self._note(url, None)
        for ticket in self._waiting.pop((url, request), []):
            self._answered(ticket, answer)

    def _note(self, url: str, problem: str | None) -> None:
        """Say when a responder falls silent and when it is back, not each time."""
        if (problem is not None) == (url in self._silent):
            return
        fields: dict[str, object] = {"responder": url}
        if problem is None:
            self._silent.discard(url)
            text = f"the OCSP responder {url} answers again"
            self._emit(Event("ocsp_responder_back", text, fields=fields))
        else:
            self._silent.add(url)
            fields["reason"] = problem
            text = f"the OCSP responder {url} does not answer: {problem}"
            self._emit(Event("ocsp_responder_silent", text, Severity.WARNING, fields))


async def post(url: str, request: bytes) -> bytes:
    """The body of the answer to one POST. No redirection is followed.

    Raises :class:`OSError`, or :class:`ValueError` with what is wrong with the answer.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    context = ssl.create_default_context() if secure else None
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(
        parts.hostname, port, ssl=context, limit=MAX_HEADER_OCTETS
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # HTTP/1.0, so that the body comes in one piece that ends with the connection.
        header = (
            f"POST {target} HTTP/1.0\r\n"
            f"Host: {parts.netloc}\r\n"
            "Content-Type: application/ocsp-request\r\n"
            "Accept: application/ocsp-response\r\n"
            f"Content-Length: {len(request)}\r\n"
            "Connection: close\r\n\r\n"
        )
        writer.write(header.encode("ascii") + request)
        await writer.drain()
        return await _read(reader)
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.LimitOverrunError:
        raise ValueError("its HTTP header is too long") from None
    except asyncio.IncompleteReadError:
        raise ValueError("it closed the connection without an answer") from None
    status = lines[0].split(" ", 2)
    if not status[0].startswith("HTTP/1.") or len(status) < 2:
        raise ValueError("it does not speak HTTP/1")
    if status[1] != "200":
        raise ValueError(f"HTTP status {status[1]}")
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    if fields.get("transfer-encoding", "identity").lower() != "identity":
        raise ValueError("it answers in chunks, which we did not offer")
    return await _read_body(reader, fields.get("content-length"))


async def _read_body(reader: asyncio.StreamReader, length: str | None) -> bytes:
    if length is not None:
        if not (length.isascii() and length.isdecimal() and len(length) < 10):
            raise ValueError("its HTTP header has a broken Content-Length")
        if int(length) > MAX_ANSWER_OCTETS:
            raise ValueError(f"its answer has {length} octets, allowed are {MAX_ANSWER_OCTETS}")
        try:
            return await reader.readexactly(int(length))
        except asyncio.IncompleteReadError:
            raise ValueError("its answer is cut short") from None
    body = bytearray()
    while piece := await reader.read(MAX_ANSWER_OCTETS):
        body += piece
        if len(body) > MAX_ANSWER_OCTETS:
            raise ValueError(f"its answer has more than {MAX_ANSWER_OCTETS} octets")
    return bytes(body)

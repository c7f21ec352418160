"""What a browser asks of the way to a captive portal, and what it is answered (RFC 9110, 9112).

One request per connection: everything in a head that would keep one open, or that was meant for
us, is left out, and what has no certain length is refused. So nothing that follows a request can
be taken for a part of it, or go where the request went.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

HEAD_OCTETS: Final = 16 * 1024
MAX_LINES: Final = 128
PORTS: Final = frozenset({80, 443, 2050, 3990, 8000, 8002, 8003, 8080, 8443, 8843, 8880})
"""Of the web, and those at which the usual portals show their pages."""
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,8192}) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_HTTP_URI = re.compile(rb"(?i:http)://([A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?([/?][\x21-\x7e]*)?")
_AUTHORITY = re.compile(rb"([A-Za-z0-9._-]{1,253}):([0-9]{1,5})")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_OF_ONE_HOP = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"expect", b"http2-settings")
)


class RequestRefusedError(Exception):
    """A request that is not carried out; ``status`` and text are what the browser is told."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """Where a request goes, and what of it."""

    host: str
    port: int
    tunnel: bool
    """CONNECT: octets both ways, of whatever they are."""
    head: bytes = b""
    """What the server is sent first; empty for a tunnel."""
    body_octets: int = 0
    """How many octets of the client's follow it."""


def end_of_head(octets: bytes) -> int | None:
    """How long the head at the beginning is, None while it is not complete."""
    match = _HEAD_END.search(octets)
    return match.end() if match is not None else None


def parse(head: bytes) -> ProxyRequest:
    """The request of a complete head. Raises :class:`RequestRefusedError`."""
    line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _bad("this is no request of HTTP/1.1")
    method, target = match[1], match[2]
    headers = _headers(lines)
    if method == b"CONNECT":
        where = _AUTHORITY.fullmatch(target)
        if where is None:
            raise _bad("CONNECT wants a host and a port")
        return ProxyRequest(_host(where[1]), _port(where[2]), tunnel=True)
    where = _HTTP_URI.fullmatch(target)
    if where is None:
        # As a page sends that takes us for a web server on this host.
        raise _bad("this is a proxy; it wants a whole address that begins with http://")
    length = _body_octets(headers)
    path = where[3] or b"/"
    authority = where[1] + (b":" + where[2] if where[2] else b"")
    to_server = b"%s %s%s HTTP/1.1\r\nHost: %s\r\n" % (
        method,
        b"/" if path.startswith(b"?") else b"",
        path,
        authority,
    )
    to_server += b"".join(b"%s: %s\r\n" % one for one in _kept(headers))
    to_server += b"Connection: close\r\n\r\n"
    return ProxyRequest(_host(where[1]), _port(where[2] or b"80"), False, to_server, length)


def reply_head(head: bytes) -> bytes | None:
    """The head of a server's answer as the browser gets it, None for an interim one.

    Raises :class:`RequestRefusedError` for what is no answer.
    """
    line, *lines = _LINE_END.split(_HEAD_END.sub(b"", head))
    match = _STATUS_LINE.fullmatch(line)
    if match is None or len(lines) > MAX_LINES:
        raise RequestRefusedError(HTTPStatus.BAD_GATEWAY, "what answers does not speak HTTP")
    if match[1].startswith(b"1"):
        return None
    kept = [one for one in lines if not _is_of_one_hop(one.partition(b":")[0])]
    return b"\r\n".join((line, *kept, b"Connection: close", b"", b""))


def refusal(error: RequestRefusedError) -> bytes:
    """A page that says why."""
    text = f"{error}\n".encode("ascii", "replace")
    status = f"HTTP/1.1 {error.status.value} {error.status.phrase}\r\n"
    rest = f"Content-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return (status + rest).encode() + text


def _bad(text: str) -> RequestRefusedError:
    return RequestRefusedError(HTTPStatus.BAD_REQUEST, text)


def _host(octets: bytes) -> str:
    return octets.decode("ascii").rstrip(".").lower()


def _port(octets: bytes) -> int:
    port = int(octets)
    if port not in PORTS:
        allowed = ", ".join(map(str, sorted(PORTS)))
        text = f"port {port}: no login page is there; allowed: {allowed}"
        raise RequestRefusedError(HTTPStatus.FORBIDDEN, text)
    return port


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    if len(lines) > MAX_LINES:
        raise _bad(f"{len(lines)} header lines; at most {MAX_LINES} are allowed")
    found = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise _bad("a header line that cannot be read")
        found.append((match[1], match[2].rstrip(b" \t")))
    return found


def _is_of_one_hop(name: bytes) -> bool:
    name = name.strip().lower()
    return name in _OF_ONE_HOP or name.startswith(b"proxy-")


def _kept(headers: list[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    """Without what is of one hop, and what Connection calls so (RFC 9110 section 7.6.1)."""
    named = {
        one.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for one in value.split(b",")
    } - {b"content-length"}
    named.add(b"host")
    return [
        (name, value)
        for name, value in headers
        if not _is_of_one_hop(name) and name.lower() not in named
    ]


def _body_octets(headers: list[tuple[bytes, bytes]]) -> int:
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        raise RequestRefusedError(HTTPStatus.LENGTH_REQUIRED, "say how long it is: Content-Length")
    lengths = {value for name, value in headers if name.lower() == b"content-length"}
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not re.fullmatch(rb"[0-9]{1,12}", length):
        raise _bad("Content-Length is one number")
    return int(length)

"""What every request passes before a route sees it: its Host header and the size of its body.

A page in an administrator's browser can make requests to loopback under a name of its own (DNS
rebinding); so only the names of loopback are answered. Forwarding headers are never looked at.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gateway.api.problems import problem

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_OCTETS = 64 * 1024
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})

_SAFE_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class _BodyTooLargeError(Exception):
    """More octets came than are allowed."""


class Guard:
    """ASGI middleware; ``hosts`` are the names that a request may be addressed to."""

    def __init__(self, app: App, hosts: Iterable[str] = LOOPBACK_HOSTS) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or hand the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or _host_name(hosts[0]) not in self._hosts:
            allowed = ", ".join(sorted(self._hosts))
            refused = problem(421, "wrong-host", f"This API answers to {allowed} only.")
            await refused(scope, receive, send)
            return
        too_large = problem(
            413, "body-too-large", f"A request body may have {MAX_BODY_OCTETS} octets."
        )
        announced = [value for name, value in headers if name == b"content-length"]
        if any(not v.isdigit() or int(v[:20]) > MAX_BODY_OCTETS for v in announced):
            await too_large(scope, receive, send)
            return
        await self._bounded(scope, receive, send, too_large)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, too_large: App) -> None:
        received = 0
        started = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_OCTETS:
                raise _BodyTooLargeError
            return message

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *_SAFE_HEADERS]
            await send(message)

        try:
            await self._app(scope, counted, with_headers)
        except _BodyTooLargeError:
            if not started:
                await too_large(scope, receive, send)


def _host_name(header: bytes) -> str:
    """The host of a Host header without its port; empty when it makes no sense."""
    text = header.decode("latin-1").strip().lower()
    if text.startswith("["):
        name, _, rest = text.partition("]")
        port = rest.removeprefix(":")
        return name + "]" if not rest or (rest[0] == ":" and port.isdigit()) else ""
    name, colon, port = text.partition(":")
    return name if not colon or port.isdigit() else ""

"""What every request passes before a route sees it.

* Its Host header: a page in an administrator's browser can make requests to us under a name of its
  own (DNS rebinding), so only names that are ours are answered. Addresses are always: no page of
  somebody else's has an address of ours as its origin.
* The size of its body, and the time it takes to arrive.
* Where it comes from: a change that a browser makes for another site's page is refused; one with a
  cookie needs the token that only our pages know.

Forwarding headers are never looked at.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from gateway.api.caller import CALLER, CSRF_HEADER, cookie_name, is_csrf, session_of
from gateway.api.problems import problem
from gateway.control.async_client import Caller
from gateway.control.protocol import MAX_CREDENTIAL_CHARACTERS, is_key

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_OCTETS = 64 * 1024
MAX_IMPORT_OCTETS = 64 * 1024 * 1024
BODY_TIMEOUT_S = 30.0
IMPORT_TIMEOUT_S = 300.0
IMPORT_PATHS = frozenset({"/api/v1/import"})
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_FOR_ALL = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_UNLESS_SET = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class _BodyError(Exception):
    """The body is too long, or does not come."""


@dataclass(frozen=True, slots=True)
class _Refusal(Exception):  # noqa: N818 - it is an answer
    status: int
    kind: str
    detail: str
    field: str | None = None


class Guard:
    """ASGI middleware; ``names`` are the host names that a request may be addressed to."""

    def __init__(self, app: App, names: Iterable[str] = (), *, tls: bool = True) -> None:
        self._app = app
        self._names = LOOPBACK_HOSTS | {name.lower() for name in names}
        self._cookie = cookie_name(tls=tls)
        self._scheme = "https" if tls else "http"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or hand the request on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        bounded = _Body(scope, receive, send)
        try:
            host = self._host(scope)
            bounded.check_length()
            caller = self._caller(scope, host)
        except _Refusal as refused:
            answer = problem(refused.status, refused.kind, refused.detail, field=refused.field)
            await answer(scope, receive, bounded.send)
            return
        mark = CALLER.set(caller)
        try:
            await bounded.serve(self._app)
        finally:
            CALLER.reset(mark)

    def _host(self, scope: Scope) -> str:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        name = _host_name(hosts[0]) if len(hosts) == 1 else ""
        if not name or not (name in self._names or _is_address(name)):
            raise _Refusal(
                421,
                "wrong-host",
                "This gateway does not answer to that name: use its address, or put the name into"
                " [api] names in gateway.toml.",
            )
        return str(hosts[0].decode("latin-1")).strip().lower()

    def _caller(self, scope: Scope, host: str) -> Caller:
        headers = scope["headers"]
        remote = scope["client"][0] if scope.get("client") else "local"
        key = _one(headers, b"idempotency-key")
        if key is not None and not is_key(key):
            raise _Refusal(
                422,
                "invalid",
                "Idempotency-Key: give 1 to 128 visible ASCII characters.",
                "Idempotency-Key",
            )
        unsafe = scope["method"] not in SAFE_METHODS
        if unsafe:
            self._check_origin(headers, host)
        authorization = _one(headers, b"authorization")
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            token = token.strip() if scheme.lower() == "bearer" else ""
            # Whatever else was shown is a wrong credential, not none.
            return Caller(token[:MAX_CREDENTIAL_CHARACTERS] or "?", remote, key)
        session = session_of(headers, self._cookie)[:MAX_CREDENTIAL_CHARACTERS]
        if session and unsafe and not _needs_no_session(scope):
            given = _one(headers, CSRF_HEADER.lower().encode()) or ""
            if not is_csrf(session, given):
                raise _Refusal(
                    403,
                    "csrf",
                    f"Send `csrf` of GET /api/v1/session as {CSRF_HEADER} with every change.",
                    CSRF_HEADER,
                )
        return Caller(session, remote, key)

    def _check_origin(self, headers: Iterable[tuple[bytes, bytes]], host: str) -> None:
        """Browsers say which page makes a request; other clients say nothing."""
        site, origin = _one(headers, b"sec-fetch-site"), _one(headers, b"origin")
        if site is not None:
            is_ours = site in {"same-origin", "none"}
        else:
            is_ours = origin is None or origin.lower() == f"{self._scheme}://{host}"
        if not is_ours:
            raise _Refusal(403, "cross-site", "Pages of other sites may not change anything here.")


class _Body:
    """Bounds a request's body, and adds the headers of every answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        is_import = scope["path"] in IMPORT_PATHS
        self._most = MAX_IMPORT_OCTETS if is_import else MAX_BODY_OCTETS
        self._timeout_s = IMPORT_TIMEOUT_S if is_import else BODY_TIMEOUT_S
        self._received = 0
        self._complete = False
        self._started = False
        self._fault: App | None = None
        self._deadline = 0.0

    def check_length(self) -> None:
        """Of what the request announces."""
        announced = [v for name, v in self._scope["headers"] if name == b"content-length"]
        if any(not v.isdigit() or int(v[:20]) > self._most for v in announced):
            raise _Refusal(413, "body-too-large", self._words)

    @property
    def _words(self) -> str:
        return f"A request body may have {self._most} octets."

    async def serve(self, app: App) -> None:
        """Hand the request on."""
        self._deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            await app(self._scope, self.receive, self.send)
        except _BodyError:
            if self._fault is None:
                raise
        if self._fault is not None and not self._started:
            answer, self._fault = self._fault, None
            await answer(self._scope, self._receive, self.send)

    async def receive(self) -> Message:
        """The next piece of the body."""
        if self._complete:  # what is waited for now is the end of the connection
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            text = f"The body did not come within {self._timeout_s:.0f} s."
            self._fault = problem(408, "body-too-slow", text, headers={"Connection": "close"})
            raise _BodyError from None
        self._received += len(message.get("body", b""))
        if self._received > self._most:
            self._fault = problem(413, "body-too-large", self._words)
            raise _BodyError
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send, with the headers that every answer has."""
        if self._fault is not None and not self._started:
            return  # what a route makes of a broken body: ours comes in its place
        if message["type"] == "http.response.start":
            self._started = True
            headers = [*message.get("headers", ())]
            given = {name.lower() for name, _ in headers}
            more = [one for one in _UNLESS_SET if one[0] not in given]
            message["headers"] = [*headers, *_FOR_ALL, *more]
        await self._send(message)


def _one(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    """The value of a header; of several, none that anybody sent."""
    found = [value for name, value in headers if name == wanted]
    if not found:
        return None
    return found[0].decode("latin-1").strip() if len(found) == 1 else "?"


def _needs_no_session(scope: Scope) -> bool:
    """Logging in, claiming the setup, and taking a link work whatever cookie there is."""
    path = str(scope["path"])
    open_paths = {("POST", "/api/v1/session"), ("POST", "/api/v1/setup/claim")}
    return (scope["method"], path) in open_paths or path.startswith("/d/")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _host_name(header: bytes) -> str:
    """The host of a Host header without its port; empty when it makes no sense."""
    text = header.decode("latin-1").strip().lower()
    if text.startswith("["):
        name, _, rest = text.partition("]")
        port = rest.removeprefix(":")
        return name + "]" if not rest or (rest[0] == ":" and port.isdigit()) else ""
    name, colon, port = text.partition(":")
    return name if not colon or port.isdigit() else ""

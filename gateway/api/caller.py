"""For whom the request at hand is made: what it shows, where it comes from.

The core decides who that is and what they may do; here it is only carried along, from the guard
that every request passes to the control socket, in a context variable of the request's task.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final, Protocol

from gateway.control.async_client import Caller

CSRF_HEADER: Final = "X-CSRF-Token"
NOBODY: Final = Caller("", "local")
CALLER: Final[ContextVar[Caller]] = ContextVar("caller", default=NOBODY)

READ_TIMEOUT_S = 10.0
CHANGE_TIMEOUT_S = 60.0
"""Keys may have to be made, and what is changed is checked as a whole."""


class Client(Protocol):
    """What the API needs of :class:`gateway.control.async_client.AsyncControlClient`."""

    async def request(
        self,
        op: str,
        args: dict[str, object],
        caller: Caller | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, object]:
        """Ask the core for ``caller``."""


class Core(Protocol):
    """What routes ask: the core, for whom the request at hand is made."""

    async def call(self, op: str, **args: object) -> dict[str, object]:
        """Ask for an operation; arguments that are None are left out."""


class CoreOfCaller:
    """Asks with the credential of the request at hand."""

    def __init__(self, client: Client, changing: frozenset[str]) -> None:
        """``changing`` are the operations that may take their time."""
        self._client = client
        self._changing = changing

    async def call(self, op: str, **args: object) -> dict[str, object]:
        """As :meth:`Core.call`."""
        timeout_s = CHANGE_TIMEOUT_S if op in self._changing else READ_TIMEOUT_S
        return await self._client.request(op, args, CALLER.get(), timeout_s=timeout_s)


def cookie_name(*, tls: bool) -> str:
    """Of the session's cookie. With the prefix, browsers take it from this very host only."""
    return "__Host-session" if tls else "session"


def session_of(headers: Iterable[tuple[bytes, bytes]], name: str) -> str:
    """The session in the Cookie header; empty when there is none, or more than one."""
    wanted = name.encode()
    found = [
        value.strip()
        for header, values in headers
        if header == b"cookie"
        for key, equals, value in (one.partition(b"=") for one in values.split(b";"))
        if equals and key.strip() == wanted
    ]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def csrf_of(session: str) -> str:
    """What a page must send along with a change: only who may read our answers knows it."""
    digest = hmac.digest(session.encode("utf-8", "replace"), b"csrf", hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_csrf(session: str, given: str) -> bool:
    """Whether this belongs to the session, in constant time."""
    return hmac.compare_digest(csrf_of(session).encode(), given.encode("utf-8", "replace"))

"""HTTP/1.1 as uvicorn speaks it, with an end to requests whose headers never end."""

import asyncio
import ssl
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.api.guard import App
from gateway.api.listener import MAX_CONNECTIONS, Listener

HEADERS_S: Final = 10.0
"""From the beginning of a connection or request to the end of its headers."""
MAX_HEADER_OCTETS: Final = 16 * 1024
KEEP_ALIVE_S: Final = 15
GRACE_S: Final = 2


class BoundedProtocol(H11Protocol):
    """Closes what takes too long to say what it wants."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection: its first request must come."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Octets: of a request that is complete, or of one that takes its time."""
        super().data_received(data)
        if self._waits_for_headers():
            self._watch()
        else:
            self._unwatch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._unwatch()
        super().connection_lost(exc)

    def _waits_for_headers(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _watch(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEADERS_S, self._too_late)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if self._waits_for_headers() and not self.transport.is_closing():
            self.transport.abort()


class HttpServer(uvicorn.Server):
    """uvicorn behind our own listener."""

    def __init__(self, app: App, sock: Any, context: ssl.SSLContext | None) -> None:  # noqa: ANN401
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=MAX_HEADER_OCTETS,
        )
        super().__init__(config)
        self._listener = Listener(sock, self._protocol, context)

    def _protocol(self) -> asyncio.Protocol:
        return BoundedProtocol(self.config, self.server_state, self.lifespan.state)

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401
        """In place of uvicorn's: the listener is ours."""
        del sockets
        await self.lifespan.startup()
        self.servers = []
        self._listener.start()
        self.started = True

    async def shutdown(self, sockets: Any = None) -> None:  # noqa: ANN401
        """Accept no more, and end what stands."""
        await self._listener.stop()
        await super().shutdown(sockets)

"""The asyncio client of the control socket, for the REST interface.

Connections are kept and shared, at most :data:`MAX_CONNECTIONS`; one that the core has closed in
the meantime, as at its restart, is replaced.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.control.client import TIMEOUT_S, as_object, event_of, unavailable
from gateway.control.protocol import (
    MAX_REPLY_OCTETS,
    OPERATIONS,
    dump,
    parse_line,
    result_of,
)

MAX_CONNECTIONS = 16
"""Well below what the core lets one user have: subscriptions come on top."""
MAX_IDLE_S = 120.0
"""Shorter than the core waits for a request."""


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom the REST interface asks."""

    credential: str = field(repr=False)
    """Empty: nobody in particular."""
    remote: str
    key: str | None = None
    """Idempotency key."""


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used_at: float

    @property
    def is_dead(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()


class AsyncControlClient:
    """Asks the core; the core may come and go between any two requests."""

    def __init__(
        self,
        path: Path | str,
        *,
        timeout_s: float = TIMEOUT_S,
        max_connections: int = MAX_CONNECTIONS,
        keep: bool = False,
    ) -> None:
        """With ``keep`` connections wait for the next request, until :meth:`close`."""
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._keep = keep
        self._idle: deque[_Connection] = deque()
        self._places = asyncio.Semaphore(max_connections)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def call(self, op: str, **args: object) -> dict[str, object]:
        """Ask as the user that this process runs as.

        Arguments that are None are left out. Raises as :meth:`ControlClient.call`.
        """
        return await self.request(op, args)

    async def request(
        self,
        op: str,
        args: dict[str, object],
        caller: Caller | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, object]:
        """Ask for ``caller``, within ``timeout_s`` seconds.

        Raises :class:`ControlUnavailableError` when the core cannot be reached, and
        :class:`ControlError` for what it refuses.
        """
        line = dump(_request(op, args, caller))
        repeatable = op in OPERATIONS and not OPERATIONS[op].changes
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s), self._places:
                reply = await self._ask(line, repeatable=repeatable)
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise unavailable(self._path, error) from error
        return as_object(result_of(parse_line(reply)))

    async def events(
        self, caller: Caller | None = None, *, debug: bool = False
    ) -> AsyncIterator[dict[str, object]]:
        """As :meth:`ControlClient.events`, on a connection of its own."""
        connection = None
        try:
            connection = await self._connect()
            connection.writer.write(dump(_request("events", {"debug": debug}, caller)))
            result_of(parse_line(await connection.reader.readuntil(b"\n")))
            while True:
                yield event_of(parse_line(await connection.reader.readuntil(b"\n")))
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise unavailable(self._path, error) from error
        finally:
            if connection is not None:
                connection.writer.close()

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().writer.close()

    async def _ask(self, line: bytes, *, repeatable: bool) -> bytes:
        kept = self._take()
        if kept is not None:
            try:
                return await self._exchange(kept, line)
            except (ConnectionError, EOFError):
                # The core has just gone. What it may have carried out is not asked again.
                if not repeatable:
                    raise
        return await self._exchange(await self._connect(), line)

    async def _exchange(self, connection: _Connection, line: bytes) -> bytes:
        try:
            connection.writer.write(line)
            reply = await connection.reader.readuntil(b"\n")
        except BaseException:
            connection.writer.close()  # an answer that comes late must not become another's
            raise
        if self._keep:
            connection.used_at = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.writer.close()
        return reply

    def _take(self) -> _Connection | None:
        """A kept connection that still stands: the one used last."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # those of a loop that has ended are of no use
            self._idle.clear()
            self._loop = loop
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_dead and loop.time() - connection.used_at < MAX_IDLE_S:
                return connection
            connection.writer.close()
        return None

    async def _connect(self) -> _Connection:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=MAX_REPLY_OCTETS)
        return _Connection(reader, writer, asyncio.get_running_loop().time())


def _request(op: str, args: dict[str, object], caller: Caller | None) -> dict[str, object]:
    given = {name: value for name, value in args.items() if value is not None}
    line: dict[str, object] = {"op": op, "args": given}
    if caller is not None:
        line |= {"as": caller.credential, "from": caller.remote}
        if caller.key is not None:
            line["key"] = caller.key
    return line

"""The control connection with a NAR server: the engine's adapter to asyncio.

Made again whenever it breaks, for as long as the session is wanted; leases are taken up where
they were.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, Final, Protocol

from gateway.nar.client.engine import NarClient
from gateway.nar.client.phases import Phase
from gateway.nar.client.settings import NarClientSettings
from gateway.nar.client_outputs import (
    AddressChanged,
    Failed,
    Granted,
    L2tpAgreed,
    Lease,
    Lost,
    ModeAgreed,
    Output,
    Refused,
    Released,
    SendOctets,
    ServerStopping,
    SessionAgreed,
)
from gateway.nar_host.failure import NarError, NarRefusedError, NarUnavailableError
from gateway.nar_host.server_name import ServerName

CONNECT_S: Final = 10.0
AGREE_S: Final = 30.0
"""From the connection to NAR mode."""
FIRST_AGAIN_S: Final = 0.5
LONGEST_AGAIN_S: Final = 30.0
CLOSE_S: Final = 2.0
"""For giving everything back at the end."""
_ENDED: Final = "it ended the connection; see its port, and whether it speaks TLS there"
_READ_OCTETS: Final = 16 * 1024
_USER_TIMEOUT: Final = 18
_USER_TIMEOUT_MS: Final = 20_000
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, _USER_TIMEOUT, _USER_TIMEOUT_MS),
)


class Listener(Protocol):
    """Who is told what was agreed on and what became of leases."""

    def connected_from(self, local: IPv4Address, remote: IPv4Address) -> None:
        """A connection is there, from Xa to Na. Raises NarError when it is of no use."""

    def heard(self, outputs: list[Output]) -> None:
        """What the engine says of leases, in its order, a batch at a time. Raises NarError."""

    def said(self, event: str, text: str) -> None:
        """Something worth a line to the user."""


class Negotiation:
    """One engine, its connection and its timer. :meth:`open` before anything else."""

    def __init__(self, server: ServerName, settings: NarClientSettings, listener: Listener) -> None:
        self._server = server
        self._listener = listener
        self._engine = NarClient(settings)
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[Lease]] = {}
        self._releasing: dict[int, asyncio.Future[None]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._over.add_done_callback(_seen)
        self._failed: Failed | None = None
        self._closing = False

    @property
    def over(self) -> "asyncio.Future[None]":
        """Done when the session is over for good, with a :class:`NarError` as its exception."""
        return self._over

    @property
    def connected(self) -> bool:
        """Whether the server hears us now."""
        return self._engine.phase is Phase.READY

    def leases(self) -> dict[int, Lease]:
        """What is lent now, by ticket."""
        return self._engine.leases()

    async def open(self) -> None:
        """Connect and agree on NAR; from then on the connection is kept.

        Raises:
            NarUnavailableError: there is no such server, or it does not answer.
            NarRefusedError: it refused the login, or NAR.
        """
        context = self._server.tls_context()
        reader, writer = await self._connect(context)
        self._task = self._loop.create_task(self._keep(reader, writer, context))
        ready = self._loop.create_task(self._ready.wait())
        either: list[asyncio.Future[Any]] = [ready, self._over]
        try:
            await asyncio.wait(either, timeout=AGREE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._over.done():
            self._over.result()
        if not self._ready.is_set():
            raise NarUnavailableError(f"{self._server}: {self._why('it does not answer')}")

    def _why(self, otherwise: str) -> str:
        return otherwise if self._failed is None else self._failed.words

    async def ask(self, ask: Callable[[NarClient], int]) -> tuple[int, Lease]:
        """What the engine asks for, once it was granted; the ticket too.

        Raises:
            NarRefusedError: the server said no; the text says why and what to do.
            NarUnavailableError: the session is over.
        """
        if self._over.done():
            self._over.result()
        ticket = ask(self._engine)
        answer: asyncio.Future[Lease] = self._loop.create_future()
        self._waiting[ticket] = answer
        self._drive()
        either: list[asyncio.Future[Any]] = [answer, self._over]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._engine.release(ticket)
            self._drive()
            raise
        finally:
            self._waiting.pop(ticket, None)
        if not answer.done():
            self._over.result()
        return ticket, answer.result()

    async def release(self, ticket: int) -> None:
        """Give a lease back, or wait no longer than a moment for that."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._releasing[ticket] = done
        self._engine.release(ticket)
        self._drive()
        try:
            await asyncio.wait(
                [done, self._over], timeout=CLOSE_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._releasing.pop(ticket, None)

    async def close(self) -> None:
        """Give everything back and disconnect. Never raises."""
        self._closing = True
        if self.connected and self._engine.leases():
            tickets = list(self._engine.leases())
            gone: list[asyncio.Future[None]] = []
            for ticket in tickets:
                self._releasing[ticket] = self._loop.create_future()
                gone.append(self._releasing[ticket])
            self._engine.release_all()
            self._drive()
            await asyncio.wait({*gone}, timeout=CLOSE_S)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._disconnect()
        if self._timer is not None:
            self._timer.cancel()
        self._end(NarUnavailableError("the session was closed"))

    # -- the connection --------------------------------------------------------------------

    async def _connect(
        self, context: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    self._server.host,
                    self._server.port,
                    family=socket.AF_INET,
                    ssl=context,
                    server_hostname=self._server.host if context else None,
                )
        except (OSError, TimeoutError) as error:
            raise NarUnavailableError(_unreachable(self._server, error)) from error
        found = writer.get_extra_info("socket")
        for level, name, value in _KEEPALIVE:
            with contextlib.suppress(OSError):
                found.setsockopt(level, name, value)
        return reader, writer

    async def _keep(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext | None,
    ) -> None:
        again_s = FIRST_AGAIN_S
        while True:
            began = self._loop.time()
            await self._serve(reader, writer)
            if self._over.done():
                return
            if not self._ready.is_set():
                why = self._why(_ENDED)
                self._end(NarUnavailableError(f"{self._server}: {why}"))
                return
            if self._ready.is_set() and self._loop.time() - began > LONGEST_AGAIN_S:
                again_s = FIRST_AGAIN_S
            if not self._closing:
                why = self._why("the connection ended")
                self._listener.said("disconnected", f"{self._server}: {why}; connecting again")
            told = ""
            while True:
                await asyncio.sleep(again_s)
                again_s = min(2 * again_s, LONGEST_AGAIN_S)
                try:
                    reader, writer = await self._connect(context)
                    break
                except NarUnavailableError as error:
                    if str(error) != told:
                        told = str(error)
                        self._listener.said("unreachable", told)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer, self._failed = writer, None
        local, remote = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        try:
            self._listener.connected_from(IPv4Address(local[0]), IPv4Address(remote[0]))
            self._engine.start(IPv4Address(local[0]), self._loop.time())
            self._drive()
            while self._writer is not None:
                data = await reader.read(_READ_OCTETS)
                if not data:
                    break
                self._engine.received(data, self._loop.time())
                self._drive()
        except (OSError, TypeError):
            pass  # gone: what follows is the same as for an orderly end
        except NarError as error:
            self._end(error)
        finally:
            self._disconnect()
            self._engine.disconnected(self._loop.time())
            self._drive()

    def _disconnect(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    # -- the engine ------------------------------------------------------------------------

    def _drive(self) -> None:
        outputs = self._engine.outputs()
        said: list[Output] = []
        for output in outputs:
            match output:
                case SendOctets():
                    if self._writer is not None:
                        self._writer.write(output.data)
                case Failed():
                    self._fail(output)
                case _:
                    said.append(output)
        if self.connected:
            self._ready.set()
        if said:
            try:
                self._listener.heard(said)
            except (NarError, OSError) as error:
                # The connection stays until it is closed: leases are given back by it.
                self._over_with(error)
            for output in said:
                self._answer(output)
        self._set_timer()

    def _fail(self, failed: Failed) -> None:
        self._failed = failed
        self._disconnect()
        if not failed.again:
            self._end(NarRefusedError(f"{self._server}: {failed.words}"))

    def _answer(self, output: Output) -> None:
        match output:
            case Granted():
                answer = self._waiting.get(output.ticket)
                if answer is not None and not answer.done():
                    answer.set_result(output.lease)
            case Refused():
                answer = self._waiting.get(output.ticket)
                if answer is not None and not answer.done():
                    answer.set_exception(NarRefusedError(output.words))
            case Released() | Lost():
                released = self._releasing.get(output.ticket)
                if released is not None and not released.done():
                    released.set_result(None)
            case ModeAgreed() | SessionAgreed() | L2tpAgreed() | AddressChanged():
                pass
            case ServerStopping():
                self._listener.said("stopping", f"{self._server}: the server restarts")

    def _over_with(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    def _end(self, error: BaseException) -> None:
        self._over_with(error)
        self._disconnect()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._engine.next_timer()
        if at is not None and not self._over.done():
            self._timer = self._loop.call_at(at, self._due)

    def _due(self) -> None:
        self._timer = None
        self._engine.handle_timer(self._loop.time())
        self._drive()


def _seen(future: "asyncio.Future[None]") -> None:
    """Nobody may be waiting: that is no fault."""
    if not future.cancelled():
        future.exception()


def _unreachable(server: ServerName, error: Exception) -> str:
    match error:
        case TimeoutError():
            why = f"no answer within {CONNECT_S:g} s; see the address, and firewalls on the way"
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not trusted: {error.verify_message}; name its CA with --ca"
        case ssl.SSLError():
            why = f"no TLS there ({error.reason}); name the port of its tls_listen"
        case socket.gaierror():
            why = "no such name (IPv4); see the spelling, and this host's name servers"
        case ConnectionRefusedError():
            why = "nothing listens there; see whether the NAR server runs, and its port"
        case OSError(errno=int(number)):
            why = f"{os.strerror(number).lower()}; see the address, and this host's routes"
        case _:
            why = str(error) or _ENDED
    return f"{server}: {why}"

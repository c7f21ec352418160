"""Joins a RADIUS engine to the world: one UDP socket for each server and slot, and one timer."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from gateway.domain.endpoint import Endpoint
from gateway.ike.outputs import Event, Severity
from gateway.radius.packet import MAX_OCTETS
from gateway.radius.servers import Ignored, SendDatagram, ServerChanged

MAX_BATCH = 64
"""Datagrams read at one wake-up of a socket."""

O_co = TypeVar("O_co", covariant=True)


class RadiusEngine(Protocol[O_co]):
    """What the two clients of :mod:`gateway.radius` have in common."""

    def receive(self, datagram: bytes, server: Endpoint, source_slot: int, now: float) -> None:
        """A datagram came."""

    def refused(self, server: Endpoint, now: float) -> None:
        """Nobody listens there."""

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def next_timer(self) -> float | None:
        """When that is."""

    def take_outputs(self) -> Sequence[O_co]:
        """What to do."""


class RadiusLink(Generic[O_co]):
    """Drives one engine. ``rest`` gets the outputs that are not about servers and datagrams."""

    def __init__(
        self,
        engine: RadiusEngine[O_co],
        backend: str,
        *,
        rest: Callable[[O_co], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._engine = engine
        self._backend = backend
        self._rest = rest
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[tuple[Endpoint, int], socket.socket] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._closed = False

    def flush(self) -> None:
        """Carry the engine's outputs out and arm the timer; call after anything that drove it."""
        while outputs := self._engine.take_outputs():
            for output in outputs:
                if isinstance(output, SendDatagram):
                    self._send(output)
                elif isinstance(output, ServerChanged):
                    if not output.alive:
                        self._drop_sockets(output.server)
                    if not output.still:
                        self._emit(_changed(self._backend, output))
                elif isinstance(output, Ignored):
                    self._emit(_ignored(self._backend, output))
                else:
                    self._rest(output)
        self._arm()

    def close(self) -> None:
        """Close the sockets and call the timer off."""
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for server in {server for server, _ in self._sockets}:
            self._drop_sockets(server)

    def _arm(self) -> None:
        at = self._engine.next_timer()
        if self._handle is not None:
            if at is not None and self._handle.when() == at:
                return
            self._handle.cancel()
            self._handle = None
        if at is not None and not self._closed:
            self._handle = self._loop.call_at(at, self._due)

    def _due(self) -> None:
        self._handle = None
        self._engine.handle_timer(self._loop.time())
        self.flush()

    def _send(self, output: SendDatagram) -> None:
        if self._closed:
            return
        try:
            sock = self._socket(output.server, output.source_slot)
            try:
                sock.send(output.data)
            except ConnectionRefusedError:  # of the datagram before; this one did not leave
                sock.send(output.data)
                self._engine.refused(output.server, self._loop.time())
        except OSError as error:  # the engine sends again, or to another server
            self._drop_sockets(output.server)
            self._emit(_unsent(self._backend, output.server, error))

    def _socket(self, server: Endpoint, slot: int) -> socket.socket:
        """A connected socket: the kernel drops what is not from this server and port."""
        found = self._sockets.get((server, slot))
        if found is not None:
            return found
        family = socket.AF_INET if server.address.version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect((str(server.address), server.port))
        except OSError:
            sock.close()
            raise
        self._sockets[server, slot] = sock
        self._loop.add_reader(sock.fileno(), self._readable, sock, server, slot)
        return sock

    def _drop_sockets(self, server: Endpoint) -> None:
        """Have new ones: these keep the source address of old, which we may not have any more."""
        for key in [key for key in self._sockets if key[0] == server]:
            sock = self._sockets.pop(key)
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def _readable(self, sock: socket.socket, server: Endpoint, slot: int) -> None:
        for _ in range(MAX_BATCH):
            if sock.fileno() < 0:  # dropped by what came before
                break
            try:
                datagram = sock.recv(MAX_OCTETS + 1)
            except BlockingIOError:
                break
            except ConnectionRefusedError:
                self._engine.refused(server, self._loop.time())
                continue
            except OSError:  # another ICMP error of an earlier datagram: the timer sees to it
                continue
            self._engine.receive(datagram, server, slot, self._loop.time())
        self.flush()


def _changed(backend: str, output: ServerChanged) -> Event:
    facts: dict[str, object] = {"backend": backend, "server": str(output.server)}
    if output.alive:
        text = f"RADIUS server {output.server} of {backend} answers again"
        return Event("radius_server_up", text, Severity.INFO, facts)
    text = (
        f"RADIUS server {output.server} of {backend} does not answer; left alone for"
        f" {output.hold_s:.0f} s. Check that it runs, knows this gateway and has the same secret"
    )
    return Event("radius_server_down", text, Severity.WARNING, facts)


def _ignored(backend: str, output: Ignored) -> Event:
    text = f"datagram of RADIUS server {output.server} ignored: {output.reason}"
    facts: dict[str, object] = {
        "backend": backend,
        "server": str(output.server),
        "reason": output.reason,
    }
    return Event("radius_datagram_ignored", text, Severity.WARNING, facts)


def _unsent(backend: str, server: Endpoint, error: OSError) -> Event:
    text = f"cannot send to RADIUS server {server} of {backend}: {error.strerror}"
    facts: dict[str, object] = {
        "backend": backend,
        "server": str(server),
        "error": str(error.strerror),
    }
    return Event("radius_send_failed", text, Severity.WARNING, facts)

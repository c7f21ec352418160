"""The forwarder's client in the core: all processes of the forwarder as one."""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.dataplane.interface import DataplaneEvent, Refusal, Usage
from gateway.dataplane.portable import messages
from gateway.dataplane.portable.codec import FRAME, MAX_OCTETS, decoded, framed
from gateway.dataplane.portable.esp.state import SaState
from gateway.dataplane.portable.forwarder import (
    ANSWER_S,
    ForwarderUnavailableError,
    HeldSa,
    RefusedTunnel,
)
from gateway.dataplane.portable.messages import HELLO, Answer, Operation, Request, socket_name
from gateway.dataplane.portable.tunnel_link import TunnelLink
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint
from gateway.domain.wire import WireError

GREETING_S: Final = 10.0
"""A forwarder that has just started, beside others on a slow machine, may take so long to answer;
one that hangs is found out after that time."""
_READ_OCTETS = 256 << 10
_MESSAGES_AT_ONCE = 64
_OPERATIONS_AT_ONCE = 256

Kind = TypeVar("Kind")


class UnusableForwarderError(ForwarderUnavailableError):
    """There is a forwarder, of which ``process`` is the first, but it is of no use."""

    def __init__(self, process: int, reason: str) -> None:
        super().__init__(f"forwarder process {process} {reason}")
        self.process = process


class OtherVersionError(UnusableForwarderError):
    """It is of another version."""

    def __init__(self, process: int) -> None:
        super().__init__(process, "is of another version")


class _Connection:
    """A connection to one process. Everything raises :class:`ForwarderUnavailableError`."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._read = bytearray()
        try:
            self._sock.settimeout(GREETING_S)
            self._connect(folder, worker)
            self.welcome = self._greeted()
            self._sock.settimeout(ANSWER_S)
        except OSError as error:
            self._sock.close()
            raise _unavailable(error) from error

    def _greeted(self) -> messages.Welcome:
        try:
            self._sock.sendall(HELLO)
            theirs = self._take(len(HELLO))
            if theirs == HELLO:
                return self.answer(messages.Welcome)
        except OSError as error:
            raise UnusableForwarderError(self.process, f"does not answer: {error}") from error
        raise OtherVersionError(self.process)

    def _connect(self, folder: Path, worker: int) -> None:
        # By a descriptor: the path may be longer than the address of a Unix socket.
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sock.connect(f"/proc/self/fd/{descriptor}/{socket_name(worker)}")
        finally:
            os.close(descriptor)

    @property
    def process(self) -> int:
        """Id of the process at the other end."""
        credentials = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[:4], "little" if _LITTLE else "big")

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def say(self, octets: bytes) -> None:
        try:
            self._sock.sendall(octets)
        except OSError as error:
            raise _unavailable(error) from error

    def answer(self, kind: type[Kind]) -> Kind:
        size = FRAME.unpack(self._take(FRAME.size))[0]
        answer = self._decoded(self._take(min(size, MAX_OCTETS)))
        if isinstance(answer, kind):
            return answer
        raise ForwarderUnavailableError(f"the forwarder answered {answer}")

    def _take(self, size: int) -> bytes:
        try:
            while len(self._read) < size:
                octets = self._sock.recv(_READ_OCTETS)
                if not octets:
                    raise ForwarderUnavailableError("the forwarder has ended")
                self._read += octets
        except OSError as error:
            raise _unavailable(error) from error
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken

    def _decoded(self, octets: bytes) -> Any:  # noqa: ANN401 one of Answer, a union
        try:
            return decoded(Answer, octets)
        except WireError as error:
            raise ForwarderUnavailableError(
                f"the forwarder's answer makes no sense: {error}"
            ) from None

    def watch(self) -> None:
        """From now on for :meth:`waiting` only."""
        self.say(framed(Request, messages.Watch()))
        self._sock.setblocking(False)

    def waiting(self, limit: int) -> list[messages.Events]:
        """Whole messages that came, at most so many."""
        try:
            octets = self._sock.recv(_READ_OCTETS)
            if not octets:
                raise ForwarderUnavailableError("the forwarder has ended")
            self._read += octets
        except BlockingIOError:
            pass
        except OSError as error:
            raise _unavailable(error) from error
        found: list[messages.Events] = []
        while len(found) < limit and len(self._read) >= FRAME.size:
            size = FRAME.unpack_from(self._read)[0]
            if len(self._read) < FRAME.size + size:
                break
            answer = self._decoded(bytes(self._read[FRAME.size : FRAME.size + size]))
            del self._read[: FRAME.size + size]
            if isinstance(answer, messages.Events):
                found.append(answer)
        return found


class ForwarderClient:
    """Implements :class:`gateway.dataplane.portable.forwarder.Forwarder`."""

    def __init__(self, folder: Path) -> None:
        """Connect to the forwarder of this folder.

        Raises :class:`ForwarderUnavailableError` when there is none, and
        :class:`OtherVersionError`.
        """
        self.adopted = True
        """Whether it ran before this client wanted it."""
        self._queued: list[Operation] = []
        self._asking: list[_Connection] = []
        self._watching: list[_Connection] = []
        try:
            self._asking.append(_Connection(folder, 0))
            first = self._asking[0].welcome
            self.interface, self.workers = first.interface, first.workers
            self.marks = first.marks
            """Whether it learns the fwmarks of packets that are routed to links."""
            self.tun = first.tun
            """Whether its interface is a TUN device."""
            self._asking += [_Connection(folder, worker) for worker in range(1, self.workers)]
            for worker in range(self.workers):
                connection = _Connection(folder, worker)
                self._watching.append(connection)
                connection.watch()
        except ForwarderUnavailableError:
            self._disconnect()
            raise

    @property
    def processes(self) -> list[int]:
        """Their process ids."""
        return [connection.welcome.process for connection in self._asking]

    def install(self, sa: ChildSa, *, outbound: bool, output_mark: int = 0) -> None:
        """See :meth:`Forwarder.install`."""
        self._queued.append(messages.Install(sa, outbound, output_mark))

    def restore(self, state: SaState) -> None:
        """Queue an SA, or half of one, that goes on where an earlier forwarder was."""
        self._queued.append(messages.Restore(state))

    def activate(self, spi_in: int) -> None:
        """See :meth:`Forwarder.activate`."""
        self._queued.append(messages.Activate(spi_in))

    def remove(self, spi_in: int) -> None:
        """See :meth:`Forwarder.remove`."""
        self._queued.append(messages.Remove(spi_in))

    def move(
        self, spi_in: int, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool
    ) -> None:
        """See :meth:`Forwarder.move`."""
        self._queued.append(messages.Move(spi_in, local, remote, udp_encapsulation))

    def trap(self, sa: ChildSa) -> None:
        """See :meth:`Forwarder.trap`."""
        self._queued.append(messages.Trap(sa))

    def untrap(self, reqid: int) -> None:
        """See :meth:`Forwarder.untrap`."""
        self._queued.append(messages.Untrap(reqid))

    def set_tunnel(self, link: TunnelLink) -> None:
        """See :meth:`Forwarder.set_tunnel`."""
        self._queued.append(messages.SetTunnel(link))

    def remove_tunnel(self, name: str) -> None:
        """See :meth:`Forwarder.remove_tunnel`."""
        self._queued.append(messages.RemoveTunnel(name))

    def commit(self) -> tuple[list[Refusal], list[RefusedTunnel]]:
        """See :meth:`Forwarder.commit`."""
        refusals: dict[int, Refusal] = {}
        tunnels: dict[str, RefusedTunnel] = {}
        queued, self._queued = self._queued, []
        for committed in self._carry_out(queued):
            for refusal in committed.refusals:
                refusals.setdefault(refusal.spi_in, refusal)
            for tunnel in committed.tunnels:
                tunnels.setdefault(tunnel.name, tunnel)
        after: list[Operation] = []
        if self.workers > 1:  # one process may have what another one refused
            after += [messages.Remove(spi_in) for spi_in in refusals]
            after += [messages.RemoveTunnel(name) for name in tunnels]
        after += [messages.Release(one.spi_in) for one in queued if isinstance(one, messages.Move)]
        for _ in self._carry_out(after):
            pass
        return list(refusals.values()), list(tunnels.values())

    def _carry_out(self, operations: Sequence[Operation]) -> Iterator[messages.Committed]:
        for start in range(0, len(operations), _OPERATIONS_AT_ONCE):
            part = tuple(operations[start : start + _OPERATIONS_AT_ONCE])
            yield from self._ask(messages.Commit(part), messages.Committed)

    def held(self) -> Sequence[HeldSa]:
        """See :meth:`Forwarder.held`."""
        found: dict[int, HeldSa] = {}
        for answer in self._ask_held():
            for one in answer.held:
                other = found.get(one.sa.spi_in, one)
                found[one.sa.spi_in] = HeldSa(
                    one.sa,
                    one.outbound or other.outbound,
                    one.soft_limit_reached or other.soft_limit_reached,
                )
        return list(found.values())

    def _ask_held(self) -> list[messages.Held]:
        answers = self._ask(messages.AskHeld(), messages.Held)
        for connection, first in zip(self._asking, list(answers), strict=True):
            more = first.more
            while more:
                answers.append(connection.answer(messages.Held))
                more = answers[-1].more
        return answers

    def tunnels(self) -> Sequence[TunnelLink]:
        """See :meth:`Forwarder.tunnels`."""
        answers = self._ask(messages.AskTunnels(), messages.Tunnels)
        return [link for answer in answers for link in answer.links]

    def usage(self, spi_in: int) -> Usage | None:
        """See :meth:`Forwarder.usage`."""
        answers = self._ask(messages.AskUsage(spi_in), messages.UsageNow)
        found = [answer.usage for answer in answers if answer.usage is not None]
        if not found:
            return None
        return Usage(
            bytes_in=sum(one.bytes_in for one in found),
            packets_in=sum(one.packets_in for one in found),
            bytes_out=sum(one.bytes_out for one in found),
            packets_out=sum(one.packets_out for one in found),
            last_in_age_s=min(
                (one.last_in_age_s for one in found if one.last_in_age_s is not None),
                default=None,
            ),
        )

    def before_move(self, spi_in: int) -> tuple[int, float | None] | None:
        """See :meth:`Forwarder.before_move`."""
        answers = self._ask(messages.AskBeforeMove(spi_in), messages.BeforeMove)
        found = [answer.before for answer in answers if answer.before is not None]
        return max(found, key=lambda before: before[0], default=None)

    def counters(self) -> dict[str, int]:
        """See :meth:`Forwarder.counters`."""
        total: dict[str, int] = {}
        for answer in self._ask(messages.AskCounters(), messages.Counters):
            for what, packets in answer.counters:
                total[what] = total.get(what, 0) + packets
        return total

    def event_fds(self) -> list[int]:
        """See :meth:`Forwarder.event_fds`."""
        return [connection.fileno() for connection in self._watching]

    def read_events(self) -> list[DataplaneEvent]:
        """See :meth:`Forwarder.read_events`."""
        return [
            event
            for connection in self._watching
            for message in connection.waiting(_MESSAGES_AT_ONCE)
            for event in message.events
        ]

    def bind(self) -> None:
        """Let the forwarder end with this client, however that comes."""
        self._ask(messages.Bound(), messages.Done)

    def close(self, *, keep: bool) -> None:
        """See :meth:`Forwarder.close`. Returns when the forwarder has ended, or did not answer."""
        if not keep:
            with contextlib.suppress(ForwarderUnavailableError):
                self._ask(messages.End(), messages.Done)
            for connection in self._asking:
                # It closes the connection when it ends.
                with contextlib.suppress(ForwarderUnavailableError):
                    connection.answer(messages.Done)
        self._disconnect()

    def _disconnect(self) -> None:
        for connection in (*self._asking, *self._watching):
            connection.close()

    def _ask(self, request: Request, kind: type[Kind]) -> list[Kind]:
        """All processes' answers; they work at the same time."""
        octets = framed(Request, request)
        for connection in self._asking:
            connection.say(octets)
        return [connection.answer(kind) for connection in self._asking]


def _unavailable(error: OSError) -> ForwarderUnavailableError:
    if isinstance(error, ForwarderUnavailableError):
        return error
    if isinstance(error, TimeoutError):
        return ForwarderUnavailableError("no answer in time")
    return ForwarderUnavailableError(f"{error.strerror or error}")


_LITTLE = socket.htons(1) != 1

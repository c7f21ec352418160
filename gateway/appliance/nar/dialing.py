"""Connecting to the first of several addresses that answers, and sockets outside leased ports."""

import asyncio
import contextlib
import errno
import random
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import chain, islice
from typing import Final

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.nar.codec.numbers import Reply

STAGGER_S: Final = 0.25
"""Until the next address is tried beside one that is silent (RFC 8305 section 5)."""
DEADLINE_S: Final = 15.0
MAX_ATTEMPTS: Final = 6
"""Addresses that are tried."""
_BIND_TRIES: Final = 64
_PORTS_DRAWN: Final = 2048
_REPLIES: Final = {
    errno.ECONNREFUSED: Reply.CONNECTION_REFUSED,
    errno.ENETUNREACH: Reply.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Reply.HOST_UNREACHABLE,
    errno.ETIMEDOUT: Reply.HOST_UNREACHABLE,
    errno.EADDRNOTAVAIL: Reply.NETWORK_UNREACHABLE,
    errno.EACCES: Reply.NOT_ALLOWED,
    errno.EPERM: Reply.NOT_ALLOWED,
}
_TELLING: Final = (
    Reply.CONNECTION_REFUSED,
    Reply.NOT_ALLOWED,
    Reply.HOST_UNREACHABLE,
    Reply.NETWORK_UNREACHABLE,
)
"""Of several failures, the first of these says most."""


class DialError(Exception):
    """No target could be reached; :attr:`reply` tells a SOCKS client."""

    def __init__(self, reply: Reply, why: str) -> None:
        super().__init__(why)
        self.reply = reply


def reply_of(error: OSError) -> Reply:
    """What a SOCKS client is told of it (RFC 1928 section 6)."""
    return _REPLIES.get(error.errno or 0, Reply.GENERAL_FAILURE)


def family_of(address: IpAddress) -> socket.AddressFamily:
    """The socket family of an address."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def is_own(address: IpAddress) -> bool:
    """Whether packets to this address stay on this box: the kernel then answers with itself."""
    if address.is_loopback or address.is_unspecified:
        return True
    with socket.socket(family_of(address), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False  # no way there at all: connecting will tell
        return bool(probe.getsockname()[0] == str(address))


def source_towards(address: IpAddress) -> IpAddress | None:
    """Our address on the way to another; None when there is no way."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return None
        return endpoint_of(probe.getsockname()).address


def endpoint_of(name: tuple[object, ...]) -> Endpoint:
    """A socket's name as we know it."""
    return Endpoint(ip_address(str(name[0]).partition("%")[0]), int(str(name[1])))


async def dial(
    targets: Sequence[IpAddress],
    port: int,
    *,
    stagger_s: float = STAGGER_S,
    deadline_s: float = DEADLINE_S,
) -> socket.socket:
    """A connected socket to the first target that answers; raises :class:`DialError`.

    A silent target does not keep the next from being tried (RFC 8305), within one deadline.
    """
    waiting = list(reversed(targets[:MAX_ATTEMPTS]))
    tasks: list[asyncio.Task[socket.socket]] = []
    running: set[asyncio.Task[socket.socket]] = set()
    failures: list[OSError] = []
    winner: asyncio.Task[socket.socket] | None = None
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline_s
    try:
        while waiting or running:
            if waiting:
                tasks.append(loop.create_task(_connect(waiting.pop(), port)))
                running.add(tasks[-1])
            left = until - loop.time()
            if left <= 0:
                raise DialError(Reply.HOST_UNREACHABLE, f"no answer within {deadline_s:g} s")
            pause = min(left, stagger_s) if waiting else left
            done, running = await asyncio.wait(
                running, timeout=pause, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    winner = task
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                failures.append(error)
        raise _failure(failures)
    finally:
        for task in tasks:
            if task is not winner:
                task.cancel()
                task.add_done_callback(_close_result)  # it may have won as well


def _failure(failures: Sequence[OSError]) -> DialError:
    if not failures:
        return DialError(Reply.HOST_UNREACHABLE, "no address to connect to")
    replies = {reply_of(error): error for error in reversed(failures)}
    reply = next((one for one in _TELLING if one in replies), Reply.GENERAL_FAILURE)
    error = replies.get(reply, failures[0])
    return DialError(reply, error.strerror or str(error))


async def _connect(address: IpAddress, port: int) -> socket.socket:
    sock = socket.socket(family_of(address), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        keep_alive(sock)
        await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _close_result(task: "asyncio.Task[socket.socket]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def keep_alive(sock: socket.socket) -> None:
    """Notice within minutes that the other side is gone, also when octets wait for it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000)


def bound(
    kind: socket.SocketKind, address: IpAddress, leased: Callable[[int], bool]
) -> socket.socket:
    """A socket on a free port that is not lent to anybody; raises OSError.

    The kernel's own choice avoids leased ranges where they are reserved; where they are not, we
    choose ourselves.
    """
    drawn = (random.randrange(1024, 65_536) for _ in range(_PORTS_DRAWN))  # noqa: S311
    ours = islice((port for port in drawn if not leased(port)), _BIND_TRIES)
    failed = OSError(errno.EADDRINUSE, "no port outside of the leased ranges is free")
    for port in chain((0,), ours):
        sock = socket.socket(family_of(address), kind | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            sock.bind((str(address), port))
            if not leased(sock.getsockname()[1]):
                return sock
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            with contextlib.suppress(OSError):
                sock.close()
    raise failed

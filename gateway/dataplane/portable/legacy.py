"""What a forwarder leaves to one of another version: child SAs with their keys, and links.

These octets and their order may not change; what is in :class:`Legacy` may grow
(:mod:`.plain`). A process that is asked carries no more packets: its successor uses the sequence
numbers that follow.
"""

import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.dataplane.portable.codec import FRAME
from gateway.dataplane.portable.esp.state import SaState
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError
from gateway.dataplane.portable.plain import from_json
from gateway.dataplane.portable.tunnel_link import TunnelLink
from gateway.domain.wire import WireError

LEAVE: Final = b"gwleave1"
"""Said after the two versions turned out to differ. Answered by a :class:`Legacy`."""
HELLO_OCTETS: Final = 12
"""``gwfw`` and eight octets that stand for a version."""
SOCKET_NAME: Final = "forwarder-{}.sock"
MAX_OCTETS: Final = 256 << 20
MAX_WORKERS: Final = 256
ANSWER_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Legacy:
    """Of one process, or of all of them."""

    workers: int = 1
    interface: str = ""
    states: tuple[SaState, ...] = ()
    links: tuple[TunnelLink, ...] = ()


def left_in(folder: Path, hello: bytes) -> Legacy:
    """What all processes of a folder's forwarder leave. ``hello`` is ours, which it will refuse.

    Raises:
        ForwarderUnavailableError: a process is gone, or leaves nothing that can be understood.
    """
    first = _of_process(folder, 0, hello)
    others = [
        _of_process(folder, worker, hello) for worker in range(1, min(first.workers, MAX_WORKERS))
    ]
    return replace(
        first,
        states=tuple(state for one in (first, *others) for state in one.states),
        links=tuple(link for one in (first, *others) for link in one.links),
    )


def _of_process(folder: Path, worker: int, hello: bytes) -> Legacy:
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(ANSWER_S)
            sock.connect(f"/proc/self/fd/{descriptor}/{SOCKET_NAME.format(worker)}")
            sock.sendall(hello)
            _take(sock, HELLO_OCTETS)
            sock.sendall(LEAVE)
            size = FRAME.unpack(_take(sock, FRAME.size))[0]
            if size > MAX_OCTETS:
                raise ForwarderUnavailableError(f"the earlier forwarder left {size} octets")
            (legacy,) = from_json(Legacy, _take(sock, size))
            return legacy
    except (OSError, WireError, ValueError) as error:
        raise ForwarderUnavailableError(f"the earlier forwarder left nothing: {error}") from error
    finally:
        os.close(descriptor)


def _take(sock: socket.socket, size: int) -> bytes:
    taken = bytearray()
    while len(taken) < size:
        octets = sock.recv(min(size - len(taken), 1 << 20))
        if not octets:
            raise ForwarderUnavailableError("it has ended")
        taken += octets
    return bytes(taken)

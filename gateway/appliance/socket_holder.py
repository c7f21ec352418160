"""A tiny process that holds the IKE sockets while no gateway runs. Run as a file, not imported.

ESP in UDP is taken from its port by the kernel, as long as somebody has the socket. Between two
gateway processes that is the service manager, where there is one with a store for descriptors;
else it is this: it reads nothing and sends nothing, it only has the sockets. It ends when it is
told to, and when no gateway has come for :data:`HOLD_S`.

One SOCK_SEQPACKET connection of the living gateway at a time; messages are one word:

- ``keep`` with descriptors: hold these, and no others.
- ``take``: answered by ``held`` with the descriptors.
- ``end``: close them and end.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import time

HOLD_S = 60.0
"""After the last gateway has gone without a word."""
MAX_SOCKETS = 64
_WORD_OCTETS = 16
_CREDENTIALS = struct.Struct("=3i")


def hold(listener: socket.socket, hold_s: float = HOLD_S) -> None:
    """Serve until the end; see the module."""
    listener.setblocking(False)
    held: list[int] = []
    client: socket.socket | None = None
    until = time.monotonic() + hold_s
    while True:
        watched: list[socket.socket] = [listener] if client is None else [listener, client]
        left_s = None if client is not None else max(0.0, until - time.monotonic())
        ready = select.select(watched, [], [], left_s)[0]
        if not ready:
            return
        # First what a gateway has said that is gone by now, then the next one.
        if client is None or client not in ready:
            arrived = _accept(listener)
            if arrived is not None and client is not None:
                client.close()
            client = arrived or client
        else:
            word, got = _receive(client)
            if word == b"end":
                return
            if word == b"keep":
                _close(held)
                held = got
            elif word == b"take":
                with contextlib.suppress(OSError):
                    socket.send_fds(client, [b"held"], held)
            else:
                _close(got)
                client.close()
                client = None
                until = time.monotonic() + hold_s


def _accept(listener: socket.socket) -> socket.socket | None:
    """The next connection, if it is of our own user."""
    try:
        client, _ = listener.accept()
    except OSError:
        return None
    option = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    if _CREDENTIALS.unpack(option)[1] in {0, os.geteuid()}:
        return client
    client.close()
    return None


def _receive(client: socket.socket) -> tuple[bytes, list[int]]:
    """The next message; an empty word at the end of the connection."""
    try:
        word, got, _, _ = socket.recv_fds(client, _WORD_OCTETS, MAX_SOCKETS)
    except OSError:
        return b"", []
    return word, got


def _close(descriptors: list[int]) -> None:
    for one in descriptors:
        with contextlib.suppress(OSError):
            os.close(one)


def main() -> None:
    """Hold for whoever made the listening socket, our standard input; on our own from now on."""
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hold(socket.socket(fileno=0))


if __name__ == "__main__":
    main()

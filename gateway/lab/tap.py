"""Listening on wires from this process: no program to start, every frame with the kernel's time.

A tap belongs at the far end of a wire: there, what arrives has really left the host before it.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from gateway.lab import netns
from gateway.lab.topology import Lab

ETH_P_ALL = 3
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
PACKET_OUTGOING = 4
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33
BUFFER_OCTETS = 16 << 20
NANOSECONDS = struct.Struct("=qq")


@dataclass(frozen=True, slots=True)
class Frame:
    """What was seen on a wire."""

    at: float
    """Seconds since 1970."""
    host: str
    interface: str
    arriving: bool
    """At that host; False: it was leaving there."""
    ethertype: int
    packet: bytes
    """Without the link-layer header."""


class Tap:
    """Records interfaces, (host, name) each, until the block ends; `frames` may be read any time.

    Only what happens from now on is recorded: a tap is listening when it has been made.
    """

    def __init__(self, lab: Lab, wires: Iterable[tuple[str, str]]) -> None:
        self.frames: list[Frame] = []
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._open = True
        for host, interface in wires:
            sock = netns.socket_in(
                lab.namespace(host), socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)
            )
            self._sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_OCTETS)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.setblocking(False)
            sock.bind((interface, ETH_P_ALL))
            self._selector.register(sock, selectors.EVENT_READ, (host, interface))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take what waits, and stop."""
        if self._open:
            self._open = False
            self._thread.join()
            for sock in self._sockets:
                sock.close()
            self._selector.close()

    def since(self, begin: float, end: float = float("inf")) -> list[Frame]:
        """The frames of a span of time."""
        self.settle()
        return [frame for frame in list(self.frames) if begin <= frame.at < end]

    def settle(self) -> None:
        """Return once everything that the kernel had at this moment has been read."""
        now = time.time()
        while self._open and self._read_until < now:
            time.sleep(0.002)

    _read_until = 0.0

    def _run(self) -> None:
        while self._open:
            begun = time.time()
            while ready := self._selector.select(0):
                for key, _ in ready:
                    self._read(key.fileobj, *key.data)  # type: ignore[arg-type]
            self._read_until = begun
            self._selector.select(0.02)
        for key, _ in self._selector.select(0):
            self._read(key.fileobj, *key.data)  # type: ignore[arg-type]

    def _read(self, sock: socket.socket, host: str, interface: str) -> None:
        for _ in range(256):
            try:
                packet, ancillary, _, sender = sock.recvmsg(65535, 128)
            except BlockingIOError:
                return
            except OSError:  # the interface went down; it may come back
                return
            at = time.time()
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    whole, nanos = NANOSECONDS.unpack(value[: NANOSECONDS.size])
                    at = whole + nanos / 1e9
            arriving = sender[2] != PACKET_OUTGOING
            self.frames.append(Frame(at, host, interface, arriving, sender[1], packet))

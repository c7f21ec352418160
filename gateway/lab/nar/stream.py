"""A stream of numbered datagrams between two sockets of the lab, and which of them arrived."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import Self

RATE = 200
NUMBER_OCTETS = 8


class Stream:
    """Sends from `near` to `target` in a thread until the block ends; `far` counts what arrives."""

    def __init__(
        self, near: socket.socket, far: socket.socket, target: tuple[str, int], *, rate: int = RATE
    ) -> None:
        self.sent = 0
        self.arrived: set[int] = set()
        self._near, self._far, self._target = near, far, target
        self._pause_s = 1 / rate
        self._open = True
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()

    @property
    def lost(self) -> list[int]:
        """Numbers that did not arrive, of those that were sent."""
        return sorted(set(range(self.sent)) - self.arrived)

    def _send(self) -> None:
        begin = time.monotonic()
        while self._open:
            self._near.sendto(self.sent.to_bytes(NUMBER_OCTETS, "big"), self._target)
            self.sent += 1
            time.sleep(max(0.0, begin + self.sent * self._pause_s - time.monotonic()))

    def _receive(self) -> None:
        while self._open or select.select([self._far], [], [], 0.5)[0]:
            if select.select([self._far], [], [], 0.05)[0]:
                self.arrived.add(int.from_bytes(self._far.recv(100), "big"))

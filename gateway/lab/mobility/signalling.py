"""The socket a mobile node registers from: it lives on a host, its reader in this process.

Registrations, revocations and tunnelled data share the port (RFC 3519): whatever begins with the
type of tunnelled data goes to `on_data`, everything else waits for `receive`.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.lab import netns
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

MIP_PORT = 434
TUNNEL_DATA = 4
POLL_S = 0.1


class SignallingSocket:
    """UDP from `source` on a host, from any port unless told; `interface` binds it to a link."""

    def __init__(
        self,
        lab: Lab,
        host: str,
        source: IPv4Address,
        *,
        port: int = 0,
        interface: str | None = None,
    ) -> None:
        self._socket = netns.socket_in(lab.namespace(host), socket.AF_INET, socket.SOCK_DGRAM)
        if interface is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((str(source), port))
        # RFC 3024 section 5: a foreign agent sees by it that nobody is in between.
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        self._socket.settimeout(POLL_S)
        self.source = source
        self.port: int = self._socket.getsockname()[1]
        self.on_data: Callable[[bytes], None] | None = None
        """Gets the datagrams of a UDP tunnel, header included."""
        self._messages: queue.Queue[bytes] = queue.Queue()
        self._open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, message: bytes, to: IPv4Address, port: int = MIP_PORT) -> None:
        """Send a datagram; what the network says against it earlier is no reason not to."""
        for _ in range(2):
            try:
                self._socket.sendto(message, (str(to), port))
            except ConnectionRefusedError:  # of an earlier datagram
                continue
            return

    def receive(self, timeout_s: float) -> bytes | None:
        """The oldest message that has not been taken yet; None when none comes in time."""
        try:
            return self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def exchange(
        self, message: bytes, to: IPv4Address, *, tries: int = 3, wait_s: float = 2.0
    ) -> bytes:
        """Send, and again after `wait_s`, until something comes back; raises LabError otherwise.

        The same octets are sent again: a home agent may take the second for a replay, so a test
        that minds sends once.
        """
        for _ in range(tries):
            self.send(message, to)
            if (answer := self.receive(wait_s)) is not None:
                return answer
        raise LabError(f"{to} did not answer {tries} registrations from {self.source}:{self.port}")

    def close(self) -> None:
        """Stop reading and close it."""
        self._open = False
        self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        while self._open:
            with contextlib.suppress(TimeoutError, OSError):
                datagram = self._socket.recv(65535)
                if datagram[:1] == bytes([TUNNEL_DATA]):
                    if self.on_data is not None:
                        self.on_data(datagram)
                else:
                    self._messages.put(datagram)

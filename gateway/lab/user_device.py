"""Tunnel devices of the lab where the kernel has none: a TUN device and a thread that pumps.

They share no code with what is tested.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.lab import netns

if TYPE_CHECKING:
    from gateway.lab.topology import Lab

POLL_S = 0.1
PACKETS_PER_TURN = 64
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0


def open_tun(name: str) -> int:
    """A TUN device of this namespace; it goes with the file descriptor."""
    device = os.open(Path("/dev/net/tun"), os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    return device


class UserDevice(ABC):
    """A device on a host whose IPv4 packets go through a connected socket. The device is up."""

    def __init__(self, lab: Lab, host: str, name: str, sock: socket.socket, mtu: int) -> None:
        """`sock` is ours from now on."""
        self._socket = sock
        self._socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        self._socket.setblocking(False)
        self._device = netns.made_inside(lab.namespace(host), lambda: open_tun(name))
        lab.run(host, ["ip", "link", "set", name, "up", "mtu", str(mtu)])
        self._open = True
        self._pump = threading.Thread(target=self._carry, daemon=True)
        self._pump.start()

    @abstractmethod
    def _inner(self, received: bytes) -> bytes:
        """The packet in what came by the socket; empty when it is not for this device."""

    @abstractmethod
    def _outer(self, packet: bytes) -> bytes:
        """What is sent by the socket for a packet of the device's."""

    def close(self) -> None:
        """Take the device away."""
        self._open = False
        self._pump.join()
        self._socket.close()
        os.close(self._device)

    def _carry(self) -> None:
        while self._open:
            ends = [self._device, self._socket.fileno()]
            readable = select.select(ends, [], [], POLL_S)[0]
            if self._socket.fileno() in readable:
                self._receive()
            if self._device in readable:
                self._send()

    def _receive(self) -> None:
        for _ in range(PACKETS_PER_TURN):
            try:
                received = self._socket.recv(65535)
            except OSError:
                return
            if inner := self._inner(received):
                # The kernel refuses what is no IP packet.
                with contextlib.suppress(OSError):
                    os.write(self._device, inner)

    def _send(self) -> None:
        packet = os.read(self._device, 65535)
        if packet[0] >> 4 != 4:  # router solicitations of IPv6
            return
        with contextlib.suppress(OSError):
            self._socket.send(self._outer(packet))

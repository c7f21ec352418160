"""The client's end of an L2TPv3 session where the kernel has none (RFC 3931, section 4.1.2.1).

A TUN device, a UDP socket and a thread that pumps; it shares no code with what is tested.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING

from gateway.lab import netns
from gateway.lab.mobility.udp_tunnel import open_tun

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from gateway.lab.nar.instrument import L2tpIds
    from gateway.lab.topology import Lab

PORT = 1701
POLL_S = 0.1
PACKETS_PER_TURN = 64
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
DATA = b"\x00\x03\x00\x00"
"""Version 3, no control message."""
SUBLAYER = bytes(4)
IPV4 = b"\x08\x00"


class UserL2tp:
    """Between a device `name` on the host and a NAR server. The device is up."""

    def __init__(
        self,
        lab: Lab,
        host: str,
        name: str,
        ends: tuple[IPv4Address, IPv4Address],
        *,
        ids: L2tpIds,
        mtu: int,
    ) -> None:
        """`ends` are the local and the remote address."""
        local, remote = (str(one) for one in ends)
        mac = b"\x02\x4e\x41" + (ids.peer_session_id & 0xFFFFFF).to_bytes(3, "big")
        ethernet = mac + mac + IPV4
        self._sent = DATA + struct.pack("!I", ids.peer_session_id) + ids.peer_cookie + SUBLAYER
        self._received = DATA + struct.pack("!I", ids.session_id) + ids.cookie + SUBLAYER
        self._sent += ethernet
        self._received += ethernet
        space = lab.namespace(host)
        self._socket = netns.socket_in(space, socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        self._socket.setblocking(False)
        self._socket.bind((local, PORT))
        self._socket.connect((remote, PORT))
        self._device = netns.made_inside(space, lambda: open_tun(name))
        lab.run(host, ["ip", "link", "set", name, "up", "mtu", str(mtu)])
        self._open = True
        self._pump = threading.Thread(target=self._carry, daemon=True)
        self._pump.start()

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
                message = self._socket.recv(65535)
            except OSError:
                return
            if message.startswith(self._received):
                # The kernel refuses what is no IP packet.
                with contextlib.suppress(OSError):
                    os.write(self._device, message[len(self._received) :])

    def _send(self) -> None:
        packet = os.read(self._device, 65535)
        if packet[0] >> 4 == 4:
            with contextlib.suppress(OSError):
                self._socket.send(self._sent + packet)

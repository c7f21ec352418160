"""The client's end of an L2TPv3 session where the kernel has none (RFC 3931, section 4.1.2.1)."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from gateway.lab import netns
from gateway.lab.user_device import UserDevice

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from gateway.lab.nar.instrument import L2tpIds
    from gateway.lab.topology import Lab

PORT = 1701
DATA = b"\x00\x03\x00\x00"
"""Version 3, no control message."""
SUBLAYER = bytes(4)
IPV4 = b"\x08\x00"


class UserL2tp(UserDevice):
    """Between a device `name` on the host and a NAR server."""

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
        sock = netns.socket_in(lab.namespace(host), socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((local, PORT))
        sock.connect((remote, PORT))
        super().__init__(lab, host, name, sock, mtu)

    def _inner(self, received: bytes) -> bytes:
        return received[len(self._received) :] if received.startswith(self._received) else b""

    def _outer(self, packet: bytes) -> bytes:
        return self._sent + packet

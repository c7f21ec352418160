"""The mobile node's end of an IP-in-IP or GRE tunnel where the kernel has no such devices.

A TUN device, a raw socket and a thread that pumps; it shares no code with what is tested.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.domain.mobility import Encapsulation
from gateway.lab import netns
from gateway.lab.kernel import has_tunnels
from gateway.lab.mobility.udp_tunnel import open_tun
from gateway.lab.topology import Lab

POLL_S = 0.1
PACKETS_PER_TURN = 64
GRE_HEADER = bytes.fromhex("00000800")
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
IP_FREEBIND = 15
_PROTOCOLS = {Encapsulation.IP_IP: 4, Encapsulation.GRE: 47}


KINDS = {Encapsulation.IP_IP: "ipip", Encapsulation.GRE: "gre"}


def make_tunnel(
    lab: Lab,
    host: str,
    name: str,
    ends: tuple[IPv4Address, IPv4Address],
    encapsulation: Encapsulation = Encapsulation.IP_IP,
) -> Callable[[], None]:
    """A tunnel device that is up, the kernel's or our own; returns what takes it away.

    `ends` are the local and the remote address.
    """
    if not has_tunnels():
        return UserTunnel(lab, host, name, ends, encapsulation).close
    kind = KINDS[encapsulation]
    words = f"link add {name} type {kind} local {ends[0]} remote {ends[1]} nopmtudisc"
    netns.command(["ip", "-n", lab.namespace(host), *words.split()])
    netns.command(["ip", "-n", lab.namespace(host), "link", "set", name, "up"])

    def end() -> None:
        lab.run(host, ["ip", "link", "delete", name], check=False)

    return end


class UserTunnel:
    """Between a device `name` on the host and a home agent. The device is up."""

    def __init__(
        self,
        lab: Lab,
        host: str,
        name: str,
        ends: tuple[IPv4Address, IPv4Address],
        encapsulation: Encapsulation,
    ) -> None:
        """See :func:`make_tunnel`."""
        local, remote = (str(one) for one in ends)
        self._before = GRE_HEADER if encapsulation is Encapsulation.GRE else b""
        space = lab.namespace(host)
        protocol = _PROTOCOLS[encapsulation]
        self._socket = netns.socket_in(space, socket.AF_INET, socket.SOCK_RAW, protocol)
        self._socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
        self._socket.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        self._socket.setblocking(False)
        self._socket.bind((local, 0))
        self._socket.connect((remote, 0))
        self._device = netns.made_inside(space, lambda: open_tun(name))
        mtu = 1500 - 20 - len(self._before)
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
                packet = self._socket.recv(65535)
            except OSError:
                return
            inner = packet[(packet[0] & 15) * 4 :]
            if inner.startswith(self._before):
                # The kernel refuses what is no IP packet.
                with contextlib.suppress(OSError):
                    os.write(self._device, inner[len(self._before) :])

    def _send(self) -> None:
        packet = os.read(self._device, 65535)
        if packet[0] >> 4 != 4:  # router solicitations of IPv6
            return
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _outer_tos(packet))
        with contextlib.suppress(OSError):
            self._socket.send(self._before + packet)


def _outer_tos(packet: bytes) -> int:
    tos = packet[1]
    return tos & ~1 if tos & 3 == 3 else tos

"""The mobile node's end of an IP-in-IP or GRE tunnel where the kernel has no such devices."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.domain.mobility import Encapsulation
from gateway.lab import netns
from gateway.lab.kernel import has_tunnels
from gateway.lab.topology import Lab
from gateway.lab.user_device import UserDevice

GRE_HEADER = bytes.fromhex("00000800")
IP_FREEBIND = 15
KINDS = {Encapsulation.IP_IP: "ipip", Encapsulation.GRE: "gre"}
_PROTOCOLS = {Encapsulation.IP_IP: 4, Encapsulation.GRE: 47}


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


class UserTunnel(UserDevice):
    """Between a device `name` on the host and a home agent."""

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
        space, protocol = lab.namespace(host), _PROTOCOLS[encapsulation]
        sock = netns.socket_in(space, socket.AF_INET, socket.SOCK_RAW, protocol)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        sock.bind((local, 0))
        sock.connect((remote, 0))
        super().__init__(lab, host, name, sock, 1500 - 20 - len(self._before))

    def _inner(self, received: bytes) -> bytes:
        payload = received[(received[0] & 15) * 4 :]
        return payload[len(self._before) :] if payload.startswith(self._before) else b""

    def _outer(self, packet: bytes) -> bytes:
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _outer_tos(packet))
        return self._before + packet


def _outer_tos(packet: bytes) -> int:
    tos = packet[1]
    return tos & ~1 if tos & 3 == 3 else tos

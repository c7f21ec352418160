"""What may leave a mobile node before anything is proven, told from what is the user's.

A list of what is allowed, not of what is forbidden: whatever is not signalling, not encrypted and
not needed to get an address is a packet of the user's, and a leak. And a user who never stops
trying: IPv4 and IPv6, by the host's routes and straight onto every link.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from gateway.lab import netns
from gateway.lab import plan as lab_plan
from gateway.lab.mobility import plan
from gateway.lab.mobility.topology import MobilityLab
from gateway.lab.tap import ETH_P_IP, ETH_P_IPV6, Frame
from gateway.lab.topology import Lab

ETH_P_ARP = 0x0806
ICMP, IP_IP, TCP, UDP, ESP, ICMPV6 = 1, 4, 6, 17, 50, 58
MIP_PORT, TUNNEL_DATA = 434, 4
IKE_PORTS = frozenset({500, 4500})
TCP_PORTS = frozenset({443, 4500})
DHCP_PORTS = frozenset({67, 68})
ROUTER_SOLICITATION = 10
QUIET_ICMPV6 = frozenset({130, 131, 132, 133, 134, 135, 136, 143})
"""Neighbour and router discovery, multicast listeners."""
GATEWAYS = frozenset({lab_plan.GATEWAY_OUTSIDE})
EXTERNAL_AGENTS = frozenset({plan.OUTSIDE_HOME_AGENT, plan.GATEWAY_HOME_AGENT})
INTERNAL_AGENTS = frozenset({plan.INSIDE_HOME_AGENT})
FOREIGN_AGENTS = frozenset(plan.FOREIGN_LINKS.values())
PROTECTED = GATEWAYS | EXTERNAL_AGENTS
"""Where IPsec goes: the gateways, also by address switching at an x-HA (draft 001, appendix D)."""
PORTS = struct.Struct(">HH")


@dataclass(frozen=True, slots=True)
class Leak:
    """A packet of the user's in the clear."""

    at: float
    host: str
    interface: str
    what: str


def leaks(
    frames: Iterable[Frame], *, probes: Collection[tuple[IPv4Address, int]] = ()
) -> list[Leak]:
    """The user's packets among frames that came from the device.

    `probes` are addresses and ports of the search for captive portals.
    """
    return [
        Leak(frame.at, frame.host, frame.interface, what)
        for frame in frames
        if frame.arriving and (what := users(frame, probes))
    ]


def users(frame: Frame, probes: Collection[tuple[IPv4Address, int]] = ()) -> str:
    """What a frame shows of the user; empty when it is none of his."""
    if frame.ethertype == ETH_P_IP:
        return _users4(frame.packet, probes)
    if frame.ethertype == ETH_P_IPV6:
        return _users6(frame.packet)
    return ""


def _users6(packet: bytes) -> str:
    at, protocol = 40, packet[6]
    if protocol == 0:  # hop-by-hop options: router alert of multicast listener reports
        protocol, at = packet[40], 40 + 8 * (packet[41] + 1)
    if protocol == ICMPV6 and packet[at] in QUIET_ICMPV6:
        return ""
    if protocol == UDP and PORTS.unpack_from(packet, at) == (546, 547):
        return ""
    return f"IPv6 {IPv6Address(packet[8:24])} > {IPv6Address(packet[24:40])} protocol {protocol}"


def _users4(packet: bytes, probes: Collection[tuple[IPv4Address, int]]) -> str:
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    protocol, at = packet[9], (packet[0] & 15) * 4
    what = f"{source} > {destination} protocol {protocol}"
    if int.from_bytes(packet[6:8], "big") & 0x1FFF:
        at = len(packet)  # a later fragment shows no ports; only ESP's may be fragmented
    if protocol == ESP:
        return "" if destination in PROTECTED else what
    if protocol == IP_IP and destination in EXTERNAL_AGENTS and at < len(packet):
        return _protected(packet[at:], what)
    if protocol == ICMP and at < len(packet):
        # Errors about what came unasked quote only that.
        return "" if packet[at] in {3, ROUTER_SOLICITATION, 11} else what
    if protocol == 2:
        return ""  # IGMP
    if protocol in {UDP, TCP} and at < len(packet):
        return _by_port(packet, at, destination, what, probes)
    return what


def _by_port(
    packet: bytes,
    at: int,
    destination: IPv4Address,
    what: str,
    probes: Collection[tuple[IPv4Address, int]],
) -> str:
    here, there = PORTS.unpack_from(packet, at)
    what += f" port {here} > {there}"
    if (destination, there) in probes:
        return ""
    if packet[9] == TCP:
        return "" if destination in PROTECTED and there in TCP_PORTS else what
    if {here, there} <= DHCP_PORTS:
        return ""
    if there == MIP_PORT:
        return _by_mobile_ip(packet, at + 8, destination, what)
    return "" if destination in PROTECTED and there in IKE_PORTS else what


def _by_mobile_ip(packet: bytes, at: int, destination: IPv4Address, what: str) -> str:
    if len(packet) > at and packet[at] == TUNNEL_DATA:
        if destination not in EXTERNAL_AGENTS or packet[at + 1] != IP_IP:
            return f"{what} tunnelled"
        return _protected(packet[at + 4 :], f"{what} tunnelled")
    agents = EXTERNAL_AGENTS | INTERNAL_AGENTS | FOREIGN_AGENTS
    return "" if destination in agents or destination.is_multicast else what


def _protected(inner: bytes, what: str) -> str:
    """Nothing when a tunnel carries IPsec or IKE to a gateway only, or keeps a NAT awake."""
    what += f" carrying {inner[:40].hex()}"
    if len(inner) < 28:
        return what
    protocol, at = inner[9], (inner[0] & 15) * 4
    source, destination = IPv4Address(inner[12:16]), IPv4Address(inner[16:20])
    if protocol == ICMP and destination in EXTERNAL_AGENTS:
        return "" if source == plan.OUTSIDE_HOME_ADDRESS else what  # RFC 3519 section 4.9
    if destination not in GATEWAYS:
        return what
    if protocol == ESP:
        return ""
    port = PORTS.unpack_from(inner, at)[1]
    allowed = IKE_PORTS if protocol == UDP else TCP_PORTS if protocol == TCP else ()
    return "" if port in allowed else what


# -- the user ------------------------------------------------------------------------------------

SECRET = b"this is the user's and must not be read by anybody on the way "
TARGETS = (lab_plan.SERVER, plan.NEIGHBOUR, plan.DEVICE_2, lab_plan.GATEWAY_OUTSIDE)
TARGET6 = "2001:db8:77::1"
PORT = 9999
PAUSE_S = 0.03


def give_ipv6(lab: MobilityLab, link: str, router: tuple[str, str]) -> None:
    """Let IPv6 work on a link of the device: an address, a way out, and a router that is known.

    `router` is the far end of the wire, whose link-layer address would be asked for otherwise.
    """
    mac = lab.link_address(*router).hex(":")
    number = sum(link.encode()) % 1000
    lines = [
        f"address replace 2001:db8:{number}::2/64 dev {link} nodad",
        f"neighbour replace fe80::1 lladdr {mac} dev {link} nud permanent",
        f"route replace default via fe80::1 dev {link} metric {number}",
    ]
    argv = ["ip", "-6", "-batch", "-"]
    lab.run("device", argv, stdin="\n".join(lines) + "\n")


class Persistent:
    """A user who keeps trying, on `device`: a context manager.

    Every 30 ms a datagram to each of several hosts inside and outside, one by IPv6, one on each
    link that `links` names whatever the routes say, and now and then a connection by TCP.
    """

    def __init__(self, lab: Lab, links: Sequence[str] = ()) -> None:
        self._namespace = lab.namespace("device")
        self._links = links
        self._open = True
        self.sent = self.refused = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._routed = self._socket(socket.AF_INET)
        self._routed6 = self._socket(socket.AF_INET6)
        self._bound = [self._onto(link, family) for link in self._links for family in _FAMILIES]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._thread.join()
        for sock in (self._routed, self._routed6, *self._bound):
            sock.close()

    def _socket(self, family: int, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        sock = netns.socket_in(self._namespace, family, kind)
        sock.setblocking(False)
        return sock

    def _onto(self, link: str, family: int) -> socket.socket:
        sock = self._socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        return sock

    def _run(self) -> None:
        connections: list[socket.socket] = []
        for turn in itertools.count():
            if not self._open:
                break
            for target in TARGETS:
                self._send(self._routed, str(target))
            self._send(self._routed6, TARGET6)
            for sock in self._bound:
                self._send(sock, TARGET6 if sock.family == socket.AF_INET6 else str(TARGETS[0]))
            if turn % 10 == 0:
                connections.append(self._connect(turn))
                for old in connections[:-20]:
                    old.close()
                del connections[:-20]
            time.sleep(PAUSE_S)
        for sock in connections:
            sock.close()

    def _connect(self, turn: int) -> socket.socket:
        sock = self._socket(socket.AF_INET, socket.SOCK_STREAM)
        with contextlib.suppress(OSError):
            sock.connect((str(TARGETS[turn // 10 % len(TARGETS)]), PORT))
        return sock

    def _send(self, sock: socket.socket, to: str) -> None:
        try:
            sock.sendto(SECRET, (to, PORT))
        except OSError:  # no route now, or the switch says so
            self.refused += 1
        else:
            self.sent += 1


_FAMILIES = (socket.AF_INET, socket.AF_INET6)

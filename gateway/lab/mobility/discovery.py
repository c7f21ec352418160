"""How a mobile node finds a foreign agent: solicitations and advertisements on a link."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

from gateway.domain.checksum import internet_checksum
from gateway.domain.wire import WireError
from gateway.lab import netns
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab
from gateway.mip_agents.advertisement import AgentAdvertisement

ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ICMP = 1
ICMP_ROUTER_SOLICITATION = 10
ALL_ROUTERS = IPv4Address("224.0.0.2")
ALL_ROUTERS_MAC = bytes.fromhex("01005e000002")
BROADCAST_MAC = b"\xff" * 6
IPV4 = struct.Struct(">BBHHHBBH4s4s")
ARP = struct.Struct(">HHBBH6s4s6s4s")


@dataclass(frozen=True, slots=True)
class Discovered:
    """An agent that advertised itself on a link."""

    link: str
    address: IPv4Address
    """The source of the advertisement."""
    link_address: bytes
    destination: IPv4Address
    """224.0.0.1, or ours when it answers a solicitation."""
    ttl: int
    advertisement: AgentAdvertisement

    @property
    def care_of_address(self) -> IPv4Address:
        """The first one offered."""
        return self.advertisement.care_of_addresses[0]


class Listener:
    """Reads agent advertisements of a link, whatever addresses the host has."""

    def __init__(self, lab: Lab, host: str, link: str) -> None:
        self._lab, self._host, self._link = lab, host, link
        self._socket = netns.socket_in(
            lab.namespace(host), socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)
        )
        self._socket.bind((link, ETH_P_IP))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def solicit(self, source: IPv4Address) -> None:
        """Ask for an advertisement: TTL 1, to all routers (RFC 5944 section 2.4)."""
        body = struct.pack(">BBHI", ICMP_ROUTER_SOLICITATION, 0, 0, 0)
        body = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
        header = IPV4.pack(
            0x45, 0, 20 + len(body), 0, 0, 1, ICMP, 0, source.packed, ALL_ROUTERS.packed
        )
        header = header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:]
        self._socket.sendto(header + body, (self._link, ETH_P_IP, 0, 0, ALL_ROUTERS_MAC))

    def next(self, timeout_s: float) -> Discovered:
        """The next advertisement; raises LabError when none comes in time."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            with contextlib.suppress(TimeoutError):
                packet, sender = self._socket.recvfrom(65535)
                found = self._read(packet, sender)
                if found is not None:
                    return found
        raise LabError(f"no agent advertised itself on {self._link} within {timeout_s:g} s")

    def _read(self, packet: bytes, sender: tuple[str, int, int, int, bytes]) -> Discovered | None:
        if len(packet) < 28 or packet[0] != 0x45 or packet[9] != ICMP or packet[20] != 9:
            return None
        if sender[2] == socket.PACKET_OUTGOING:  # type: ignore[attr-defined,unused-ignore]
            return None
        size = int.from_bytes(packet[2:4], "big")
        try:
            advertisement = AgentAdvertisement.parse(packet[20:size])
        except WireError as wrong:
            raise LabError(f"a broken advertisement on {self._link}: {wrong}") from None
        return Discovered(
            self._link,
            IPv4Address(packet[12:16]),
            sender[4],
            IPv4Address(packet[16:20]),
            packet[8],
            advertisement,
        )


def discover(
    lab: Lab, host: str, link: str, source: IPv4Address, *, timeout_s: float = 10.0
) -> Discovered:
    """Solicit on a link until an agent answers; raises LabError when none does."""
    with Listener(lab, host, link) as listener:
        end = time.monotonic() + timeout_s
        while True:
            listener.solicit(source)
            try:
                return listener.next(2.0)
            except LabError:
                if time.monotonic() > end:
                    raise


def announce(lab: Lab, host: str, link: str, address: IPv4Address) -> None:
    """Gratuitous ARP: the address is here now (RFC 5944 section 4.6)."""
    namespace = lab.namespace(host)
    with netns.socket_in(namespace, socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sock:
        sock.bind((link, 0))
        mac = sock.getsockname()[4]
        message = ARP.pack(1, ETH_P_IP, 6, 4, 2, mac, address.packed, mac, address.packed)
        sock.sendto(message, (link, ETH_P_ARP, 0, 0, BROADCAST_MAC))

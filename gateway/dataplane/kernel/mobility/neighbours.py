"""Gratuitous ARP: neighbours on the home link learn that we now answer for a mobile node."""

import socket
import struct
from ipaddress import IPv4Address
from typing import Final

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETHERTYPE_ARP: Final = 0x0806
_BROADCAST: Final = b"\xff" * 6
_REQUEST, _REPLY = 1, 2


def gratuitous_arp(address: IPv4Address, link_address: bytes, operation: int) -> bytes:
    """One Ethernet frame that tells everybody on the link who has ``address``.

    RFC 5944 section 4.6 and RFC 5227: sender and target address are the same; some hosts learn
    from requests only, some from replies only, so the home agent sends both.
    """
    return _ETHERNET.pack(_BROADCAST, link_address, _ETHERTYPE_ARP) + _ARP.pack(
        1,
        0x0800,
        6,
        4,
        operation,
        link_address,
        address.packed,
        link_address if operation == _REPLY else bytes(6),
        address.packed,
    )


class Announcer:
    """Sends gratuitous ARP in this network namespace. Raises OSError from the constructor."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        self.failures = 0
        """Frames that the link did not take: others learn when they ask."""

    def announce(self, address: IPv4Address, interface: str, link_address: bytes) -> None:
        """Say on ``interface`` that ``address`` is at ``link_address``. Never raises OSError."""
        if len(link_address) != 6:
            return
        for operation in (_REQUEST, _REPLY):
            frame = gratuitous_arp(address, link_address, operation)
            try:
                self._socket.sendto(frame, (interface, _ETHERTYPE_ARP))
            except OSError:
                self.failures += 1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

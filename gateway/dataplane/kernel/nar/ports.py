"""Ports, SPIs and the box itself: what it uses, and what is kept from it."""

import errno
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.nar.below import OwnSas
from gateway.domain.nar import NarProtocol

_RESERVED: Final = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
_KIND: Final = {NarProtocol.TCP: socket.SOCK_STREAM, NarProtocol.UDP: socket.SOCK_DGRAM}


def merged(ranges: Iterable[range]) -> list[range]:
    """Disjoint ranges, in order, that cover the same numbers."""
    found: list[range] = []
    for one in sorted((one for one in ranges if one), key=lambda one: one.start):
        if found and one.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, one.stop))
        else:
            found.append(one)
    return found


def without(ranges: Iterable[range], others: Iterable[range]) -> list[range]:
    """What is in ``ranges`` and not in ``others``."""
    left = {number for one in ranges for number in one}
    left.difference_update(*others)
    return merged(range(number, number + 1) for number in left)


def read_reserved() -> list[range]:
    """Ports that the kernel takes for no socket by itself."""
    found = []
    for part in _RESERVED.read_text("ascii").strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found.append(range(int(first), int(last or first) + 1))
    return found


def write_reserved(ranges: Iterable[range]) -> None:
    """Reserve these ports and no others. Raises OSError."""
    text = ",".join(f"{one[0]}-{one[-1]}" for one in merged(ranges))
    _RESERVED.write_text(text + "\n", "ascii")


def _bound(protocol: NarProtocol, address: IPv4Address, port: int) -> socket.socket:
    """A socket that has the port. Raises OSError."""
    made = socket.socket(socket.AF_INET, _KIND[protocol] | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        made.bind((str(address), port))
    except OSError:
        made.close()
        raise
    return made


class OwnUse:
    """What the box itself has, and the ports that are held from it."""

    def __init__(self, sas: OwnSas) -> None:
        self._held: dict[tuple[NarProtocol, IPv4Address, int], socket.socket | None] = {}
        self._sas = sas

    def occupied(self, protocol: NarProtocol, address: IPv4Address, value: int) -> bool:
        """Whether a socket has this port, or an SA this SPI.

        Where the address is a pool's and none of ours, no socket hears of it: its ports are free.
        """
        if protocol.has_ports:
            if (protocol, address, value) in self._held:
                return False
            try:
                _bound(protocol, address, value).close()
            except OSError as error:
                return error.errno == errno.EADDRINUSE
            return False
        if protocol in (NarProtocol.ESP, NarProtocol.AH):
            return self._sas.has(protocol, address, value)
        return False

    def hold_port(self, protocol: NarProtocol, address: IPv4Address, port: int) -> bool:
        """Bind it, without listening; False when it is taken."""
        key = protocol, address, port
        if key not in self._held:
            try:
                self._held[key] = _bound(protocol, address, port)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    return False
                self._held[key] = None
        return True

    def free_port(self, protocol: NarProtocol, address: IPv4Address, port: int) -> None:
        """Reverse of :meth:`hold_port`; it may not be held."""
        held = self._held.pop((protocol, address, port), None)
        if held is not None:
            held.close()

    def close(self) -> None:
        """Give all of them back."""
        for held in self._held.values():
            if held is not None:
                held.close()
        self._held.clear()
        self._sas.close()

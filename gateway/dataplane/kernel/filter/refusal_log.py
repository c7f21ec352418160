"""Refused packets that the ruleset logs, by netlink (``linux/netfilter/nfnetlink_log.h``)."""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.dataplane.filter import RefusedPacket
from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NetlinkSocket,
    attribute,
    attributes,
    messages,
    request,
)
from gateway.dataplane.packet import marks
from gateway.domain.endpoint import IpAddress
from gateway.domain.filtering import WITH_PORTS, Direction

_ULOG: Final = 4 << 8
_PACKET, _CONFIG = _ULOG | 0, _ULOG | 1
_BIND, _COPY_PACKET = 1, 2
_COPIED: Final = 80
_MARK, _PAYLOAD, _PREFIX = 2, 9, 10
AT_ONCE: Final = 256
"""Datagrams in one call."""
_EXTENSIONS: Final = frozenset({0, 43, 60})
_FRAGMENT: Final = 44


class RefusalLog:
    """Bound to one group. Raises OSError where the kernel has no such log."""

    def __init__(self, group: int) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER)
        head = struct.pack("!BBH", 0, 0, group)
        copy = struct.pack("!IBx", _COPIED, _COPY_PACKET)
        requests = [
            request(_CONFIG, 0, head + attribute(1, bytes((_BIND,)))),
            request(_CONFIG, 0, head + attribute(2, copy)),
        ]
        try:
            self._socket.check("the log of refused packets", requests)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()

    def read(self) -> list[RefusedPacket]:
        """What came since the last call, a bounded amount of it."""
        datagrams, _ = self._socket.read_datagrams(AT_ONCE)
        return [packet for datagram in datagrams for packet in _packets(datagram)]


def _packets(datagram: bytes) -> Iterator[RefusedPacket]:
    for kind, _, _, _, body in messages(datagram):
        if kind != _PACKET:
            continue
        fields = attributes(body, 4)
        prefix = fields.get(_PREFIX, b"").rstrip(b"\0").decode("ascii", "replace")
        mark = int.from_bytes(fields.get(_MARK, b""), "big")
        try:
            direction = Direction(prefix)
            addresses = packet_of(fields.get(_PAYLOAD, b""))
        except ValueError:
            continue
        ours = mark & 0xFFFF_0000 in {marks.FROM_DEVICE, marks.TO_DEVICE}
        yield RefusedPacket(direction, *addresses, zone=mark & 0xFFFF if ours else 0)


def packet_of(octets: bytes) -> tuple[IpAddress, IpAddress, int, int]:
    """Source, destination, protocol and destination port. Raises ValueError."""
    if len(octets) >= 20 and octets[0] >> 4 == 4:
        start, protocol = 4 * (octets[0] & 15), octets[9]
        first = not int.from_bytes(octets[6:8], "big") & 0x1FFF
        source: IpAddress = IPv4Address(octets[12:16])
        destination: IpAddress = IPv4Address(octets[16:20])
    elif len(octets) >= 40 and octets[0] >> 4 == 6:
        start, protocol, first = 40, octets[6], True
        source, destination = IPv6Address(octets[8:24]), IPv6Address(octets[24:40])
        while protocol in _EXTENSIONS and len(octets) >= start + 8:
            protocol, start = octets[start], start + 8 * (octets[start + 1] + 1)
        if protocol == _FRAGMENT and len(octets) >= start + 8:
            first = not int.from_bytes(octets[start + 2 : start + 4], "big") & 0xFFF8
            protocol, start = octets[start], start + 8
    else:
        raise ValueError("not an IP packet")
    port = octets[start + 2 : start + 4]
    has_port = first and protocol in WITH_PORTS and len(port) == 2
    return source, destination, protocol, int.from_bytes(port, "big") if has_port else 0

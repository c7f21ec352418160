"""A link as the foreign agent needs it: mobile nodes there have addresses of other networks.

What they send is read, and what they get is sent, with link-layer addresses: neither routing nor
ARP knows these nodes (RFC 5944 section 3.7.2.1). Solicitations and registration requests come in;
advertisements and registration replies go out.
"""

import errno
import fcntl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.packet_socket import MAX_OCTETS, PacketSocket
from gateway.dataplane.packet import ipv4, udp
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.mobility import MIP_PORT
from gateway.domain.wire import WireError

ALL_SYSTEMS: Final = IPv4Address("224.0.0.1")
ALL_MOBILITY_AGENTS: Final = IPv4Address("224.0.0.11")
LIMITED_BROADCAST: Final = IPv4Address("255.255.255.255")
ICMP: Final = 1
ROUTER_SOLICITATION: Final = 10
_GROUPS: Final = (bytes.fromhex("01005e000001"), bytes.fromhex("01005e000002"))
"""Ethernet addresses of all systems and of all routers; solicitations go to the latter."""
_AGENTS_GROUP: Final = bytes.fromhex("01005e00000b")
_PACKET_OUTGOING = 4
_SIOCGIFADDR = 0x8915
_TTL_AT = 8
_FILTER: Final = (
    # Classic BPF on the IP header: UDP to port 434, no later fragment; or ICMP type 10.
    (0x30, 0, 0, 9),
    (0x15, 0, 5, udp.PROTOCOL),
    (0x28, 0, 0, 6),
    (0x45, 8, 0, 0x1FFF),
    (0xB1, 0, 0, 0),
    (0x48, 0, 0, 2),
    (0x15, 4, 5, MIP_PORT),
    (0x15, 0, 4, ICMP),
    (0xB1, 0, 0, 0),
    (0x50, 0, 0, 0),
    (0x15, 0, 1, ROUTER_SOLICITATION),
    (0x06, 0, 0, MAX_OCTETS),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True, slots=True)
class FromLink:
    """A packet of a mobile node: exactly one of ``message`` and ``solicitation`` is not empty."""

    link_address: bytes
    path: Path
    """Without ports for a solicitation."""
    message: bytes = b""
    solicitation: bytes = b""
    ttl: int = 0
    """Of a message: 255 shows that no router was in between (RFC 3024 section 5)."""


class LinkSocket(PacketSocket):
    """A packet socket on one interface. Raises OSError from the constructor."""

    def __init__(self, interface: str) -> None:
        try:
            super().__init__(interface, _FILTER, (*_GROUPS, _AGENTS_GROUP))
        except OSError as error:
            raise OSError(error.errno, f"interface {interface}: {error.strerror}") from error

    def address(self) -> IPv4Address | None:
        """The interface's first IPv4 address now."""
        name = struct.pack("256s", self.interface.encode()[:15])
        try:
            answer = fcntl.ioctl(self._socket.fileno(), _SIOCGIFADDR, name)
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.ENODEV}:
                return None
            raise
        return IPv4Address(answer[20:24])

    def read(self, count: Callable[[str], None]) -> Iterator[FromLink]:
        """What waits, up to a bound; what is malformed is counted and dropped."""
        for packet in self.packets(count):
            if packet.kind == _PACKET_OUTGOING:
                continue
            try:
                yield _parse(packet.octets, packet.link_address)
            except WireError:
                count("malformed")

    def send(self, message: bytes, path: Path, link_address: bytes) -> OSError | None:
        """Send a datagram to a link-layer address, or return why not."""
        try:
            packet = udp.packet(path.local, path.remote, message)
        except WireError as error:
            return OSError(errno.EMSGSIZE, str(error))
        return self.send_packet(packet, link_address)

    def advertise(
        self, message: bytes, source: IPv4Address, destination: IPv4Address, link_address: bytes
    ) -> OSError | None:
        """Send an ICMP message with TTL 1 (RFC 1256 section 4.3), or return why not."""
        packet = ipv4.build(source, destination, ICMP, message, ttl=1)
        return self.send_packet(packet, link_address or _GROUPS[0])


def _parse(octets: bytes, link_address: bytes) -> FromLink:
    header = ipv4.parse_header(octets)
    if header.protocol == ICMP:
        path = Path(Endpoint(header.destination, 0), Endpoint(header.source, 0))
        icmp = octets[header.header_length : header.total_length]
        return FromLink(link_address, path, solicitation=icmp)
    datagram = udp.parse(octets)
    if not datagram.payload:
        raise WireError("an empty datagram")
    path = Path(datagram.destination, datagram.source)
    return FromLink(link_address, path, message=datagram.payload, ttl=octets[_TTL_AT])

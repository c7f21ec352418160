"""What comes from a link below routing and ARP: agent advertisements and registration messages.

Behind a foreign agent the node has no address of the link's and asks nobody by ARP (RFC 5944
section 4.6), so what is meant for it is read, and what it says is sent, with link-layer addresses.
"""

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.packet_socket import MAX_OCTETS, PacketSocket
from gateway.dataplane.packet import ipv4, udp
from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import MIP_PORT
from gateway.domain.wire import WireError

ICMP: Final = 1
ICMP_ROUTER_ADVERTISEMENT: Final = 9
ICMP_ROUTER_SOLICITATION: Final = 10
ALL_ROUTERS: Final = IPv4Address("224.0.0.2")
LINK_TTL: Final = 1
"""Of advertisements and solicitations: they never pass a router (RFC 5944 section 2.1)."""
TUNNEL_DATA: Final = 4
"""First octet of what RFC 3519 carries on the same port; it is the kernel's."""
_ALL_ROUTERS_GROUP: Final = bytes.fromhex("01005e000002")
_GROUPS: Final = (bytes.fromhex("01005e000001"), bytes.fromhex("01005e00000b"))
"""Ethernet addresses of all systems and of all mobility agents."""
_FOR_US = frozenset({0, 1, 2})
"""PACKET_HOST, _BROADCAST, _MULTICAST."""
_TTL_AT = 8
_SOLICITATION = struct.Struct("!BBHI")
_FILTER: Final = (
    # Classic BPF on the IP header: whole UDP datagrams to port 434 that are no tunnel's, or ICMP 9.
    (0x30, 0, 0, 9),
    (0x15, 0, 7, udp.PROTOCOL),
    (0x28, 0, 0, 6),
    (0x45, 10, 0, 0x3FFF),
    (0xB1, 0, 0, 0),
    (0x48, 0, 0, 2),
    (0x15, 0, 7, MIP_PORT),
    (0x50, 0, 0, 8),
    (0x15, 5, 4, TUNNEL_DATA),
    (0x15, 0, 4, ICMP),
    (0xB1, 0, 0, 0),
    (0x50, 0, 0, 0),
    (0x15, 0, 1, ICMP_ROUTER_ADVERTISEMENT),
    (0x06, 0, 0, MAX_OCTETS),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True, slots=True)
class FromLink:
    """What a station sent: exactly one of ``message`` and ``advertisement`` is not empty."""

    link_address: bytes
    source: Endpoint
    """Port 0 for an advertisement."""
    message: bytes = b""
    """Of UDP to port 434."""
    advertisement: bytes = b""
    """ICMP, with its header."""

    @property
    def source_address(self) -> IPv4Address:
        """Of the packet."""
        return IPv4Address(str(self.source.address))


class LinkListener(PacketSocket):
    """A packet socket on one interface. Raises OSError from the constructor."""

    def __init__(self, interface: str) -> None:
        super().__init__(interface, _FILTER, _GROUPS)

    def read(self, count: Callable[[str], None]) -> Iterator[FromLink]:
        """What waits, up to a bound; what is malformed or came from afar is counted and dropped."""
        for packet in self.packets(count):
            if packet.kind not in _FOR_US:
                continue
            try:
                yield parse(packet.octets, packet.link_address)
            except WireError:
                count("malformed")

    def send(
        self, message: bytes, source: IPv4Address, destination: IPv4Address, link_address: bytes
    ) -> OSError | None:
        """Send from our port 434 to the other's, to a link-layer address; or return why not."""
        ends = Endpoint(source, MIP_PORT), Endpoint(destination, MIP_PORT)
        try:
            # TTL 255 shows the foreign agent that no router was in between (RFC 3024 section 5).
            packet = udp.packet(*ends, message, ttl=255)
        except WireError as error:
            return OSError(errno.EMSGSIZE, str(error))
        return self.send_packet(packet, link_address)

    def solicit(self, source: IPv4Address) -> OSError | None:
        """Ask the mobility agents of the link to advertise themselves (RFC 5944 section 2.4)."""
        body = _SOLICITATION.pack(ICMP_ROUTER_SOLICITATION, 0, 0, 0)
        body = _SOLICITATION.pack(ICMP_ROUTER_SOLICITATION, 0, internet_checksum(body), 0)
        packet = ipv4.build(source, ALL_ROUTERS, ICMP, body, ttl=LINK_TTL)
        return self.send_packet(packet, _ALL_ROUTERS_GROUP)


def parse(octets: bytes, link_address: bytes) -> FromLink:
    """Read a packet of either kind; raises :class:`WireError`."""
    header = ipv4.parse_header(octets)
    if header.protocol == ICMP:
        if octets[_TTL_AT] != LINK_TTL or header.is_fragment:
            raise WireError(f"an agent advertisement with TTL {octets[_TTL_AT]}")
        body = octets[header.header_length : header.total_length]
        return FromLink(link_address, Endpoint(header.source, 0), advertisement=body)
    datagram = udp.parse(octets)
    if not datagram.payload or datagram.destination.port != MIP_PORT:
        raise WireError("no registration message")
    return FromLink(link_address, datagram.source, message=datagram.payload)

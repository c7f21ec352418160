"""What a packet of a tunnel is: which tunnel, and what is inside."""

from dataclasses import dataclass

from gateway.dataplane.packet import gre, ip_ip, minimal, udp_tunnel
from gateway.domain.wire import WireError

_NOT_WHOLE = 0x3FFF
TUNNELS = frozenset((ip_ip.PROTOCOL, gre.PROTOCOL, minimal.PROTOCOL))


@dataclass(slots=True)
class TunnelPacket:
    """A packet taken out of its tunnel."""

    ends: bytes
    """Outer source and destination address."""
    port: int
    """The UDP port that it came from, 0 without UDP."""
    encapsulation: int
    """Protocol number: 4, 47 or 55."""
    inner: bytes
    """Whole, with a right header."""

    @property
    def source(self) -> bytes:
        """Address of the inner packet's sender."""
        return self.inner[12:16]

    @property
    def destination(self) -> bytes:
        """Where the inner packet is going."""
        return self.inner[16:20]


def open_tunnel(packet: bytes) -> TunnelPacket | None:
    """Take a packet out of its tunnel; None when it is no tunnel packet, signalling included.

    ``packet`` begins with an IPv4 header that the kernel has checked. Raises :class:`WireError`
    for a fragment of a tunnel packet and for one whose content is broken.
    """
    if len(packet) < 20:
        raise WireError(f"IPv4 header cut short: {len(packet)} octets")
    start = (packet[0] & 15) * 4
    end = packet[2] << 8 | packet[3]
    if packet[0] >> 4 != 4 or not 20 <= start <= end <= len(packet):
        raise WireError(f"IPv4 header of {start} octets, total length {end}")
    protocol = packet[9]
    if protocol != udp_tunnel.PROTOCOL and protocol not in TUNNELS:
        return None
    if (packet[6] << 8 | packet[7]) & _NOT_WHOLE:
        raise WireError("a fragment of a tunnel packet")
    port = 0
    if protocol == udp_tunnel.PROTOCOL:
        if not udp_tunnel.is_tunnel_data(packet, start):
            return None
        port, protocol, end = udp_tunnel.parse(packet, start, end)
        start += udp_tunnel.OVERHEAD_OCTETS
    return TunnelPacket(packet[12:20], port, protocol, _open(packet, protocol, start, end))


def _open(packet: bytes, protocol: int, start: int, end: int) -> bytes:
    if protocol == ip_ip.PROTOCOL:
        return ip_ip.decapsulate(packet[:end], start)
    if protocol == gre.PROTOCOL:
        return gre.decapsulate(packet, start, end)
    if protocol == minimal.PROTOCOL:
        # In UDP as well, what is not in the forwarding header is that of the outer IP header.
        return minimal.decapsulate(packet, start, end)
    raise WireError(f"next header {protocol} in a tunnel")

"""Takes packets out of tunnels: kind and inner packet."""

from collections.abc import Collection
from typing import Final

from gateway.dataplane.packet import gre, ip_ip, minimal, udp_tunnel
from gateway.dataplane.packet.tunnel_ports import FOU_PORT
from gateway.dataplane.packet.whole import is_left_out
from gateway.dataplane.portable.tunnel_link import TunnelKind
from gateway.domain.checksum import internet_checksum
from gateway.domain.wire import WireError

_NOT_WHOLE: Final = 0x3FFF
_UDP_OCTETS: Final = 8


class NotOpenedError(Exception):
    """The packet is nobody's; ``counter`` says why."""

    def __init__(self, counter: str) -> None:
        super().__init__(counter)
        self.counter = counter


def open_packet(outer: bytes, udp_ports: Collection[int]) -> tuple[TunnelKind, bytes]:
    """The family of the tunnel and the inner packet, whole and with a right header.

    ``outer`` has an IPv4 header that the kernel has checked. Raises :class:`NotOpenedError` for
    what is no tunnel packet, :class:`WireError` for broken ones.
    """
    if len(outer) < 20 or outer[0] >> 4 != 4:
        raise WireError("no IPv4 packet")
    start = (outer[0] & 15) * 4
    end = outer[2] << 8 | outer[3]
    if not 20 <= start <= end <= len(outer):
        raise WireError(f"IPv4 header of {start} octets, total length {end}, {len(outer)} there")
    if (outer[6] << 8 | outer[7]) & _NOT_WHOLE:
        raise WireError("a fragment of a tunnel packet")
    protocol = outer[9]
    if protocol == ip_ip.PROTOCOL:
        return TunnelKind.IP_IP, ip_ip.decapsulate(outer[:end], start)
    if protocol == gre.PROTOCOL:
        return TunnelKind.GRE, gre.decapsulate(outer, start, end)
    if protocol == minimal.PROTOCOL:
        return TunnelKind.MINIMAL, minimal.decapsulate(outer, start, end)
    if protocol == udp_tunnel.PROTOCOL:
        return _open_udp(outer, start, end, udp_ports)
    raise NotOpenedError("no_tunnel")


def _open_udp(
    outer: bytes, start: int, end: int, ports: Collection[int]
) -> tuple[TunnelKind, bytes]:
    if end - start < _UDP_OCTETS:
        raise WireError("UDP header cut short")
    port = outer[start + 2] << 8 | outer[start + 3]
    if port not in ports:
        raise NotOpenedError("no_tunnel")
    if port == FOU_PORT:
        at, end = _payload(outer, start, end)
        return TunnelKind.GRE, gre.decapsulate(outer, at, end)
    _, end = _payload(outer, start, end)
    if end - start <= _UDP_OCTETS or outer[start + _UDP_OCTETS] != udp_tunnel.TUNNEL_DATA:
        # Signalling, which has its own reader.
        raise NotOpenedError("no_tunnel")
    if end - start < udp_tunnel.OVERHEAD_OCTETS:
        raise WireError("tunnel data header cut short")
    if outer[start + 9] != ip_ip.PROTOCOL:
        raise WireError(f"next header {outer[start + 9]} in a UDP tunnel")
    at = start + udp_tunnel.OVERHEAD_OCTETS
    return TunnelKind.MIP_UDP, ip_ip.decapsulate(outer[:end], at)


def _payload(outer: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the payload of the UDP datagram at ``start`` begins and ends; its checksum is right.

    Or not there yet: of a neighbour on the same machine the kernel believes it.
    """
    size = outer[start + 4] << 8 | outer[start + 5]
    if not _UDP_OCTETS <= size <= end - start:
        raise WireError(f"UDP length {size}, {end - start} octets there")
    if any(outer[start + 6 : start + 8]) and not is_left_out(outer, start + 6, size):
        pseudo = outer[12:20] + bytes((0, udp_tunnel.PROTOCOL)) + size.to_bytes(2, "big")
        if internet_checksum(pseudo + outer[start : start + size]):
            raise WireError("UDP checksum is wrong")
    return start + _UDP_OCTETS, start + size

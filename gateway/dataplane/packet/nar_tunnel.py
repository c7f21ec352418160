"""The tunnels between a NAR server and its clients: IP-in-IP, GRE, and errors on their way.

RFC 2003 (what the outer header has, section 3.1; errors, sections 4 and 5.1), RFC 2784.
"""

from dataclasses import dataclass
from typing import Final

from gateway.dataplane.packet import gre, icmp, ip_ip
from gateway.dataplane.packet.icmp import IcmpError
from gateway.dataplane.packet.ipv4 import DONT_FRAGMENT, congestion_marked
from gateway.dataplane.packet.nar_demultiplex import inner_at
from gateway.dataplane.packet.nar_tables import ClientEnd, NarTables
from gateway.dataplane.packet.tunnel_errors import LOWEST_PATH_MTU, PATH_MTU_LIFETIME_S
from gateway.domain.nar import Delivery
from gateway.domain.wire import WireError

DELIVERIES: Final = {ip_ip.PROTOCOL: Delivery.IP_IP, gre.PROTOCOL: Delivery.GRE}
_OVERHEAD: Final = {
    Delivery.IP_IP: ip_ip.OVERHEAD_OCTETS,
    Delivery.GRE: gre.OVERHEAD_OCTETS,
    Delivery.L2TP: 0,
}
"""L2TP is put around packets by the kernel, whose interface has the MTU."""


def overhead_octets(delivery: Delivery) -> int:
    """What the tunnel adds to a packet."""
    return _OVERHEAD[delivery]


def wrap(end: ClientEnd, delivery: Delivery, inner: bytes, identification: int) -> bytes:
    """The packet in the client's tunnel; as it was for L2TP. Raises :class:`WireError`.

    The outer DF is the inner one (RFC 2003 section 3.1).
    """
    flags = (inner[6] << 8 | inner[7]) & DONT_FRAGMENT
    if delivery is Delivery.IP_IP:
        return end.ip_ip.build(inner[1], len(inner), identification, flags) + inner
    if delivery is Delivery.GRE:
        size = len(gre.HEADER) + len(inner)
        return end.gre.build(inner[1], size, identification, flags) + gre.HEADER + inner
    return inner


def unwrap(packet: bytes) -> bytes:
    """What is in a client's tunnel packet. Raises :class:`WireError`.

    A congestion mark of the outer header stays with it (RFC 6040 section 4.2).
    """
    start, end = (packet[0] & 15) * 4, packet[2] << 8 | packet[3]
    if (packet[6] << 8 | packet[7]) & 0x3FFF:
        raise WireError("a fragment of a tunnel packet")
    if packet[9] == ip_ip.PROTOCOL:
        inner = ip_ip.decapsulate(packet[:end], start)
    else:
        inner = gre.decapsulate(packet, start, end)
    if packet[1] & 3 != 3:
        return inner
    marked = congestion_marked(inner)
    if marked is None:
        raise WireError("congestion on the way, and a sender who does not know of ECN")
    return marked


def limit(end: ClientEnd, delivery: Delivery, mtu: int, now: float) -> int:
    """The longest packet for the tunnel; ``mtu`` is that of IP-in-IP without trouble."""
    overhead = _OVERHEAD[delivery]
    if delivery is Delivery.L2TP:
        return 0xFFFF
    longest = mtu + ip_ip.OVERHEAD_OCTETS - overhead
    if now < end.mtu_until:
        longest = min(longest, end.mtu - overhead)
    return longest


@dataclass(frozen=True, slots=True)
class TunnelReport:
    """An ICMP error about a packet that we have put into a client's tunnel."""

    end: ClientEnd
    delivery: Delivery
    inner: bytes | None
    """From its header on; None when the quote does not reach so far."""
    code: int | None
    """Of "destination unreachable", for its sender; None when nothing is told."""
    mtu: int


def report(tables: NarTables, told: IcmpError, now: float) -> TunnelReport | None:
    """What an error to Na means; None when it is about no tunnel of a client.

    A smaller MTU is remembered for :data:`PATH_MTU_LIFETIME_S`, but none that is too small to be
    true.
    """
    quote = told.quote
    end = tables.clients.get(quote[12:20])
    delivery = DELIVERIES.get(quote[9])
    if end is None or delivery is None or (quote[6] << 8 | quote[7]) & 0x1FFF:
        return None
    at = (quote[0] & 15) * 4
    start = inner_at(quote, at)
    if not start:
        return None
    code, mtu = _meaning(told, end, start, now)
    inner: bytes | None = quote[start:]
    if inner is not None and (len(inner) < 28 or (inner[0] & 15) < 5):
        inner = None
    return TunnelReport(end, delivery, inner, code, mtu)


def _meaning(told: IcmpError, end: ClientEnd, overhead: int, now: float) -> tuple[int | None, int]:
    if told.type == icmp.TIME_EXCEEDED:
        return icmp.HOST_UNREACHABLE, 0
    if told.type != icmp.DESTINATION_UNREACHABLE or told.code == icmp.SOURCE_ROUTE_FAILED:
        return None, 0
    if told.code != icmp.FRAGMENTATION_NEEDED:
        return icmp.HOST_UNREACHABLE, 0
    total = told.quote[2] << 8 | told.quote[3]
    if not told.quote[6] & 0x40 or not LOWEST_PATH_MTU <= told.mtu < total:
        return None, 0
    if told.mtu <= end.mtu or now >= end.mtu_until:
        end.mtu, end.mtu_until = told.mtu, now + PATH_MTU_LIFETIME_S
    return icmp.FRAGMENTATION_NEEDED, told.mtu - overhead

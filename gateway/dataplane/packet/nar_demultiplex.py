"""Whose packet is it? The tuples of draft 004, section 2.6, read from octets.

:func:`arriving` reads a packet as its receiver does, :func:`sent` the same tuple backwards, as its
sender does. Both work on what an ICMP error quotes, too.
"""

from typing import Final

from gateway.dataplane.packet import gre, icmp, ip_ip
from gateway.dataplane.packet.nar_tables import Entry, TupleTable
from gateway.domain.nar import NarProtocol

_TCP: Final = int(NarProtocol.TCP)
_UDP: Final = int(NarProtocol.UDP)
_ESP: Final = int(NarProtocol.ESP)
_AH: Final = int(NarProtocol.AH)
_ECHO: Final = (0, 8)
"""Reply and request."""
_SHORTEST: Final = {
    icmp.PROTOCOL: 8,
    ip_ip.PROTOCOL: 20,
    _TCP: 20,
    _UDP: 8,
    gre.PROTOCOL: 24,
    _ESP: 8,
    _AH: 12,
}
"""Octets behind the IP header of a packet that is whole."""
_OFFSET: Final = 0x1FFF
_GRE_CHECKSUM, _GRE_KEY, _GRE_SEQUENCE = 0x80, 0x20, 0x10
_GRE_REFUSED: Final = 0x4C
"""Routing, and what RFC 2784 tells receivers to refuse."""


def payload_at(packet: bytes) -> int:
    """Where the IPv4 header ends; 0 for a later fragment and for a broken header."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or (packet[6] << 8 | packet[7]) & _OFFSET:
        return 0
    at = (packet[0] & 15) * 4
    return at if 20 <= at < len(packet) else 0


def is_whole(packet: bytes, at: int) -> bool:
    """Whether the header behind the IP header is all there; false for other protocols."""
    shortest = _SHORTEST.get(packet[9])
    return shortest is not None and at + shortest <= packet[2] << 8 | packet[3] <= len(packet)


def arriving(table: TupleTable, packet: bytes, *, quoted: bool = False) -> Entry | None:
    """The mapping that the packet belongs to by its destination.

    ``quoted``: the end of it may lack, eight octets behind the header are enough where they tell.
    """
    at = payload_at(packet)
    if not at or not (quoted or is_whole(packet, at)):
        return None
    protocol = packet[9]
    if protocol in (_TCP, _UDP):
        if len(packet) < at + 4:
            return None
        return _by_ports(table, protocol, packet[12:20], packet[at : at + 4])
    if protocol == icmp.PROTOCOL:
        return _echo(table, packet, at, packet[12:20])
    if protocol in (_ESP, _AH):
        spi = packet[at : at + 4] if protocol == _ESP else packet[at + 4 : at + 8]
        return table.ipsec.get(packet[9:10] + packet[16:20] + spi)
    ends = packet[9:10] + packet[12:20]
    inner = inner_at(packet, at)
    if inner and len(packet) >= inner + 20:
        return table.tunnels.get(ends + packet[inner + 16 : inner + 20])
    return table.tunnel_ends.only(ends) if quoted and inner else None


def sent(
    table: TupleTable, packet: bytes, client: bytes | None = None, *, quoted: bool = False
) -> Entry | None:
    """The mapping that the packet belongs to by its source: what answers it belongs to it.

    IPsec packets do not tell their mapping: one of ``client``, as
    :func:`~gateway.dataplane.packet.nar_tables.way` has it, with the peer is found; without
    ``client`` the mapping with the peer, if all of these are of one client.
    """
    at = payload_at(packet)
    if not at or not (quoted or is_whole(packet, at)):
        return None
    protocol = packet[9]
    backwards = packet[16:20] + packet[12:16]
    if protocol in (_TCP, _UDP):
        if len(packet) < at + 4:
            return None
        ports = packet[at + 2 : at + 4] + packet[at : at + 2]
        return _by_ports(table, protocol, backwards, ports)
    if protocol == icmp.PROTOCOL:
        return _echo(table, packet, at, backwards)
    if protocol in (_ESP, _AH):
        return _ipsec_sent(table, packet, client)
    ends = packet[9:10] + backwards
    inner = inner_at(packet, at)
    if inner and len(packet) >= inner + 20:
        return table.tunnels.get(ends + packet[inner + 12 : inner + 16])
    return table.tunnel_ends.only(ends) if quoted and inner else None


def _by_ports(table: TupleTable, protocol: int, ends: bytes, ports: bytes) -> Entry | None:
    """``ends`` and ``ports``: the remote's first."""
    if protocol == _UDP:
        return table.udp_exact.get(ends[4:] + ports) or table.udp_any.get(ends[4:] + ports[2:])
    return (
        table.tcp_exact.get(ends + ports)
        or table.tcp_remote.get(ends + ports[2:])
        or table.tcp_any.get(ends[4:] + ports[2:])
    )


def _echo(table: TupleTable, packet: bytes, at: int, ends: bytes) -> Entry | None:
    if packet[at] not in _ECHO or len(packet) < at + 6:
        return None
    return table.icmp.get(ends + packet[at + 4 : at + 6])


def _ipsec_sent(table: TupleTable, packet: bytes, client: bytes | None) -> Entry | None:
    source, peer = packet[9:10] + packet[12:16], packet[16:20]
    if client is not None:
        of_client = table.ipsec_of_client
        return of_client.get(source + client + peer) or of_client.get(source + client)
    found = table.ipsec_with_peer.get(source + peer)
    if found is not None:
        return table.ipsec_with_peer.only(source + peer)
    return table.ipsec_with_peer.only(source)


def inner_at(packet: bytes, at: int) -> int:
    """Where the packet inside of IP-in-IP or GRE begins; 0 for other protocols and broken GRE.

    Options of GRE are passed over, but for routing (section 2.6.3).
    """
    if packet[9] == ip_ip.PROTOCOL:
        inner = at
    elif packet[9] == gre.PROTOCOL:
        flags = packet[at]
        if len(packet) < at + 4 or flags & _GRE_REFUSED or packet[at + 1] & 7:
            return 0
        if packet[at + 2] != 8 or packet[at + 3]:
            return 0
        inner = at + 4
        inner += 4 if flags & _GRE_CHECKSUM else 0
        inner += 4 if flags & _GRE_KEY else 0
        inner += 4 if flags & _GRE_SEQUENCE else 0
    else:
        return 0
    if len(packet) > inner and packet[inner] >> 4 != 4:
        return 0
    return inner

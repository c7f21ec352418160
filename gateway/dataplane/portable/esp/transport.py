"""Transport mode: ESP between the IP header of a packet and what it carried (RFC 4303 3.1.1)."""

from typing import Final

from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.portable.esp.outer import ESP, LONGEST, UDP, with_udp6
from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import Endpoint

_NOT_WHOLE: Final = 0x3FFF
_TCP: Final = 6
_IPV6_HEADER: Final = 40


def upper_layer_of(packet: bytes, version: int) -> tuple[bytes, int] | None:
    """What the IP header is followed by, and its protocol; None for a fragment.

    IPv6 extension headers are protected like the rest.
    """
    if version == 4:
        if (packet[6] << 8 | packet[7]) & _NOT_WHOLE:
            return None
        return packet[(packet[0] & 15) * 4 : packet[2] << 8 | packet[3]], packet[9]
    end = _IPV6_HEADER + (packet[4] << 8 | packet[5])
    return packet[_IPV6_HEADER:end], packet[6]


class TransportOuter:
    """Makes the outer packets of one SA: the inner packet's header stays."""

    __slots__ = ("_ports",)

    def __init__(self, local: Endpoint, remote: Endpoint, *, udp: bool) -> None:
        self._ports = local.port.to_bytes(2, "big") + remote.port.to_bytes(2, "big") if udp else b""

    def wrap(self, inner: bytes, version: int, header: bytes, sealed: bytes) -> bytes | None:
        """See :meth:`gateway.dataplane.portable.esp.outer.Outer.wrap`."""
        esp, protocol = header + sealed, ESP
        if version == 6:
            if self._ports:
                esp, protocol = with_udp6(inner[8:40], self._ports, esp), UDP
            if len(esp) > LONGEST:
                return None
            rest = len(esp).to_bytes(2, "big") + bytes((protocol,)) + inner[7:_IPV6_HEADER]
            return inner[:4] + rest + esp
        if self._ports:
            esp = self._ports + (len(esp) + 8).to_bytes(2, "big") + b"\0\0" + esp
            protocol = UDP
        length = (inner[0] & 15) * 4
        total = length + len(esp)
        if total > LONGEST:
            return None
        head = inner[:2] + total.to_bytes(2, "big") + inner[4:9] + bytes((protocol, 0, 0))
        return head + inner[12:length] + esp


def unwrapped(packet: bytes, start: int, payload: bytes, protocol: int) -> bytes:
    """The packet before ESP: ``packet`` is the outer one, with its IP header up to ``start``."""
    if packet[0] >> 4 == 6:
        rest = len(payload).to_bytes(2, "big") + bytes((protocol,)) + packet[7:_IPV6_HEADER]
        return packet[:4] + rest + payload
    total = start + len(payload)
    head = packet[:2] + total.to_bytes(2, "big") + packet[4:9] + bytes((protocol, 0, 0))
    return with_checksum(head + packet[12:start]) + payload


def behind_nat(payload: bytes, protocol: int, ends: bytes) -> bytes:
    """With a checksum that fits the addresses ``ends``, which a NAT has changed (RFC 3948 3.1.2).

    The ICV has said that the octets are those that were sent.
    """
    at = {_TCP: 16, UDP: 6}.get(protocol)
    if at is None or len(payload) < at + 2 or (protocol == UDP and payload[6:8] == b"\0\0"):
        return payload
    bare = payload[:at] + b"\0\0" + payload[at + 2 :]
    size = len(payload)
    if len(ends) == 8:
        pseudo = ends + bytes((0, protocol)) + size.to_bytes(2, "big")
    else:
        pseudo = ends + size.to_bytes(4, "big") + protocol.to_bytes(4, "big")
    checksum = internet_checksum(pseudo + bare)
    if protocol == UDP:
        checksum = checksum or 0xFFFF
    return payload[:at] + checksum.to_bytes(2, "big") + payload[at + 2 :]

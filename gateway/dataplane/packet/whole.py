"""Packets as a wire would carry them, made of what Linux keeps unfinished on its way inside.

The kernel leaves transport checksums to the interface that sends (the field then holds the sum of
the pseudo header), and puts TCP segments of a flow together (GRO). Raw sockets and packet logs see
both. What has a sum of its own is left as it is.
"""

from typing import Final

from gateway.dataplane.packet.ipv4 import MORE_FRAGMENTS, OFFSET_MASK, with_checksum
from gateway.domain.checksum import internet_checksum

_TCP, _UDP = 6, 17
_CHECKSUM_AT: Final = {_TCP: 16, _UDP: 6}
LONGEST_ALONE: Final = 1500
"""Octets of a packet that is taken for one: longer ones without a checksum are several."""
SEGMENT_OCTETS: Final = 536
"""Of TCP in each of several (RFC 9293 section 3.7.1): their true size is not told, and what was
sent with less must not become more."""
_FIN_PSH: Final = 0x09
_CWR: Final = 0x80


def whole(packet: bytes) -> list[bytes]:
    """The packet, or the packets, with right checksums. Mostly the packet itself.

    It is IPv4 with a right header.
    """
    at_checksum = _CHECKSUM_AT.get(packet[9])
    if at_checksum is None or (packet[6] << 8 | packet[7]) & (MORE_FRAGMENTS | OFFSET_MASK):
        return [packet]
    start = (packet[0] & 15) * 4
    at = start + at_checksum
    if at + 2 > len(packet) or not is_left_out(packet, at, len(packet) - start):
        return [packet]
    if packet[9] == _TCP and len(packet) > LONGEST_ALONE:
        return _segments(packet, start)
    return [_summed(packet, start, at)]


def is_left_out(packet: bytes, at: int, size: int) -> bool:
    """Whether the checksum ``at`` is just that of the pseudo header, for ``size`` octets."""
    number = (packet[at] << 8 | packet[at + 1]) - packet[9] - size
    return not (number - int.from_bytes(packet[12:20], "big")) % 0xFFFF and any(packet[at : at + 2])


def _summed(packet: bytes, start: int, at: int) -> bytes:
    size = len(packet) - start
    bare = packet[:at] + b"\0\0" + packet[at + 2 :]
    pseudo = packet[12:20] + bytes((0, packet[9])) + size.to_bytes(2, "big")
    found = internet_checksum(pseudo + bare[start:]) or (0xFFFF if packet[9] == _UDP else 0)
    return packet[:at] + found.to_bytes(2, "big") + packet[at + 2 :]


def _segments(packet: bytes, start: int) -> list[bytes]:
    """TCP that was put together, in pieces that go anywhere."""
    length = (packet[start + 12] >> 4) * 4
    data = start + length
    if length < 20 or data > len(packet):
        return [_summed(packet, start, start + _CHECKSUM_AT[_TCP])]
    sequence = int.from_bytes(packet[start + 4 : start + 8], "big")
    identification = packet[4] << 8 | packet[5]
    made = []
    for number, at in enumerate(range(data, len(packet), SEGMENT_OCTETS)):
        payload = packet[at : at + SEGMENT_OCTETS]
        flags = packet[start + 13]
        if at + SEGMENT_OCTETS < len(packet):
            flags &= ~_FIN_PSH
        if number:
            flags &= ~_CWR
        transport = b"".join(
            (
                packet[start : start + 4],
                (sequence + at - data & 0xFFFF_FFFF).to_bytes(4, "big"),
                packet[start + 8 : start + 13],
                bytes((flags,)),
                packet[start + 14 : data],
            )
        )
        total = data + len(payload)
        header = b"".join(
            (
                packet[:2],
                total.to_bytes(2, "big"),
                (identification + number & 0xFFFF).to_bytes(2, "big"),
                packet[6:start],
            )
        )
        one = with_checksum(header) + transport + payload
        made.append(_summed(one, start, start + _CHECKSUM_AT[_TCP]))
    return made

"""What IGMP reports say about memberships (RFC 1112, RFC 2236, RFC 3376)."""

from typing import Final

from gateway.dataplane.packet.ipv4 import parse_header
from gateway.domain.checksum import internet_checksum
from gateway.domain.wire import WireError

PROTOCOL: Final = 2
MAX_RECORDS: Final = 64
_V1_REPORT, _V2_REPORT, _V2_LEAVE, _V3_REPORT = 0x12, 0x16, 0x17, 0x22
_MODE_INCLUDE, _TO_INCLUDE = 1, 3
_ALLOW, _BLOCK = 5, 6
_LINK_LOCAL: Final = b"\xe0\0\0"
"""224.0.0.0/24 is on the link for everyone and never reported."""


def membership_changes(packet: bytes) -> list[tuple[bytes, bool]]:
    """Groups and whether the sender wants them from now on, in the order told.

    Who asks for some sources of a group only gets all of it. Queries tell nothing.
    Raises :class:`WireError` for a wrong checksum, broken lengths, or too many records.
    """
    header = parse_header(packet)
    message = packet[header.header_length : header.total_length]
    if header.is_fragment or len(message) < 8:
        raise WireError(f"IGMP message of {len(message)} octets")
    if internet_checksum(message):
        raise WireError("IGMP checksum is wrong")
    kind = message[0]
    if kind in (_V1_REPORT, _V2_REPORT):
        found = [(message[4:8], True)]
    elif kind == _V2_LEAVE:
        found = [(message[4:8], False)]
    elif kind == _V3_REPORT:
        found = _records(message)
    else:
        found = []
    return [
        (group, joined)
        for group, joined in found
        if 224 <= group[0] < 240 and group[:3] != _LINK_LOCAL
    ]


def _records(message: bytes) -> list[tuple[bytes, bool]]:
    count = message[6] << 8 | message[7]
    if count > MAX_RECORDS:
        raise WireError(f"IGMP report of {count} groups")
    found: list[tuple[bytes, bool]] = []
    at = 8
    for _ in range(count):
        if len(message) - at < 8:
            raise WireError("IGMP group record cut short")
        kind, auxiliary = message[at], message[at + 1]
        sources = message[at + 2] << 8 | message[at + 3]
        size = 8 + 4 * sources + 4 * auxiliary
        if len(message) - at < size:
            raise WireError("IGMP group record cut short")
        if kind in (_MODE_INCLUDE, _TO_INCLUDE):
            found.append((message[at + 4 : at + 8], sources > 0))
        elif kind != _BLOCK and (kind != _ALLOW or sources):
            found.append((message[at + 4 : at + 8], True))
        at += size
    return found

"""Translated NAR: addresses and ports exchanged, checksums with them (draft 004, section 2.4).

RFC 3022 section 4; ICMP errors as its section 4.3 and RFC 5508 section 4 ask.
"""

from typing import Final

from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.packet.nar_tables import Entry
from gateway.domain.checksum import difference, internet_checksum, updated

_UDP: Final = 17
_CHECKSUM_AT: Final = {6: 16, _UDP: 6}
_OFFSET: Final = 0x1FFF


def to_client(packet: bytes, entry: Entry) -> bytes:
    """A packet for Nb with the client's own address and port as its destination.

    Tunnel packets come from Na then, as the draft draws it (section 2.6.3).
    """
    tunnel = entry.mapping.tuple.protocol.is_tunnel
    source = entry.end.local if tunnel else packet[12:16]
    return rewritten(packet, source + entry.end.address, destination_port=_client_port(entry))


def destination_to_client(packet: bytes, entry: Entry) -> bytes:
    """As :func:`to_client`, but the source stays, even that of tunnel packets."""
    ends = packet[12:16] + entry.end.address
    return rewritten(packet, ends, destination_port=_client_port(entry))


def from_client(packet: bytes, entry: Entry) -> bytes:
    """A packet of the client with Nb and the leased port as its source."""
    tunnel = entry.mapping.tuple.protocol.is_tunnel
    destination = entry.remote if tunnel else packet[16:20]
    return rewritten(packet, entry.address + destination, source_port=_leased_port(entry))


def error_to_client(packet: bytes, entry: Entry) -> bytes:
    """An ICMP error to Nb that quotes what the client sent: both as the client knows them.

    Its checksum was right, as :func:`~gateway.dataplane.packet.icmp.parse_error` has found.
    """
    tunnel = entry.mapping.tuple.protocol.is_tunnel
    quote = _quote(packet)
    destination = entry.end.local if tunnel else quote[16:20]
    quote = rewritten(quote, entry.end.address + destination, source_port=_client_port(entry))
    return _requoted(packet, packet[12:16] + entry.end.address, quote)


def error_from_client(packet: bytes, entry: Entry) -> bytes:
    """An ICMP error of the client, or of a router on the way to it, as the outside may see it.

    It comes from Nb: addresses inside mean nothing outside (RFC 5508 section 4.2).
    """
    source = _quoted_source(entry, _quote(packet))
    return _requoted(packet, entry.address + source, _quote_outside(packet, entry))


def error_quoted_outside(packet: bytes, entry: Entry) -> bytes:
    """As :func:`error_from_client`, but its source stays: another writes Nb."""
    source = _quoted_source(entry, _quote(packet))
    return _requoted(packet, packet[12:16] + source, _quote_outside(packet, entry))


def with_quoted_destination(packet: bytes, entry: Entry) -> bytes:
    """An ICMP error of our own host that quotes Nb again where it quotes Xa."""
    return _requoted(packet, packet[12:20], _quote_outside(packet, entry))


def own_error_to_client(packet: bytes, entry: Entry) -> bytes:
    """An ICMP error of our own host about what a client sent, in its tunnel: it comes from Na.

    Our host may have said it from Nb, which is the client's own address: no host believes that.
    """
    if packet[12:16] != entry.address:
        return packet
    return rewritten(packet, entry.end.local + packet[16:20])


def rewritten(
    packet: bytes,
    ends: bytes,
    *,
    source_port: bytes | None = None,
    destination_port: bytes | None = None,
) -> bytes:
    """The packet with these addresses and ports; its end may lack.

    A UDP checksum of 0 is none and stays (RFC 768); ports are only in first fragments.
    """
    length = (packet[0] & 15) * 4
    change = difference(packet[12:20], ends)
    checksum = updated(packet[10] << 8 | packet[11], change)
    head = packet[:10] + checksum.to_bytes(2, "big") + ends + packet[20:length]
    into = _CHECKSUM_AT.get(packet[9])
    body = packet[length:]
    if into is None or (packet[6] << 8 | packet[7]) & _OFFSET or len(body) < 4:
        return head + body
    ports = (source_port or body[:2]) + (destination_port or body[2:4])
    old = int.from_bytes(body[into : into + 2], "big")
    if len(body) < into + 2 or (packet[9] == _UDP and old == 0):
        return head + ports + body[4:]
    change = difference(packet[12:20] + body[:4], ends + ports)
    new = updated(old, change)
    if packet[9] == _UDP:
        new = new or 0xFFFF
    return head + ports + body[4:into] + new.to_bytes(2, "big") + body[into + 2 :]


def _client_port(entry: Entry) -> bytes | None:
    """What takes the place of the leased port; None where nothing does."""
    port = entry.mapping.client_port
    return port.to_bytes(2, "big") if port and entry.mapping.tuple.protocol.has_ports else None


def _leased_port(entry: Entry) -> bytes | None:
    if not entry.mapping.client_port or not entry.mapping.tuple.protocol.has_ports:
        return None
    return entry.mapping.tuple.value.to_bytes(2, "big")


def _quote(packet: bytes) -> bytes:
    return packet[(packet[0] & 15) * 4 + 8 : packet[2] << 8 | packet[3]]


def _quoted_source(entry: Entry, quote: bytes) -> bytes:
    """Yb, also where a translated client sees Na in its place (section 2.6.3)."""
    tunnel = entry.mapping.tuple.protocol.is_tunnel
    return entry.remote if tunnel else quote[12:16]


def _quote_outside(packet: bytes, entry: Entry) -> bytes:
    """What the error quotes, as it came from outside."""
    quote = _quote(packet)
    ends = _quoted_source(entry, quote) + entry.address
    return rewritten(quote, ends, destination_port=_leased_port(entry))


def _requoted(packet: bytes, ends: bytes, quote: bytes) -> bytes:
    """The error between other addresses, about another packet of the same length."""
    length = (packet[0] & 15) * 4
    message = packet[length : length + 2] + b"\0\0" + packet[length + 4 : length + 8] + quote
    message = message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]
    return with_checksum(packet[:12] + ends + packet[20:length]) + message

"""What one login brings: home addresses, and tickets for their home agents (notify 41204).

The device asks with an empty notify, the gateway answers with this. No key is in it: both sides
derive the keys from the IKE SA.

    version (1 octet), count (1), then for each
    flags (1): bit 0 set, the home agent is the inside one; the others are 0
    length of the home network's prefix (1)
    home agent (4), home address (4), SPI (4), lifetime of the ticket in seconds (4)
    length of the ticket (1), ticket
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from gateway.domain.mobility_credential import MobilityGrant
from gateway.domain.wire import Reader, WireError

VERSION = 1
MAX_GRANTS = 8
MAX_TICKET_OCTETS = 247
"""What a device can show to a home agent: an extension of Mobile IP carries no more."""
MAX_OCTETS = 2 + MAX_GRANTS * (19 + MAX_TICKET_OCTETS)
FIRST_SPI = 256
_GRANT = struct.Struct("!BBIIIIB")
_INSIDE = 1


@dataclass(frozen=True, slots=True)
class TicketedGrant:
    """One home address with what it takes to register it, all but the key."""

    grant: MobilityGrant
    spi: int
    lifetime_s: int
    """Of the ticket."""
    ticket: bytes = field(repr=False)


def serialize(grants: Sequence[TicketedGrant]) -> bytes:
    """The notify's data.

    Raises:
        ValueError: more grants, or a longer ticket, than fit.
    """
    if not 1 <= len(grants) <= MAX_GRANTS:
        raise ValueError(f"{len(grants)} grants; 1 to {MAX_GRANTS} are allowed")
    parts = [bytes([VERSION, len(grants)])]
    for one in grants:
        if not 1 <= len(one.ticket) <= MAX_TICKET_OCTETS:
            size = len(one.ticket)
            raise ValueError(f"ticket of {size} octets; 1 to {MAX_TICKET_OCTETS} are allowed")
        grant = one.grant
        parts.append(
            _GRANT.pack(
                _INSIDE if grant.inside else 0,
                grant.home_network.prefixlen,
                int(grant.home_agent),
                int(grant.home_address),
                one.spi,
                one.lifetime_s,
                len(one.ticket),
            )
        )
        parts.append(one.ticket)
    return b"".join(parts)


def parse(octets: bytes) -> tuple[TicketedGrant, ...]:
    """Read the notify's data. What makes no sense for a device is not judged here.

    Raises:
        WireError: it breaks the format, or is longer than it can be.
    """
    if len(octets) > MAX_OCTETS:
        raise WireError(f"mobility grants of {len(octets)} octets")
    reader = Reader(octets)
    version, count = reader.u8(), reader.u8()
    if version != VERSION:
        raise WireError(f"mobility grants of version {version}")
    if not 1 <= count <= MAX_GRANTS:
        raise WireError(f"{count} mobility grants")
    found = tuple(_parse_one(reader) for _ in range(count))
    reader.finish()
    return found


def _parse_one(reader: Reader) -> TicketedGrant:
    flags, prefix, agent, home, spi, lifetime_s, size = _GRANT.unpack(reader.take(_GRANT.size))
    if flags & ~_INSIDE or prefix > 32 or not 1 <= size <= MAX_TICKET_OCTETS:
        raise WireError(f"mobility grant with flags {flags}, prefix {prefix}, ticket of {size}")
    if spi < FIRST_SPI:
        raise WireError(f"mobility grant with the reserved SPI {spi}")
    network = IPv4Network((home, prefix), strict=False)
    grant = MobilityGrant(bool(flags), IPv4Address(agent), IPv4Address(home), network)
    return TicketedGrant(grant, spi, lifetime_s, reader.take(size))

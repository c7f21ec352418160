"""Tickets: what one login tells a home agent, sealed by the gateway (draft 002, section 4.2.1).

The gateway and the home agent share a key. A device's login at the gateway makes a mobility
security association; the ticket holds it, and the device, to whom it is opaque, shows the ticket
with each registration. So the home agent knows of the login without a word from the gateway.

On the wire: version (1 octet), name of the sealing key (4), nonce (12), then AES-256-GCM over the
fields below with all of that as associated data.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.domain.wire import WireError
from gateway.mip_agents.codec.numbers import FIRST_SPI
from gateway.mip_agents.codec.ticket import MAX_TICKET_OCTETS

VERSION = 1
MOBILE_HOME_HMAC_SHA256 = 1
"""The purpose: a key between a mobile node and its home agent, for HMAC-SHA2-256."""
KEY_OCTETS = 32
MIN_SEALING_KEY_OCTETS = 16
_NAME = struct.Struct("!B4s12s")
_FIELDS = struct.Struct("!BQQIII32s")
_TAG_OCTETS = 16
MAX_IDENTITY_OCTETS = MAX_TICKET_OCTETS - _NAME.size - _FIELDS.size - _TAG_OCTETS
"""Longer identities cannot be given home addresses."""
_SEALING, _NAMING = b"gateway mobility ticket: sealing key", b"gateway mobility ticket: key name"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket says."""

    identity: str
    """Who logged in, as the gateway proved it."""
    home_agent: IPv4Address
    home_address: IPv4Address
    spi: int
    key: bytes = field(repr=False)
    issued_at_us: int
    """Microseconds since 1970 by the gateway's clock. Of two tickets, the newer login's wins."""
    expires_at_s: int
    """Seconds since 1970."""
    purpose: int = MOBILE_HOME_HMAC_SHA256


class TicketBox:
    """Seals tickets with the first of its keys, and opens those sealed with any of them."""

    __slots__ = ("_ciphers", "_random", "_seals_with")

    def __init__(self, keys: Sequence[bytes], random: Callable[[int], bytes]) -> None:
        """``keys`` are secrets of 16 octets or more, the newest first."""
        if not keys or any(len(key) < MIN_SEALING_KEY_OCTETS for key in keys):
            raise ValueError(f"a ticket key needs {MIN_SEALING_KEY_OCTETS} octets or more")
        self._random = random
        self._ciphers = {_name(key): AESGCM(sha256(_SEALING + key).digest()) for key in keys}
        self._seals_with = _name(keys[0])

    def __repr__(self) -> str:
        return f"TicketBox({len(self._ciphers)} keys)"

    def __eq__(self, other: object) -> bool:
        """Whether both open the same tickets and seal with the same key."""
        if not isinstance(other, TicketBox):
            return NotImplemented
        return (self._seals_with, set(self._ciphers)) == (other._seals_with, set(other._ciphers))

    def __hash__(self) -> int:
        return hash(self._seals_with)

    def seal(self, ticket: Ticket) -> bytes:
        """The ticket's octets, at most :data:`MAX_TICKET_OCTETS`.

        Raises:
            ValueError: a field is out of its bounds.
        """
        identity = ticket.identity.encode()
        if not 1 <= len(identity) <= MAX_IDENTITY_OCTETS:
            raise ValueError(f"identity of {len(identity)} octets; 1 to {MAX_IDENTITY_OCTETS}")
        if len(ticket.key) != KEY_OCTETS or ticket.spi < FIRST_SPI:
            raise ValueError(f"a key of {KEY_OCTETS} octets and an SPI from {FIRST_SPI} are needed")
        name = _NAME.pack(VERSION, self._seals_with, self._random(12))
        fields = _FIELDS.pack(
            ticket.purpose,
            ticket.issued_at_us,
            ticket.expires_at_s,
            int(ticket.home_agent),
            int(ticket.home_address),
            ticket.spi,
            ticket.key,
        )
        cipher = self._ciphers[self._seals_with]
        return name + cipher.encrypt(name[5:], fields + identity, name)

    def open(self, octets: bytes) -> Ticket:
        """What a ticket says, if one of our keys sealed it.

        Raises:
            WireError: it is no ticket, of no key of ours, or was changed.
        """
        shortest = _NAME.size + _FIELDS.size + 1 + _TAG_OCTETS
        if not shortest <= len(octets) <= MAX_TICKET_OCTETS:
            raise WireError(f"ticket of {len(octets)} octets")
        version, key_name, nonce = _NAME.unpack_from(octets)
        if version != VERSION:
            raise WireError(f"ticket of version {version}")
        cipher = self._ciphers.get(key_name)
        if cipher is None:
            raise WireError("ticket sealed with a key that is not known here")
        try:
            plain = cipher.decrypt(nonce, octets[_NAME.size :], octets[: _NAME.size])
        except InvalidTag:
            raise WireError("ticket that was changed") from None
        return _read(plain)


def _read(plain: bytes) -> Ticket:
    purpose, issued, expires, agent, home, spi, key = _FIELDS.unpack_from(plain)
    try:
        identity = plain[_FIELDS.size :].decode()
    except UnicodeDecodeError:
        raise WireError("ticket whose identity is no text") from None
    if purpose != MOBILE_HOME_HMAC_SHA256 or spi < FIRST_SPI:
        raise WireError(f"ticket for purpose {purpose}, SPI {spi}")
    return Ticket(
        identity, IPv4Address(agent), IPv4Address(home), spi, key, issued, expires, purpose
    )


def _name(key: bytes) -> bytes:
    return sha256(_NAMING + key).digest()[:4]

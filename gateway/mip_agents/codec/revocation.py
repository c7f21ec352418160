"""Registration revocation between agents (RFC 3543 sections 3.3 and 3.4)."""

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Self

from gateway.mip_agents.codec.extensions import Extension
from gateway.mip_agents.codec.message import Extended, check_header, join
from gateway.mip_agents.codec.numbers import MessageType
from gateway.mip_agents.codec.reading import read_extensions

_REVOCATION = struct.Struct("!BBHIIII")
_ACKNOWLEDGMENT = struct.Struct("!BBHII")
_FROM_HOME_AGENT = 0x8000
_INFORM = 0x4000
_ACKNOWLEDGED_INFORM = 0x8000


@dataclass(frozen=True, slots=True)
class Revocation(Extended):
    """A binding has ended before its time (RFC 3543 section 3.3)."""

    home_address: IPv4Address
    """Whose binding it was."""
    home_domain_address: IPv4Address
    """The home agent's."""
    foreign_domain_address: IPv4Address
    """The care-of address."""
    identifier: int
    """32 bits of the sender's clock, the same as in its revocation support extensions: it
    protects against replays and comes back in the acknowledgment (RFC 3543 section 3.5)."""
    from_home_agent: bool = False
    """A: the home agent sent it; a foreign agent leaves it 0."""
    inform: bool = False
    """I, only where both agents can: the mobile node should be told, or, from a foreign agent,
    whether it should be."""
    extensions: tuple[Extension, ...] = ()
    octets: bytes = field(default=b"", compare=False, repr=False)
    """As received."""

    @classmethod
    def parse(cls, octets: bytes, tolerate: frozenset[int] = frozenset()) -> Self:
        """Read the payload of a UDP datagram.

        Raises:
            UnknownExtensionError: it has an extension that may not be skipped.
            WireError: it is no revocation, or breaks its format.
        """
        check_header(octets, MessageType.REVOCATION, _REVOCATION.size)
        _, _, flags, home, agent, care_of, identifier = _REVOCATION.unpack_from(octets)
        return cls(
            IPv4Address(home),
            IPv4Address(agent),
            IPv4Address(care_of),
            identifier,
            bool(flags & _FROM_HOME_AGENT),
            bool(flags & _INFORM),
            read_extensions(octets, _REVOCATION.size, tolerate),
            octets,
        )

    def serialize(self) -> bytes:
        """The octets of the fields and extensions."""
        header = _REVOCATION.pack(
            MessageType.REVOCATION,
            0,
            self.from_home_agent * _FROM_HOME_AGENT | self.inform * _INFORM,
            int(self.home_address),
            int(self.home_domain_address),
            int(self.foreign_domain_address),
            self.identifier,
        )
        return join(header, self.extensions)


@dataclass(frozen=True, slots=True)
class RevocationAcknowledgment(Extended):
    """A revocation was heeded (RFC 3543 section 3.4)."""

    home_address: IPv4Address
    identifier: int
    """Of the revocation."""
    inform: bool = False
    """I: the mobile node was told."""
    extensions: tuple[Extension, ...] = ()
    octets: bytes = field(default=b"", compare=False, repr=False)
    """As received."""

    @classmethod
    def parse(cls, octets: bytes, tolerate: frozenset[int] = frozenset()) -> Self:
        """Read the payload of a UDP datagram.

        Raises:
            UnknownExtensionError: it has an extension that may not be skipped.
            WireError: it is no acknowledgment of a revocation, or breaks its format.
        """
        check_header(octets, MessageType.REVOCATION_ACKNOWLEDGMENT, _ACKNOWLEDGMENT.size)
        _, _, flags, home, identifier = _ACKNOWLEDGMENT.unpack_from(octets)
        return cls(
            IPv4Address(home),
            identifier,
            bool(flags & _ACKNOWLEDGED_INFORM),
            read_extensions(octets, _ACKNOWLEDGMENT.size, tolerate),
            octets,
        )

    def serialize(self) -> bytes:
        """The octets of the fields and extensions."""
        header = _ACKNOWLEDGMENT.pack(
            MessageType.REVOCATION_ACKNOWLEDGMENT,
            0,
            self.inform * _ACKNOWLEDGED_INFORM,
            int(self.home_address),
            self.identifier,
        )
        return join(header, self.extensions)

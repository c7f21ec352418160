"""Registration requests and replies (RFC 5944 sections 3.3 and 3.4).

Both are made and read without regard to authenticators: see
:mod:`gateway.mip_agents.authentication`.
"""

import enum
import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Self

from gateway.mip_agents.codec.extensions import Extension
from gateway.mip_agents.codec.message import Extended, check_header, join
from gateway.mip_agents.codec.numbers import MessageType
from gateway.mip_agents.codec.reading import read_extensions

_REQUEST = struct.Struct("!BBHIIIQ")
_REPLY = struct.Struct("!BBHIIQ")


class RequestFlag(enum.IntFlag):
    """What the mobile node asks for: the second octet of a request."""

    SIMULTANEOUS = 0x80
    """S: keep the other care-of addresses."""
    BROADCASTS = 0x40
    """B"""
    CO_LOCATED = 0x20
    """D: the mobile node decapsulates."""
    MINIMAL = 0x10
    """M"""
    GRE = 0x08
    """G"""
    RESERVED = 0x04
    """r: 0 when sent, whatever it is when received."""
    REVERSE = 0x02
    """T: reverse tunnelling (RFC 3024)."""
    RESERVED_LAST = 0x01
    """x: 0 when sent, whatever it is when received."""


_FLAGS = tuple(RequestFlag(value) for value in range(256))


@dataclass(frozen=True, slots=True)
class RegistrationRequest(Extended):
    """A mobile node tells its home agent where it is (RFC 5944 section 3.3)."""

    flags: RequestFlag
    lifetime_s: int
    """0 deregisters, 65535 is for ever."""
    home_address: IPv4Address
    home_agent: IPv4Address
    care_of_address: IPv4Address
    identification: int
    """64 bits: replay protection and, in the lower half, what the reply is matched by."""
    extensions: tuple[Extension, ...] = ()
    octets: bytes = field(default=b"", compare=False, repr=False)
    """As received."""

    @classmethod
    def parse(cls, octets: bytes, tolerate: frozenset[int] = frozenset()) -> Self:
        """Read the payload of a UDP datagram.

        Raises:
            UnknownExtensionError: it has an extension that may not be skipped.
            WireError: it is no registration request, or breaks its format.
        """
        check_header(octets, MessageType.REGISTRATION_REQUEST, _REQUEST.size)
        _, flags, lifetime_s, home, agent, care_of, identification = _REQUEST.unpack_from(octets)
        return cls(
            _FLAGS[flags],
            lifetime_s,
            IPv4Address(home),
            IPv4Address(agent),
            IPv4Address(care_of),
            identification,
            read_extensions(octets, _REQUEST.size, tolerate),
            octets,
        )

    def serialize(self) -> bytes:
        """The octets of the fields and extensions."""
        header = _REQUEST.pack(
            MessageType.REGISTRATION_REQUEST,
            self.flags,
            self.lifetime_s,
            int(self.home_address),
            int(self.home_agent),
            int(self.care_of_address),
            self.identification,
        )
        return join(header, self.extensions)


@dataclass(frozen=True, slots=True)
class RegistrationReply(Extended):
    """What became of a request (RFC 5944 section 3.4)."""

    code: int
    """See :class:`~gateway.mip_agents.codec.codes.ReplyCode`; any octet may come."""
    lifetime_s: int
    """Granted; of no meaning when denied."""
    home_address: IPv4Address
    home_agent: IPv4Address
    identification: int
    extensions: tuple[Extension, ...] = ()
    octets: bytes = field(default=b"", compare=False, repr=False)
    """As received."""

    @classmethod
    def parse(cls, octets: bytes, tolerate: frozenset[int] = frozenset()) -> Self:
        """Read the payload of a UDP datagram.

        Raises:
            UnknownExtensionError: it has an extension that may not be skipped.
            WireError: it is no registration reply, or breaks its format.
        """
        check_header(octets, MessageType.REGISTRATION_REPLY, _REPLY.size)
        _, code, lifetime_s, home, agent, identification = _REPLY.unpack_from(octets)
        return cls(
            code,
            lifetime_s,
            IPv4Address(home),
            IPv4Address(agent),
            identification,
            read_extensions(octets, _REPLY.size, tolerate),
            octets,
        )

    def serialize(self) -> bytes:
        """The octets of the fields and extensions."""
        header = _REPLY.pack(
            MessageType.REGISTRATION_REPLY,
            self.code,
            self.lifetime_s,
            int(self.home_address),
            int(self.home_agent),
            self.identification,
        )
        return join(header, self.extensions)

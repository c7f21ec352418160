"""NAR's own commands (draft 004, sections 3.2 to 3.4). Requests and replies look the same."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.wire import Reader, WireError
from gateway.nar.codec.address import NO_ADDRESS, RequestError, address_octets
from gateway.nar.codec.numbers import NAR_VERSION, AddressType, NarCommand, Reply
from gateway.nar.codec.request import reply_from

ICMP_OCTETS: Final = 4
IPSEC_OCTETS: Final = 7
TUNNEL_OCTETS: Final = 8
"""With an IPv4 address, the only ones that are accepted."""


def nar_head(reader: Reader, command: NarCommand | None) -> int:
    """VER and the second octet, which is ``command`` unless that is None (a reply)."""
    version, code = reader.u8(), reader.u8()
    if version != NAR_VERSION:
        raise WireError(f"NAR of version {version}; {NAR_VERSION} is spoken here")
    if command is not None and code != command:
        raise WireError(f"command {code} where {command} was expected")
    return code


@dataclass(frozen=True, slots=True)
class IcmpAssociate:
    """Asks for an ICMP identifier; 0: any."""

    identifier: int = 0

    @classmethod
    def parse(cls, octets: bytes) -> "IcmpAssociate":
        """Raises WireError."""
        return cls(_icmp(octets, NarCommand.ICMP_ASSOCIATE)[1])

    def to_octets(self) -> bytes:
        """The request."""
        return _head(NarCommand.ICMP_ASSOCIATE) + _number(self.identifier, 2)


@dataclass(frozen=True, slots=True)
class IcmpReply:
    """Confirms or overrides it."""

    reply: Reply
    identifier: int = 0

    @classmethod
    def parse(cls, octets: bytes) -> "IcmpReply":
        """Raises WireError."""
        code, identifier = _icmp(octets, None)
        return cls(reply_from(code), identifier)

    def to_octets(self) -> bytes:
        """The reply."""
        return _head(self.reply) + _number(self.identifier, 2)


@dataclass(frozen=True, slots=True)
class IpsecAssociate:
    """Asks for an SPI of ESP (50) or AH (51); ``spi`` 0: any."""

    protocol: int
    spi: int = 0

    @classmethod
    def parse(cls, octets: bytes) -> "IpsecAssociate":
        """Raises WireError."""
        _, protocol, spi = _ipsec(octets, NarCommand.IPSEC_ASSOCIATE)
        return cls(protocol, spi)

    def to_octets(self) -> bytes:
        """The request."""
        return _head(NarCommand.IPSEC_ASSOCIATE) + _number(self.protocol, 1) + _number(self.spi, 4)


@dataclass(frozen=True, slots=True)
class IpsecReply:
    """The SPI is the server's, whatever was asked for."""

    reply: Reply
    protocol: int = 0
    spi: int = 0

    @classmethod
    def parse(cls, octets: bytes) -> "IpsecReply":
        """Raises WireError."""
        code, protocol, spi = _ipsec(octets, None)
        return cls(reply_from(code), protocol, spi)

    def to_octets(self) -> bytes:
        """The reply."""
        return _head(self.reply) + _number(self.protocol, 1) + _number(self.spi, 4)


@dataclass(frozen=True, slots=True)
class TunnelAssociate:
    """Asks for tunnels of protocol 4 or 47 whose inner destination is ``inner`` (LTUN.ADDR)."""

    inner: IPv4Address
    protocol: int

    @staticmethod
    def octets_needed(octets: bytes | bytearray) -> int:
        """Length of the message at the start of ``octets``, as far as can be told."""
        return 2 + address_octets(octets, 2) + 1

    @classmethod
    def parse(cls, octets: bytes) -> "TunnelAssociate":
        """Raises WireError; RequestError when the address is no IPv4 address."""
        if len(octets) > 2 and octets[2] in (AddressType.DOMAIN, AddressType.IPV6):
            raise RequestError(
                f"LTUN.ADDR of type {octets[2]}; NAR is IPv4",
                Reply.ADDRESS_TYPE_NOT_SUPPORTED,
                in_step=True,
            )
        _, inner, protocol = _tunnel(octets, NarCommand.TUNNEL_ASSOCIATE)
        return cls(inner, protocol)

    def to_octets(self) -> bytes:
        """The request."""
        return _tunnel_octets(NarCommand.TUNNEL_ASSOCIATE, self.inner, self.protocol)


@dataclass(frozen=True, slots=True)
class TunnelReply:
    """Confirms it."""

    reply: Reply
    inner: IPv4Address = NO_ADDRESS
    protocol: int = 0

    @classmethod
    def parse(cls, octets: bytes) -> "TunnelReply":
        """Raises WireError."""
        code, inner, protocol = _tunnel(octets, None)
        return cls(reply_from(code), inner, protocol)

    def to_octets(self) -> bytes:
        """The reply."""
        return _tunnel_octets(self.reply, self.inner, self.protocol)


def _head(code: int) -> bytes:
    return bytes((NAR_VERSION, code))


def _number(value: int, octets: int) -> bytes:
    try:
        return value.to_bytes(octets, "big")
    except OverflowError:
        raise WireError(f"{value} does not fit into {octets} octets") from None


def _icmp(octets: bytes, command: NarCommand | None) -> tuple[int, int]:
    reader = Reader(octets)
    code = nar_head(reader, command)
    identifier = reader.u16()
    reader.finish()
    return code, identifier


def _ipsec(octets: bytes, command: NarCommand | None) -> tuple[int, int, int]:
    reader = Reader(octets)
    code = nar_head(reader, command)
    protocol, spi = reader.u8(), reader.u32()
    reader.finish()
    return code, protocol, spi


def _tunnel(octets: bytes, command: NarCommand | None) -> tuple[int, IPv4Address, int]:
    reader = Reader(octets)
    code = nar_head(reader, command)
    kind = reader.u8()
    if kind != AddressType.IPV4:
        raise WireError(f"LTUN.ADDR of type {kind}; NAR is IPv4")
    inner, protocol = reader.ipv4(), reader.u8()
    reader.finish()
    return code, inner, protocol


def _tunnel_octets(code: int, inner: IPv4Address, protocol: int) -> bytes:
    return _head(code) + bytes((AddressType.IPV4,)) + inner.packed + _number(protocol, 1)

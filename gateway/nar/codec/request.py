"""Requests and replies with version 5: SOCKS5's own and NAR-MODE (RFC 1928 sections 4 and 6)."""

from dataclasses import dataclass

from gateway.domain.wire import Reader, WireError
from gateway.nar.codec.address import (
    NO_ADDRESS,
    Address,
    address_octets,
    address_to_octets,
    read_address,
)
from gateway.nar.codec.numbers import SOCKS_VERSION, Reply

MAX_REQUEST_OCTETS = 4 + 1 + 255 + 2


@dataclass(frozen=True, slots=True)
class SocksRequest:
    """VER CMD RSV ATYP DST.ADDR DST.PORT (RFC 1928 section 4)."""

    command: int
    """:class:`~gateway.nar.codec.numbers.SocksCommand`, or one that is not known."""
    address: Address
    port: int
    flags: int = 0
    """RSV: of NAR-MODE the flags (draft 004 section 3.1), else 0."""

    @staticmethod
    def octets_needed(octets: bytes | bytearray) -> int:
        """Length of the message at the start of ``octets``, as far as can be told.

        Raises WireError, RequestError, as soon as it cannot be one.
        """
        return _needed(octets)

    @classmethod
    def parse(cls, octets: bytes) -> "SocksRequest":
        """Raises WireError; RequestError where the client gets a reply."""
        command, flags, address, port = _parse(octets)
        return cls(command, address, port, flags)

    def to_octets(self) -> bytes:
        """Raises WireError for a bad name or number."""
        return _to_octets(self.command, self.flags, self.address, self.port)


@dataclass(frozen=True, slots=True)
class SocksReply:
    """VER REP RSV ATYP BND.ADDR BND.PORT (RFC 1928 section 6)."""

    reply: Reply
    """Codes that are not known are read as a general failure."""
    address: Address = NO_ADDRESS
    port: int = 0
    flags: int = 0
    """RSV: of NAR-MODE the flags (draft 004 section 3.1), else 0."""

    @staticmethod
    def octets_needed(octets: bytes | bytearray) -> int:
        """See :meth:`SocksRequest.octets_needed`."""
        return _needed(octets)

    @classmethod
    def parse(cls, octets: bytes) -> "SocksReply":
        """Raises WireError."""
        reply, flags, address, port = _parse(octets)
        return cls(reply_from(reply), address, port, flags)

    def to_octets(self) -> bytes:
        """Raises WireError for a bad name or number."""
        return _to_octets(self.reply, self.flags, self.address, self.port)


def reply_from(code: int) -> Reply:
    """REP; what RFC 1928 does not know is a failure all the same."""
    try:
        return Reply(code)
    except ValueError:
        return Reply.GENERAL_FAILURE


def _needed(octets: bytes | bytearray) -> int:
    if octets and octets[0] != SOCKS_VERSION:
        raise WireError(f"SOCKS of version {octets[0]}; {SOCKS_VERSION} is spoken here")
    return 3 + address_octets(octets, 3) + 2


def _parse(octets: bytes) -> tuple[int, int, Address, int]:
    reader = Reader(octets)
    version = reader.u8()
    if version != SOCKS_VERSION:
        raise WireError(f"SOCKS of version {version}; {SOCKS_VERSION} is spoken here")
    code, flags = reader.u8(), reader.u8()
    address = read_address(reader)
    port = reader.u16()
    reader.finish()
    return code, flags, address, port


def _to_octets(code: int, flags: int, address: Address, port: int) -> bytes:
    if not (0 <= code <= 0xFF and 0 <= flags <= 0xFF and 0 <= port <= 0xFFFF):
        raise WireError(f"command {code}, flags {flags}, port {port}: one is out of range")
    head = bytes((SOCKS_VERSION, code, flags))
    return head + address_to_octets(address) + port.to_bytes(2, "big")

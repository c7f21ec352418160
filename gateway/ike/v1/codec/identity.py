"""Who the peers are: ID, CERT, CR and NAT-OA payloads.

RFC 2407 section 4.6.2, RFC 2408 sections 3.9 and 3.10, RFC 3947 section 5.2.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Self

from gateway.domain.endpoint import IpAddress
from gateway.domain.wire import Reader, WireError
from gateway.ike.codec import authentication
from gateway.ike.codec.payload import Payload
from gateway.ike.v1.codec.registry import IdType, PayloadType

MAX_IDENTITY_OCTETS = 2048
"""Distinguished names of several hundred octets exist; a domain name ends at 255."""
MAX_AUTHORITY_OCTETS = 4096
"""One distinguished name."""

_ID = struct.Struct("!BBH")
_SIZES: dict[int, int] = {
    IdType.IPV4_ADDR: 4,
    IdType.IPV4_ADDR_SUBNET: 8,
    IdType.IPV4_ADDR_RANGE: 8,
    IdType.IPV6_ADDR: 16,
    IdType.IPV6_ADDR_SUBNET: 32,
    IdType.IPV6_ADDR_RANGE: 32,
}


@dataclass(frozen=True, slots=True)
class Identification(Payload):
    """An identity in phase 1, a traffic selector in quick mode. Only sizes are checked here."""

    TYPE: ClassVar[int] = PayloadType.ID

    id_type: int
    data: bytes
    protocol: int = 0
    port: int = 0

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if too long or not the size of its address type."""
        id_type, protocol, port = _ID.unpack(reader.take(_ID.size))
        data = _bounded(reader, "identity", 0, MAX_IDENTITY_OCTETS)
        size = _SIZES.get(id_type)
        if size is not None and len(data) != size:
            raise WireError(f"identity of type {id_type} has {len(data)} octets instead of {size}")
        return cls(id_type, data, protocol, port)

    def body(self) -> bytes:
        """Write it, octet for octet as it came: IDii_b, IDir_b of RFC 2409."""
        return _ID.pack(self.id_type, self.protocol, self.port) + self.data


@dataclass(frozen=True, slots=True)
class Certificate(authentication.Certificate):
    """One certificate, or what ``encoding`` says it is: as in IKEv2, but of another number."""

    TYPE: ClassVar[int] = PayloadType.CERT


@dataclass(frozen=True, slots=True)
class CertificateRequest(Payload):
    """Asks for a certificate, under a certain authority if one is named."""

    TYPE: ClassVar[int] = PayloadType.CERTREQ

    encoding: int
    authority: bytes = b""
    """A distinguished name, DER; empty for any."""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if too large."""
        # Some peers leave out even the encoding.
        encoding = reader.u8() if reader.remaining else 0
        return cls(encoding, _bounded(reader, "authority", 0, MAX_AUTHORITY_OCTETS))

    def body(self) -> bytes:
        """Write it."""
        return bytes((self.encoding,)) + self.authority


@dataclass(frozen=True, slots=True)
class OriginalAddress(Payload):
    """NAT-OA: an address as its sender sees it; for transport mode only."""

    TYPE: ClassVar[int] = PayloadType.NAT_OA

    address: IpAddress

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` for anything but one address."""
        kind = reader.u8()
        reader.take(3)
        address: IPv4Address | IPv6Address
        if kind == IdType.IPV4_ADDR:
            address = reader.ipv4()
        elif kind == IdType.IPV6_ADDR:
            address = reader.ipv6()
        else:
            raise WireError(f"original address of type {kind}")
        reader.finish()
        return cls(address)

    def body(self) -> bytes:
        """Write it."""
        kind = IdType.IPV4_ADDR if self.address.version == 4 else IdType.IPV6_ADDR
        return bytes((kind, 0, 0, 0)) + self.address.packed


@dataclass(frozen=True, slots=True)
class OriginalAddressDraft(OriginalAddress):
    """The same under the number of the drafts."""

    TYPE: ClassVar[int] = PayloadType.NAT_OA_DRAFT


def _bounded(reader: Reader, what: str, least: int, most: int) -> bytes:
    if not least <= reader.remaining <= most:
        raise WireError(f"{what} of {reader.remaining} octets, {least} to {most} allowed")
    return reader.rest()

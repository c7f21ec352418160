"""Who the peers are and how they prove it: ID, CERT, CERTREQ, AUTH and EAP payloads.

RFC 7296 sections 3.5 to 3.8 and 3.16.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Self

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.registry import IdType, PayloadType

MAX_IDENTITY_OCTETS = 2048
"""Distinguished names of several hundred octets exist; a domain name ends at 255."""
MAX_CERTIFICATE_OCTETS = 32768
MAX_AUTHORITIES_OCTETS = 32768
"""Of one certificate request: some 1600 authorities."""
MAX_AUTHENTICATION_OCTETS = 4096
"""An RSA-16384 signature with its algorithm identifier stays below 2300."""
MIN_EAP_OCTETS = 4

_RESERVED = bytes(3)
_ADDRESS_SIZES: dict[int, int] = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}


def _bounded(reader: Reader, what: str, least: int, most: int) -> bytes:
    if not least <= reader.remaining <= most:
        raise WireError(f"{what} of {reader.remaining} octets, {least} to {most} allowed")
    return reader.rest()


@dataclass(frozen=True, slots=True)
class Identification(Payload):
    """An identity of either side (section 3.5). Its text is not checked here, only sizes."""

    id_type: int
    data: bytes
    reserved: bytes = field(default=_RESERVED, repr=False)
    """As received: the peer's AUTH covers these octets whatever they hold."""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if too long or not the size of its address type."""
        id_type = reader.u8()
        reserved = reader.take(3)
        data = _bounded(reader, "identity", 0, MAX_IDENTITY_OCTETS)
        size = _ADDRESS_SIZES.get(id_type)
        if size is not None and len(data) != size:
            raise WireError(f"identity of type {id_type} has {len(data)} octets instead of {size}")
        return cls(id_type, data, reserved)

    def body(self) -> bytes:
        """Write it: the RestOfInitIDPayload or RestOfRespIDPayload of section 2.15."""
        return bytes((self.id_type,)) + self.reserved + self.data


@dataclass(frozen=True, slots=True)
class IdInitiator(Identification):
    """IDi."""

    TYPE: ClassVar[PayloadType] = PayloadType.IDI


@dataclass(frozen=True, slots=True)
class IdResponder(Identification):
    """IDr."""

    TYPE: ClassVar[PayloadType] = PayloadType.IDR


@dataclass(frozen=True, slots=True)
class Certificate(Payload):
    """One certificate, or what ``encoding`` says it is (section 3.6)."""

    TYPE: ClassVar[int] = PayloadType.CERT

    encoding: int
    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if empty or too large."""
        encoding = reader.u8()
        return cls(encoding, _bounded(reader, "certificate", 1, MAX_CERTIFICATE_OCTETS))

    def body(self) -> bytes:
        """Write it."""
        return bytes((self.encoding,)) + self.data


@dataclass(frozen=True, slots=True)
class CertificateRequest(Payload):
    """The authorities that the sender trusts (section 3.7)."""

    TYPE: ClassVar[PayloadType] = PayloadType.CERTREQ

    encoding: int
    authorities: bytes = field(repr=False)
    """SHA-1 hashes of their public keys one after the other, for X.509 encodings."""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if too large."""
        encoding = reader.u8()
        return cls(encoding, _bounded(reader, "authorities", 0, MAX_AUTHORITIES_OCTETS))

    def body(self) -> bytes:
        """Write it."""
        return bytes((self.encoding,)) + self.authorities


@dataclass(frozen=True, slots=True)
class Authentication(Payload):
    """A signature or MAC over the sender's first message (section 3.8)."""

    TYPE: ClassVar[PayloadType] = PayloadType.AUTH

    method: int
    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if empty or too large."""
        method = reader.u8()
        reader.take(3)
        return cls(method, _bounded(reader, "AUTH", 1, MAX_AUTHENTICATION_OCTETS))

    def body(self) -> bytes:
        """Write it."""
        return bytes((self.method,)) + _RESERVED + self.data


@dataclass(frozen=True, slots=True)
class Eap(Payload):
    """An EAP packet with its header, RFC 3748 section 4 (section 3.16)."""

    TYPE: ClassVar[PayloadType] = PayloadType.EAP

    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` unless its own length field is right."""
        data = reader.rest()
        if len(data) < MIN_EAP_OCTETS:
            raise WireError(f"EAP packet of {len(data)} octets")
        length = int.from_bytes(data[2:4], "big")
        if length != len(data):
            raise WireError(f"EAP packet says {length} octets, {len(data)} are there")
        return cls(data)

    def body(self) -> bytes:
        """Write it."""
        return self.data

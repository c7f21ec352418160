"""Notification and Delete payloads (RFC 2408 sections 3.14 and 3.15)."""

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.v1.codec.registry import FIRST_STATUS_NOTIFY, Doi, PayloadType, ProtocolId
from gateway.ike.v1.codec.sa import MAX_SPI_OCTETS

MAX_SPIS = 256
"""In one Delete."""

_NOTIFY = struct.Struct("!IBBH")
_DELETE = struct.Struct("!IBBH")
_DELETE_SPI_SIZES: dict[int, tuple[int, ...]] = {
    ProtocolId.ISAKMP: (16,),
    ProtocolId.AH: (4,),
    ProtocolId.ESP: (4,),
    ProtocolId.IPCOMP: (2, 4),
}


@dataclass(frozen=True, slots=True)
class Notify(Payload):
    """An error or a status. Only the engine knows what its data should look like."""

    TYPE: ClassVar[int] = PayloadType.NOTIFY

    type: int
    data: bytes = b""
    protocol: int = ProtocolId.ISAKMP
    spi: bytes = b""
    doi: int = Doi.IPSEC

    @property
    def is_error(self) -> bool:
        """Whether the type is one of the error types, known or not."""
        return self.type < FIRST_STATUS_NOTIFY

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if the SPI is too long or cut."""
        doi, protocol, spi_size, kind = _NOTIFY.unpack(reader.take(_NOTIFY.size))
        if spi_size > MAX_SPI_OCTETS:
            raise WireError(f"notify {kind} with an SPI of {spi_size} octets")
        spi = reader.take(spi_size)
        return cls(kind, reader.rest(), protocol, spi, doi)

    def body(self) -> bytes:
        """Write it."""
        head = _NOTIFY.pack(self.doi, self.protocol, len(self.spi), self.type)
        return head + self.spi + self.data


@dataclass(frozen=True, slots=True)
class Delete(Payload):
    """SAs that the sender no longer has: by its inbound SPIs, by both cookies for ISAKMP."""

    TYPE: ClassVar[int] = PayloadType.DELETE

    protocol: int
    spis: tuple[bytes, ...]
    doi: int = Doi.IPSEC

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if SPI size, count and protocol do not agree."""
        doi, protocol, size, count = _DELETE.unpack(reader.take(_DELETE.size))
        if not 1 <= count <= MAX_SPIS:
            raise WireError(f"delete of {count} SPIs, 1 to {MAX_SPIS} allowed")
        allowed = _DELETE_SPI_SIZES.get(protocol)
        fits = 1 <= size <= MAX_SPI_OCTETS if allowed is None else size in allowed
        if not fits:
            raise WireError(f"delete of SPIs of {size} octets, protocol {protocol}")
        spis = tuple(reader.take(size) for _ in range(count))
        reader.finish()
        return cls(protocol, spis, doi)

    def body(self) -> bytes:
        """Write it. Raises :class:`ValueError` without an SPI."""
        if not self.spis:
            raise ValueError("a Delete names at least one SPI")
        head = _DELETE.pack(self.doi, self.protocol, len(self.spis[0]), len(self.spis))
        return head + b"".join(self.spis)

"""Notify, Delete and Vendor ID payloads (RFC 7296 sections 3.10 to 3.12)."""

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.codec.sa import MAX_SPI_OCTETS
from gateway.ike.registry import FIRST_STATUS_NOTIFY, PayloadType, ProtocolId

MAX_SPIS = 256
"""In one Delete."""
MAX_VENDOR_ID_OCTETS = 1024

_NOTIFY = struct.Struct("!BBH")
_DELETE = struct.Struct("!BBH")
_IPSEC_SPI_OCTETS = 4
_IPSEC = (ProtocolId.AH, ProtocolId.ESP)


@dataclass(frozen=True, slots=True)
class Notify(Payload):
    """An error or a status (section 3.10). Only the engine knows what its data should look like."""

    TYPE: ClassVar[PayloadType] = PayloadType.NOTIFY

    type: int
    data: bytes = b""
    protocol: int = 0
    spi: bytes = b""

    @property
    def is_error(self) -> bool:
        """Whether the type is one of the error types, known or not."""
        return self.type < FIRST_STATUS_NOTIFY

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if the SPI does not suit the protocol."""
        data = reader.rest()
        if len(data) < _NOTIFY.size:
            raise WireError(f"notify header cut: {len(data)} octets")
        protocol, spi_size, kind = _NOTIFY.unpack_from(data)
        if not spi_size:
            return cls(kind, data[_NOTIFY.size :], protocol)
        if spi_size > MAX_SPI_OCTETS or (protocol in _IPSEC and spi_size != _IPSEC_SPI_OCTETS):
            raise WireError(f"notify {kind} with an SPI of {spi_size} octets, protocol {protocol}")
        end = _NOTIFY.size + spi_size
        if end > len(data):
            raise WireError(f"notify {kind}: SPI of {spi_size} octets cut")
        return cls(kind, data[end:], protocol, data[_NOTIFY.size : end])

    def body(self) -> bytes:
        """Write it."""
        return _NOTIFY.pack(self.protocol, len(self.spi), self.type) + self.spi + self.data


@dataclass(frozen=True, slots=True)
class Delete(Payload):
    """SAs that the sender no longer has (section 3.11): by its inbound SPIs, none for IKE."""

    TYPE: ClassVar[PayloadType] = PayloadType.DELETE

    protocol: int
    spis: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if SPI size, count and protocol do not agree."""
        protocol, size, count = _DELETE.unpack(reader.take(_DELETE.size))
        if count > MAX_SPIS:
            raise WireError(f"delete of {count} SPIs, at most {MAX_SPIS} allowed")
        if protocol in _IPSEC:
            fits = size == _IPSEC_SPI_OCTETS
        elif protocol == ProtocolId.IKE:
            fits = size == 0 and count == 0
        else:
            fits = size <= MAX_SPI_OCTETS and bool(size) == bool(count)
        if not fits:
            raise WireError(f"delete of {count} SPIs of {size} octets, protocol {protocol}")
        data = reader.take(size * count)
        reader.finish()
        return cls(protocol, tuple(data[at : at + size] for at in range(0, len(data), size or 1)))

    def body(self) -> bytes:
        """Write it."""
        if self.spis:
            size = len(self.spis[0])
        else:
            size = _IPSEC_SPI_OCTETS if self.protocol in _IPSEC else 0
        return _DELETE.pack(self.protocol, size, len(self.spis)) + b"".join(self.spis)


@dataclass(frozen=True, slots=True)
class VendorId(Payload):
    """Names an implementation or one of its extensions (section 3.12)."""

    TYPE: ClassVar[PayloadType] = PayloadType.VENDOR_ID

    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if too large."""
        if reader.remaining > MAX_VENDOR_ID_OCTETS:
            raise WireError(f"vendor ID of {reader.remaining} octets")
        return cls(reader.rest())

    def body(self) -> bytes:
        """Write it."""
        return self.data

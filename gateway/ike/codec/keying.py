"""Key Exchange and Nonce payloads (RFC 7296 sections 3.4 and 3.9)."""

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.registry import PayloadType

MAX_KEY_EXCHANGE_OCTETS = 4096
"""Of one public value; MODP-8192 needs 1024, ML-KEM-1024 1568."""
MIN_NONCE_OCTETS = 16
MAX_NONCE_OCTETS = 256
"""RFC 7296 section 3.9."""

_KEY_EXCHANGE = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class KeyExchange(Payload):
    """A public value of a group. Whether it has the group's size is for the group to judge."""

    TYPE: ClassVar[PayloadType] = PayloadType.KE

    group: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if the value is missing or absurdly large."""
        group = reader.u16()
        reader.u16()
        if not 1 <= reader.remaining <= MAX_KEY_EXCHANGE_OCTETS:
            raise WireError(f"key exchange value of {reader.remaining} octets")
        return cls(group, reader.rest())

    def body(self) -> bytes:
        """Write it."""
        return _KEY_EXCHANGE.pack(self.group, 0) + self.data


@dataclass(frozen=True, slots=True)
class Nonce(Payload):
    """16 to 256 random octets."""

    TYPE: ClassVar[PayloadType] = PayloadType.NONCE

    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` unless its size is allowed."""
        if not MIN_NONCE_OCTETS <= reader.remaining <= MAX_NONCE_OCTETS:
            raise WireError(
                f"nonce of {reader.remaining} octets, "
                f"{MIN_NONCE_OCTETS} to {MAX_NONCE_OCTETS} allowed"
            )
        return cls(reader.rest())

    def body(self) -> bytes:
        """Write it."""
        return self.data

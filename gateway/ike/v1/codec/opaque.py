"""Payloads whose body is a single value: KE, HASH, SIG, NONCE, VID, NAT-D, advertisement.

RFC 2408 sections 3.7, 3.11 to 3.13 and 3.16; RFC 3947 section 3.2.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Self

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.v1.codec.registry import PayloadType


@dataclass(frozen=True, slots=True)
class Opaque(Payload):
    """Octets between MIN_OCTETS and MAX_OCTETS."""

    MIN_OCTETS: ClassVar[int] = 1
    MAX_OCTETS: ClassVar[int]

    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` if it is too short or too long."""
        if not cls.MIN_OCTETS <= reader.remaining <= cls.MAX_OCTETS:
            raise WireError(
                f"{cls.__name__} of {reader.remaining} octets,"
                f" {cls.MIN_OCTETS} to {cls.MAX_OCTETS} allowed"
            )
        return cls(reader.rest())

    def body(self) -> bytes:
        """Write it."""
        return self.data


class KeyExchange(Opaque):
    """g^x, of the group that is negotiated elsewhere."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.KE
    MAX_OCTETS: ClassVar[int] = 1024
    """MODP-8192."""


class Hash(Opaque):
    """HASH_I, HASH_R or the HASH of a message after phase 1."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.HASH
    MIN_OCTETS: ClassVar[int] = 16
    MAX_OCTETS: ClassVar[int] = 64


class Signature(Opaque):
    """SIG_I or SIG_R."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.SIG
    MAX_OCTETS: ClassVar[int] = 2048
    """RSA-16384."""


class Nonce(Opaque):
    """Ni or Nr (RFC 2409 section 5)."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.NONCE
    MIN_OCTETS: ClassVar[int] = 8
    MAX_OCTETS: ClassVar[int] = 256


class VendorId(Opaque):
    """Names an implementation or one of its extensions."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.VENDOR_ID
    MIN_OCTETS: ClassVar[int] = 0
    MAX_OCTETS: ClassVar[int] = 1024


class NatDetection(Opaque):
    """Hash of an address and port as the sender sees them."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.NAT_D
    MAX_OCTETS: ClassVar[int] = 64


class NatDetectionDraft(NatDetection):
    """The same under the number of the drafts."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.NAT_D_DRAFT


class FaAdvertisement(Opaque):
    """A foreign agent advertisement: an ICMP message without IP header (draft 001, B.2)."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.FA_ADVERTISEMENT
    MIN_OCTETS: ClassVar[int] = 8
    MAX_OCTETS: ClassVar[int] = 1472

"""The extensions of registration messages: each a dataclass that knows its octets.

``offset`` says where in its message an extension started: an authenticator covers everything
before it. It takes no part in comparisons, and is 0 in what we make ourselves.
"""

import enum
import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from gateway.domain.wire import WireError
from gateway.mip_agents.codec.numbers import ZERO_OVERHEAD_SUBTYPE, ExtensionType

_TL = struct.Struct("!BB")
_LONG = struct.Struct("!BBH")
SPI = struct.Struct("!I")
UDP_REQUEST = struct.Struct("!BBBBBBH")
UDP_REPLY = struct.Struct("!BBBBHH")
ZERO_OVERHEAD = struct.Struct("!BBBBI")
REVOCATION = struct.Struct("!BBHI")
VENDOR = struct.Struct("!BBHIH")
UDP_FORCED = 0x80
UDP_FROM_FOREIGN_AGENT = 0x40
UDP_REPLY_FORCED = 0x8000
REVOCATION_INFORM = 0x8000
UDP_DECLINED = 64
"""This and higher codes of a UDP tunnel reply decline (RFC 3519 section 3.2.1)."""


class UnknownExtensionError(WireError):
    """An extension that nobody may skip and we do not know: the message has to be discarded."""

    def __init__(self, kind: int) -> None:
        super().__init__(f"extension {kind} may not be skipped and is not known here")
        self.kind = kind


class AuthenticationKind(enum.IntEnum):
    """Who proves something to whom (RFC 5944 section 3.5)."""

    MOBILE_HOME = 32
    MOBILE_FOREIGN = 33
    FOREIGN_HOME = 34
    GENERALIZED = 36
    """Which two it is tells the subtype (RFC 4721 section 6)."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """An authenticator and the association that it was made with (RFC 5944 section 3.5)."""

    kind: AuthenticationKind
    spi: int
    authenticator: bytes
    subtype: int = 0
    """Only of the generalized one."""
    offset: int = field(default=0, compare=False)

    @property
    def covered_octets(self) -> int:
        """How much of the message the authenticator protects: up to and including the SPI."""
        return self.offset + (8 if self.kind == AuthenticationKind.GENERALIZED else 6)

    def serialize(self) -> bytes:
        """The extension's octets."""
        return authentication_header(
            self.kind, self.spi, len(self.authenticator), self.subtype
        ) + bytes(self.authenticator)


@dataclass(frozen=True, slots=True)
class Nai:
    """Who the mobile node is: its network access identifier (RFC 2794)."""

    nai: str
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        return _short(ExtensionType.MOBILE_NODE_NAI, self.nai.encode())


@dataclass(frozen=True, slots=True)
class UdpTunnelRequest:
    """The mobile node or foreign agent can tunnel in UDP (RFC 3519 section 3.1)."""

    forced: bool = False
    """F: in UDP even if there is no NAT."""
    from_foreign_agent: bool = False
    """R: the mobile node registers by way of a foreign agent that demands it."""
    encapsulation: int = 4
    """IP protocol number of what travels in UDP: 4, 47 or 55; 0 leaves it to the M and G bits."""
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        flags = self.forced * UDP_FORCED | self.from_foreign_agent * UDP_FROM_FOREIGN_AGENT
        return UDP_REQUEST.pack(
            ExtensionType.UDP_TUNNEL_REQUEST, 6, 0, 0, flags, self.encapsulation, 0
        )


@dataclass(frozen=True, slots=True)
class UdpTunnelReply:
    """The home agent's answer (RFC 3519 section 3.2)."""

    code: int
    """0 to 63 accept, 64 and more decline."""
    forced: bool = False
    """F: it is in UDP though no NAT was seen."""
    keepalive_s: int = 0
    """0 leaves it to the mobile node."""
    offset: int = field(default=0, compare=False)

    @property
    def accepted(self) -> bool:
        """Whether everything travels in UDP from now on."""
        return self.code < UDP_DECLINED

    def serialize(self) -> bytes:
        """The extension's octets."""
        return UDP_REPLY.pack(
            ExtensionType.UDP_TUNNEL_REPLY,
            6,
            0,
            self.code,
            self.forced * UDP_REPLY_FORCED,
            self.keepalive_s,
        )


@dataclass(frozen=True, slots=True)
class ZeroOverheadRequest:
    """The mobile node asks for zero-overhead tunnelling (draft 001, appendix D)."""

    destination: IPv4Address
    """The default destination: packets to and from it travel by address switching."""
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        return _zero_overhead(ExtensionType.SKIPPABLE_EXPERIMENT, self.destination)


@dataclass(frozen=True, slots=True)
class ZeroOverheadConfirmation:
    """The home agent granted it (draft 001, appendix D)."""

    destination: IPv4Address
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        return _zero_overhead(ExtensionType.EXPERIMENT, self.destination)


@dataclass(frozen=True, slots=True)
class EncapsulatingDelivery:
    """The mobile node will encapsulate what it wants tunnelled (RFC 3024 section 3.3)."""

    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        return _TL.pack(ExtensionType.ENCAPSULATING_DELIVERY, 0)


@dataclass(frozen=True, slots=True)
class Challenge:
    """The foreign agent's challenge, given back, or the next one (RFC 4721 section 3)."""

    value: bytes
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        return _short(ExtensionType.CHALLENGE, self.value)


@dataclass(frozen=True, slots=True)
class RevocationSupport:
    """The agent can revoke and be told of revocations (RFC 3543 section 3.2)."""

    timestamp: int
    """32 bits of the sender's clock; the first that revocations may carry."""
    inform: bool = False
    """I: it can be asked not to tell the mobile node."""
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        return REVOCATION.pack(
            ExtensionType.REVOCATION_SUPPORT, 6, self.inform * REVOCATION_INFORM, self.timestamp
        )


@dataclass(frozen=True, slots=True)
class VendorExtension:
    """Something of a vendor's own (RFC 3115)."""

    critical: bool
    """It may not be skipped: codes 100, 101, 140 and 141 say that we do not know it."""
    vendor: int
    type: int
    data: bytes
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        kind = ExtensionType.CRITICAL_VENDOR if self.critical else ExtensionType.VENDOR
        size = 6 + len(self.data)
        if self.critical:
            return VENDOR.pack(kind, 0, size, self.vendor, self.type) + self.data
        return VENDOR.pack(kind, size + 2, 0, self.vendor, self.type) + self.data


@dataclass(frozen=True, slots=True)
class UnknownExtension:
    """An extension in the short format that nobody here reads."""

    type: int
    data: bytes
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        return _short(self.type, self.data)


Extension = (
    Authentication
    | Nai
    | UdpTunnelRequest
    | UdpTunnelReply
    | ZeroOverheadRequest
    | ZeroOverheadConfirmation
    | EncapsulatingDelivery
    | Challenge
    | RevocationSupport
    | VendorExtension
    | UnknownExtension
)


def authentication_header(
    kind: AuthenticationKind, spi: int, authenticator_octets: int, subtype: int = 0
) -> bytes:
    """What comes before the authenticator: type, length, SPI."""
    size = authenticator_octets + SPI.size
    if kind == AuthenticationKind.GENERALIZED:
        return _LONG.pack(kind, subtype, size) + SPI.pack(spi)
    return _TL.pack(kind, size) + SPI.pack(spi)


def _short(kind: int, data: bytes) -> bytes:
    if len(data) > 255:
        raise ValueError(f"extension {kind} cannot hold {len(data)} octets; 255 are allowed")
    return _TL.pack(kind, len(data)) + data


def _zero_overhead(kind: int, destination: IPv4Address) -> bytes:
    return ZERO_OVERHEAD.pack(kind, 6, ZERO_OVERHEAD_SUBTYPE, 0, int(destination))

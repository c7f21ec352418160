"""The extensions of registration messages: each a dataclass that knows its octets.

``offset`` says where in its message an extension started: an authenticator covers everything
before it. It takes no part in comparisons, and is 0 in what we make ourselves.
"""

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from gateway.domain.wire import WireError
from gateway.mip_agents.codec.numbers import (
    FIRST_SKIPPABLE,
    MAX_EXTENSIONS,
    ZERO_OVERHEAD_SUBTYPE,
    ExtensionType,
)

_TL = struct.Struct("!BB")
_LONG = struct.Struct("!BBH")
_SPI = struct.Struct("!I")
_UDP_REQUEST = struct.Struct("!BBBBBBH")
_UDP_REPLY = struct.Struct("!BBBBHH")
_ZERO_OVERHEAD = struct.Struct("!BBBBI")
_REVOCATION = struct.Struct("!BBHI")
_VENDOR = struct.Struct("!BBHIH")
_FORCED = 0x80
_FROM_FOREIGN_AGENT = 0x40
_REPLY_FORCED = 0x8000
_INFORM = 0x8000


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
    """IP protocol number of what travels in UDP: 4, 47 or 55."""
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        flags = self.forced * _FORCED | self.from_foreign_agent * _FROM_FOREIGN_AGENT
        return _UDP_REQUEST.pack(
            ExtensionType.UDP_TUNNEL_REQUEST, 6, 0, 0, flags, self.encapsulation, 0
        )


@dataclass(frozen=True, slots=True)
class UdpTunnelReply:
    """The home agent's answer (RFC 3519 section 3.2)."""

    code: int
    """0 accepts, 64 declines."""
    forced: bool = False
    """F: it is in UDP though no NAT was seen."""
    keepalive_s: int = 0
    """0 leaves it to the mobile node: 110 seconds."""
    offset: int = field(default=0, compare=False)

    def serialize(self) -> bytes:
        """The extension's octets."""
        return _UDP_REPLY.pack(
            ExtensionType.UDP_TUNNEL_REPLY,
            6,
            0,
            self.code,
            self.forced * _REPLY_FORCED,
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
        return _REVOCATION.pack(
            ExtensionType.REVOCATION_SUPPORT, 6, self.inform * _INFORM, self.timestamp
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
            return _VENDOR.pack(kind, 0, size, self.vendor, self.type) + self.data
        return _VENDOR.pack(kind, size + 2, 0, self.vendor, self.type) + self.data


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
    size = authenticator_octets + _SPI.size
    if kind == AuthenticationKind.GENERALIZED:
        return _LONG.pack(kind, subtype, size) + _SPI.pack(spi)
    return _TL.pack(kind, size) + _SPI.pack(spi)


def read_extensions(
    octets: bytes, start: int, tolerate: frozenset[int] = frozenset()
) -> tuple[Extension, ...]:
    """Read everything from ``start`` to the end.

    ``tolerate`` names types below 128 that are kept although they are not known.

    Raises:
        UnknownExtensionError: there is one that may not be skipped and is not known.
        WireError: one runs past the end or breaks its own format, or there are too many.
    """
    found: list[Extension] = []
    at = start
    end = len(octets)
    while at < end:
        if len(found) >= MAX_EXTENSIONS:
            raise WireError(f"more than {MAX_EXTENSIONS} extensions")
        kind = octets[at]
        header = 4 if kind in _LONG_FORMAT else 2
        body = at + header
        if body > end:
            raise WireError(f"extension {kind} is cut off in its header")
        stop = body + (octets[at + 1] if header == 2 else octets[at + 2] << 8 | octets[at + 3])
        if stop > end:
            raise WireError(f"extension {kind} has {end - body} of its {stop - body} octets")
        read = _READERS.get(kind)
        if read is not None:
            found.append(read(octets, at, body, stop))
        elif kind >= FIRST_SKIPPABLE or kind in tolerate:
            found.append(UnknownExtension(kind, octets[body:stop], at))
        else:
            raise UnknownExtensionError(kind)
        at = stop
    return tuple(found)


def _short(kind: int, data: bytes) -> bytes:
    if len(data) > 255:
        raise ValueError(f"extension {kind} cannot hold {len(data)} octets; 255 are allowed")
    return _TL.pack(kind, len(data)) + data


def _zero_overhead(kind: int, destination: IPv4Address) -> bytes:
    return _ZERO_OVERHEAD.pack(kind, 6, ZERO_OVERHEAD_SUBTYPE, 0, int(destination))


def _exactly(name: str, wanted: int, body: int, stop: int) -> None:
    if stop - body != wanted:
        raise WireError(f"{name} of {stop - body} octets instead of {wanted}")


_KINDS = {int(kind): kind for kind in AuthenticationKind}


def _read_authentication(octets: bytes, at: int, body: int, stop: int) -> Authentication:
    if stop - body < _SPI.size:
        raise WireError(f"authentication extension of {stop - body} octets has no SPI")
    kind = octets[at]
    return Authentication(
        _KINDS[kind],
        _SPI.unpack_from(octets, body)[0],
        octets[body + 4 : stop],
        octets[at + 1] if kind == AuthenticationKind.GENERALIZED else 0,
        at,
    )


def _read_nai(octets: bytes, at: int, body: int, stop: int) -> Nai:
    try:
        nai = octets[body:stop].decode()
    except UnicodeDecodeError:
        raise WireError("the NAI is no text") from None
    # It goes into logs and is looked up as it is.
    if not nai or not nai.isprintable() or " " in nai:
        raise WireError("the NAI is empty, or has spaces or control characters")
    return Nai(nai, at)


def _read_udp_request(
    octets: bytes, at: int, body: int, stop: int
) -> UdpTunnelRequest | UnknownExtension:
    if stop == body:
        raise WireError("UDP tunnel request without a subtype")
    if octets[body] != 0:
        return UnknownExtension(ExtensionType.UDP_TUNNEL_REQUEST, octets[body:stop], at)
    _exactly("UDP tunnel request", 6, body, stop)
    flags = octets[body + 2]
    return UdpTunnelRequest(
        bool(flags & _FORCED), bool(flags & _FROM_FOREIGN_AGENT), octets[body + 3], at
    )


def _read_udp_reply(octets: bytes, at: int, body: int, stop: int) -> UdpTunnelReply:
    if stop == body or octets[body] != 0:
        raise UnknownExtensionError(ExtensionType.UDP_TUNNEL_REPLY)
    _exactly("UDP tunnel reply", 6, body, stop)
    _, _, _, code, flags, keepalive_s = _UDP_REPLY.unpack_from(octets, at)
    return UdpTunnelReply(code, bool(flags & _REPLY_FORCED), keepalive_s, at)


def _read_zero_overhead_request(
    octets: bytes, at: int, body: int, stop: int
) -> ZeroOverheadRequest | UnknownExtension:
    # Others experiment with this number too; it can be skipped.
    if stop - body != 6 or octets[body] != ZERO_OVERHEAD_SUBTYPE:
        return UnknownExtension(ExtensionType.SKIPPABLE_EXPERIMENT, octets[body:stop], at)
    return ZeroOverheadRequest(IPv4Address(_ZERO_OVERHEAD.unpack_from(octets, at)[4]), at)


def _read_zero_overhead_confirmation(
    octets: bytes, at: int, body: int, stop: int
) -> ZeroOverheadConfirmation:
    if stop == body or octets[body] != ZERO_OVERHEAD_SUBTYPE:
        raise UnknownExtensionError(ExtensionType.EXPERIMENT)
    _exactly("zero-overhead confirmation", 6, body, stop)
    return ZeroOverheadConfirmation(IPv4Address(_ZERO_OVERHEAD.unpack_from(octets, at)[4]), at)


def _read_delivery(_octets: bytes, at: int, body: int, stop: int) -> EncapsulatingDelivery:
    _exactly("encapsulating delivery style extension", 0, body, stop)
    return EncapsulatingDelivery(at)


def _read_challenge(octets: bytes, at: int, body: int, stop: int) -> Challenge:
    if stop == body:
        raise WireError("an empty challenge")
    return Challenge(octets[body:stop], at)


def _read_revocation_support(octets: bytes, at: int, body: int, stop: int) -> RevocationSupport:
    _exactly("revocation support extension", 6, body, stop)
    _, _, flags, timestamp = _REVOCATION.unpack_from(octets, at)
    return RevocationSupport(timestamp, bool(flags & _INFORM), at)


def _read_vendor(octets: bytes, at: int, body: int, stop: int) -> VendorExtension:
    critical = octets[at] == ExtensionType.CRITICAL_VENDOR
    data = at + _VENDOR.size
    if stop < data:
        raise WireError(f"vendor extension of {stop - body} octets")
    _, _, _, vendor, kind = _VENDOR.unpack_from(octets, at)
    return VendorExtension(critical, vendor, kind, octets[data:stop], at)


_LONG_FORMAT = frozenset({36, 38})
_READERS: dict[int, Callable[[bytes, int, int, int], Extension]] = {
    32: _read_authentication,
    33: _read_authentication,
    34: _read_authentication,
    36: _read_authentication,
    38: _read_vendor,
    44: _read_udp_reply,
    127: _read_zero_overhead_confirmation,
    130: _read_delivery,
    131: _read_nai,
    132: _read_challenge,
    134: _read_vendor,
    137: _read_revocation_support,
    144: _read_udp_request,
    255: _read_zero_overhead_request,
}

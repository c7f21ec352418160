"""Reads the extensions behind a message's fixed part, whatever may come."""

from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.domain.wire import WireError
from gateway.mip_agents.codec.extensions import (
    REVOCATION,
    REVOCATION_INFORM,
    SPI,
    UDP_FORCED,
    UDP_FROM_FOREIGN_AGENT,
    UDP_REPLY,
    UDP_REPLY_FORCED,
    VENDOR,
    ZERO_OVERHEAD,
    Authentication,
    AuthenticationKind,
    Challenge,
    EncapsulatingDelivery,
    Extension,
    Nai,
    RevocationSupport,
    UdpTunnelReply,
    UdpTunnelRequest,
    UnknownExtension,
    UnknownExtensionError,
    VendorExtension,
    ZeroOverheadConfirmation,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.numbers import (
    FIRST_SKIPPABLE,
    MAX_EXTENSIONS,
    ONE_OCTET_PADDING,
    ZERO_OVERHEAD_SUBTYPE,
    ExtensionType,
)


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
        kind = octets[at]
        if kind == ONE_OCTET_PADDING:
            at += 1
            continue
        if len(found) >= MAX_EXTENSIONS:
            raise WireError(f"more than {MAX_EXTENSIONS} extensions")
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


def _exactly(name: str, wanted: int, body: int, stop: int) -> None:
    if stop - body != wanted:
        raise WireError(f"{name} of {stop - body} octets instead of {wanted}")


_KINDS = {int(kind): kind for kind in AuthenticationKind}


def _read_authentication(octets: bytes, at: int, body: int, stop: int) -> Authentication:
    if stop - body < SPI.size:
        raise WireError(f"authentication extension of {stop - body} octets has no SPI")
    kind = octets[at]
    return Authentication(
        _KINDS[kind],
        SPI.unpack_from(octets, body)[0],
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
    if octets[body + 4] or octets[body + 5]:
        # RFC 3519 section 3.1.3: whoever sets the last reserved field wants it skipped by us.
        return UnknownExtension(ExtensionType.UDP_TUNNEL_REQUEST, octets[body:stop], at)
    flags = octets[body + 2]
    return UdpTunnelRequest(
        bool(flags & UDP_FORCED), bool(flags & UDP_FROM_FOREIGN_AGENT), octets[body + 3], at
    )


def _read_udp_reply(octets: bytes, at: int, body: int, stop: int) -> UdpTunnelReply:
    if stop == body or octets[body] != 0:
        raise UnknownExtensionError(ExtensionType.UDP_TUNNEL_REPLY)
    _exactly("UDP tunnel reply", 6, body, stop)
    _, _, _, code, flags, keepalive_s = UDP_REPLY.unpack_from(octets, at)
    return UdpTunnelReply(code, bool(flags & UDP_REPLY_FORCED), keepalive_s, at)


def _read_zero_overhead_request(
    octets: bytes, at: int, body: int, stop: int
) -> ZeroOverheadRequest | UnknownExtension:
    # Others experiment with this number too; it can be skipped.
    if stop - body != 6 or octets[body] != ZERO_OVERHEAD_SUBTYPE:
        return UnknownExtension(ExtensionType.SKIPPABLE_EXPERIMENT, octets[body:stop], at)
    return ZeroOverheadRequest(IPv4Address(ZERO_OVERHEAD.unpack_from(octets, at)[4]), at)


def _read_zero_overhead_confirmation(
    octets: bytes, at: int, body: int, stop: int
) -> ZeroOverheadConfirmation:
    if stop == body or octets[body] != ZERO_OVERHEAD_SUBTYPE:
        raise UnknownExtensionError(ExtensionType.EXPERIMENT)
    _exactly("zero-overhead confirmation", 6, body, stop)
    return ZeroOverheadConfirmation(IPv4Address(ZERO_OVERHEAD.unpack_from(octets, at)[4]), at)


def _read_delivery(_octets: bytes, at: int, body: int, stop: int) -> EncapsulatingDelivery:
    _exactly("encapsulating delivery style extension", 0, body, stop)
    return EncapsulatingDelivery(at)


def _read_challenge(octets: bytes, at: int, body: int, stop: int) -> Challenge:
    if stop == body:
        raise WireError("an empty challenge")
    return Challenge(octets[body:stop], at)


def _read_revocation_support(octets: bytes, at: int, body: int, stop: int) -> RevocationSupport:
    # RFC 3543 section 3.2 lets it grow.
    if stop - body < 6:
        raise WireError(f"revocation support extension of {stop - body} octets")
    _, _, flags, timestamp = REVOCATION.unpack_from(octets, at)
    return RevocationSupport(timestamp, bool(flags & REVOCATION_INFORM), at)


def _read_vendor(octets: bytes, at: int, body: int, stop: int) -> VendorExtension:
    critical = octets[at] == ExtensionType.CRITICAL_VENDOR
    data = at + VENDOR.size
    if stop < data:
        raise WireError(f"vendor extension of {stop - body} octets")
    _, _, _, vendor, kind = VENDOR.unpack_from(octets, at)
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

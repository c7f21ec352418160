"""Traffic Selector payloads (RFC 7296 section 3.13)."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Self

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.registry import PayloadType, TsType

MAX_SELECTORS = 64
"""In one payload. Narrowing compares each with each of ours."""

_SELECTOR = struct.Struct("!BBH")
_PORTS = struct.Struct("!HH")
_HEAD_OCTETS = _SELECTOR.size + _PORTS.size
_IPV4_OCTETS = _HEAD_OCTETS + 8
_IPV6_OCTETS = _HEAD_OCTETS + 32
_OPAQUE = (65535, 0)
"""The port range that selects only packets whose ports are not visible (section 3.13.1)."""


@dataclass(frozen=True, slots=True)
class UnknownSelector:
    """A selector of a type that we do not know; it never matches."""

    type: int
    protocol: int
    """Its second octet, which means the protocol in the types that we know."""
    data: bytes

    def serialize(self) -> bytes:
        """Write it as it came."""
        size = _SELECTOR.size + len(self.data)
        return _SELECTOR.pack(self.type, self.protocol, size) + self.data


@dataclass(frozen=True, slots=True)
class TrafficSelectors(Payload):
    """The traffic of one side."""

    selectors: tuple[TrafficSelector | UnknownSelector, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read all selectors. Raises :class:`WireError` for sizes and ranges that are wrong."""
        count = reader.u8()
        reader.take(3)
        if not 1 <= count <= MAX_SELECTORS:
            raise WireError(f"{count} traffic selectors, 1 to {MAX_SELECTORS} allowed")
        data = reader.rest()
        selectors: list[TrafficSelector | UnknownSelector] = []
        at = 0
        for _ in range(count):
            selector, at = _parse_selector(data, at)
            selectors.append(selector)
        if at != len(data):
            raise WireError(f"{len(data) - at} octets after the last traffic selector")
        return cls(tuple(selectors))

    def body(self) -> bytes:
        """Write all selectors."""
        parts = [bytes((len(self.selectors), 0, 0, 0))]
        for selector in self.selectors:
            if isinstance(selector, UnknownSelector):
                parts.append(selector.serialize())
            else:
                parts.append(_serialize_selector(selector))
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class TrafficSelectorsInitiator(TrafficSelectors):
    """TSi."""

    TYPE: ClassVar[PayloadType] = PayloadType.TSI


@dataclass(frozen=True, slots=True)
class TrafficSelectorsResponder(TrafficSelectors):
    """TSr."""

    TYPE: ClassVar[PayloadType] = PayloadType.TSR


def _parse_selector(data: bytes, at: int) -> tuple[TrafficSelector | UnknownSelector, int]:
    """Return the selector at ``at`` and the offset after it."""
    left = len(data) - at
    if left < _SELECTOR.size:
        raise WireError(f"traffic selector header cut: {left} octets left")
    kind, protocol, length = _SELECTOR.unpack_from(data, at)
    if not _SELECTOR.size <= length <= left:
        raise WireError(f"traffic selector of length {length}, {left} octets left")
    end = at + length
    if kind not in (TsType.IPV4_ADDR_RANGE, TsType.IPV6_ADDR_RANGE):
        return UnknownSelector(kind, protocol, data[at + _SELECTOR.size : end]), end
    expected = _IPV4_OCTETS if kind == TsType.IPV4_ADDR_RANGE else _IPV6_OCTETS
    if length != expected:
        raise WireError(f"traffic selector of type {kind} has length {length}, not {expected}")
    ports = _PORTS.unpack_from(data, at + _SELECTOR.size)
    if ports[0] > ports[1] and ports != _OPAQUE:
        raise WireError(f"traffic selector with ports {ports[0]} to {ports[1]}")
    half = (end + at + _HEAD_OCTETS) // 2
    low, high = data[at + _HEAD_OCTETS : half], data[half:end]
    if low > high:
        raise WireError("traffic selector whose first address is above its last")
    cls = IPv4Address if kind == TsType.IPV4_ADDR_RANGE else IPv6Address
    return TrafficSelector(cls(low), cls(high), protocol, *ports), end


def _serialize_selector(selector: TrafficSelector) -> bytes:
    version4 = selector.start.version == 4
    kind = TsType.IPV4_ADDR_RANGE if version4 else TsType.IPV6_ADDR_RANGE
    size = _IPV4_OCTETS if version4 else _IPV6_OCTETS
    head = _SELECTOR.pack(kind, selector.protocol, size)
    ports = _PORTS.pack(selector.start_port, selector.end_port)
    return head + ports + selector.start.packed + selector.end.packed

"""Configuration payload (RFC 7296 section 3.15)."""

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.registry import CfgAttribute, PayloadType

MAX_CONFIGURATION_ATTRIBUTES = 128
MAX_ATTRIBUTE_OCTETS = 4096
"""Of one value."""

_ATTRIBUTE = struct.Struct("!HH")
_TYPE_MASK = 0x7FFF

_SIZES: dict[int, tuple[int, ...]] = {
    CfgAttribute.INTERNAL_IP4_ADDRESS: (0, 4),
    CfgAttribute.INTERNAL_IP4_NETMASK: (0, 4),
    CfgAttribute.INTERNAL_IP4_DNS: (0, 4),
    CfgAttribute.INTERNAL_IP4_NBNS: (0, 4),
    CfgAttribute.INTERNAL_IP4_DHCP: (0, 4),
    # 16: without the prefix length, from clients that follow the drafts of RFC 4306.
    CfgAttribute.INTERNAL_IP6_ADDRESS: (0, 16, 17),
    CfgAttribute.INTERNAL_IP6_DNS: (0, 16),
    CfgAttribute.INTERNAL_IP4_SUBNET: (0, 8),
    CfgAttribute.INTERNAL_IP6_SUBNET: (0, 17),
    CfgAttribute.TUNNEL_MTU: (0, 2),
}


@dataclass(frozen=True, slots=True)
class ConfigurationAttribute:
    """One attribute; in a request an empty value asks for any."""

    type: int
    value: bytes = b""

    def serialize(self) -> bytes:
        """Write it."""
        return _ATTRIBUTE.pack(self.type, len(self.value)) + self.value


@dataclass(frozen=True, slots=True)
class Configuration(Payload):
    """Addresses and servers asked for, or assigned."""

    TYPE: ClassVar[PayloadType] = PayloadType.CP

    type: int
    attributes: tuple[ConfigurationAttribute, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read all attributes, unknown ones as well.

        Raises :class:`WireError` if a known attribute has a size that is not its own.
        """
        kind = reader.u8()
        reader.take(3)
        data = reader.rest()
        attributes: list[ConfigurationAttribute] = []
        at = 0
        while at < len(data):
            if len(attributes) == MAX_CONFIGURATION_ATTRIBUTES:
                raise WireError(f"more than {MAX_CONFIGURATION_ATTRIBUTES} attributes")
            attribute, at = _parse_attribute(data, at)
            attributes.append(attribute)
        return cls(kind, tuple(attributes))

    def body(self) -> bytes:
        """Write all attributes."""
        head = bytes((self.type, 0, 0, 0))
        return head + b"".join(attribute.serialize() for attribute in self.attributes)


def _parse_attribute(data: bytes, at: int) -> tuple[ConfigurationAttribute, int]:
    """Return the attribute at ``at`` and the offset after it."""
    left = len(data) - at - _ATTRIBUTE.size
    if left < 0:
        raise WireError(f"configuration attribute header cut: {len(data) - at} octets left")
    kind, length = _ATTRIBUTE.unpack_from(data, at)
    kind &= _TYPE_MASK
    if length > left:
        raise WireError(f"configuration attribute {kind} of length {length}, {left} octets left")
    sizes = _SIZES.get(kind)
    if sizes is None:
        if length > MAX_ATTRIBUTE_OCTETS:
            raise WireError(f"configuration attribute {kind} of {length} octets")
    elif length not in sizes:
        raise WireError(f"configuration attribute {kind} of {length} octets, {sizes} allowed")
    at += _ATTRIBUTE.size
    return ConfigurationAttribute(kind, data[at : at + length]), at + length

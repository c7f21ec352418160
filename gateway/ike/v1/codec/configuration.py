"""Attributes payload of mode configuration and XAUTH, and Cisco's fragment payload.

draft-ietf-ipsec-isakmp-mode-cfg-05 section 3.2; the fragment's layout is that of Cisco's
implementation, which others follow: message number, fragment number, flags.
"""

import struct
from dataclasses import dataclass, field
from typing import ClassVar, Self

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.v1.codec.attributes import (
    HEADER_OCTETS,
    Attribute,
    attribute_octets,
    parse_attributes,
    serialize_attributes,
)
from gateway.ike.v1.codec.registry import CfgAttribute, PayloadType

LAST_FRAGMENT = 1
"""The flag of the fragment with the highest number."""

_HEAD = struct.Struct("!BxH")
_FRAGMENT = struct.Struct("!HBB")
_SIZES: dict[int, tuple[int, ...]] = {
    CfgAttribute.INTERNAL_IP4_ADDRESS: (0, 4),
    CfgAttribute.INTERNAL_IP4_NETMASK: (0, 4),
    CfgAttribute.INTERNAL_IP4_DNS: (0, 4),
    CfgAttribute.INTERNAL_IP4_NBNS: (0, 4),
    CfgAttribute.INTERNAL_IP4_DHCP: (0, 4),
    CfgAttribute.INTERNAL_IP4_SUBNET: (0, 8),
    CfgAttribute.INTERNAL_IP6_ADDRESS: (0, 16, 17),
    CfgAttribute.INTERNAL_IP6_DNS: (0, 16),
}


@dataclass(frozen=True, slots=True)
class Configuration(Payload):
    """A request, reply, set or acknowledgement; its attributes in the order they came."""

    TYPE: ClassVar[int] = PayloadType.ATTRIBUTES

    type: int
    attributes: tuple[Attribute, ...]
    identifier: int = 0

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read all attributes, unknown ones as well.

        Raises :class:`WireError` if an address attribute has a size that is not its own.
        """
        kind, identifier = _HEAD.unpack(reader.take(_HEAD.size))
        data = reader.rest()
        attributes = parse_attributes(data, 0, _end(data))
        for one in attributes:
            sizes = _SIZES.get(one.type)
            if sizes is not None and len(one.octets) not in sizes and one.value != 0:
                raise WireError(
                    f"configuration attribute {one.type} of {len(one.octets)} octets,"
                    f" {sizes} allowed"
                )
        return cls(kind, attributes, identifier)

    def body(self) -> bytes:
        """Write all attributes, without padding."""
        return _HEAD.pack(self.type, self.identifier) + serialize_attributes(self.attributes)

    def get(self, kind: int) -> Attribute | None:
        """The first attribute of a type, or None."""
        for one in self.attributes:
            if one.type == kind:
                return one
        return None


def _end(data: bytes) -> int:
    """Where the attributes end: some peers fill the payload itself to a multiple of 4 octets."""
    at = 0
    while len(data) - at >= HEADER_OCTETS:
        at += attribute_octets(data, at)
    return at if at <= len(data) and not any(data[at:]) else len(data)


@dataclass(frozen=True, slots=True)
class Fragment(Payload):
    """A piece of an IKE message, header included; the only payload of its message."""

    TYPE: ClassVar[int] = PayloadType.FRAGMENT

    fragment_id: int
    number: int
    """From 1."""
    last: bool
    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read it. Raises :class:`WireError` for number 0 and for a fragment of nothing."""
        fragment_id, number, flags = _FRAGMENT.unpack(reader.take(_FRAGMENT.size))
        if not number or not reader.remaining:
            raise WireError(f"fragment {number} of {reader.remaining} octets")
        return cls(fragment_id, number, bool(flags & LAST_FRAGMENT), reader.rest())

    def body(self) -> bytes:
        """Write it."""
        flags = LAST_FRAGMENT if self.last else 0
        return _FRAGMENT.pack(self.fragment_id, self.number, flags) + self.data

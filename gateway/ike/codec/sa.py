"""Security Association payload: proposals, transforms, attributes (RFC 7296 section 3.3)."""

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.registry import PayloadType, ProtocolId

MAX_PROPOSALS = 64
MAX_TRANSFORMS = 128
"""In one proposal."""
MAX_TRANSFORMS_IN_SA = 512
"""In all proposals of one payload: clients that offer everything they know stay below 200."""
MAX_ATTRIBUTES = 8
"""Of one transform; only Key Length is defined."""
MAX_SPI_OCTETS = 16
"""Of protocols that we do not know; the SPI sizes of those we know are fixed."""

KEY_LENGTH = 14
"""The attribute type of Key Length, always in the short (type/value) format."""

_SHORT_FORMAT = 0x8000
_PROPOSAL = struct.Struct("!BxHBBBB")
_TRANSFORM = struct.Struct("!BxHBxH")
_ATTRIBUTE = struct.Struct("!HH")
_LAST = 0
_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3

_SPI_SIZES: dict[int, tuple[int, ...]] = {
    ProtocolId.IKE: (0, 8),
    ProtocolId.AH: (4,),
    ProtocolId.ESP: (4,),
}


@dataclass(frozen=True, slots=True)
class Transform:
    """One algorithm (section 3.3.2)."""

    type: int
    id: int
    key_bits: int | None = None
    """The Key Length attribute; None where there is none."""
    understood: bool = True
    """False if it came with other attributes (not kept): then it must not be chosen."""

    def serialize(self, *, last: bool = True) -> bytes:
        """Write the substructure. Raises :class:`ValueError` unless it is understood."""
        if not self.understood:
            raise ValueError(f"transform {self.type}/{self.id} has attributes that were not kept")
        more = _LAST if last else _MORE_TRANSFORMS
        if self.key_bits is None:
            return _TRANSFORM.pack(more, _TRANSFORM.size, self.type, self.id)
        size = _TRANSFORM.size + _ATTRIBUTE.size
        head = _TRANSFORM.pack(more, size, self.type, self.id)
        return head + _ATTRIBUTE.pack(_SHORT_FORMAT | KEY_LENGTH, self.key_bits)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One alternative: a protocol and the transforms it allows, any one of each type (3.3.1)."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]

    def serialize(self, *, last: bool = True) -> bytes:
        """Write the substructure."""
        final = len(self.transforms) - 1
        body = self.spi + b"".join(
            transform.serialize(last=index == final)
            for index, transform in enumerate(self.transforms)
        )
        more = _LAST if last else _MORE_PROPOSALS
        size = _PROPOSAL.size + len(body)
        count = len(self.transforms)
        head = _PROPOSAL.pack(more, size, self.number, self.protocol, len(self.spi), count)
        return head + body


@dataclass(frozen=True, slots=True)
class SecurityAssociation(Payload):
    """The alternatives, in the order of the sender's preference."""

    TYPE: ClassVar[PayloadType] = PayloadType.SA

    proposals: tuple[Proposal, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read all proposals. Raises :class:`WireError` for broken structure or sizes.

        Whether the proposals make sense (numbering, missing or doubled transforms, key lengths) is
        a question of negotiation, not of form.
        """
        data = reader.rest()
        proposals: list[Proposal] = []
        at = transforms = 0
        more = True
        while more:
            if len(proposals) == MAX_PROPOSALS:
                raise WireError(f"more than {MAX_PROPOSALS} proposals")
            proposal, at, more = _parse_proposal(data, at)
            transforms += len(proposal.transforms)
            if transforms > MAX_TRANSFORMS_IN_SA:
                raise WireError(f"more than {MAX_TRANSFORMS_IN_SA} transforms in one payload")
            proposals.append(proposal)
        if at != len(data):
            raise WireError(f"{len(data) - at} octets after the last proposal")
        return cls(tuple(proposals))

    def body(self) -> bytes:
        """Write all proposals."""
        final = len(self.proposals) - 1
        return b"".join(
            proposal.serialize(last=index == final) for index, proposal in enumerate(self.proposals)
        )


def check_spi_size(protocol: int, size: int) -> None:
    """Raise :class:`WireError` unless a proposal of ``protocol`` may have an SPI of ``size``."""
    allowed = _SPI_SIZES.get(protocol)
    if allowed is None:
        if size > MAX_SPI_OCTETS:
            raise WireError(f"SPI of {size} octets for protocol {protocol}")
    elif size not in allowed:
        raise WireError(f"SPI of {size} octets for protocol {protocol}, {allowed} allowed")


def _parse_proposal(data: bytes, at: int) -> tuple[Proposal, int, bool]:
    """Return the proposal at ``at``, the offset after it, and whether another one follows."""
    left = len(data) - at
    if left < _PROPOSAL.size:
        raise WireError(f"proposal header cut: {left} octets left")
    more, length, number, protocol, spi_size, count = _PROPOSAL.unpack_from(data, at)
    if more not in (_LAST, _MORE_PROPOSALS):
        raise WireError(f"proposal {number} is neither last nor followed: {more}")
    if not _PROPOSAL.size <= length <= left:
        raise WireError(f"proposal {number} of length {length}, {left} octets left")
    if count > MAX_TRANSFORMS:
        raise WireError(f"more than {MAX_TRANSFORMS} transforms in proposal {number}")
    check_spi_size(protocol, spi_size)
    end = at + length
    at += _PROPOSAL.size
    if spi_size > end - at:
        raise WireError(f"SPI of proposal {number} cut")
    spi = data[at : at + spi_size]
    transforms, at = _parse_transforms(data, at + spi_size, end, count)
    if at != end:
        raise WireError(f"{end - at} octets after the last transform of proposal {number}")
    return Proposal(number, protocol, spi, transforms), end, more == _MORE_PROPOSALS


def _parse_transforms(
    data: bytes, at: int, end: int, count: int
) -> tuple[tuple[Transform, ...], int]:
    transforms: list[Transform] = []
    size = _TRANSFORM.size
    unpack = _TRANSFORM.unpack_from
    for index in range(count):
        if end - at < size:
            raise WireError(f"transform header cut: {end - at} octets left")
        more, length, kind, number = unpack(data, at)
        if not size <= length <= end - at:
            raise WireError(f"transform of length {length}, {end - at} octets left")
        if more != (_MORE_TRANSFORMS if index + 1 < count else _LAST):
            raise WireError(f"transform {index + 1} of {count} is marked {more}")
        if length == size:
            transforms.append(Transform(kind, number))
        else:
            key_bits, understood = _parse_attributes(data, at + size, at + length)
            transforms.append(Transform(kind, number, key_bits, understood))
        at += length
    return tuple(transforms), at


def _parse_attributes(data: bytes, at: int, end: int) -> tuple[int | None, bool]:
    """Return Key Length, and whether there was nothing else (section 3.3.5)."""
    key_bits: int | None = None
    understood = True
    for _ in range(MAX_ATTRIBUTES):
        if at == end:
            return key_bits, understood
        if end - at < _ATTRIBUTE.size:
            raise WireError(f"attribute header cut: {end - at} octets left")
        kind, value = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if kind == _SHORT_FORMAT | KEY_LENGTH and key_bits is None:
            key_bits = value
            continue
        understood = False
        if not kind & _SHORT_FORMAT:
            if value > end - at:
                raise WireError(f"attribute {kind} of length {value}, {end - at} octets left")
            at += value
    if at != end:
        raise WireError(f"more than {MAX_ATTRIBUTES} attributes in a transform")
    return key_bits, understood

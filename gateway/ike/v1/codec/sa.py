"""Security Association payload: proposals and their transforms (RFC 2408 sections 3.4 to 3.6)."""

import struct
from dataclasses import dataclass, field
from typing import ClassVar, Self

from gateway.domain.wire import Reader, WireError
from gateway.ike.codec.payload import Payload
from gateway.ike.v1.codec.attributes import Attribute, parse_attributes, serialize_attributes
from gateway.ike.v1.codec.registry import Doi, PayloadType, ProtocolId, Situation

MAX_PROPOSALS = 64
MAX_TRANSFORMS_IN_SA = 512
"""In all proposals of one payload: clients that offer everything they know stay below 200."""
MAX_SPI_OCTETS = 16
"""Of phase 1, where the SPI (the cookies) says nothing new and is ignored."""

_HEAD = struct.Struct("!II")
_PROPOSAL = struct.Struct("!BxHBBBB")
_TRANSFORM = struct.Struct("!BxHBBxx")
_LAST = 0

_SPI_SIZES: dict[int, tuple[int, ...]] = {
    ProtocolId.AH: (4,),
    ProtocolId.ESP: (4,),
    ProtocolId.IPCOMP: (2, 4),
}


class UnsupportedSituation(WireError):  # noqa: N818 - named for what it is
    """Another domain of interpretation, or a labelled situation, of which we know nothing."""


@dataclass(frozen=True, slots=True)
class Transform:
    """One alternative: an algorithm with all its attributes (section 3.6)."""

    number: int
    id: int
    attributes: tuple[Attribute, ...] = ()

    def serialize(self, *, last: bool = True) -> bytes:
        """Write it."""
        body = serialize_attributes(self.attributes)
        more = _LAST if last else PayloadType.TRANSFORM
        return _TRANSFORM.pack(more, _TRANSFORM.size + len(body), self.number, self.id) + body


@dataclass(frozen=True, slots=True)
class Proposal:
    """A protocol with its transforms, any one of them; equal numbers belong together (3.5)."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]

    def serialize(self, *, last: bool = True) -> bytes:
        """Write it."""
        final = len(self.transforms) - 1
        body = self.spi + b"".join(
            transform.serialize(last=index == final)
            for index, transform in enumerate(self.transforms)
        )
        head = _PROPOSAL.pack(
            _LAST if last else PayloadType.PROPOSAL,
            _PROPOSAL.size + len(body),
            self.number,
            self.protocol,
            len(self.spi),
            len(self.transforms),
        )
        return head + body


@dataclass(frozen=True, slots=True)
class SecurityAssociation(Payload):
    """The proposals of the IPsec DOI, in the order of the sender's preference (section 3.4)."""

    TYPE: ClassVar[int] = PayloadType.SA

    proposals: tuple[Proposal, ...]
    raw: bytes = field(default=b"", repr=False, compare=False)
    """The body as received: SAi_b of RFC 2409, which is hashed. Empty in what we make."""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read all proposals. Raises :class:`WireError` for broken structure or sizes.

        Raises :class:`UnsupportedSituation` for what is not of the plain IPsec DOI. Whether the
        proposals make sense is a question of negotiation, not of form.
        """
        data = reader.rest()
        if len(data) < _HEAD.size:
            raise WireError(f"SA payload of {len(data)} octets")
        doi, situation = _HEAD.unpack_from(data)
        if doi not in (Doi.IPSEC, Doi.ISAKMP) or situation != Situation.IDENTITY_ONLY:
            raise UnsupportedSituation(f"SA of DOI {doi}, situation {situation:#x}")
        proposals: list[Proposal] = []
        at, transforms, more = _HEAD.size, 0, True
        while more:
            if len(proposals) == MAX_PROPOSALS:
                raise WireError(f"more than {MAX_PROPOSALS} proposals")
            proposal, at, more = _parse_proposal(data, at, MAX_TRANSFORMS_IN_SA - transforms)
            transforms += len(proposal.transforms)
            proposals.append(proposal)
        if at != len(data):
            raise WireError(f"{len(data) - at} octets after the last proposal")
        return cls(tuple(proposals), data)

    def body(self) -> bytes:
        """What came, or all proposals for our own."""
        if self.raw:
            return self.raw
        final = len(self.proposals) - 1
        return _HEAD.pack(Doi.IPSEC, Situation.IDENTITY_ONLY) + b"".join(
            proposal.serialize(last=index == final) for index, proposal in enumerate(self.proposals)
        )


def _parse_proposal(data: bytes, at: int, most: int) -> tuple[Proposal, int, bool]:
    """Return the proposal at ``at``, the offset after it, and whether another one follows."""
    left = len(data) - at
    if left < _PROPOSAL.size:
        raise WireError(f"proposal header cut: {left} octets left")
    more, length, number, protocol, spi_size, count = _PROPOSAL.unpack_from(data, at)
    if more not in (_LAST, PayloadType.PROPOSAL):
        raise WireError(f"proposal {number} is neither last nor followed: {more}")
    if not _PROPOSAL.size <= length <= left:
        raise WireError(f"proposal {number} of length {length}, {left} octets left")
    if count > most:
        raise WireError(f"more than {MAX_TRANSFORMS_IN_SA} transforms in one payload")
    allowed = _SPI_SIZES.get(protocol)
    if spi_size > MAX_SPI_OCTETS or (allowed is not None and spi_size not in allowed):
        raise WireError(f"SPI of {spi_size} octets for protocol {protocol}")
    end = at + length
    at += _PROPOSAL.size
    if spi_size > end - at:
        raise WireError(f"SPI of proposal {number} cut")
    spi = data[at : at + spi_size]
    transforms, at = _parse_transforms(data, at + spi_size, end, count)
    if at != end:
        raise WireError(f"{end - at} octets after the last transform of proposal {number}")
    return Proposal(number, protocol, spi, transforms), end, more == PayloadType.PROPOSAL


def _parse_transforms(
    data: bytes, at: int, end: int, count: int
) -> tuple[tuple[Transform, ...], int]:
    """Return ``count`` transforms from ``at`` on, and the offset after them."""
    transforms: list[Transform] = []
    for index in range(count):
        if end - at < _TRANSFORM.size:
            raise WireError(f"transform header cut: {end - at} octets left")
        more, length, number, kind = _TRANSFORM.unpack_from(data, at)
        if more != (_LAST if index == count - 1 else PayloadType.TRANSFORM):
            raise WireError(f"transform {index + 1} of {count} announces {more} after it")
        if not _TRANSFORM.size <= length <= end - at:
            raise WireError(f"transform of length {length}, {end - at} octets left")
        attributes = parse_attributes(data, at + _TRANSFORM.size, at + length)
        transforms.append(Transform(number, kind, attributes))
        at += length
    return tuple(transforms), at

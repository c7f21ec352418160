"""What all payloads of IKEv2 and IKEv1 have in common."""

from dataclasses import dataclass
from typing import ClassVar, Self

from gateway.domain.wire import Reader
from gateway.ike.codec.chain import generic_header


class Payload:
    """One payload of a message. Subclasses are frozen and know the layout of one body."""

    __slots__ = ()

    TYPE: ClassVar[int]

    @property
    def payload_type(self) -> int:
        """The number by which the payload before it, or the header, announces it."""
        return self.TYPE

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read a body to its end. Raises :class:`~gateway.domain.wire.WireError`."""
        raise NotImplementedError

    def body(self) -> bytes:
        """Write the octets after the generic header."""
        raise NotImplementedError

    def serialize(self, following: int = 0) -> bytes:
        """Write the whole payload, ``following`` being the type of the next one or 0."""
        body = self.body()
        return generic_header(following, len(body)) + body


@dataclass(frozen=True, slots=True)
class UnknownPayload(Payload):
    """A payload whose type is not in the registry; those of IKEv1 are among them."""

    type: int
    critical: bool
    data: bytes

    @property
    def payload_type(self) -> int:
        """The number on the wire."""
        return self.type

    def body(self) -> bytes:
        """Write what came."""
        return self.data

    def serialize(self, following: int = 0) -> bytes:
        """Write the whole payload with its critical flag."""
        return generic_header(following, len(self.data), critical=self.critical) + self.data

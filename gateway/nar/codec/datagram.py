"""The header of relayed UDP datagrams of the plain proxy (RFC 1928 section 7)."""

from dataclasses import dataclass, field

from gateway.domain.wire import Reader, WireError
from gateway.nar.codec.address import Address, address_to_octets, read_address

MAX_HEADER_OCTETS = 4 + 1 + 255 + 2


@dataclass(frozen=True, slots=True)
class RelayDatagram:
    """RSV FRAG ATYP DST.ADDR DST.PORT DATA; ours never are fragments."""

    address: Address
    port: int
    data: bytes = field(repr=False)
    fragment: int = 0
    """Not 0: part of a larger one, which is dropped here as the RFC allows."""

    @classmethod
    def parse(cls, octets: bytes) -> "RelayDatagram":
        """Raises WireError."""
        reader = Reader(octets)
        if reader.u16() != 0:
            raise WireError("reserved octets that are not 0")
        fragment = reader.u8()
        address = read_address(reader)
        port = reader.u16()
        return cls(address, port, reader.rest(), fragment)

    def to_octets(self) -> bytes:
        """Raises WireError for a bad name or number."""
        if not (0 <= self.fragment <= 0xFF and 0 <= self.port <= 0xFFFF):
            raise WireError(f"fragment {self.fragment}, port {self.port}: one is out of range")
        head = bytes((0, 0, self.fragment)) + address_to_octets(self.address)
        return head + self.port.to_bytes(2, "big") + self.data

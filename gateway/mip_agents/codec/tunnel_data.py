"""Tunnelled packets in UDP: the header between UDP and the packet (RFC 3519 section 3.3)."""

import struct
from dataclasses import dataclass
from typing import Self

from gateway.domain.mobility import Encapsulation
from gateway.domain.wire import WireError
from gateway.mip_agents.codec.numbers import MessageType

_HEADER = struct.Struct("!BBH")
HEADER_OCTETS = _HEADER.size
_NEXT_HEADERS = frozenset(one.protocol for one in Encapsulation)


@dataclass(frozen=True, slots=True)
class TunnelData:
    """A packet inside UDP."""

    next_header: int
    """IP protocol number of ``packet``: 4 IP, 47 GRE, 55 minimal encapsulation."""
    packet: bytes

    @classmethod
    def parse(cls, octets: bytes) -> Self:
        """Read the payload of a UDP datagram.

        Raises:
            WireError: it is no tunnel data, it is empty, or something else travels in it.
        """
        if len(octets) <= HEADER_OCTETS:
            raise WireError(f"tunnel data of {len(octets)} octets")
        kind, next_header, _ = _HEADER.unpack_from(octets)
        if kind != MessageType.TUNNEL_DATA:
            raise WireError(f"message type {kind} is no tunnel data")
        if next_header not in _NEXT_HEADERS:
            raise WireError(f"next header {next_header} in tunnel data")
        return cls(next_header, octets[HEADER_OCTETS:])

    def serialize(self) -> bytes:
        """Header and packet."""
        return tunnel_data_header(self.next_header) + self.packet


def tunnel_data_header(next_header: int) -> bytes:
    """The four octets before a packet."""
    return _HEADER.pack(MessageType.TUNNEL_DATA, next_header, 0)

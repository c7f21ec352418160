"""Agent advertisements (RFC 5944 section 2.1): an ICMP router advertisement that says more.

The same octets travel over a link as ICMP and inside IKE as the VPN gateway's foreign agent
advertisement (draft 001, appendix B.2). Extensions: challenges of RFC 4721 section 2, the
foreign agent's NAI of RFC 4857 section 8.2.
"""

import enum
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

from gateway.domain.checksum import internet_checksum
from gateway.domain.wire import Reader, WireError

ICMP_ROUTER_ADVERTISEMENT = 9
ROUTER_ADDRESS_WORDS = 2
"""32-bit words of a router address with its preference level (RFC 1256)."""
MOBILITY_AGENT_EXTENSION = 16
PREFIX_LENGTHS_EXTENSION = 19
CHALLENGE_EXTENSION = 24
NAI_EXTENSION = 136
FOREIGN_AGENT_NAI = 3
"""Subtype of the NAI extension (RFC 3846)."""
FIRST_SKIPPABLE = 128
"""Whoever does not know an extension below discards the advertisement (RFC 5944 section 1.8)."""
ONE_OCTET_PADDING = 0
FIRST_SEQUENCE_AFTER_ROLLOVER = 256
MAX_ROUTERS = 32
MAX_CARE_OF_ADDRESSES = 32
MAX_EXTENSIONS = 32
MAX_OCTETS = 1024
_HEADER = struct.Struct("!BBHBBH")
_MOBILITY = struct.Struct("!HHH")
_CODE = {False: 0, True: 16}


class AgentFlag(enum.IntFlag):
    """What the agent is and offers, the sixteen bits after the registration lifetime."""

    REGISTRATION_REQUIRED = 0x8000
    BUSY = 0x4000
    HOME_AGENT = 0x2000
    FOREIGN_AGENT = 0x1000
    MINIMAL_ENCAPSULATION = 0x0800
    GRE = 0x0400
    REVERSE_TUNNELLING = 0x0100
    UDP_TUNNELLING = 0x0080
    """RFC 3519."""
    REVOCATION = 0x0040
    """RFC 3543."""


@dataclass(frozen=True, slots=True)
class RouterAddress:
    """A router of the link and how much it wants to be the default (RFC 1256)."""

    address: IPv4Address
    preference: int = 0


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension that is carried on as it is."""

    type: int
    data: bytes


def challenge(value: bytes) -> Extension:
    """What mobile nodes have to give back (RFC 4721 section 2); at least four random octets."""
    return Extension(CHALLENGE_EXTENSION, value)


def foreign_agent_nai(nai: str) -> Extension:
    """Who advertises: a change of its realm tells mobile nodes that they moved (RFC 4857)."""
    return Extension(NAI_EXTENSION, bytes([FOREIGN_AGENT_NAI]) + nai.encode())


@dataclass(frozen=True, slots=True)
class AgentAdvertisement:
    """An agent advertisement."""

    sequence: int
    registration_lifetime_s: int
    """The longest lifetime that the agent grants; 65535 is infinity."""
    flags: AgentFlag
    care_of_addresses: tuple[IPv4Address, ...] = ()
    lifetime_s: int = 1800
    """How long the advertisement itself is good for."""
    routers: tuple[RouterAddress, ...] = ()
    prefix_lengths: tuple[int, ...] = ()
    """Of the routers' networks, in their order; empty when not told."""
    extensions: tuple[Extension, ...] = ()
    routes_common_traffic: bool = True
    """ICMP code 0; otherwise 16, and the agent is no router for others."""

    @property
    def challenge(self) -> bytes | None:
        """The foreign agent's latest challenge, if it makes any."""
        for one in self.extensions:
            if one.type == CHALLENGE_EXTENSION:
                return one.data
        return None

    @property
    def nai(self) -> str | None:
        """The foreign agent's NAI, if it tells one that can be printed."""
        for one in self.extensions:
            if one.type == NAI_EXTENSION and one.data[:1] == bytes([FOREIGN_AGENT_NAI]):
                try:
                    nai = one.data[1:].decode()
                except UnicodeDecodeError:
                    return None
                return nai if nai.isprintable() else None
        return None

    def restarted_since(self, earlier: "AgentAdvertisement") -> bool:
        """Whether the agent has forgotten its visitors (RFC 5944 section 2.3.2).

        Sequence numbers start at 0 and go on at 256 after 65535, so one that falls and is below
        256 tells of a restart.
        """
        return self.sequence < FIRST_SEQUENCE_AFTER_ROLLOVER and self.sequence < earlier.sequence

    @classmethod
    def parse(cls, octets: bytes) -> Self:
        """Read an ICMP message, checksum included.

        Raises:
            WireError: it is no agent advertisement, or breaks its format.
        """
        if len(octets) > MAX_OCTETS:
            raise WireError(f"agent advertisement of {len(octets)} octets")
        reader = Reader(octets)
        kind, code, _, count, words, lifetime_s = _HEADER.unpack(reader.take(_HEADER.size))
        if kind != ICMP_ROUTER_ADVERTISEMENT or code not in _CODE.values():
            raise WireError(f"ICMP type {kind} code {code} is no agent advertisement")
        if internet_checksum(octets) != 0:
            raise WireError("the checksum of the agent advertisement is wrong")
        if words < ROUTER_ADDRESS_WORDS or count > MAX_ROUTERS:
            raise WireError(f"{count} router addresses of {words} words")
        routers = tuple(_read_router(reader, words) for _ in range(count))
        return cls._with_extensions(reader, code, lifetime_s, routers)

    @classmethod
    def _with_extensions(
        cls, reader: Reader, code: int, lifetime_s: int, routers: tuple[RouterAddress, ...]
    ) -> Self:
        mobility: tuple[int, int, int, tuple[IPv4Address, ...]] | None = None
        prefix_lengths: tuple[int, ...] = ()
        others: list[Extension] = []
        for extension in _read_extensions(reader):
            if extension.type == MOBILITY_AGENT_EXTENSION:
                if mobility is not None:
                    raise WireError("mobility agent extension twice")
                mobility = _read_mobility(extension.data)
            elif extension.type == PREFIX_LENGTHS_EXTENSION:
                if len(extension.data) != len(routers) or any(n > 32 for n in extension.data):
                    raise WireError("prefix lengths that do not fit the routers")
                prefix_lengths = tuple(extension.data)
            elif extension.type < FIRST_SKIPPABLE and extension.type != CHALLENGE_EXTENSION:
                raise WireError(f"extension {extension.type} may not be skipped")
            else:
                others.append(extension)
        if mobility is None:
            raise WireError("a router advertisement without the mobility agent extension")
        sequence, registration_s, flags, care_of = mobility
        if flags & AgentFlag.FOREIGN_AGENT and not care_of:
            raise WireError("a foreign agent without a care-of address")
        return cls(
            sequence,
            registration_s,
            AgentFlag(flags),
            care_of,
            lifetime_s,
            routers,
            prefix_lengths,
            tuple(others),
            code == _CODE[False],
        )

    def serialize(self) -> bytes:
        """The ICMP message with its checksum."""
        mobility = _MOBILITY.pack(self.sequence, self.registration_lifetime_s, self.flags)
        mobility += b"".join(address.packed for address in self.care_of_addresses)
        parts = [_extension(MOBILITY_AGENT_EXTENSION, mobility)]
        if self.prefix_lengths:
            parts.append(_extension(PREFIX_LENGTHS_EXTENSION, bytes(self.prefix_lengths)))
        parts += [_extension(one.type, one.data) for one in self.extensions]
        body = b"".join(
            router.address.packed + struct.pack("!i", router.preference) for router in self.routers
        ) + b"".join(parts)
        code = _CODE[not self.routes_common_traffic]
        routers = len(self.routers)

        def header(checksum: int) -> bytes:
            return _HEADER.pack(
                ICMP_ROUTER_ADVERTISEMENT,
                code,
                checksum,
                routers,
                ROUTER_ADDRESS_WORDS,
                self.lifetime_s,
            )

        return header(internet_checksum(header(0) + body)) + body


def _read_router(reader: Reader, words: int) -> RouterAddress:
    entry = reader.sub(4 * words)
    address = entry.ipv4()
    preference: int = struct.unpack("!i", entry.take(4))[0]
    return RouterAddress(address, preference)


def _read_extensions(reader: Reader) -> list[Extension]:
    found: list[Extension] = []
    while reader.remaining:
        kind = reader.u8()
        if kind == ONE_OCTET_PADDING:
            continue
        if len(found) >= MAX_EXTENSIONS:
            raise WireError(f"more than {MAX_EXTENSIONS} extensions")
        found.append(Extension(kind, reader.take(reader.u8())))
    return found


def _read_mobility(data: bytes) -> tuple[int, int, int, tuple[IPv4Address, ...]]:
    reader = Reader(data)
    sequence, registration_s, flags = _MOBILITY.unpack(reader.take(_MOBILITY.size))
    if reader.remaining % 4 or reader.remaining > 4 * MAX_CARE_OF_ADDRESSES:
        raise WireError(f"care-of addresses of {reader.remaining} octets")
    care_of = tuple(reader.ipv4() for _ in range(reader.remaining // 4))
    return sequence, registration_s, flags, care_of


def _extension(kind: int, data: bytes) -> bytes:
    return bytes([kind, len(data)]) + data

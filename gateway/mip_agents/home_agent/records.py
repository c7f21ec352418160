"""What a restart must not lose of a registrant: bindings, and what its replays are known by.

How durable the replay protection is: a record is written whenever a binding changes, and of
mere renewals only now and then. It holds the last timestamp accepted and our clock at that
moment. A mobile node's clock goes on as ours does, so by the time of the restart it cannot have
signed anything later than that timestamp plus the time gone by: everything up to there is
refused, written down or not, and everything signed after the restart is welcome. Only when the
distance of the two clocks changes, a renewal has to be written down at once. Nonces are not
kept: after a restart each mobile node is given a new one with code 133, one more round trip.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import Encapsulation, Tunnel
from gateway.domain.wire import Reader, WireError
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.home_agent.bindings import (
    NEVER,
    CareOf,
    Logins,
    Registrant,
    Revocable,
    dotted,
)
from gateway.mip_agents.policy import HomeAgentPolicy
from gateway.mip_agents.replay import TimestampIdentification, ntp

VERSION = 2
_WITHOUT_LOGINS = 1
"""The version before mobile nodes could log in."""
MARGIN_S = 0.5
"""Of clocks that drift and packets that take unequally long."""
SKEW_S = 0.2
"""A clock that moved by more against ours is written down at once."""
LONGEST_PAUSE_S = 300.0
_HEAD = struct.Struct("!BBBBIIdIB")
_LOGINS = struct.Struct("!Qdd")
_REPLAY = struct.Struct("!IQ")
_CARE_OF = struct.Struct("!IIHBBBHddIIB")
_REVOCABLE = struct.Struct("!IHBIII")
_BY_PROTOCOL = {one.protocol: one for one in Encapsulation}
_LEASED, _LOGGED_IN = 1, 2
_NAT, _REVOCABLE_BIT, _INFORM = 1, 2, 4
_MAX_CARE_OFS = 255
_64_BITS = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it is read; the wall clock's times are not yet those of the engine."""

    home_agent: str
    """The home agent's name."""
    nai: str
    home_address: IPv4Address
    """0.0.0.0 when all that is left is replay protection."""
    static_home_address: IPv4Address
    """By which a mobile node without NAI is known."""
    leased: bool
    accepted_wall_s: float
    registrations: int
    replay: tuple[tuple[int, int], ...]
    """SPI and last timestamp."""
    logins: Logins | None
    care_ofs: tuple[CareOf, ...]
    """``expires_at`` and ``granted_at`` by the wall clock."""


def key(home_agent: str, nai: str, home_address: IPv4Address | None) -> str:
    """The name of a mobile node's record."""
    return f"home-agent/{home_agent}/{nai or dotted(int(home_address or 0))}"


def due(registrant: Registrant, care_of: CareOf, skew_s: float) -> bool:
    """Whether a renewal that changed nothing else has to be written down."""
    if abs(skew_s - registrant.kept_skew_s) > SKEW_S:
        return True
    longest_s = min(care_of.lifetime_s / 8, LONGEST_PAUSE_S)
    # Of two endless lifetimes the difference is no number, and that is not more than anything.
    return abs(care_of.expires_at - care_of.kept_expires_at) > longest_s


def write(registrant: Registrant, policy: HomeAgentPolicy, wall_s: float, now: float) -> bytes:
    """The record of a registrant."""
    offset = wall_s - now
    name, nai = policy.name.encode()[:255], registrant.node.nai.encode()[:255]
    stamps = [
        _REPLAY.pack(spi, one.state)
        for spi, one in registrant.replay.items()
        if type(one) is TimestampIdentification
    ]
    known = registrant.logins
    parts = [
        _HEAD.pack(
            VERSION,
            len(name),
            len(nai),
            len(stamps),
            int(registrant.home_address or 0),
            int(registrant.node.home_address or 0),
            registrant.accepted_wall_s,
            registrant.registrations & 0xFFFF_FFFF,
            _LEASED * registrant.leased | _LOGGED_IN * (known is not None),
        ),
        name,
        nai,
        *stamps,
    ]
    if known is not None:
        parts.append(_LOGINS.pack(known.newest_us, known.since, known.expires_wall_s))
    parts += [_write_care_of(one, offset) for one in registrant.care_ofs[-_MAX_CARE_OFS:]]
    return b"".join(parts)


def _write_care_of(one: CareOf, offset: float) -> bytes:
    tunnel, revocable = one.tunnel, one.revocable
    octets = _CARE_OF.pack(
        int(one.address),
        int(tunnel.remote),
        tunnel.udp_port,
        tunnel.encapsulation.protocol,
        one.flags,
        _NAT * one.nat
        | _REVOCABLE_BIT * (revocable is not None)
        | _INFORM * (revocable is not None and revocable.inform),
        one.lifetime_s,
        one.granted_at + offset,
        one.expires_at + offset,
        int(one.zero_overhead or 0),
        int(one.agent or 0),
        one.agent is not None,
    )
    if revocable is None:
        return octets
    return octets + _REVOCABLE.pack(
        int(revocable.peer.address),
        revocable.peer.port,
        revocable.kind,
        revocable.spi,
        revocable.their_timestamp,
        revocable.our_timestamp,
    )


def read(octets: bytes, local: IPv4Address) -> Record:
    """Read a record; ``local`` is the home agent's address, the near end of its tunnels.

    Raises:
        WireError: it is no record of this version, or broken.
    """
    reader = Reader(octets)
    version, name_octets, nai_octets, stamps, home, static, accepted, count, flags = _HEAD.unpack(
        reader.take(_HEAD.size)
    )
    if version not in (VERSION, _WITHOUT_LOGINS):
        raise WireError(f"record of version {version}")
    try:
        name, nai = reader.take(name_octets).decode(), reader.take(nai_octets).decode()
    except UnicodeDecodeError:
        raise WireError("names that are no text") from None
    replay = tuple(_REPLAY.unpack(reader.take(_REPLAY.size)) for _ in range(stamps))
    known = None
    if version == VERSION and flags & _LOGGED_IN:
        known = Logins(*_LOGINS.unpack(reader.take(_LOGINS.size)))
        known.kept = True
    care_ofs = []
    while reader.remaining:
        care_ofs.append(_read_care_of(reader, local))
    return Record(
        name,
        nai,
        IPv4Address(home),
        IPv4Address(static),
        bool(flags & _LEASED),
        accepted,
        count,
        replay,
        known,
        tuple(care_ofs),
    )


def _read_care_of(reader: Reader, local: IPv4Address) -> CareOf:
    (
        address,
        remote,
        port,
        protocol,
        flags,
        bits,
        lifetime_s,
        granted,
        expires,
        zero_overhead,
        agent,
        by_agent,
    ) = _CARE_OF.unpack(reader.take(_CARE_OF.size))
    encapsulation = _BY_PROTOCOL.get(protocol)
    if encapsulation is None or not granted <= expires <= NEVER:
        raise WireError("a binding that cannot be")
    one = CareOf(
        IPv4Address(address),
        flags,
        Tunnel(local, IPv4Address(remote), encapsulation, port),
        IPv4Address(zero_overhead) if zero_overhead else None,
        IPv4Address(agent) if by_agent else None,
        nat=bool(bits & _NAT),
    )
    one.lifetime_s, one.granted_at, one.expires_at = lifetime_s, granted, expires
    if bits & _REVOCABLE_BIT:
        peer, peer_port, kind, spi, theirs, ours = _REVOCABLE.unpack(reader.take(_REVOCABLE.size))
        if kind not in tuple(AuthenticationKind):
            raise WireError("a revocation that cannot be")
        one.revocable = Revocable(
            Endpoint(IPv4Address(peer), peer_port),
            AuthenticationKind(kind),
            spi,
            theirs,
            ours,
            inform=bool(bits & _INFORM),
        )
    return one


def floor(timestamp: int, accepted_wall_s: float, wall_s: float) -> int:
    """The latest timestamp that may have been accepted before a restart at ``wall_s``."""
    gone_s = max(0.0, wall_s - accepted_wall_s + MARGIN_S)
    return (timestamp + int(gone_s * 2**32)) & _64_BITS


def latest(timestamps: Iterable[int]) -> int:
    """The last of several timestamps, which wrap around; 0 of none."""
    last = 0
    for one in timestamps:
        if not last or (one - last) & _64_BITS < 1 << 63:
            last = one
    return last


def skew_s(timestamp: int, wall_s: float) -> float:
    """How far a mobile node's clock is ahead of ours."""
    difference = (timestamp - ntp(wall_s)) & _64_BITS
    return (difference - 2**64 if difference >> 63 else difference) / 2**32

"""What a restart must not lose: sessions and leases, each in a record of its own.

So a lease costs one small record, however many its session has. A session's record is there as long
as it has leases. All numbers are in network order.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.nar import Delivery, L2tpSession, NarMapping, NarProtocol, NarTuple
from gateway.domain.wire import Reader, WireError
from gateway.nar.server.leases import Lease
from gateway.nar.server.sessions import Session

VERSION: Final = 1
_SESSION: Final = 1
_LEASE: Final = 2
_HEAD: Final = struct.Struct("!BB")
_SESSION_BODY: Final = struct.Struct("!QIIHdBBB")
_L2TP: Final = struct.Struct("!IIII8s8s")
_LEASE_BODY: Final = struct.Struct("!QIBBBIIIHHId")
_TOKEN, _HAS_L2TP = 1, 2
_REMOTE, _REMOTE_PORT, _PEER, _HELD = 1, 2, 4, 8
_DELIVERIES: Final = (Delivery.IP_IP, Delivery.GRE, Delivery.L2TP, Delivery.TRANSLATED)
_MOST: Final = 255
_DIGEST_OCTETS: Final = 16


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it was written down."""

    server: str
    number: int
    address: IPv4Address
    client: IPv4Address
    client_port: int
    since_wall_s: float
    user: str
    groups: tuple[str, ...]
    token_digest: bytes
    l2tp: L2tpSession | None


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease as it was written down; server and client are its session's."""

    session: int
    number: int
    tuple: NarTuple
    delivery: Delivery
    client_port: int
    peer: IPv4Address | None
    held: bool
    opened_wall_s: float

    def mapping(self, session: SessionRecord) -> NarMapping:
        """The mapping it stands for."""
        return NarMapping(
            session.server, self.tuple, session.client, self.delivery, self.client_port, self.peer
        )


def session_key(server: str, number: int) -> str:
    """The name of a session's record."""
    return f"nar/{server}/{number:016x}"


def lease_key(server: str, session: int, number: int) -> str:
    """The name of a lease's record."""
    return f"nar/{server}/{session:016x}/{number}"


def write_session(server: str, session: Session) -> bytes:
    """The record of a session."""
    owner, l2tp = session.owner, session.l2tp
    texts = [one.encode()[:_MOST] for one in (server, owner.user, *session.groups[:_MOST])]
    head = _SESSION_BODY.pack(
        session.number,
        int(session.address),
        int(owner.client),
        session.client_port,
        session.since_wall_s,
        _TOKEN * bool(session.token_digest) | _HAS_L2TP * (l2tp is not None),
        len(session.groups[:_MOST]),
        0,
    )
    parts = [_HEAD.pack(VERSION, _SESSION), head, session.token_digest]
    if l2tp is not None:
        parts.append(
            _L2TP.pack(
                l2tp.tunnel_id,
                l2tp.peer_tunnel_id,
                l2tp.session_id,
                l2tp.peer_session_id,
                l2tp.cookie,
                l2tp.peer_cookie,
            )
        )
    for text in texts:
        parts += (bytes((len(text),)), text)
    return b"".join(parts)


def write_lease(lease: Lease) -> bytes:
    """The record of a lease, 48 octets."""
    mapping = lease.mapping
    key, peer = mapping.tuple, mapping.peer
    remote, port = key.remote, key.remote_port
    return _HEAD.pack(VERSION, _LEASE) + _LEASE_BODY.pack(
        lease.session.number,
        lease.number,
        key.protocol,
        _DELIVERIES.index(mapping.delivery),
        _REMOTE * (remote is not None)
        | _REMOTE_PORT * (port is not None)
        | _PEER * (peer is not None)
        | _HELD * lease.held,
        int(key.address),
        key.value,
        int(remote or 0),
        port or 0,
        mapping.client_port,
        int(peer or 0),
        lease.opened_wall_s,
    )


def read(octets: bytes) -> SessionRecord | LeaseRecord:
    """Read a record.

    Raises:
        WireError: it is no record of this version, or broken.
    """
    reader = Reader(octets)
    version, kind = _HEAD.unpack(reader.take(_HEAD.size))
    if version != VERSION:
        raise WireError(f"record of version {version}")
    if kind == _SESSION:
        return _read_session(reader)
    if kind == _LEASE:
        return _read_lease(reader)
    raise WireError(f"record of kind {kind}")


def _read_session(reader: Reader) -> SessionRecord:
    number, address, client, port, since, bits, groups, _ = _SESSION_BODY.unpack(
        reader.take(_SESSION_BODY.size)
    )
    digest = reader.take(_DIGEST_OCTETS) if bits & _TOKEN else b""
    l2tp = None
    if bits & _HAS_L2TP:
        l2tp = L2tpSession(IPv4Address(client), *_L2TP.unpack(reader.take(_L2TP.size)))
    try:
        server, user, *names = [reader.take(reader.u8()).decode() for _ in range(2 + groups)]
    except UnicodeDecodeError:
        raise WireError("names that are no text") from None
    reader.finish()
    return SessionRecord(
        server,
        number,
        IPv4Address(address),
        IPv4Address(client),
        port,
        since,
        user,
        tuple(names),
        digest,
        l2tp,
    )


def _read_lease(reader: Reader) -> LeaseRecord:
    (
        session,
        number,
        protocol,
        delivery,
        bits,
        address,
        value,
        remote,
        remote_port,
        client_port,
        peer,
        opened,
    ) = _LEASE_BODY.unpack(reader.take(_LEASE_BODY.size))
    reader.finish()
    if protocol not in tuple(NarProtocol) or delivery >= len(_DELIVERIES):
        raise WireError("a lease that cannot be")
    key = NarTuple(
        NarProtocol(protocol),
        IPv4Address(address),
        value,
        IPv4Address(remote) if bits & _REMOTE else None,
        remote_port if bits & _REMOTE_PORT else None,
    )
    return LeaseRecord(
        session,
        number,
        key,
        _DELIVERIES[delivery],
        client_port,
        IPv4Address(peer) if bits & _PEER else None,
        bool(bits & _HELD),
        opened,
    )

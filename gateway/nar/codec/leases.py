"""Our extension of NAR: sessions, renewal, release, L2TP and notices (flag LEASES)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.nar import L2tpSession, NarProtocol, NarTuple
from gateway.domain.wire import Reader, WireError
from gateway.nar.codec.address import NO_ADDRESS
from gateway.nar.codec.associate import nar_head
from gateway.nar.codec.numbers import NAR_VERSION, NarCommand, Notice, Reply
from gateway.nar.codec.request import reply_from

TOKEN_OCTETS: Final = 16
NEW_SESSION: Final = bytes(TOKEN_OCTETS)
"""The token of a client that has none yet."""
COOKIE_OCTETS: Final = 8
TUPLE_OCTETS: Final = 12
SESSION_OCTETS: Final = 2 + TOKEN_OCTETS
SESSION_REPLY_OCTETS: Final = SESSION_OCTETS + 8
RENEW_OCTETS: Final = 2
RENEW_REPLY_OCTETS: Final = 6
RELEASE_OCTETS: Final = 2 + TUPLE_OCTETS
L2TP_OCTETS: Final = 2
L2TP_REPLY_OCTETS: Final = 2 + 4 * 4 + 2 * COOKIE_OCTETS
NOTICE_OCTETS: Final = 2 + 2 + 4 + TUPLE_OCTETS
FIRST_UNASKED: Final = 0x80
"""Second octets from here on are no reply, but said unasked."""


@dataclass(frozen=True, slots=True)
class LeaseKey:
    """A :class:`NarTuple` on the wire, without Nb: PROTOCOL 0 REMOTE.PORT REMOTE VALUE."""

    protocol: NarProtocol
    value: int
    remote: IPv4Address | None = None
    remote_port: int | None = None

    @classmethod
    def of(cls, key: NarTuple) -> "LeaseKey":
        """What names this tuple within a session."""
        return cls(key.protocol, key.value, key.remote, key.remote_port)

    def at(self, address: IPv4Address) -> NarTuple:
        """The tuple of this name at Nb ``address``."""
        return NarTuple(self.protocol, address, self.value, self.remote, self.remote_port)


@dataclass(frozen=True, slots=True)
class Session:
    """Asks for a session, or to go on with that of ``token``."""

    token: bytes = field(default=NEW_SESSION, repr=False)

    @classmethod
    def parse(cls, octets: bytes) -> "Session":
        """Raises WireError."""
        reader = _reader(octets, NarCommand.SESSION)
        token = reader.take(TOKEN_OCTETS)
        reader.finish()
        return cls(token)

    def to_octets(self) -> bytes:
        """The request."""
        return _head(NarCommand.SESSION) + _sized(self.token, TOKEN_OCTETS)


@dataclass(frozen=True, slots=True)
class SessionReply:
    """The token to come back with, and how long things last."""

    reply: Reply
    token: bytes = field(default=NEW_SESSION, repr=False)
    lease_s: int = 0
    grace_s: int = 0

    @classmethod
    def parse(cls, octets: bytes) -> "SessionReply":
        """Raises WireError."""
        reader = Reader(octets)
        reply = reply_from(nar_head(reader, None))
        token, lease_s, grace_s = reader.take(TOKEN_OCTETS), reader.u32(), reader.u32()
        reader.finish()
        return cls(reply, token, lease_s, grace_s)

    def to_octets(self) -> bytes:
        """The reply."""
        token = _sized(self.token, TOKEN_OCTETS)
        return _head(self.reply) + token + _u32(self.lease_s) + _u32(self.grace_s)


@dataclass(frozen=True, slots=True)
class Renew:
    """Asks that all leases of the session go on."""

    @classmethod
    def parse(cls, octets: bytes) -> "Renew":
        """Raises WireError."""
        _reader(octets, NarCommand.RENEW).finish()
        return cls()

    def to_octets(self) -> bytes:
        """The request."""
        return _head(NarCommand.RENEW)


@dataclass(frozen=True, slots=True)
class RenewReply:
    """They last ``lease_s`` from now."""

    reply: Reply
    lease_s: int = 0

    @classmethod
    def parse(cls, octets: bytes) -> "RenewReply":
        """Raises WireError."""
        reader = Reader(octets)
        reply = reply_from(nar_head(reader, None))
        lease_s = reader.u32()
        reader.finish()
        return cls(reply, lease_s)

    def to_octets(self) -> bytes:
        """The reply."""
        return _head(self.reply) + _u32(self.lease_s)


@dataclass(frozen=True, slots=True)
class Release:
    """Ends one lease, or all with None."""

    key: LeaseKey | None = None

    @classmethod
    def parse(cls, octets: bytes) -> "Release":
        """Raises WireError."""
        reader = _reader(octets, NarCommand.RELEASE)
        key = _read_key(reader)
        reader.finish()
        return cls(key)

    def to_octets(self) -> bytes:
        """The request."""
        return _head(NarCommand.RELEASE) + _key_octets(self.key)


@dataclass(frozen=True, slots=True)
class ReleaseReply:
    """What ended."""

    reply: Reply
    key: LeaseKey | None = None

    @classmethod
    def parse(cls, octets: bytes) -> "ReleaseReply":
        """Raises WireError."""
        reader = Reader(octets)
        reply = reply_from(nar_head(reader, None))
        key = _read_key(reader)
        reader.finish()
        return cls(reply, key)

    def to_octets(self) -> bytes:
        """The reply."""
        return _head(self.reply) + _key_octets(self.key)


@dataclass(frozen=True, slots=True)
class L2tpAssociate:
    """Asks for what the L2TPv3 session needs."""

    @classmethod
    def parse(cls, octets: bytes) -> "L2tpAssociate":
        """Raises WireError."""
        _reader(octets, NarCommand.L2TP_ASSOCIATE).finish()
        return cls()

    def to_octets(self) -> bytes:
        """The request."""
        return _head(NarCommand.L2TP_ASSOCIATE)


@dataclass(frozen=True, slots=True)
class L2tpReply:
    """Seen from the client, which receives ``tunnel_id``, ``session_id`` and ``cookie``."""

    reply: Reply
    tunnel_id: int = 0
    peer_tunnel_id: int = 0
    session_id: int = 0
    peer_session_id: int = 0
    cookie: bytes = field(default=bytes(COOKIE_OCTETS), repr=False)
    peer_cookie: bytes = field(default=bytes(COOKIE_OCTETS), repr=False)

    @classmethod
    def of(cls, session: L2tpSession) -> "L2tpReply":
        """What a client is told about its session."""
        return cls(
            Reply.SUCCEEDED,
            session.peer_tunnel_id,
            session.tunnel_id,
            session.peer_session_id,
            session.session_id,
            session.peer_cookie,
            session.cookie,
        )

    def session(self, client: IPv4Address) -> L2tpSession:
        """The same session, seen from the server again."""
        return L2tpSession(
            client,
            self.peer_tunnel_id,
            self.tunnel_id,
            self.peer_session_id,
            self.session_id,
            self.peer_cookie,
            self.cookie,
        )

    @classmethod
    def parse(cls, octets: bytes) -> "L2tpReply":
        """Raises WireError, also for an identifier 0 in a success."""
        reader = Reader(octets)
        reply = reply_from(nar_head(reader, None))
        numbers = reader.u32(), reader.u32(), reader.u32(), reader.u32()
        cookie, peer_cookie = reader.take(COOKIE_OCTETS), reader.take(COOKIE_OCTETS)
        reader.finish()
        if reply is Reply.SUCCEEDED and 0 in numbers:
            raise WireError("L2TP session with an identifier 0")
        return cls(reply, *numbers, cookie, peer_cookie)

    def to_octets(self) -> bytes:
        """The reply."""
        numbers = (self.tunnel_id, self.peer_tunnel_id, self.session_id, self.peer_session_id)
        cookies = _sized(self.cookie, COOKIE_OCTETS) + _sized(self.peer_cookie, COOKIE_OCTETS)
        return _head(self.reply) + b"".join(map(_u32, numbers)) + cookies


@dataclass(frozen=True, slots=True)
class NoticeMessage:
    """From the server, unasked."""

    reason: Notice
    address: IPv4Address = NO_ADDRESS
    """Nb: the new one, or that of the lease."""
    key: LeaseKey | None = None

    @classmethod
    def parse(cls, octets: bytes) -> "NoticeMessage":
        """Raises WireError."""
        reader = _reader(octets, NarCommand.NOTICE)
        code, reserved = reader.u8(), reader.u8()
        address, key = reader.ipv4(), _read_key(reader)
        reader.finish()
        if reserved:
            raise WireError("reserved octet that is not 0")
        try:
            return cls(Notice(code), address, key)
        except ValueError:
            raise WireError(f"notice for reason {code}") from None

    def to_octets(self) -> bytes:
        """The message."""
        head = _head(NarCommand.NOTICE) + bytes((self.reason, 0))
        return head + self.address.packed + _key_octets(self.key)


def _reader(octets: bytes, command: NarCommand) -> Reader:
    reader = Reader(octets)
    nar_head(reader, command)
    return reader


def _head(code: int) -> bytes:
    return bytes((NAR_VERSION, code))


def _u32(value: int) -> bytes:
    if not 0 <= value <= 0xFFFF_FFFF:
        raise WireError(f"{value} does not fit into 4 octets")
    return value.to_bytes(4, "big")


def _sized(octets: bytes, size: int) -> bytes:
    if len(octets) != size:
        raise WireError(f"{len(octets)} octets where {size} are needed")
    return octets


def _read_key(reader: Reader) -> LeaseKey | None:
    code, reserved, port = reader.u8(), reader.u8(), reader.u16()
    remote, value = reader.u32(), reader.u32()
    if not (code or reserved or port or remote or value):
        return None
    if reserved:
        raise WireError("reserved octet that is not 0")
    try:
        protocol = NarProtocol(code)
    except ValueError:
        raise WireError(f"tuple of protocol {code}") from None
    if (protocol.has_ports or protocol is NarProtocol.ICMP) and value > 0xFFFF:
        raise WireError(f"{protocol.name} with value {value}")
    if port and not protocol.has_ports:
        raise WireError(f"{protocol.name} with a port")
    return LeaseKey(protocol, value, IPv4Address(remote) if remote else None, port or None)


def _key_octets(key: LeaseKey | None) -> bytes:
    if key is None:
        return bytes(TUPLE_OCTETS)
    port, remote = key.remote_port or 0, key.remote or NO_ADDRESS
    if not 0 <= port <= 0xFFFF:
        raise WireError(f"port {port}")
    head = bytes((key.protocol, 0)) + port.to_bytes(2, "big")
    return head + remote.packed + _u32(key.value)

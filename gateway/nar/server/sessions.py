"""Clients, and their sessions: what outlives a control connection."""

import hashlib
import hmac
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from gateway.domain.nar import L2tpSession, NarMapping, NarTuple
from gateway.nar.policy import NarRule

if TYPE_CHECKING:
    from gateway.nar.server.connections import Connection
    from gateway.nar.server.leases import Lease

MAX_MISSED = 256
"""Leases that ended while their client was away, of which it is told when it comes back."""


class Host:
    """A client's address, and what all users there have in common."""

    __slots__ = ("_inside", "address", "client", "owners")

    def __init__(self, client: IPv4Address) -> None:
        self.client = client
        """Xa."""
        self.address: IPv4Address | None = None
        """Nb: the same for all of them, so what the host sends says whose it is."""
        self.owners: dict[str, Owner] = {}
        self._inside: dict[int, Lease] | None = None

    @property
    def inside(self) -> dict[int, "Lease"]:
        """Translated leases by the port that the host itself uses, see :func:`inside_port`."""
        if self._inside is None:
            self._inside = {}
        return self._inside


class Owner:
    """A user at one address: to whom leases belong. One user elsewhere is another owner."""

    __slots__ = ("_lost", "_sessions", "connections", "host", "leases", "user")

    def __init__(self, user: str, host: Host) -> None:
        self.user = user
        """Empty: needed no login."""
        self.host = host
        self.connections = 0
        """That are authenticated."""
        self.leases = 0
        self._sessions: dict[int, Session] | None = None
        """By number; None as long as there never was one, as of most idle connections."""
        self._lost: dict[tuple[int, int, int], dict[Lease, None]] | None = None
        """Leases towards one remote that wait for a client without a token, by that remote."""

    @property
    def sessions(self) -> list["Session"]:
        """All of them, lost ones too."""
        return [] if self._sessions is None else list(self._sessions.values())

    def lose(self, lease: "Lease") -> None:
        """Its session lost its connection: whoever asks for the same remote gets it back."""
        remote = _remote(lease.mapping.tuple)
        if remote is not None:
            if self._lost is None:
                self._lost = {}
            self._lost.setdefault(remote, {})[lease] = None

    def find(self, key: NarTuple) -> "Lease | None":
        """A lost lease of this protocol and remote, at this address."""
        remote = _remote(key)
        if remote is None or not self._lost:
            return None
        found = next(iter(self._lost.get(remote, ())), None)
        return found if found is not None and found.mapping.tuple.address == key.address else None

    def forget(self, lease: "Lease") -> None:
        """It is somebody's again, or over."""
        remote = _remote(lease.mapping.tuple)
        if remote is None or not self._lost or remote not in self._lost:
            return
        self._lost[remote].pop(lease, None)
        if not self._lost[remote]:
            del self._lost[remote]

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a connection nor a session."""
        return not self.connections and not self._sessions

    def add(self, session: "Session") -> None:
        """Enter a session."""
        if self._sessions is None:
            self._sessions = {}
        self._sessions[session.number] = session

    def remove(self, session: "Session") -> None:
        """Take a session out."""
        if self._sessions is not None:
            self._sessions.pop(session.number, None)

    @property
    def client(self) -> IPv4Address:
        """Xa."""
        return self.host.client

    def __str__(self) -> str:
        client = self.host.client
        return f"client {client} ({self.user})" if self.user else f"client {client}"


class Session:
    """Leases of one control connection, or of one that is lost and may come back."""

    __slots__ = (
        "address",
        "client_port",
        "connection",
        "groups",
        "l2tp",
        "last_number",
        "leases",
        "missed",
        "moved",
        "number",
        "owner",
        "rule",
        "since_wall_s",
        "token_digest",
        "until",
    )

    def __init__(
        self,
        number: int,
        owner: Owner,
        address: IPv4Address,
        *,
        rule: NarRule,
        groups: tuple[str, ...],
        since_wall_s: float,
    ) -> None:
        self.number = number
        """64 random bits: its name in records."""
        self.owner = owner
        self.address = address
        """Nb of all its leases."""
        self.rule = rule
        self.groups = groups
        self.since_wall_s = since_wall_s
        self.connection: Connection | None = None
        """None: lost, in its grace period."""
        self.client_port = 0
        self.token_digest = b""
        """Empty: the client did not ask for a session, its leases live with the connection."""
        self.leases: dict[int, Lease] = {}
        self.last_number = 0
        self.until: float | None = None
        """When the login ends that it goes by, and its leases with it."""
        self.l2tp: L2tpSession | None = None
        self.missed: list[NarTuple] = []
        self.moved = False
        """The address changed while the client was away."""


def _remote(key: NarTuple) -> tuple[int, int, int] | None:
    """What a tuple with a port chosen by us is asked for by, None when it is another one."""
    if key.remote_port is None:
        return None
    return key.protocol, int(key.remote or 0), key.remote_port


def digest(token: bytes) -> bytes:
    """What is kept of a token, in memory and in records: enough to know it, not to use it."""
    return hashlib.sha256(token).digest()[:16]


def inside_port(mapping: NarMapping) -> int | None:
    """What a client's packets of this mapping are known by, None when that is not by a port."""
    key = mapping.tuple
    if mapping.delivery.end_to_end or not key.protocol.has_ports:
        return None
    return key.protocol << 16 | (mapping.client_port or key.value)


class Sessions:
    """All clients and sessions of a server."""

    __slots__ = ("_by_digest", "by_number", "hosts")

    def __init__(self) -> None:
        self.by_number: dict[int, Session] = {}
        self._by_digest: dict[bytes, Session] = {}
        self.hosts: dict[int, Host] = {}
        """By client address."""

    def owner(self, user: str, client: IPv4Address) -> Owner:
        """The owner of this name; :meth:`let_go` when it may be of no use any more."""
        host = self.hosts.get(int(client))
        if host is None:
            host = self.hosts[int(client)] = Host(client)
        owner = host.owners.get(user)
        if owner is None:
            owner = host.owners[user] = Owner(user, host)
        return owner

    def let_go(self, owner: Owner) -> None:
        """Forget an owner who has neither a connection nor a session."""
        if not owner.is_idle:
            return
        host = owner.host
        if host.owners.get(owner.user) is owner:
            del host.owners[owner.user]
            if not host.owners:
                self.hosts.pop(int(host.client), None)

    def add(self, session: Session) -> None:
        """Enter a session."""
        self.by_number[session.number] = session
        session.owner.add(session)
        if session.token_digest:
            self._by_digest[session.token_digest] = session

    def remove(self, session: Session) -> None:
        """Take a session out; its owner too, if this was its last trace."""
        self.by_number.pop(session.number, None)
        session.owner.remove(session)
        if session.token_digest:
            self._by_digest.pop(session.token_digest, None)
        self.let_go(session.owner)

    def give_token(self, session: Session, token: bytes) -> None:
        """From now on the session is taken up again with this token, and no other."""
        if session.token_digest:
            self._by_digest.pop(session.token_digest, None)
        session.token_digest = digest(token)
        self._by_digest[session.token_digest] = session

    def knows(self, token_digest: bytes) -> bool:
        """Whether a session has this token already."""
        return token_digest in self._by_digest

    def with_token(self, token: bytes, owner: Owner) -> Session | None:
        """The session of this owner and this token.

        The search goes by the token's digest: how long it takes tells nothing about other tokens.
        """
        given = digest(token)
        session = self._by_digest.get(given)
        if session is None or not hmac.compare_digest(session.token_digest, given):
            return None
        return session if session.owner is owner else None

    def __iter__(self) -> Iterator[Session]:
        return iter(self.by_number.values())

    def __len__(self) -> int:
        return len(self.by_number)

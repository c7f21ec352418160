"""Identifiers and cookies of the L2TPv3 sessions that deliver: one for each client address."""

from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.domain.nar import L2tpSession

_TRIES = 8


class L2tpSessions:
    """Who has which; several sessions of one client share theirs, as its host has one device."""

    __slots__ = ("_by_client", "_ids", "_random", "_users")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._by_client: dict[int, L2tpSession] = {}
        self._users: dict[int, set[int]] = {}
        """Numbers of NAR sessions that use it, by client."""
        self._ids: set[int] = set()
        """Tunnel and session identifiers by which we know incoming packets."""

    def get(self, client: IPv4Address) -> L2tpSession | None:
        """What this client has."""
        return self._by_client.get(int(client))

    def acquire(self, client: IPv4Address, user: int) -> tuple[L2tpSession, bool]:
        """The client's session, used by ``user`` too from now on; and whether it is new."""
        session = self._by_client.get(int(client))
        if session is not None:
            self._users[int(client)].add(user)
            return session, False
        session = L2tpSession(
            client,
            self._fresh(),
            self._identifier(),
            self._fresh(),
            self._identifier(),
            self._random(8),
            self._random(8),
        )
        self._enter(session, user)
        return session, True

    def restore(self, session: L2tpSession, user: int) -> bool:
        """Take over what an earlier process gave; False when it cannot be."""
        present = self._by_client.get(int(session.client))
        if present is not None:
            if present == session:
                self._users[int(session.client)].add(user)
            return present == session
        numbers = (session.tunnel_id, session.session_id)
        if 0 in (*numbers, session.peer_tunnel_id, session.peer_session_id):
            return False
        if not self._ids.isdisjoint(numbers):
            return False
        self._enter(session, user)
        return True

    def release(self, client: IPv4Address, user: int) -> L2tpSession | None:
        """``user`` needs it no more; the session if nobody else does, to be closed."""
        users = self._users.get(int(client))
        if users is None:
            return None
        users.discard(user)
        if users:
            return None
        del self._users[int(client)]
        session = self._by_client.pop(int(client))
        self._ids.difference_update((session.tunnel_id, session.session_id))
        return session

    def _enter(self, session: L2tpSession, user: int) -> None:
        self._by_client[int(session.client)] = session
        self._users[int(session.client)] = {user}
        self._ids.update((session.tunnel_id, session.session_id))

    def _identifier(self) -> int:
        """32 random bits but 0, which stands for control messages (RFC 3931 section 4.1)."""
        return int.from_bytes(self._random(4), "big") or 1

    def _fresh(self) -> int:
        for _ in range(_TRIES):
            number = self._identifier()
            if number not in self._ids:
                return number
        number = 1
        while number in self._ids:
            number += 1
        return number

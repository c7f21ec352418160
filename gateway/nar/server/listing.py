"""Clients and leases in a fixed order, a few at a time: there may be a hundred thousand.

The methods return copies, so that others may have their turn between two calls.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from gateway.domain.endpoint import IpAddress
from gateway.domain.nar import NarTuple
from gateway.nar.server import views
from gateway.nar.server.core import Core
from gateway.nar.server.leases import Lease


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a connection or a session is in the list."""

    client: int
    """Xa; of IPv6 its last 32 bits."""
    lost: bool
    """It is a session that lost its connection."""
    number: int
    """Of the connection or the session."""


class Listing:
    """What one NAR server has, for status pages. Cheap to make."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def clients(self, client: IPv4Address | None, user: str | None) -> list[Place]:
        """All connections and lost sessions in order, or those of one client, one user."""
        found = [
            Place(_number(one.client.address), False, one.number)
            for one in self._core.connections.by_number.values()
            if client in {None, one.client.address}
            and (user is None or (one.owner is not None and one.owner.user == user))
        ]
        found += [place for place in self.sessions(client, user) if place.lost]
        return sorted(found)

    def client(self, place: Place) -> dict[str, object] | None:
        """One of them, see :mod:`.views`; None when it is gone."""
        if place.lost:
            session = self._core.sessions.by_number.get(place.number)
            return None if session is None else views.lost(self._core, session)
        connection = self._core.connections.by_number.get(place.number)
        return None if connection is None else views.connection(self._core, connection)

    def sessions(self, client: IPv4Address | None, user: str | None) -> list[Place]:
        """All sessions by client and number, or those of one client, one user."""
        found = (
            Place(int(one.owner.client), one.connection is None, one.number)
            for one in self._core.sessions
            if client in {None, one.owner.client} and user in {None, one.owner.user}
        )
        return sorted(found, key=_without_state)

    def lease_count(self, session: int) -> int:
        """How many leases a session has; 0 when it is gone."""
        found = self._core.sessions.by_number.get(session)
        return 0 if found is None else len(found.leases)

    def leases(self, session: int) -> list[tuple[int, NarTuple]]:
        """The leases of a session in the order of their numbers."""
        found = self._core.sessions.by_number.get(session)
        if found is None:
            return []
        return sorted((one.number, one.mapping.tuple) for one in found.leases.values())

    def lease(self, session: int, number: int) -> dict[str, object] | None:
        """One of them, see :mod:`.views`; None when it is gone."""
        found = self._core.sessions.by_number.get(session)
        lease: Lease | None = None if found is None else found.leases.get(number)
        return None if lease is None else views.mapping(self._core, lease)


def _without_state(place: Place) -> tuple[int, int]:
    """A session keeps its place when it loses its connection."""
    return place.client, place.number


def _number(address: IpAddress) -> int:
    return int(address) & 0xFFFF_FFFF if isinstance(address, IPv6Address) else int(address)

"""Who held what, and when: questions to the store."""

from collections.abc import Sequence
from ipaddress import IPv4Address

from gateway.appliance.nar.store import NarStore
from gateway.domain.nar import NarProtocol
from gateway.store.nar_leases import AuditQuery, AuditRow


class Audit:
    """Answers about leases, past and present. What is None does not matter."""

    def __init__(self, store: NarStore) -> None:
        self._store = store

    async def find(
        self,
        *,
        server: str | None = None,
        address: IPv4Address | None = None,
        protocol: NarProtocol | None = None,
        value: int | None = None,
        at_s: float | None = None,
        user: str | None = None,
        client: IPv4Address | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[AuditRow]:
        """The leases that fit, newest first, ids below ``before``. Raises OSError."""
        return await self._store.find(
            AuditQuery(address, protocol, value, at_s, user, client, server, before, limit)
        )

    async def count(
        self,
        *,
        server: str | None = None,
        address: IPv4Address | None = None,
        protocol: NarProtocol | None = None,
        value: int | None = None,
        at_s: float | None = None,
        user: str | None = None,
        client: IPv4Address | None = None,
    ) -> int:
        """How many leases fit. Raises OSError."""
        return await self._store.count(
            AuditQuery(address, protocol, value, at_s, user, client, server)
        )

"""Answers that were given under an idempotency key, so that a repeated request gets the same."""

from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, select

from gateway.store.errors import ExistsError
from gateway.store.schema import IDEMPOTENCY
from gateway.store.sealing import Sealer


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What was answered before."""

    fingerprint: bytes
    """SHA-256 of the request; another request under the same key is refused."""
    result: bytes = field(repr=False)
    at: float


class IdempotencyRepository:
    """Answers within the transaction of ``connection``, sealed."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer

    def find(self, actor: str, key: str) -> KeptAnswer | None:
        """The answer, None when there is none. Raises :class:`SealError`."""
        wanted = select(IDEMPOTENCY).where(IDEMPOTENCY.c.actor == actor, IDEMPOTENCY.c.key == key)
        row = self._connection.execute(wanted).one_or_none()
        if row is None:
            return None
        result = self._sealer.open(_context(actor, key), row.result)
        return KeptAnswer(row.fingerprint, result, row.at)

    def keep(self, actor: str, key: str, answer: KeptAnswer) -> None:
        """Remember it. Raises :class:`ExistsError` when there is one."""
        same = (IDEMPOTENCY.c.actor == actor, IDEMPOTENCY.c.key == key)
        if self._connection.execute(select(IDEMPOTENCY.c.at).where(*same)).first() is not None:
            raise ExistsError(f"idempotency key {key}: is there already")
        self._connection.execute(
            insert(IDEMPOTENCY).values(
                actor=actor,
                key=key,
                fingerprint=answer.fingerprint,
                result=self._sealer.seal(_context(actor, key), answer.result),
                at=answer.at,
            )
        )

    def delete_before(self, at: float) -> int:
        """Remove answers older than this; how many."""
        return self._connection.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.at < at)).rowcount


def _context(actor: str, key: str) -> str:
    return f"idempotency/{actor}/{key}"

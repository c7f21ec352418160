"""Bearer tokens: only their SHA-256 is here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, or_, select, update

from gateway.store.errors import ExistsError, NotThereError
from gateway.store.schema import TOKENS


@dataclass(frozen=True, slots=True)
class StoredToken:
    """One token."""

    id: str
    """Public name of it, at most 16 characters."""
    name: str
    role: str
    hash: bytes = field(repr=False)
    """SHA-256 of the token."""
    created_at: float
    created_by: str
    expires_at: float | None = None
    """None: never."""
    last_used_at: float | None = None
    last_used_from: str | None = None


class TokenRepository:
    """Tokens within the transaction of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, token: StoredToken) -> None:
        """Raises :class:`ExistsError` when its id or hash is taken."""
        same = or_(TOKENS.c.id == token.id, TOKENS.c.hash == token.hash)
        if self._connection.execute(select(TOKENS.c.id).where(same)).first() is not None:
            raise ExistsError(f"token {token.id}: is there already")
        values = {column.name: getattr(token, column.name) for column in TOKENS.c}
        self._connection.execute(insert(TOKENS).values(values))

    def find(self, digest: bytes) -> StoredToken | None:
        """The token with this SHA-256, expired or not."""
        row = self._connection.execute(select(TOKENS).where(TOKENS.c.hash == digest)).one_or_none()
        return None if row is None else StoredToken(**row._asdict())

    def all(self) -> tuple[StoredToken, ...]:
        """Every token, oldest first."""
        rows = self._connection.execute(select(TOKENS).order_by(TOKENS.c.created_at, TOKENS.c.id))
        return tuple(StoredToken(**row._asdict()) for row in rows)

    def delete(self, token_id: str) -> StoredToken:
        """Remove it; what it was. Raises :class:`NotThereError`."""
        row = self._connection.execute(select(TOKENS).where(TOKENS.c.id == token_id)).one_or_none()
        if row is None:
            raise NotThereError(f"token {token_id}: there is none")
        self._connection.execute(delete(TOKENS).where(TOKENS.c.id == token_id))
        return StoredToken(**row._asdict())

    def note_use(self, uses: Mapping[str, tuple[float, str]]) -> None:
        """When and from where tokens (by id) were used last, several at a time."""
        for token_id, (at, remote) in uses.items():
            self._connection.execute(
                update(TOKENS)
                .where(TOKENS.c.id == token_id)
                .values(last_used_at=at, last_used_from=remote)
            )

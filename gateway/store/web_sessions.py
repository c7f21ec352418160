"""Open logins of the dashboard, by the SHA-256 of their cookie."""

from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, select, update

from gateway.store.schema import WEB_SESSIONS


@dataclass(frozen=True, slots=True)
class WebSession:
    """One login."""

    hash: bytes = field(repr=False)
    """SHA-256 of the cookie."""
    administrator: str
    created_at: float
    expires_at: float
    remote: str


class WebSessionRepository:
    """Logins within the transaction of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, session: WebSession) -> None:
        """A new login; the hash of 256 random bits is never there twice."""
        values = {column.name: getattr(session, column.name) for column in WEB_SESSIONS.c}
        self._connection.execute(insert(WEB_SESSIONS).values(values))

    def find(self, digest: bytes) -> WebSession | None:
        """The login with this SHA-256, expired or not."""
        wanted = select(WEB_SESSIONS).where(WEB_SESSIONS.c.hash == digest)
        row = self._connection.execute(wanted).one_or_none()
        return None if row is None else WebSession(**row._asdict())

    def all(self) -> tuple[WebSession, ...]:
        """Every login, oldest first."""
        rows = self._connection.execute(select(WEB_SESSIONS).order_by(WEB_SESSIONS.c.created_at))
        return tuple(WebSession(**row._asdict()) for row in rows)

    def extend(self, digest: bytes, expires_at: float) -> None:
        """It was used: it expires later."""
        self._connection.execute(
            update(WEB_SESSIONS).where(WEB_SESSIONS.c.hash == digest).values(expires_at=expires_at)
        )

    def delete(self, digest: bytes) -> bool:
        """Log out; whether it was there."""
        gone = delete(WEB_SESSIONS).where(WEB_SESSIONS.c.hash == digest)
        return self._connection.execute(gone).rowcount > 0

    def delete_of(self, administrator: str, *, but: bytes | None = None) -> int:
        """Log somebody out everywhere (but here): after a new password, a new role, a removal."""
        gone = delete(WEB_SESSIONS).where(WEB_SESSIONS.c.administrator == administrator)
        if but is not None:
            gone = gone.where(WEB_SESSIONS.c.hash != but)
        return self._connection.execute(gone).rowcount

    def delete_expired(self, now: float) -> int:
        """Remove what expired; how many."""
        gone = delete(WEB_SESSIONS).where(WEB_SESSIONS.c.expires_at <= now)
        return self._connection.execute(gone).rowcount

"""Bundles that wait for their one download, sealed."""

from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.sql import ColumnElement

from gateway.store.schema import LINKS
from gateway.store.sealing import Sealer

_SHOWN = [column for column in LINKS.c if column.name != "content"]


@dataclass(frozen=True, slots=True)
class Link:
    """One bundle's link."""

    hash: bytes = field(repr=False)
    """SHA-256 of the token in its address."""
    device: str
    file_name: str
    media_type: str
    created_at: float
    created_by: str
    expires_at: float
    used_at: float | None = None
    used_from: str | None = None
    content: bytes = field(default=b"", repr=False)
    """Only what :meth:`LinkRepository.take` gives has it."""


class LinkRepository:
    """Links within the transaction of ``connection``."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer

    def create(self, link: Link) -> None:
        """A new link; the hash of 256 random bits is never there twice."""
        values = {column.name: getattr(link, column.name) for column in LINKS.c}
        values["content"] = self._sealer.seal(_context(link.hash), link.content)
        self._connection.execute(insert(LINKS).values(values))

    def look(self, digest: bytes, now: float) -> Link | None:
        """The link when it can be taken, without its content."""
        wanted = select(*_SHOWN).where(LINKS.c.hash == digest, *_open(now))
        row = self._connection.execute(wanted).one_or_none()
        return None if row is None else Link(**row._asdict())

    def take(self, digest: bytes, now: float, remote: str) -> Link | None:
        """The bundle, once.

        None when it expired, was taken or never was. Raises :class:`SealError`.
        """
        wanted = select(LINKS).where(LINKS.c.hash == digest, *_open(now)).with_for_update()
        row = self._connection.execute(wanted).one_or_none()
        if row is None:
            return None
        values = row._asdict()
        values.update(
            content=self._sealer.open(_context(digest), row.content), used_at=now, used_from=remote
        )
        self._connection.execute(
            update(LINKS)
            .where(LINKS.c.hash == digest)
            .values(used_at=now, used_from=remote, content=b"")
        )
        return Link(**values)

    def all(self, device: str | None = None) -> tuple[Link, ...]:
        """Links (of a device), newest first, without contents."""
        wanted = select(*_SHOWN).order_by(LINKS.c.created_at.desc(), LINKS.c.hash)
        if device is not None:
            wanted = wanted.where(LINKS.c.device == device)
        return tuple(Link(**row._asdict()) for row in self._connection.execute(wanted))

    def delete_of(self, device: str) -> int:
        """A device is gone or has a new certificate: its open links are worth nothing."""
        gone = delete(LINKS).where(LINKS.c.device == device, LINKS.c.used_at.is_(None))
        return self._connection.execute(gone).rowcount

    def empty_expired(self, now: float) -> int:
        """Forget contents that nobody took in time; how many."""
        expired = update(LINKS).where(LINKS.c.expires_at <= now, LINKS.c.content != b"")
        return self._connection.execute(expired.values(content=b"")).rowcount

    def delete_before(self, at: float) -> int:
        """Remove links that expired before this time; how many."""
        return self._connection.execute(delete(LINKS).where(LINKS.c.expires_at < at)).rowcount


def _open(now: float) -> tuple[ColumnElement[bool], ...]:
    # A clock that was set back does not bring back what was emptied.
    return (LINKS.c.expires_at > now, LINKS.c.used_at.is_(None), LINKS.c.content != b"")


def _context(digest: bytes) -> str:
    return f"link/{digest.hex()}"

"""Certificates of the built-in CA; keys of the CA and of the gateway are sealed."""

from dataclasses import dataclass, field

from sqlalchemy import Connection, func, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from gateway.store.errors import ExistsError, NotThereError
from gateway.store.schema import CERTIFICATES
from gateway.store.sealing import Sealer


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """One certificate."""

    serial: str
    """Hexadecimal."""
    purpose: str
    """ca, gateway or device."""
    identity: str
    pem: str
    not_before: float
    not_after: float
    issued_at: float
    device: str | None = None
    revoked_at: float | None = None
    reason: str | None = None
    key: bytes | None = field(default=None, repr=False)
    """Private key (as its owner encoded it) of a CA or gateway; only :meth:`get` opens it."""


class CertificateRepository:
    """Certificates within the transaction of ``connection``."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer

    def create(self, certificate: StoredCertificate) -> None:
        """Raises :class:`ExistsError`."""
        same = select(CERTIFICATES.c.serial).where(CERTIFICATES.c.serial == certificate.serial)
        if self._connection.execute(same).first() is not None:
            raise ExistsError(f"certificate {certificate.serial}: is there already")
        values = {column.name: getattr(certificate, column.name) for column in CERTIFICATES.c}
        if certificate.key is not None:
            values["key"] = self._sealer.seal(_context(certificate.serial), certificate.key)
        self._connection.execute(insert(CERTIFICATES).values(values))

    def get(self, serial: str) -> StoredCertificate:
        """With its key. Raises :class:`NotThereError`, :class:`SealError`."""
        wanted = select(CERTIFICATES).where(CERTIFICATES.c.serial == serial)
        row = self._connection.execute(wanted).one_or_none()
        if row is None:
            raise NotThereError(f"certificate {serial}: there is none")
        values = row._asdict()
        if row.key is not None:
            values["key"] = self._sealer.open(_context(serial), row.key)
        return StoredCertificate(**values)

    def find(
        self,
        *,
        purpose: str | None = None,
        device: str | None = None,
        identity: str | None = None,
        revoked: bool | None = None,
        limit: int | None = None,
        after: tuple[float, str] | None = None,
    ) -> tuple[StoredCertificate, ...]:
        """Those that fit, newest first, without keys.

        ``after``: issued_at and serial of the last one of the page before.
        """
        columns = [column for column in CERTIFICATES.c if column.name != "key"]
        issued, serial = CERTIFICATES.c.issued_at, CERTIFICATES.c.serial
        query = (
            select(*columns)
            .where(*_where(purpose, device, identity, revoked))
            .order_by(issued.desc(), serial.desc())
        )
        if after is not None:
            query = query.where(or_(issued < after[0], (issued == after[0]) & (serial < after[1])))
        if limit is not None:
            query = query.limit(limit)
        return tuple(StoredCertificate(**row._asdict()) for row in self._connection.execute(query))

    def count(self, *, purpose: str | None = None, device: str | None = None) -> int:
        """How many there are."""
        where = _where(purpose, device, None, None)
        query = select(func.count()).select_from(CERTIFICATES).where(*where)
        return int(self._connection.scalar(query) or 0)

    def revoke(self, serial: str, at: float, reason: str) -> bool:
        """Whether it was valid till now. Raises :class:`NotThereError`."""
        there = select(CERTIFICATES.c.serial).where(CERTIFICATES.c.serial == serial)
        if self._connection.execute(there).first() is None:
            raise NotThereError(f"certificate {serial}: there is none")
        changed = (
            update(CERTIFICATES)
            .where(CERTIFICATES.c.serial == serial, CERTIFICATES.c.revoked_at.is_(None))
            .values(revoked_at=at, reason=reason)
        )
        return self._connection.execute(changed).rowcount > 0


def _where(
    purpose: str | None, device: str | None, identity: str | None, revoked: bool | None
) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if purpose is not None:
        where.append(CERTIFICATES.c.purpose == purpose)
    if device is not None:
        where.append(CERTIFICATES.c.device == device)
    if identity is not None:
        where.append(CERTIFICATES.c.identity == identity)
    if revoked is not None:
        column = CERTIFICATES.c.revoked_at
        where.append(column.is_not(None) if revoked else column.is_(None))
    return where


def _context(serial: str) -> str:
    return f"certificate/{serial}"

"""Who logs in to the dashboard. Passwords come here as scrypt hashes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.store.errors import ExistsError, NotThereError, VersionError
from gateway.store.schema import ADMINISTRATORS


@dataclass(frozen=True, slots=True)
class Administrator:
    """One login."""

    name: str
    role: str
    password: str = field(repr=False)
    """A scrypt hash."""
    version: int
    created_at: float
    changed_at: float
    last_login_at: float | None = None


class AdministratorRepository:
    """Administrators within the transaction of ``connection``."""

    def __init__(
        self, connection: Connection, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._connection = connection
        self._wall_clock = wall_clock

    def create(self, name: str, role: str, password: str) -> Administrator:
        """``password`` is its scrypt hash. Raises :class:`ExistsError`."""
        if self.find(name) is not None:
            raise ExistsError(f"administrator {name}: is there already")
        now = self._wall_clock()
        one = Administrator(name, role, password, 1, now, now)
        values = {column.name: getattr(one, column.name) for column in ADMINISTRATORS.c}
        self._connection.execute(insert(ADMINISTRATORS).values(values))
        return one

    def find(self, name: str) -> Administrator | None:
        """None: there is none of that name."""
        wanted = select(ADMINISTRATORS).where(ADMINISTRATORS.c.name == name).with_for_update()
        row = self._connection.execute(wanted).one_or_none()
        return None if row is None else Administrator(**row._asdict())

    def get(self, name: str) -> Administrator:
        """Raises :class:`NotThereError`."""
        one = self.find(name)
        if one is None:
            raise NotThereError(f"administrator {name}: there is none")
        return one

    def all(self) -> tuple[Administrator, ...]:
        """Everybody, by name."""
        rows = self._connection.execute(select(ADMINISTRATORS).order_by(ADMINISTRATORS.c.name))
        return tuple(Administrator(**row._asdict()) for row in rows)

    def count(self, role: str | None = None) -> int:
        """How many there are (of a role)."""
        wanted = select(func.count()).select_from(ADMINISTRATORS)
        if role is not None:
            wanted = wanted.where(ADMINISTRATORS.c.role == role)
        return int(self._connection.scalar(wanted) or 0)

    def change(
        self,
        name: str,
        *,
        role: str | None = None,
        password: str | None = None,
        version: int | None = None,
    ) -> Administrator:
        """None stays as it is. Raises :class:`NotThereError`, :class:`VersionError`."""
        before = self._check(name, version)
        values: dict[str, object] = {
            "version": before.version + 1,
            "changed_at": self._wall_clock(),
        }
        if role is not None:
            values["role"] = role
        if password is not None:
            values["password"] = password
        self._connection.execute(
            update(ADMINISTRATORS).where(ADMINISTRATORS.c.name == name).values(values)
        )
        return self.get(name)

    def delete(self, name: str, *, version: int | None = None) -> Administrator:
        """Remove; what it was. Raises :class:`NotThereError`, :class:`VersionError`."""
        before = self._check(name, version)
        self._connection.execute(delete(ADMINISTRATORS).where(ADMINISTRATORS.c.name == name))
        return before

    def note_login(self, name: str, at: float) -> None:
        """When somebody logged in last."""
        self._connection.execute(
            update(ADMINISTRATORS).where(ADMINISTRATORS.c.name == name).values(last_login_at=at)
        )

    def _check(self, name: str, version: int | None) -> Administrator:
        there = self.get(name)
        if version is not None and version != there.version:
            raise VersionError(
                f"administrator {name}: version {version} was changed meanwhile,"
                f" {there.version} is there",
                there.version,
            )
        return there

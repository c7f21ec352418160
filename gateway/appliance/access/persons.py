"""Administrators in memory: who there is and what they may do. Passwords stay in the store."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import Connection

from gateway.control.operation import ROLES
from gateway.control.protocol import ControlError, ErrorCode, Role
from gateway.store.administrators import Administrator, AdministratorRepository
from gateway.store.database import Store
from gateway.store.web_sessions import WebSessionRepository
from gateway.users.passwords import PasswordHash, PasswordRefusedError, canonical_password, decoy
from gateway.users.settings import ScryptCost

MIN_PASSWORD_CHARACTERS = 10
MAX_ADMINISTRATORS = 1000
MAX_WAITING_CHECKS = 8
"""Each password check takes 16 MB and about 50 ms; they are made one after the other."""
COST = ScryptCost()
_SAME = re.compile(r"(.)\1*", re.DOTALL)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of an administrator without asking the store."""

    name: str
    role: Role
    version: int
    created_at: float
    changed_at: float
    last_login_at: float | None

    @classmethod
    def of(cls, stored: Administrator) -> "Person":
        """Without the password."""
        role = Role.named(stored.role)
        times = (stored.created_at, stored.changed_at, stored.last_login_at)
        return cls(stored.name, role, stored.version, *times)


class PasswordChecks:
    """Hashes passwords in a thread, one at a time; too many at once are refused."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._decoy = decoy(COST)
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether ``password`` is the one of the hash; as slow without a hash."""
        wanted = self._decoy if stored is None else PasswordHash.parse(stored)
        right = await self._in_turn(lambda: wanted.matches(password.encode("utf-8", "replace")))
        return right and stored is not None

    async def hashed(self, password: str) -> str:
        """The hash of a new password; raises :class:`ControlError` when it is no good one."""
        check_password(password)
        return await self._in_turn(lambda: str(PasswordHash.of(password, COST, self._random)))

    async def _in_turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING_CHECKS:
            text = "too many logins at the same time: try again in 1 s"
            raise ControlError(ErrorCode.TOO_MANY, text, retry_after_s=1.0)
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def check_password(password: str) -> None:
    """Raises :class:`ControlError` for one that nobody should have."""
    try:
        found = canonical_password(password)
    except PasswordRefusedError as error:
        raise ControlError(ErrorCode.INVALID, f"password: {error}", "password") from None
    if len(found) < MIN_PASSWORD_CHARACTERS:
        text = f"password: {len(found)} characters; give at least {MIN_PASSWORD_CHARACTERS}"
        raise ControlError(ErrorCode.INVALID, text, "password")
    if _SAME.fullmatch(found):
        text = "password: one character over and over; give another"
        raise ControlError(ErrorCode.INVALID, text, "password")


class Persons:
    """Administrators, kept in memory as they are in the store."""

    def __init__(self, store: Callable[[], Store], checks: PasswordChecks) -> None:
        self._store = store
        self._checks = checks
        self._known: dict[str, Person] = {}
        self._changing = asyncio.Lock()
        """Of two who take the last role away from each other, the second one is refused."""

    def load(self, connection: Connection) -> None:
        """Read everybody; a role that only another version knows lets nobody in."""
        found = AdministratorRepository(connection).all()
        self._known = {one.name: Person.of(one) for one in found if one.role in ROLES}

    def get(self, name: str) -> Person | None:
        """Somebody, or None."""
        return self._known.get(name)

    def all(self) -> list[Person]:
        """Everybody, by name."""
        return sorted(self._known.values(), key=lambda one: one.name)

    async def has_password(self, name: str, password: str) -> bool:
        """Whether it is theirs; takes as long for who does not exist."""
        stored = await self._store().run(lambda c: AdministratorRepository(c).find(name))
        return await self._checks.matches(stored.password if stored else None, password)

    async def create(self, name: str, role: Role, password: str) -> Person:
        """Raises :class:`ControlError`: the name is taken, the password no good."""
        if name in self._known:
            text = f"name = {name}: there is an administrator of this name"
            raise ControlError(ErrorCode.REFUSED, text, "name")
        if len(self._known) >= MAX_ADMINISTRATORS:
            text = f"there are {MAX_ADMINISTRATORS} administrators already: delete one"
            raise ControlError(ErrorCode.REFUSED, text)
        made = await self._checks.hashed(password)
        stored = await self._store().run(
            lambda c: AdministratorRepository(c).create(name, role.words, made)
        )
        return self._keep(stored)

    async def change(
        self,
        name: str,
        *,
        role: Role | None = None,
        password: str | None = None,
        version: int | None = None,
        but: bytes | None = None,
    ) -> Person:
        """What is None stays; their sessions end in the store, except the one of hash ``but``.

        Raises :class:`ControlError`: nobody of that name, or nobody could administer any more.
        """
        async with self._changing:
            return await self._change(name, role, password, version, but)

    async def _change(
        self,
        name: str,
        role: Role | None,
        password: str | None,
        version: int | None,
        but: bytes | None,
    ) -> Person:
        person = self._needed(name)
        if role is not None and role is not Role.ADMINISTRATOR:
            self._need_another(person)
        made = None if password is None else await self._checks.hashed(password)

        def write(connection: Connection) -> Administrator:
            words = role.words if role is not None else None
            changed = AdministratorRepository(connection).change(
                name, role=words, password=made, version=version
            )
            WebSessionRepository(connection).delete_of(name, but=but)
            return changed

        return self._keep(await self._store().run(write))

    async def delete(self, name: str, *, version: int | None = None) -> Person:
        """Remove somebody and their sessions; raises as :meth:`change`."""

        def write(connection: Connection) -> None:
            AdministratorRepository(connection).delete(name, version=version)
            WebSessionRepository(connection).delete_of(name)

        async with self._changing:
            self._need_another(self._needed(name))
            await self._store().run(write)
            return self._known.pop(name)

    async def logged_in(self, name: str, at: float) -> None:
        """Note it."""
        await self._store().run(
            lambda c: AdministratorRepository(c).note_login(name, at), durable=False
        )
        person = self._known.get(name)
        if person is not None:
            self._known[name] = replace(person, last_login_at=at)

    def _keep(self, stored: Administrator) -> Person:
        person = self._known[stored.name] = Person.of(stored)
        return person

    def _needed(self, name: str) -> Person:
        person = self._known.get(name)
        if person is None:
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no administrator {name}", "name")
        return person

    def _need_another(self, person: Person) -> None:
        """Somebody must be able to administer after ``person`` is gone."""
        if person.role is Role.ADMINISTRATOR and not any(
            one.role is Role.ADMINISTRATOR and one.name != person.name
            for one in self._known.values()
        ):
            text = f"{person.name} is the last administrator with the role admin: make another"
            raise ControlError(ErrorCode.REFUSED, text, "name")

"""Logins of the dashboard in memory: each has a secret id, an idle and an absolute end."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from gateway.appliance.access.persons import Persons
from gateway.control.actor import Actor
from gateway.store.database import Store
from gateway.store.web_sessions import WebSession, WebSessionRepository

IDLE_S = 30 * 60.0
ABSOLUTE_S = 12 * 3600.0
MAX_LOGINS = 1000
MAX_LOGINS_OF_ONE = 20
"""Of more, the oldest ends."""


class Logins:
    """Web sessions as they are in the store."""

    def __init__(
        self, store: Callable[[], Store], persons: Persons, random: Callable[[int], bytes]
    ) -> None:
        self._store = store
        self._persons = persons
        self._random = random
        self._open: dict[bytes, WebSession] = {}
        self._extended: dict[bytes, float] = {}

    def load(self, connection: Connection, now: float) -> None:
        """Read those that are still open."""
        repository = WebSessionRepository(connection)
        repository.delete_expired(now)
        self._open = {one.hash: one for one in repository.all()}

    def actor(self, digest: bytes, remote: str, now: float) -> Actor | None:
        """Whose login has this SHA-256; None when there is none or it has ended."""
        login = self._open.get(digest)
        if login is None:
            return None
        person = self._persons.get(login.administrator)
        if login.expires_at <= now or person is None:
            del self._open[digest]
            return None
        return Actor(f"admin {person.name}", person.role, remote, digest.hex())

    def touch(self, credential: str, now: float) -> None:
        """It is in use, which puts its idle end off."""
        login = self._login(credential)
        if login is None:
            return
        until = min(now + IDLE_S, login.created_at + ABSOLUTE_S)
        if until - login.expires_at >= 1.0:
            self._open[login.hash] = replace(login, expires_at=until)
            self._extended[login.hash] = until

    def expires_at(self, credential: str) -> float | None:
        """When the login that an actor has ends, used no more."""
        login = self._login(credential)
        return None if login is None else login.expires_at

    def administrator(self, credential: str) -> str | None:
        """Whose login it is."""
        login = self._login(credential)
        return None if login is None else login.administrator

    async def open(self, administrator: str, remote: str, now: float) -> tuple[str, WebSession]:
        """A new login: its secret id, never one that somebody brought along."""
        secret = base64.urlsafe_b64encode(self._random(32)).decode().rstrip("=")
        digest = hashlib.sha256(secret.encode()).digest()
        login = WebSession(digest, administrator, now, now + IDLE_S, remote)
        surplus = self._surplus(administrator)

        def write(connection: Connection) -> None:
            repository = WebSessionRepository(connection)
            for old in surplus:
                repository.delete(old)
            repository.create(login)

        await self._store().run(write, durable=False)
        for old in surplus:
            self._open.pop(old, None)
        self._open[digest] = login
        return secret, login

    async def close(self, credential: str) -> bool:
        """End one; whether there was one."""
        login = self._login(credential)
        if login is None:
            return False
        del self._open[login.hash]
        await self._store().run(lambda c: WebSessionRepository(c).delete(login.hash))
        return True

    def forget(self, administrator: str, *, but: bytes | None = None) -> None:
        """Their logins ended in the store: end them here."""
        for digest, login in list(self._open.items()):
            if login.administrator == administrator and digest != but:
                del self._open[digest]

    def take_extended(self) -> dict[bytes, float]:
        """Later ends since the last call, for the store."""
        extended, self._extended = self._extended, {}
        return {digest: until for digest, until in extended.items() if digest in self._open}

    def drop_expired(self, now: float) -> None:
        """Forget those that have ended."""
        for digest, login in list(self._open.items()):
            if login.expires_at <= now:
                del self._open[digest]

    def _login(self, credential: str) -> WebSession | None:
        try:
            return self._open.get(bytes.fromhex(credential))
        except ValueError:
            return None

    def _surplus(self, administrator: str) -> list[bytes]:
        mine = [one for one in self._open.values() if one.administrator == administrator]
        mine.sort(key=lambda one: one.created_at)
        surplus = [one.hash for one in mine[: max(0, len(mine) - MAX_LOGINS_OF_ONE + 1)]]
        if len(self._open) - len(surplus) >= MAX_LOGINS:
            oldest = min(self._open.values(), key=lambda one: one.created_at)
            surplus.append(oldest.hash)
        return surplus

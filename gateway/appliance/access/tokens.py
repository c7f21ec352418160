"""Bearer tokens in memory: checking one is looking up its SHA-256."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from gateway.control.actor import Actor
from gateway.control.operation import ROLES
from gateway.control.protocol import ControlError, ErrorCode, Role
from gateway.store.database import Store
from gateway.store.tokens import StoredToken, TokenRepository

PREFIX = "gw_"
MAX_TOKENS = 1000


class Tokens:
    """Tokens as they are in the store, and when each was used last."""

    def __init__(self, store: Callable[[], Store], random: Callable[[int], bytes]) -> None:
        self._store = store
        self._random = random
        self._by_digest: dict[bytes, StoredToken] = {}
        self._by_id: dict[str, StoredToken] = {}
        self._used: dict[str, tuple[float, str]] = {}

    def load(self, connection: Connection) -> None:
        """Read all of them, but those of a role that only another version knows."""
        found = [one for one in TokenRepository(connection).all() if one.role in ROLES]
        self._by_digest = {one.hash: one for one in found}
        self._by_id = {one.id: one for one in found}

    def actor(self, digest: bytes, remote: str, now: float) -> Actor | None:
        """Whose token has this SHA-256; None when there is none or it has expired."""
        token = self._by_digest.get(digest)
        if token is None or (token.expires_at is not None and token.expires_at <= now):
            return None
        return Actor(f"token {token.name}", Role.named(token.role), remote, token.id)

    def touch(self, token_id: str, remote: str, now: float) -> None:
        """It is in use."""
        if token_id in self._by_id:
            self._used[token_id] = (now, remote)

    def all(self) -> list[StoredToken]:
        """The oldest first, with their last use."""
        found = sorted(self._by_id.values(), key=lambda one: (one.created_at, one.id))
        return [self._with_use(one) for one in found]

    def get(self, token_id: str) -> StoredToken | None:
        """One by its id."""
        token = self._by_id.get(token_id)
        return None if token is None else self._with_use(token)

    async def create(
        self, name: str, role: Role, expires_in_s: int | None, by: str, now: float
    ) -> tuple[str, StoredToken]:
        """The new token itself, and what is kept of it. Raises :class:`ControlError`."""
        if any(one.name == name for one in self._by_id.values()):
            text = f"name = {name}: there is a token of this name; delete it, or give another name"
            raise ControlError(ErrorCode.REFUSED, text, "name")
        if len(self._by_id) >= MAX_TOKENS:
            text = f"there are {MAX_TOKENS} tokens already: delete those of no use"
            raise ControlError(ErrorCode.REFUSED, text)
        secret = PREFIX + base64.urlsafe_b64encode(self._random(32)).decode().rstrip("=")
        token = StoredToken(
            id=self._random(8).hex(),
            name=name,
            role=role.words,
            hash=hashlib.sha256(secret.encode()).digest(),
            created_at=now,
            created_by=by,
            expires_at=None if expires_in_s is None else now + expires_in_s,
        )
        self._by_id[token.id] = token  # its name is taken from now on
        try:
            await self._store().run(lambda c: TokenRepository(c).create(token))
        except BaseException:
            del self._by_id[token.id]
            raise
        self._keep(token)
        return secret, token

    async def delete(self, token_id: str) -> StoredToken:
        """Remove one. Raises :class:`ControlError`."""
        token = self._by_id.get(token_id)
        if token is None:
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no token {token_id}", "id")
        await self._store().run(lambda c: TokenRepository(c).delete(token_id))
        self._by_id.pop(token_id, None)
        self._by_digest.pop(token.hash, None)
        self._used.pop(token_id, None)
        return token

    def take_uses(self) -> dict[str, tuple[float, str]]:
        """Uses since the last call, for the store."""
        used, self._used = self._used, {}
        for token_id, (at, remote) in used.items():
            token = self._by_id.get(token_id)
            if token is not None:
                self._keep(replace(token, last_used_at=at, last_used_from=remote))
        return used

    def _keep(self, token: StoredToken) -> None:
        self._by_digest[token.hash] = self._by_id[token.id] = token

    def _with_use(self, token: StoredToken) -> StoredToken:
        used = self._used.get(token.id)
        if used is None:
            return token
        return replace(token, last_used_at=used[0], last_used_from=used[1])

"""The side of the administration that knows who asks."""

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from gateway.appliance.access.attempts import WrongCredentials, address_of
from gateway.appliance.access.audited import Audited
from gateway.appliance.access.audited import Handler as AnyHandler
from gateway.appliance.access.entrance import Entrance
from gateway.appliance.access.logins import Logins
from gateway.appliance.access.persons import PasswordChecks, Persons
from gateway.appliance.access.register import Register
from gateway.appliance.access.setup_code import SetupCode
from gateway.appliance.access.token_file import TokenFile, TokenFileError
from gateway.appliance.access.tokens import Tokens
from gateway.appliance.administration.side import Handler, Side, Surroundings
from gateway.control.actor import NOBODY, Actor
from gateway.control.protocol import ControlError, ErrorCode, Request, Role
from gateway.domain.log import RateLimit
from gateway.store.errors import StoreError
from gateway.store.tokens import TokenRepository
from gateway.store.web_sessions import WebSessionRepository

if TYPE_CHECKING:
    from gateway.appliance.administration.composition import Administration
    from gateway.store.database import Store

WRITE_EVERY_S = 10.0
"""When tokens were used last is written in batches."""
_METRICS = frozenset({"metrics"})


class AccessSide(Side):
    """Recognises credentials, answers what is about them, and writes the audit."""

    def __init__(
        self,
        administration: "Administration",
        surroundings: Surroundings,
        token_file: TokenFile | None = None,
    ) -> None:
        self._surroundings = surroundings
        self._administration = administration
        self._wall_clock = surroundings.wall_clock
        self._clock = surroundings.clock

        def store() -> "Store":
            found: Store = administration.store
            return found

        random = surroundings.random
        self.token_file = token_file
        self.persons = Persons(store, PasswordChecks(random))
        self.tokens = Tokens(store, random)
        self.logins = Logins(store, self.persons, random)
        self._wrong = WrongCredentials()
        self._told = RateLimit(burst=5, per_s=0.1)
        self.audited = Audited(
            self._nothing,
            store,
            log=lambda: surroundings.emit.log,
            emit=surroundings.emit,
            clock=surroundings.clock,
            wall_clock=surroundings.wall_clock,
        )
        self._entrance = Entrance(
            self.persons, self.logins, SetupCode(store, random), self.audited, surroundings
        )
        self._register = Register(
            store, self.persons, self.tokens, self.logins, SetupCode(store, random), surroundings
        )
        self._task: asyncio.Task[None] | None = None

    def handlers(self) -> Mapping[str, Handler]:
        """Of :data:`gateway.control.access_operations.ACCESS_OPERATIONS`."""
        return {**self._entrance.handlers(), **self._register.handlers()}

    @property
    def has_administrator(self) -> bool:
        """Whether somebody can log in to administer: otherwise the first run is still to come."""
        return any(one.role is Role.ADMINISTRATOR for one in self.persons.all())

    def around(self, handle: AnyHandler) -> AnyHandler:
        """``handle`` with the audit and idempotency keys around it."""
        self.audited.wrap(handle)
        return self._handle

    async def _handle(self, request: Request) -> object:
        if request.operation.name != "health":  # asks whether a login still counts
            self._touch(request.actor)
        return await self.audited.handle(request)

    def _touch(self, actor: Actor) -> None:
        """Its credential is in use."""
        if actor.credential:
            now = self._wall_clock()
            self.tokens.touch(actor.credential, actor.remote, now)
            self.logins.touch(actor.credential, now)

    def authenticate(self, credential: str, remote: str) -> Actor:
        """Who shows this. Two look-ups in dictionaries; nothing waits.

        Raises :class:`ControlError`: nobody's, or too many wrong ones from there.
        """
        if not credential:
            return self._nobody(remote)
        digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
        now = self._wall_clock()
        actor = self.tokens.actor(digest, remote, now) or self.logins.actor(digest, remote, now)
        if actor is not None:
            return actor
        if self.token_file is not None and self.token_file.has(digest):
            return self.token_file.actor(remote)
        self._tell_wrong(remote)
        self._wrong.note(remote, self._clock())
        raise ControlError(
            ErrorCode.UNAUTHENTICATED,
            "the token or session is not valid, or not any more: log in again",
        )

    def _tell_wrong(self, remote: str) -> None:
        if self._told.admit("wrong_credential", self._clock()) is not None:
            text = f"a token or session that is not valid was shown from {remote}"
            self._surroundings.emit.log.warning("wrong_credential", text=text, remote=remote)

    def _nobody(self, remote: str) -> Actor:
        networks = self._surroundings.config().api.metrics_open
        where = address_of(remote) if networks else None
        is_open = any(where in network for network in networks if where is not None)
        return replace(NOBODY, remote=remote, also=_METRICS if is_open else frozenset())

    async def start(self) -> None:
        """Read what the store has, and begin to write back."""
        with contextlib.suppress(ControlError, StoreError):  # the store has told why
            await self._administration.store.run(self._load)
        self._task = asyncio.get_running_loop().create_task(self._keep_writing())

    async def read_again(self) -> None:
        """Somebody else changed the store. Raises :class:`ControlError` and StoreError."""
        await self._administration.store.run(self._load)

    async def stop(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._write()

    def _load(self, connection: Connection) -> None:
        self.persons.load(connection)
        self.tokens.load(connection)
        self.logins.load(connection, self._wall_clock())

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            if self.token_file is not None:
                with contextlib.suppress(TokenFileError):
                    self.token_file.refresh()
            self.logins.drop_expired(self._wall_clock())
            await self._write()

    async def _write(self) -> None:
        used, extended = self.tokens.take_uses(), self.logins.take_extended()
        if not used and not extended:
            return

        def write(connection: Connection) -> None:
            TokenRepository(connection).note_use(used)
            repository = WebSessionRepository(connection)
            for digest, until in extended.items():
                repository.extend(digest, until)

        with contextlib.suppress(ControlError, StoreError):  # when it was used last is no loss
            await self._administration.store.run(write, durable=False)

    @staticmethod
    async def _nothing(_request: object) -> object:
        raise ControlError(ErrorCode.BUSY, "the gateway is not ready yet")


def build(administration: "Administration", surroundings: Surroundings) -> AccessSide:
    """The side, not started."""
    return AccessSide(administration, surroundings)


def access_side(administration: "Administration", token_file: TokenFile | None) -> AccessSide:
    """The side of the running administration, that recognises the file's token as well."""
    side = administration.side("access")
    if not isinstance(side, AccessSide):
        raise TypeError("another side has this name")
    side.token_file = token_file
    return side

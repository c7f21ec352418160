"""Who comes in with a password: logins of administrators, and the first of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from gateway.appliance.access.attempts import address_of, too_many
from gateway.appliance.access.audited import Audited
from gateway.appliance.access.logins import Logins
from gateway.appliance.access.persons import Person, Persons, check_password
from gateway.appliance.access.setup_code import SetupCode
from gateway.appliance.access.times import iso
from gateway.appliance.administration.side import Surroundings
from gateway.control.protocol import ControlError, ErrorCode, Request, Role
from gateway.domain.log import RateLimit
from gateway.users.guessing import GuessLimit, Pace

MAX_DELAY_S = 3.0
"""An attempt that has to wait longer is refused with the time when it may come again."""
OF_NAME = Pace(5, 1.0, 15.0)
OF_ADDRESS = Pace(20, 1.0, 15.0)
OF_CODE = Pace(3, 1.0, 15.0)
_SETUP = "\x00setup"  # no administrator's name


class Entrance:
    """Carries out ``login``, ``logout``, ``whoami``, ``own-password`` and ``setup-claim``."""

    def __init__(
        self,
        persons: Persons,
        logins: Logins,
        code: SetupCode,
        audited: Audited,
        surroundings: Surroundings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._persons = persons
        self._logins = logins
        self._code = code
        self._audited = audited
        self._clock = surroundings.clock
        self._wall_clock = surroundings.wall_clock
        self._sleep = sleep
        self._guesses = GuessLimit(OF_NAME, OF_ADDRESS)
        self._codes = GuessLimit(OF_CODE, OF_ADDRESS)
        self._noted = RateLimit()

    def handlers(self) -> Mapping[str, Callable[[Request], Awaitable[object]]]:
        """By the operation's name."""
        return {
            "login": self._login,
            "logout": self._logout,
            "whoami": self._whoami,
            "own-password": self._own_password,
            "setup-claim": self._setup_claim,
        }

    async def _login(self, request: Request) -> object:
        """The same words and the same work for a wrong name and a wrong password."""
        name, password = str(request.text("name")), str(request.text("password"))
        await self._await_turn(self._guesses, name, request)
        person = self._persons.get(name)
        if not await self._persons.has_password(name, password) or person is None:
            await self._failed(self._guesses, name, request)
            raise _wrong()
        self._guesses.succeeded(name, address_of(request.actor.remote))
        return await self._open(person, request)

    async def _setup_claim(self, request: Request) -> object:
        code, name = str(request.text("code")), str(request.text("name"))
        password = str(request.text("password"))
        await self._await_turn(self._codes, _SETUP, request)
        try:
            await self._code.check(code, self._wall_clock())
        except ControlError:
            await self._failed(self._codes, _SETUP, request)
            raise
        check_password(password)
        if self._persons.get(name) is not None:
            text = f"name = {name}: there is an administrator of this name; give another"
            raise ControlError(ErrorCode.REFUSED, text, "name")
        await self._code.take(code, self._wall_clock())
        person = await self._persons.create(name, Role.ADMINISTRATOR, password)
        await self._audited.write(request, "done", target=name, after={"role": "admin"})
        return await self._open(person, request)

    async def _logout(self, request: Request) -> object:
        return {"ended": await self._logins.close(request.actor.credential)}

    async def _whoami(self, request: Request) -> object:
        actor = request.actor
        name = self._logins.administrator(actor.credential)
        return {
            "actor": actor.name,
            "administrator": name,
            "role": actor.role.words,
            "expires_at": iso(self._logins.expires_at(actor.credential)),
        }

    async def _own_password(self, request: Request) -> object:
        credential = request.actor.credential
        name = self._logins.administrator(credential)
        if name is None:
            text = "only who is logged in as an administrator has a password"
            raise ControlError(ErrorCode.REFUSED, text)
        await self._await_turn(self._guesses, name, request)
        if not await self._persons.has_password(name, str(request.text("current"))):
            await self._failed(self._guesses, name, request)
            raise ControlError(ErrorCode.DENIED, "current: is not your password", "current")
        here = bytes.fromhex(credential)
        await self._persons.change(name, password=str(request.text("password")), but=here)
        self._logins.forget(name, but=here)
        return {"administrator": name, "_audit": {"target": name, "after": {"new_password": True}}}

    async def _open(self, person: Person, request: Request) -> object:
        """``person`` as they were when their password was looked at."""
        name, now = person.name, self._wall_clock()
        secret, login = await self._logins.open(name, request.actor.remote, now)
        if not self._is_still(person):  # removed or changed meanwhile, which ends their logins
            await self._logins.close(login.hash.hex())
            raise _wrong()
        await self._persons.logged_in(name, now)
        await self._audited.write(request, "done", target=name)
        return {
            "session": secret,
            "administrator": name,
            "role": person.role.words,
            "expires_at": iso(login.expires_at),
        }

    def _is_still(self, person: Person) -> bool:
        now = self._persons.get(person.name)
        return now is not None and (now.version, now.created_at) == (
            person.version,
            person.created_at,
        )

    async def _await_turn(self, limit: GuessLimit, name: str, request: Request) -> None:
        wait_s = limit.admit(name, address_of(request.actor.remote), self._clock())
        if wait_s is None or wait_s > MAX_DELAY_S:
            raise too_many(15.0 if wait_s is None else wait_s)
        if wait_s:
            await self._sleep(wait_s)

    async def _failed(self, limit: GuessLimit, name: str, request: Request) -> None:
        limit.failed(name, address_of(request.actor.remote), self._clock())
        # Whoever guesses for hours must not fill the disk.
        if self._noted.admit("login", self._clock()) is not None:
            target = "" if limit is self._codes else name
            await self._audited.write(request, "refused", target=target, detail="wrong")


def _wrong() -> ControlError:
    return ControlError(ErrorCode.UNAUTHENTICATED, "the name or the password is wrong")

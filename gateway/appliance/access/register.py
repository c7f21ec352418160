"""Tokens, administrators, the setup code and the audit, as administrators ask for them."""

import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping

from sqlalchemy import Connection

from gateway.appliance.access.logins import Logins
from gateway.appliance.access.persons import Person, Persons
from gateway.appliance.access.setup_code import SetupCode
from gateway.appliance.access.times import from_iso, iso
from gateway.appliance.access.tokens import Tokens
from gateway.appliance.administration.side import Surroundings
from gateway.appliance.api_process import api_folder
from gateway.appliance.paging import page
from gateway.config.document import Config
from gateway.control.protocol import ControlError, ErrorCode, Page, Request, Role
from gateway.store.audit import AuditEntry, AuditFilter, AuditRepository
from gateway.store.database import Store
from gateway.store.errors import VersionError
from gateway.store.tokens import StoredToken

_ID = re.compile(r"[0-9a-f]{1,15}")


class Register:
    """Carries out what is about who may come in."""

    def __init__(  # noqa: PLR0917 - each is somebody it asks
        self,
        store: Callable[[], Store],
        persons: Persons,
        tokens: Tokens,
        logins: Logins,
        code: SetupCode,
        surroundings: Surroundings,
    ) -> None:
        self._store = store
        self._persons = persons
        self._tokens = tokens
        self._logins = logins
        self._code = code
        self._config = surroundings.config
        self._wall_clock = surroundings.wall_clock

    def handlers(self) -> Mapping[str, Callable[[Request], Awaitable[object]]]:
        """By the operation's name."""
        return {
            "tokens": self._list_tokens,
            "token-create": self._create_token,
            "token-delete": self._delete_token,
            "administrators": self._list_persons,
            "administrator-create": self._create_person,
            "administrator-change": self._change_person,
            "administrator-delete": self._delete_person,
            "setup-code": self._make_code,
            "audit": self._audit,
        }

    async def _list_tokens(self, request: Request) -> object:
        found = {f"{at:08x}": one for at, one in enumerate(self._tokens.all())}
        shown, following = page(list(found), request)
        items = [token_view(found[one], self._wall_clock()) for one in shown]
        return Page(items=items, next=following, total=len(found))

    async def _create_token(self, request: Request) -> object:
        expires = request.arguments.get("expires_in_s")
        secret, token = await self._tokens.create(
            str(request.text("name")),
            Role.named(str(request.text("role"))),
            expires if isinstance(expires, int) else None,
            request.actor.name,
            self._wall_clock(),
        )
        view = token_view(token, self._wall_clock())
        return {"token": secret, **view, "_audit": {"target": token.name, "after": view}}

    async def _delete_token(self, request: Request) -> object:
        token = await self._tokens.delete(str(request.text("id")))
        view = token_view(token, self._wall_clock())
        return {"deleted": token.id, "_audit": {"target": token.name, "before": view}}

    async def _list_persons(self, request: Request) -> object:
        names = {f"{at:08x}": one for at, one in enumerate(self._persons.all())}
        shown, following = page(list(names), request)
        items = [person_view(names[one]) for one in shown]
        return Page(items=items, next=following, total=len(names))

    async def _create_person(self, request: Request) -> object:
        person = await self._persons.create(
            str(request.text("name")),
            Role.named(str(request.text("role"))),
            str(request.text("password")),
        )
        view = person_view(person)
        return {**view, "_audit": {"target": person.name, "after": view}}

    async def _change_person(self, request: Request) -> object:
        name, role, password = (request.text(one) for one in ("name", "role", "password"))
        if role is None and password is None:
            raise ControlError(ErrorCode.INVALID, "give a role or a password, or both", "role")
        before = self._persons.get(str(name))
        with _stale_is_told():
            person = await self._persons.change(
                str(name),
                role=None if role is None else Role.named(role),
                password=password,
                version=_version(request),
            )
        self._logins.forget(person.name)
        view = person_view(person)
        noted = {
            "target": person.name,
            "before": person_view(before) if before is not None else None,
            "after": {**view, "new_password": password is not None},
        }
        return {**view, "_audit": noted}

    async def _delete_person(self, request: Request) -> object:
        with _stale_is_told():
            person = await self._persons.delete(
                str(request.text("name")), version=_version(request)
            )
        self._logins.forget(person.name)
        noted = {"target": person.name, "before": person_view(person)}
        return {"deleted": person.name, "_audit": noted}

    async def _make_code(self, _request: Request) -> object:
        code, until = await self._code.make(self._wall_clock())
        config = self._config()
        own = config.api.tls and config.api.certificate is None
        return {
            "code": code,
            # Behind the hash sign it stays in the browser: no server's log ever has it.
            "url": f"{address_of_api(config)}/#/setup?code={code}",
            "expires_at": iso(until),
            "certificate": str(api_folder(config) / "certificate.pem") if own else None,
            "_audit": {"target": ""},
        }

    async def _audit(self, request: Request) -> object:
        wanted = AuditFilter(
            actor=request.text("who"),
            action=request.text("action"),
            target=request.text("target"),
            outcome=request.text("outcome"),
            since=_time(request, "since"),
            until=_time(request, "until"),
        )
        limit, cursor = request.number("limit"), request.text("cursor")
        if cursor is not None and _ID.fullmatch(cursor) is None:
            raise ControlError(
                ErrorCode.INVALID, "cursor: give the `next` of the page before", "cursor"
            )
        before = None if cursor is None else int(cursor, 16)

        def read(connection: Connection) -> tuple[tuple[AuditEntry, ...], int]:
            repository = AuditRepository(connection)
            return repository.find(wanted, limit=limit + 1, before=before), repository.count(wanted)

        found, total = await self._store().run(read)
        shown = found[:limit]
        following = f"{shown[-1].id:x}" if len(found) > limit else None
        return Page(items=[entry_view(one) for one in shown], next=following, total=total)


def token_view(token: StoredToken, now: float) -> dict[str, object]:
    """A token as lists show it."""
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "created_at": iso(token.created_at),
        "created_by": token.created_by,
        "expires_at": iso(token.expires_at),
        "expired": token.expires_at is not None and token.expires_at <= now,
        "last_used_at": iso(token.last_used_at),
        "last_used_from": token.last_used_from,
    }


def person_view(person: Person) -> dict[str, object]:
    """An administrator as lists show them."""
    return {
        "name": person.name,
        "role": person.role.words,
        "version": person.version,
        "created_at": iso(person.created_at),
        "changed_at": iso(person.changed_at),
        "last_login_at": iso(person.last_login_at),
    }


def entry_view(entry: AuditEntry) -> dict[str, object]:
    """An entry of the audit as lists show it."""
    return {
        "id": f"{entry.id:x}",
        "at": iso(entry.at),
        "actor": entry.actor,
        "remote": entry.remote,
        "action": entry.action,
        "target": entry.target,
        "outcome": entry.outcome,
        "before": entry.before,
        "after": entry.after,
        "detail": entry.detail,
    }


def address_of_api(config: Config) -> str:
    """Where the dashboard is, as far as the configuration tells."""
    api = config.api
    scheme = "https" if api.tls else "http"
    name = api.names[0] if api.names else None
    address = api.listen.address
    if name is None and address.is_unspecified:
        name = config.gateway.name
    if name is None:
        name = f"[{address}]" if address.version == 6 else str(address)
    return f"{scheme}://{name}:{api.listen.port}"


def _version(request: Request) -> int | None:
    version = request.arguments.get("version")
    return version if isinstance(version, int) else None


def _time(request: Request, name: str) -> float | None:
    text = request.text(name)
    if text is None:
        return None
    try:
        return from_iso(text)
    except (ValueError, OverflowError):
        why = f"{name} = {text}: is no time; give one such as 2026-01-31T12:00:00Z"
        raise ControlError(ErrorCode.INVALID, why, name) from None


@contextlib.contextmanager
def _stale_is_told() -> Iterator[None]:
    try:
        yield
    except VersionError as error:
        text = f"version: {error}; read it again"
        raise ControlError(ErrorCode.STALE, text, "version") from None

"""Logins, tokens, administrators, the first setup and the audit."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.caller import CALLER, Client, Core, cookie_name, csrf_of, session_of
from gateway.api.models_access import Administrator as AdministratorAnswer
from gateway.api.models_access import (
    AdministratorPage,
    AuditPage,
    MadeToken,
    Removed,
    Session,
    SetupState,
    Token,
    TokenPage,
)
from gateway.api.parameters import (
    NAME_PATTERN,
    TEXT_PATTERN,
    TIME_PATTERN,
    Cursor,
    IfMatch,
    Limit,
    answers,
    as_it_is,
    etag,
    needs,
    version_of,
)
from gateway.control.access_operations import (
    MAX_PASSWORD_CHARACTERS,
    MAX_TOKEN_LIFE_S,
    MIN_TOKEN_LIFE_S,
    OUTCOMES,
)
from gateway.control.async_client import Caller
from gateway.control.client import ControlUnavailableError
from gateway.control.operation import ROLES
from gateway.control.protocol import DEFAULT_PAGE, ControlError

LOGIN_TIMEOUT_S = 15.0
_ROLE = f"^({'|'.join(ROLES)})$"

Name = Annotated[str, PathParameter(pattern=NAME_PATTERN)]
TokenId = Annotated[str, PathParameter(pattern="^[0-9a-f]{16}$", description="Id as in the list.")]
Password = Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_CHARACTERS)]
Role = Annotated[str, Field(pattern=_ROLE, examples=["operator"])]
AName = Annotated[str, Field(pattern=NAME_PATTERN)]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Login(_Given):
    """Name and password of an administrator."""

    name: AName
    password: Password


class NewPassword(_Given):
    """The password that is, and the one that shall be."""

    current: Password
    password: Password


class NewToken(_Given):
    """A token to make."""

    name: AName
    role: Role
    expires_in_s: int | None = Field(
        default=None,
        ge=MIN_TOKEN_LIFE_S,
        le=MAX_TOKEN_LIFE_S,
        description="Without it, the token does not expire.",
    )


class NewAdministrator(_Given):
    """Somebody who shall be able to log in."""

    name: AName
    role: Role
    password: Password


class ChangedAdministrator(_Given):
    """A new role, a new password, or both."""

    role: Role | None = None
    password: Password | None = None


class Claim(_Given):
    """The one-time code, and who the first administrator shall be."""

    code: str = Field(min_length=1, max_length=64, examples=["ABCDE-FGHJK-LMNPQ-RSTUV"])
    name: AName
    password: Password


class Basics(_Given):
    """What the first setup proposes; what is not given is proposed by the gateway."""

    pool: str | None = Field(default=None, max_length=43, examples=["10.83.112.0/22"])
    subnets: str | None = Field(default=None, max_length=1000, examples=["10.0.0.0/8"])
    dns: str | None = Field(default=None, max_length=200, examples=["10.0.0.53"])
    ca_name: str | None = Field(default=None, max_length=64, examples=["Example CA"])
    dry_run: bool = False


class Sessions:
    """Gives and takes the cookie of a browser's login."""

    def __init__(self, client: Client, *, tls: bool) -> None:
        self._client = client
        self._name = cookie_name(tls=tls)
        self._attributes = "; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if tls else "")

    def shown(self, request: Request) -> str:
        """The session that a request's cookie names."""
        return session_of(request.headers.raw, self._name)

    async def open(self, request: Request, op: str, args: dict[str, object]) -> Response:
        """Log in by ``op``, always with a new session; the one that was there before ends."""
        remote = CALLER.get().remote
        made = await self._client.request(op, args, Caller("", remote), timeout_s=LOGIN_TIMEOUT_S)
        await self._end(self.shown(request), remote)
        session = str(made.pop("session"))
        answer = as_it_is(
            {**made, "actor": f"admin {made.get('administrator')}"} | {"csrf": csrf_of(session)}
        )
        answer.headers["Set-Cookie"] = f"{self._name}={session}{self._attributes}"
        return answer

    def closed(self) -> Response:
        """The answer that takes the cookie away."""
        gone = f"{self._name}={self._attributes}; Max-Age=0"
        return Response(status_code=204, headers={"Set-Cookie": gone})

    async def _end(self, session: str, remote: str) -> None:
        if not session:
            return
        try:
            await self._client.request("logout", {}, Caller(session, remote))
        except (ControlError, ControlUnavailableError):
            return  # it had ended already, or ends by itself


def access_routes(core: Core, sessions: Sessions, authorized: Any) -> APIRouter:  # noqa: ANN401
    """``/session``, ``/setup``, ``/tokens``, ``/administrators`` and ``/audit``."""
    router = APIRouter(tags=["access"])
    _add_sessions(router, core, sessions, authorized)
    _add_setup(router, core, sessions, authorized)
    _add_tokens(router, core, authorized)
    _add_administrators(router, core, authorized)
    _add_audit(router, core, authorized)
    return router


def _add_sessions(router: APIRouter, core: Core, sessions: Sessions, authorized: Any) -> None:  # noqa: ANN401
    @router.post(
        "/session",
        responses=answers(Session, 401, 422),
        response_model=None,
        openapi_extra=needs("login"),
        summary="Log in: the answer sets the session's cookie",
    )
    async def login(request: Request, given: Login) -> Response:
        """For browsers; programs use a bearer token."""
        return await sessions.open(request, "login", given.model_dump())

    @router.get(
        "/session",
        responses=answers(Session, 422),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("whoami"),
        summary="Who asks, and the CSRF token of a browser's login",
    )
    async def session(request: Request) -> Response:
        found = await core.call("whoami")
        shown = sessions.shown(request) if found.get("administrator") is not None else ""
        return as_it_is({**found, "csrf": csrf_of(shown) if shown else None})

    @router.delete(
        "/session",
        status_code=204,
        responses=answers(None, 422, success=204),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("logout"),
        summary="Log out",
    )
    async def logout() -> Response:
        await core.call("logout")
        return sessions.closed()

    @router.put(
        "/session/password",
        status_code=204,
        responses=answers(None, 409, 422, success=204),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("own-password"),
        summary="Change one's own password",
    )
    async def own_password(given: NewPassword) -> Response:
        """Other logins of the same administrator end."""
        await core.call("own-password", **given.model_dump())
        return Response(status_code=204)


def _add_setup(router: APIRouter, core: Core, sessions: Sessions, authorized: Any) -> None:  # noqa: ANN401
    @router.get(
        "/setup",
        responses=answers(SetupState, 422),
        response_model=None,
        openapi_extra=needs("setup-state"),
        summary="Whether the gateway waits for its first setup",
    )
    async def setup_state() -> Response:
        return as_it_is(await core.call("setup-state"))

    @router.post(
        "/setup/claim",
        responses=answers(Session, 401, 409, 422),
        response_model=None,
        openapi_extra=needs("setup-claim"),
        summary="Make the first administrator with the one-time code, and log in",
    )
    async def setup_claim(request: Request, given: Claim) -> Response:
        """`gateway admin code` prints the code."""
        return await sessions.open(request, "setup-claim", given.model_dump())

    @router.post(
        "/setup/basics",
        responses=answers(None, 409, 422),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("setup-basics"),
        summary="Make what devices with certificates need: a pool and a connection",
    )
    async def setup_basics(given: Basics) -> Response:
        return as_it_is(await core.call("setup-basics", **given.model_dump()))


def _add_tokens(router: APIRouter, core: Core, authorized: Any) -> None:  # noqa: ANN401
    @router.get(
        "/tokens",
        responses=answers(TokenPage, 422),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("tokens"),
        summary="Bearer tokens, without what they are",
    )
    async def tokens(limit: Limit = DEFAULT_PAGE, cursor: Cursor = None) -> Response:
        return as_it_is(await core.call("tokens", limit=limit, cursor=cursor))

    @router.post(
        "/tokens",
        status_code=201,
        responses=answers(MadeToken, 409, 422, success=201),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("token-create"),
        summary="Make a bearer token: only this answer ever shows it",
    )
    async def token_create(given: NewToken) -> Response:
        return as_it_is(await core.call("token-create", **given.model_dump()), 201)

    @router.delete(
        "/tokens/{token}",
        responses=answers(Removed, 404, 422),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("token-delete"),
        summary="Remove a bearer token",
    )
    async def token_delete(token: TokenId) -> Response:
        return as_it_is(await core.call("token-delete", id=token))


def _add_administrators(router: APIRouter, core: Core, authorized: Any) -> None:  # noqa: ANN401
    @router.get(
        "/administrators",
        responses=answers(AdministratorPage, 422),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("administrators"),
        summary="Who can log in",
    )
    async def administrators(limit: Limit = DEFAULT_PAGE, cursor: Cursor = None) -> Response:
        return as_it_is(await core.call("administrators", limit=limit, cursor=cursor))

    @router.post(
        "/administrators",
        status_code=201,
        responses=answers(AdministratorAnswer, 409, 422, success=201),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("administrator-create"),
        summary="Let somebody log in",
    )
    async def administrator_create(given: NewAdministrator) -> Response:
        made = await core.call("administrator-create", **given.model_dump())
        return as_it_is(made, 201, {"ETag": etag(made.get("version"))})

    @router.patch(
        "/administrators/{name}",
        responses=answers(AdministratorAnswer, 404, 409, 412, 422, 428),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("administrator-change"),
        summary="Give a new role or a new password; sessions of theirs end",
    )
    async def administrator_change(
        name: Name, given: ChangedAdministrator, if_match: IfMatch = None
    ) -> Response:
        made = await core.call(
            "administrator-change", name=name, version=version_of(if_match), **given.model_dump()
        )
        return as_it_is(made, headers={"ETag": etag(made.get("version"))})

    @router.delete(
        "/administrators/{name}",
        responses=answers(Removed, 404, 409, 412, 422, 428),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("administrator-delete"),
        summary="Let somebody log in no more",
    )
    async def administrator_delete(name: Name, if_match: IfMatch = None) -> Response:
        made = await core.call("administrator-delete", name=name, version=version_of(if_match))
        return as_it_is(made)


def _add_audit(router: APIRouter, core: Core, authorized: Any) -> None:  # noqa: ANN401
    @router.get(
        "/audit",
        responses=answers(AuditPage, 422),
        response_model=None,
        dependencies=[authorized],
        openapi_extra=needs("audit"),
        summary="Who changed what, the newest first",
    )
    async def audit(  # noqa: PLR0917 - one filter each
        who: Annotated[str | None, Query(pattern=TEXT_PATTERN)] = None,
        action: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
        target: Annotated[str | None, Query(pattern=TEXT_PATTERN)] = None,
        outcome: Annotated[str | None, Query(pattern=f"^({'|'.join(OUTCOMES)})$")] = None,
        since: Annotated[str | None, Query(pattern=TIME_PATTERN)] = None,
        until: Annotated[str | None, Query(pattern=TIME_PATTERN)] = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> Response:
        """`who` and `target` are parts of names; times without Z or offset are UTC."""
        found = await core.call(
            "audit",
            who=who,
            action=action,
            target=target,
            outcome=outcome,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
        return as_it_is(found)


__all__ = ["Sessions", "Token", "access_routes"]

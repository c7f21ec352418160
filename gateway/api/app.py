"""The REST API: a client of the control socket that holds no keys and no privileges."""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from gateway import __version__
from gateway.api.guard import LOOPBACK_HOSTS, Guard
from gateway.api.models import (
    ChildSaPage,
    Health,
    IkeFailurePage,
    IkeSa,
    IkeSaPage,
)
from gateway.api.parameters import Cursor, Limit, refusals
from gateway.api.problems import problem
from gateway.api.routes_mobility import mobility_routes
from gateway.api.routes_nar import nar_routes
from gateway.control.client import ControlUnavailableError
from gateway.control.protocol import DEFAULT_PAGE, IKE_SA_ID, ControlError, ErrorCode

_log = logging.getLogger("gateway.api")

PREFIX = "/api/v1"

_STATUS = {
    ErrorCode.INVALID: 422,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.DENIED: 403,
    ErrorCode.REFUSED: 409,
    ErrorCode.BUSY: 503,
    ErrorCode.UNKNOWN_OPERATION: 502,
    ErrorCode.INTERNAL: 502,
}


class Core(Protocol):
    """What the API needs of :class:`gateway.control.client.AsyncControlClient`."""

    async def call(self, op: str, **args: object) -> dict[str, object]:
        """Ask the core."""


class Tokens(Protocol):
    """What the API needs of :class:`gateway.api.token.BearerToken`."""

    def matches(self, presented: str) -> bool:
        """Whether this is the token."""


Connection = Annotated[
    str | None,
    Query(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Only those of this connection of the configuration.",
    ),
]
IkeSaId = Annotated[
    str, PathParameter(pattern=f"^{IKE_SA_ID.pattern}$", description="Id as in the list.")
]


def create_app(core: Core, tokens: Tokens, *, hosts: frozenset[str] = LOOPBACK_HOSTS) -> FastAPI:
    """The application; it asks ``core`` for everything and keeps nothing."""
    app = FastAPI(
        title="Gateway",
        version=__version__,
        summary="Who is connected, over which security associations, from where; who is away;"
        " who has parts of its addresses.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # both pages would load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Guard, hosts=hosts)
    _add_problems(app)
    authorized = Depends(_authorization(tokens))
    _add_routes(app, core, authorized)
    app.include_router(mobility_routes(core, authorized), prefix=PREFIX)
    app.include_router(nar_routes(core, authorized), prefix=PREFIX)
    return app


def _authorization(tokens: Tokens) -> Callable[..., Awaitable[None]]:
    scheme = HTTPBearer(auto_error=False, description="The token of the gateway's token file.")

    async def authorize(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)],
    ) -> None:
        if given is not None and tokens.matches(given.credentials):
            return
        client = request.client.host if request.client else "unknown"
        if given is not None:
            _log.warning("API: wrong token from %s for %s", client, request.url.path[:200])
        error = ', error="invalid_token"' if given is not None else ""
        raise HTTPException(
            401,
            "Send the token of the gateway's token file as `Authorization: Bearer TOKEN`.",
            {"WWW-Authenticate": f'Bearer realm="gateway"{error}'},
        )

    return authorize


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(StarletteHTTPException)
    async def of_http(_request: Request, error: StarletteHTTPException) -> Response:
        kinds = {401: "unauthorized", 404: "not-found", 405: "method-not-allowed"}
        kind = kinds.get(error.status_code, "refused")
        return problem(error.status_code, kind, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_request(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return problem(422, "invalid", f"{where}: {first['msg']}", field=where)

    @app.exception_handler(ControlError)
    async def of_core(_request: Request, error: ControlError) -> Response:
        status = _STATUS.get(ErrorCode(error.code), 502) if error.code in _STATUS else 502
        return problem(status, str(error.code), error.message, field=error.field)

    @app.exception_handler(ControlUnavailableError)
    async def of_silence(_request: Request, error: ControlUnavailableError) -> Response:
        return problem(503, "core-down", str(error), headers={"Retry-After": "1"})


def _add_routes(app: FastAPI, core: Core, authorized: Any) -> None:  # noqa: ANN401 - FastAPI's type
    @app.get(
        f"{PREFIX}/health",
        response_model=Health,
        responses=refusals(503),
        summary="Whether the gateway works",
        tags=["gateway"],
    )
    async def health() -> object:
        """Needs no token, says nothing else."""
        return await core.call("health")

    @app.get(
        f"{PREFIX}/ike-sas",
        response_model=IkeSaPage,
        responses=refusals(401, 422, 503),
        dependencies=[authorized],
        summary="IKE SAs: the connected peers",
        tags=["security associations"],
    )
    async def ike_sas(
        connection: Connection = None, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
    ) -> object:
        return await core.call("ike-sas", connection=connection, limit=limit, cursor=cursor)

    @app.get(
        f"{PREFIX}/ike-sas/{{ike_sa}}",
        response_model=IkeSa,
        responses=refusals(401, 404, 422, 503),
        dependencies=[authorized],
        summary="One IKE SA",
        tags=["security associations"],
    )
    async def ike_sa(ike_sa: IkeSaId) -> object:
        page = await core.call("ike-sas", id=ike_sa)
        items = page.get("items")
        if not isinstance(items, list) or not items:
            raise ControlError(ErrorCode.NOT_FOUND, f"There is no IKE SA {ike_sa}.", "ike_sa")
        return items[0]

    @app.delete(
        f"{PREFIX}/ike-sas/{{ike_sa}}",
        status_code=204,
        responses=refusals(401, 403, 404, 422, 503),
        dependencies=[authorized],
        summary="Disconnect a peer",
        tags=["security associations"],
    )
    async def close_ike_sa(ike_sa: IkeSaId) -> None:
        """Closes the IKE SA and its child SAs; the peer is told."""
        await core.call("close-ike-sa", id=ike_sa)

    @app.get(
        f"{PREFIX}/child-sas",
        response_model=ChildSaPage,
        responses=refusals(401, 422, 503),
        dependencies=[authorized],
        summary="Child SAs and their traffic",
        tags=["security associations"],
    )
    async def child_sas(
        ike_sa: Annotated[
            str | None,
            Query(pattern=f"^{IKE_SA_ID.pattern}$", description="Only those of this IKE SA."),
        ] = None,
        connection: Connection = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> object:
        return await core.call(
            "child-sas", ike_sa=ike_sa, connection=connection, limit=limit, cursor=cursor
        )

    @app.get(
        f"{PREFIX}/ike-failures",
        response_model=IkeFailurePage,
        responses=refusals(401, 422, 503),
        dependencies=[authorized],
        summary="Why logins failed, the newest first",
        tags=["diagnosis"],
    )
    async def ike_failures(  # noqa: PLR0917 - one filter each
        who: Annotated[
            str | None,
            Query(
                pattern=r"^[^\x00-\x1f\x7f]{1,253}$",
                description="Part of a peer's or user's name, or an address.",
            ),
        ] = None,
        remote: Annotated[
            str | None,
            Query(pattern=r"^[0-9A-Fa-f:.]{2,45}$", description="Only from this address."),
        ] = None,
        within_s: Annotated[
            int | None,
            Query(ge=1, le=365 * 86_400, description="Only those of the last so many seconds."),
        ] = None,
        connection: Connection = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> object:
        return await core.call(
            "ike-failures",
            who=who,
            remote=remote,
            within_s=within_s,
            connection=connection,
            limit=limit,
            cursor=cursor,
        )


def openapi() -> dict[str, Any]:
    """The OpenAPI document of this version."""

    class Nothing:
        async def call(self, op: str, **_args: object) -> dict[str, object]:
            raise ControlUnavailableError(op)

        def matches(self, presented: str) -> bool:
            del presented
            return False

    nothing = Nothing()
    document: dict[str, Any] = create_app(nothing, nothing).openapi()
    return document

"""The gateway itself, its security associations, and why logins failed."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter

from gateway.api.caller import Core
from gateway.api.models import ChildSaPage, Health, IkeFailurePage, IkeSa, IkeSaPage
from gateway.api.parameters import (
    NAME_PATTERN,
    TEXT_PATTERN,
    Cursor,
    Limit,
    answers,
    as_it_is,
    needs,
    refusals,
)
from gateway.api.routes_observation import Nothing
from gateway.control.protocol import DEFAULT_PAGE, IKE_SA_ID, ControlError, ErrorCode

Connection = Annotated[
    str | None,
    Query(pattern=NAME_PATTERN, description="Only those of this connection."),
]
IkeSaId = Annotated[
    str, PathParameter(pattern=f"^{IKE_SA_ID.pattern}$", description="Id as in the list.")
]


def health_routes(core: Core) -> APIRouter:
    """What needs no login: whether it works."""
    router = APIRouter(tags=["gateway"])

    @router.get(
        "/health",
        response_model=Health,
        responses=refusals(422, 503),
        openapi_extra=needs("health"),
        summary="Whether the gateway works",
    )
    async def health() -> object:
        """Needs no token, says nothing else."""
        return await core.call("health")

    @router.get(
        "/healthz",
        response_model=Health,
        responses=refusals(422, 503),
        openapi_extra=needs("health"),
        summary="Whether the gateway works, under the name that watchdogs ask for",
    )
    async def healthz() -> object:
        return await core.call("health")

    return router


def gateway_routes(core: Core, authorized: Any) -> APIRouter:  # noqa: ANN401 - FastAPI's type
    """``/ike-sas``, ``/child-sas``, ``/ike-failures`` and ``/connections``."""
    router = APIRouter(dependencies=[authorized])
    _add_ike_sas(router, core)
    _add_child_sas(router, core)
    _add_failures(router, core)
    return router


def _add_ike_sas(router: APIRouter, core: Core) -> None:
    tags: list[Any] = ["security associations"]

    @router.get(
        "/ike-sas",
        response_model=IkeSaPage,
        responses=refusals(422),
        openapi_extra=needs("ike-sas"),
        summary="IKE SAs: the connected peers",
        tags=tags,
    )
    async def ike_sas(
        connection: Connection = None, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
    ) -> object:
        return await core.call("ike-sas", connection=connection, limit=limit, cursor=cursor)

    @router.get(
        "/ike-sas/{ike_sa}",
        response_model=IkeSa,
        responses=refusals(404, 422),
        openapi_extra=needs("ike-sas"),
        summary="One IKE SA",
        tags=tags,
    )
    async def ike_sa(ike_sa: IkeSaId) -> object:
        page = await core.call("ike-sas", id=ike_sa)
        items = page.get("items")
        if not isinstance(items, list) or not items:
            raise ControlError(ErrorCode.NOT_FOUND, f"There is no IKE SA {ike_sa}.", "ike_sa")
        return items[0]

    @router.delete(
        "/ike-sas/{ike_sa}",
        status_code=204,
        responses=refusals(404, 422),
        openapi_extra=needs("close-ike-sa"),
        summary="Disconnect a peer",
        tags=tags,
    )
    async def close_ike_sa(ike_sa: IkeSaId) -> None:
        """Closes the IKE SA and its child SAs; the peer is told."""
        await core.call("close-ike-sa", id=ike_sa)

    @router.post(
        "/ike-sas/{ike_sa}/rekey",
        responses=answers(None, 404, 422),
        response_model=None,
        openapi_extra=needs("rekey"),
        summary="Negotiate new keys with a peer",
        tags=tags,
    )
    async def rekey(
        ike_sa: IkeSaId,
        nothing: Nothing | None = None,
        children: Annotated[bool, Query(description="Those of its child SAs.")] = False,
    ) -> Response:
        del nothing
        return as_it_is(await core.call("rekey", id=ike_sa, children=children))

    @router.post(
        "/connections/{connection}/initiate",
        responses=answers(None, 404, 409, 422),
        response_model=None,
        openapi_extra=needs("initiate"),
        summary="Start a connection that has a remote address",
        tags=tags,
    )
    async def initiate(
        connection: Annotated[str, PathParameter(pattern=NAME_PATTERN)],
        nothing: Nothing | None = None,
    ) -> Response:
        del nothing
        return as_it_is(await core.call("initiate", connection=connection))


def _add_child_sas(router: APIRouter, core: Core) -> None:
    @router.get(
        "/child-sas",
        response_model=ChildSaPage,
        responses=refusals(422),
        openapi_extra=needs("child-sas"),
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


def _add_failures(router: APIRouter, core: Core) -> None:
    @router.get(
        "/ike-failures",
        response_model=IkeFailurePage,
        responses=refusals(422),
        openapi_extra=needs("ike-failures"),
        summary="Why logins failed, the newest first",
        tags=["diagnosis"],
    )
    async def ike_failures(  # noqa: PLR0917 - one filter each
        who: Annotated[
            str | None,
            Query(
                pattern=TEXT_PATTERN,
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

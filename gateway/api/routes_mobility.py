"""The API of the mobility agents: where mobile nodes are, and who visits."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter

from gateway.api.caller import Core
from gateway.api.models_mobility import (
    Binding,
    BindingPage,
    HomeNetworkPage,
    RegistrationFailurePage,
    VisitorPage,
)
from gateway.api.parameters import Cursor, Limit, needs, refusals
from gateway.control.protocol import DEFAULT_PAGE

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_ADDRESS = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$"
_TEXT = r"^[^\x00-\x1f\x7f]{1,253}$"
_UNBOUND = {404: "The home address has no binding: the node is at home, or not registered."}

HomeAgent = Annotated[
    str | None, Query(pattern=_NAME, description="Only those of this home agent, by name.")
]
ForeignAgent = Annotated[
    str | None, Query(pattern=_NAME, description="Only those of this foreign agent, by name.")
]
HomeAddress = Annotated[
    str | None, Query(pattern=_ADDRESS, description="Only that of this home address.")
]
BoundAddress = Annotated[
    str, PathParameter(pattern=_ADDRESS, description="The home address of the binding.")
]


def mobility_routes(core: Core, authorized: Any) -> APIRouter:  # noqa: ANN401 - FastAPI's type
    """Everything below ``/bindings``, ``/visitors`` and ``/home-networks``."""
    router = APIRouter(tags=["mobility"], dependencies=[authorized])
    _add_bindings(router, core)
    _add_others(router, core)
    return router


def _add_bindings(router: APIRouter, core: Core) -> None:
    @router.get(
        "/bindings",
        response_model=BindingPage,
        responses=refusals(401, 422, 503),
        openapi_extra=needs("bindings"),
        summary="Bindings: where mobile nodes are",
    )
    async def bindings(  # noqa: PLR0917 - one filter each
        home_agent: HomeAgent = None,
        node: Annotated[
            str | None, Query(pattern=_TEXT, description="Part of a node's name or NAI.")
        ] = None,
        home_address: HomeAddress = None,
        care_of_address: Annotated[
            str | None, Query(pattern=_ADDRESS, description="Only those at this address.")
        ] = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> object:
        return await core.call(
            "bindings",
            home_agent=home_agent,
            node=node,
            home_address=home_address,
            care_of_address=care_of_address,
            limit=limit,
            cursor=cursor,
        )

    @router.get(
        "/bindings/{home_address}",
        response_model=Binding,
        responses=refusals(401, 404, 422, 503, words=_UNBOUND),
        openapi_extra=needs("binding"),
        summary="One binding",
    )
    async def binding(home_address: BoundAddress, home_agent: HomeAgent = None) -> object:
        return await core.call("binding", home_address=home_address, home_agent=home_agent)

    @router.delete(
        "/bindings/{home_address}",
        status_code=204,
        responses=refusals(401, 403, 404, 422, 503, words=_UNBOUND),
        openapi_extra=needs("revoke-binding"),
        summary="Revoke a binding",
    )
    async def revoke_binding(home_address: BoundAddress, home_agent: HomeAgent = None) -> None:
        """Ends it; the foreign agent, or the mobile node, is told (RFC 3543)."""
        await core.call("revoke-binding", home_address=home_address, home_agent=home_agent)


def _add_others(router: APIRouter, core: Core) -> None:
    @router.get(
        "/visitors",
        response_model=VisitorPage,
        responses=refusals(401, 422, 503),
        openapi_extra=needs("visitors"),
        summary="Visitors of the foreign agents",
    )
    async def visitors(
        foreign_agent: ForeignAgent = None,
        home_address: HomeAddress = None,
        home_agent_address: Annotated[
            str | None, Query(pattern=_ADDRESS, description="Only those of this home agent.")
        ] = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> object:
        return await core.call(
            "visitors",
            foreign_agent=foreign_agent,
            home_address=home_address,
            home_agent_address=home_agent_address,
            limit=limit,
            cursor=cursor,
        )

    @router.get(
        "/home-networks",
        response_model=HomeNetworkPage,
        responses=refusals(401, 422, 503),
        openapi_extra=needs("home-networks"),
        summary="Home networks, and how many of their nodes are away",
    )
    async def home_networks(home_agent: HomeAgent = None) -> object:
        return await core.call("home-networks", home_agent=home_agent)

    @router.get(
        "/registration-failures",
        response_model=RegistrationFailurePage,
        responses=refusals(401, 422, 503),
        openapi_extra=needs("registration-failures"),
        summary="Why registrations were denied, the newest first",
    )
    async def registration_failures(
        who: Annotated[
            str | None, Query(pattern=_TEXT, description="Part of a node's name, or an address.")
        ] = None,
        agent: Annotated[
            str | None, Query(pattern=_NAME, description="Only those of this agent, by name.")
        ] = None,
        within_s: Annotated[
            int | None,
            Query(ge=1, le=365 * 86_400, description="Only those of the last so many seconds."),
        ] = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> object:
        return await core.call(
            "registration-failures",
            who=who,
            agent=agent,
            within_s=within_s,
            limit=limit,
            cursor=cursor,
        )

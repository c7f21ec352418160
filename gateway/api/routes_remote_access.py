"""Leases, NAPT, port forwards, rules, names, MTU: remote access as it is now."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter

from gateway.api.body_of import Given
from gateway.api.caller import Core
from gateway.api.model_of import model_of, page_of
from gateway.api.parameters import (
    NAME_PATTERN,
    TEXT_PATTERN,
    Cursor,
    DeviceName,
    Limit,
    answers,
    as_it_is,
    needs,
)
from gateway.control import remote_access_views as views
from gateway.control.protocol import DEFAULT_PAGE

_ADDRESS = r"^[0-9A-Fa-f:.]{2,45}$"
_DIRECTIONS = "to-inside|from-inside|between-devices|to-gateway"

Search = Annotated[
    str | None, Query(pattern=TEXT_PATTERN, description="Part of a name, identity or address.")
]
Pool = Annotated[str | None, Query(pattern=NAME_PATTERN, description="Only those of this pool.")]


class Nothing(Given):
    """No argument."""


def remote_access_routes(core: Core, authorized: Any) -> APIRouter:  # noqa: ANN401 - FastAPI's type
    """``/leases``, ``/reachability``, ``/redirects``, ``/rules``, ``/names`` and of devices."""
    router = APIRouter(tags=["remote access"], dependencies=[authorized])
    _add_leases(router, core)
    _add_presence(router, core)
    _add_rules(router, core)
    _add_plain(router, core)
    _add_paths(router, core)
    return router


def _add_leases(router: APIRouter, core: Core) -> None:
    @router.get(
        "/leases",
        responses=answers(page_of(model_of(views.Lease)), 404, 422),
        response_model=None,
        openapi_extra=needs("leases"),
        summary="Inner addresses that are held, and why",
    )
    async def leases(
        pool: Pool = None, q: Search = None, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
    ) -> Response:
        return as_it_is(await core.call("leases", pool=pool, q=q, limit=limit, cursor=cursor))

    @router.get(
        "/leases/history",
        responses=answers(page_of(model_of(views.LeaseRecord)), 404, 422),
        response_model=None,
        openapi_extra=needs("lease-history"),
        summary="Who had which inner address when, the newest first",
    )
    async def history(
        pool: Pool = None,
        address: Annotated[
            str | None, Query(pattern=_ADDRESS, description="Only this address.")
        ] = None,
        q: Search = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> Response:
        found = await core.call(
            "lease-history", pool=pool, address=address, q=q, limit=limit, cursor=cursor
        )
        return as_it_is(found)

    @router.delete(
        "/leases/{pool}/{address}",
        responses=answers(model_of(views.LeaseReleased), 404, 409, 422),
        response_model=None,
        openapi_extra=needs("lease-release"),
        summary="Give an address that is kept for an absent device free",
    )
    async def release(
        pool: Annotated[str, PathParameter(pattern=NAME_PATTERN, description="A pool's name.")],
        address: Annotated[str, PathParameter(pattern=_ADDRESS, description="The address.")],
    ) -> Response:
        return as_it_is(await core.call("lease-release", pool=pool, address=address))


def _add_presence(router: APIRouter, core: Core) -> None:
    @router.get(
        "/napt-sessions",
        responses=answers(page_of(model_of(views.NaptSession)), 404, 422),
        response_model=None,
        openapi_extra=needs("napt-sessions"),
        summary="Sessions without inner addresses, and what they appear as",
    )
    async def napt_sessions(
        q: Search = None, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
    ) -> Response:
        return as_it_is(await core.call("napt-sessions", q=q, limit=limit, cursor=cursor))

    @router.get(
        "/redirects",
        responses=answers(page_of(model_of(views.Redirect)), 404, 422),
        response_model=None,
        openapi_extra=needs("redirects"),
        summary="Port forwards, and where each one leads now",
    )
    async def redirects(limit: Limit = DEFAULT_PAGE, cursor: Cursor = None) -> Response:
        """They are configured as objects of the kind `redirects`."""
        return as_it_is(await core.call("redirects", limit=limit, cursor=cursor))


def _add_rules(router: APIRouter, core: Core) -> None:
    @router.get(
        "/rules",
        responses=answers(page_of(model_of(views.RuleCounter)), 404, 422),
        response_model=None,
        openapi_extra=needs("rule-counters"),
        summary="How much each rule has let through or refused",
    )
    async def rules(
        q: Search = None, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
    ) -> Response:
        """They are configured as objects of the kind `rules`."""
        return as_it_is(await core.call("rule-counters", q=q, limit=limit, cursor=cursor))

    @router.get(
        "/devices/{name}/rules",
        responses=answers(model_of(views.RulesOfDevice), 404, 422),
        response_model=None,
        openapi_extra=needs("rules-of"),
        summary="The rules that apply to a device now, with their counters",
    )
    async def rules_of(name: DeviceName) -> Response:
        return as_it_is(await core.call("rules-of", device=name))

    @router.get(
        "/devices/{name}/rule-test",
        responses=answers(model_of(views.RuleTest), 404, 422),
        response_model=None,
        openapi_extra=needs("rule-test"),
        summary="Whether a device may reach something, or be reached",
    )
    async def rule_test(
        name: DeviceName,
        address: Annotated[str, Query(pattern=_ADDRESS, description="The other side.")],
        protocol: Annotated[int, Query(ge=1, le=255, description="6 is TCP, 17 UDP, 1 ICMP.")],
        port: Annotated[
            int, Query(ge=0, le=65_535, description="Of the side that is connected to.")
        ] = 0,
        direction: Annotated[str, Query(pattern=f"^({_DIRECTIONS})$")] = "to-inside",
    ) -> Response:
        found = await core.call(
            "rule-test",
            device=name,
            direction=direction,
            address=address,
            protocol=protocol,
            port=port,
        )
        return as_it_is(found)


def _add_plain(router: APIRouter, core: Core) -> None:
    """What has no argument."""
    for path, operation, view, summary in (
        (
            "/reachability",
            "reachability",
            views.Reachability,
            "How full each pool is, and how the inside learns where it is",
        ),
        ("/names", "names", views.NamesView, "The forwarder, and the names that devices have"),
        (
            "/names/verify",
            "names-verify",
            views.NamesVerify,
            "Ask public DNS whether it leads devices to this gateway",
        ),
    ):
        router.add_api_route(
            path,
            _reading(core, operation),
            methods=["GET"],
            name=operation,
            responses=answers(model_of(view), 404, 409, 422),
            response_model=None,
            openapi_extra=needs(operation),
            summary=summary,
        )


def _reading(core: Core, operation: str) -> Callable[[], Awaitable[Response]]:
    async def read() -> Response:
        return as_it_is(await core.call(operation))

    return read


def _add_paths(router: APIRouter, core: Core) -> None:
    @router.get(
        "/devices/{name}/mtu",
        responses=answers(model_of(views.DeviceMtu), 404, 409, 422),
        response_model=None,
        openapi_extra=needs("mtu"),
        summary="Largest packet of a device, with the arithmetic",
    )
    async def mtu(name: DeviceName) -> Response:
        return as_it_is(await core.call("mtu", device=name))

    @router.post(
        "/devices/{name}/path-test",
        responses=answers(model_of(views.PathTest), 404, 409, 422),
        response_model=None,
        openapi_extra=needs("path-test"),
        summary="Send probes through a device's tunnel and tell which sizes arrive",
    )
    async def path_test(name: DeviceName, nothing: Nothing | None = None) -> Response:
        """Takes some seconds."""
        del nothing
        return as_it_is(await core.call("path-test", device=name))

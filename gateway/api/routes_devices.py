"""Devices as they are now, what can be done with them, and the topology they are part of."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from gateway.api.body_of import Given, body_of, given
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
from gateway.control.observation_operations import SORTS, SPANS, WHERES
from gateway.control.observation_views import (
    Device,
    DeviceDetail,
    DeviceTraffic,
    HistoryEntry,
    Topology,
)
from gateway.control.protocol import DEFAULT_PAGE
from gateway.control.provisioning_operations import BundleView

_SORTS = "|".join(SORTS)
_BUNDLE = body_of("device-bundle", but=("name",))
_ROTATE = body_of("device-rotate", but=("name",))


class Nothing(Given):
    """No argument."""


def device_routes(core: Core, authorized: Any) -> APIRouter:  # noqa: ANN401 - FastAPI's type
    """``/devices`` and ``/topology``."""
    router = APIRouter(tags=["devices"], dependencies=[authorized])
    _add_lists(router, core)
    _add_past(router, core)
    for verb, operation, summary in (
        ("block", "device-block", "Refuse the logins of a device and end its sessions"),
        ("unblock", "device-unblock", "Let a device log in again"),
        ("disconnect", "device-disconnect", "End the sessions of a device; it may come again"),
        ("revoke", "device-revoke", "Revoke every certificate of a device and end its sessions"),
    ):
        _add_action(router, core, verb, operation, summary)
    _add_bundles(router, core)
    return router


def _add_lists(router: APIRouter, core: Core) -> None:
    @router.get(
        "/devices",
        responses=answers(page_of(model_of(Device)), 422),
        response_model=None,
        openapi_extra=needs("devices"),
        summary="Devices, configured or seen, as they are now",
    )
    async def devices(  # noqa: PLR0917 - one filter each
        q: Annotated[
            str | None, Query(pattern=TEXT_PATTERN, description="Part of a name or address.")
        ] = None,
        where: Annotated[str | None, Query(pattern=f"^({'|'.join(WHERES)})$")] = None,
        connection: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
        sort: Annotated[str, Query(pattern=f"^-?({_SORTS})$")] = "name",
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> Response:
        found = await core.call(
            "devices",
            q=q,
            where=where,
            connection=connection,
            sort=sort,
            limit=limit,
            cursor=cursor,
        )
        return as_it_is(found)

    @router.get(
        "/devices/{name}",
        responses=answers(model_of(DeviceDetail), 404, 422),
        response_model=None,
        openapi_extra=needs("device"),
        summary="One device: where it is and how, layers, moves, failures",
    )
    async def device(name: DeviceName) -> Response:
        return as_it_is(await core.call("device", name=name))

    @router.get(
        "/topology",
        responses=answers(model_of(Topology), 422),
        response_model=None,
        openapi_extra=needs("topology"),
        summary="The places devices can be at, and who is where",
    )
    async def topology() -> Response:
        return as_it_is(await core.call("topology"))


def _add_past(router: APIRouter, core: Core) -> None:
    @router.get(
        "/devices/{name}/traffic",
        responses=answers(model_of(DeviceTraffic), 404, 422),
        response_model=None,
        openapi_extra=needs("device-traffic"),
        summary="A device's traffic over time",
    )
    async def traffic(
        name: DeviceName, span: Annotated[str, Query(pattern=f"^({'|'.join(SPANS)})$")] = "1h"
    ) -> Response:
        return as_it_is(await core.call("device-traffic", name=name, span=span))

    @router.get(
        "/devices/{name}/history",
        responses=answers(page_of(model_of(HistoryEntry)), 404, 422),
        response_model=None,
        openapi_extra=needs("device-history"),
        summary="What happened to a device, the newest first",
    )
    async def history(
        name: DeviceName,
        what: Annotated[
            str | None, Query(pattern="^(connected|moved|failed|disconnected)$")
        ] = None,
        since_s: Annotated[int | None, Query(ge=1, le=3650 * 86_400)] = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> Response:
        found = await core.call(
            "device-history", name=name, what=what, since_s=since_s, limit=limit, cursor=cursor
        )
        return as_it_is(found)


def _add_action(router: APIRouter, core: Core, verb: str, operation: str, summary: str) -> None:
    async def act(name: DeviceName, nothing: Nothing | None = None) -> Response:
        del nothing
        return as_it_is(await core.call(operation, name=name))

    router.add_api_route(
        f"/devices/{{name}}/{verb}",
        act,
        methods=["POST"],
        name=verb,
        responses=answers(None, 404, 409, 422),
        response_model=None,
        openapi_extra=needs(operation),
        summary=summary,
    )


def _add_bundles(router: APIRouter, core: Core) -> None:
    made = model_of(BundleView)

    @router.post(
        "/devices/{name}/bundle",
        responses=answers(made, 404, 409, 422, success=201),
        response_model=None,
        status_code=201,
        openapi_extra=needs("device-bundle"),
        summary="A new certificate and link for a device",
    )
    async def bundle(name: DeviceName, body: _BUNDLE | None = None) -> Response:  # type: ignore[valid-type]
        """Its older certificates go on counting."""
        return as_it_is(await core.call("device-bundle", name=name, **given(body)), 201)

    @router.post(
        "/devices/{name}/rotate",
        responses=answers(made, 404, 409, 422, success=201),
        response_model=None,
        status_code=201,
        openapi_extra=needs("device-rotate"),
        summary="A new certificate and link for a device, and the end of its older ones",
    )
    async def rotate(name: DeviceName, body: _ROTATE | None = None) -> Response:  # type: ignore[valid-type]
        return as_it_is(await core.call("device-rotate", name=name, **given(body)), 201)

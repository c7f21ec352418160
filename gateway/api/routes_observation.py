"""Status, metrics, events, packet captures and the support bundle."""

import base64
import binascii
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi import Path as PathParameter
from starlette.responses import StreamingResponse

from gateway.api.body_of import Given, body_of, given
from gateway.api.caller import CALLER, Core
from gateway.api.events import EventHub
from gateway.api.links import safe_name
from gateway.api.model_of import model_of
from gateway.api.parameters import DeviceName, answers, as_it_is, needs, refusals
from gateway.control.observation_views import Capture, Captures
from gateway.control.protocol import ControlError, ErrorCode

_CAPTURE = body_of("capture-start", but=("device",))
CaptureId = Annotated[
    str, PathParameter(pattern="^[0-9a-f]{16}$", description="Id as in the list.")
]

_STOP = "End a packet capture"
_REMOVE = "End a packet capture and delete what it recorded"


class Nothing(Given):
    """No argument."""


def observation_routes(core: Core, hub: EventHub, authorized: Any) -> APIRouter:  # noqa: ANN401
    """``/status``, ``/events``, ``/captures`` and ``/support``."""
    router = APIRouter(tags=["observation"], dependencies=[authorized])
    _add_status(router, core)
    _add_events(router, hub)
    _add_captures(router, core)
    _add_files(router, core)
    return router


def metrics_routes(core: Core) -> APIRouter:
    """``/metrics``. The core knows who may read it without a token."""
    router = APIRouter(tags=["observation"])

    @router.get(
        "/metrics",
        responses={
            200: {"description": "Metrics.", "content": {"text/plain": {}}},
            **refusals(401, 403, 422, 503),
        },
        response_model=None,
        openapi_extra=needs("metrics"),
        summary="Every metric in the text format of Prometheus",
    )
    async def metrics(
        devices: Annotated[bool, Query(description="Also those of each device.")] = False,
    ) -> Response:
        found = await core.call("metrics", devices=devices)
        kind = str(found.get("content_type") or "text/plain; version=0.0.4; charset=utf-8")
        return Response(str(found.get("text", "")), headers={"Content-Type": kind})

    return router


def _add_status(router: APIRouter, core: Core) -> None:
    @router.get(
        "/status",
        responses=answers(None, 422),
        response_model=None,
        openapi_extra=needs("status"),
        summary="Version, uptime, what is configured, counters of every part",
    )
    async def status() -> Response:
        return as_it_is(await core.call("status"))

    @router.post(
        "/reload",
        responses=answers(None, 409, 422),
        response_model=None,
        openapi_extra=needs("reload"),
        summary="Read gateway.toml again and apply the difference",
    )
    async def reload(nothing: Nothing | None = None) -> Response:
        del nothing
        return as_it_is(await core.call("reload"))


def _add_events(router: APIRouter, hub: EventHub) -> None:
    @router.get(
        "/events",
        responses={
            200: {
                "description": "Server-sent events; `data` is an event as JSON, `id` its number.",
                "content": {"text/event-stream": {}},
            },
            **refusals(401, 422, 429, 503),
        },
        response_model=None,
        openapi_extra=needs("events"),
        summary="Events as they happen, without end",
    )
    async def events(
        last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
    ) -> Response:
        """After an interruption, send the last `id` as Last-Event-ID: what was missed comes first.

        `events_lost` says that more was missed than is kept.
        """
        stream = await hub.join(CALLER.get(), last_event_id)
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def _add_captures(router: APIRouter, core: Core) -> None:
    @router.get(
        "/captures",
        responses=answers(model_of(Captures), 422),
        response_model=None,
        openapi_extra=needs("captures"),
        summary="Packet captures that run, or are done and can still be read",
    )
    async def captures() -> Response:
        return as_it_is(await core.call("captures"))

    @router.get(
        "/devices/{name}/captures",
        responses=answers(model_of(Captures), 422),
        response_model=None,
        openapi_extra=needs("captures"),
        summary="Packet captures of a device",
    )
    async def captures_of(name: DeviceName) -> Response:
        found = await core.call("captures")
        items = found.get("items")
        mine = [
            one
            for one in (items if isinstance(items, list) else ())
            if isinstance(one, dict) and one.get("device") == name
        ]
        return as_it_is({**found, "items": mine, "total": len(mine)})

    @router.post(
        "/devices/{name}/captures",
        responses=answers(model_of(Capture), 404, 409, 422, success=201),
        response_model=None,
        status_code=201,
        openapi_extra=needs("capture-start"),
        summary="Record the packets of a device, for a bounded time and size",
    )
    async def capture_start(name: DeviceName, body: _CAPTURE | None = None) -> Response:  # type: ignore[valid-type]
        return as_it_is(await core.call("capture-start", device=name, **given(body)), 201)

    async def stop(capture: CaptureId, nothing: Nothing | None = None) -> Response:
        del nothing
        return as_it_is(await core.call("capture-stop", id=capture))

    async def stop_of_device(
        name: DeviceName, capture: CaptureId, nothing: Nothing | None = None
    ) -> Response:
        del name
        return await stop(capture, nothing)

    async def remove(capture: CaptureId) -> Response:
        return as_it_is(await core.call("capture-stop", id=capture, remove=True))

    async def remove_of_device(name: DeviceName, capture: CaptureId) -> Response:
        del name
        return await remove(capture)

    for act, method, path, summary in (
        (stop, "POST", "/captures/{capture}/stop", _STOP),
        (stop_of_device, "POST", "/devices/{name}/captures/{capture}/stop", _STOP),
        (remove, "DELETE", "/captures/{capture}", _REMOVE),
        (remove_of_device, "DELETE", "/devices/{name}/captures/{capture}", _REMOVE),
    ):
        router.add_api_route(
            path,
            act,
            methods=[method],
            responses=answers(model_of(Capture), 404, 409, 422),
            response_model=None,
            openapi_extra=needs("capture-stop"),
            summary=summary,
        )


def _add_files(router: APIRouter, core: Core) -> None:
    async def read(capture: CaptureId) -> Response:
        return await _file(core, "capture-read", capture)

    async def read_of_device(name: DeviceName, capture: CaptureId) -> Response:
        del name
        return await read(capture)

    for path, act in (
        ("/captures/{capture}", read),
        ("/devices/{name}/captures/{capture}", read_of_device),
    ):
        router.add_api_route(
            path,
            act,
            methods=["GET"],
            responses=_file_answers("The packets (pcapng).", "application/octet-stream"),
            response_model=None,
            openapi_extra=needs("capture-read"),
            summary="Download a packet capture",
        )

    @router.post(
        "/support",
        responses=_file_answers("The bundle.", "application/octet-stream"),
        response_model=None,
        openapi_extra=needs("support"),
        summary="Collect what a bug report needs, without secrets",
    )
    async def support(nothing: Nothing | None = None) -> Response:
        del nothing
        return await _file(core, "support", None)


def _file_answers(words: str, media_type: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"description": words, "content": {media_type: {}}},
        **refusals(404, 409, 422),
    }


async def _file(core: Core, operation: str, wanted: str | None) -> Response:
    """A file that the core hands out in pieces. The first one tells what it is."""
    args: dict[str, object] = {} if wanted is None else {"id": wanted}
    first = await core.call(operation, **args)
    found = str(first.get("id") or wanted)
    media_type = str(first.get("media_type") or "application/octet-stream")
    name = safe_name(str(first.get("file_name")))

    async def pieces() -> AsyncIterator[bytes]:
        piece = first
        while True:
            yield _octets(piece)
            following = piece.get("next")
            if not isinstance(following, int):
                return
            piece = await core.call(operation, id=found, offset=following)

    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces(), media_type=media_type, headers=headers)


def _octets(piece: dict[str, object]) -> bytes:
    try:
        return base64.b64decode(str(piece.get("content")), validate=True)
    except binascii.Error:
        raise ControlError(ErrorCode.INTERNAL, "the gateway's answer makes no sense") from None

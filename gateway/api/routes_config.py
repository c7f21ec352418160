"""Configured objects of every kind: list, create, read, replace, merge, delete, try out."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.caller import Core
from gateway.api.model_of import model_of, page_of
from gateway.api.models import Answer
from gateway.api.parameters import (
    OBJECT_NAME_PATTERN,
    TEXT_PATTERN,
    Cursor,
    DryRun,
    IfMatch,
    Limit,
    answers,
    as_it_is,
    etag,
    needs,
    version_of,
)
from gateway.control.object_operations import (
    OBJECT_KINDS,
    SORTS,
    ObjectKind,
    ObjectResult,
    StoredObject,
)
from gateway.control.protocol import DEFAULT_PAGE

_KINDS = "|".join(OBJECT_KINDS)
Kind = Annotated[
    str,
    PathParameter(
        pattern=f"^({_KINDS.replace('_', '[_-]')})$",
        description=f"One of {', '.join(OBJECT_KINDS)}; a hyphen stands for an underscore, too.",
    ),
]
Name = Annotated[str, PathParameter(pattern=OBJECT_NAME_PATTERN, description="Name of the object.")]
Document = Annotated[
    dict[str, Any],
    Body(description="As its table of gateway.toml; `GET /config/kinds` has the schema."),
]
Patch = Annotated[
    dict[str, Any],
    Body(description="What to change (RFC 7396): what is not named stays, null removes."),
]


class KindList(Answer):
    """Everything that can be configured."""

    kinds: list[model_of(ObjectKind)]  # type: ignore[valid-type]


class NewObject(BaseModel):
    """An object to create."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=OBJECT_NAME_PATTERN, examples=["staff"])
    document: dict[str, Any] = Field(examples=[{"network": "10.77.0.0/16"}])


def config_routes(core: Core, authorized: Any) -> APIRouter:  # noqa: ANN401 - FastAPI's type
    """Everything below ``/config``."""
    router = APIRouter(prefix="/config", tags=["configuration"], dependencies=[authorized])
    _add_lists(router, core)
    _add_changes(router, core)
    return router


def _plain(kind: str) -> str:
    return kind.replace("-", "_")


def _add_lists(router: APIRouter, core: Core) -> None:
    @router.get(
        "/kinds",
        responses=answers(KindList, 422),
        response_model=None,
        openapi_extra=needs("object-kinds"),
        summary="What can be configured, with the schema of each kind",
    )
    async def kinds() -> Response:
        return as_it_is(await core.call("object-kinds"))

    @router.get(
        "/{kind}",
        responses=answers(page_of(model_of(StoredObject)), 422),
        response_model=None,
        openapi_extra=needs("objects"),
        summary="Objects of a kind",
    )
    async def objects(  # noqa: PLR0917 - one filter each
        kind: Kind,
        q: Annotated[
            str | None, Query(pattern=TEXT_PATTERN, description="Part of a name or value.")
        ] = None,
        source: Annotated[
            str | None, Query(pattern="^(store|file)$", description="Only those from there.")
        ] = None,
        sort: Annotated[str, Query(pattern=f"^({'|'.join(SORTS)})$")] = "name",
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> Response:
        """Those of the store, and those of gateway.toml, which are changed there."""
        found = await core.call(
            "objects", kind=_plain(kind), q=q, source=source, sort=sort, limit=limit, cursor=cursor
        )
        return as_it_is(found)

    @router.get(
        "/{kind}/{name}",
        responses=answers(model_of(StoredObject), 404, 422) | {304: {"description": "As it was."}},
        response_model=None,
        openapi_extra=needs("object"),
        summary="One object",
    )
    async def one_object(
        kind: Kind,
        name: Name,
        if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
    ) -> Response:
        found = await core.call("object", kind=_plain(kind), name=name)
        tag = etag(found.get("version"))
        if if_none_match is not None and tag in if_none_match:
            return Response(status_code=304, headers={"ETag": tag})
        return as_it_is(found, headers={"ETag": tag})


def _add_changes(router: APIRouter, core: Core) -> None:
    result = model_of(ObjectResult)

    @router.post(
        "/{kind}",
        responses=answers(result, 409, 422, success=201, words="It is stored and in force.")
        | {200: {"description": "With `dry_run`.", "model": result}},
        response_model=None,
        status_code=201,
        openapi_extra=needs("object-create"),
        summary="Create an object",
    )
    async def create(kind: Kind, new: NewObject, dry_run: DryRun = False) -> Response:
        made = await core.call(
            "object-create",
            kind=_plain(kind),
            name=new.name,
            document=new.document,
            dry_run=dry_run,
        )
        return _changed(made, status=200 if dry_run else 201)

    @router.put(
        "/{kind}/{name}",
        responses=answers(result, 404, 409, 412, 422, 428),
        response_model=None,
        openapi_extra=needs("object-replace"),
        summary="Replace an object's document",
    )
    async def replace(
        kind: Kind,
        name: Name,
        document: Document,
        if_match: IfMatch = None,
        dry_run: DryRun = False,
    ) -> Response:
        """A secret that is given as `{"secret": true}` stays as it is."""
        made = await core.call(
            "object-replace",
            kind=_plain(kind),
            name=name,
            document=document,
            version=version_of(if_match),
            dry_run=dry_run,
        )
        return _changed(made)

    @router.patch(
        "/{kind}/{name}",
        responses=answers(result, 404, 409, 412, 422, 428),
        response_model=None,
        openapi_extra=needs("object-merge"),
        summary="Change some fields of an object",
    )
    async def merge(
        kind: Kind, name: Name, patch: Patch, if_match: IfMatch = None, dry_run: DryRun = False
    ) -> Response:
        made = await core.call(
            "object-merge",
            kind=_plain(kind),
            name=name,
            document=patch,
            version=version_of(if_match),
            dry_run=dry_run,
        )
        return _changed(made)

    @router.delete(
        "/{kind}/{name}",
        responses=answers(result, 404, 409, 412, 422, 428),
        response_model=None,
        openapi_extra=needs("object-delete"),
        summary="Delete an object",
    )
    async def delete(
        kind: Kind, name: Name, if_match: IfMatch = None, dry_run: DryRun = False
    ) -> Response:
        """Answers with what it changed, and the sessions that ended by it."""
        made = await core.call(
            "object-delete",
            kind=_plain(kind),
            name=name,
            version=version_of(if_match),
            dry_run=dry_run,
        )
        return _changed(made)


def _changed(made: dict[str, object], status: int = 200) -> Response:
    found = made.get("object")
    headers = {}
    if isinstance(found, dict) and made.get("dry_run") is not True:
        headers["ETag"] = etag(found.get("version"))
    return as_it_is(made, status, headers)

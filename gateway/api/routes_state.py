"""The durable state as a whole: export, import, backup."""

import base64
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from gateway.api.body_of import body_of, given
from gateway.api.caller import Core
from gateway.api.model_of import model_of
from gateway.api.parameters import answers, as_it_is, needs, refusals
from gateway.control.protocol import ControlError, ErrorCode
from gateway.control.store_operations import (
    MAX_PART_OCTETS,
    MAX_PASSPHRASE_CHARACTERS,
    Backup,
    ImportResult,
    StoreFacts,
)

_EXPORT = body_of("export")
_BACKUP = body_of("backup")
_TYPE = "application/octet-stream"


def state_routes(core: Core, authorized: Any) -> APIRouter:  # noqa: ANN401 - FastAPI's type
    """``/store``, ``/export``, ``/import`` and ``/backup``."""
    router = APIRouter(tags=["state"], dependencies=[authorized])

    @router.get(
        "/store",
        responses=answers(model_of(StoreFacts), 409, 422),
        response_model=None,
        openapi_extra=needs("store"),
        summary="Where the durable state is, whether it can be written, its backups",
    )
    async def store() -> Response:
        return as_it_is(await core.call("store"))

    @router.post(
        "/backup",
        responses=answers(model_of(Backup), 409, 422, success=201),
        response_model=None,
        status_code=201,
        openapi_extra=needs("backup"),
        summary="Copy the database to a file on the gateway, while it runs",
    )
    async def backup(body: _BACKUP | None = None) -> Response:  # type: ignore[valid-type]
        return as_it_is(await core.call("backup", **given(body)), 201)

    @router.post(
        "/export",
        responses={
            200: {"description": "The file.", "content": {_TYPE: {}}},
            **refusals(409, 422),
        },
        response_model=None,
        openapi_extra=needs("export"),
        summary="Everything that is stored as one file",
    )
    async def export(body: _EXPORT | None = None) -> Response:  # type: ignore[valid-type]
        """Secrets are sealed under the passphrase, and left out without one."""
        made = await core.call("export", **given(body))
        headers = {"Content-Disposition": 'attachment; filename="gateway-export.bin"'}
        pieces = _pieces(core, str(made.get("id")))
        first = await anext(pieces)  # what goes wrong now is still an answer
        return StreamingResponse(_chained(first, pieces), media_type=_TYPE, headers=headers)

    @router.post(
        "/import",
        responses=answers(model_of(ImportResult), 409, 422),
        response_model=None,
        openapi_extra={
            **needs("import"),
            "requestBody": {
                "required": True,
                "content": {_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            },
        },
        summary="Put an exported file in place of everything that is configured",
    )
    async def import_file(
        request: Request,
        dry_run: Annotated[bool, Query(description="Only say what it would change.")] = False,
        passphrase: Annotated[
            str | None,
            Header(
                alias="X-Passphrase",
                max_length=3 * MAX_PASSPHRASE_CHARACTERS,
                description="Of the export, when it was given one; in UTF-8 and percent-encoded.",
            ),
        ] = None,
    ) -> Response:
        """The body is the file; all of it is put in force, or nothing. At most 64 MB."""
        transfer = await _upload(core, request)
        plain = None if passphrase is None else unquote(passphrase)
        made = await core.call("import", id=transfer, passphrase=plain, dry_run=dry_run)
        return as_it_is(made)

    return router


async def _pieces(core: Core, transfer: str) -> AsyncIterator[bytes]:
    offset: int | None = 0
    while offset is not None:
        part = await core.call("export-read", id=transfer, offset=offset)
        yield base64.b64decode(str(part.get("content")))
        following = part.get("next")
        offset = following if isinstance(following, int) else None


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _upload(core: Core, request: Request) -> str:
    """Hand the body on, a part at a time; never more than one is in memory."""
    transfer: str | None = None
    offset = 0
    waiting = bytearray()

    async def give(part: bytes) -> None:
        nonlocal transfer, offset
        taken = await core.call(
            "import-part", id=transfer, offset=offset, content=base64.b64encode(part).decode()
        )
        transfer, offset = str(taken.get("id")), offset + len(part)

    async for piece in request.stream():
        waiting += piece
        while len(waiting) >= MAX_PART_OCTETS:
            await give(bytes(waiting[:MAX_PART_OCTETS]))
            del waiting[:MAX_PART_OCTETS]
    if waiting:
        await give(bytes(waiting))
    if transfer is None:
        text = "Send the exported file as the body of the request."
        raise ControlError(ErrorCode.INVALID, text, "body")
    return transfer

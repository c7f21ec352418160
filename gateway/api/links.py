"""The page behind a one-time link.

Looking at it does not use the link up: mail filters and chat programs open every link they see.
The button does.
"""

import base64
import binascii
import html
import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter
from starlette.responses import HTMLResponse

from gateway.api.caller import Core
from gateway.api.parameters import needs, refusals
from gateway.control.protocol import ControlError, ErrorCode

Token = Annotated[str, PathParameter(description="As the link has it.")]

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,80}(; charset=utf-8)?")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    # With no-referrer, browsers would not say that the form is ours.
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="stylesheet" href="/app.css">
</head>
<body>
<main class="card stack login" id="main">
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
_READY = """<p>This sets up <strong>{device}</strong>. The file is called <code>{file}</code> and
holds a secret key, so it can be downloaded <strong>once</strong>, by you, on the device itself.</p>
<p>{note}</p>
<form method="post"><button class="button primary" type="submit">Download</button></form>
<p class="soft">The link works until {until}. Opening this page has not used it up.</p>"""
_GONE = """<p>It has been used, it has expired, or it never was one. If you did not use it yourself,
tell your administrator: somebody else may have the file.</p>
<p>Your administrator can make a new one.</p>"""


def link_routes(core: Core) -> APIRouter:
    """``/d/TOKEN``."""
    router = APIRouter(tags=["links"])

    @router.get(
        "/d/{token}",
        responses=_page_answers(200, 404),
        response_model=None,
        openapi_extra=needs("link-look"),
        summary="What a one-time link is for; does not use it up",
    )
    async def look(token: Token) -> Response:
        if not _TOKEN.fullmatch(token):
            return _gone()
        try:
            found = await core.call("link-look", token=token)
        except ControlError as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
            return _gone()
        return _page("Set up this device", _READY.format(**_escaped(found)))

    @router.post(
        "/d/{token}",
        responses={
            200: {"description": "The bundle.", "content": {"application/octet-stream": {}}},
            **refusals(403),
            **_page_answers(404),
        },
        response_model=None,
        openapi_extra=needs("link-take"),
        summary="Download the bundle: the link works once",
    )
    async def take(token: Token) -> Response:
        if not _TOKEN.fullmatch(token):
            return _gone()
        try:
            found = await core.call("link-take", token=token)
        except ControlError as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
            return _gone()
        return download(found)

    return router


def download(found: dict[str, object]) -> Response:
    """A file of the core's as a download; raises :class:`ControlError` for what makes no sense."""
    name, media_type = str(found.get("file_name")), str(found.get("media_type"))
    try:
        content = base64.b64decode(str(found.get("content")), validate=True)
    except binascii.Error:
        raise ControlError(ErrorCode.INTERNAL, "the gateway's answer makes no sense") from None
    return Response(
        content,
        media_type=media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{safe_name(name)}"'},
    )


def safe_name(name: str) -> str:
    """A file name that is one: nothing of a path, a header or another disk."""
    return name if _FILE_NAME.fullmatch(name) and ".." not in name else "download.bin"


def _escaped(found: dict[str, object]) -> dict[str, str]:
    at = found.get("expires_at")
    until = "it expires"
    if isinstance(at, int | float):
        until = datetime.fromtimestamp(at, UTC).strftime("%d %B %Y, %H:%M UTC")
    return {
        "device": html.escape(str(found.get("device", "a device"))),
        "file": html.escape(safe_name(str(found.get("file_name")))),
        "until": html.escape(until),
        "note": html.escape(str(found.get("note") or "")),
    }


def _page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.format(title=title, body=body), status, dict(_HEADERS))


def _gone() -> Response:
    return _page("This link does not work any more", _GONE, 404)


def _page_answers(*statuses: int) -> dict[int | str, dict[str, object]]:
    words = {200: "The page.", 404: "A page that says so."}
    return {one: {"description": words[one], "content": {"text/html": {}}} for one in statuses}

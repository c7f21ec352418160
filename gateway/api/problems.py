"""Errors as problem documents (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class ProblemResponse(JSONResponse):
    """A response with the media type of problems."""

    media_type = MEDIA_TYPE


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """The response for a problem; ``kind`` is its stable name."""
    body: dict[str, object] = {
        "type": f"urn:gateway:problem:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if field is not None:
        body["field"] = field
    return ProblemResponse(body, status_code=status, headers=dict(headers or {}))
